//! One call, seen by several: by the kernel and by an SDK, or by two SDKs of which one calls the
//! other. It is one row, and is counted once, whoever comes first. Pure; knows no SQL.
//!
//! Two sightings are the same call when different observers made them, their times overlap, no
//! model speaks against it, and
//! - the provider gave both the same response id, or
//! - one of them has no response id, no count of tokens speaks against it, and they come from the
//!   same process, container or service, or one trace.
//!
//! The observer is the kernel or the library that made the span. Ids alone are not enough: a
//! model server of one's own may give every answer the same.

mod merge;
mod sighting;

pub(crate) use merge::merge;

use crate::hashing::Keyed;
use crate::units::{span_id, trace_id};
use contract::row::Call;
use sighting::{Kind, Seen, at};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

/// Sightings that are remembered. SDKs send every few seconds; this is some minutes of a busy
/// fleet, at about 200 bytes each.
const MAX_SEEN: usize = 50_000;
/// Sightings that are compared with a new one, newest first.
const MAX_COMPARED: usize = 32;
/// Observers that are told apart when calls are looked for by place; all others are one. A program
/// has a few instrumented libraries.
const MAX_OBSERVERS: usize = 16;
/// Calls that are looked at when a store is opened, so that a second sighting of one of them is
/// recognised.
pub(crate) const RECALLED: usize = 5_000;

/// Attribute of a call that was seen twice: trace and span of the sighting whose ids went.
const ALSO: &str = "sonde.also";

/// The ids of a sighting: trace and span.
pub(crate) type Ids = (u128, u64);

/// Numbers by what is a hash already.
type ByHash<T> = HashMap<u64, T, BuildHasherDefault<AsItIs>>;

/// Hashes a hash: as itself.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Numbers of sightings, oldest first: one, mostly.
#[derive(Debug)]
enum Numbers {
    One(u64),
    Many(VecDeque<u64>),
}

impl Numbers {
    fn push(&mut self, number: u64) {
        match self {
            Self::One(first) => *self = Self::Many([*first, number].into()),
            Self::Many(numbers) => numbers.push_back(number),
        }
    }

    /// Forgets those up to a number; true when none is left.
    fn forget(&mut self, last: u64) -> bool {
        match self {
            Self::One(number) => *number <= last,
            Self::Many(numbers) => {
                // In order, but for what was renamed; what is left of that is looked over.
                while numbers.front().is_some_and(|number| *number <= last) {
                    numbers.pop_front();
                }
                numbers.is_empty()
            }
        }
    }

    /// Takes the newest back where it is this one; true when none is left.
    fn take_back(&mut self, last: u64) -> bool {
        match self {
            Self::One(number) => *number == last,
            Self::Many(numbers) => {
                if numbers.back() == Some(&last) {
                    numbers.pop_back();
                }
                numbers.is_empty()
            }
        }
    }

