//! Hellos as clients send them, cut and ordered in every way, and bytes that are none.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

/// A hello for a name, with an extension of this length (a key share, say) before the name.
fn body(name: Option<&[u8]>, key_share: usize) -> Vec<u8> {
    let sized = |bytes: &[u8]| {
        let mut sized = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        sized.extend_from_slice(bytes);
        sized
    };
    let mut extensions = vec![0, 51];
    extensions.extend(sized(&vec![7; key_share]));
    if let Some(name) = name {
        let entry = [vec![0], sized(name)].concat();
        extensions.extend([0, 0]);
        extensions.extend(sized(&sized(&entry)));
    }
    let mut body = vec![3, 3];
    body.extend([9; 32]);
    body.extend([32]);
    body.extend([8; 32]);
    body.extend(sized(&[0x13, 0x01, 0x13, 0x02]));
    body.extend([1, 0]);
    body.extend(sized(&extensions));
    body
}

/// TLS records of at most `size` bytes with a handshake message in them.
fn records(body: &[u8], size: usize) -> Vec<u8> {
    let mut message = vec![1];
    message.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    message.extend(body);
    let record = |bytes: &[u8]| {
        let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[22, 3, 1], len.as_slice(), bytes].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

fn piece(socket: u64, offset: usize, bytes: &[u8]) -> HelloPiece {
    HelloPiece {
        at: 1,
        socket,
        start_time: 20_000_001,
        pid: 3,
        offset: u32::try_from(offset).unwrap(),
        peer: SocketAddr::from(([192, 0, 2, 1], 443)),
        bytes: bytes.to_vec(),
    }
}

fn hello(name: Option<&str>) -> Reading {
    Reading::Hello { server_name: name.map(str::to_owned) }
}

#[test]
fn a_hello_says_its_name() {
    let bytes = records(&body(Some(b"API.OpenAI.com"), 32), 16_384);
    assert_eq!(read(&bytes), hello(Some("api.openai.com")));
}

#[test]
fn a_hello_may_have_no_name_or_one_that_is_none() {
    assert_eq!(read(&records(&body(None, 32), 16_384)), hello(None));
    for strange in [b"".as_slice(), b"a b", b"x\n", b"\xff\xfe", &[b'a'; 254], b"evil\"quote"] {
        assert_eq!(read(&records(&body(Some(strange), 0), 16_384)), hello(None));
    }
    // Before extensions there were none at all.
    let bare = [&[3, 1][..], &[9; 32], &[0], &[0, 2, 0, 10], &[1, 0]].concat();
    assert_eq!(read(&records(&bare, 16_384)), hello(None));
}

#[test]
fn every_prefix_of_a_large_hello_is_incomplete() {
    // As with a post-quantum key share, and in records of every size.
    for size in [1, 7, 100, 1400, 16_384] {
        let bytes = records(&body(Some(b"api.anthropic.com"), 1216), size);
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len]), Reading::Incomplete, "{len} of {size}");
        }
        assert_eq!(read(&bytes), hello(Some("api.anthropic.com")));
    }
}

#[test]
fn what_follows_a_hello_does_not_matter() {
    let mut bytes = records(&body(Some(b"a.example"), 0), 16_384);
    bytes.extend(b"\x14\x03\x03\x00\x01\x01 and early data");
    assert_eq!(read(&bytes), hello(Some("a.example")));
}

#[test]
fn other_protocols_are_told_at_once() {
    for other in [
        b"GET / HTTP/1.1".as_slice(),
        b"SSH-2.0",
        b"\x16\x02",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x03\x00\x05\x02",
    ] {
        assert_eq!(read(other), Reading::Other, "{other:?}");
    }
    assert_eq!(read(b"\x16\x03\x01\xff\xff\x01\xff\xff\xff"), Reading::Other, "too large");
}

#[test]
fn pieces_in_any_order_and_twice_make_one_hello() {
    let bytes = records(&body(Some(b"sonde.test"), 1500), 16_384);
    let mut hellos = Hellos::default();
    let (a, b, c) = (&bytes[..100], &bytes[100..900], &bytes[900..]);
    assert_eq!(hellos.add(piece(1, 900, c)), None);
    assert_eq!(hellos.add(piece(1, 0, a)), None);
    assert_eq!(hellos.add(piece(1, 0, a)), None);
    assert_eq!(hellos.add(piece(2, 0, b"GET / HTTP/1.1")), None);
    let event = hellos.add(piece(1, 100, b)).unwrap();
    assert!(
        matches!(event, Event::Hello { process: ProcessId { pid: 3, start_time: 20_000_000 }, server_name: Some(name), .. } if name == "sonde.test")
    );
    assert!(hellos.open.is_empty() && hellos.order.is_empty());
}

#[test]
fn sockets_that_never_finish_are_forgotten() {
    let mut hellos = Hellos::default();
    for socket in 0..10_000 {
        assert_eq!(hellos.add(piece(socket, 0, b"\x16\x03\x01")), None);
    }
    assert!(hellos.open.len() <= MAX_OPEN + 1 && hellos.order.len() == hellos.open.len());
    for offset in 0..1000 {
        hellos.add(piece(9_999, 3 + offset * 2048, &[0; 2048]));
    }
    let held: usize = hellos.open.values().flat_map(BTreeMap::values).map(Vec::len).sum();
    assert!(held < 4 * MAX_HELLO, "{held}");
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        read(&bytes);
    }

    #[test]
    fn a_damaged_hello_is_read(
        size in 1_usize..2000,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = records(&body(Some(b"api.openai.com"), 600), size);
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte;
        }
        read(&bytes);
    }

    #[test]
    fn any_cut_gives_the_same_hello(
        size in 1_usize..2000,
        cuts in proptest::collection::btree_set(1_usize..900, 0..6),
        backwards in any::<bool>(),
    ) {
        let bytes = records(&body(Some(b"api.openai.com"), 800), size);
        let mut edges: Vec<usize> = [0].into_iter().chain(cuts).collect();
        edges.push(bytes.len());
        let mut pieces: Vec<HelloPiece> =
            edges.windows(2).map(|edge| piece(1, edge[0], &bytes[edge[0]..edge[1]])).collect();
        if backwards {
            pieces.reverse();
        }
        let mut hellos = Hellos::default();
        let found: Vec<Event> = pieces.into_iter().filter_map(|piece| hellos.add(piece)).collect();
        prop_assert_eq!(found.len(), 1);
    }
}
