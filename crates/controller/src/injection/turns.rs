//! Turns: of the controllers of a cluster one changes a workload, and others take over when it dies.
//!
//! What was made is on the workload itself, so each controller that has a program of it knows the
//! change, says how far it is there, and can take it back. `injector::Turns` says whose turn it is.

use super::kept::{Phase, Record, Why};
use super::planning::target;
use super::{Running, SECOND, Tries, processes};
use crate::clock::Now;
use crate::standing::Published;
use contract::workload::{Key, Observed, Platform};
use injector::plan::Change;
use injector::{End, Glance, How, Target, Turn};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often others are looked at that have a turn.
pub(super) const STAND_BY: Duration = Duration::from_secs(5);
/// How long a rollout without the SDK keeps its turn at most.
const LEAVING_NANOS: u64 = 600 * SECOND;
/// What is said of a workload that has to wait.
const FULL: &str = "It waits for a turn: two rollouts are under way in this cluster.";

/// A workload that another controller changes, or that waits for its turn.
#[derive(Debug)]
pub(super) struct Waits {
    pub(super) reason: String,
    /// The reading of the table that said so.
    reads: u64,
}

/// Whether a change may be taken back here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    Act,
    Wait,
    /// It is done already, by somebody else.
    Done,
}

impl Running {
    /// Renews what this node has in hand, and lets go of what is over.
    pub(super) fn keep_turns(&mut self, published: &Published, now: u64) {
        self.waits.retain(|key, _| published.full.contains_key(key));
        let is_over = |change: &Change, since: u64| {
            now >= since.saturating_add(LEAVING_NANOS)
                || self.parts.turns.is_settled(change).unwrap_or(false)
        };
        let over: Vec<Key> = (self.leaving.iter())
            .filter(|(_, (change, since))| is_over(change, *since))
            .map(|(key, _)| key.clone())
            .collect();
        over.iter().for_each(|key| drop(self.leaving.remove(key)));
        for key in self.parts.turns.mine().into_iter().map(Key) {
            let phase = self.parts.records.get(&key).map(|record| &record.phase);
            let is_at_it =
                matches!(phase, Some(Phase::Making | Phase::Watched { .. } | Phase::Undoing(_)));
            if !is_at_it && !self.leaving.contains_key(&key) {
                self.let_go(&key);
            }
        }
        let records = self.parts.records.all().values();
        let is_curious = !self.waits.is_empty() || records.clone().any(is_shared);
        if let Err(error) = self.parts.turns.keep(is_curious) {
            tracing::debug!(error, "cannot keep its turns");
        }
    }

    /// Whether others have a turn that this node waits for.
    pub(super) fn stands_by(&self) -> bool {
        let theirs = |key: &Key| self.parts.turns.holder(&key.0).is_some();
        !self.waits.is_empty() || self.parts.records.all().keys().any(theirs)
    }

    /// Whether a change may be planned and made by this node now; else what stands in the way is
    /// noted, and a change that another node made is known from then on.
    pub(super) fn may_enable(&mut self, observed: &Observed, generation: u64, now: u64) -> bool {
        let Ok(Target::Pods { workload, container, pid }) = target(observed) else { return true };
        let key = &observed.key;
        let reads = self.parts.turns.reads();
        if self.waits.get(key).is_some_and(|waits| waits.reads == reads) {
            return false;
        }
        let is_rollout = workload.kind.rolls();
        // Who waits asks again whether it was made meanwhile only when its turn has come.
        let stood = self.waits.contains_key(key) && self.parts.turns.holder(&key.0).is_none();
        if stood && !self.is_our_turn(key, is_rollout, now) {
            return false;
        }
        let made = match self.parts.turns.made(&workload, &container) {
            Ok(made) => made,
            Err(error) => {
                self.waits.remove(key);
                self.failed(key, error, now);
                return false;
            }
        };
        if let Some(change) = made {
            self.waits.remove(key);
            self.let_go(key);
            let target = Target::Pods { workload, container, pid };
            self.adopt(key, (target, change, generation), now);
            return false;
        }
        if !self.is_our_turn(key, is_rollout, now) {
            return false;
        }
        let is_over = self.parts.turns.end(&key.0, generation).is_some();
        if is_over {
            self.let_go(key);
        }
        !is_over
    }