    fn newest_first(&self) -> impl Iterator<Item = u64> {
        let (one, many) = match self {
            Self::One(number) => (Some(*number), None),
            Self::Many(numbers) => (None, Some(numbers.iter().rev().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// What is remembered of calls.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    hash: Keyed,
    seen: VecDeque<Seen>,
    /// Number of the first of `seen`.
    first: u64,
    /// Numbers of sightings by response id, place and trace, each hashed.
    found_by: ByHash<Numbers>,
    /// Who saw calls, hashed: the kernel, and libraries.
    observers: Vec<u64>,
    /// Ids that are now under others.
    moved: HashMap<Ids, Ids>,
    /// What was noted since [`begin`](Sightings::begin), while it may be taken back.
    trial: Option<Vec<Noted>>,
}

/// A change that can be taken back.
#[derive(Debug)]
enum Noted {
    Remembered,
    /// The sighting of a number was joined by another; its second observer and response before.
    Joined(u64, Option<u64>, Option<u64>),
    Moved(Ids),
}

impl Sightings {
    /// Remembers a sighting, and gives the ids of the row of the same call when there is one.
    /// A sighting with ids that are known already is no second one.
    pub(crate) fn see(&mut self, ids: Ids, call: &Call) -> Option<Ids> {
        if let Some(now) = self.current(ids) {
            return Some(now);
        }
        let mut new = Seen::of(&self.hash, call, ids);
        new.first_observer = self.told_apart(new.observers[0]);
        if let Some(number) = self.earlier(&new) {
            let index = usize::try_from(number - self.first).ok()?;
            let old = self.seen.get(index)?;
            let ids = old.ids;
            if ids == new.ids {
                return None;
            }
            self.join(number, index, &new);
            return Some(ids);
        }
        self.remember(new);
        None
    }

    /// Gives a sighting what a further one of the same call knows.
    fn join(&mut self, number: u64, index: usize, further: &Seen) {
        let Some(old) = self.seen.get_mut(index) else { return };
        let noted = Noted::Joined(number, old.observers[1], old.response);
        old.observers[1] = further.observers[0];
        // The widest of what is known, so that a third sighting is judged by all of it.
        old.response = old.response.or(further.response);
        self.note_trial(noted);
    }

    fn note_trial(&mut self, noted: Noted) {
        if let Some(trial) = &mut self.trial {
            trial.push(noted);
        }
    }

    /// Begins what [`undo`](Self::undo) takes back; forgets how to take back what was before.
    pub(crate) fn begin(&mut self) {
        self.trial = Some(Vec::new());
    }

    /// What was seen since [`begin`](Self::begin) is kept.
    pub(crate) fn keep(&mut self) {
        self.trial = None;
    }

    /// Forgets what was seen since [`begin`](Self::begin): it was not written.
    pub(crate) fn undo(&mut self) {
        for noted in self.trial.take().unwrap_or_default().into_iter().rev() {
            match noted {
                Noted::Moved(ids) => {
                    self.moved.remove(&ids);
                }
                Noted::Joined(number, observer, response) => {
                    let index = number.checked_sub(self.first).and_then(|at| at.try_into().ok());
                    if let Some(old) = index.and_then(|index: usize| self.seen.get_mut(index)) {
                        (old.observers[1], old.response) = (observer, response);
                    }
                }
                Noted::Remembered => {
                    let Some(gone) = self.seen.pop_back() else { continue };
                    let number = self.first + u64::try_from(self.seen.len()).unwrap_or(0);
                    for key in gone.keys() {
                        let numbers = self.found_by.get_mut(&key);
                        if numbers.is_some_and(|numbers| numbers.take_back(number)) {
                            self.found_by.remove(&key);
                        }
                    }
                }
            }
        }
    }

    /// Learns of a sighting that another writer kept: a first one, or a further one of a call.
    pub(crate) fn learn(&mut self, ids: Ids, of: Option<Ids>, call: &Call) {
        let is_known = |number: &u64| {
            let index = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
            index.and_then(|at| self.seen.get(at)).is_some_and(|seen| seen.ids == of.unwrap_or(ids))
        };
        let trace = self.hash.hash_one((Kind::Trace, of.unwrap_or(ids).0));
        let known = self.found_by.get(&trace).and_then(|n| n.newest_first().find(is_known));
        let mut seen = Seen::of(&self.hash, call, ids);
        match (of, known) {
            (None, Some(_)) => {}
            (None, None) => {
                seen.first_observer = self.told_apart(seen.observers[0]);
                self.remember(seen);
            }
            (Some(first), known) => {
                self.note_further(ids, first);
                let index = known.and_then(|number| usize::try_from(number - self.first).ok());
                if let Some((number, index)) = known.zip(index) {
                    self.join(number, index, &seen);
                }
            }
        }
    }

    /// The ids that a row has now, where it was given others.
    pub(crate) fn current(&self, ids: Ids) -> Option<Ids> {
        if self.moved.is_empty() { None } else { self.moved.get(&ids).copied() }
    }

    /// Notes that the row of a call has other ids now.
    pub(crate) fn rename(&mut self, old: Ids, merged: &Call) {
        let Some(ids) = ids_of(merged) else { return };
        for gone in [Some(old), also(merged)].into_iter().flatten() {
            if gone != ids {
                self.moved.insert(gone, ids);
            }
        }
        if self.moved.len() > MAX_SEEN {
            // All at once: which ones are old is not worth remembering.
            self.moved.clear();
        }
        let trace = self.hash.hash_one((Kind::Trace, ids.0));
        if let Some(at) = self.seen.iter().rposition(|seen| seen.ids == old)
            && let Some(seen) = self.seen.get_mut(at)
        {
            seen.ids = ids;
            seen.trace = trace;
            let number = self.first + u64::try_from(at).unwrap_or(0);
            self.note(trace, number);
        }
    }

    /// Notes that a sighting belongs to a call that keeps its ids.
    pub(crate) fn note_further(&mut self, sighting: Ids, call: Ids) {
        if self.moved.len() > MAX_SEEN {
            self.moved.clear();
        }
        if sighting != call {
            self.moved.insert(sighting, call);
            self.note_trial(Noted::Moved(sighting));
        }
    }

    /// The observer, or 0 where there are too many.
    fn told_apart(&mut self, observer: Option<u64>) -> u64 {
        let observer = observer.unwrap_or(0);
        if self.observers.contains(&observer) {
            return observer;
        }
        if self.observers.len() < MAX_OBSERVERS {
            self.observers.push(observer);
            return observer;
        }
        0
    }

    fn note(&mut self, key: u64, number: u64) {
        self.found_by
            .entry(key)
            .and_modify(|numbers| numbers.push(number))
            .or_insert(Numbers::One(number));
    }

    /// Remembers what a store kept before it was opened, oldest first.
    pub(crate) fn recall(&mut self, calls: &[Call]) {
        for call in calls {
            let Some(ids) = ids_of(call) else { continue };
            if let Some(gone) = also(call) {
                self.moved.insert(gone, ids);
            }
            let mut seen = Seen::of(&self.hash, call, ids);
            seen.first_observer = self.told_apart(seen.observers[0]);
            if also(call).is_some() {
                seen.observers[1] = Some(0);
            }
            self.remember(seen);
        }
    }

    /// The number of an earlier sighting of the same call: of those that are, the closest. By place
    /// it can only be one of another observer, and those alone are looked at.
    fn earlier(&self, new: &Seen) -> Option<u64> {
        let own = new.first_observer;
        let others = self.observers.iter().chain([&0]).filter(|other| **other != own || own == 0);
        let by_place = others.flat_map(|other| new.places().map(|place| at(place, *other)));
        let keys = [new.response, Some(new.trace)].into_iter().flatten().chain(by_place);
        let numbers = keys.filter_map(|key| self.found_by.get(&key));
        let numbers = numbers.flat_map(|numbers| numbers.newest_first().take(MAX_COMPARED));
        let same = numbers.filter_map(|number| {
            let seen = self.seen.get(usize::try_from(number.checked_sub(self.first)?).ok()?)?;
            let distance =
                seen.start.abs_diff(new.start).saturating_add(seen.end.abs_diff(new.end));
            (seen.ids == new.ids || seen.is_same(new)).then_some((
                seen.ids != new.ids,
                distance,
                number,
            ))
        });
        same.min().map(|(_, _, number)| number)
    }

    fn remember(&mut self, seen: Seen) {
        let number = self.first + u64::try_from(self.seen.len()).unwrap_or(0);
        seen.keys().for_each(|key| self.note(key, number));
        self.seen.push_back(seen);
        self.note_trial(Noted::Remembered);
        if self.seen.len() > MAX_SEEN
            && let Some(gone) = self.seen.pop_front()
        {
            for key in gone.keys() {
                if self.found_by.get_mut(&key).is_some_and(|numbers| numbers.forget(self.first)) {
                    self.found_by.remove(&key);
                }
            }
            self.first += 1;
        }
    }
}

/// Whether a row already holds this very sighting.
pub(crate) fn is_known(row: &Call, sighting: &Call) -> bool {
    let ids = ids_of(sighting);
    ids_of(row) == ids || also(row).is_some_and(|also| Some(also) == ids)
}

fn ids_of(call: &Call) -> Option<Ids> {
    trace_id(&call.trace_id).zip(span_id(&call.span_id))
}

fn also(call: &Call) -> Option<Ids> {
    let (trace, span) = call.more.get(ALSO)?.as_str()?.split_once('-')?;
    trace_id(trace).zip(span_id(span))
}

#[cfg(test)]
mod tests;
