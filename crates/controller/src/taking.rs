//! What each step does. All that can be asked for is one closed list; nothing else is ever executed.

use crate::ceilings::Ceilings;
use crate::event_loop::{Notice, Notices};
use crate::injection::Previews;
use crate::poll::Agreed;
use crate::standing::Standings;
use crate::steps::Outcome;
use contract::capture::{Level, State};
use contract::step::{Change, Phase, Step};
use contract::workload::{Key, Observed};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long a change may take until it is seen to be in effect.
const IN_EFFECT: Duration = Duration::from_secs(10);

/// How long a program may take to come up with an SDK, before the window in which it is watched.
const COMES_UP: Duration = Duration::from_secs(240);

/// How long a preview may take: one of a restart that is under way waits for its end.
const PREVIEW: Duration = Duration::from_secs(60);

/// How long the event loop may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something that the event loop is asked to change, with the way to answer: the exact change that
/// was made, or why none was.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) what: What,
    pub(crate) reply: SyncSender<Result<String, String>>,
}

/// What is asked of the event loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// Forget failed tries: of a workload, or of all.
    Retry(Option<Key>),
    /// Capture a workload at a level, until a newer wish.
    Set { key: Key, level: Level, generation: u64 },
    /// Take back what a step set.
    Undo(Key),
}

/// Takes steps.
#[derive(Debug, Clone)]
pub(crate) struct Taker {
    pub(crate) notices: Notices,
    pub(crate) standings: Standings,
    pub(crate) agreed: Arc<Agreed>,
    pub(crate) ceilings: Ceilings,
    pub(crate) previews: Previews,
    /// How long a program is watched that got an SDK.
    pub(crate) window: Duration,
}

impl Taker {
    /// Takes a step that was noted to be begun.
    pub(crate) fn take(&self, step: &Step) -> Outcome {
        let outcome = self.carry_out(step);
        if outcome.phase == Phase::Refused {
            tracing::warn!(
                step = step.id,
                change = step.change.word(),
                reason = outcome.reason,
                "refused a step"
            );
        }
        outcome
    }

    fn carry_out(&self, step: &Step) -> Outcome {
        let change = step.change;
        if !matches!(change, Change::Refresh | Change::Retry)
            && let Some(reason) = self.ceilings.forbids_changes()
        {
            return Outcome::refused(reason);
        }
        match (change, step.key.clone()) {
            (Change::Refresh, _) => {
                self.agreed.want_all();
                self.standings.nudge();
                Outcome::done("Everything is told anew.", "")
            }
            (Change::Retry, key) => match self.ask(What::Retry(key)) {
                Ok(change) => Outcome::done("Failed tries are forgotten.", change),
                Err(reason) => Outcome::failed(reason),
            },
            (Change::Instrument | Change::Uninstrument | Change::Undo, None) => {
                Outcome::refused("The step names no workload.")
            }
            (Change::Instrument, Some(key)) => self.set(key, Level::Network, step.generation),
            (Change::Uninstrument, Some(key)) => self.set(key, Level::Off, step.generation),
            (Change::Undo, Some(key)) => match self.ask(What::Undo(key)) {
                Ok(change) => Outcome::done("It is as it was before.", change),
                Err(reason) => Outcome::refused(reason),
            },
            (Change::EnableSdk | Change::DisableSdk | Change::PreviewSdk, None) => {
                Outcome::refused("The step names no workload.")
            }
            (Change::EnableSdk, Some(key)) => match self.ceilings.forbids_injection() {
                Some(reason) => Outcome::refused(reason),
                None => self.set(key, Level::Full, step.generation),
            },
            (Change::DisableSdk, Some(key)) => self.set(key, Level::Network, step.generation),
            (Change::PreviewSdk, Some(key)) => match self.previews.ask(&key, PREVIEW) {
                Ok(text) => Outcome::done("Nothing was changed.", text),
                Err((reason, change)) => Outcome { change, ..Outcome::refused(reason) },
            },
            (Change::Restart, _) => Outcome::refused(
                "This controller restarts nothing; do it with the tools of the platform.",
            ),
            (Change::Unknown, _) => Outcome::refused(
                "This controller does not know this step; install the version of the dashboard on the node, too.",
            ),
        }
    }

    fn set(&self, key: Key, level: Level, generation: u64) -> Outcome {
        let (version, _) = self.standings.latest();
        let change = match self.ask(What::Set { key: key.clone(), level, generation }) {
            Ok(change) => change,
            Err(reason) => return Outcome::refused(reason),
        };
        match self.settled(&key, level, version) {
            Ok(reason) => Outcome::done(reason, change),
            Err(reason) => {
                // What cannot be in effect must not come into effect later, unasked.
                drop(self.ask(What::Undo(key)));
                Outcome::failed(reason)
            }
        }
    }

    /// Waits until a change is in effect, or cannot be.
    #[expect(clippy::disallowed_methods, reason = "the loop of steps reads the clock")]
    fn settled(&self, key: &Key, level: Level, mut known: u64) -> Result<String, String> {
        let slow = self.window + COMES_UP;
        let patience = if level == Level::Full { slow } else { IN_EFFECT };
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if !self.standings.wait(known, left) {
                return Err("The controller was stopped before it was in effect.".to_owned());
            }
            let (version, published) = self.standings.latest();
            known = version;
            let observed = published.workloads.iter().find(|observed| observed.key == *key);
            match observed.map(|observed| verdict(observed, level)) {
                Some(Some(verdict)) => return verdict,
                Some(None) if left.is_zero() => {
                    let reason = observed.map(|it| it.reason.clone()).unwrap_or_default();
                    let seconds = patience.as_secs();
                    return Err(format!("It is not in effect after {seconds} seconds: {reason}"));
                }
                None if left.is_zero() => return Err("The workload is gone.".to_owned()),
                Some(None) | None => {}
            }
        }
    }

    fn ask(&self, what: What) -> Result<String, String> {
        let (reply, answer) = sync_channel(1);
        self.notices.send_surely(Notice::Change(Asked { what, reply }));
        let busy = "The controller is busy or stops; ask again.".to_owned();
        answer.recv_timeout(PATIENCE).map_or(Err(busy), |answer| answer)
    }
}

/// Whether a workload is where it is wanted, or cannot come there; `None` while it is on its way.
fn verdict(observed: &Observed, level: Level) -> Option<Result<String, String>> {
    match (observed.state, level) {
        (_, Level::Full) if observed.level == Level::Full => Some(Ok(observed.reason.clone())),
        // The SDK that was in it comes out first.
        (_, Level::Network) if observed.level == Level::Full => None,
        (State::Capturing | State::Partly, Level::Network)
        | (State::Discovered, Level::Off)
        | (State::Stopped, _) => Some(Ok(observed.reason.clone())),
        (
            State::Unsupported | State::Failed | State::Blocked | State::Conflict,
            Level::Network | Level::Full,
        )
        | (State::Unhealthy | State::Drifted, Level::Full) => Some(Err(observed.reason.clone())),
        _ => None,
    }
}
