//! What stands around calls in ClickHouse.

use super::Shared;
use super::link::Ask;
use super::row::moment;
use crate::engine::MAX_TRACE;
use crate::error::Error;
use crate::units::{DAY_NANOS, span_id, trace_id};
use clickhouse::Row;
use contract::row::Run;
use serde::{Deserialize, Serialize};

#[derive(Debug, Row, Serialize)]
struct RunRow {
    time: i64,
    trace_id: u128,
    span_id: u64,
    body: String,
}

#[derive(Debug, Row, Deserialize)]
struct BodyRow {
    body: String,
}

/// Writes runs. The token is of this insertion alone, and the same each time it is tried. Those of
/// days that are no longer kept, and those without valid ids, are left out.
pub(super) fn insert(
    shared: &Shared,
    token: &str,
    runs: &[Run],
    horizon: Option<u64>,
) -> Result<(), Error> {
    let row = |run: &Run| {
        Some(RunRow {
            time: i64::try_from(run.time.0).ok()?,
            trace_id: trace_id(&run.trace_id)?,
            span_id: span_id(&run.span_id)?,
            body: serde_json::to_string(run).ok()?,
        })
    };
    let kept = runs.iter().filter(|run| horizon.is_none_or(|gone| run.time.0 / DAY_NANOS > gone));
    let rows: Vec<RunRow> = kept.filter_map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let Shared { link, layout, .. } = shared;
    link.insert("write what stands around calls", &layout.local("run"), token, rows)
}

/// The runs of a trace, oldest first, at most [`MAX_TRACE`].
pub(super) fn find(shared: &Shared, trace: &str) -> Result<Vec<Run>, Error> {
    let Some(id) = trace_id(trace) else { return Ok(Vec::new()) };
    let Shared { link, layout, .. } = shared;
    let ask = Ask::of(format!(
        "SELECT body FROM {} WHERE trace_id = toUInt128('{id}') AND time >= {}
         ORDER BY time, span_id LIMIT 1 BY span_id LIMIT {MAX_TRACE}",
        layout.name("run"),
        moment(shared.gone()?.calls_end()),
    ));
    let rows: Vec<BodyRow> = link.rows("read what stands around calls", ask)?;
    // One that cannot be read hides itself, not the trace.
    Ok(rows.iter().filter_map(|row| serde_json::from_str(&row.body).ok()).collect())
}
