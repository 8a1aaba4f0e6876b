//! What calls add to the sums of a file.

use super::{By, Changes, LEVELS, SeriesIds, levels, series_id};
use crate::cover::Level;
use crate::error::Error;
use crate::query::Outcome;
use crate::sqlite::ended::Ended;
use crate::tally::Tally;
use rusqlite::Transaction;
use std::ops::Range;

/// Calls of one transaction.
#[derive(Default)]
pub(in crate::sqlite) struct Batch {
    /// With the numbers of their series.
    calls: Vec<(i64, Ended)>,
}

impl Batch {
    /// Notes a call.
    pub(in crate::sqlite) fn add(
        &mut self,
        to: &Transaction<'_>,
        known: &mut SeriesIds,
        call: Ended,
    ) -> Result<(), Error> {
        let outcome = call.counted.outcome.unwrap_or(Outcome::Ok).number();
        self.calls.push((series_id(to, known, (call.ids, outcome))?, call));
        Ok(())
    }

    /// Adds everything to the sums of the file.
    pub(in crate::sqlite) fn write(&self, to: &Transaction<'_>) -> Result<(), Error> {
        self.changes(&levels(to)?).add(to)
    }

    /// When the last of them ended; 0 of none.
    pub(in crate::sqlite) fn last_end(&self) -> u64 {
        self.calls.iter().map(|(_, call)| call.at).max().unwrap_or(0)
    }

    /// Takes everything, which was added before, out of the sums of the file.
    pub(in crate::sqlite) fn take_out(&self, of: &Transaction<'_>) -> Result<(), Error> {
        self.changes(&levels(of)?).take_out(of)
    }

    /// What the calls make in each of some levels.
    fn changes(&self, levels: &[Level]) -> Changes {
        let mut changes = Changes::default();
        let first = self.calls.iter().map(|(_, call)| call.at).min().unwrap_or(u64::MAX);
        let has = |width: u64| levels.iter().any(|l| l.seconds == width && l.whole_to > first);
        let widest = LEVELS.into_iter().rposition(has).map_or(0, |place| place + 1);
        for by in [By::Series, By::Model] {
            let kept = by.levels().start..widest.max(by.levels().start + 1);
            let id = |(series, call): &(i64, Ended)| match by {
                By::Series => *series,
                By::Model => call.ids.model,
            };
            let calls = self.calls.iter().enumerate();
            let mut order: Vec<_> = calls.map(|(at, call)| (id(call), call.1.at, at)).collect();
            order.sort_unstable();
            let calls = order.into_iter().map(|(id, _, at)| (id, &self.calls[at].1));
            sums_of(calls, kept, |level, bucket, id, sum| {
                // A bucket that is not whole yet gets them when it is added up.
                let is_kept = |of: &Level| {
                    of.seconds == LEVELS[level] && bucket < of.whole_to / nanos_of(level)
                };
                if levels.iter().any(is_kept) {
                    changes.note((level, by), (bucket, id), sum.to_bytes());
                }
            });
        }
        changes
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

/// The bucket of a moment: its number since 1970.
fn bucket(level: usize, at: u64) -> u64 {
    at / nanos_of(level)
}

/// The width of a level by place in [`LEVELS`].
fn nanos_of(level: usize) -> u64 {
    LEVELS[level] * 1_000_000_000
}
