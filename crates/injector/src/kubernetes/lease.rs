//! Whose turn it is to change workloads of a cluster: what controllers agree on by one Lease.
//!
//! The Lease holds a table: which controller has which workload in hand, and how changes ended that
//! nobody is to make again. It is written only as it was read, so of two who take a turn at once the
//! server refuses one. A holder counts its turn up while it works; whoever sees one that did not move
//! for [`EXPIRES`], on a clock of its own, may take it over. A holder stops believing in a turn well
//! before, [`HOLDS`] after it asked for the last renewal that was taken. So no two clocks are ever
//! compared, and no two controllers believe in the same turn.
//!
//! All of it is values and times; `turns` asks and tells the server.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Rollouts that may be under way at once.
pub(crate) const MOST: usize = 2;
/// How long a turn is believed in without having been renewed.
pub(crate) const HOLDS: Duration = Duration::from_secs(10);
/// How long a turn has to stand still before another controller takes it over.
pub(crate) const EXPIRES: Duration = Duration::from_secs(15);
/// How often a turn is renewed.
pub(crate) const RENEWS: Duration = Duration::from_secs(3);
/// Ends that are remembered: a person looks at each of them.
const MAX_ENDS: usize = 64;
/// Characters of a reason: all of them fit into an annotation, of which the server takes 256 KiB.
const MAX_REASON: usize = 1_000;

/// What stands in the Lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Table {
    /// Turns that are taken, by the key of the workload.
    pub(crate) turns: BTreeMap<String, Held>,
    /// How changes ended, by the key of the workload.
    pub(crate) ends: BTreeMap<String, End>,
}

/// A turn that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The controller.
    pub(crate) by: String,
    /// Counted up with each renewal.
    pub(crate) beat: u64,
    /// Whether pods are replaced in it; only such turns are limited.
    pub(crate) rolls: bool,
}

/// How a change ended that stays so until somebody wishes it anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Number of the wish that it was made for.
    pub(crate) generation: u64,
    /// How it ended.
    pub how: How,
    /// Why, for people.
    pub reason: String,
    /// Which of the ends is older.
    #[serde(default)]
    order: u64,
}

/// How a change ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It did not go well, and was put back.
    RolledBack,
    /// Somebody took it out by other means.
    Reverted,
    /// It was not wanted any more.
    Unwanted,
}

impl End {
    /// An end of the change that was made for a wish.
    pub fn new(generation: u64, how: How, reason: &str) -> Self {
        Self { generation, how, reason: reason.chars().take(MAX_REASON).collect(), order: 0 }
    }
}

/// What is to be done to have a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is ours.
    Ours,
    /// Nobody has it: the table that takes it, to be written in place of the one that was read.
    Take(Table),
    /// That controller has it.
    Theirs(String),
    /// As many rollouts as may be are under way.
    Full,
}

/// How a turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand<'a> {
    /// Nobody has it.
    Free,
    /// We have it, or had it: nobody else took it since.
    Ours,
    /// That controller has it.
    Theirs(&'a str),
    /// That controller had it, and died over it.
    Left(&'a str),
}

/// What one controller knows of the Lease.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    me: String,
    table: Table,
    /// Since when the turns of others stand as they do, on our clock.
    since: BTreeMap<String, (Held, Duration)>,
    /// When the last renewal of each turn of ours was asked for that was taken.
    ours: BTreeMap<String, Duration>,
}

impl Known {
    /// Of the controller that goes by this name, which no other one has.
    pub(crate) fn new(me: &str) -> Self {
        Self { me: me.to_owned(), ..Self::default() }
    }

    /// The table was read; `now` is after the answer.
    pub(crate) fn read(&mut self, table: Table, now: Duration) {
        let before = std::mem::take(&mut self.since);
        for (key, held) in table.turns.iter().filter(|(_, held)| held.by != self.me) {
            let since = before.get(key).filter(|(was, _)| was == held).map_or(now, |(_, at)| *at);
            self.since.insert(key.clone(), (held.clone(), since));
        }
        let is_ours = |key: &String| table.turns.get(key).is_some_and(|held| held.by == self.me);
        self.ours.retain(|key, _| is_ours(key));
        self.table = table;
    }

