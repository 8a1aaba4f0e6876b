//! What stays of days that are no longer kept: their sums of hours and days, in one small file.

use super::day::{Texts, intern};
use super::ended::Ids;
use super::migrate::Migration;
use super::sums::{self, By, Changes, Known};
use crate::error::{Doing, Error};
use crate::units::DAY_NANOS;
use contract::row::Time;
use rusqlite::{Connection, Transaction};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

const MIGRATIONS: [Migration; 5] = [
    Migration { name: "history", sql: include_str!("history_1.sql") },
    sums::MIGRATION,
    sums::PACKED,
    sums::WIDE,
    sums::ALONE,
];

/// The sums that stay.
pub(super) const LEVELS: [u64; 2] = [3600, 86_400];
/// How long they stay: 13 months.
const KEPT_NANOS: u64 = 397 * DAY_NANOS;

const DOING: &str = "keep the sums of a day";

/// The file of sums.
#[derive(Debug)]
pub(super) struct History {
    connection: Mutex<Connection>,
    horizon: Mutex<Option<u64>>,
}

impl History {
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let mut connection = super::open(&dir.join("history.db"), &MIGRATIONS)?;
        sums::convert(&mut connection)?;
        for level in LEVELS {
            let level = i64::try_from(level).unwrap_or(i64::MAX);
            let sql = "INSERT OR IGNORE INTO level (seconds) VALUES (?1)";
            connection.execute(sql, [level]).doing(DOING)?;
        }
        let sql = "SELECT max(day) FROM dropped";
        let day: Option<i64> = connection.query_row(sql, [], |row| row.get(0)).doing(DOING)?;
        let horizon = Mutex::new(day.and_then(|day| u64::try_from(day).ok()));
        Ok(Self { connection: Mutex::new(connection), horizon })
    }

    /// The newest day that is no longer kept, days since 1970: it and all before take no more
    /// calls.
    pub(super) fn horizon(&self) -> Option<u64> {
        *self.horizon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the sums of a day over, once: a day that was taken over before changes nothing.
    pub(super) fn take_over(&self, day: u64, file: &Connection, now: Time) -> Result<(), Error> {
        let mut connection = self.lock();
        let transaction = connection.transaction().doing(DOING)?;
        let sql = "INSERT OR IGNORE INTO dropped (day) VALUES (?1)";
        if transaction.execute(sql, [i64::try_from(day).unwrap_or(i64::MAX)]).doing(DOING)? > 0 {
            copy(file, &transaction)?;
        }
        let oldest = now.0.saturating_sub(KEPT_NANOS);
        for level in LEVELS {
            sums::forget(&transaction, level, Some(oldest))?;
        }
        transaction.commit().doing(DOING)?;
        let mut horizon = self.horizon.lock().unwrap_or_else(PoisonError::into_inner);
        *horizon = horizon.max(Some(day));
        Ok(())
    }

    /// Reads the file; questions wait for each other, which are short.
    pub(super) fn read<T>(
        &self,
        ask: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        ask(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A transaction that a panic cut short was rolled back, so the connection is whole.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn copy(from: &Connection, to: &Transaction<'_>) -> Result<(), Error> {
    let mut texts = Texts::default();
    let mut known = Known::default();
    let mut same = |id: i64| -> Result<i64, Error> {
        let mut statement =
            from.prepare_cached("SELECT value FROM text WHERE id = ?1").doing(DOING)?;
        let mut rows = statement.query([id]).doing(DOING)?;
        let Some(row) = rows.next().doing(DOING)? else { return Ok(0) };
        let value: String = row.get(0).doing(DOING)?;
        Ok(i64::try_from(intern(to, &mut texts, &value)?).unwrap_or(0))
    };
    let mut changes = Changes::default();
    for (number, level) in sums::LEVELS.into_iter().enumerate() {
        if !LEVELS.contains(&level) {
            continue;
        }
        for by in By::ALL {
            sums::each_of_level(from, by, level, |sum| {
                let id = match by {
                    By::Series => {
                        let (ids, outcome) = sums::series(from, sum.id)?;
                        let ids = Ids {
                            service: same(ids.service)?,
                            workload: same(ids.workload)?,
                            provider: same(ids.provider)?,
                            model: same(ids.model)?,
                            operation: same(ids.operation)?,
                        };
                        sums::series_id(to, &mut known, (ids, outcome))?
                    }
                    By::Model => same(sum.id)?,
                    _ => sums::member(from, by, sum.id)?.in_file(to, &mut known, by, &mut same)?,
                };
                let bucket = sum.time / level.saturating_mul(1_000_000_000);
                changes.note((number, by), (bucket, id), sum.bytes.to_vec());
                Ok(())
            })?;
        }
    }
    changes.add(to)
}
