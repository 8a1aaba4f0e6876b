//! From what is wanted to what is done: a pure function of wishes, facts and time.
//!
//! Which way a workload goes is decided by the table of `contract::reconcile`; here is what it is
//! asked with, what follows for each process, and the sentence that people read.

use crate::ceilings::Ceilings;
use crate::registry::{Running, Workload};
use contract::capture::{Level, State};
use contract::reconcile::{self as table, Feature, Found, MAX_TRIES, Outcome};
use contract::step::Change;
use contract::workload::Key;
use std::collections::BTreeMap;
use wire::Moment;

/// What this node can do, and may do.
#[derive(Debug, Clone)]
pub(crate) struct Ability {
    /// Why nothing can be captured, and what to do; `None` when capture works.
    pub(crate) missing: Option<String>,
    /// What this node's own configuration forbids.
    pub(crate) ceilings: Ceilings,
    /// Whether everything here comes from a recording.
    pub(crate) recorded: bool,
}

/// A process that we asked the kernel to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watch {
    /// Start of the process, in ticks since boot.
    pub(crate) start_ticks: u64,
    pub(crate) progress: Progress,
    /// Why some of its calls cannot be read, as far as its traffic showed.
    pub(crate) unreadable: Option<&'static str>,
    /// Tries that failed.
    pub(crate) failures: u32,
}

/// How far watching a process has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Asked for, not answered.
    Asked,
    /// Probes stand in these libraries; none, when the process has no library that we can read, or
    /// when the kernel refused, for the reason that it gave.
    Attached { libraries: Vec<String>, refused: Option<String> },
    /// Refused; to be tried again, unless it was too often.
    Failed { error: String, again_at: Moment },
}

/// A planned change, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
    pub(crate) action: Action,
    pub(crate) reason: &'static str,
}

/// What to do with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Watch,
    Unwatch,
}

/// Where a workload stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) level: Level,
    pub(crate) state: State,
    pub(crate) reason: String,
}

/// Workloads, wishes for them, and the processes that are watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) workloads: &'a BTreeMap<Key, Workload>,
    pub(crate) desired: &'a BTreeMap<Key, Level>,
    pub(crate) watches: &'a BTreeMap<u32, Watch>,
    pub(crate) ability: &'a Ability,
}

impl Watch {
    /// A watch that was just asked for.
    pub(crate) fn asked(start_ticks: u64) -> Self {
        Self { start_ticks, progress: Progress::Asked, unreadable: None, failures: 0 }
    }
}

impl Watch {
    /// Whether it failed so often that only a person can help.
    pub(crate) fn is_given_up(&self) -> bool {
        self.failures >= MAX_TRIES
    }
}

/// The changes that lead from what is to what is wanted; none when all is as it should be.
pub(crate) fn plan(world: World<'_>, now: Moment) -> Vec<Step> {
    let wanted = wanted(world);
    let mut steps = Vec::new();
    for (pid, watch) in world.watches {
        let reason = match wanted.get(pid) {
            Some(running) if running.program.start_ticks == watch.start_ticks => continue,
            Some(_) => "its id belongs to another process now",
            None => "its workload is not to be captured",
        };
        steps.push(Step {
            pid: *pid,
            start_ticks: watch.start_ticks,
            action: Action::Unwatch,
            reason,
        });
    }
    for (pid, running) in wanted {
        let start_ticks = running.program.start_ticks;
        let watch = world.watches.get(&pid).filter(|watch| watch.start_ticks == start_ticks);
        let reason = match watch.map(|watch| &watch.progress) {
            None => "its workload is to be captured",
            Some(Progress::Failed { again_at, .. })
                if *again_at <= now && watch.is_some_and(|watch| !watch.is_given_up()) =>
            {
                "the last try failed"
            }
            Some(Progress::Asked | Progress::Attached { .. } | Progress::Failed { .. }) => continue,
        };
        steps.push(Step { pid, start_ticks, action: Action::Watch, reason });
    }
    steps
}

