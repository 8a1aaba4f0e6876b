//! Large messages, small rings, and bytes that nobody wants.

use std::time::Duration;

use capture::{Config, Direction, Event, Lost};

use crate::programs::{Program, Server, need_kernel};
use crate::seen::{Watcher, bytes_of};

/// What `sink` and `retry` in client.py send.
fn pattern(word: &str, total: usize) -> Vec<u8> {
    let mut bytes = format!("{word} {total} ").into_bytes();
    let rest = total - bytes.len();
    bytes.extend((0..rest).map(|i| u8::try_from(i * 31 % 251).unwrap()));
    bytes
}

#[test]
fn sizes_around_every_limit_arrive_whole() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python(&server);
    let mut watcher = Watcher::start(&Config::default());
    watcher.capture.watch(client.pid()).unwrap();
    let mut expected = Vec::new();
    for size in [16, 255, 256, 257, 2047, 2048, 2049, 16383, 16384, 16385, 65535, 65537, 200_000] {
        client.tell(&format!("sink {size}"));
        assert_eq!(client.hear(), format!("sank {size}"));
        expected.extend(pattern("sink", size));
    }
    assert!(watcher.stream(client.pid(), Direction::Sent, expected.len()) == expected);
    assert_eq!(watcher.capture.lost(), Lost::default());
}

#[test]
fn a_call_of_more_than_4_mib_arrives_whole_with_exact_offsets() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python(&server);
    let mut watcher = Watcher::start(&Config::default());
    watcher.capture.watch(client.pid()).unwrap();
    let size = (4 << 20) + 12_345;
    client.tell(&format!("sink {size}"));
    assert!(watcher.stream(client.pid(), Direction::Sent, size) == pattern("sink", size));
    assert_eq!(client.hear(), format!("sank {size}"));
    assert_eq!(watcher.capture.lost(), Lost::default());
}

#[test]
fn what_is_beyond_the_limit_of_one_call_is_counted_and_leaves_a_gap() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python(&server);
    let mut watcher = Watcher::start(&Config::default());
    watcher.capture.watch(client.pid()).unwrap();
    let size: u64 = (8 << 20) + 100;
    client.tell(&format!("sink {size}"));
    watcher.until("the reading of the answer", |events| !received(events, client.pid()).is_empty());
    assert_eq!(client.hear(), format!("sank {size}"));
    client.tell("echo after");
    watcher.until("the next call", |events| sent(events, client.pid()).contains(&(size, 5)));
    assert_eq!(watcher.capture.lost(), Lost { too_long_bytes: 100, ..Lost::default() });
}

#[test]
fn a_full_ring_loses_exactly_what_is_counted() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python(&server);
    let mut watcher = Watcher::start(&Config { ring_bytes: 64 << 10, ..Config::default() });
    watcher.capture.watch(client.pid()).unwrap();
    // Nobody reads while this is sent.
    let mut passed = 0;
    for size in [1 << 20, 100, 3000, 300_000, 17] {
        client.tell(&format!("sink {size}"));
        assert_eq!(client.hear(), format!("sank {size}"));
        passed += size + 4;
    }
    watcher.settle(Duration::from_millis(100));
    let seen = bytes_of(&watcher.events, client.pid()) as u64;
    let lost = watcher.capture.lost();
    assert!(seen > 16_000 && lost.ring_full_bytes > 1 << 20, "{seen} {lost:?}");
    assert_eq!(seen + lost.ring_full_bytes, passed, "{lost:?}");
    // The next call shows, by its offset, how much is missing.
    client.tell("echo after the flood");
    assert_eq!(client.hear(), "echoed 15");
    let offset = passed - 5 * 4;
    watcher
        .until("a call after the gap", |events| sent(events, client.pid()).contains(&(offset, 15)));
}

#[test]
fn a_write_that_must_be_repeated_is_seen_once() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python(&server);
    let mut watcher = Watcher::start(&Config::default());
    watcher.capture.watch(client.pid()).unwrap();
    // More than the socket's buffers take while the server sleeps.
    let size = 12 << 20;
    client.tell(&format!("retry {size}"));
    assert!(watcher.stream(client.pid(), Direction::Sent, size) == pattern("slow", size));
    assert_eq!(client.hear(), "retried");
    watcher.settle(Duration::from_millis(100));
    assert_eq!(bytes_of(&watcher.events, client.pid()), size + 4);
}

#[test]
fn an_ignored_connection_is_copied_no_more_and_the_others_are() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python(&server);
    let mut watcher = Watcher::start(&Config::default());
    watcher.capture.watch(client.pid()).unwrap();
    client.tell("echo first");
    client.hear();
    watcher.stream(client.pid(), Direction::Received, 5);
    let connection = watcher.events.iter().find_map(|event| match event {
        Event::Data(data) => Some(data.connection),
        _ => None,
    });
    watcher.capture.ignore(connection.unwrap());
    client.tell("echo nobody wants this");
    client.hear();
    watcher.settle(Duration::from_millis(100));
    assert_eq!(bytes_of(&watcher.events, client.pid()), 10);
    // A new connection, even at the same address, is wanted until somebody says otherwise.
    client.tell("close");
    client.hear();
    client.tell("connect sonde.test");
    client.hear();
    client.tell("echo fresh");
    client.hear();
    watcher.settle(Duration::from_millis(100));
    assert_eq!(bytes_of(&watcher.events, client.pid()), 20);
    let closed = watcher.events.iter().filter(|event| matches!(event, Event::Closed { .. }));
    assert_eq!(closed.count(), 1);
}

fn sent(events: &[Event], pid: u32) -> Vec<(u64, usize)> {
    offsets(events, pid, Direction::Sent)
}

fn received(events: &[Event], pid: u32) -> Vec<(u64, usize)> {
    offsets(events, pid, Direction::Received)
}

fn offsets(events: &[Event], pid: u32, wanted: Direction) -> Vec<(u64, usize)> {
    let of = |event: &Event| match event {
        Event::Data(data) if data.connection.process.pid == pid && data.direction == wanted => {
            Some((data.offset, data.bytes.len()))
        }
        _ => None,
    };
    events.iter().filter_map(of).collect()
}