    /// Takes the turn; else notes why it is to be waited for.
    pub(super) fn is_our_turn(&mut self, key: &Key, is_rollout: bool, now: u64) -> bool {
        let reason = match self.parts.turns.claim(&key.0, is_rollout) {
            Ok(Turn::Ours) => {
                self.waits.remove(key);
                return true;
            }
            Ok(Turn::Theirs(by)) => format!("Another node makes it: {by}."),
            Ok(Turn::Full) => FULL.to_owned(),
            Err(error) => {
                self.waits.remove(key);
                self.failed(key, error, now);
                return false;
            }
        };
        let reads = self.parts.turns.reads();
        self.waits.insert(key.clone(), Waits { reason, reads });
        false
    }

    /// Takes over changes of workloads that were switched off while nobody was there who knew of the
    /// change: a program runs here that was started with it.
    pub(super) fn adopt_stranded(&mut self, published: &Published, now: u64) {
        let is_with = |observed: &Observed| {
            let mut pids = observed.instances.iter().map(|instance| instance.pid);
            pids.any(|pid| processes::is_started_with(&self.parts.root, pid))
        };
        let off = published.held.iter().filter(|wish| wish.agent == Some(false));
        let off: BTreeMap<&Key, u64> = off.map(|wish| (&wish.key, wish.generation)).collect();
        let records = &self.parts.records;
        let unknown = published.workloads.iter().filter(|observed| {
            observed.platform == Platform::Kubernetes
                && records.get(&observed.key).is_none()
                && !records.lost().contains_key(&observed.key)
        });
        let stranded = unknown.filter_map(|it| Some((it, *off.get(&it.key)?)));
        let stranded: Vec<_> = stranded.filter(|(observed, _)| is_with(observed)).collect();
        for (observed, generation) in stranded {
            let Ok(Target::Pods { workload, container, pid }) = target(observed) else { continue };
            // Nothing there is what is left of a rollout; what cannot be seen is asked for again.
            if let Ok(Some(change)) = self.parts.turns.made(&workload, &container) {
                let target = Target::Pods { workload, container, pid };
                self.adopt(&observed.key, (target, change, generation), now);
            }
        }
    }

    /// Takes over what is known of a change that another node made.
    fn adopt(&mut self, key: &Key, (target, change, generation): (Target, Change, u64), now: u64) {
        tracing::info!(key = %key.0, "another node has put the SDK in");
        let difference = change.difference();
        let phase = Phase::InEffect;
        let record = Record { target, change, difference, generation, phase };
        if let Err(error) = self.parts.records.put(key, record) {
            let said = format!("The node cannot write to its disk ({error}); make room there.");
            self.failed(key, said, now);
        }
    }

    /// Looks after a change in a cluster; whether it is this node that watches it closely.
    pub(super) fn is_ours_to_watch(&mut self, key: &Key, is_due: bool, now: u64) -> bool {
        let Some(record) = self.parts.records.get(key).cloned() else { return false };
        match record.phase {
            Phase::Watched { .. } => match self.parts.turns.claim(&key.0, rolls(&record)) {
                Ok(Turn::Ours) => return true,
                // It went on without us, and acts from now on.
                Ok(Turn::Theirs(_)) => self.advance(key, Phase::InEffect),
                Ok(Turn::Full) | Err(_) => {}
            },
            // One patch makes it, so it is there, or nothing of it is.
            Phase::Making => match self.parts.turns.glance(&record.change) {
                Ok(Glance::There) => self.advance(key, Phase::InEffect),
                Ok(_) => self.advance(key, Phase::Undoing(Why::Interrupted)),
                Err(_) => {}
            },
            Phase::InEffect => {
                let is_left = self.parts.turns.is_left(&key.0);
                if is_left && self.parts.turns.claim(&key.0, rolls(&record)) == Ok(Turn::Ours) {
                    tracing::info!(key = %key.0, "takes over what another node left");
                    self.advance(key, Phase::Watched { since_unix_nanos: now });
                } else if is_due {
                    self.glance(key, &record, now);
                }
            }
            Phase::Undoing(_) | Phase::RolledBack { .. } | Phase::Reverted { .. } => {}
        }
        false
    }

