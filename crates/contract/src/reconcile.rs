//! The table that leads from what is wanted of a workload and what is observed of it to the one
//! next thing: a change, a pause, or a named state that a person understands.
//!
//! A pure function of values. The node asks it for itself; the dashboard asks it for nodes that do
//! not plan themselves. Moments are nanoseconds on any one clock that only goes forward: each caller
//! has its own.

use crate::capture::State;
use crate::step::Change;

/// Tries of a change before it is given up until somebody wants it anew.
pub const MAX_TRIES: u32 = 8;
/// Pause after the first failed try: five seconds; each further one doubles it.
const FIRST_PAUSE_NANOS: u64 = 5_000_000_000;
/// Longest pause between two tries: ten minutes.
const LONGEST_PAUSE_NANOS: u64 = 600_000_000_000;

/// What can be wanted of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Model calls, read in the kernel.
    Network,
    /// An SDK within the program.
    Agent,
}

impl Feature {
    /// The change that brings it about, or ends it.
    pub fn change(self, on: bool) -> Change {
        match (self, on) {
            (Self::Network, true) => Change::Instrument,
            (Self::Network, false) => Change::Uninstrument,
            (Self::Agent, true) => Change::EnableSdk,
            (Self::Agent, false) => Change::DisableSdk,
        }
    }
}

/// What is observed of a feature of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Found {
    /// It is off.
    Off,
    /// It is on, and we did it.
    Ours,
    /// Something else is in the way, such as another SDK.
    Conflict,
    /// It cannot be done here.
    Unsupported,
    /// It was on, and somebody took it out by other means: kubectl, docker, systemctl, a `GitOps`
    /// controller.
    Reverted,
    /// It was on, and the workload did not come up healthy; it was rolled back.
    Unhealthy,
    /// No instance runs.
    Stopped,
}

/// All that is asked about one feature of one workload.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Which feature.
    pub feature: Feature,
    /// What is wanted; `None` when nobody ever said.
    pub wanted: Option<bool>,
    /// What is observed.
    pub found: Found,
    /// Whether the node's own configuration allows it.
    pub is_allowed: bool,
    /// Whether a change of it is under way.
    pub is_under_way: bool,
    /// Tries that failed since the wish was made; [`MAX_TRIES`] are an end.
    pub failures: u32,
    /// When the last one failed; says nothing while none did.
    pub failed_at: u64,
}

/// The one next thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Take this change.
    Act {
        /// Which one.
        change: Change,
        /// Why, in one sentence.
        reason: &'static str,
    },
    /// Nothing to do before that time.
    Wait {
        /// When to ask again, on the clock of the caller.
        until: u64,
        /// State to show meanwhile.
        state: State,
        /// Why, in one sentence.
        reason: &'static str,
    },
    /// Nothing to do until something changes.
    Rest {
        /// State to show.
        state: State,
        /// Why, and what a person can do.
        reason: &'static str,
    },
}

/// The one next thing for a case: the rows of the table, the first that fits.
pub fn reconcile(case: &Case, now: u64) -> Outcome {
    let rest = |state, reason| Outcome::Rest { state, reason };
    if case.is_under_way {
        let until = now.saturating_add(LONGEST_PAUSE_NANOS);
        return Outcome::Wait { until, state: State::Pending, reason: "The node is at it." };
    }
    match (case.wanted.unwrap_or(false), case.found) {
        (true, Found::Ours) => rest(State::Capturing, "In effect."),
        (false, Found::Ours) => attempt(case, false, "It is not wanted any more.", now),
        (_, Found::Stopped) => rest(State::Stopped, "No instance runs."),
        (false, _) => rest(State::Discovered, "Nothing is wanted."),
        (true, _) if !case.is_allowed => rest(
            State::Blocked,
            "The node's own configuration forbids it; raise its ceiling there.",
        ),
        (true, Found::Conflict) => rest(
            State::Conflict,
            "Another SDK is in the program already; take that out, or leave this off.",
        ),
        (true, Found::Unsupported) => {
            rest(State::Unsupported, "It cannot be done for this program.")
        }
        (true, Found::Reverted) => rest(
            State::Drifted,
            "Somebody took it out by other means, and that is respected; set it again to put it \
             back in.",
        ),
        (true, Found::Unhealthy) => rest(
            State::Unhealthy,
            "The program did not come up healthy with it, and was put back as it was; look at its \
             log, then set it again.",
        ),
        (true, Found::Off) => attempt(case, true, "It is wanted.", now),
    }
}

