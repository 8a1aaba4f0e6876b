//! Calls that several observers saw. Each sighting is a row; the first is the call, and what the
//! others know is added to it when it is read, as `same.rs` says.

use super::Shared;
use super::link::Ask;
use super::row::{COLUMNS, CallRow, FIRST, within};
use crate::error::Error;
use crate::same::{self, Ids};
use crate::units::DAY_NANOS;
use contract::row::Call;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

/// The calls of first sightings, in their order, with what further ones know.
pub(super) fn joined(shared: &Shared, firsts: Vec<CallRow>) -> Result<Vec<Call>, Error> {
    let ids: HashSet<Ids> = firsts.iter().map(CallRow::ids).collect();
    let mut further: HashMap<Ids, Vec<CallRow>> = HashMap::new();
    if let Some(days) = days(&firsts) {
        let which = format!("of_span IN ({}) AND {days} ORDER BY time", spans(&ids));
        for row in rows(shared, &which)? {
            if let Some(first) = row.first() {
                further.entry(first).or_default().push(row);
            }
        }
    }
    let call = |row: CallRow| {
        let further = further.remove(&row.ids()).unwrap_or_default().into_iter();
        let mut call = further.map(CallRow::into_call).fold(row.into_call(), same::merge);
        call.id = crate::units::id_of(&call);
        call
    };
    Ok(firsts.into_iter().map(call).collect())
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
