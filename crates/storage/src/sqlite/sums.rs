//! Sums of calls, kept beside them and written when they are sealed, so that a question about a
//! long time reads few rows. Percentiles come from sketches that are added, never from percentiles.
//!
//! A row has the sums of up to 256 series, or models, of a bucket (`sums/body.rs`).

mod batch;
mod body;
mod convert;

pub(super) use batch::Batch;
pub(super) use convert::convert;

use super::ended::Ids;
use super::migrate::Migration;
use crate::cover::Piece;
use crate::error::{Doing, Error};
use crate::hashing::Keyed;
use crate::tally::Tally;
use rusqlite::{Connection, OptionalExtension, Transaction};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// First of the two steps to a file that has sums, …
pub(super) const MIGRATION: Migration = Migration { name: "sums", sql: include_str!("sums_1.sql") };
/// … and the second, after which [`convert`] brings over what there is.
pub(super) const PACKED: Migration =
    Migration { name: "packed sums", sql: include_str!("sums_2.sql") };

/// Widths of buckets in seconds. Each divides the next. Files keep the places in this list.
pub(super) const LEVELS: [u64; 4] = [60, 300, 3600, 86_400];

/// Series, or models, of a row, as a power of two.
const PART_BITS: u32 = 8;

const DOING: &str = "write sums";
const DAMAGED: Error = Error::Damaged { what: "a sum of calls" };

/// Numbers of the series of a file.
pub(super) type SeriesIds = HashMap<(Ids, i64), i64, Keyed>;

/// What sums are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum By {
    /// By everything that is told apart.
    Series,
    /// By model alone: few sums, for charts of all services.
    Model,
}

/// A sum of a file.
pub(super) struct Summed<'a> {
    /// Start of the bucket, nanoseconds since 1970.
    pub(super) time: u64,
    /// Number of the series, or of the text of the model.
    pub(super) id: i64,
    /// As [`Tally::to_bytes`] made it.
    pub(super) bytes: &'a [u8],
}

impl Summed<'_> {
    /// Adds it to a sum.
    pub(super) fn add_to(&self, sum: &mut Tally) -> Result<(), Error> {
        sum.merge_bytes(self.bytes).ok_or(DAMAGED)
    }
}

/// A row of sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// By place in [`LEVELS`].
    level: usize,
    by: By,
    /// Number of the bucket since 1970.
    bucket: u64,
    part: u64,
}

impl Place {
    /// The row that has a series or model.
    fn of(level: usize, by: By, bucket: u64, id: i64) -> Self {
        Self { level, by, bucket, part: (id.unsigned_abs() >> PART_BITS).min(0xff_ffff) }
    }

    /// The number of the row: 2 bits of the level, 1 of what it is by, 32 of the bucket, 24 of the
    /// part.
    fn row(self) -> i64 {
        let by = u64::from(self.by == By::Model);
        let bucket = self.bucket.min(u64::from(u32::MAX));
        signed(((self.level as u64) << 57) | (by << 56) | (bucket << 24) | self.part)
    }
}

/// Sums that are added to those of a file, or taken out of them.
#[derive(Default)]
pub(super) struct Changes(BTreeMap<Place, Vec<(i64, Vec<u8>)>>);

impl Changes {
    /// Notes a sum, as [`Tally::to_bytes`] made it, of a level by place in [`LEVELS`].
    pub(super) fn note(
        &mut self,
        (level, by): (usize, By),
        (bucket, id): (u64, i64),
        sum: Vec<u8>,
    ) {
        self.0.entry(Place::of(level, by, bucket, id)).or_default().push((id, sum));
    }

    /// Adds all of them.
    pub(super) fn add(self, to: &Transaction<'_>) -> Result<(), Error> {
        self.change(to, |old, new| {
            let Some(old) = old else { return Some(Some(Cow::Borrowed(new))) };
            let mut sum = Tally::from_bytes(old)?;
            sum.merge_bytes(new)?;
            Some(Some(sum.to_bytes().into()))
        })
    }

    /// Takes all of them out; nothing is left of a sum that has no other call.
    pub(super) fn take_out(self, of: &Transaction<'_>) -> Result<(), Error> {
        self.change(of, |old, gone| {
            let Some(old) = old else { return Some(None) };
            let mut sum = Tally::from_bytes(old)?;
            sum.subtract(&Tally::from_bytes(gone)?);
            Some((sum.count() > 0).then(|| sum.to_bytes().into()))
        })
    }