/// When a failed step is due for its next try.
pub(crate) fn next_try(world: World<'_>) -> Option<Moment> {
    let again = |watch: &Watch| match watch.progress {
        Progress::Failed { again_at, .. } if !watch.is_given_up() => Some(again_at),
        Progress::Asked | Progress::Attached { .. } | Progress::Failed { .. } => None,
    };
    world.watches.values().filter_map(again).min()
}

fn wanted<'a>(world: World<'a>) -> BTreeMap<u32, &'a Running> {
    let is_wanted = |key: &Key, workload: &Workload| {
        world.desired.get(key).copied().unwrap_or_default() >= Level::Network
            && forbidden(world, key, workload).is_none()
            && world.ability.missing.is_none()
            && !world.ability.recorded
    };
    let of_workload = |(_, workload): (&'a Key, &'a Workload)| {
        workload.instances.iter().map(|(pid, running)| (*pid, running))
    };
    world.workloads.iter().filter(|(key, it)| is_wanted(key, it)).flat_map(of_workload).collect()
}

/// Why this node's own configuration forbids to capture a workload.
fn forbidden(world: World<'_>, key: &Key, workload: &Workload) -> Option<String> {
    world.ability.ceilings.forbids_capture(key, workload.platform, &workload.attributes)
}

/// What the table of wishes is asked about a workload.
fn case(desired: Level, found: Found, is_allowed: bool) -> table::Case {
    table::Case {
        feature: Feature::Network,
        // What came to be forbidden while it was on is ended like what is not wanted any more.
        wanted: Some(desired >= Level::Network && (is_allowed || found != Found::Ours)),
        found,
        is_allowed,
        is_under_way: false,
        // Each process is tried for itself; `capturing` says what became of that.
        failures: 0,
        failed_at: 0,
    }
}

/// Where a workload stands, in words for people.
pub(crate) fn standing(world: World<'_>, key: &Key, workload: &Workload) -> Standing {
    let is = |level, state, reason: &str| Standing { level, state, reason: reason.to_owned() };
    let desired = world.desired.get(key).copied().unwrap_or_default();
    let is_attached = |(_, watch): &Seen<'_>| match watch.map(|watch| &watch.progress) {
        Some(Progress::Attached { libraries, .. }) => !libraries.is_empty(),
        Some(Progress::Asked | Progress::Failed { .. }) | None => false,
    };
    let (attached, rest): (Vec<_>, Vec<_>) = instances(world, workload).partition(is_attached);
    let level = if attached.is_empty() { Level::Off } else { Level::Network };
    if world.ability.recorded {
        return is(
            Level::Off,
            State::Recorded,
            "Played from a recording; there is nothing to switch.",
        );
    }
    let forbidden = forbidden(world, key, workload);
    let found = match () {
        () if workload.instances.is_empty() => Found::Stopped,
        () if !attached.is_empty() => Found::Ours,
        () if world.ability.missing.is_some() => Found::Unsupported,
        () => Found::Off,
    };
    match table::reconcile(&case(desired, found, forbidden.is_none()), 0) {
        Outcome::Rest { state: State::Stopped, .. } => {
            let reason = match desired {
                Level::Off => "No process of it runs.",
                Level::Network | Level::Full => {
                    "No process of it runs; capture begins when one starts."
                }
            };
            is(Level::Off, State::Stopped, reason)
        }
        Outcome::Rest { state: State::Discovered, .. } => is(
            level,
            State::Discovered,
            "Seen to talk to a model; nothing is captured. Switch it to Network to see its calls.",
        ),
        Outcome::Rest { state: State::Blocked, reason } => {
            is(level, State::Blocked, forbidden.as_deref().unwrap_or(reason))
        }
        Outcome::Rest { state: State::Unsupported, reason } => {
            is(level, State::Unsupported, world.ability.missing.as_deref().unwrap_or(reason))
        }
        Outcome::Act { change: Change::Uninstrument, .. } => {
            is(level, State::Pending, "Capture is being switched off.")
        }
        Outcome::Act { .. } | Outcome::Wait { .. } | Outcome::Rest { .. } => {
            capturing(workload, &attached, &rest)
        }
    }
}

