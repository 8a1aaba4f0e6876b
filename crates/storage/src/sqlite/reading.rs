//! Reads the blocks of a day: which there are, their columns, and the calls in them.

use super::block::{Block, Column, Extent, Id, MOST_ROWS, SPAN, START, TRACE};
use super::bloom;
use super::column::Rows;
use super::scan::{Compiled, Names};
use crate::cover::Share;
use crate::error::{Doing, Error};
use crate::query::{CallsQuery, Cursor};
use contract::row::{Call, Time};
use rusqlite::{Connection, Row};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const DOING: &str = "read calls";
const DAMAGED: Error = Error::Damaged { what: "a block of calls" };

/// Which traces may be in a block, by [`bloom::hash`] of the trace.
pub(super) const FILTER: Column = 255;

/// A block of a day, or an entry of its log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) id: i64,
    pub(super) sealed: bool,
    pub(super) extent: Extent,
}

/// Places of which most pages are: they are looked through before others are asked to help.
const NEWEST: usize = 16;

/// Which places of a day are looked through for a page.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// The newest ones.
    Newest,
    /// Each share's, of all of them.
    Shared(Share),
}

/// Where a call of a day is.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    place: Place,
    row: usize,
}

/// Where the calls of a page of a day are, or those of a share of it.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Newest first.
    rows: Vec<(Cursor, At)>,
    /// Where the search stopped, when the budget was over.
    pub(super) stopped: Option<Cursor>,
    /// Whether older places may have what is missing.
    pub(super) is_short: bool,
}

impl Found {
    /// The page of all shares, at most `limit` calls.
    pub(super) fn of_shares(shares: Vec<Self>, limit: usize) -> Self {
        let stopped = shares.iter().filter_map(|share| share.stopped).max();
        let rows = shares.into_iter().flat_map(|share| share.rows).collect();
        let mut page = Self { rows, stopped, is_short: false }.in_order();
        page.rows.truncate(limit);
        page
    }

    /// Newest first, down to where the search stopped: what is older may have better ones beside it
    /// that were not looked at.
    fn in_order(mut self) -> Self {
        self.rows.retain(|(cursor, _)| self.stopped.is_none_or(|stopped| *cursor >= stopped));
        self.rows.sort_unstable_by_key(|(cursor, _)| Reverse(*cursor));
        self
    }

    pub(super) fn rows(&self) -> Vec<At> {
        self.rows.iter().map(|(_, at)| *at).collect()
    }
}

/// All blocks and entries of the log, in no order.
pub(super) fn places(file: &Connection) -> Result<Vec<Place>, Error> {
    let sql = "SELECT id, rows, first_start, last_start, first_end, last_end, 1 FROM block
        UNION ALL SELECT id, rows, first_start, last_start, first_end, last_end, 0 FROM log";
    let mut statement = file.prepare_cached(sql).doing(DOING)?;
    let rows = statement.query_map([], place).doing(DOING)?;
    let places: Vec<Place> = rows.collect::<Result<_, _>>().doing(DOING)?;
    // Memory is made for as many rows as a place says that it has.
    if places.iter().any(|place| place.extent.rows > MOST_ROWS) {
        return Err(DAMAGED);
    }
    Ok(places)
}

fn place(row: &Row<'_>) -> rusqlite::Result<Place> {
    let whole = |index| Ok::<_, rusqlite::Error>(row.get::<_, i64>(index)?.unsigned_abs());
    Ok(Place {
        id: row.get(0)?,
        sealed: row.get(6)?,
        extent: Extent {
            rows: usize::try_from(whole(1)?).unwrap_or(usize::MAX),
            first_start: whole(2)?,
            last_start: whole(3)?,
            first_end: whole(4)?,
            last_end: whole(5)?,
        },
    })
}

/// The block of a place, with the columns that are wanted, or all.
pub(super) fn load(
    file: &Connection,
    place: &Place,
    wanted: Option<&[Column]>,
) -> Result<Block, Error> {
    load_rows(file, place, Rows::all(place.extent.rows), wanted)
}

