//! `sonde calls`: model calls as they were seen, newest last.

use crate::api::Api;
use crate::cli::{Calls, Output};
use crate::failure::Failure;
use crate::table::{self, Column, seconds, text};
use anyhow::Context as _;
use contract::attribute;
use serde_json::Value;
use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};

/// Most calls that one request to the API may ask for.
const PAGE: u32 = 500;

const COLUMNS: &[Column] = &[
    Column { head: "TIME", right: false, cell: time },
    Column { head: "SERVICE", right: false, cell: |row| text(row, attribute::SERVICE_NAME) },
    Column { head: "PROVIDER", right: false, cell: |row| text(row, attribute::PROVIDER_NAME) },
    Column { head: "MODEL", right: false, cell: model },
    Column { head: "STATUS", right: false, cell: status },
    Column { head: "DURATION", right: true, cell: |row| seconds(row, attribute::DURATION) },
    Column { head: "TTFT", right: true, cell: |row| seconds(row, attribute::TIME_TO_FIRST_CHUNK) },
    Column { head: "IN", right: true, cell: |row| text(row, attribute::INPUT_TOKENS) },
    Column { head: "OUT", right: true, cell: |row| text(row, attribute::OUTPUT_TOKENS) },
    Column { head: "USD", right: true, cell: |row| text(row, attribute::COST) },
];

/// Widths that calls of common models fit in, for rows that are not known yet when one follows.
const USUAL_WIDTHS: [usize; 10] = [12, 16, 9, 24, 12, 8, 7, 6, 5, 10];

/// Time of day with milliseconds, as UTC says it; the JSON form has all of it.
fn time(row: &Value) -> String {
    let time = text(row, "time");
    match time.get(11..23) {
        Some(of_day) => of_day.to_owned(),
        None => time,
    }
}

fn model(row: &Value) -> String {
    let answered = text(row, attribute::RESPONSE_MODEL);
    if answered.is_empty() { text(row, attribute::REQUEST_MODEL) } else { answered }
}

fn status(row: &Value) -> String {
    let http = text(row, attribute::HTTP_STATUS);
    let error = text(row, attribute::ERROR_TYPE);
    if error.is_empty() {
        return text(row, attribute::FINISH_REASONS);
    }
    if error == http { http } else { format!("{http} {error}").trim().to_owned() }
}

/// Prints calls, and goes on as they end when asked to.
pub(crate) fn run(options: &Calls) -> Result<(), Failure> {
    let api = Api::open(&options.target)?;
    // The stream is opened before the list is read: a call that ends in between is in both, not in neither.
    let events = if options.follow { Some(api.events()?) } else { None };
    let rows = rows(&api, options)?;
    let mut out = std::io::stdout().lock();
    let Some(events) = events else {
        table::print(&mut out, options.format.output, COLUMNS, &rows)?;
        return Ok(());
    };
    let widths: Vec<usize> = table::widths(COLUMNS, &rows)
        .into_iter()
        .zip(USUAL_WIDTHS)
        .map(|(a, b)| a.max(b))
        .collect();
    match options.format.output {
        Output::Json => table::lines(&mut out, &rows)?,
        Output::Table => {
            table::head(&mut out, COLUMNS, &widths)?;
            rows.iter().try_for_each(|row| table::line(&mut out, COLUMNS, &widths, row))?;
        }
    }
    out.flush()?;
    let mut printed: HashSet<String> = rows.iter().map(|row| text(row, "sonde.call.id")).collect();
    for row in follow(events) {
        let row = row?;
        let is_wanted = options.service.as_ref().is_none_or(|service| {
            [attribute::SERVICE_NAME, attribute::WORKLOAD_KEY]
                .iter()
                .any(|key| text(&row, key) == *service)
        });
        // Only the overlap of list and stream can repeat, so the set need not grow.
        if !is_wanted || printed.remove(&text(&row, "sonde.call.id")) {
            continue;
        }
        match options.format.output {
            Output::Json => table::lines(&mut out, std::slice::from_ref(&row))?,
            Output::Table => table::line(&mut out, COLUMNS, &widths, &row)?,
        }
        out.flush()?;
    }
    Err(Failure::Failed(anyhow::anyhow!(
        "cannot follow calls any more; the dashboard ended the stream: see whether it still runs"
    )))
}

/// The newest calls up to the limit, oldest first.
fn rows(api: &Api, options: &Calls) -> Result<Vec<Value>, Failure> {
    pages(options.limit, |limit, before| {
        let limit = limit.to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(options.service.as_deref().map(|service| ("service", service)));
        query.extend(options.filter.as_deref().map(|filter| ("filter", filter)));
        query.extend(before.map(|cursor| ("before", cursor)));
        api.get("/api/v1/calls", &query)
    })
}

/// Asks page by page, up to `limit` calls, and gives them oldest first. A page may be empty and not
/// the last: the search was ended there because it took too long.
fn pages(
    limit: u32,
    mut ask: impl FnMut(u32, Option<&str>) -> Result<Value, Failure>,
) -> Result<Vec<Value>, Failure> {
    let mut rows: Vec<Value> = Vec::new();
    let mut before: Option<String> = None;
    while rows.len() < limit as usize {
        let left = limit - u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let mut page = ask(left.min(PAGE), before.as_deref())?;
        let Some(Value::Array(calls)) = page.get_mut("calls").map(Value::take) else {
            return Err(Failure::Failed(anyhow::anyhow!(
                "cannot read the list of calls: it has no `calls`"
            )));
        };
        rows.extend(calls);
        let next = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if next.is_none() || next == before {
            break;
        }
        before = next;
    }
    rows.reverse();
    Ok(rows)
}

/// Rows of the events named `call`.
fn follow(events: reqwest::blocking::Response) -> impl Iterator<Item = Result<Value, Failure>> {
    let mut is_call = false;
    BufReader::new(events).lines().filter_map(move |line| {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                return Some(Err(anyhow::Error::from(error)
                    .context("cannot read on from Sonde")
                    .into()));
            }
        };
        if let Some(name) = line.strip_prefix("event:") {
            is_call = name.trim() == "call";
        }
        let data = line.strip_prefix("data:").filter(|_| is_call)?;
        Some(
            serde_json::from_str(data.trim())
                .context("cannot read a call of the stream")
                .map_err(Failure::from),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_empty_page_is_the_last_only_where_no_other_follows() {
        let answers = [
            json!({ "calls": [{ "n": 3 }], "next": "a" }),
            json!({ "calls": [], "next": "b", "partial": true }),
            json!({ "calls": [{ "n": 2 }, { "n": 1 }] }),
        ];
        let mut asked = Vec::new();
        let found = pages(10, |limit, before| {
            asked.push((limit, before.map(str::to_owned)));
            Ok(answers[asked.len() - 1].clone())
        });
        let numbers: Vec<_> = found.unwrap().iter().map(|row| row["n"].as_u64()).collect();
        assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
        assert_eq!(asked, [(10, None), (9, Some("a".into())), (9, Some("b".into()))]);
        let stuck = pages(10, |_, _| Ok(json!({ "calls": [], "next": "a" })));
        assert_eq!(stuck.unwrap(), Vec::<Value>::new(), "one that goes nowhere ends");
    }
}
