//! A capture of which the kernel refused a part. What no kernel that we have refuses is taken
//! away by hand.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use super::*;
use crate::hello::tests::{body, records};

/// Starts a capture, where this user may; a machine that must be able to fails.
#[expect(clippy::disallowed_methods, reason = "tests are told by their environment what must run")]
fn start() -> Option<Capture> {
    match Capture::start(&Config::default()) {
        Ok(capture) => Some(capture),
        Err(error) => {
            let required = std::env::var("SONDE_REQUIRE_KERNEL").is_ok_and(|value| value == "1");
            assert!(!required, "cannot run: {error}");
            println!("NOT RUN: {error}");
            None
        }
    }
}

/// Reads on until an event is what is waited for.
fn until(capture: &mut Capture, what: &str, wanted: impl Fn(&Event) -> bool) {
    let end = system::monotonic_nanos() + 10_000_000_000;
    while system::monotonic_nanos() < end {
        if capture.next(Duration::from_millis(50)).is_some_and(|event| wanted(&event)) {
            return;
        }
    }
    panic!("no {what}");
}

#[test]
fn without_the_programs_for_calls_the_names_of_servers_are_seen() {
    let Some(mut capture) = start() else { return };
    let (refused, fact) = Reading::refused("the kernel refused: a test".to_owned());
    capture.tls = refused;
    let own = std::process::id();
    let error = capture.watch(own).unwrap_err();
    assert!(matches!(&error, Error::Kernel { missing } if missing.contains("a test")), "{error}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(&records(&body(Some(b"alone.sonde.test"), 0), 16_384)).unwrap();
    listener.accept().unwrap().0.read_exact(&mut [0; 9]).unwrap();
    until(&mut capture, "hello", |event| {
        matches!(event, Event::Hello { process, server_name: Some(name), .. }
            if process.pid == own && name == "alone.sonde.test")
    });
    assert_eq!(capture.lost().ring_full_bytes, 0);
    assert_eq!(fact.standing, Standing::Missing);
}

#[test]
fn where_the_ends_of_processes_are_not_told_they_are_found() {
    let Some(mut capture) = start() else { return };
    capture.processes = None;
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let process = capture.watch(child.id()).unwrap().process;
    child.kill().unwrap();
    child.wait().unwrap();
    until(
        &mut capture,
        "end",
        |event| matches!(event, Event::Exited { process: ended, .. } if *ended == process),
    );
    assert!(capture.watched().is_empty());
}

#[test]
fn where_nobody_is_to_be_watched_nothing_is_held_ready_for_it() {
    let Some(mut capture) = start() else { return };
    assert!(capture.tls.programs().is_none(), "tried at the start, and let go");
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    capture.watch(child.id()).unwrap();
    assert!(capture.tls.programs().is_some());
    capture.make_ready(false);
    assert!(capture.tls.programs().is_some(), "somebody is watched");
    capture.unwatch(child.id());
    assert!(capture.tls.programs().is_some(), "another may be watched in a moment");
    capture.make_ready(false);
    assert!(capture.tls.programs().is_none());
    capture.make_ready(true);
    assert!(capture.tls.programs().is_some(), "before anybody is watched");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn processes_are_told_of_with_the_next_name_or_soon_where_nobody_is_to_be_watched() {
    let Some(mut capture) = start() else { return };
    for is_wanted in [false, true] {
        capture.make_ready(is_wanted);
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let is_start =
            |event: &Event| matches!(event, Event::Started { process, .. } if process.pid == pid);
        let is_end =
            |event: &Event| matches!(event, Event::Exited { process, .. } if process.pid == pid);
        until(&mut capture, "start", is_start);
        until(&mut capture, "end", is_end);
    }
}
