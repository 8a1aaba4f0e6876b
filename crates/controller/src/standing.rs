//! How things stand, for those who ask: the poll and the socket.

use contract::before::Before;
use contract::capture::Level;
use contract::poll::Desired;
use contract::workload::{Key, Observed};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// All that is known about the workloads of this node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Published {
    pub(crate) workloads: Vec<Observed>,
    /// Levels that hold, whoever wished them.
    pub(crate) desired: BTreeMap<Key, Level>,
    /// Workloads in which an SDK is wanted, with the number of the wish.
    pub(crate) full: BTreeMap<Key, u64>,
    /// Wishes of the dashboard.
    pub(crate) held: Vec<Desired>,
}

/// Shared by the event loop, which publishes, and the threads that tell others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standings(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    published: Arc<Published>,
    version: u64,
    generation: u64,
    /// Whether the dashboard is asked what was changed, and what it answered.
    asks_before: bool,
    brought_back: Option<BTreeMap<Key, Before>>,
    is_stopped: bool,
}

impl Standings {
    /// Replaces what is published, and wakes who waits for it.
    pub(crate) fn publish(&self, published: Published) {
        let mut state = self.state();
        state.published = Arc::new(published);
        state.version += 1;
        self.0.changed.notify_all();
    }

    /// Wakes who waits, with nothing new about workloads: there is something else to tell.
    pub(crate) fn nudge(&self) {
        self.state().version += 1;
        self.0.changed.notify_all();
    }

    /// Notes which generation of wishes was taken over.
    pub(crate) fn taken_over(&self, generation: u64) {
        self.state().generation = generation;
    }

    /// The generation of wishes that was taken over.
    pub(crate) fn generation(&self) -> u64 {
        self.state().generation
    }

    /// Says whether the dashboard is to be asked what was changed.
    pub(crate) fn ask_before(&self, asks: bool) {
        self.state().asks_before = asks;
    }

    /// Whether the dashboard is to be asked what was changed.
    pub(crate) fn asks_before(&self) -> bool {
        self.state().asks_before
    }

    /// What the dashboard answered to that; wakes who waits for it.
    pub(crate) fn bring_back(&self, before: BTreeMap<Key, Before>) {
        let mut state = self.state();
        if state.asks_before {
            state.brought_back = Some(before);
            state.version += 1;
            self.0.changed.notify_all();
        }
    }

    /// What was brought back, if it is news.
    pub(crate) fn brought_back(&self) -> Option<BTreeMap<Key, Before>> {
        self.state().brought_back.take()
    }

    /// What is published, with its version.
    pub(crate) fn latest(&self) -> (u64, Arc<Published>) {
        let state = self.state();
        (state.version, Arc::clone(&state.published))
    }

    /// Waits until the version is another than `known`, at most for `patience`; `false` at a stop.
    pub(crate) fn wait(&self, known: u64, patience: Duration) -> bool {
        let waiting = |state: &mut State| state.version == known && !state.is_stopped;
        let waited = self.0.changed.wait_timeout_while(self.state(), patience, waiting);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.is_stopped
    }

    /// Sleeps; `false`, at once, at a stop.
    pub(crate) fn sleep(&self, patience: Duration) -> bool {
        let waited =
            self.0.changed.wait_timeout_while(self.state(), patience, |state| !state.is_stopped);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.is_stopped
    }

    /// Wakes everybody for the last time.
    pub(crate) fn stop(&self) {
        self.state().is_stopped = true;
        self.0.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