type Seen<'a> = (&'a Running, Option<&'a Watch>);

fn instances<'a>(world: World<'a>, workload: &'a Workload) -> impl Iterator<Item = Seen<'a>> {
    workload.instances.iter().map(move |(pid, running)| {
        let watch =
            world.watches.get(pid).filter(|watch| watch.start_ticks == running.program.start_ticks);
        (running, watch)
    })
}

/// The state of a workload that is wanted, allowed and running.
fn capturing(workload: &Workload, attached: &[Seen<'_>], rest: &[Seen<'_>]) -> Standing {
    let level = if attached.is_empty() { Level::Off } else { Level::Network };
    let is = |state, reason: String| Standing { level, state, reason };
    // A shell or a supervisor beside the program that talks is nothing to worry about.
    let trouble =
        rest.iter().find_map(|(running, watch)| match watch.map(|watch| &watch.progress) {
            Some(Progress::Failed { error, .. }) => {
                let next = match watch.is_some_and(Watch::is_given_up) {
                    true => "given up after eight tries, set it again to try once more",
                    false => "trying again",
                };
                let pid = running.program.instance.pid;
                Some((State::Failed, format!("Cannot watch process {pid}: {error}; {next}.")))
            }
            Some(Progress::Attached { refused: Some(refused), .. }) => Some((
                State::Failed,
                format!(
                    "No probe could be placed in process {}: {refused}.",
                    running.program.instance.pid
                ),
            )),
            Some(Progress::Attached { .. }) if running.talks => {
                Some((State::Unsupported, unreadable(running)))
            }
            _ => None,
        });
    let unreadable =
        attached.iter().find_map(|(_, watch)| watch.and_then(|watch| watch.unreadable));
    let is_pending =
        |watch: &Option<&Watch>| watch.is_none_or(|watch| watch.progress == Progress::Asked);
    let pending = rest.iter().any(|(_, watch)| is_pending(watch));
    match (attached.len(), trouble) {
        (0, Some((state, reason))) => is(state, reason),
        (0, None) if pending => is(State::Pending, "Probes are being attached.".to_owned()),
        (0, None) => is(
            State::Unsupported,
            "No process of it has loaded OpenSSL so far; capture begins by itself when one does."
                .to_owned(),
        ),
        (read, Some((_, reason))) => is(
            State::Partly,
            format!("Reading {read} of {} processes. {reason}", workload.instances.len()),
        ),
        (_, None) if unreadable.is_some() => {
            is(State::Partly, unreadable.unwrap_or_default().to_owned())
        }
        (1, None) => is(State::Capturing, "Reading its model calls.".to_owned()),
        (read, None) => {
            is(State::Capturing, format!("Reading the model calls of {read} processes."))
        }
    }
}

/// Why a process that talks TLS cannot be read.
fn unreadable(running: &Running) -> String {
    let runtime = running.program.instance.runtime.as_ref().map(|runtime| runtime.name.as_str());
    match (runtime, &running.program.instance.tls) {
        (Some("go"), _) => "It is a Go program, whose own TLS cannot be read yet; only OpenSSL can.".to_owned(),
        (Some("openjdk"), _) => "It is a Java program, whose own TLS cannot be read yet; only OpenSSL can.".to_owned(),
        (Some("deno"), _) => "Deno carries rustls, which cannot be read yet; only OpenSSL can.".to_owned(),
        (Some("bun"), _) => "Bun carries a stripped BoringSSL, which cannot be read yet; only OpenSSL can.".to_owned(),
        (_, Some(tls)) => format!("No probe could be placed in its TLS library ({tls})."),
        (_, None) => "No OpenSSL was found in this process; reading Go, rustls, Java and stripped programs is not supported yet.".to_owned(),
    }
}

#[cfg(test)]
mod tests;
