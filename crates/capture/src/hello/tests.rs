//! Hellos as clients send them, cut and ordered in every way, and bytes that are none.

use proptest::prelude::*;

use super::*;

/// A hello for a name, with an extension of this length (a key share, say) before the name.
pub(crate) fn body(name: Option<&[u8]>, key_share: usize) -> Vec<u8> {
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
pub(crate) fn records(body: &[u8], size: usize) -> Vec<u8> {
    let mut message = vec![1];
    message.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    message.extend(body);
    let record = |bytes: &[u8]| {
        let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[22, 3, 1], len.as_slice(), bytes].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

fn hello(name: Option<&str>) -> Reading {
    // The folded words of a random of nines are nothing.
    Reading::Hello(Hello { server_name: name.map(str::to_owned), ech: false, random: 0 })
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
fn a_random_is_told_and_differs_with_the_client() {
    let mut one = body(Some(b"a.example"), 0);
    let mut other = one.clone();
    one[2..10].copy_from_slice(&7_u64.to_be_bytes());
    other[2..10].copy_from_slice(&8_u64.to_be_bytes());
    let random = |body: &[u8]| match read(&records(body, 16_384)) {
        Reading::Hello(hello) => hello.random,
        other => panic!("{other:?}"),
    };
    // Three words of nines are left beside the one that was set.
    assert_eq!(random(&one), 7 ^ 0x0909_0909_0909_0909);
    assert_eq!(random(&other), 8 ^ 0x0909_0909_0909_0909);
}

#[test]
fn an_encrypted_hello_is_told_by_its_outer_one_alone() {
    let with = |content: &[u8]| {
        let name = [&[0, 0, 0, 14, 0, 12, 0, 0, 9][..], b"a.example"].concat();
        let len = u16::try_from(content.len()).unwrap().to_be_bytes();
        let ech = [&[0xfe, 0x0d], &len[..], content].concat();
        let extensions = [name, ech].concat();
        let len = u16::try_from(extensions.len()).unwrap().to_be_bytes();
        let head = [&[3, 3][..], &[9; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
        read(&records(&[head, len.to_vec(), extensions].concat(), 16_384))
    };
    let told =
        |ech| Reading::Hello(Hello { server_name: Some("a.example".to_owned()), ech, random: 0 });
    assert_eq!(with(&[0, 0, 1, 0, 1, 42, 0, 0, 0, 0]), told(true));
    assert_eq!(with(&[1]), told(false));
    assert_eq!(with(&[]), told(false));
}

/// What `crypto/tls` of Go 1.26 sent, in hexadecimal digits.
fn recorded(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn real_hellos_with_post_quantum_key_shares_are_read() {
    // X25519MLKEM768, and for api.anthropic.com; the second hides that name behind another.
    let open = recorded(include_str!("go_post_quantum.hex"));
    let hidden = recorded(include_str!("go_encrypted.hex"));
    for (bytes, name, ech) in [(open, "api.anthropic.com", false), (hidden, "front.example", true)]
    {
        assert!(bytes.len() > 1500, "more than one segment");
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len]), Reading::Incomplete, "{len}");
        }
        let Reading::Hello(hello) = read(&bytes) else { panic!("{name}") };
        assert_eq!((hello.server_name.as_deref(), hello.ech), (Some(name), ech));
        assert_ne!(hello.random, 0);
    }
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
}
