//! What stands around calls in the file of a day.

use crate::engine::MAX_TRACE;
use crate::error::{Doing, Error};
use crate::units::{span_id, trace_id};
use contract::row::Run;
use rusqlite::Connection;

/// Writes runs in one transaction. One that is there already stays as it is, and one without valid
/// ids is left out.
pub(super) fn insert(file: &mut Connection, runs: &[&Run]) -> Result<(), Error> {
    const DOING: &str = "write what stands around calls";
    let transaction = file.transaction().doing(DOING)?;
    {
        let sql = "INSERT OR IGNORE INTO run (trace, span, start, body) VALUES (?1, ?2, ?3, ?4)";
        let mut insert = transaction.prepare_cached(sql).doing(DOING)?;
        for run in runs {
            let ids = trace_id(&run.trace_id).zip(span_id(&run.span_id));
            let (Some((trace, span)), Ok(body)) = (ids, serde_json::to_string(run)) else {
                continue;
            };
            let start = i64::try_from(run.time.0).unwrap_or(i64::MAX);
            let values = (trace.to_be_bytes(), span.cast_signed(), start, body);
            insert.execute(values).doing(DOING)?;
        }
    }
    transaction.commit().doing(DOING)
}

/// The runs of a trace, oldest first, at most [`MAX_TRACE`].
pub(super) fn find(file: &Connection, trace: u128) -> Result<Vec<Run>, Error> {
    const DOING: &str = "read what stands around calls";
    let sql =
        format!("SELECT body FROM run WHERE trace = ?1 ORDER BY start, span LIMIT {MAX_TRACE}");
    let mut statement = file.prepare_cached(&sql).doing(DOING)?;
    let rows = statement.query_map([trace.to_be_bytes()], |row| row.get::<_, String>(0));
    let mut runs = Vec::new();
    for body in rows.doing(DOING)? {
        // One that cannot be read hides itself, not the trace.
        runs.extend(serde_json::from_str(&body.doing(DOING)?));
    }
    Ok(runs)
}
