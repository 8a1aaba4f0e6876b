//! Sums of calls, kept beside them and written when they are sealed, so that a question about a long time
//! reads few rows. Percentiles come from sketches that are added, never from percentiles.

use super::ended::{Ended, Ids};
use super::migrate::Migration;
use crate::cover::Piece;
use crate::error::{Doing, Error};
use crate::hashing::Keyed;
use crate::query::Outcome;
use crate::tally::Tally;
use rusqlite::{Connection, Transaction};
use std::collections::{BTreeMap, HashMap};

pub(super) const MIGRATION: Migration = Migration { name: "sums", sql: include_str!("sums_1.sql") };

/// Widths of buckets in seconds. Each divides the next.
pub(super) const LEVELS: [u64; 4] = [60, 300, 3600, 86_400];

const DOING: &str = "write sums";

/// Numbers of the series of a file.
pub(super) type SeriesIds = HashMap<(Ids, i64), i64, Keyed>;

/// Which of the two tables of sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    /// By everything that is told apart.
    Series,
    /// By model alone: few rows, for charts of all services.
    Model,
}

/// A row of sums.
pub(super) struct Summed<'a> {
    /// Start of the bucket, nanoseconds since 1970.
    pub(super) time: u64,
    /// Of [`By::Model`], the model alone is known.
    pub(super) ids: Ids,
    /// As in `call`; of [`By::Model`] it is not known.
    pub(super) outcome: i64,
    body: &'a [u8],
}

impl Summed<'_> {
    /// Adds it to a sum.
    pub(super) fn add_to(&self, sum: &mut Tally) -> Result<(), Error> {
        sum.merge_bytes(self.body).ok_or(DAMAGED)
    }

    pub(super) fn tally(&self) -> Result<Tally, Error> {
        body(self.body)
    }
}

const DAMAGED: Error = Error::Damaged { what: "a sum of calls" };

/// What calls of one transaction add to the sums.
#[derive(Default)]
pub(super) struct Batch {
    /// Minute and series, with the series' model.
    minutes: HashMap<(u64, i64), (i64, Box<Tally>), Keyed>,
}

impl Batch {
    /// Adds a call that is new in the file.
    pub(super) fn add(
        &mut self,
        to: &Transaction<'_>,
        known: &mut SeriesIds,
        call: &Ended,
    ) -> Result<(), Error> {
        let outcome = call.counted.outcome.unwrap_or(Outcome::Ok).number();
        let id = series_id(to, known, (call.ids, outcome))?;
        let minute = call.at / (LEVELS[0] * 1_000_000_000);
        let sum = self.minutes.entry((minute, id));
        sum.or_insert_with(|| (call.ids.model, Box::default())).1.add(&call.counted);
        Ok(())
    }

    /// Adds everything to the sums of the file.
    pub(super) fn write(self, to: &Transaction<'_>) -> Result<(), Error> {
        self.each(to, |by, place, tally| add(to, by, place, tally))
    }

    /// Takes everything, which was added before, out of the sums of the file.
    pub(super) fn take_out(self, of: &Transaction<'_>) -> Result<(), Error> {
        self.each(of, |by, place, tally| take_out(of, by, place, tally))
    }

    /// Hands over what the calls make in every level of the file.
    fn each(
        self,
        to: &Transaction<'_>,
        mut hand_over: impl FnMut(By, (u64, u64, i64), &Tally) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.minutes.is_empty() {
            return Ok(());
        }
        let levels = levels(to)?;
        let mut sums: BTreeMap<(By, u64, i64), Box<Tally>> = BTreeMap::new();
        for ((minute, series), (model, tally)) in self.minutes {
            sums.entry((By::Model, minute, model)).or_default().merge(&tally);
            sums.insert((By::Series, minute, series), tally);
        }
        let mut finer = LEVELS[0];
        for level in LEVELS {
            if level > finer {
                // A wide sum is made of the next finer ones, which are fewer than the minutes.
                let mut wide: BTreeMap<(By, u64, i64), Box<Tally>> = BTreeMap::new();
                for ((by, bucket, id), tally) in sums {
                    let bucket = bucket / (level / finer);
                    wide.entry((by, bucket, id)).or_default().merge(&tally);
                }
                sums = wide;
                finer = level;
            }
            if levels.contains(&level) {
                for ((by, bucket, id), tally) in &sums {
                    let time = bucket.saturating_mul(level.saturating_mul(1_000_000_000));
                    hand_over(*by, (level, time, *id), tally)?;
                }
            }
        }
        Ok(())
    }
}