    /// The table was written in place of the one that was read; `asked` is before the request.
    pub(crate) fn wrote(&mut self, table: Table, asked: Duration) {
        self.read(table, asked);
        let all = self.table.turns.iter();
        let mine = all.filter(|(_, held)| held.by == self.me).map(|(key, _)| (key.clone(), asked));
        self.ours = mine.collect();
    }

    /// Whether we may act in this turn.
    pub(crate) fn holds(&self, key: &str, now: Duration) -> bool {
        self.ours.get(key).is_some_and(|asked| now < *asked + HOLDS)
    }

    /// How a turn stands.
    pub(crate) fn stand(&self, key: &str, now: Duration) -> Stand<'_> {
        match self.table.turns.get(key) {
            None => Stand::Free,
            Some(held) if held.by == self.me => Stand::Ours,
            Some(held) if self.is_left(key, now) => Stand::Left(&held.by),
            Some(held) => Stand::Theirs(&held.by),
        }
    }

    /// What is to be done to have a turn; `rolls` says whether pods are replaced in it.
    pub(crate) fn claim(&self, key: &str, rolls: bool, now: Duration) -> Claim {
        if self.holds(key, now) {
            return Claim::Ours;
        }
        if let Stand::Theirs(by) = self.stand(key, now) {
            return Claim::Theirs(by.to_owned());
        }
        let mut table = self.renewed();
        // Whoever died over a turn may have left a rollout, which the one who takes it over counts.
        table.turns.retain(|other, _| !self.is_left(other, now));
        let others = table.turns.iter().filter(|(other, held)| *other != key && held.rolls);
        if rolls && others.count() >= MOST {
            return Claim::Full;
        }
        let beat = self.table.turns.get(key).map_or(0, |held| held.beat) + 1;
        table.turns.insert(key.to_owned(), Held { by: self.me.clone(), beat, rolls });
        Claim::Take(table)
    }

    /// The table that renews what we have, when that is due.
    pub(crate) fn renewal(&self, now: Duration) -> Option<Table> {
        let is_due = self.ours.values().any(|asked| now >= *asked + RENEWS);
        is_due.then(|| self.renewed())
    }

    /// The table without a turn of ours; nothing when we have none. It is not believed in any more:
    /// the server may take it without our hearing of it.
    pub(crate) fn release(&mut self, key: &str) -> Option<Table> {
        self.ours.remove(key);
        self.table.turns.get(key).filter(|held| held.by == self.me)?;
        let mut table = self.renewed();
        table.turns.remove(key);
        Some(table)
    }

    /// The table with how a change ended; nothing when one that made, or watched, it said so first.
    pub(crate) fn ended(&self, key: &str, end: &End) -> Option<Table> {
        let known = self.table.ends.get(key);
        if known.is_some_and(|known| known.generation >= end.generation) {
            return None;
        }
        let mut table = self.renewed();
        let order = table.ends.values().map(|end| end.order).max().unwrap_or(0) + 1;
        table.ends.insert(key.to_owned(), End { order, ..end.clone() });
        while table.ends.len() > MAX_ENDS {
            let oldest = table.ends.iter().min_by_key(|(_, end)| end.order);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            table.ends.remove(&oldest);
        }
        Some(table)
    }

    /// How the change for this wish, or a later one, ended.
    pub(crate) fn end(&self, key: &str, generation: u64) -> Option<&End> {
        self.table.ends.get(key).filter(|end| end.generation >= generation)
    }

    /// Workloads whose turn is ours in the table.
    pub(crate) fn mine(&self) -> Vec<String> {
        let all = self.table.turns.iter();
        all.filter(|(_, held)| held.by == self.me).map(|(key, _)| key.clone()).collect()
    }

    fn is_left(&self, key: &str, now: Duration) -> bool {
        self.since.get(key).is_some_and(|(_, since)| now >= *since + EXPIRES)
    }

    fn renewed(&self) -> Table {
        let mut table = self.table.clone();
        table.turns.values_mut().filter(|held| held.by == self.me).for_each(|held| held.beat += 1);
        table
    }
}

#[cfg(test)]
mod tests;
