//! Whatever comes: no panic, no growth, no difference by how it was cut.

use proptest::prelude::*;

use super::{Log, fixtures};
use crate::transcript::{Record, parse};
use crate::{Chunk, Connection, Direction, Moment, Protocol, Want};

/// The bytes of every recording, in one direction.
fn corpus() -> Vec<(Direction, Vec<u8>)> {
    let texts = fixtures().into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    let records = texts.flat_map(|text| parse(&text).unwrap().records);
    let chunks = records.filter_map(|record| match record {
        Record::Chunk { direction, bytes, .. } => Some((direction, bytes)),
        _ => None,
    });
    chunks.collect()
}

fn feed(connection: &mut Connection, log: &mut Log, direction: Direction, chunk: Chunk<'_>) {
    connection.feed(Moment(1), direction, chunk, &mut |event| log.take(event));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn garbage_is_read_or_left(chunks in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..200), 0..300u64), 0..20)) {
        let (mut connection, mut log) = (Connection::new(), Log::default());
        for (sent, bytes, gap) in chunks {
            let direction = if sent { Direction::Sent } else { Direction::Received };
            feed(&mut connection, &mut log, direction, Chunk::Bytes(&bytes));
            feed(&mut connection, &mut log, direction, Chunk::Gap(gap));
        }
        connection.close(&mut |event| log.take(event));
    }

    #[test]
    fn damaged_recordings_are_read_the_same_however_they_are_split(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..400u64), 1..12),
        cuts in prop::collection::vec(1..90usize, 1..20),
    ) {
        let corpus = corpus();
        let mut whole = (Connection::new(), Log::default());
        let mut split = (Connection::new(), Log::default());
        for (pick, place, byte, gap) in picks {
            let (direction, mut bytes) = pick.get(&corpus).clone();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if gap > 200 {
                bytes.truncate(place);
            }
            feed(&mut whole.0, &mut whole.1, direction, Chunk::Bytes(&bytes));
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (front, back) = rest.split_at(rest.len().min(*cut));
                feed(&mut split.0, &mut split.1, direction, Chunk::Bytes(front));
                rest = back;
                if rest.is_empty() {
                    break;
                }
            }
            if gap > 300 {
                feed(&mut whole.0, &mut whole.1, direction, Chunk::Gap(gap));
                feed(&mut split.0, &mut split.1, direction, Chunk::Gap(gap));
            }
        }
        for (connection, log) in [&mut whole, &mut split] {
            connection.close(&mut |event| log.take(event));
        }
        // How much comes out of a broken coded body before that shows is the decoder's affair.
        if !whole.1.text.contains("content-encoding") {
            prop_assert_eq!(whole.1.text, split.1.text);
        }
    }
}

#[test]
fn endless_things_are_given_up() {
    let line = vec![b'a'; 1 << 20];
    let mut connection = Connection::new();
    let mut quiet = |_: crate::Event<'_>| Want::Body;
    // A head that never ends.
    connection.feed(
        Moment(0),
        Direction::Sent,
        Chunk::Bytes(b"POST / HTTP/1.1\r\nx: "),
        &mut quiet,
    );
    for _ in 0..70 {
        connection.feed(Moment(0), Direction::Sent, Chunk::Bytes(&line), &mut quiet);
    }
    assert_eq!(connection.protocol(), Protocol::Other);

    // Requests that are never answered.
    let mut connection = Connection::new();
    for _ in 0..100 {
        connection.feed(
            Moment(0),
            Direction::Sent,
            Chunk::Bytes(b"GET / HTTP/1.1\r\n\r\n"),
            &mut quiet,
        );
    }
    assert!(connection.is_opaque());

    // A trailer that never ends.
    let mut connection = Connection::new();
    let mut lost = 0;
    let mut count = |event: crate::Event<'_>| {
        if let crate::Part::End { ending: crate::Ending::Unreadable, .. } = event.part {
            lost += 1;
        }
        Want::Body
    };
    connection.feed(
        Moment(0),
        Direction::Sent,
        Chunk::Bytes(b"GET / HTTP/1.1\r\n\r\n"),
        &mut count,
    );
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    connection.feed(Moment(0), Direction::Received, Chunk::Bytes(head), &mut count);
    connection.feed(Moment(0), Direction::Received, Chunk::Bytes(&line), &mut count);
    assert_eq!(lost, 1);
}