/// A change, with a growing pause after each failure, and an end.
fn attempt(case: &Case, on: bool, reason: &'static str, now: u64) -> Outcome {
    if case.failures >= MAX_TRIES {
        let reason = "Given up after eight tries; set it again to try once more.";
        return Outcome::Rest { state: State::Failed, reason };
    }
    let until = case.failed_at.saturating_add(pause(case.failures));
    if case.failures > 0 && now < until {
        let reason = "The last try failed; it is tried again in a while.";
        return Outcome::Wait { until, state: State::Failed, reason };
    }
    Outcome::Act { change: case.feature.change(on), reason }
}

/// How long to wait after so many failures, in nanoseconds: five seconds after the first, twice as
/// long after each further one, at most ten minutes.
pub fn pause(failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(20);
    FIRST_PAUSE_NANOS.saturating_mul(1 << doublings).min(LONGEST_PAUSE_NANOS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Found; 7] = [
        Found::Off,
        Found::Ours,
        Found::Conflict,
        Found::Unsupported,
        Found::Reverted,
        Found::Unhealthy,
        Found::Stopped,
    ];

    fn case(wanted: Option<bool>, found: Found) -> Case {
        Case {
            feature: Feature::Agent,
            wanted,
            found,
            is_allowed: true,
            is_under_way: false,
            failures: 0,
            failed_at: 0,
        }
    }

    fn state(case: &Case) -> State {
        match reconcile(case, 0) {
            Outcome::Rest { state, .. } | Outcome::Wait { state, .. } => state,
            Outcome::Act { .. } => State::Pending,
        }
    }

    #[test]
    fn changes_are_made_only_where_they_lead_to_the_wish() {
        for found in ALL {
            for wanted in [None, Some(false), Some(true)] {
                let change = match reconcile(&case(wanted, found), 0) {
                    Outcome::Act { change, .. } => Some(change),
                    Outcome::Rest { .. } | Outcome::Wait { .. } => None,
                };
                let expected = match (wanted, found) {
                    (Some(true), Found::Off) => Some(Change::EnableSdk),
                    (None | Some(false), Found::Ours) => Some(Change::DisableSdk),
                    _ => None,
                };
                assert_eq!(change, expected, "{wanted:?} {found:?}");
            }
        }
        let network = Case { feature: Feature::Network, ..case(Some(true), Found::Off) };
        let outcome = reconcile(&network, 0);
        assert!(matches!(outcome, Outcome::Act { change: Change::Instrument, .. }));
        let under_way = Case { is_under_way: true, ..network };
        assert_eq!(state(&under_way), State::Pending);
        assert!(matches!(reconcile(&under_way, 0), Outcome::Wait { .. }));
    }

    #[test]
    fn each_obstacle_has_a_name() {
        for (found, named) in [
            (Found::Ours, State::Capturing),
            (Found::Conflict, State::Conflict),
            (Found::Unsupported, State::Unsupported),
            (Found::Reverted, State::Drifted),
            (Found::Unhealthy, State::Unhealthy),
            (Found::Stopped, State::Stopped),
        ] {
            assert_eq!(state(&case(Some(true), found)), named, "{found:?}");
        }
        let forbidden = Case { is_allowed: false, ..case(Some(true), Found::Off) };
        assert_eq!(state(&forbidden), State::Blocked);
        let forbidden = Case { wanted: Some(false), found: Found::Ours, ..forbidden };
        assert_eq!(state(&forbidden), State::Pending, "ending it is always allowed");
    }

    #[test]
    fn failures_are_spaced_and_come_to_an_end() {
        let mut case = case(Some(true), Found::Off);
        let mut now = 0;
        let mut tries = 0;
        loop {
            match reconcile(&case, now) {
                Outcome::Act { .. } => {
                    tries += 1;
                    case.failures += 1;
                    case.failed_at = now;
                }
                Outcome::Wait { until, .. } => {
                    assert!(until > now && until - now <= LONGEST_PAUSE_NANOS);
                    now = until;
                }
                Outcome::Rest { state, .. } => {
                    assert_eq!(state, State::Failed);
                    break;
                }
            }
        }
        assert_eq!(tries, MAX_TRIES);
        assert_eq!(pause(1), FIRST_PAUSE_NANOS);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE_NANOS);
    }
}
