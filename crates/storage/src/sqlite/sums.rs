//! Sums of calls, kept beside them and written when they are sealed, so that a question about a
//! long time reads few rows. Percentiles come from sketches that are added, never from percentiles.
//!
//! A row has the sums of up to 256 series, models or members of a bucket (`sums/body.rs`).

mod batch;
mod body;
mod convert;
mod member;

pub(super) use batch::Batch;
pub(super) use convert::{add_unsummed, convert};
pub(super) use member::{Member, member};

use super::ended::Ids;
use super::migrate::Migration;
use crate::cover::{Level, Piece};
use crate::engine::Distributions;
use crate::error::{Doing, Error};
use crate::hashing::Keyed;
use crate::query;
use crate::tally::Tally;
use rusqlite::{Connection, OptionalExtension, Transaction};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

/// First of the two steps to a file that has sums, …
pub(super) const MIGRATION: Migration = Migration { name: "sums", sql: include_str!("sums_1.sql") };
/// … and the second, after which [`convert`] brings over what there is.
pub(super) const PACKED: Migration =
    Migration { name: "packed sums", sql: include_str!("sums_2.sql") };
/// A later one, which leaves the sums of a file as they are.
pub(super) const WIDE: Migration = Migration { name: "wide sums", sql: include_str!("sums_3.sql") };
/// And one more, for sums by one thing alone.
pub(super) const ALONE: Migration =
    Migration { name: "sums by one thing", sql: include_str!("sums_4.sql") };

/// Widths of buckets in seconds. Each divides the next.
pub(super) const LEVELS: [u64; 6] = [10, 60, 300, 3600, 6 * 3600, 86_400];

/// What files know the levels by, in the order of [`LEVELS`].
const NUMBERS: [u64; LEVELS.len()] = [4, 0, 1, 2, 5, 3];

/// The first of [`LEVELS`] whose buckets are added up once, when they are over, each from the next
/// finer ones: what comes later is added to them as it comes. To add all that comes to wide sums,
/// which hold much, would take longer than all else.
const FIRST_WIDE: usize = 3;

/// Series, or models, of a row, as a power of two.
const PART_BITS: u32 = 8;

/// The last row of a bucket.
const PARTS: u64 = 0xff_ffff;

/// Groups of services whose series share rows, a power of two. Who asks for one service reads the
/// rows of its group alone.
const GROUPS: i64 = 32;

const DOING: &str = "write sums";
const LOOKING: &str = "look series up";
const DAMAGED: Error = Error::Damaged { what: "a sum of calls" };

/// Numbers of a file that are known: those of series, and of members.
#[derive(Debug, Default)]
pub(super) struct Known {
    series: HashMap<(Ids, i64), i64, Keyed>,
    members: member::KnownMembers,
}

impl Known {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.series.len() + self.members.len()
    }

    /// Forgets all of them: they are gone with a transaction, or too many.
    pub(super) fn clear(&mut self) {
        self.series.clear();
        self.members.clear();
    }
}

/// A series: its number, what it stands for, and the outcome.
pub(super) type Series = (i64, (Ids, i64));

/// What sums are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum By {
    /// By everything that is told apart.
    Series,
    /// By model alone: few sums, for charts of all services.
    Model,
    /// Numbers without distributions, by one thing alone: few bytes, for charts of that thing.
    Service,
    Host,
    Environment,
    User,
    Agent,
}

impl By {
    /// All of them. Files keep the place in this list, so it is only ever added to.
    pub(super) const ALL: [Self; 7] = [
        Self::Series,
        Self::Model,
        Self::Service,
        Self::Host,
        Self::Environment,
        Self::User,
        Self::Agent,
    ];

    /// Those that have numbers alone, of members.
    pub(super) const ALONE: [Self; 5] =
        [Self::Service, Self::Host, Self::Environment, Self::User, Self::Agent];

    /// The one that has numbers by one of [`query::By::ALONE`].
    pub(super) fn of(by: query::By) -> Self {
        match by {
            query::By::Service => Self::Service,
            query::By::Model => Self::Model,
            query::By::Host => Self::Host,
            query::By::Environment => Self::Environment,
            query::By::User => Self::User,
            query::By::Agent => Self::Agent,
            _ => Self::Series,
        }
    }

    /// What files know it by.
    fn number(self) -> u8 {
        self as u8
    }

    /// The places in [`LEVELS`] that are kept: finer ones would hold a sum for nearly each call.
    pub(super) fn levels(self) -> std::ops::Range<usize> {
        let first = match self {
            Self::Model => 0,
            Self::User => 2,
            _ => 1,
        };
        first..LEVELS.len()
    }
}

/// The rows of a bucket that have some series.
#[derive(Default)]
pub(super) struct Parts(HashSet<u64, Keyed>);

impl Parts {
    /// Adds the row of a series.
    pub(super) fn add(&mut self, series: i64) {
        self.0.insert(part_of(series));
    }
}

/// The row of a bucket that a series or model is in.
fn part_of(id: i64) -> u64 {
    (id.unsigned_abs() >> PART_BITS).min(PARTS)
}

