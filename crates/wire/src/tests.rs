//! Golden tests through the public interface: every recording in `fixtures/`, whole and split.

mod hostile;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use expect_test::expect_file;

use crate::transcript::{Record, parse};
use crate::{Chunk, Connection, Direction, Event, Part, Side, Want};

/// Longest part of a body that a golden shows.
const SHOWN: usize = 120;

/// Everything a connection hands on, as text. Pieces of a body are put together, because how a
/// body is cut is the one thing that may depend on how it arrived.
#[derive(Default)]
struct Log {
    text: String,
    bodies: std::collections::BTreeMap<(u64, bool), Vec<u8>>,
}

impl Log {
    fn take(&mut self, event: Event<'_>) -> Want {
        let Event { exchange, side, part } = event;
        let body = self.bodies.entry((exchange, side == Side::Request)).or_default();
        if let Part::Body(bytes) = part {
            body.extend_from_slice(bytes);
            return Want::Body;
        }
        let body = std::mem::take(body);
        if !body.is_empty() {
            let shown =
                String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).escape_debug().to_string();
            writeln!(self.text, "  {exchange} {side:?} body {} bytes: {shown}", body.len())
                .unwrap();
        }
        writeln!(self.text, "  {exchange} {side:?} {part:?}").unwrap();
        Want::Body
    }
}

fn read(path: &Path, size: usize) -> String {
    let recording = parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut connection = Connection::new();
    let mut log = Log::default();
    for record in &recording.records {
        match record {
            Record::Chunk { at, direction, bytes, .. } => {
                for piece in bytes.chunks(size) {
                    connection
                        .feed(*at, *direction, Chunk::Bytes(piece), &mut |event| log.take(event));
                }
            }
            Record::Gap { at, direction, length, .. } => {
                connection.feed(*at, *direction, Chunk::Gap(*length), &mut |event| log.take(event));
            }
            Record::Close { .. } | Record::Exit { .. } => {
                writeln!(log.text, "  close {:?}", connection.protocol()).unwrap();
                connection.close(&mut |event| log.take(event));
            }
            Record::Process { .. } | Record::Connection { .. } => {}
        }
    }
    writeln!(log.text, "  {:?}", connection.protocol()).unwrap();
    log.text
}

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let mut paths: Vec<PathBuf> = ["openai", "anthropic", "http1"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "transcript"))
        .collect();
    paths.sort();
    assert!(paths.len() > 40, "the recordings are gone");
    paths
}

#[test]
fn recordings_are_read_the_same_however_they_are_split() {
    for path in fixtures() {
        let whole = read(&path, usize::MAX);
        for size in [1, 7, 64] {
            assert_eq!(read(&path, size), whole, "{} in pieces of {size}", path.display());
        }
        expect_file![path.with_extension("exchanges")].assert_eq(&whole);
    }
}

#[test]
fn recordings_hold_no_keys() {
    for path in fixtures() {
        let text = std::fs::read_to_string(&path).unwrap();
        let recording = parse(&text).unwrap();
        assert!(
            recording.header.iter().any(|(key, _)| key == "client"),
            "{} has no provenance",
            path.display()
        );
        let masked = crate::transcript::write(&recording);
        assert_eq!(
            parse(&masked).unwrap(),
            recording,
            "{} holds something like a key",
            path.display()
        );
    }
}

#[test]
fn the_direction_of_a_request_is_sent() {
    let mut connection = Connection::new();
    let mut log = Log::default();
    let bytes = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    connection.feed(crate::Moment(0), Direction::Received, Chunk::Bytes(bytes), &mut |event| {
        log.take(event)
    });
    assert_eq!(log.text, "", "a server's own requests are not ours to read");
}
