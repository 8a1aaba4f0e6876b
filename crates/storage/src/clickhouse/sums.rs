//! Adds calls up: from the sums that ClickHouse made as they came, from the calls themselves at the
//! edges that no sum fits, and from both in one question.

use super::filter;
use super::keep::Gone;
use super::link::Ask;
use super::schema::{LEVELS, Layout, SUMS};
use super::{parts, row};
use crate::cover::{Level, Piece, cover};
use crate::engine::{MAX_GROUPS, Sum, Sums, SumsQuery};
use crate::query::By;
use crate::tally::Tally;
use clickhouse::Row;
use serde::Deserialize;
use std::collections::HashMap;

/// Widths of the sums that answer where calls are no longer kept.
const HISTORY: [u64; 2] = [3600, 86_400];
const HOUR_NANOS: u64 = 3_600_000_000_000;

/// One group in one bucket.
#[derive(Debug, Row, Deserialize)]
pub(super) struct SumRow {
    at: i64,
    names: Vec<Option<String>>,
    cost: Option<u128>,
    wasted: Option<u128>,
    input_tokens: Option<u128>,
    output_tokens: Option<u128>,
    cache_read: Option<u128>,
    cache_write: Option<u128>,
    reasoning: Option<u128>,
    counts: (Vec<u16>, Vec<u64>),
}

/// The question as SQL; `None` when the span is empty.
pub(super) fn question(query: &SumsQuery<'_>, gone: &Gone, layout: &Layout) -> Option<Ask> {
    let mut ask = Ask::default();
    let parts: Vec<String> = if query.is_summed() {
        let pieces = pieces(query, gone);
        pieces.iter().map(|piece| of_piece(piece, query, layout, &mut ask)).collect()
    } else {
        let from = query.from.max(gone.calls_end());
        let whole = Piece { from, to: query.to, level: None };
        if from < query.to { vec![of_piece(&whole, query, layout, &mut ask)] } else { Vec::new() }
    };
    if parts.is_empty() {
        return None;
    }
    let numbers = [
        "cost",
        "wasted",
        "input_tokens",
        "output_tokens",
        "cache_read",
        "cache_write",
        "reasoning",
    ];
    // Qualified: a bare name would be the outer sum itself.
    let added: Vec<_> = numbers.iter().map(|name| format!("sum(part.{name}) AS {name}")).collect();
    ask.sql = format!(
        "SELECT at, names, {}, sumMap(part.counts) AS counts FROM ({}) AS part GROUP BY at, names",
        added.join(", "),
        parts.join(" UNION ALL ")
    );
    Some(ask)
}

/// The span as pieces that sums or calls answer.
fn pieces(query: &SumsQuery<'_>, gone: &Gone) -> Vec<Piece> {
    let fits = |level: &u64, narrowest: u64| {
        query.step_seconds.is_none_or(|step| *level <= step.max(narrowest))
    };
    let begin = gone.calls_end();
    // Where the calls are gone: moved to where sums begin, as nothing finer is left.
    let up = |time: u64| time.div_ceil(HOUR_NANOS).saturating_mul(HOUR_NANOS);
    let levels = HISTORY.into_iter().filter(|level| fits(level, HISTORY[0]));
    let levels: Vec<_> = levels.map(Level::whole).collect();
    let mut pieces = cover(up(query.from).min(begin), up(query.to).min(begin), &levels);
    let mut from = query.from.max(begin);
    while from < query.to {
        let levels = LEVELS.into_iter().filter(|level| fits(level, 0) && !gone.has(*level, from));
        let levels: Vec<_> = levels.map(Level::whole).collect();
        let to = gone.next_edge(from).min(query.to);
        pieces.extend(cover(from, to, &levels));
        from = to;
    }
    pieces
}

fn of_piece(piece: &Piece, query: &SumsQuery<'_>, layout: &Layout, ask: &mut Ask) -> String {
    let condition = filter::condition(query.filter, ask);
    let names = |of: &mut dyn FnMut(By) -> String| {
        let names: Vec<_> = query.by.iter().map(|by| of(*by)).collect();
        let names = names.iter().map(|name| format!("CAST({name}, 'Nullable(String)')"));
        format!("CAST([{}], 'Array(Nullable(String))')", names.collect::<Vec<_>>().join(", "))
    };
    let at = |nanos: &str| match query.step_seconds {
        None => format!("toInt64({})", i64::try_from(query.from).unwrap_or(i64::MAX)),
        Some(step) => {
            let step = i64::try_from(step.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX);
            format!("intDiv({nanos}, toInt64({step})) * toInt64({step})")
        }
    };
    let Some(level) = piece.level else {
        let (from, to) = (row::moment(piece.from), row::moment(piece.to));
        let (names, at) = (names(&mut |by| of_call(by, ask)), at("toUnixTimestamp64Nano(ended)"));
        let inner = format!(
            "SELECT *, {TIMES} AS times, {at} AS at, {names} AS names FROM {}
             WHERE ended >= {from} AND ended < {to} AND {COUNTS} AND ({condition})",
            layout.name("call"),
            COUNTS = row::COUNTS,
            TIMES = row::TIMES,
        );
        return format!("SELECT at, names, {SUMS} FROM ({inner}) AS c GROUP BY at, names");
    };
    let moment = |nanos: u64| format!("toDateTime64({}, 0, 'UTC')", nanos / 1_000_000_000);
    let (from, to) = (moment(piece.from), moment(piece.to));
    let at = at("toInt64(toUnixTimestamp64Nano(toDateTime64(bucket, 9, 'UTC')))");
    format!(
        "SELECT {at} AS at, {} AS names, calls, cost, wasted, input_tokens, output_tokens,
            cache_read, cache_write, reasoning, counts
         FROM {} WHERE bucket >= {from} AND bucket < {to} AND ({condition})",
        names(&mut |by| of_sum(by)),
        layout.name(&format!("sum_{level}"))
    )
}