/// As [`load`], of some rows.
fn load_rows(
    file: &Connection,
    place: &Place,
    rows: Rows<'_>,
    wanted: Option<&[Column]>,
) -> Result<Block, Error> {
    if place.sealed {
        let mut statement =
            file.prepare_cached("SELECT body FROM part WHERE id = ?1").doing(DOING)?;
        return Block::read(rows, wanted, |column, hand_over| {
            let mut rows = statement.query([place.id << 8 | i64::from(column)]).doing(DOING)?;
            if let Some(row) = rows.next().doing(DOING)? {
                hand_over(row.get_ref(0).doing(DOING)?.as_blob().unwrap_or_default());
            }
            Ok(())
        })?
        .ok_or(DAMAGED);
    }
    let mut statement = file.prepare_cached("SELECT body FROM log WHERE id = ?1").doing(DOING)?;
    let mut found = statement.query([place.id]).doing(DOING)?;
    let Some(row) = found.next().doing(DOING)? else { return Err(DAMAGED) };
    let body = row.get_ref(0).doing(DOING)?.as_blob().unwrap_or_default();
    Block::from_bytes(body, rows, wanted).ok_or(DAMAGED)
}

/// Looks through a part of the day for the newest calls that a query asks for, at most `limit`.
pub(super) fn look(
    file: &Connection,
    query: &CallsQuery,
    limit: usize,
    part: Part,
) -> Result<Found, Error> {
    let names = Names::new(file);
    let filter = Compiled::new(&query.filter, &names)?;
    let span = query.from.map_or(0, |from| from.0)..query.to.map_or(u64::MAX, |to| to.0);
    let before =
        query.before.unwrap_or(Cursor { time: Time(u64::MAX), trace: u128::MAX, span: u64::MAX });
    let mut places = places(file)?;
    places.retain(|place| {
        place.extent.last_start >= span.start
            && place.extent.first_start < span.end
            && place.extent.first_start <= before.time.0
    });
    // The same order for all shares.
    places.sort_by_key(|place| Reverse((place.extent.last_start, place.sealed, place.id)));
    let mut best = Best { limit, rows: BinaryHeap::new() };
    let mut stopped = None;
    for (number, place) in places.iter().enumerate() {
        if best.is_better_than(place) {
            break;
        }
        match part {
            Part::Newest if number == NEWEST => {
                return Ok(Found { is_short: true, ..Found::default() });
            }
            Part::Shared(share) if !share.has(number) => continue,
            Part::Newest | Part::Shared(_) => {}
        }
        if query.budget.is_over() {
            let at = Time(place.extent.last_start.saturating_add(1));
            stopped = Some(Cursor::before(at).min(before));
            break;
        }
        let matching = filter.rows(file, place)?;
        if matching.is_empty() {
            continue;
        }
        let rows = Rows { of: place.extent.rows, only: Some(&matching) };
        let ids = load_rows(file, place, rows, Some(&[START, TRACE, SPAN]))?;
        for (at, row) in matching.into_iter().enumerate() {
            let (trace, span_id) = ids.id(at);
            let cursor = Cursor { time: Time(ids.start[at]), trace, span: span_id };
            if span.contains(&cursor.time.0) && cursor < before {
                best.offer((cursor, number, row));
            }
        }
    }
    let rows = best.rows.into_iter().filter_map(|Reverse((cursor, number, row))| {
        Some((cursor, At { place: *places.get(number)?, row }))
    });
    Ok(Found { rows: rows.collect(), stopped, is_short: false }.in_order())
}

/// The newest rows so far.
struct Best {
    limit: usize,
    /// By cursor, number of the place and of the row; the oldest of them is on top.
    rows: BinaryHeap<Reverse<(Cursor, usize, usize)>>,
}

impl Best {
    /// Whether no call of a place can be among them any more.
    fn is_better_than(&self, place: &Place) -> bool {
        self.rows.len() == self.limit
            && self.oldest().is_some_and(|oldest| oldest.time.0 > place.extent.last_start)
    }

    fn oldest(&self) -> Option<Cursor> {
        self.rows.peek().map(|Reverse((cursor, ..))| *cursor)
    }

