//! The SDK in programs: what is wanted, what was changed for it, and how that goes.
//!
//! One thread owns it. Which way a workload goes is decided by the table of `contract::reconcile`, as
//! for the kernel's capture; how a platform's object is changed is `injector`'s. What is changed is on
//! disk before it is touched, so that a crash at any moment ends in one of two states: as it was, or
//! as it is wished.

mod kept;
mod planning;
mod preview;
mod processes;
mod recovery;
mod restore;
mod standing;
mod turns;
mod watching;

use crate::ceilings::Ceilings;
use crate::clock::Now;
use crate::config::Agents;
use crate::event_loop::{Notice, Notices};
use crate::standing::{Published, Standings};
use crate::tuning::Tuning;
use contract::capture::State;
use contract::reconcile::{Case, Feature, Found, Outcome, pause, reconcile};
use contract::step::Change as Word;
use contract::workload::{Agent, Key, Observed};
use injector::plan::{Change, Kind, Refusal};
use injector::{Hands, How, Target, Turns, Undone};
pub(crate) use kept::Records;
use kept::{Phase, Record, Why};
pub(crate) use preview::{Previews, Questions};
pub use restore::{Restored, changed, restore};
pub(crate) use standing::TAKEN_OUT;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

/// How often a change that was just made is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How often a change that is in effect is looked at: whether somebody took it out.
const LOOK_EVERY: Duration = Duration::from_secs(15);

const SECOND: u64 = 1_000_000_000;

/// What the thread needs.
#[derive(Debug)]
pub(crate) struct Injections {
    pub(crate) standings: Standings,
    pub(crate) notices: Notices,
    pub(crate) ceilings: Ceilings,
    pub(crate) tuning: Tuning,
    /// How programs are told to send; why they cannot be, and what to do.
    pub(crate) agents: Result<Agents, String>,
    pub(crate) records: Records,
    pub(crate) hands: Hands,
    pub(crate) turns: Turns,
    /// Root directory of the node.
    pub(crate) root: PathBuf,
    pub(crate) host_name: String,
    pub(crate) questions: Questions,
}

/// Tries that failed since a wish was made.
#[derive(Debug, Clone, Default)]
struct Tries {
    generation: u64,
    failures: u32,
    failed_at: u64,
    /// What was found that stands in the way, and of which processes.
    refusal: Option<(Refusal, Vec<u32>)>,
    /// What the last try said.
    said: String,
}

/// The thread, running.
struct Running {
    parts: Injections,
    tries: HashMap<Key, Tries>,
    /// How far those are that come up one part after the other.
    rolling: HashMap<Key, String>,
    /// Those that another node changes, or that wait for a turn.
    waits: HashMap<Key, turns::Waits>,
    /// Those whose pods are replaced without it, and since when.
    leaving: HashMap<Key, (Change, u64)>,
    told: BTreeMap<Key, Agent>,
    /// Wishes that were looked at last.
    wanted: BTreeMap<Key, u64>,
    looked_at: u64,
    bundle: Option<String>,
    has_told: bool,
}

impl Injections {
    /// Runs until the stop.
    pub(crate) fn run(self) {
        let mut running = Running {
            parts: self,
            tries: HashMap::new(),
            rolling: HashMap::new(),
            waits: HashMap::new(),
            leaving: HashMap::new(),
            told: BTreeMap::new(),
            wanted: BTreeMap::new(),
            looked_at: 0,
            bundle: None,
            has_told: false,
        };
        running.recover();
        loop {
            let (version, published) = running.parts.standings.latest();
            running.look(&published, Now::read().unix_nanos);
            running.answer(&published);
            if !running.parts.standings.wait(version, running.patience()) {
                return;
            }
            // What was asked for comes in bursts.
            if !running.parts.standings.sleep(Duration::from_millis(50)) {
                return;
            }
        }
    }
}

