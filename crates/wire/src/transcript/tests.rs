//! What recordings accept, refuse and hide.

use proptest::prelude::*;

use super::{Record, Recording, parse, write};
use crate::{Direction, Moment};

const SMALL: &str = "# client: by hand\n@ process 1 name=chat.py runtime=cpython/3.11 args=\"python3 chat.py\"\n\
@ connection 1 process=1 sni=api.openai.com port=443\n>>> 1 +0.000000000\n  |GET / HTTP/1.1\\r\\n\n  |\\x00\\\\\\t\n\
~~~ 1 < 512 +0.500000000\n@ close 1 +1.234567890\n@ exit 1 +2.000000000\n";

#[test]
fn a_recording_is_read_and_written_back() {
    let recording = parse(SMALL).unwrap();
    assert_eq!(recording.header, [("client".to_owned(), "by hand".to_owned())]);
    assert_eq!(
        recording.records[2],
        Record::Chunk {
            connection: 1,
            at: Moment(0),
            direction: Direction::Sent,
            bytes: b"GET / HTTP/1.1\r\n\0\\\t".to_vec()
        }
    );
    assert_eq!(recording.records[4], Record::Close { connection: 1, at: Moment(1_234_567_890) });
    assert_eq!(write(&recording), SMALL);
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_a_remedy() {
    let cases = [
        (
            "hello",
            "cannot read line 1 of the recording: `hello` is no record; a record begins with",
        ),
        (
            "\n  |x",
            "cannot read line 2 of the recording: a body line belongs to no chunk; write `>>>",
        ),
        (">>> 1 +0", "there is no connection 1; declare it before"),
        ("@ connection 1 process=7", "there is no process 7; declare it before"),
        ("@ connection 1", "a connection has no process; write `@ connection"),
        ("@ process 1", "a process has no name; write `@ process"),
        ("@ process 1 name=\"x", "a quote is not closed"),
        ("@ process 1 name=x colour=red", "`colour` is no key"),
        (
            "@ process 1 name=x\n@ process 1 name=y",
            "line 2 of the recording: process 1 is declared twice",
        ),
        ("@ process -1 name=x", "`-1` is no number"),
        ("@ process 1 name=x\n@ exit 1 soon", "`soon` is no time; times are `+SECONDS`"),
        ("@ process 1 name=x\n@ exit 1 +99999999999999999999", "is no time"),
        ("@ process 1 name=x\n@ exit 1 +1.0000000001", "is no time"),
        ("@ process 1 name=x\n@ connection 1 process=1 port=70000", "a port is wrong"),
        ("@ nothing", "`@ nothing` is no declaration; known are"),
        ("~~~ 1 = 5 +0", "is no gap; write `~~~"),
        (
            "@ process 1 name=x\n@ connection 1 process=1\n>>> 1 +0\n  |\\q",
            "line 4 of the recording: an escape is unknown",
        ),
        ("@ process 1 name=x\n@ connection 1 process=1\n>>> 1 +0\n  |\\x0", "lacks its two digits"),
    ];
    for (text, expected) in cases {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn credentials_are_replaced_however_they_are_split() {
    let sent = b"POST /v1/x HTTP/1.1\r\nAuthorization: Bearer sk-canary-canary-canary\r\n  canary\r\nx-api-key:canary\r\n\
                 Cookie: a=canary\r\nHost: h\r\n\r\n{\"note\":\"sk-canarycanarycanary\"}";
    for size in [1, 3, 7, 1000] {
        let mut recording = parse("@ process 1 name=p\n@ connection 1 process=1\n").unwrap();
        for bytes in sent.chunks(size) {
            let (at, direction) = (Moment(0), Direction::Sent);
            recording.records.push(Record::Chunk {
                connection: 1,
                at,
                direction,
                bytes: bytes.to_vec(),
            });
        }
        let written = write(&recording);
        let joined: Vec<u8> =
            parse(&written).unwrap().records.into_iter().flat_map(bytes_of).collect();
        assert_eq!(joined.len(), sent.len());
        let text = String::from_utf8(joined).unwrap();
        let head = text.split("\r\n\r\n").next().unwrap();
        assert!(!head.contains("canary") && head.contains("Host: h"), "{head}");
        if size == 1000 {
            assert!(!text.contains("canary"), "{text}");
        }
    }
}

fn bytes_of(record: Record) -> Vec<u8> {
    if let Record::Chunk { bytes, .. } = record { bytes } else { Vec::new() }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,300}") {
        let _outcome = parse(&text);
    }

    #[test]
    fn almost_recordings_are_read_or_refused(lines in prop::collection::vec("(@ |>>> |<<< |~~~ |  \\||# )[a-z0-9 +=.<>\"\\\\]{0,30}", 0..12)) {
        let _outcome = parse(&lines.join("\n"));
    }

    #[test]
    fn any_bytes_survive(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0..u64::MAX / 2) {
        // A line feed in front keeps the bytes from being read as the name of a header.
        prop_assume!(!bytes.contains(&b':') && !bytes.windows(3).any(|each| each == b"sk-"));
        let mut recording: Recording = parse("@ process 1 name=\"a b\"\n@ connection 1 process=1\n").unwrap();
        recording.records.push(Record::Chunk { connection: 1, at: Moment(at), direction: Direction::Received, bytes });
        prop_assert_eq!(parse(&write(&recording)).unwrap(), recording);
    }
}