/// A sum of a file.
pub(super) struct Summed<'a> {
    /// Start of the bucket, nanoseconds since 1970.
    pub(super) time: u64,
    /// Number of the series, of the text of the model, or of the member.
    pub(super) id: i64,
    /// As [`Tally::to_bytes`] made it.
    pub(super) bytes: &'a [u8],
}

impl Summed<'_> {
    /// Adds it to a sum.
    pub(super) fn add_to(&self, sum: &mut Tally, wanted: Distributions) -> Result<(), Error> {
        sum.merge_bytes(self.bytes, wanted).ok_or(DAMAGED)
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
    /// The row that has a series, model or member.
    fn of(level: usize, by: By, bucket: u64, id: i64) -> Self {
        Self { level, by, bucket, part: part_of(id) }
    }

    /// The number of the row: 3 bits of what it is by, 3 of the level, 1 more of what it is by (at
    /// first there were two), 32 of the bucket, 24 of the part.
    fn row(self) -> i64 {
        let by = u64::from(self.by.number());
        let bucket = self.bucket.min(u64::from(u32::MAX));
        let of_level = (by >> 1 << 60) | (NUMBERS[self.level] << 57) | ((by & 1) << 56);
        signed(of_level | (bucket << 24) | self.part)
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
            sum.merge_bytes(new, Distributions::All)?;
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
            let new = body::read(&old.unwrap_or_default(), |old| {
                let mut sums: BTreeMap<i64, Cow<'_, [u8]>> =
                    old.into_iter().map(|(id, sum)| (id, sum.into())).collect();
                for (id, change) in changes {
                    match make(sums.get(id).map(Cow::as_ref), change)? {
                        Some(sum) => sums.insert(*id, sum),
                        None => sums.remove(id),
                    };
                }
                let body = || body::to_bytes(sums.iter().map(|(id, sum)| (*id, sum.as_ref())));
                Some((!sums.is_empty()).then(body))
            });
            match new.flatten().ok_or(DAMAGED)? {
                Some(body) => replace.execute((row, body)).doing(DOING)?,
                None => delete.execute([row]).doing(DOING)?,
            };
        }
        Ok(())
    }
}

/// The number of a series; makes one for a new series.
pub(super) fn series_id(
    to: &Transaction<'_>,
    known: &mut Known,
    key: (Ids, i64),
) -> Result<i64, Error> {
    if let Some(id) = known.series.get(&key) {
        return Ok(*id);
    }
    let (Ids { service, workload, provider, model, operation }, outcome) = key;
    let values = [service, workload, provider, model, operation, outcome];
    let sql = "SELECT id FROM series WHERE service = ?1 AND workload = ?2 AND provider = ?3
        AND model = ?4 AND operation = ?5 AND outcome = ?6";
    let mut statement = to.prepare_cached(sql).doing(DOING)?;
    let found = statement.query_row(values, |row| row.get(0)).optional().doing(DOING)?;
    let id = match found {
        Some(id) => id,
        None => {
            let id = free_id(to, service)?;
            let sql = "INSERT INTO series
                (service, workload, provider, model, operation, outcome, id)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let mut insert = to.prepare_cached(sql).doing(DOING)?;
            let [a, b, c, d, e, f] = values;
            insert.execute([a, b, c, d, e, f, id]).doing(DOING)?;
            id
        }
    };
    known.series.insert(key, id);
    Ok(id)
}

/// A number for a new series, so that series of one service share rows.
fn free_id(to: &Transaction<'_>, service: i64) -> Result<i64, Error> {
    let group = service.rem_euclid(GROUPS);
    let sql = "SELECT max(id) FROM series WHERE id >> ?1 & ?2 = ?3";
    let mut statement = to.prepare_cached(sql).doing(DOING)?;
    let last: Option<i64> = statement
        .query_row([PART_BITS.into(), GROUPS - 1, group], |row| row.get(0))
        .doing(DOING)?;
    let Some(last) = last else { return Ok(group << PART_BITS) };
    // The next one, in the next row of the group when this one is full.
    let is_full = (last + 1).trailing_zeros() >= PART_BITS;
    Ok(if is_full { last + 1 + ((GROUPS - 1) << PART_BITS) } else { last + 1 })
}

/// What a series of a file stands for, and its outcome.
pub(super) fn series(file: &Connection, id: i64) -> Result<(Ids, i64), Error> {
    let sql = "SELECT service, workload, provider, model, operation, outcome, id FROM series
        WHERE id = ?1";
    let mut statement = file.prepare_cached(sql).doing(LOOKING)?;
    statement.query_row([id], |row| Ok(of_row(row)?.1)).doing(LOOKING)
}

/// All series of a file, by number.
pub(super) fn all_series(file: &Connection) -> Result<Vec<Series>, Error> {
    let sql = "SELECT service, workload, provider, model, operation, outcome, id FROM series";
    let mut statement = file.prepare_cached(sql).doing(LOOKING)?;
    let rows = statement.query_map([], of_row).doing(LOOKING)?;
    rows.map(|series| series.doing(LOOKING)).collect()
}

