//! Golden tests through the public interface: every recording in `fixtures/`, whole and split.

mod details;
mod hostile;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use wire::transcript::{Record, parse};
use wire::{Chunk, Direction, Moment};

use crate::{Connection, Hints, ModelCall, Verdict};

/// The calls of a recording whose chunks are cut into pieces, and what its connection was.
fn read(path: &Path, size: usize) -> (Vec<ModelCall>, Vec<Verdict>) {
    let recording = parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut connections = BTreeMap::new();
    let mut calls = Vec::new();
    for record in recording.records {
        match record {
            Record::Process { .. } => {}
            Record::Connection { number, server_name, port, .. } => {
                connections.insert(
                    number,
                    Connection::new(Hints { server_name, server_port: port, ..Hints::default() }),
                );
            }
            Record::Chunk { connection, at, direction, bytes } => {
                let connection = connections.get_mut(&connection).unwrap();
                for piece in bytes.chunks(size) {
                    calls.extend(connection.feed(at, direction, Chunk::Bytes(piece)));
                }
            }
            Record::Gap { connection, at, direction, length } => {
                let connection = connections.get_mut(&connection).unwrap();
                calls.extend(connection.feed(at, direction, Chunk::Gap(length)));
            }
            Record::Close { connection, at } => {
                calls.extend(connections.get_mut(&connection).unwrap().close(at));
            }
            Record::Exit { at, .. } => {
                connections
                    .values_mut()
                    .for_each(|connection| calls.extend(connection.process_ended(at)));
            }
        }
    }
    let verdicts = connections.values().map(Connection::verdict).collect();
    (calls, verdicts)
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

/// A call as text: what is known, a line each.
fn shown(call: &ModelCall) -> String {
    let (mut depth, mut text) = (0, String::new());
    for each in format!("{call:?}").chars() {
        match each {
            '(' | '[' | '{' => depth = i32::saturating_add(depth, 1),
            ')' | ']' | '}' => depth = i32::saturating_sub(depth, 1),
            _ => {}
        }
        text.push(if each == ',' && depth == 1 { '\n' } else { each });
    }
    let known = text.lines().filter(|line| !line.ends_with(": None"));
    known.fold(String::new(), |mut text, line| {
        writeln!(text, "{}", line.trim().replace(", cache_write_1h: None", "")).unwrap();
        text
    })
}

#[test]
fn recordings_are_read_the_same_however_they_are_split() {
    for path in fixtures() {
        let whole = read(&path, usize::MAX);
        for size in [1, 7, 64] {
            assert_eq!(read(&path, size), whole, "{} in pieces of {size}", path.display());
        }
        let mut text = whole.0.iter().map(shown).collect::<String>();
        writeln!(text, "{:?}", whole.1).unwrap();
        expect_file![path.with_extension("calls")].assert_eq(&text);
    }
}

/// A request with its head.
fn request(path: &str, host: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n")
            .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// An answer with its head.
fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The one call of an exchange with a provider's host.
fn call(path: &str, host: &str, question: &[u8], reply: &[u8]) -> ModelCall {
    let mut connection = Connection::new(Hints::default());
    let asked = request(path, host, question);
    assert_eq!(connection.feed(Moment(1), Direction::Sent, Chunk::Bytes(&asked)), []);
    let mut calls = connection.feed(Moment(2), Direction::Received, Chunk::Bytes(reply));
    assert_eq!(calls.len(), 1, "{calls:?}");
    calls.remove(0)
}
