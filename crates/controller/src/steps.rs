//! Steps that the dashboard asks for: taken one after the other beside the poll, each once, whatever
//! comes twice or is lost, and told until the dashboard has the result on disk.
//!
//! The rules are `contract::step::journal`'s; here is its disk, its queue, its clock and its log.

mod log;

use crate::clock::Now;
use crate::file;
use crate::standing::Standings;
use contract::step::journal::{Journal, Verdict};
use contract::step::{Phase, Progress, Step};
use log::{Entry, Log};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wire::Moment;

/// Steps that wait; those beyond come again when their lease is over.
const MAX_WAITING: usize = 256;

/// Results in one report; the others come with the next.
const MAX_TOLD: usize = 200;

/// Version of the file.
const VERSION: u32 = 1;

/// 4 096 results of a few hundred bytes, some with a diff of some kilobytes.
const MAX_FILE: u64 = 64 << 20;

/// How long a step may take at most, where it does not say.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The steps of this node.
#[derive(Debug, Clone)]
pub(crate) struct Steps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: PathBuf,
    log: Log,
    state: Mutex<State>,
    changed: Condvar,
    standings: Standings,
}

#[derive(Debug, Default)]
struct State {
    journal: Journal,
    /// Steps that wait to be taken, with the moment until when they may be begun.
    waiting: VecDeque<(Step, Moment)>,
    /// Whether the file is older than the journal, because it could not be written.
    is_behind: bool,
    is_stopped: bool,
}

/// What is on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    journal: Journal,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) phase: Phase,
    /// One sentence; where it failed, why, and what to do next.
    pub(crate) reason: String,
    /// The exact change that was made.
    pub(crate) change: String,
}

impl Outcome {
    /// It is in effect.
    pub(crate) fn done(reason: impl Into<String>, change: impl Into<String>) -> Self {
        Self { phase: Phase::Done, reason: reason.into(), change: change.into() }
    }

    /// Nothing of it is in effect.
    pub(crate) fn failed(reason: impl Into<String>) -> Self {
        Self { phase: Phase::Failed, reason: reason.into(), change: String::new() }
    }

    /// The node may not or cannot take it.
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self { phase: Phase::Refused, reason: reason.into(), change: String::new() }
    }
}

impl Steps {
    /// The steps that are kept in a directory. What ran when the controller ended is said to be
    /// interrupted, and is not taken again.
    pub(crate) fn open(directory: &Path, standings: Standings) -> Self {
        let file = directory.join("steps.json");
        let check = |kept: &Kept| match kept.version {
            VERSION => Ok(()),
            other => Err(format!("version {other} is not {VERSION}")),
        };
        let kept: Option<Kept> = file::load(&file, MAX_FILE, check);
        let mut journal = kept.map(|kept| kept.journal).unwrap_or_default();
        journal.interrupt();
        let log = Log::new(directory.join("steps.log"));
        let state = Mutex::new(State { journal, is_behind: true, ..State::default() });
        Self(Arc::new(Shared { file, log, state, changed: Condvar::new(), standings }))
    }

    /// Takes steps over that came with an answer; those that are known already change nothing.
    pub(crate) fn offer(&self, steps: Vec<Step>, now: Moment) {
        let mut state = self.state();
        for step in steps {
            let is_waiting = state.waiting.iter().any(|(waiting, _)| waiting.id == step.id);
            if !is_waiting && state.waiting.len() < MAX_WAITING {
                let patience = match step.deadline_seconds {
                    0 => LONGEST,
                    seconds => Duration::from_secs(seconds.into()),
                };
                let nanos = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
                state.waiting.push_back((step, Moment(now.0.saturating_add(nanos))));
            }
        }
        self.0.changed.notify_all();
    }

    /// Takes steps back that were not begun.
    pub(crate) fn cancel(&self, ids: &[String]) {
        if ids.is_empty() {
            return;
        }
        let mut state = self.state();
        let mut cancelled = false;
        for id in ids {
            if state.journal.cancel(id) {
                cancelled = true;
                state.waiting.retain(|(waiting, _)| waiting.id != *id);
            }
        }
        if cancelled {
            self.write_or_say(&mut state);
            drop(state);
            self.0.standings.nudge();
        }
    }

