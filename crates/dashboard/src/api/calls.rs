//! The list of calls, as JSON and as CSV, and one call.

use super::{Query, moment, read_filter};
use crate::app::App;
use crate::clock;
use crate::error::{ApiError, Refusal};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use contract::attribute;
use contract::row::{Call, Calls, Trace};
use serde::Deserialize;
use storage::{BadCursor, CallsQuery, Outcome};
use utoipa::IntoParams;

/// Rows of a page that are answered when the query does not say.
const DEFAULT_LIMIT: usize = 100;
/// Most rows of a page; a row is about a kilobyte of JSON.
const MAX_LIMIT: usize = 1000;
/// Most rows of a file, about 10 MB of CSV; a larger range is asked for in parts.
const MAX_FILE_ROWS: usize = 50_000;

/// Which calls.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Most rows, 1 to 1000; 100 when absent.
    limit: Option<usize>,
    /// Only calls before this place: `next` of the page before.
    before: Option<String>,
    /// Only calls of this service: its name or its key.
    service: Option<String>,
    /// Only calls of this model, as asked for or as answered.
    model: Option<String>,
    /// Only calls of this provider.
    provider: Option<String>,
    /// Only calls that ended so: `ok`, `error` or `cancelled`.
    status: Option<String>,
    /// Only calls that are like this: `service:checkout model:gpt-4o* duration:>5s -tool:search`.
    filter: Option<String>,
    /// Only calls that started at this moment or later (RFC 3339).
    from: Option<String>,
    /// Only calls that started before this moment (RFC 3339).
    to: Option<String>,
}

impl Filter {
    /// For a file: as many rows as it may have, when the query does not say.
    fn file_query(self) -> Result<CallsQuery, ApiError> {
        let limit = self.limit.unwrap_or(MAX_FILE_ROWS);
        Self { limit: Some(limit), ..self }.query(MAX_FILE_ROWS)
    }

    fn query(self, max: usize) -> Result<CallsQuery, ApiError> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT.min(max));
        if !(1..=max).contains(&limit) {
            return Err(ApiError::bad(format!("cannot answer {limit} rows; ask for 1 to {max}")));
        }
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let mut filter = read_filter(self.filter.as_deref())?;
        for (asked, make) in [
            (self.service, storage::Filter::service as fn(&str) -> storage::Filter),
            (self.model, storage::Filter::model),
            (self.provider, storage::Filter::provider),
        ] {
            if let Some(asked) = text(asked) {
                filter = filter.and(make(&asked));
            }
        }
        if let Some(status) = text(self.status) {
            let outcome = Outcome::of_word(&status).ok_or_else(|| {
                ApiError::bad("cannot read `status`; it is one of `ok`, `error`, `cancelled`")
            })?;
            filter = filter.and(storage::Filter::outcome(outcome));
        }
        let before = text(self.before).map(|text| text.parse()).transpose();
        let before = before.map_err(|error: BadCursor| {
            ApiError::bad(format!("cannot read `before`; it is {error}"))
        })?;
        Ok(CallsQuery {
            limit,
            before,
            filter,
            from: moment("from", self.from.as_deref())?,
            to: moment("to", self.to.as_deref())?,
            budget: clock::budget(),
        })
    }
}

/// Calls, newest first.
#[utoipa::path(get, path = "/api/v1/calls", tag = "calls", params(Filter),
    responses((status = OK, body = Calls), (status = BAD_REQUEST, body = Refusal)))]
pub(super) async fn list(
    State(state): State<App>,
    Query(filter): Query<Filter>,
) -> Result<Json<Calls>, ApiError> {
    let query = filter.query(MAX_LIMIT)?;
    Ok(Json(state.ask_calls(move |store| store.calls(&query)).await?))
}

/// One call, with everything that is known of it.
#[utoipa::path(get, path = "/api/v1/calls/{id}", tag = "calls",
    params(("id" = String, Path, description = "`sonde.call.id` of a row")),
    responses((status = OK, body = Call), (status = NOT_FOUND, body = Refusal)))]
pub(super) async fn one(
    State(state): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Call>, ApiError> {
    let call = state.ask_calls(move |store| store.call(&id)).await?;
    let missing = "cannot find the call; ask for the list of calls again";
    call.map(Json).ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, missing))
}

/// The same list as CSV, at most 50,000 rows. Cells that a spreadsheet would take for a formula
/// begin with an apostrophe.
#[utoipa::path(get, path = "/api/v1/calls.csv", tag = "calls", params(Filter),
    responses((status = OK, body = String, content_type = "text/csv"),
        (status = BAD_REQUEST, body = Refusal)))]
pub(super) async fn csv(
    State(state): State<App>,
    Query(filter): Query<Filter>,
) -> Result<impl IntoResponse, ApiError> {
    let query = filter.file_query()?;
    let text =
        state.ask_calls(move |store| store.calls(&query).map(|page| table(&page.calls))).await?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"calls.csv\""),
    ];
    Ok((headers, text))
}