fn of_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Series> {
    let ids = Ids {
        service: row.get(0)?,
        workload: row.get(1)?,
        provider: row.get(2)?,
        model: row.get(3)?,
        operation: row.get(4)?,
    };
    Ok((row.get(6)?, (ids, row.get(5)?)))
}

/// Forgets a level, or its buckets that begin before a moment. A level that is forgotten stays
/// away: calls that come late are no longer added to it.
pub(super) fn forget(from: &Transaction<'_>, level: u64, before: Option<u64>) -> Result<(), Error> {
    const DOING: &str = "forget old sums";
    let to = before.unwrap_or(u64::MAX);
    for by in By::ALL {
        let Some(rows) = rows(by, &Piece { from: 0, to, level: Some(level) }) else { continue };
        from.execute("DELETE FROM sum WHERE id >= ?1 AND id < ?2", rows).doing(DOING)?;
    }
    let sql = "DELETE FROM level WHERE seconds = ?1 AND ?2 IS NULL";
    from.execute(sql, (signed(level), before.map(signed))).doing(DOING)?;
    Ok(())
}

/// The levels of the file, in ascending order. Those of series are among [`By::levels`] alone.
pub(super) fn levels(file: &Connection) -> Result<Vec<Level>, Error> {
    const DOING: &str = "read the levels of sums";
    let sql = "SELECT seconds, whole_to FROM level WHERE seconds > 0 ORDER BY seconds";
    let mut statement = file.prepare_cached(sql).doing(DOING)?;
    let level = |row: &rusqlite::Row<'_>| {
        let whole_to = row.get::<_, Option<i64>>(1)?;
        let nanos = |seconds: i64| seconds.unsigned_abs().saturating_mul(1_000_000_000);
        Ok(Level {
            seconds: row.get::<_, i64>(0)?.unsigned_abs(),
            whole_to: whole_to.map_or(u64::MAX, nanos),
        })
    };
    let rows = statement.query_map([], level).doing(DOING)?;
    rows.map(|level| level.doing(DOING)).collect()
}

/// Begins the sums of a file that has none.
pub(super) fn begin(file: &Transaction<'_>) -> Result<(), Error> {
    for (place, level) in LEVELS.into_iter().enumerate() {
        let sql = "INSERT INTO level (seconds, whole_to) VALUES (?1, ?2)";
        let whole_to = (place >= FIRST_WIDE).then_some(0);
        file.execute(sql, (signed(level), whole_to)).doing(DOING)?;
    }
    Ok(())
}

/// Adds wide buckets up that ended before a moment, or all of them without.
pub(super) fn close(file: &Transaction<'_>, before: Option<u64>) -> Result<(), Error> {
    let found = levels(file)?;
    for (place, wide) in LEVELS.into_iter().enumerate().skip(FIRST_WIDE) {
        let width = wide.saturating_mul(1_000_000_000);
        let end = before.unwrap_or(u64::MAX) / width * width;
        let Some(level) = found.iter().find(|level| level.seconds == wide) else { continue };
        if level.whole_to >= end {
            continue;
        }
        let finer = Piece { from: level.whole_to, to: end, level: Some(LEVELS[place - 1]) };
        let mut changes = Changes::default();
        for by in By::ALL {
            let mut sums: BTreeMap<i64, Tally> = BTreeMap::new();
            let mut bucket = 0;
            let mut note = |bucket, sums: &mut BTreeMap<i64, Tally>| {
                for (id, sum) in std::mem::take(sums) {
                    changes.note((place, by), (bucket, id), sum.to_bytes());
                }
            };
            each(file, by, &finer, |sum| {
                if sum.time / width != bucket {
                    note(bucket, &mut sums);
                    bucket = sum.time / width;
                }
                sum.add_to(sums.entry(sum.id).or_default(), Distributions::All)
            })?;
            note(bucket, &mut sums);
        }
        changes.add(file)?;
        let whole_to = before.map(|_| signed(end / 1_000_000_000));
        let sql = "UPDATE level SET whole_to = ?2 WHERE seconds = ?1";
        file.execute(sql, (signed(wide), whole_to)).doing(DOING)?;
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
fn each(
    file: &Connection,
    by: By,
    piece: &Piece,
    take: impl FnMut(&Summed<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    each_of(file, by, piece, None, take)
}

/// Hands over each sum of a piece, or those alone of the rows that are wanted.
pub(super) fn each_of(
    file: &Connection,
    by: By,
    piece: &Piece,
    wanted: Option<&Parts>,
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
        if wanted.is_some_and(|wanted| !wanted.0.contains(&(number.unsigned_abs() & PARTS))) {
            continue;
        }
        let body = row.get_ref(1).doing(DOING)?.as_blob().unwrap_or_default();
        body::read(body, |entries| {
            entries.into_iter().try_for_each(|(id, bytes)| take(&Summed { time, id, bytes }))
        })
        .ok_or(DAMAGED)??;
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
