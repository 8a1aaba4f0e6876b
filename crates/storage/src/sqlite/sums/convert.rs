//! Brings the sums of files over in which each has a row of its own.

use super::{Batch, By, Changes, DAMAGED, DOING, Known, LEVELS};
use crate::error::{Doing, Error};
use crate::sqlite::ended::Finishes;
use crate::sqlite::reading::{load, places};
use crate::sqlite::scan::Names;
use rusqlite::{Connection, Transaction};
use std::collections::HashSet;

/// Sums that are held at a time.
const MAX_HELD: usize = 100_000;
/// Blocks that are added up at a time.
const AT_A_TIME: usize = 16;

/// Makes the sums of a file as this version has them, in one transaction. A file in which they are
/// is left as it is.
pub(in crate::sqlite) fn convert(file: &mut Connection) -> Result<(), Error> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'series_sum'";
    if !file.prepare(sql).and_then(|mut found| found.exists([])).doing(DOING)? {
        return Ok(());
    }
    // A new file has none.
    let sql = "SELECT 1 FROM series_sum";
    if file.prepare(sql).and_then(|mut found| found.exists([])).doing(DOING)? {
        let path = file.path().unwrap_or_default().to_owned();
        tracing::info!(path, "bringing the sums of a day to their newest form, some seconds a day");
    }
    let transaction = file.transaction().doing(DOING)?;
    bring_over(&transaction, By::Series, "SELECT level, bucket, id, body FROM series_sum")?;
    bring_over(&transaction, By::Model, "SELECT level, bucket, id, body FROM model_sum")?;
    let drop = "DROP TABLE series_sum; DROP TABLE model_sum;";
    transaction.execute_batch(drop).doing(DOING)?;
    transaction.commit().doing(DOING)?;
    file.execute_batch("PRAGMA incremental_vacuum").doing(DOING)
}

/// Adds the calls of blocks to the sums by one thing alone, where those were not there yet when the
/// blocks were sealed. What is done is done, if it is cut short.
pub(in crate::sqlite) fn add_unsummed(file: &mut Connection) -> Result<(), Error> {
    let due: HashSet<i64> = {
        let mut statement = file.prepare("SELECT id FROM unsummed").doing(DOING)?;
        let rows = statement.query_map([], |row| row.get(0)).doing(DOING)?;
        rows.map(|id| id.doing(DOING)).collect::<Result<_, _>>()?
    };
    if due.is_empty() {
        return Ok(());
    }
    let path = file.path().unwrap_or_default().to_owned();
    tracing::info!(
        path,
        "adding a day up by host, environment, user and agent, some seconds a day"
    );
    let mut places = places(file)?;
    places.retain(|place| place.sealed && due.contains(&place.id));
    let mut known = Known::default();
    for places in places.chunks(AT_A_TIME) {
        let transaction = file.transaction().doing(DOING)?;
        let names = Names::new(&transaction);
        let finishes = Finishes::new(&names);
        let mut batch = Batch::default();
        for place in places {
            let block = load(&transaction, place, None)?;
            for row in 0..block.len() {
                batch.add(&transaction, &mut known, (&block, row), &finishes)?;
            }
            let sql = "DELETE FROM unsummed WHERE id = ?1";
            transaction.execute(sql, [place.id]).doing(DOING)?;
        }
        batch.write_alone(&transaction)?;
        transaction.commit().doing(DOING)?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::super::{By, LEVELS, each_of_level};
    use crate::query::Outcome;
    use crate::sqlite::{day, migrate};
    use crate::tally::{Counted, Tally};
    use rusqlite::Connection;

    /// A sum of some calls that only this series has.
    fn sum(series: i64) -> Tally {
        let mut sum = Tally::default();
        for number in 0..=series.unsigned_abs() % 3 {
            sum.add(&Counted {
                outcome: Some(Outcome::Ok),
                duration_nanos: Some(1_000_000 * (series.unsigned_abs() + number + 1)),
                ..Counted::default()
            });
        }
        sum
    }

    #[test]
    fn sums_in_rows_of_their_own_become_rows_of_many_and_none_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("calls-2024-10-04.db");
        let mut file = Connection::open(&path).unwrap();
        file.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL").unwrap();
        let before = day::MIGRATIONS.iter().position(|step| step.name == "packed sums").unwrap();
        migrate::run(&mut file, &path, &day::MIGRATIONS[..before]).unwrap();
        let mut written = Vec::new();
        for level in LEVELS {
            file.execute("INSERT INTO level (seconds) VALUES (?1)", [level as i64]).unwrap();
            for (by, table) in [(By::Series, "series_sum"), (By::Model, "model_sum")] {
                for (bucket, id) in
                    (0..3_i64).flat_map(|bucket| (0..700).map(move |id| (bucket, id)))
                {
                    let bucket = 20_000 * 86_400 / level as i64 + bucket;
                    let sql = format!(
                        "INSERT INTO {table} (level, bucket, id, body) VALUES (?1, ?2, ?3, ?4)"
                    );
                    let values = (level as i64, bucket, id, sum(id).to_bytes());
                    file.execute(&sql, values).unwrap();
                    written.push((level, by, bucket.unsigned_abs() * level * 1_000_000_000, id));
                }
            }
        }
        drop(file);
        for _again in 0..2 {
            day::prepare(&path).unwrap();
            let file = Connection::open(&path).unwrap();
            let mut found = Vec::new();
            for (level, by) in LEVELS.into_iter().flat_map(|l| [(l, By::Series), (l, By::Model)]) {
                each_of_level(&file, by, level, |is| {
                    assert_eq!(Tally::from_bytes(is.bytes), Some(sum(is.id)));
                    found.push((level, by, is.time, is.id));
                    Ok(())
                })
                .unwrap();
            }
            assert_eq!(found, written);
        }
    }
}