impl By {
    fn select(self) -> &'static str {
        match self {
            Self::Series => {
                "SELECT body FROM series_sum WHERE level = ?1 AND bucket = ?2 AND id = ?3"
            }
            Self::Model => {
                "SELECT body FROM model_sum WHERE level = ?1 AND bucket = ?2 AND id = ?3"
            }
        }
    }

    fn insert(self) -> &'static str {
        match self {
            Self::Series => {
                "INSERT OR IGNORE INTO series_sum (level, bucket, id, body) VALUES (?1, ?2, ?3, ?4)"
            }
            Self::Model => {
                "INSERT OR IGNORE INTO model_sum (level, bucket, id, body) VALUES (?1, ?2, ?3, ?4)"
            }
        }
    }

    fn delete(self) -> &'static str {
        match self {
            Self::Series => "DELETE FROM series_sum WHERE level = ?1 AND bucket = ?2 AND id = ?3",
            Self::Model => "DELETE FROM model_sum WHERE level = ?1 AND bucket = ?2 AND id = ?3",
        }
    }

    fn replace(self) -> &'static str {
        match self {
            Self::Series => {
                "INSERT OR REPLACE INTO series_sum (level, bucket, id, body) VALUES (?1, ?2, ?3, ?4)"
            }
            Self::Model => {
                "INSERT OR REPLACE INTO model_sum (level, bucket, id, body) VALUES (?1, ?2, ?3, ?4)"
            }
        }
    }
}

/// Adds to one row: level, start of the bucket, and number of the series or model.
pub(super) fn add(
    to: &Transaction<'_>,
    by: By,
    (level, time, id): (u64, u64, i64),
    tally: &Tally,
) -> Result<(), Error> {
    let bucket = signed(time / level.saturating_mul(1_000_000_000));
    let key = [signed(level), bucket, id];
    if level == LEVELS[0] {
        // Most minutes of a series are new: then this is all.
        let mut insert = to.prepare_cached(by.insert()).doing(DOING)?;
        if insert.execute((signed(level), bucket, id, tally.to_bytes())).doing(DOING)? > 0 {
            return Ok(());
        }
    }
    let mut select = to.prepare_cached(by.select()).doing(DOING)?;
    let mut rows = select.query(key).doing(DOING)?;
    let mut sum = match rows.next().doing(DOING)? {
        Some(row) => body(row.get_ref(0).doing(DOING)?.as_blob().unwrap_or_default())?,
        None => Tally::default(),
    };
    drop(rows);
    sum.merge(tally);
    let mut replace = to.prepare_cached(by.replace()).doing(DOING)?;
    replace.execute((signed(level), bucket, id, sum.to_bytes())).doing(DOING)?;
    Ok(())
}

/// Takes calls out of a sum; nothing is left of one that has no other.
fn take_out(
    of: &Transaction<'_>,
    by: By,
    (level, time, id): (u64, u64, i64),
    gone: &Tally,
) -> Result<(), Error> {
    let bucket = signed(time / level.saturating_mul(1_000_000_000));
    let key = [signed(level), bucket, id];
    let mut select = of.prepare_cached(by.select()).doing(DOING)?;
    let mut rows = select.query(key).doing(DOING)?;
    let Some(row) = rows.next().doing(DOING)? else { return Ok(()) };
    let mut tally = body(row.get_ref(0).doing(DOING)?.as_blob().unwrap_or_default())?;
    drop(rows);
    tally.subtract(gone);
    if tally.count() == 0 {
        of.prepare_cached(by.delete()).doing(DOING)?.execute(key).doing(DOING)?;
        return Ok(());
    }
    let mut replace = of.prepare_cached(by.replace()).doing(DOING)?;
    replace.execute((signed(level), bucket, id, tally.to_bytes())).doing(DOING)?;
    Ok(())
}

