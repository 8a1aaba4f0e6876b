//! Turns of several controllers, with clocks, answers and lives of their own.

use super::*;
use proptest::prelude::*;

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// Takes what can be taken; the server has `table` as it was read.
fn take(known: &mut Known, key: &str, now: Duration) -> Claim {
    let claim = known.claim(key, true, now);
    if let Claim::Take(table) = &claim {
        known.wrote(table.clone(), now);
    }
    claim
}

#[test]
fn one_has_the_turn_and_others_stand_by() {
    let [mut first, mut second] = [Known::new("first"), Known::new("second")];
    assert!(matches!(take(&mut first, "a", seconds(1)), Claim::Take(_)));
    assert!(first.holds("a", seconds(10)) && !first.holds("a", seconds(11)));
    second.read(first.table.clone(), seconds(500));
    assert_eq!(second.claim("a", true, seconds(501)), Claim::Theirs("first".to_owned()));
    let released = first.release("a").unwrap();
    second.read(released, seconds(502));
    assert!(matches!(take(&mut second, "a", seconds(503)), Claim::Take(_)));
    first.read(second.table.clone(), seconds(6));
    assert!(!first.holds("a", seconds(6)), "what another one took is not ours any more");
}

#[test]
fn a_third_rollout_waits_and_one_that_replaces_nothing_does_not() {
    let mut one = Known::new("one");
    for key in ["a", "b"] {
        assert!(matches!(take(&mut one, key, seconds(1)), Claim::Take(_)));
    }
    let mut other = Known::new("other");
    other.read(one.table.clone(), seconds(1));
    assert_eq!(other.claim("c", true, seconds(2)), Claim::Full);
    assert_eq!(one.claim("c", true, seconds(2)), Claim::Full, "its own count, too");
    assert!(matches!(other.claim("c", false, seconds(2)), Claim::Take(_)));
    // Who died holds up nobody for ever.
    assert!(matches!(other.claim("c", true, seconds(16)), Claim::Take(_)));
}

#[test]
fn a_turn_is_taken_over_only_when_it_stood_still_on_the_own_clock() {
    let [mut first, mut second] = [Known::new("first"), Known::new("second")];
    take(&mut first, "a", seconds(9_000));
    second.read(first.table.clone(), seconds(0));
    first.wrote(first.renewal(seconds(9_003)).unwrap(), seconds(9_003));
    second.read(first.table.clone(), seconds(14));
    // It moved: the wait begins anew, whatever the other's clock says.
    assert_eq!(second.stand("a", seconds(28)), Stand::Theirs("first"));
    assert_eq!(second.stand("a", seconds(29)), Stand::Left("first"));
    assert!(matches!(take(&mut second, "a", seconds(29)), Claim::Take(_)));
    assert!(second.holds("a", seconds(30)));
}

#[test]
fn ends_are_remembered_for_their_wish_and_not_without_bound() {
    let mut one = Known::new("one");
    let end = End::new(7, How::RolledBack, &"x".repeat(5_000));
    one.wrote(one.ended("a", &end).unwrap(), seconds(1));
    assert_eq!(one.end("a", 7).unwrap().how, How::RolledBack);
    assert_eq!(one.end("a", 8), None, "somebody wished it anew");
    let later = End::new(7, How::Reverted, "it is not there");
    assert_eq!(one.ended("a", &later), None, "who was there says how it ended");
    assert_eq!(one.ended("a", &End::new(6, How::Reverted, "")), None, "an older one");
    for number in 0..200 {
        let end = End::new(1, How::Reverted, &"y".repeat(5_000));
        one.wrote(one.ended(&format!("k{number}"), &end).unwrap(), seconds(1));
    }
    assert_eq!(one.end("a", 7), None, "the oldest went");
    assert!(one.end("k199", 1).is_some());
    assert!(serde_json::to_string(&one.table).unwrap().len() < 128 << 10);
}

/// A controller with a clock that has an offset and a rate of its own.
struct Node {
    known: Known,
    offset: u64,
    rate: u64,
    /// The version of the table that it read.
    read: u64,
    /// When it was told to write, what, and in place of which version.
    sent: Option<(Duration, Table, u64)>,
}

impl Node {
    fn clock(&self, true_millis: u64) -> Duration {
        Duration::from_millis(self.offset + true_millis * self.rate / 100)
    }
}

#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    Read(usize),
    Claim(usize, usize),
    Renew(usize),
    Release(usize, usize),
    /// The server takes what was sent; whether the sender hears of it.
    Arrive(usize, bool),
    /// It loses all that it knew, and is started again under the same name.
    Restart(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let (node, key) = (0..3_usize, 0..KEYS.len());
    prop_oneof![
        4 => (1..6_000_u64).prop_map(Event::Pass),
        4 => node.clone().prop_map(Event::Read),
        4 => (node.clone(), key.clone()).prop_map(|(node, key)| Event::Claim(node, key)),
        2 => node.clone().prop_map(Event::Renew),
        1 => (node.clone(), key).prop_map(|(node, key)| Event::Release(node, key)),
        6 => (node.clone(), any::<bool>()).prop_map(|(node, heard)| Event::Arrive(node, heard)),
        1 => node.prop_map(Event::Restart),
    ]
}

/// Sends a table, if none is under way.
fn send(node: &mut Node, now: u64, table: Option<Table>) {
    if let (None, Some(table)) = (&node.sent, table) {
        node.sent = Some((node.clock(now), table, node.read));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_two_ever_believe_in_one_turn_and_no_more_than_two_roll(
        events in prop::collection::vec(event(), 1..160),
        clocks in prop::collection::vec((0..1_000_000_u64, 90..111_u64), 3),
    ) {
        let name = |number: usize| Known::new(&format!("node-{number}"));
        let mut nodes: Vec<Node> = clocks
            .iter()
            .enumerate()
            .map(|(number, (offset, rate))| Node {
                known: name(number), offset: *offset, rate: *rate, read: 0, sent: None,
            })
            .collect();
        let (mut server, mut version, mut now) = (Table::default(), 0, 0);
        for event in events {
            match event {
                Event::Pass(millis) => now += millis,
                Event::Read(at) => {
                    let clock = nodes[at].clock(now);
                    nodes[at].known.read(server.clone(), clock);
                    nodes[at].read = version;
                }
                Event::Claim(at, key) => {
                    let node = &mut nodes[at];
                    let table = match node.known.claim(KEYS[key], true, node.clock(now)) {
                        Claim::Take(table) => Some(table),
                        _ => None,
                    };
                    send(node, now, table);
                }
                Event::Renew(at) => {
                    let table = nodes[at].known.renewal(nodes[at].clock(now));
                    send(&mut nodes[at], now, table);
                }
                Event::Release(at, key) => {
                    let table = nodes[at].known.release(KEYS[key]);
                    send(&mut nodes[at], now, table);
                }
                Event::Arrive(at, heard) => {
                    let Some((asked, table, of)) = nodes[at].sent.take() else { continue };
                    if of != version {
                        continue;
                    }
                    version += 1;
                    server = table.clone();
                    if heard {
                        nodes[at].known.wrote(table, asked);
                        nodes[at].read = version;
                    }
                }
                // What it sent may still arrive.
                Event::Restart(at) => (nodes[at].known, nodes[at].read) = (name(at), 0),
            }
            let believed = |key: &&str| {
                nodes.iter().filter(|node| node.known.holds(key, node.clock(now))).count()
            };
            prop_assert!(KEYS.iter().all(|key| believed(key) <= 1));
            prop_assert!(KEYS.iter().map(believed).sum::<usize>() <= MOST);
        }
    }
}
