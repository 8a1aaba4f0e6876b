//! Answers as name servers give them, and messages that are meant to harm.

use proptest::prelude::*;

use super::*;

/// A name in full, as labels.
fn labels(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
    let mut bytes: Vec<u8> = name.split('.').filter(|l| !l.is_empty()).flat_map(label).collect();
    bytes.push(0);
    bytes
}

fn with_len(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
}

/// A record whose owner is given in bytes, so that it may be a pointer.
fn entry(owner: &[u8], kind: u8, content: &[u8]) -> Vec<u8> {
    [owner, &[0, kind, 0, 1, 0, 0, 0, 60], &with_len(content)].concat()
}

/// An answer to the question for a name, which starts at offset 12.
fn answer(name: &str, entries: &[Vec<u8>]) -> Vec<u8> {
    let count = u8::try_from(entries.len()).unwrap();
    let header = [7, 7, 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 1];
    [&header[..], &labels(name), &[0, 1, 0, 1], &entries.concat()].concat()
}

const QUESTION: [u8; 2] = [0xc0, 12];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn addresses_of_both_families_are_read() {
    let entries =
        [entry(&QUESTION, 1, &[192, 0, 2, 1]), entry(&labels("API.openai.com"), 28, &[0x20; 16])];
    let read = read(&answer("api.OpenAI.com", &entries)).unwrap();
    assert_eq!(read.name, "api.openai.com");
    assert_eq!(read.addresses, [ip("192.0.2.1"), ip("2020:2020:2020:2020:2020:2020:2020:2020")]);
}

#[test]
fn a_chain_of_aliases_is_followed_in_any_order_and_nothing_else_is() {
    let entries = [
        entry(&labels("edge.example.net"), 1, &[192, 0, 2, 7]),
        entry(&labels("other.example"), 1, &[192, 0, 2, 66]),
        entry(&labels("cdn.example"), 5, &labels("edge.example.net")),
        entry(&QUESTION, 5, &labels("cdn.example")),
    ];
    let read = read(&answer("api.anthropic.com", &entries)).unwrap();
    assert_eq!(read.addresses, [ip("192.0.2.7")]);
}

#[test]
fn aliases_that_lead_to_themselves_end() {
    let entries = [
        entry(&QUESTION, 5, &labels("a.example")),
        entry(&labels("a.example"), 5, &QUESTION),
        entry(&labels("a.example"), 1, &[192, 0, 2, 1]),
    ];
    assert_eq!(read(&answer("q.example", &entries)).unwrap().addresses, [ip("192.0.2.1")]);
}

#[test]
fn pointers_that_never_end_are_refused() {
    for owner in [&[0xc0, 27][..], &[0xff, 0xff], &[0xc0], &[0x40], &[0x80, 0]] {
        let message = answer("q.example", &[entry(owner, 1, &[192, 0, 2, 1])]);
        assert_eq!(read(&message), None, "{owner:?}");
    }
    // The question points at itself, and at a pointer that points back.
    let header = [7, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    for name in [&[0xc0, 12][..], &[0xc0, 14, 0xc0, 12], &[1, b'a', 0xc0, 12]] {
        let message = [&header[..], name, &[0, 1, 0, 1]].concat();
        assert_eq!(read(&message), None, "{name:?}");
    }
}

#[test]
fn long_names_and_strange_ones_give_nothing() {
    let long = vec!["a".repeat(60); 5].join(".");
    for name in [long.as_str(), "a b.example", "\u{1b}[31m.example", ""] {
        let message = answer(name, &[entry(&QUESTION, 1, &[192, 0, 2, 1])]);
        assert_eq!(read(&message), None, "{name:?}");
    }
}

#[test]
fn what_is_no_answer_is_refused() {
    let good = answer("q.example", &[entry(&QUESTION, 1, &[192, 0, 2, 1])]);
    assert!(read(&good).is_some());
    // A question, another kind of query, an error, two questions, none, no answers.
    for (at, byte) in [(2, 0x01), (2, 0xa8), (3, 0x83), (5, 2), (5, 0), (7, 0)] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(read(&bad), None, "{at} {byte}");
    }
    assert_eq!(read(&answer("q.example", &[entry(&QUESTION, 1, &[1, 2, 3])])), None);
    assert_eq!(read(&answer("q.example", &[entry(&labels("x.example"), 1, &[1, 2, 3, 4])])), None);
    let mut chaos = answer("q.example", &[entry(&QUESTION, 1, &[192, 0, 2, 1])]);
    let class = chaos.len() - 4 - 2 - 4 - 1;
    chaos[class] = 3;
    assert_eq!(read(&chaos), None);
}

#[test]
fn a_message_that_is_cut_short_counts_as_far_as_it_goes() {
    let entries = [entry(&QUESTION, 1, &[192, 0, 2, 1]), entry(&QUESTION, 1, &[192, 0, 2, 2])];
    let message = answer("q.example", &entries);
    let cut = read(&message[..message.len() - 1]).unwrap();
    assert_eq!(cut.addresses, [ip("192.0.2.1")]);
    for len in 0..message.len() {
        read(&message[..len]);
    }
}

#[test]
fn no_more_than_the_limits_is_taken() {
    let entries: Vec<_> = (0..250).map(|n| entry(&QUESTION, 1, &[192, 0, 2, n])).collect();
    assert_eq!(read(&answer("q.example", &entries)).unwrap().addresses.len(), MAX_ADDRESSES);
    let mut entries: Vec<_> = (0..100)
        .map(|n| entry(&labels(&format!("n{n}")), 5, &labels(&format!("n{}", n + 1))))
        .collect();
    entries.push(entry(&labels("n100"), 1, &[192, 0, 2, 1]));
    assert_eq!(read(&answer("n0", &entries)), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        read(&bytes);
    }

    #[test]
    fn a_damaged_answer_is_read_within_the_limits(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let entries = [
            entry(&QUESTION, 5, &labels("cdn.example")),
            entry(&labels("cdn.example"), 5, &QUESTION),
            entry(&labels("cdn.example"), 28, &[1; 16]),
            entry(&labels("cdn.example"), 1, &[1; 4]),
        ];
        let mut bytes = answer("api.openai.com", &entries);
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte;
        }
        if let Some(answer) = read(&bytes) {
            prop_assert!((1..=254).contains(&answer.name.len()));
            prop_assert!((1..=MAX_ADDRESSES).contains(&answer.addresses.len()));
        }
    }
}
