//! The table of cases: what is, what is wanted, what is done about it and what is said.

use super::*;
use crate::config;
use crate::registry::tests::{evidence, program};
use crate::registry::{Presence, Registry};
use contract::workload::By;

/// A node with one workload `w`; its processes are 1, 2, ….
struct Case {
    registry: Registry,
    desired: BTreeMap<Key, Level>,
    watches: BTreeMap<u32, Watch>,
    ability: Ability,
}

impl Case {
    fn new(processes: u32) -> Self {
        let mut registry = Registry::default();
        let seen = evidence("openai", By::Sni, 1);
        let first = program("w", 1, Some("libssl 3.0.17"));
        registry.sighted(&first, seen, None, Presence::Running);
        for pid in 2..=processes {
            registry.joined(&program("w", pid, None));
        }
        if processes == 0 {
            registry.left(1, 1);
        }
        let ability = Ability { missing: None, ceilings: Ceilings::default(), recorded: false };
        Self { registry, desired: BTreeMap::new(), watches: BTreeMap::new(), ability }
    }

    fn wanting(mut self, level: Level) -> Self {
        self.desired.insert(Key("w".to_owned()), level);
        self
    }

    fn watching(mut self, pid: u32, progress: Progress) -> Self {
        self.watches.insert(pid, Watch { progress, ..Watch::asked(u64::from(pid) * 100) });
        self
    }

    fn world(&self) -> World<'_> {
        World {
            workloads: self.registry.workloads(),
            desired: &self.desired,
            watches: &self.watches,
            ability: &self.ability,
        }
    }

    fn steps(&self) -> Vec<(u32, Action)> {
        plan(self.world(), Moment(1_000)).into_iter().map(|step| (step.pid, step.action)).collect()
    }

    fn standing(&self) -> Standing {
        let key = Key("w".to_owned());
        standing(self.world(), &key, &self.registry.workloads()[&key])
    }
}

fn attached() -> Progress {
    Progress::Attached { libraries: vec!["libssl.so.3".to_owned()], refused: None }
}

fn failed(again_at: u64) -> Progress {
    Progress::Failed { error: "no privilege".to_owned(), again_at: Moment(again_at) }
}

#[test]
fn nothing_is_done_that_is_not_wanted() {
    let case = Case::new(2);
    assert_eq!(case.steps(), []);
    assert_eq!((case.standing().state, case.standing().level), (State::Discovered, Level::Off));
}

#[test]
fn every_process_of_a_wanted_workload_is_watched() {
    let case = Case::new(2).wanting(Level::Network);
    assert_eq!(case.steps(), [(1, Action::Watch), (2, Action::Watch)]);
    assert_eq!(case.standing().state, State::Pending);
}

#[test]
fn what_is_watched_or_asked_for_is_left_alone() {
    let case =
        Case::new(2).wanting(Level::Network).watching(1, attached()).watching(2, Progress::Asked);
    assert_eq!(case.steps(), []);
    assert_eq!((case.standing().state, case.standing().level), (State::Capturing, Level::Network));
}

#[test]
fn a_wish_that_is_withdrawn_unwatches() {
    let case = Case::new(1).wanting(Level::Off).watching(1, attached());
    assert_eq!(case.steps(), [(1, Action::Unwatch)]);
    assert_eq!((case.standing().state, case.standing().level), (State::Pending, Level::Network));
}

#[test]
fn a_process_that_is_gone_is_unwatched() {
    let case = Case::new(1).wanting(Level::Network).watching(1, attached()).watching(9, attached());
    assert_eq!(case.steps(), [(9, Action::Unwatch)]);
}

#[test]
fn an_id_that_was_used_again_is_watched_anew() {
    let mut case = Case::new(1).wanting(Level::Network);
    case.watches.insert(1, Watch { progress: attached(), ..Watch::asked(5) });
    assert_eq!(case.steps(), [(1, Action::Unwatch), (1, Action::Watch)]);
}