    /// Looks at a change that is in effect.
    pub(super) fn glance(&mut self, key: &Key, record: &Record, now: u64) {
        match self.parts.turns.glance(&record.change) {
            Ok(Glance::There) => {}
            Ok(Glance::Other(change)) => {
                let Record { target, generation, .. } = record.clone();
                self.adopt(key, (target, *change, generation), now);
            }
            Ok(Glance::Gone { reason, .. }) => {
                let end = self.parts.turns.end(&key.0, record.generation).cloned();
                match end {
                    Some(End { how: How::RolledBack, reason, .. }) => {
                        self.advance(key, Phase::RolledBack { reason });
                    }
                    Some(End { reason, .. }) => self.advance(key, Phase::Reverted { reason }),
                    // Whoever has the turn may be taking it back.
                    None if self.parts.turns.holder(&key.0).is_some() => {}
                    None => self.advance(key, Phase::Undoing(Why::Reverted { reason })),
                }
            }
            Err(error) => tracing::debug!(key = %key.0, error, "cannot look at a workload"),
        }
    }

    /// Whether a change in a cluster may be taken back by this node now.
    pub(super) fn may_undo(&mut self, key: &Key, record: &Record, why: &Why, now: u64) -> May {
        let glance = match self.parts.turns.glance(&record.change) {
            Ok(glance) => glance,
            Err(error) => {
                self.failed(key, error, now);
                return May::Wait;
            }
        };
        let is_out = matches!(glance, Glance::Other(_) | Glance::Gone { is_clean: true, .. });
        if is_out {
            // What is left to do is to tidy up, which the one who has the turn does.
            let is_theirs = self.parts.turns.holder(&key.0).is_some();
            return if is_theirs { May::Done } else { May::Act };
        }
        let said = match self.parts.turns.claim(&key.0, rolls(record)) {
            Ok(Turn::Ours) => return May::Act,
            Ok(Turn::Theirs(_)) if matches!(why, Why::Unwell { .. } | Why::Interrupted) => {
                self.advance(key, Phase::InEffect);
                return May::Wait;
            }
            Ok(Turn::Theirs(by)) => format!("Another node makes it: {by}."),
            Ok(Turn::Full) => FULL.to_owned(),
            Err(error) => {
                self.failed(key, error, now);
                return May::Wait;
            }
        };
        self.tries.entry(key.clone()).or_default().said = said;
        May::Wait
    }

    /// A change in a cluster was taken back: all are told, and the turn is kept while pods are
    /// replaced.
    pub(super) fn was_undone(&mut self, key: &Key, record: &Record, why: &Why) {
        let end = match why {
            Why::Interrupted => None,
            // What nobody numbered can be wished anew under the same number.
            Why::NotWanted if record.generation == 0 => None,
            Why::NotWanted => Some((How::Unwanted, "it was switched off")),
            Why::Unwell { reason } => Some((How::RolledBack, reason.as_str())),
            Why::Reverted { reason } => Some((How::Reverted, reason.as_str())),
        };
        if let Some((how, reason)) = end
            && let Err(error) =
                self.parts.turns.ended(&key.0, &End::new(record.generation, how, reason))
        {
            tracing::warn!(key = %key.0, error, "cannot tell other nodes how a change ended; one of them may make it again");
        }
        if self.parts.turns.holds(&key.0) && rolls(record) {
            let since = Now::read().unix_nanos;
            self.leaving.insert(key.clone(), (record.change.clone(), since));
        }
    }

    /// Gives a turn back, if this node has it.
    pub(super) fn let_go(&mut self, key: &Key) {
        if let Err(error) = self.parts.turns.release(&key.0) {
            tracing::debug!(key = %key.0, error, "cannot give a turn back");
        }
    }

    /// How a change ended that this node did not make, for a wish that stands.
    pub(super) fn ended_elsewhere(&self, observed: &Observed, generation: u64) -> Option<&End> {
        let is_shared = observed.platform == Platform::Kubernetes;
        self.parts.turns.end(&observed.key.0, generation).filter(|_| is_shared)
    }
}

/// Whether other nodes may have made it, or may take it back.
pub(super) fn is_shared(record: &Record) -> bool {
    matches!(record.target, Target::Pods { .. })
}

/// Whether its pods are replaced when it is made or taken back.
pub(super) fn rolls(record: &Record) -> bool {
    matches!(&record.target, Target::Pods { workload, .. } if workload.kind.rolls())
}

impl Tries {
    /// Nothing failed.
    pub(super) fn succeeded(&mut self) {
        (self.failures, self.failed_at) = (0, 0);
        self.said.clear();
    }
}