/// The number of a series; makes one for a new series.
pub(super) fn series_id(
    to: &Transaction<'_>,
    known: &mut SeriesIds,
    key: (Ids, i64),
) -> Result<i64, Error> {
    if let Some(id) = known.get(&key) {
        return Ok(*id);
    }
    // A statement that always answers: the update changes nothing.
    let sql = "INSERT INTO series (service, workload, provider, model, operation, outcome)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT DO UPDATE SET outcome = excluded.outcome RETURNING id";
    let (Ids { service, workload, provider, model, operation }, outcome) = key;
    let values = [service, workload, provider, model, operation, outcome];
    let mut statement = to.prepare_cached(sql).doing(DOING)?;
    let id = statement.query_row(values, |row| row.get(0)).doing(DOING)?;
    known.insert(key, id);
    Ok(id)
}

/// Forgets a level, or its buckets that begin before a moment. A level that is forgotten stays
/// away: calls that come late are no longer added to it.
pub(super) fn forget(from: &Transaction<'_>, level: u64, before: Option<u64>) -> Result<(), Error> {
    const DOING: &str = "forget old sums";
    let end = before.map(|nanos| signed(nanos / level.saturating_mul(1_000_000_000)));
    for sql in [
        "DELETE FROM series_sum WHERE level = ?1 AND (?2 IS NULL OR bucket < ?2)",
        "DELETE FROM model_sum WHERE level = ?1 AND (?2 IS NULL OR bucket < ?2)",
        "DELETE FROM level WHERE seconds = ?1 AND ?2 IS NULL",
    ] {
        from.execute(sql, (signed(level), end)).doing(DOING)?;
    }
    Ok(())
}

/// The levels that are whole in the file, in ascending order.
pub(super) fn levels(file: &Connection) -> Result<Vec<u64>, Error> {
    const DOING: &str = "read the levels of sums";
    let sql = "SELECT seconds FROM level ORDER BY seconds";
    let mut statement = file.prepare_cached(sql).doing(DOING)?;
    let rows = statement.query_map([], |row| row.get::<_, i64>(0)).doing(DOING)?;
    rows.map(|row| row.map(|level| u64::try_from(level).unwrap_or(0)).doing(DOING))
        .filter(|level| level.as_ref().map_or(true, |level| *level > 0))
        .collect()
}

/// Begins the sums of a file that has none.
pub(super) fn begin(file: &Transaction<'_>) -> Result<(), Error> {
    for level in LEVELS {
        let sql = "INSERT INTO level (seconds) VALUES (?1)";
        file.execute(sql, [signed(level)]).doing(DOING)?;
    }
    Ok(())
}

/// Hands over each sum of a level.
pub(super) fn each_of_level(
    file: &Connection,
    by: By,
    level: u64,
    take: impl FnMut(&Summed<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let all = Piece { from: 0, to: u64::MAX, level: Some(level) };
    each(file, by, &all, take)
}

/// Hands over each sum of a piece.
pub(super) fn each(
    file: &Connection,
    by: By,
    piece: &Piece,
    mut take: impl FnMut(&Summed<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    const DOING: &str = "add sums up";
    let sql = match by {
        By::Series => {
            "SELECT bucket, body, service, workload, provider, model, operation, outcome
             FROM series_sum JOIN series ON series.id = series_sum.id
             WHERE level = ?1 AND bucket >= ?2 AND bucket < ?3"
        }
        By::Model => {
            "SELECT bucket, body, 0, 0, 0, id, 0, 0 FROM model_sum
             WHERE level = ?1 AND bucket >= ?2 AND bucket < ?3"
        }
    };
    let level = piece.level.unwrap_or(LEVELS[0]);
    let width = level.saturating_mul(1_000_000_000);
    let span = [level, piece.from / width, piece.to / width].map(signed);
    let mut statement = file.prepare_cached(sql).doing(DOING)?;
    let mut rows = statement.query(span).doing(DOING)?;
    while let Some(row) = rows.next().doing(DOING)? {
        let id = |index| row.get::<_, i64>(index).doing(DOING);
        let bucket = u64::try_from(id(0)?).unwrap_or(0);
        take(&Summed {
            time: bucket.saturating_mul(width),
            ids: Ids {
                service: id(2)?,
                workload: id(3)?,
                provider: id(4)?,
                model: id(5)?,
                operation: id(6)?,
            },
            outcome: id(7)?,
            body: row.get_ref(1).doing(DOING)?.as_blob().unwrap_or_default(),
        })?;
    }
    Ok(())
}

fn body(bytes: &[u8]) -> Result<Tally, Error> {
    Tally::from_bytes(bytes).ok_or(DAMAGED)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