#[test]
fn a_failure_is_tried_again_when_it_is_due() {
    let later = Case::new(1).wanting(Level::Network).watching(1, failed(1_001));
    assert_eq!(later.steps(), []);
    assert_eq!(next_try(later.world()), Some(Moment(1_001)));
    let standing = later.standing();
    assert_eq!((standing.state, standing.level), (State::Failed, Level::Off));
    assert!(standing.reason.contains("no privilege"), "{}", standing.reason);
    assert_eq!(
        Case::new(1).wanting(Level::Network).watching(1, failed(1_000)).steps(),
        [(1, Action::Watch)]
    );
}

#[test]
fn tries_come_to_an_end_until_a_person_wants_it_anew() {
    let mut case = Case::new(1).wanting(Level::Network).watching(1, failed(1));
    case.watches.get_mut(&1).unwrap().failures = MAX_TRIES;
    assert_eq!((case.steps(), next_try(case.world())), (vec![], None));
    let standing = case.standing();
    assert_eq!(standing.state, State::Failed);
    assert!(standing.reason.contains("given up"), "{}", standing.reason);
}

#[test]
fn one_failure_among_many_is_said() {
    let case =
        Case::new(2).wanting(Level::Network).watching(1, attached()).watching(2, failed(9_999));
    let standing = case.standing();
    assert_eq!((standing.state, standing.level), (State::Partly, Level::Network));
    assert!(
        standing.reason.contains("1 of 2") && standing.reason.contains("process 2"),
        "{}",
        standing.reason
    );
}

#[test]
fn a_program_without_a_readable_library_says_why() {
    let mut case = Case::new(1)
        .wanting(Level::Network)
        .watching(1, Progress::Attached { libraries: vec![], refused: None });
    assert_eq!(case.standing().state, State::Unsupported);
    let seen = evidence("openai", By::Sni, 1);
    case.registry.sighted(&program("w", 1, None), seen, None, Presence::Running);
    assert!(case.standing().reason.contains("No OpenSSL"), "{}", case.standing().reason);
}

#[test]
fn a_supervisor_without_tls_is_no_trouble() {
    let none = Progress::Attached { libraries: vec![], refused: None };
    let case = Case::new(2).wanting(Level::Network).watching(1, attached()).watching(2, none);
    assert_eq!(case.standing().state, State::Capturing);
}

#[test]
fn what_cannot_be_read_of_a_watched_process_is_said() {
    let mut case = Case::new(1).wanting(Level::Network).watching(1, attached());
    case.watches.get_mut(&1).unwrap().unreadable = Some("HTTP/2");
    let standing = case.standing();
    assert_eq!(
        (standing.state, standing.level, standing.reason.as_str()),
        (State::Partly, Level::Network, "HTTP/2")
    );
}

#[test]
fn a_ceiling_cannot_be_lifted_by_a_wish() {
    let mut case = Case::new(1).wanting(Level::Network).watching(1, attached());
    let ceilings = config::Ceilings { max_capture: Level::Off, ..config::Ceilings::default() };
    case.ability.ceilings = Ceilings::new(&ceilings).unwrap();
    assert_eq!(case.steps(), [(1, Action::Unwatch)]);
    assert_eq!(case.standing().state, State::Pending, "it is being switched off");
    case.watches.clear();
    assert_eq!((case.steps(), case.standing().state), (vec![], State::Blocked));
    assert!(case.standing().reason.contains("max_capture"));
}

#[test]
fn a_node_without_capture_says_what_is_missing_and_does_nothing() {
    let mut case = Case::new(1).wanting(Level::Network);
    case.ability.missing = Some("No eBPF here; run as root.".to_owned());
    assert_eq!(case.steps(), []);
    let standing = case.standing();
    assert_eq!(
        (standing.state, standing.reason.as_str()),
        (State::Unsupported, "No eBPF here; run as root.")
    );
}

#[test]
fn a_stopped_workload_keeps_its_wish() {
    let case = Case::new(0).wanting(Level::Network);
    assert_eq!(case.steps(), []);
    assert_eq!((case.standing().state, case.standing().level), (State::Stopped, Level::Off));
    assert!(case.standing().reason.contains("begins when one starts"));
}

#[test]
fn a_recording_has_nothing_to_switch() {
    let mut case = Case::new(1).wanting(Level::Network);
    case.ability.recorded = true;
    assert_eq!(case.steps(), []);
    assert_eq!(case.standing().state, State::Recorded);
}