/// The same list as JSON lines, one call a line, at most 50,000 of them.
#[utoipa::path(get, path = "/api/v1/calls.jsonl", tag = "calls", params(Filter),
    responses((status = OK, body = String, content_type = "application/x-ndjson"),
        (status = BAD_REQUEST, body = Refusal)))]
pub(super) async fn json_lines(
    State(state): State<App>,
    Query(filter): Query<Filter>,
) -> Result<impl IntoResponse, ApiError> {
    let query = filter.file_query()?;
    let text = state.ask_calls(move |store| store.calls(&query).map(|page| lines(&page.calls)));
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"calls.jsonl\""),
    ];
    Ok((headers, text.await?))
}

/// The same list as OTLP in protobuf (`ExportTraceServiceRequest`), at most 50,000 calls: what any
/// receiver of OTLP takes at `/v1/traces`.
#[utoipa::path(get, path = "/api/v1/calls.otlp", tag = "calls", params(Filter),
    responses((status = OK, body = Vec<u8>, content_type = "application/x-protobuf"),
        (status = BAD_REQUEST, body = Refusal)))]
pub(super) async fn otlp(
    State(state): State<App>,
    Query(filter): Query<Filter>,
) -> Result<impl IntoResponse, ApiError> {
    let query = filter.file_query()?;
    let body = state.ask_calls(move |store| {
        store.calls(&query).map(|page| crate::otlp::calls_request(&page.calls))
    });
    let headers = [
        (header::CONTENT_TYPE, crate::otlp::PROTOBUF),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"calls.otlp\""),
    ];
    Ok((headers, body.await?))
}

/// What is kept of a trace: its calls, and the agents and tools around them, each oldest first and
/// at most 10,000.
#[utoipa::path(get, path = "/api/v1/traces/{id}", tag = "calls",
    params(("id" = String, Path, description = "`trace_id` of a row")),
    responses((status = OK, body = Trace), (status = NOT_FOUND, body = Refusal)))]
pub(super) async fn trace(
    State(state): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Trace>, ApiError> {
    let trace = state
        .ask_calls(move |store| Ok(Trace { calls: store.trace(&id)?, runs: store.runs(&id)? }));
    let trace = trace.await?;
    if trace.calls.is_empty() && trace.runs.is_empty() {
        let missing = "cannot find a call of this trace; ask for the list of calls again";
        return Err(ApiError::new(StatusCode::NOT_FOUND, missing));
    }
    Ok(Json(trace))
}

fn lines(calls: &[Call]) -> String {
    let line = |call| serde_json::to_string(call).map(|line| line + "\n").unwrap_or_default();
    calls.iter().map(line).collect()
}

/// Columns of the CSV file.
const COLUMNS: [&str; 22] = [
    "time",
    attribute::SERVICE_NAME,
    attribute::WORKLOAD_KEY,
    attribute::HOST_NAME,
    attribute::PROCESS_PID,
    attribute::PROVIDER_NAME,
    attribute::OPERATION_NAME,
    attribute::REQUEST_MODEL,
    attribute::RESPONSE_MODEL,
    attribute::REQUEST_STREAM,
    attribute::HTTP_STATUS,
    attribute::ERROR_TYPE,
    attribute::FINISH_REASONS,
    attribute::DURATION,
    attribute::TIME_TO_FIRST_CHUNK,
    attribute::INPUT_TOKENS,
    attribute::OUTPUT_TOKENS,
    attribute::CACHE_READ_TOKENS,
    attribute::CACHE_WRITE_TOKENS,
    attribute::REASONING_TOKENS,
    attribute::COST,
    attribute::CALL_ID,
];

fn table(calls: &[Call]) -> String {
    let mut text = COLUMNS.join(",");
    text.push_str("\r\n");
    for call in calls {
        let row = serde_json::to_value(call).unwrap_or_default();
        let cells: Vec<String> = COLUMNS.iter().map(|column| cell(row.get(column))).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

fn cell(value: Option<&serde_json::Value>) -> String {
    use serde_json::Value;
    let mut text = match value {
        None | Some(Value::Null) => return String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        }
        Some(other) => return other.to_string(),
    };
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        text.insert(0, '\'');
    }
    if text.contains([',', '"', '\n', '\r']) {
        text = format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Filter, cell};
    use proptest::prelude::{any, proptest};

    #[test]
    fn cells_cannot_be_formulas_or_break_the_table() {
        for (value, expected) in [
            ("plain", "plain"),
            ("=1+1", "'=1+1"),
            ("@x", "'@x"),
            ("-a", "'-a"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=a,\n", "\"'=a,\n\""),
        ] {
            assert_eq!(cell(Some(&value.into())), expected);
        }
        assert_eq!(cell(None), "");
        assert_eq!(cell(Some(&serde_json::json!(0.5))), "0.5");
    }

    proptest! {
        #[test]
        fn no_filter_panics(
            limit in any::<Option<usize>>(), before in any::<Option<String>>(),
            status in any::<Option<String>>(), from in any::<Option<String>>(), to in any::<Option<String>>(),
        ) {
            let filter = Filter { limit, before, status, from, to, ..Filter::default() };
            if let Err(error) = filter.query(1000) {
                drop(error);
            }
        }
    }
}