impl Running {
    /// What was under way when the controller ended is taken back; then it is planned anew.
    fn recover(&mut self) {
        let making = self.parts.records.all().iter();
        // What is in a cluster, others may have gone on with.
        let making =
            making.filter(|(_, record)| record.phase == Phase::Making && !turns::is_shared(record));
        let keys: Vec<Key> = making.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.advance(&key, Phase::Undoing(Why::Interrupted));
        }
    }

    /// Looks at all workloads for which something is wanted or was changed.
    fn look(&mut self, published: &Published, now: u64) {
        let is_due = now.saturating_sub(self.looked_at) >= nanos(LOOK_EVERY);
        if is_due {
            self.looked_at = now;
        }
        self.keep_turns(published, now);
        self.bring_back();
        if is_due {
            self.adopt_stranded(published, now);
        }
        let records = &self.parts.records;
        let keys = records.all().keys().chain(records.lost().keys()).chain(published.full.keys());
        let keys: BTreeSet<Key> = keys.cloned().collect();
        let mut told = BTreeMap::new();
        for key in keys {
            let observed = published.workloads.iter().find(|observed| observed.key == key);
            // What others do to a cluster's workload, a node notices that it runs on.
            let runs_here = observed.is_some_and(|observed| !observed.instances.is_empty());
            let is_shared = self.parts.records.get(&key).is_some_and(turns::is_shared);
            self.check(&key, is_due && (runs_here || !is_shared), now);
            if let Some(agent) = self.one(&key, observed, published.full.get(&key).copied(), now) {
                told.insert(key, agent);
            }
        }
        self.tries.retain(|key, _| published.full.contains_key(key) || told.contains_key(key));
        // What is told first replaces what was said before anything was looked at.
        if !self.has_told || told != self.told || published.full != self.wanted {
            self.has_told = true;
            self.wanted.clone_from(&published.full);
            self.told.clone_from(&told);
            self.parts.notices.send_surely(Notice::Agents(told));
        }
        // From now on what is said of workloads is all that was changed.
        if !self.parts.records.is_fresh() {
            self.parts.standings.ask_before(false);
        }
    }

    /// Takes the next step for one workload, and says how it stands.
    fn one(
        &mut self,
        key: &Key,
        observed: Option<&Observed>,
        wanted: Option<u64>,
        now: u64,
    ) -> Option<Agent> {
        if let Some(before) = self.parts.records.lost().get(key).cloned() {
            let generation = wanted.unwrap_or_default();
            return self.recover_lost((key, &before), observed, generation, now);
        }
        self.finish(key, now);
        let tries = self.tries.entry(key.clone()).or_default();
        if wanted.is_some_and(|generation| generation > tries.generation) {
            *tries = Tries { generation: wanted.unwrap_or_default(), ..Tries::default() };
        }
        let forbidden = observed.and_then(|observed| self.forbidden(observed));
        let found = self.found(key, observed, wanted);
        let tries = self.tries.entry(key.clone()).or_default().clone();
        let is_under_way = self
            .parts
            .records
            .get(key)
            .is_some_and(|record| matches!(record.phase, Phase::Making | Phase::Undoing(_)));
        let case = Case {
            feature: Feature::Agent,
            // What came to be forbidden while it was on is ended like what is not wanted any more.
            wanted: Some(wanted.is_some() && (forbidden.is_none() || found != Found::Ours)),
            found,
            is_allowed: forbidden.is_none(),
            is_under_way,
            failures: tries.failures,
            failed_at: tries.failed_at,
        };
        let (state, reason) = match reconcile(&case, now) {
            Outcome::Rest { state, reason } | Outcome::Wait { state, reason, .. } => {
                (state, reason)
            }
            Outcome::Act { change, .. } => {
                return self.act(change, key, (observed, wanted), now);
            }
        };
        if wanted.is_none() && !self.parts.records.get(key).is_some_and(Record::is_in_effect) {
            return None;
        }
        if state == State::Capturing || is_under_way {
            return self.stands(key, observed, wanted);
        }
        let reason = self.explained(key, state, reason, forbidden);
        Some(self.agent(key, observed, state, reason))
    }

    /// Takes the change that the table names, and says how the workload stands then.
    fn act(
        &mut self,
        change: Word,
        key: &Key,
        (observed, wanted): (Option<&Observed>, Option<u64>),
        now: u64,
    ) -> Option<Agent> {
        if self.parts.tuning.settings().freeze == Some(true) {
            let reason = "The fleet is frozen: no SDK is put into programs, and none is taken out, until that is lifted in Settings.";
            return Some(self.agent(key, observed, State::Blocked, reason.to_owned()));
        }
        match (change, observed) {
            (Word::EnableSdk, Some(observed)) => {
                self.enable(observed, wanted.unwrap_or_default(), now);
            }
            _ => self.advance(key, Phase::Undoing(Why::NotWanted)),
        }
        self.finish(key, now);
        self.stands(key, observed, wanted)
    }

    /// What is there of the SDK, as the table of decisions asks.
    fn found(&mut self, key: &Key, observed: Option<&Observed>, wanted: Option<u64>) -> Found {
        let generation = wanted.unwrap_or_default();
        match self.parts.records.get(key).map(|record| (&record.phase, record.generation)) {
            Some((Phase::RolledBack { .. }, of)) if of >= generation => return Found::Unhealthy,
            Some((Phase::Reverted { .. }, of)) if of >= generation => return Found::Reverted,
            Some((Phase::RolledBack { .. } | Phase::Reverted { .. }, _)) | None => {}
            Some(_) => return Found::Ours,
        }
        let Some(observed) = observed.filter(|it| !it.instances.is_empty()) else {
            return Found::Stopped;
        };
        match self.ended_elsewhere(observed, generation).map(|end| end.how) {
            Some(How::RolledBack) => return Found::Unhealthy,
            Some(How::Reverted | How::Unwanted) => return Found::Reverted,
            None => {}
        }
        let pids = pids(observed);
        let tries = self.tries.entry(key.clone()).or_default();
        // Other processes may be another program by now.
        if tries.refusal.as_ref().is_some_and(|(_, of)| *of != pids) {
            tries.refusal = None;
        }
        match &tries.refusal {
            Some((Refusal { kind: Kind::Unsupported, .. }, _)) => Found::Unsupported,
            Some((Refusal { kind: Kind::Conflict, .. }, _)) => Found::Conflict,
            _ => Found::Off,
        }
    }

    /// Why the node's own configuration, or the program itself, forbids it.
    fn forbidden(&self, observed: &Observed) -> Option<String> {
        let parts = &self.parts;
        parts
            .ceilings
            .forbids_injection()
            .map(str::to_owned)
            .or_else(|| {
                parts.ceilings.forbids_capture(
                    &observed.key,
                    observed.platform,
                    &observed.attributes,
                )
            })
            .or_else(|| parts.agents.as_ref().err().cloned())
            .or_else(|| {
                let tries = self.tries.get(&observed.key)?;
                let (refusal, _) = tries.refusal.as_ref()?;
                (refusal.kind == Kind::Blocked).then(|| refusal.reason.clone())
            })
    }

    /// Puts the SDK in.
    fn enable(&mut self, observed: &Observed, generation: u64, now: u64) {
        let key = &observed.key;
        if !self.may_enable(observed, generation, now) {
            return;
        }
        let (target, plan) = match self.plan(observed) {
            Ok(planned) => planned,
            Err(refusal) => {
                let (code, reason) = (&refusal.code, &refusal.reason);
                tracing::debug!(key = %key.0, code, reason, "no SDK is put in");
                let tries = self.tries.entry(key.clone()).or_default();
                if refusal.kind == Kind::NotNow {
                    tries.failures += 1;
                    tries.failed_at = now;
                }
                tries.refusal = Some((refusal, pids(observed)));
                self.let_go(key);
                return;
            }
        };
        // Planning may have taken longer than the turn held.
        if let Target::Pods { workload, .. } = &target
            && !self.is_our_turn(key, workload.kind.rolls(), now)
        {
            return;
        }
        // Planning takes a while, and whoever wished it may have thought again.
        if !self.parts.standings.latest().1.full.contains_key(key) {
            self.let_go(key);
            return;
        }
        let difference = plan.difference();
        let record =
            Record { target, change: plan.change, difference, generation, phase: Phase::Making };
        // What is not on disk must not have an effect: nobody could take it back.
        if let Err(error) = self.parts.records.put(key, record.clone()) {
            self.failed(
                key,
                format!("The node cannot write to its disk ({error}); make room there."),
                now,
            );
            return;
        }
        tracing::info!(key = %key.0, "puts the SDK in");
        self.announce(observed);
        match self.parts.hands.make(&record.change) {
            Ok(()) => {
                let since_unix_nanos = Now::read().unix_nanos;
                self.advance(key, Phase::Watched { since_unix_nanos });
            }
            Err(reason) => self.advance(key, Phase::Undoing(Why::Unwell { reason })),
        }
    }

    /// Tells of one workload at once: what is done to it next may take a while, and stops it.
    fn announce(&mut self, observed: &Observed) {
        if let Some(agent) = self.stands(&observed.key, Some(observed), None) {
            self.told.insert(observed.key.clone(), agent);
            self.parts.notices.send_surely(Notice::Agents(self.told.clone()));
        }
    }

    /// Takes back what is to be; what fails is tried again after a pause.
    fn finish(&mut self, key: &Key, now: u64) {
        let Some(record) = self.parts.records.get(key).cloned() else { return };
        let Phase::Undoing(why) = &record.phase else { return };
        let tries = self.tries.entry(key.clone()).or_default();
        if tries.failures > 0 && now < tries.failed_at.saturating_add(pause(tries.failures)) {
            return;
        }
        let revive = matches!(why, Why::Unwell { .. } | Why::Interrupted);
        let undone = match turns::is_shared(&record) {
            true => match self.may_undo(key, &record, why, now) {
                turns::May::Wait => return,
                turns::May::Done => Ok(Undone::Exactly),
                turns::May::Act => self.parts.hands.undo(&record.change, revive),
            },
            false => self.parts.hands.undo(&record.change, revive),
        };
        match undone {
            Err(error) => self.failed(key, error, now),
            Ok(undone) => {
                let kept = match undone {
                    Undone::Exactly => String::new(),
                    Undone::Ours(kept) => format!("; {kept}"),
                };
                tracing::info!(key = %key.0, ?why, kept, "took the SDK out");
                if let Some(tries) = self.tries.get_mut(key) {
                    tries.succeeded();
                }
                if turns::is_shared(&record) {
                    self.was_undone(key, &record, why);
                }
                match why.clone() {
                    Why::NotWanted | Why::Interrupted => {
                        if let Err(error) = self.parts.records.forget(key) {
                            tracing::error!(%error, "cannot write to the data directory; make room there");
                        }
                    }
                    Why::Unwell { reason } => {
                        self.advance(key, Phase::RolledBack { reason: format!("{reason}{kept}") });
                    }
                    Why::Reverted { reason } => {
                        self.advance(key, Phase::Reverted { reason: format!("{reason}{kept}") });
                    }
                }
            }
        }
    }

    fn failed(&mut self, key: &Key, said: String, now: u64) {
        tracing::warn!(key = %key.0, said, "cannot change a workload; it is tried again, later each time");
        let tries = self.tries.entry(key.clone()).or_default();
        tries.failures += 1;
        tries.failed_at = now;
        tries.said = said;
    }

    fn advance(&mut self, key: &Key, phase: Phase) {
        if !matches!(phase, Phase::Watched { .. }) {
            self.rolling.remove(key);
        }
        // What cannot be noted is noted with the next step; each of them may be taken twice.
        if let Err(error) = self.parts.records.advance(key, phase) {
            tracing::error!(%error, "cannot write to the data directory; make room there");
        }
    }
}

fn pids(observed: &Observed) -> Vec<u32> {
    observed.instances.iter().map(|instance| instance.pid).collect()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
