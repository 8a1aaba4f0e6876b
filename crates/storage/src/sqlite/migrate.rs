//! Numbered steps from an empty file to the newest schema. Steps are only ever added.

use crate::error::{Doing, Error};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use sha2::{Digest, Sha256};
use std::path::Path;

/// One step. Its number is its place in the list, from 1.
pub(crate) struct Migration {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// Brings the database to the newest schema: each step in a transaction of its own, written to a
/// ledger with the checksum of its text.
///
/// # Errors
///
/// [`Error::Newer`] when the ledger goes beyond the list, [`Error::Altered`] when a step in it
/// has another checksum; the file is left as it was.
pub(crate) fn run(
    connection: &mut Connection,
    path: &Path,
    migrations: &[Migration],
) -> Result<(), Error> {
    const DOING: &str = "bring the database to the newest schema";
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(DOING)?;
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS migration (
                 number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum BLOB NOT NULL)",
        )
        .doing(DOING)?;
    let newest = "SELECT coalesce(max(number), 0) FROM migration";
    let found: u32 = transaction.query_row(newest, [], |row| row.get(0)).doing(DOING)?;
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(Error::Newer { path: path.into(), found, known });
    }
    for (number, step) in (1..).zip(migrations) {
        let checksum = Sha256::digest(step.sql);
        let applied: Option<Vec<u8>> = transaction
            .query_row("SELECT checksum FROM migration WHERE number = ?1", [number], |r| r.get(0))
            .optional()
            .doing(DOING)?;
        match applied {
            Some(applied) if applied == checksum.as_slice() => {}
            Some(_) => return Err(Error::Altered { path: path.into(), number }),
            None => {
                transaction.execute_batch(step.sql).doing(DOING)?;
                transaction
                    .execute(
                        "INSERT INTO migration (number, name, checksum) VALUES (?1, ?2, ?3)",
                        (number, step.name, checksum.as_slice()),
                    )
                    .doing(DOING)?;
            }
        }
    }
    transaction.commit().doing(DOING)
}

/// Whether steps of the list are missing in a file that has some.
pub(super) fn is_behind(file: &Connection, migrations: &[Migration]) -> Result<bool, Error> {
    const DOING: &str = "look at the schema";
    let ledger = "SELECT count(*) FROM sqlite_schema WHERE name = 'migration'";
    if file.query_row(ledger, [], |row| row.get::<_, u32>(0)).doing(DOING)? == 0 {
        return Ok(false);
    }
    let newest = "SELECT coalesce(max(number), 0) FROM migration";
    let found: u32 = file.query_row(newest, [], |row| row.get(0)).doing(DOING)?;
    Ok(found > 0 && usize::try_from(found).is_ok_and(|found| found < migrations.len()))
}

#[cfg(test)]
mod tests {
    use super::{Migration, run};
    use crate::error::Error;
    use rusqlite::Connection;
    use std::path::Path;

    const ONE: Migration = Migration { name: "one", sql: "CREATE TABLE a (x)" };
    const TWO: Migration = Migration { name: "two", sql: "ALTER TABLE a ADD COLUMN y" };

    #[test]
    fn steps_run_once_and_in_order() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, Path::new("f"), &[ONE]).unwrap();
        run(&mut connection, Path::new("f"), &[ONE, TWO]).unwrap();
        run(&mut connection, Path::new("f"), &[ONE, TWO]).unwrap();
        connection.execute("INSERT INTO a (x, y) VALUES (1, 2)", []).unwrap();
    }

    #[test]
    fn a_newer_file_is_refused_with_both_versions() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, Path::new("f"), &[ONE, TWO]).unwrap();
        let error = run(&mut connection, Path::new("f"), &[ONE]).unwrap_err();
        assert!(matches!(error, Error::Newer { found: 2, known: 1, .. }), "{error}");
    }

    #[test]
    fn an_altered_step_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, Path::new("f"), &[ONE]).unwrap();
        let other = Migration { name: "one", sql: "CREATE TABLE b (x)" };
        let error = run(&mut connection, Path::new("f"), &[other]).unwrap_err();
        assert!(matches!(error, Error::Altered { number: 1, .. }), "{error}");
    }

    #[test]
    fn a_step_that_fails_leaves_the_file_as_it_was() {
        let mut connection = Connection::open_in_memory().unwrap();
        let broken = Migration { name: "two", sql: "CREATE TABLE b (x); nonsense" };
        run(&mut connection, Path::new("f"), &[ONE, broken]).unwrap_err();
        run(&mut connection, Path::new("f"), &[ONE, TWO]).unwrap();
    }
}