    /// Makes of each sum that is there, and its change, what is there then; `None` for damage.
    fn change(
        self,
        file: &Transaction<'_>,
        make: impl for<'a> Fn(Option<&[u8]>, &'a [u8]) -> Option<Option<Cow<'a, [u8]>>>,
    ) -> Result<(), Error> {
        let mut select = file.prepare_cached("SELECT body FROM sum WHERE id = ?1").doing(DOING)?;
        let sql = "INSERT OR REPLACE INTO sum (id, body) VALUES (?1, ?2)";
        let mut replace = file.prepare_cached(sql).doing(DOING)?;
        let mut delete = file.prepare_cached("DELETE FROM sum WHERE id = ?1").doing(DOING)?;
        for (place, changes) in &self.0 {
            let row = place.row();
            let old: Option<Vec<u8>> =
                select.query_row([row], |row| row.get(0)).optional().doing(DOING)?;
            let old = old.map_or(Some(Vec::new()), |old| body::unpacked(&old)).ok_or(DAMAGED)?;
            let old = body::entries(&old).ok_or(DAMAGED)?.into_iter();
            let mut sums: BTreeMap<i64, Cow<'_, [u8]>> =
                old.map(|(id, sum)| (id, sum.into())).collect();
            for (id, change) in changes {
                match make(sums.get(id).map(Cow::as_ref), change).ok_or(DAMAGED)? {
                    Some(sum) => sums.insert(*id, sum),
                    None => sums.remove(id),
                };
            }
            if sums.is_empty() {
                delete.execute([row]).doing(DOING)?;
            } else {
                let body = body::to_bytes(sums.iter().map(|(id, sum)| (*id, sum.as_ref())));
                replace.execute((row, body)).doing(DOING)?;
            }
        }
        Ok(())
    }
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

/// What a series of a file stands for, and its outcome.
pub(super) fn series(file: &Connection, id: i64) -> Result<(Ids, i64), Error> {
    const DOING: &str = "look a series up";
    let sql = "SELECT service, workload, provider, model, operation, outcome FROM series
        WHERE id = ?1";
    let mut statement = file.prepare_cached(sql).doing(DOING)?;
    let of_row = |row: &rusqlite::Row<'_>| {
        let ids = Ids {
            service: row.get(0)?,
            workload: row.get(1)?,
            provider: row.get(2)?,
            model: row.get(3)?,
            operation: row.get(4)?,
        };
        Ok((ids, row.get(5)?))
    };
    statement.query_row([id], of_row).doing(DOING)
}

/// Forgets a level, or its buckets that begin before a moment. A level that is forgotten stays
/// away: calls that come late are no longer added to it.
pub(super) fn forget(from: &Transaction<'_>, level: u64, before: Option<u64>) -> Result<(), Error> {
    const DOING: &str = "forget old sums";
    let to = before.unwrap_or(u64::MAX);
    for by in [By::Series, By::Model] {
        let Some(rows) = rows(by, &Piece { from: 0, to, level: Some(level) }) else { continue };
        from.execute("DELETE FROM sum WHERE id >= ?1 AND id < ?2", rows).doing(DOING)?;
    }
    let sql = "DELETE FROM level WHERE seconds = ?1 AND ?2 IS NULL";
    from.execute(sql, (signed(level), before.map(signed))).doing(DOING)?;
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
    let Some(span) = rows(by, piece) else { return Ok(()) };
    let width = piece.level.unwrap_or(0).saturating_mul(1_000_000_000);
    let sql = "SELECT id, body FROM sum WHERE id >= ?1 AND id < ?2";
    let mut statement = file.prepare_cached(sql).doing(DOING)?;
    let mut rows = statement.query(span).doing(DOING)?;
    while let Some(row) = rows.next().doing(DOING)? {
        let number: i64 = row.get(0).doing(DOING)?;
        let time = (number.unsigned_abs() >> 24 & u64::from(u32::MAX)).saturating_mul(width);
        let body = row.get_ref(1).doing(DOING)?.as_blob().unwrap_or_default();
        let body = body::unpacked(body).ok_or(DAMAGED)?;
        for (id, bytes) in body::entries(&body).ok_or(DAMAGED)? {
            take(&Summed { time, id, bytes })?;
        }
    }
    Ok(())
}

/// The rows of a piece: the first, and the one behind the last. `None` where no level is as wide.
fn rows(by: By, piece: &Piece) -> Option<[i64; 2]> {
    let level = LEVELS.iter().position(|level| Some(*level) == piece.level)?;
    let width = LEVELS[level].saturating_mul(1_000_000_000);
    let row = |time: u64| Place { level, by, bucket: time / width, part: 0 }.row();
    Some([row(piece.from), row(piece.to)])
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
