//! Calls that several observers saw. Each sighting is a row; the first is the call, and what the
//! others know is added to it when it is read, as `same.rs` says. For sums and lists the same is
//! written down beside the further sighting: what the call was until then, and what it is now.

use super::Shared;
use super::link::Ask;
use super::row::{COLUMNS, CallRow, FIRST, within};
use crate::error::Error;
use crate::same::{self, Ids};
use crate::units::DAY_NANOS;
use contract::row::Call;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

/// A call with all of its sightings.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) call: Call,
    /// Whether it has a row of its own in lists, beside that of its first sighting.
    pub(super) is_amended: bool,
}

/// The calls of first sightings, in their order, with what further ones know.
pub(super) fn wholes(shared: &Shared, firsts: Vec<CallRow>) -> Result<Vec<Whole>, Error> {
    let ids: HashSet<Ids> = firsts.iter().map(CallRow::ids).collect();
    let mut further: HashMap<Ids, Vec<CallRow>> = HashMap::new();
    if let Some(days) = days(&firsts) {
        let which = format!("of_span IN ({}) AND amends >= 0 AND {days}", spans(&ids));
        for row in rows(shared, &which)? {
            if let Some(first) = row.first() {
                further.entry(first).or_default().push(row);
            }
        }
    }
    let whole = |row: CallRow| {
        let further = further.remove(&row.ids()).unwrap_or_default();
        let (amendments, further): (Vec<_>, Vec<_>) =
            further.into_iter().partition(CallRow::is_amendment);
        let is_amended = amendments.iter().any(|amendment| amendment.start() == row.start());
        Whole { call: merged(row, further), is_amended }
    };
    Ok(firsts.into_iter().map(whole).collect())
}

/// As [`wholes`], the calls alone.
pub(super) fn joined(shared: &Shared, firsts: Vec<CallRow>) -> Result<Vec<Call>, Error> {
    Ok(wholes(shared, firsts)?.into_iter().map(|whole| whole.call).collect())
}

/// The call of a first sighting and further ones; always the same, in whatever order they come.
fn merged(first: CallRow, mut further: Vec<CallRow>) -> Call {
    further.sort_by_key(|row| (row.start(), row.ids()));
    let mut call = further.into_iter().map(CallRow::into_call).fold(first.into_call(), same::merge);
    call.id = crate::units::id_of(&call);
    call
}

/// The first sightings of the calls that these rows are of, each once, in order of the rows.
pub(super) fn firsts(shared: &Shared, found: Vec<CallRow>) -> Result<Vec<CallRow>, Error> {
    let ids: HashSet<Ids> = found.iter().filter_map(CallRow::first).collect();
    let mut known: HashMap<Ids, CallRow> = HashMap::new();
    if let Some(days) = days(&found).filter(|_| !ids.is_empty()) {
        let which = format!("span_id IN ({}) AND {days} AND {FIRST}", spans(&ids));
        known = rows(shared, &which)?.into_iter().map(|row| (row.ids(), row)).collect();
    }
    let mut seen = HashSet::new();
    let mut firsts = Vec::new();
    for row in found {
        let ids = row.first().unwrap_or(row.ids());
        // One whose first sighting went with its day is all that is left of the call.
        let first = known.remove(&ids).unwrap_or(row);
        if seen.insert(ids) {
            firsts.push(first);
        }
    }
    Ok(firsts)
}

/// Calls that are about to get further sightings, by the ids of the first.
#[derive(Debug, Default)]
pub(super) struct Growing(HashMap<Ids, (CallRow, Vec<CallRow>)>);

impl Growing {
    /// Reads those of these ids, which lie on a day or one beside it.
    pub(super) fn read(shared: &Shared, day: u64, ids: &HashSet<Ids>) -> Result<Self, Error> {
        let mut growing = Self::default();
        if ids.is_empty() {
            return Ok(growing);
        }
        let (spans, days) = (spans(ids), within(day.saturating_sub(1), day + 1));
        let which = format!(
            "{days} AND amends = 0 AND (span_id IN ({spans}) AND {FIRST} OR of_span IN ({spans}))"
        );
        let (firsts, further): (Vec<_>, Vec<_>) =
            rows(shared, &which)?.into_iter().partition(|row| row.first().is_none());
        firsts
            .into_iter()
            .filter(|row| ids.contains(&row.ids()))
            .for_each(|row| growing.begin(row));
        for row in further {
            if let Some((_, known)) = row.first().and_then(|first| growing.0.get_mut(&first)) {
                known.push(row);
            }
        }
        Ok(growing)
    }

    /// Adds a call that is written with its further sightings.
    pub(super) fn begin(&mut self, first: CallRow) {
        self.0.insert(first.ids(), (first, Vec::new()));
    }

    pub(super) fn has(&self, first: Ids) -> bool {
        self.0.contains_key(&first)
    }

    /// Adds a sighting, and gives the rows that say what it changes.
    pub(super) fn amend(&mut self, first: Ids, sighting: CallRow) -> Vec<CallRow> {
        let Some((row, further)) = self.0.get_mut(&first) else { return Vec::new() };
        let before = merged(row.clone(), further.clone());
        let day = sighting.clone();
        further.push(sighting);
        let now = merged(row.clone(), further.clone());
        let rows = [(before, -1), (now, 1)].map(|(call, times)| {
            CallRow::of(&call).map(|row| row.on_day_of(&day).amending(first, times))
        });
        rows.into_iter().flatten().collect()
    }
}

fn rows(shared: &Shared, which: &str) -> Result<Vec<CallRow>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM {} WHERE {which}", shared.layout.name("call"));
    shared.link.rows("join sightings of calls", Ask::of(sql))
}

/// The condition that a row is of a day of these or one beside it; `None` of none.
fn days(rows: &[CallRow]) -> Option<String> {
    let days = || rows.iter().map(|row| row.start() / DAY_NANOS);
    Some(within(days().min()?.saturating_sub(1), days().max()? + 1))
}

/// Numbers of spans as a list of SQL.
pub(super) fn spans<'a>(ids: impl IntoIterator<Item = &'a Ids>) -> String {
    let mut spans = String::new();
    for (place, (_, span)) in ids.into_iter().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        // Writing to a text cannot fail.
        let _done = write!(spans, "{comma}{span}");
    }
    spans
}