    fn offer(&mut self, row: (Cursor, usize, usize)) {
        if self.rows.len() < self.limit {
            self.rows.push(Reverse(row));
        } else if self.oldest().is_some_and(|oldest| row.0 > oldest) {
            self.rows.pop();
            self.rows.push(Reverse(row));
        }
    }
}

/// The calls of rows, in the same order.
pub(super) fn calls(file: &Connection, rows: &[At]) -> Result<Vec<Call>, Error> {
    Ok(in_order(calls_of_share(file, rows, Share { number: 0, of: 1 })?))
}

/// Those of the calls of rows that a share has, each with its number among the rows.
pub(super) fn calls_of_share(
    file: &Connection,
    rows: &[At],
    share: Share,
) -> Result<Vec<(usize, Call)>, Error> {
    let names = Names::new(file);
    let mut numbered: Vec<(usize, At)> = rows.iter().copied().enumerate().collect();
    numbered.sort_unstable_by_key(|(_, at)| (at.place.sealed, at.place.id, at.row));
    let place = |(_, at): &(usize, At)| (at.place.sealed, at.place.id);
    let places = numbered.chunk_by(|one, next| place(one) == place(next)).enumerate();
    let mut calls = Vec::new();
    for (_, rows) in places.filter(|(number, _)| share.has(*number)) {
        let [(_, At { place, .. }), ..] = rows else { continue };
        let only: Vec<_> = rows.iter().map(|(_, at)| at.row).collect();
        let only = Rows { of: place.extent.rows, only: Some(&only) };
        let block = load_rows(file, place, only, None)?;
        let read = rows.iter().enumerate();
        calls.extend(read.map(|(at, (number, _))| (*number, block.call(at, |n| names.text(n)))));
    }
    Ok(calls)
}

/// Calls by their numbers.
pub(super) fn in_order(mut calls: Vec<(usize, Call)>) -> Vec<Call> {
    calls.sort_unstable_by_key(|(number, _)| *number);
    calls.into_iter().map(|(_, call)| call).collect()
}

/// Calls of a trace, or the one of a span of it.
pub(super) fn find(file: &Connection, trace: u128, span: Option<u64>) -> Result<Vec<Call>, Error> {
    let mut rows = Vec::new();
    let hash = bloom::hash(trace, 0);
    for place in places(file)? {
        if place.sealed && !may_have(file, place.id, hash)? {
            continue;
        }
        let ids = load(file, &place, Some(&[TRACE, SPAN]))?;
        let is = |row: &usize| ids.trace[*row] == trace && span.is_none_or(|s| ids.span[*row] == s);
        rows.extend((0..ids.len()).filter(is).map(|row| At { place, row }));
    }
    calls(file, &rows)
}

/// The sealed block that has a call, and its row there.
pub(super) fn find_row(file: &Connection, id: Id) -> Result<Option<(Place, usize)>, Error> {
    let hash = bloom::hash(id.0, 0);
    for place in places(file)?.into_iter().filter(|place| place.sealed) {
        if may_have(file, place.id, hash)? {
            let ids = load(file, &place, Some(&[TRACE, SPAN]))?;
            if let Some(row) = (0..ids.len()).find(|row| ids.id(*row) == id) {
                return Ok(Some((place, row)));
            }
        }
    }
    Ok(None)
}

fn may_have(file: &Connection, block: i64, hash: u64) -> Result<bool, Error> {
    let mut statement = file.prepare_cached("SELECT body FROM part WHERE id = ?1").doing(DOING)?;
    let mut rows = statement.query([block << 8 | i64::from(FILTER)]).doing(DOING)?;
    let Some(row) = rows.next().doing(DOING)? else { return Ok(true) };
    Ok(bloom::may_have(row.get_ref(0).doing(DOING)?.as_blob().unwrap_or_default(), hash))
}

/// When the last call of the day ended.
pub(super) fn last_end(file: &Connection) -> Result<u64, Error> {
    Ok(places(file)?.iter().map(|place| place.extent.last_end).max().unwrap_or(0))
}
