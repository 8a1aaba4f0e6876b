//! Steps over crashes, duplicates, reorder and a full disk.

use super::*;
use contract::step::Change;
use contract::workload::Key;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;

pub(super) fn step(id: &str, generation: u64) -> Step {
    Step {
        id: id.to_owned(),
        key: Some(Key("k".to_owned())),
        change: Change::Instrument,
        reason: "because".to_owned(),
        actor: "alice".to_owned(),
        generation,
        attempt: 1,
        lease_seconds: 75,
        deadline_seconds: 60,
    }
}

fn open(directory: &Path) -> Steps {
    Steps::open(directory, Standings::default())
}

fn now() -> Moment {
    Now::read().monotonic
}

/// Takes all that waits.
fn take_all(steps: &Steps, take: impl Fn(&Step) -> Outcome) {
    loop {
        let next = steps.state().waiting.pop_front();
        let Some((step, until)) = next else { return };
        steps.step(&step, until, Now::read(), &take);
    }
}

fn phase(steps: &Steps, id: &str) -> Option<Phase> {
    steps.untold().into_iter().find(|progress| progress.id == id).map(|progress| progress.phase)
}

#[test]
fn a_step_that_comes_twice_has_one_effect_and_is_told_until_it_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let steps = open(directory.path());
    let count = RefCell::new(0);
    let take = |_: &Step| {
        *count.borrow_mut() += 1;
        Outcome::done("In effect.", "network: off -> network")
    };
    for _ in 0..3 {
        steps.offer(vec![step("a", 1), step("a", 1)], now());
        take_all(&steps, take);
    }
    assert_eq!((*count.borrow(), phase(&steps, "a")), (1, Some(Phase::Done)));
    let again = open(directory.path());
    assert_eq!(phase(&again, "a"), Some(Phase::Done), "the result is on disk");
    again.acknowledge(&["a".to_owned()]);
    again.offer(vec![step("a", 1)], now());
    take_all(&again, take);
    assert_eq!((*count.borrow(), phase(&again, "a")), (1, None));
    let lines = log::lines(directory.path());
    assert_eq!((lines.len(), lines[0]["phase"].as_str()), (2, Some("running")));
    assert_eq!(
        (lines[1]["actor"].as_str(), lines[1]["why"].as_str()),
        (Some("alice"), Some("because"))
    );
    assert_eq!(lines[1]["change"], "network: off -> network");
}

#[test]
fn a_step_that_was_under_way_at_a_crash_is_said_to_be_interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let steps = open(directory.path());
    let crashed = RefCell::new(None);
    steps.offer(vec![step("a", 1)], now());
    take_all(&steps, |_| {
        // What a controller finds that is started now, after a SIGKILL in the middle.
        *crashed.borrow_mut() = Some(open(directory.path()));
        Outcome::failed("never heard of")
    });
    let after = crashed.into_inner().unwrap();
    assert_eq!(phase(&after, "a"), Some(Phase::Interrupted));
    after.offer(vec![step("a", 1)], now());
    take_all(&after, |_| unreachable!("it is not taken again"));
}

#[test]
fn one_that_is_late_or_taken_back_or_overtaken_is_not_begun() {
    let directory = tempfile::tempdir().unwrap();
    let steps = open(directory.path());
    let taken = RefCell::new(Vec::new());
    let take = |step: &Step| {
        taken.borrow_mut().push(step.id.clone());
        Outcome::done("", "")
    };
    steps.offer(vec![step("late", 1)], Moment(0));
    steps.offer(vec![step("back", 2), step("new", 9), step("old", 8)], now());
    steps.cancel(&["back".to_owned(), "unheard".to_owned()]);
    steps.offer(vec![step("unheard", 10)], now());
    take_all(&steps, take);
    assert_eq!(*taken.borrow(), ["new"]);
    let phases = ["late", "back", "old", "unheard"].map(|id| phase(&steps, id));
    let (refused, cancelled) = (Some(Phase::Refused), Some(Phase::Cancelled));
    assert_eq!(phases, [refused, cancelled, refused, cancelled]);
}

