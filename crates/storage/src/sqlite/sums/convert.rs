//! Brings the sums of files over in which each has a row of its own.

use super::{By, Changes, DAMAGED, DOING, LEVELS};
use crate::error::{Doing, Error};
use rusqlite::{Connection, Transaction};

/// Sums that are held at a time.
const MAX_HELD: usize = 100_000;

/// Makes the sums of a file as this version has them, in one transaction. A file in which they are
/// is left as it is.
pub(in crate::sqlite) fn convert(file: &mut Connection) -> Result<(), Error> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'series_sum'";
    if !file.prepare(sql).and_then(|mut found| found.exists([])).doing(DOING)? {
        return Ok(());
    }
    let transaction = file.transaction().doing(DOING)?;
    bring_over(&transaction, By::Series, "SELECT level, bucket, id, body FROM series_sum")?;
    bring_over(&transaction, By::Model, "SELECT level, bucket, id, body FROM model_sum")?;
    let drop = "DROP TABLE series_sum; DROP TABLE model_sum;";
    transaction.execute_batch(drop).doing(DOING)?;
    transaction.commit().doing(DOING)?;
    file.execute_batch("PRAGMA incremental_vacuum").doing(DOING)
}

fn bring_over(file: &Transaction<'_>, by: By, sql: &str) -> Result<(), Error> {
    let mut statement = file.prepare(sql).doing(DOING)?;
    let mut rows = statement.query([]).doing(DOING)?;
    let mut changes = Changes::default();
    let mut held = 0;
    while let Some(row) = rows.next().doing(DOING)? {
        let number = |index| row.get::<_, i64>(index).doing(DOING);
        let seconds = number(0)?.unsigned_abs();
        let level = LEVELS.iter().position(|level| *level == seconds).ok_or(DAMAGED)?;
        let body = row.get(3).doing(DOING)?;
        changes.note((level, by), (number(1)?.unsigned_abs(), number(2)?), body);
        held += 1;
        if held == MAX_HELD {
            std::mem::take(&mut changes).add(file)?;
            held = 0;
        }
    }
    changes.add(file)
}