    /// Forgets results that the dashboard has on disk.
    pub(crate) fn acknowledge(&self, ids: &[String]) {
        if ids.is_empty() {
            return;
        }
        let mut state = self.state();
        state.journal.acknowledge(ids);
        self.write_or_say(&mut state);
    }

    /// What has to be told: results that nobody acknowledged, and what runs.
    pub(crate) fn untold(&self) -> Vec<Progress> {
        self.state().journal.untold().take(MAX_TOLD).cloned().collect()
    }

    /// Steps that wait, and results that wait to be acknowledged.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        let state = self.state();
        (state.waiting.len(), state.journal.untold().count())
    }

    /// Takes steps until the stop; `take` is what makes the change.
    pub(crate) fn run(&self, take: impl Fn(&Step) -> Outcome) {
        while let Some((step, until)) = self.next() {
            self.step(&step, until, Now::read(), &take);
        }
    }

    /// Ends [`run`](Self::run) when the step that is under way has ended.
    pub(crate) fn stop(&self) {
        self.state().is_stopped = true;
        self.0.changed.notify_all();
    }

    fn next(&self) -> Option<(Step, Moment)> {
        let mut state = self.state();
        loop {
            if state.is_stopped {
                return None;
            }
            if let Some(next) = state.waiting.pop_front() {
                return Some(next);
            }
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn step(&self, step: &Step, until: Moment, began: Now, take: &impl Fn(&Step) -> Outcome) {
        if !self.begin(step, until, began) {
            self.0.standings.nudge();
            return;
        }
        self.0.standings.nudge();
        let outcome = take(step);
        let duration_ms = Now::read().monotonic.0.saturating_sub(began.monotonic.0) / 1_000_000;
        let progress = Progress {
            id: step.id.clone(),
            phase: outcome.phase,
            reason: outcome.reason,
            change: outcome.change,
            output: String::new(),
            duration_ms,
        };
        self.0.log.write(&Entry::of(step, &progress, Now::read().unix_nanos));
        let mut state = self.state();
        state.journal.finish(progress);
        self.write_or_say(&mut state);
        drop(state);
        self.0.standings.nudge();
    }

    /// Notes on disk that a step is begun; false when it is not to be.
    fn begin(&self, step: &Step, until: Moment, now: Now) -> bool {
        let mut state = self.state();
        let before = state.journal.clone();
        let verdict = if now.monotonic > until {
            state.journal.refuse(step, "Its time was over before the node came to it.");
            Verdict::Refused
        } else {
            state.journal.begin(step)
        };
        if verdict == Verdict::Known {
            return false;
        }
        let written = self.write(&mut state);
        let verdict = match (verdict, written) {
            (Verdict::Begin, Err(error)) => {
                // What is not on disk must not have an effect: a crash would make it happen twice.
                state.journal = before;
                let reason = format!(
                    "The node cannot write to its disk ({error}); make room there, then ask again."
                );
                state.journal.refuse(step, &reason);
                Verdict::Refused
            }
            (verdict, _) => verdict,
        };
        let progress = state.journal.untold().find(|progress| progress.id == step.id).cloned();
        drop(state);
        if let Some(progress) = progress {
            self.0.log.write(&Entry::of(step, &progress, now.unix_nanos));
        }
        verdict == Verdict::Begin
    }

    fn write(&self, state: &mut State) -> std::io::Result<()> {
        let kept = Kept { version: VERSION, journal: std::mem::take(&mut state.journal) };
        let written = file::replace(&self.0.file, &kept);
        state.journal = kept.journal;
        state.is_behind = written.is_err();
        written
    }

    /// Writes what may be lost by a crash: the step is then said to be interrupted, or told once
    /// more.
    fn write_or_say(&self, state: &mut State) {
        let was_behind = state.is_behind;
        if let Err(error) = self.write(state)
            && !was_behind
        {
            tracing::warn!(%error, "cannot write how steps go; a restart would not know it");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