#[test]
fn nothing_is_changed_that_cannot_be_noted() {
    let directory = tempfile::tempdir().unwrap();
    let gone = directory.path().join("gone");
    let steps = open(&gone);
    steps.offer(vec![step("a", 1)], now());
    take_all(&steps, |_| unreachable!("its beginning is not on disk"));
    let told = steps.untold();
    assert_eq!(told[0].phase, Phase::Refused);
    assert!(told[0].reason.contains("make room"), "{}", told[0].reason);
    std::fs::create_dir(&gone).unwrap();
    steps.offer(vec![step("b", 2)], now());
    take_all(&steps, |_| Outcome::done("", ""));
    assert_eq!(phase(&steps, "b"), Some(Phase::Done), "and goes on when there is room");
}

#[test]
fn they_run_on_a_thread_of_their_own_until_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let steps = open(directory.path());
    let running = steps.clone();
    let thread = std::thread::spawn(move || running.run(|_| Outcome::done("", "")));
    steps.offer(vec![step("a", 1)], now());
    while phase(&steps, "a") != Some(Phase::Done) {
        std::thread::sleep(Duration::from_millis(2));
    }
    steps.stop();
    thread.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Steps are lent, lent again, answered, acknowledged and taken back in any order, and the
    /// controller is killed between any two writes. In one piece: each arm changes what the others
    /// go by.
    #[test]
    fn at_most_one_effect_and_at_least_one_word(
        events in prop::collection::vec((0_u8..6, 0_u64..6), 1..40),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut steps = open(directory.path());
        let effects = RefCell::new(BTreeMap::<String, u32>::new());
        let newest = RefCell::new(0);
        let killed = RefCell::new(None);
        let mut offered = std::collections::BTreeSet::new();
        let mut heard = std::collections::BTreeSet::new();
        for (event, number) in events {
            let id = format!("s{number}");
            match event {
                0 | 1 => {
                    steps.offer(vec![step(&id, number)], now());
                    offered.insert(id);
                }
                2 => take_all(&steps, |step| {
                    *effects.borrow_mut().entry(step.id.clone()).or_default() += 1;
                    assert!(step.generation >= *newest.borrow(), "the last wish wins");
                    *newest.borrow_mut() = step.generation;
                    Outcome::done("", "")
                }),
                3 => {
                    // Killed in the middle of a step, if one waits; else between two.
                    let next = steps.state().waiting.pop_front();
                    if let Some((step, until)) = next {
                        steps.step(&step, until, Now::read(), &|step: &Step| {
                            *effects.borrow_mut().entry(step.id.clone()).or_default() += 1;
                            *newest.borrow_mut() = step.generation;
                            *killed.borrow_mut() = Some(open(directory.path()));
                            Outcome::done("", "")
                        });
                    }
                    // A crash leaves what is on disk at that moment, and nothing of what came later.
                    if let Some(after) = killed.borrow_mut().take() {
                        let mut state = after.state();
                        after.write(&mut state).unwrap();
                        drop(state);
                    }
                    steps = open(directory.path());
                }
                4 => {
                    let ended: Vec<String> = steps.untold().into_iter()
                        .filter(|progress| progress.phase.is_end())
                        .map(|progress| progress.id).collect();
                    heard.extend(ended.iter().cloned());
                    steps.acknowledge(&ended);
                }
                _ => steps.cancel(&[id]),
            }
        }
        for (id, count) in effects.borrow().iter() {
            prop_assert_eq!(*count, 1, "{}", id);
        }
        // The dashboard lends what it heard nothing of again.
        for id in &offered {
            let number = id.trim_start_matches('s').parse().unwrap();
            steps.offer(vec![step(id, number)], now());
        }
        take_all(&steps, |_| Outcome::done("", ""));
        heard.extend(steps.untold().into_iter().map(|progress| progress.id));
        prop_assert!(offered.is_subset(&heard), "{offered:?} {heard:?}");
    }
}
