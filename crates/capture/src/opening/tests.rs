//! Openings in pieces of every size and order, and sockets that never finish.

use proptest::prelude::*;

use super::*;
use crate::hello::tests::{body, records};

fn piece(socket: u64, offset: usize, bytes: &[u8]) -> Piece {
    Piece { socket, offset: u32::try_from(offset).unwrap(), bytes: bytes.into() }
}

fn name(hello: Option<Hello>) -> Option<String> {
    hello.and_then(|hello| hello.server_name)
}

#[test]
fn pieces_in_any_order_and_twice_make_one_hello() {
    let bytes = records(&body(Some(b"sonde.test"), 1500), 16_384);
    let mut openings = Openings::default();
    let (a, b, c) = (&bytes[..100], &bytes[100..900], &bytes[900..]);
    assert_eq!(openings.hello(piece(1, 900, c)), None);
    assert_eq!(openings.hello(piece(1, 0, a)), None);
    assert_eq!(openings.hello(piece(1, 0, a)), None);
    assert_eq!(openings.hello(piece(2, 0, b"GET / HTTP/1.1")), None);
    assert_eq!(name(openings.hello(piece(1, 100, b))).as_deref(), Some("sonde.test"));
    assert!(openings.open.is_empty() && openings.order.is_empty());
}

#[test]
fn a_part_that_is_sent_again_in_other_pieces_loses_nothing() {
    let bytes = records(&body(Some(b"sonde.test"), 1500), 16_384);
    let mut openings = Openings::default();
    assert_eq!(openings.hello(piece(1, 0, &bytes[..900])), None);
    assert_eq!(openings.hello(piece(1, 0, &bytes[..300])), None);
    assert_eq!(openings.hello(piece(1, 200, &bytes[200..700])), None);
    assert_eq!(name(openings.hello(piece(1, 800, &bytes[800..]))).as_deref(), Some("sonde.test"));
}

#[test]
fn sockets_that_never_finish_give_way_and_are_counted() {
    let mut openings = Openings::default();
    for socket in 0..10_000 {
        assert_eq!(openings.hello(piece(socket, 0, b"\x16\x03\x01")), None);
    }
    assert_eq!(openings.evicted, 10_000 - MAX_OPEN as u64);
    assert!(openings.open.len() <= MAX_OPEN && openings.order.len() == openings.open.len());
    for offset in 0..1000 {
        openings.hello(piece(9_999, 3 + offset * 2048, &[0; 2048]));
    }
    let held: usize = openings.open.values().flat_map(BTreeMap::values).map(Payload::len).sum();
    assert!(held < 4 * MAX_HELLO, "{held}");
}

#[test]
fn a_request_is_told_once_up_to_its_empty_line() {
    let mut openings = Openings::default();
    let head = b"POST /v1/chat HTTP/1.1\r\nHost: h\r\n\r\n";
    let whole = [head.as_slice(), b"{\"the body\": 1}\r\n\r\n"].concat();
    let told = openings.request(piece(1, 0, &whole)).unwrap();
    assert_eq!(told.as_bytes(), head);
    assert_eq!(openings.request(piece(1, whole.len(), b"more of the body\n\n")), None);
    assert!(openings.open.is_empty());
    // Line feeds alone are what some clients write.
    let told = openings.request(piece(2, 0, b"GET / HTTP/1.0\nHost: h\n\nbody\r\n\r\n"));
    assert_eq!(told.unwrap().as_bytes(), b"GET / HTTP/1.0\nHost: h\n\n");
}

#[test]
fn a_request_without_an_end_is_told_as_far_as_it_is_taken() {
    let mut openings = Openings::default();
    let long = vec![b'G'; 3 * MAX_REQUEST];
    assert_eq!(openings.request(piece(1, 0, &long[..1000])), None);
    let told = openings.request(piece(1, 1000, &long[1000..])).unwrap();
    assert_eq!(told.len(), MAX_REQUEST);
    assert!(openings.open.is_empty());
}

#[test]
fn a_tunnel_has_a_request_and_then_a_hello() {
    let mut openings = Openings::default();
    let hello = records(&body(Some(b"sonde.test"), 1500), 16_384);
    assert!(openings.request(piece(1, 0, b"CONNECT h:443 HTTP/1.1\r\n\r\n")).is_some());
    assert_eq!(openings.hello(piece(1, 0, &hello[..900])), None);
    assert_eq!(name(openings.hello(piece(1, 900, &hello[900..]))).as_deref(), Some("sonde.test"));
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_hello(
        size in 1_usize..2000,
        cuts in proptest::collection::btree_set(1_usize..900, 0..6),
        backwards in any::<bool>(),
    ) {
        let bytes = records(&body(Some(b"api.openai.com"), 800), size);
        let mut edges: Vec<usize> = [0].into_iter().chain(cuts).collect();
        edges.push(bytes.len());
        let mut pieces: Vec<Piece> =
            edges.windows(2).map(|edge| piece(1, edge[0], &bytes[edge[0]..edge[1]])).collect();
        if backwards {
            pieces.reverse();
        }
        let mut openings = Openings::default();
        let found: Vec<Hello> =
            pieces.into_iter().filter_map(|piece| openings.hello(piece)).collect();
        prop_assert_eq!(found.len(), 1);
    }

    #[test]
    fn any_pieces_stay_within_the_limits(
        pieces in proptest::collection::vec(
            (0_u64..4, any::<bool>(), 0_u32..20_000, proptest::collection::vec(any::<u8>(), 0..300)),
            0..80,
        ),
    ) {
        let mut openings = Openings::default();
        for (socket, is_hello, offset, bytes) in pieces {
            let piece = Piece { socket, offset, bytes: bytes.as_slice().into() };
            if is_hello {
                openings.hello(piece);
            } else if let Some(head) = openings.request(piece) {
                prop_assert!(head.len() <= MAX_REQUEST);
            }
            prop_assert!(openings.open.len() <= 8 && openings.order.len() == openings.open.len());
        }
    }
}
