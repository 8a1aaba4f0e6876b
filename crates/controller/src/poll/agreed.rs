//! What is agreed with the dashboard, as both threads of the poll know it.

use super::agreement::Agreement;
use contract::poll::Refused;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use wire::Moment;

/// Refusals that are remembered, so that each is said once.
const MAX_REFUSED: usize = 256;

/// What is agreed with the dashboard, as both threads know it.
#[derive(Debug, Default)]
pub(crate) struct Agreed {
    pub(super) state: Mutex<State>,
    /// Held from the judgement of an answer until the loop has it: two threads judge, and what the
    /// one takes over later must not arrive before what the other took over first.
    pub(super) handing_over: Mutex<()>,
    /// Set when the token was refused before the dashboard ever took it.
    pub(super) is_stranger: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) agreement: Option<Agreement>,
    /// Protocol of the last answer; 0 before the first.
    pub(super) protocol: u32,
    /// Whether the next report has to carry everything.
    pub(super) wants_all: bool,
    /// When the last answer came.
    pub(super) answered_at: Option<Moment>,
    /// Why there is none just now.
    pub(super) trouble: Option<String>,
    /// What of our reports the dashboard did not take, and why.
    pub(super) refused: BTreeMap<String, String>,
}

/// How the poll stands, for `sonde controller status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Standing {
    /// Protocol that both sides speak; 0 before the first answer.
    pub(crate) protocol: u32,
    /// Generation of the wishes that hold.
    pub(crate) generation: u64,
    /// Seconds since the last answer; absent before the first.
    pub(crate) last_answer_seconds: Option<u64>,
    /// Why there is no answer just now, and what to do.
    pub(crate) trouble: Option<String>,
    /// What of the reports the dashboard did not take, and why.
    pub(crate) refused: BTreeMap<String, String>,
}

impl Agreed {
    /// Whether the dashboard refused our token, and no dashboard ever accepted us.
    pub(crate) fn is_stranger(&self) -> bool {
        self.is_stranger.load(Ordering::SeqCst)
    }

    /// The next report carries everything.
    pub(crate) fn want_all(&self) {
        self.state().wants_all = true;
    }

    /// How the poll stands.
    pub(crate) fn standing(&self, generation: u64, now: Moment) -> Standing {
        let state = self.state();
        Standing {
            protocol: state.protocol,
            generation,
            last_answer_seconds: state
                .answered_at
                .map(|at| now.0.saturating_sub(at.0) / 1_000_000_000),
            trouble: state.trouble.clone(),
            refused: state.refused.clone(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is agreed; at first, the wishes that were on disk.
    pub(super) fn agreement(&mut self, generation: u64) -> &mut Agreement {
        self.agreement.get_or_insert_with(|| Agreement::of(generation))
    }

    /// Says once what the dashboard did not take over, and why.
    pub(super) fn note_refused(&mut self, refused: &[Refused]) {
        for one in refused {
            if self.refused.get(&one.key) == Some(&one.reason) || self.refused.len() >= MAX_REFUSED
            {
                continue;
            }
            tracing::warn!(
                key = one.key,
                reason = one.reason,
                "the dashboard did not take this over"
            );
            self.refused.insert(one.key.clone(), one.reason.clone());
        }
    }
}
