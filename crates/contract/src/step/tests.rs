//! Random interleavings of both halves: at most one effect, at least one attempt, the last wish
//! wins.

use super::journal::{Journal, Verdict};
use super::lease::{End, Heard, LEASE_NANOS, Lease, MAX_ATTEMPTS};
use super::{Change, Phase, Progress, Step};
use crate::workload::Key;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
use std::collections::BTreeMap;

const DAY: u64 = 86_400_000_000_000;

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    /// A person wants something of a workload.
    Want { key: u8, on: bool },
    /// A person takes a step back.
    Cancel(u8),
    /// The node polls, and is answered; either half of it may be lost.
    Poll { report_lost: bool, answer_lost: bool },
    /// An answer that was under way arrives, or arrives and will once more, in any order.
    Arrive { which: u8, again: bool },
    /// The node takes up what it began, and is killed at this point, where there is one.
    Work { killed: Option<Killed> },
    /// Time passes.
    Pass { leases: u8 },
}

#[derive(Debug, Clone, Copy)]
enum Killed {
    BeforeEffect,
    AfterEffect,
}

fn event() -> impl Strategy<Value = Event> {
    let killed = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Killed::BeforeEffect)),
        1 => Just(Some(Killed::AfterEffect)),
    ];
    prop_oneof![
        2 => (0..3_u8, any::<bool>()).prop_map(|(key, on)| Event::Want { key, on }),
        1 => any::<u8>().prop_map(Event::Cancel),
        4 => (any::<bool>(), any::<bool>())
            .prop_map(|(report_lost, answer_lost)| Event::Poll { report_lost, answer_lost }),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(which, again)| Event::Arrive { which, again }),
        4 => killed.prop_map(|killed| Event::Work { killed }),
        2 => (0..3_u8).prop_map(|leases| Event::Pass { leases }),
    ]
}

/// What the dashboard answers to a poll.
#[derive(Debug, Clone, Default)]
struct Answer {
    steps: Vec<Step>,
    cancelled: Vec<String>,
    acknowledged: Vec<String>,
}

/// Both ends, the network between them, and the world that steps change.
#[derive(Default)]
struct Model {
    now: u64,
    wishes: BTreeMap<u8, (u64, bool)>,
    generation: u64,
    leases: BTreeMap<String, (Step, Lease)>,
    network: Vec<Answer>,
    journal: Journal,
    running: Vec<Step>,
    effects: BTreeMap<String, u32>,
    world: BTreeMap<u8, bool>,
}

impl Model {
    fn want(&mut self, key: u8, on: bool) {
        self.generation += 1;
        self.wishes.insert(key, (self.generation, on));
        self.issue(key);
    }

    /// A step for the newest wish, and nothing for older ones.
    fn issue(&mut self, key: u8) {
        let (generation, on) = self.wishes[&key];
        let place = Key(key.to_string());
        for (step, lease) in self.leases.values_mut() {
            if step.key.as_ref() == Some(&place) {
                lease.cancel();
            }
        }
        let id = format!("{generation}-{}", self.leases.len());
        let step = Step {
            id: id.clone(),
            key: Some(place),
            change: if on { Change::Instrument } else { Change::Uninstrument },
            reason: String::new(),
            actor: String::new(),
            generation,
            attempt: 0,
            lease_seconds: 0,
            deadline_seconds: 0,
        };
        self.leases.insert(id, (step, Lease::new(self.now + DAY)));
    }

    /// What the dashboard does with a report, and answers.
    fn poll(&mut self) -> Answer {
        let mut answer = Answer::default();
        for told in self.journal.untold() {
            let Some((_, lease)) = self.leases.get_mut(&told.id) else { continue };
            match lease.hear(told.phase, self.now) {
                Heard::Late if told.phase.is_end() => answer.acknowledged.push(told.id.clone()),
                Heard::Late | Heard::Extended => {}
                Heard::Ended(_) => answer.acknowledged.push(told.id.clone()),
            }
        }
        for (step, lease) in self.leases.values_mut() {
            lease.expire(self.now);
            if lease.cancelled && lease.end.is_none() {
                answer.cancelled.push(step.id.clone());
            }
            if let Some(attempt) = lease.lend(self.now) {
                answer.steps.push(Step { attempt, ..step.clone() });
            }
        }
        answer
    }

    fn arrive(&mut self, answer: &Answer) {
        for id in &answer.cancelled {
            self.journal.cancel(id);
        }
        for step in &answer.steps {
            if self.journal.begin(step) == Verdict::Begin {
                self.running.push(step.clone());
            }
        }
        self.journal.acknowledge(&answer.acknowledged);
    }

