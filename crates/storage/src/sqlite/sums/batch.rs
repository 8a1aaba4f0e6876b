//! What calls add to the sums of a file.

use super::member::Members;
use super::{By, Changes, Known, LEVELS, levels, series_id};
use crate::cover::Level;
use crate::engine::Distributions;
use crate::error::Error;
use crate::hashing::Keyed;
use crate::query::Outcome;
use crate::sqlite::block::Block;
use crate::sqlite::ended::{Ended, Finishes};
use crate::tally::Tally;
use rusqlite::Transaction;
use std::collections::HashMap;
use std::ops::Range;

/// Calls of one transaction.
#[derive(Default)]
pub(in crate::sqlite) struct Batch {
    calls: Vec<Noted>,
}

/// A call, and what it is added up by.
struct Noted {
    series: i64,
    members: Members,
    call: Ended,
}

impl Noted {
    /// The number of its series, model or member.
    fn id(&self, by: By) -> i64 {
        let [service, host, environment, user, agent] = self.members;
        match by {
            By::Series => self.series,
            By::Model => self.call.ids.model,
            By::Service => service,
            By::Host => host,
            By::Environment => environment,
            By::User => user,
            By::Agent => agent,
        }
    }
}

impl Batch {
    /// Notes a row of a block, which has all columns.
    pub(in crate::sqlite) fn add(
        &mut self,
        to: &Transaction<'_>,
        known: &mut Known,
        (block, row): (&Block, usize),
        finishes: &Finishes<'_>,
    ) -> Result<(), Error> {
        let call = Ended::of(block, row, finishes);
        let outcome = call.counted.outcome.unwrap_or(Outcome::Ok).number();
        let series = series_id(to, known, (call.ids, outcome))?;
        let members = known.members(to, block, row)?;
        self.calls.push(Noted { series, members, call });
        Ok(())
    }

    /// Adds everything to the sums of the file.
    pub(in crate::sqlite) fn write(&self, to: &Transaction<'_>) -> Result<(), Error> {
        self.changes(&levels(to)?, &By::ALL).add(to)
    }

    /// As [`write`](Self::write), to those alone that are by one thing alone.
    pub(super) fn write_alone(&self, to: &Transaction<'_>) -> Result<(), Error> {
        self.changes(&levels(to)?, &By::ALONE).add(to)
    }

    /// When the last of them ended; 0 of none.
    pub(in crate::sqlite) fn last_end(&self) -> u64 {
        self.calls.iter().map(|noted| noted.call.at).max().unwrap_or(0)
    }

    /// Takes everything, which was added before, out of the sums of the file.
    pub(in crate::sqlite) fn take_out(&self, of: &Transaction<'_>) -> Result<(), Error> {
        self.changes(&levels(of)?, &By::ALL).take_out(of)
    }

    /// What the calls make in each of some levels.
    fn changes(&self, levels: &[Level], kinds: &[By]) -> Changes {
        let mut changes = Changes::default();
        let first = self.calls.iter().map(|noted| noted.call.at).min().unwrap_or(u64::MAX);
        let has = |width: u64| levels.iter().any(|l| l.seconds == width && l.whole_to > first);
        let widest = LEVELS.into_iter().rposition(has).map_or(0, |place| place + 1);
        for by in kinds {
            let kept = by.levels().start..widest.max(by.levels().start + 1);
            let note = |level, bucket, id, sum: &Tally| {
                // A bucket that is not whole yet gets them when it is added up.
                let is_kept = |of: &Level| {
                    of.seconds == LEVELS[level] && bucket < of.whole_to / nanos_of(level)
                };
                if levels.iter().any(is_kept) {
                    changes.note((level, *by), (bucket, id), sum.to_bytes());
                }
            };
            if By::ALONE.contains(by) {
                let calls = self.calls.iter().map(|noted| (noted.id(*by), &noted.call));
                numbers_of(calls, kept, note);
            } else {
                sums_of(self.in_order(*by), kept, note);
            }
        }
        changes
    }

    /// The calls by the numbers that they have, and then by time.
    fn in_order(&self, by: By) -> impl Iterator<Item = (i64, &Ended)> {
        let calls = self.calls.iter().enumerate();
        let mut order: Vec<_> =
            calls.map(|(at, noted)| (noted.id(by), noted.call.at, at)).collect();
        order.sort_unstable();
        order.into_iter().map(|(id, _, at)| (id, &self.calls[at].call))
    }
}

/// Adds calls up that come in order of a number and then of time, in some levels. Hands each sum
/// over once it is whole: its level by place in [`LEVELS`], the number of its bucket, and the
/// number of its calls.
fn sums_of<'a>(
    calls: impl Iterator<Item = (i64, &'a Ended)>,
    levels: Range<usize>,
    mut hand_over: impl FnMut(usize, u64, i64, &Tally),
) {
    // Each level's running sum; a wide one is made of the next finer ones as they become whole.
    let mut running: [Tally; LEVELS.len()] = Default::default();
    let mut close = |through: usize, (id, at): (i64, u64), running: &mut [Tally]| {
        for level in levels.start..=through {
            let (finer, wider) = running.split_at_mut(level + 1);
            let whole = &mut finer[level];
            hand_over(level, bucket(level, at), id, whole);
            if let Some(wide) = wider.first_mut() {
                wide.merge(whole);
            }
            whole.clear();
        }
    };
    let mut last = None;
    for (id, call) in calls {
        if let Some((last_id, last_at)) = last {
            let is_whole =
                |level: &usize| last_id != id || bucket(*level, last_at) != bucket(*level, call.at);
            if let Some(through) = levels.clone().rev().find(is_whole) {
                close(through, (last_id, last_at), &mut running);
            }
        }
        running[levels.start].add(&call.counted);
        last = Some((id, call.at));
    }
    if let Some(last) = last {
        close(levels.end - 1, last, &mut running);
    }
}

/// As [`sums_of`], numbers alone, of calls in any order: they are few and small.
fn numbers_of<'a>(
    calls: impl Iterator<Item = (i64, &'a Ended)>,
    levels: Range<usize>,
    mut hand_over: impl FnMut(usize, u64, i64, &Tally),
) {
    let mut sums: HashMap<(u64, i64), Tally, Keyed> = HashMap::default();
    for (id, call) in calls {
        let sum = sums.entry((bucket(levels.start, call.at), id)).or_default();
        sum.add_to(&call.counted, Distributions::None);
    }
    for level in levels.clone() {
        let mut wider: HashMap<(u64, i64), Tally, Keyed> = HashMap::default();
        for ((bucket, id), sum) in sums {
            hand_over(level, bucket, id, &sum);
            if level + 1 < levels.end {
                let bucket = bucket / (LEVELS[level + 1] / LEVELS[level]);
                wider.entry((bucket, id)).or_default().merge(&sum);
            }
        }
        sums = wider;
    }
}

/// The bucket of a moment: its number since 1970.
fn bucket(level: usize, at: u64) -> u64 {
    at / nanos_of(level)
}

/// The width of a level by place in [`LEVELS`].
fn nanos_of(level: usize) -> u64 {
    LEVELS[level] * 1_000_000_000
}
