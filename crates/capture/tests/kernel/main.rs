//! The real kernel, real TLS libraries and real programs.
//!
//! Needs root, BTF, python3, curl, node and openssl. On a machine that has them every test
//! runs and fails if it cannot; elsewhere each prints `NOT RUN` with the reason. With
//! `SONDE_REQUIRE_KERNEL=1` a test that cannot run fails everywhere.

mod programs;
mod seen;

use std::time::Duration;

use capture::{Config, Direction, Event};

use programs::{Program, Server};
use seen::Watcher;

/// Runs the rest of a test only where it can run, and never in silence.
macro_rules! need_kernel {
    () => {
        if let Some(reason) = programs::why_not() {
            assert!(!programs::required(), "cannot run: {reason}");
            println!("NOT RUN: {reason}");
            return;
        }
    };
}

const WAIT: Duration = Duration::from_secs(5);

#[test]
fn this_machine_can_run_these_tests_or_says_why() {
    match programs::why_not() {
        Some(reason) => {
            assert!(!programs::required(), "cannot run: {reason}");
            println!("NOT RUN: {reason}");
        }
        None => {
            let watcher = Watcher::start(&Config::default());
            for fact in watcher.capture.facts() {
                println!("{}: {:?}: {}", fact.name, fact.standing, fact.found);
                assert_eq!(fact.standing, capture::kernel::Standing::Good, "{fact:?}");
            }
        }
    }
}

#[test]
fn a_python_client_is_read_in_both_directions() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python(&server);
    let mut watcher = Watcher::start(&Config::default());
    let watched = watcher.capture.watch(client.pid()).unwrap();
    assert!(watched.libraries.iter().any(|library| library.functions.contains(&"SSL_read_ex")));
    client.tell("echo hello from python");
    let text = client.hear();
    assert_eq!(text, "echoed 17");
    assert_eq!(watcher.stream(client.pid(), Direction::Sent, 17), b"hello from python");
    assert_eq!(watcher.stream(client.pid(), Direction::Received, 17), b"hello from python");
    assert_eq!(watcher.capture.lost().by_reason().map(|(_, count)| count), [0; 6]);
}