    fn work(&mut self, killed: Option<Killed>) {
        if self.running.is_empty() {
            return;
        }
        let step = self.running.remove(0);
        if !matches!(killed, Some(Killed::BeforeEffect)) {
            *self.effects.entry(step.id.clone()).or_default() += 1;
            let key = step.key.as_ref().unwrap().0.parse().unwrap();
            self.world.insert(key, step.change == Change::Instrument);
        }
        if killed.is_some() {
            // Only the journal is on disk.
            self.running.clear();
            self.journal.interrupt();
            return;
        }
        self.journal.finish(Progress::new(&step.id, Phase::Done, ""));
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Want { key, on } => self.want(key, on),
            Event::Cancel(which) => {
                let count = self.leases.len().max(1);
                if let Some((_, lease)) = self.leases.values_mut().nth(usize::from(which) % count) {
                    lease.cancel();
                }
            }
            Event::Poll { report_lost: true, .. } => {}
            Event::Poll { answer_lost, .. } => {
                let answer = self.poll();
                if !answer_lost {
                    self.network.push(answer);
                }
            }
            Event::Arrive { which, again } => {
                if self.network.is_empty() {
                    return;
                }
                let which = usize::from(which) % self.network.len();
                let answer = self.network[which].clone();
                if !again {
                    self.network.remove(which);
                }
                self.arrive(&answer);
            }
            Event::Work { killed } => self.work(killed),
            Event::Pass { leases } => self.now += u64::from(leases) * LEASE_NANOS,
        }
    }

    /// From here on nothing fails; whoever wanted something is given it.
    fn settle(&mut self) {
        for _ in 0..=MAX_ATTEMPTS * 4 {
            self.now += LEASE_NANOS;
            let answer = self.poll();
            self.arrive(&answer);
            while !self.running.is_empty() {
                self.work(None);
            }
            let answer = self.poll();
            self.arrive(&answer);
            // Reconciling: what is observed is not what is wanted, and no step is under way.
            let wishes: Vec<_> = self.wishes.iter().map(|(key, wish)| (*key, wish.1)).collect();
            for (key, on) in wishes {
                let place = Key(key.to_string());
                let is_under_way = self
                    .leases
                    .values()
                    .any(|(step, lease)| step.key.as_ref() == Some(&place) && lease.end.is_none());
                if !is_under_way && self.world.get(&key) != Some(&on) {
                    self.issue(key);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn at_most_one_effect_at_least_one_attempt_and_the_last_wish_wins(
        events in prop::collection::vec(event(), 1..80)
    ) {
        let mut model = Model::default();
        for event in &events {
            model.happen(event);
            let is_once = model.effects.values().all(|effects| *effects <= 1);
            prop_assert!(is_once, "a step had two effects");
        }
        model.settle();
        for (id, (_, lease)) in &model.leases {
            prop_assert!(lease.end.is_some(), "{id} never ended: {lease:?}");
            let is_attempted = lease.attempts > 0 || lease.cancelled;
            prop_assert!(is_attempted, "{id} was never attempted: {lease:?}");
            prop_assert!(model.effects.get(id).copied().unwrap_or(0) <= 1, "{id} twice");
            if lease.end == Some(End::Done) {
                prop_assert_eq!(model.effects.get(id), Some(&1), "{} said done", id);
            }
        }
        for (key, (_, on)) in &model.wishes {
            prop_assert_eq!(model.world.get(key), Some(on), "the last wish for {}", key);
        }
        prop_assert_eq!(model.journal.untold().count(), 0, "all results were acknowledged");
    }
}

#[test]
fn a_step_that_nobody_takes_expires_and_a_silent_node_is_not_asked_for_ever() {
    let mut lease = Lease::new(DAY);
    assert_eq!(lease.expire(DAY - 1), None);
    assert_eq!(lease.expire(DAY), Some(End::Expired));
    let mut lease = Lease::new(DAY);
    let mut now = 0;
    for attempt in 1..=MAX_ATTEMPTS {
        assert_eq!(lease.lend(now), Some(attempt));
        assert_eq!(lease.lend(now), None, "it is lent");
        assert_eq!(lease.expire(now), None);
        now = lease.due().unwrap();
    }
    assert_eq!(lease.lend(now), None);
    assert_eq!(lease.expire(now), Some(End::Expired));
    assert_eq!(lease.hear(Phase::Done, now), Heard::Late);
}

#[test]
fn taking_back_ends_a_step_only_where_nobody_can_have_begun_it() {
    let mut lease = Lease::new(DAY);
    assert_eq!(lease.cancel(), Some(End::Cancelled));
    let mut lease = Lease::new(DAY);
    lease.lend(0);
    assert_eq!(lease.cancel(), None);
    assert_eq!(lease.lend(LEASE_NANOS), None, "it is not lent again");
    assert_eq!(lease.hear(Phase::Done, 1), Heard::Ended(End::Done), "it was begun, and is done");
}

#[test]
fn a_node_that_says_that_it_is_at_it_keeps_the_step() {
    let mut lease = Lease::new(1_000 * SECOND);
    assert_eq!(lease.lend(0), Some(1));
    assert_eq!(lease.hear(Phase::Running, 70 * SECOND), Heard::Extended);
    assert_eq!(lease.lend(100 * SECOND), None, "it would be taken twice");
    assert_eq!(lease.lend(70 * SECOND + LEASE_NANOS), Some(2), "nobody hears of it any more");
}

#[test]
fn a_step_that_runs_beyond_its_deadline_ends_when_nobody_hears_of_it() {
    let mut lease = Lease::new(60 * SECOND);
    assert_eq!(lease.lend(0), Some(1));
    assert_eq!(lease.hear(Phase::Running, 59 * SECOND), Heard::Extended);
    assert_eq!(lease.expire(100 * SECOND), None, "it may still be done");
    assert_eq!(lease.expire(59 * SECOND + LEASE_NANOS), Some(End::Expired));
}