/// What a sum has of it.
fn of_sum(by: By) -> String {
    match by {
        By::Service => "service",
        By::Workload => "workload",
        By::Provider => "provider",
        By::Model => "model",
        By::Operation => "operation",
        By::Outcome => "outcome",
        _ => "NULL",
    }
    .to_owned()
}

/// What a call has of it.
fn of_call(by: By, ask: &mut Ask) -> String {
    let mut first = |names: &[&str]| {
        let each: Vec<_> = names.iter().map(|name| filter::of_more(name, ask)).collect();
        format!("coalesce({})", each.join(", "))
    };
    match by {
        By::Model => "coalesce(request_model, response_model)".into(),
        By::Class => "nullIf(class, '')".into(),
        By::Host => "host".into(),
        By::Environment => first(&crate::filter::ENVIRONMENT),
        By::User => first(&crate::filter::USER),
        By::Agent => first(&crate::filter::AGENT),
        By::Conversation => "JSONExtract(rest, 'c', 'Nullable(String)')".into(),
        By::Finish => "arrayElementOrNull(JSONExtract(rest, 'fr', 'Array(String)'), 1)".into(),
        _ => of_sum(by),
    }
}

/// The rows of an answer.
pub(super) fn answer(rows: Vec<SumRow>, query: &SumsQuery<'_>) -> Sums {
    let mut sums = Sums::default();
    let mut groups: HashMap<Vec<Option<String>>, usize> = HashMap::new();
    let mut rest: HashMap<i64, Tally> = HashMap::new();
    // Where further sightings moved all of a group to another, nothing is left of it.
    for row in rows {
        let tally = row.tally();
        if tally.count() == 0 {
            continue;
        }
        let known = groups.len();
        if known >= MAX_GROUPS && !groups.contains_key(&row.names) {
            sums.truncated = true;
            rest.entry(row.at).or_default().merge(&tally);
            continue;
        }
        groups.entry(row.names.clone()).or_insert(known);
        let time = u64::try_from(row.at).unwrap_or(0);
        sums.rows.push(Sum { time, tally, group: row.names });
    }
    let unnamed = vec![None; query.by.len()];
    sums.rows.extend(rest.into_iter().map(|(at, tally)| Sum {
        time: u64::try_from(at).unwrap_or(0),
        group: unnamed.clone(),
        tally,
    }));
    sums
}

impl SumRow {
    fn tally(&self) -> Tally {
        let small = |sum: Option<u128>| sum.map(|sum| u64::try_from(sum).unwrap_or(u64::MAX));
        let tokens = [
            self.input_tokens,
            self.output_tokens,
            self.cache_read,
            self.cache_write,
            self.reasoning,
        ];
        let mut tally = Tally {
            cost: self.cost,
            wasted: self.wasted,
            tokens: tokens.map(small),
            ..Tally::default()
        };
        for (number, count) in self.counts.0.iter().zip(&self.counts.1) {
            // Below zero: what was made of a call that itself went with the day before.
            let count = i64::try_from(*count).map_or(0, i64::unsigned_abs);
            parts::add(&mut tally, *number, count);
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::pieces;
    use crate::clickhouse::keep::Gone;
    use crate::cover::Piece;
    use crate::engine::{Distributions, SumsQuery};
    use crate::filter::Filter;
    use crate::query::Budget;
    use crate::units::DAY_NANOS;

    fn of(from: u64, to: u64, step_seconds: Option<u64>, gone: &Gone) -> Vec<Piece> {
        let filter = Filter::default();
        let budget = Budget::default();
        let distributions = Distributions::All;
        let filter = &filter;
        pieces(&SumsQuery { from, to, step_seconds, by: &[], filter, distributions, budget }, gone)
    }

    #[test]
    fn where_calls_are_gone_sums_of_hours_answer() {
        let mut gone = Gone::default();
        gone.note(0, 10);
        let begin = 11 * DAY_NANOS;
        let found = of(begin - 90 * 60_000_000_000, begin + 1, None, &gone);
        assert_eq!(
            found,
            [
                Piece { from: begin - 3_600_000_000_000, to: begin, level: Some(3600) },
                Piece { from: begin, to: begin + 1, level: None },
            ]
        );
    }

    #[test]
    fn narrow_sums_that_are_gone_are_not_asked() {
        let mut gone = Gone::default();
        gone.note(60, 20);
        gone.note(300, 10);
        let day = DAY_NANOS;
        let minute = 60_000_000_000;
        let levels = |from| {
            let found = of(from, from + 2 * minute, Some(60), &gone);
            found.into_iter().map(|piece| piece.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(21 * day), [Some(60)]);
        assert_eq!(levels(20 * day), [None]);
        let over = of(20 * day, 22 * day, Some(60), &gone);
        assert_eq!(
            over,
            [
                Piece { from: 20 * day, to: 21 * day, level: None },
                Piece { from: 21 * day, to: 22 * day, level: Some(60) },
            ]
        );
    }
}
