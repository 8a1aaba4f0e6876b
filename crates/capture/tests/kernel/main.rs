//! The real kernel, real TLS libraries and real programs.
//!
//! Needs root, BTF, python3, curl, node and openssl. Where the kernel can be tested every
//! test runs, and fails if it cannot; elsewhere each prints `NOT RUN` with the reason. With
//! `SONDE_REQUIRE_KERNEL=1` a test that cannot run fails everywhere.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests: what fails shows where, and a test must not wait for ever"
)]

mod lives;
mod load;
mod losses;
mod many;
mod names;
mod openings;
mod programs;
mod seen;
mod who;

use std::process::Command;
use std::time::Duration;

use capture::kernel::{Fact, Standing};
use capture::{Capture, Config, Direction, Error, Event, Lost};

use programs::{Program, Server, need_kernel, trusted};
use seen::{Watcher, bytes_of, streams};

#[test]
fn this_machine_can_run_these_tests_or_says_why() {
    need_kernel!();
    let watcher = Watcher::start(&Config::default());
    let facts = watcher.capture.facts();
    for fact in facts {
        println!("{}: {:?}: {}", fact.name, fact.standing, fact.found);
    }
    // What every kernel has that these tests are for.
    for name in ["hello", "names", "processes", "mappings"] {
        let good = |fact: &&Fact| fact.name == name && fact.standing == Standing::Good;
        assert!(facts.iter().any(|fact| good(&fact)), "{name}");
    }
}

#[test]
fn where_nothing_can_be_captured_the_start_says_why() {
    if programs::why_not().is_none() {
        // The other tests show that it starts here; what is left is a wrong setting.
        let config = Config { ring_bytes: 5000, ..Config::default() };
        assert!(matches!(Capture::start(&config), Err(Error::Setting { .. })));
        return;
    }
    let error = Capture::start(&Config::default()).unwrap_err();
    assert!(matches!(error, Error::Privilege { .. } | Error::Kernel { .. }), "{error}");
    println!("{error}");
}

#[test]
fn a_python_client_is_read_in_both_directions() {
    need_kernel!();
    both_directions(&Config::default());
}

#[test]
fn links_set_one_by_one_see_the_same() {
    need_kernel!();
    both_directions(&Config { single_links: true, ..Config::default() });
}

fn both_directions(config: &Config) {
    let server = Server::start();
    let mut client = Program::python(&server);
    let mut watcher = Watcher::start(config);
    let watched = watcher.capture.watch(client.pid()).unwrap();
    assert!(watched.libraries.iter().any(|library| library.functions.contains(&"SSL_read_ex")));
    assert_eq!(watcher.capture.watch(client.pid()).unwrap(), watched, "watching twice");
    client.tell("echo hello from python");
    assert_eq!(client.hear(), "echoed 17");
    assert_eq!(watcher.stream(client.pid(), Direction::Sent, 17), b"hello from python");
    assert_eq!(watcher.stream(client.pid(), Direction::Received, 17), b"hello from python");
    assert_eq!(watcher.capture.lost(), Lost::default());
}

#[test]
fn a_connection_has_the_name_that_the_program_gave_it_and_an_end() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python_without_ssl(&server);
    let mut watcher = Watcher::start(&Config::default());
    client.tell("import");
    assert_eq!(client.hear(), "imported");
    watcher.capture.watch(client.pid()).unwrap();
    for name in ["api.openai.com", "sonde.test"] {
        client.tell(&format!("connect {name}"));
        assert_eq!(client.hear(), "connected");
        client.tell("echo twice");
        assert_eq!(client.hear(), "echoed 5");
        client.tell("close");
        assert_eq!(client.hear(), "closed");
    }
    let closed = |event: &&Event| matches!(event, Event::Closed { .. });
    watcher.until("two ends", |events| events.iter().filter(closed).count() == 2);
    let names: Vec<_> = watcher
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Named { connection, server_name, .. } => {
                Some((connection, server_name.as_str()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        names.iter().map(|(_, name)| *name).collect::<Vec<_>>(),
        ["api.openai.com", "sonde.test"]
    );
    let sent = streams(&watcher.events, client.pid(), Direction::Sent);
    assert_eq!(sent.len(), 2, "each connection is its own");
    for (connection, _) in names {
        assert_eq!(sent[connection], b"twice");
    }
}

#[test]
fn node_is_read_though_it_has_no_shared_library() {
    need_kernel!();
    let server = Server::start();
    let mut command = Command::new("node");
    command.args(["-e", include_str!("client.js"), &server.port.to_string()]);
    command.arg(trusted());
    let mut node = Program::start(command);
    assert_eq!(node.hear(), "ready");
    let mut watcher = Watcher::start(&Config::default());
    let watched = watcher.capture.watch(node.pid()).unwrap();
    assert_eq!(watched.libraries.len(), 1, "{watched:?}");
    node.tell("go");
    assert_eq!(node.hear(), "200 seen by the server");
    let sent = watcher.stream(node.pid(), Direction::Sent, 40);
    assert!(sent.starts_with(b"GET /from-node HTTP/1.1\r\n"));
    let received = watcher.stream(node.pid(), Direction::Received, 60);
    assert!(received.ends_with(b"seen by the server"));
}

#[test]
fn a_short_lived_curl_is_read_from_its_first_byte() {
    need_kernel!();
    // After a pause, the kernel takes up to some 20 ms to set the first probe (see `Warmth`);
    // a server across a network leaves that time.
    let server = Server::start_far_away("0.06");
    let mut watcher = Watcher::start(&Config::default());
    for round in 0..5 {
        let curl = Program::start(curl(&server, "/short-lived"));
        let pid = curl.pid();
        watcher.follow_exec(pid);
        watcher.until("answer", |events| {
            streams(events, pid, Direction::Received)
                .values()
                .any(|bytes| bytes.ends_with(b"server"))
        });
        let sent = streams(&watcher.events, pid, Direction::Sent).into_values().next().unwrap();
        assert!(sent.starts_with(b"GET /short-lived HTTP/1.1\r\n"), "round {round}");
        curl.finish();
    }
}

#[test]
fn tls_inside_tls_is_two_connections_each_seen_once() {
    need_kernel!();
    let server = Server::start();
    let mut watcher = Watcher::start(&Config::default());
    let mut command = curl(&server, "/through-a-proxy");
    command.arg("--proxy").arg(format!("https://sonde.test:{}", server.port));
    command.arg("--proxy-cacert").arg(trusted());
    // It waits for the rest of its configuration, with its libraries loaded.
    command.args(["--config", "-"]);
    let mut curl = Program::start(command);
    let pid = curl.pid();
    watcher.follow_exec(pid);
    watcher.until("attachment", |events| {
        events
            .iter()
            .any(|event| matches!(event, Event::Attached { process, .. } if process.pid == pid))
    });
    curl.tell_last("# go");
    watcher.until("end of curl", |events| events.iter().any(|event| exited(event, pid)));
    let sent: Vec<Vec<u8>> = streams(&watcher.events, pid, Direction::Sent).into_values().collect();
    assert_eq!(sent.len(), 2);
    let outer = sent.iter().find(|bytes| bytes.starts_with(b"CONNECT ")).unwrap();
    let inner = sent.iter().find(|bytes| bytes.starts_with(b"GET /through-a-proxy ")).unwrap();
    let carried = outer.len() - outer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() - 4;
    // The inner request goes through the outer connection as TLS records.
    assert!(carried > inner.len() + 200, "{carried} and {}", inner.len());
}

#[test]
fn every_thread_of_a_process_is_seen() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python(&server);
    let mut watcher = Watcher::start(&Config::default());
    watcher.capture.watch(client.pid()).unwrap();
    client.tell("threads 12");
    assert_eq!(client.hear(), "joined");
    watcher.until("12 threads", |events| {
        streams(events, client.pid(), Direction::Received).values().map(Vec::len).sum::<usize>()
            == 12 * 11
    });
    let sent = streams(&watcher.events, client.pid(), Direction::Sent);
    let mut all: Vec<String> =
        sent.values().map(|bytes| String::from_utf8(bytes.clone()).unwrap()).collect();
    all.sort();
    assert_eq!(all, (0..12).map(|i| format!("thread {i:04}")).collect::<Vec<_>>());
}

#[test]
fn other_processes_with_the_same_library_are_not_seen() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python(&server);
    let mut other = Program::python(&server);
    let mut watcher = Watcher::start(&Config::default());
    watcher.capture.watch(client.pid()).unwrap();
    for _ in 0..10 {
        other.tell("echo private");
        assert_eq!(other.hear(), "echoed 7");
    }
    client.tell("echo public");
    assert_eq!(client.hear(), "echoed 6");
    watcher.stream(client.pid(), Direction::Received, 6);
    watcher.settle(Duration::from_millis(100));
    assert_eq!(bytes_of(&watcher.events, client.pid()), 12);
    assert_eq!(bytes_of(&watcher.events, other.pid()), 0);
    assert_eq!(bytes_of(&watcher.events, server.pid()), 0);
}

#[test]
fn the_hello_of_an_unwatched_process_is_seen_on_both_families() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python_without_ssl(&server);
    let mut watcher = Watcher::start(&Config::default());
    for (name, address) in [("api.openai.com", "127.0.0.1"), ("sonde.test", "::1")] {
        client.tell(&format!("connect {name} {address}"));
        assert_eq!(client.hear(), "connected");
        let ip: std::net::IpAddr = address.parse().unwrap();
        let expected = (client.pid(), Some(name), std::net::SocketAddr::new(ip, server.port));
        watcher.until("hello", |events| {
            events.iter().any(|event| match event {
                Event::Hello { process, server_name, peer, .. } => {
                    (process.pid, server_name.as_deref(), *peer) == expected
                        && *process == programs::identity(client.pid())
                }
                _ => false,
            })
        });
    }
    assert_eq!(bytes_of(&watcher.events, client.pid()), 0);
}

#[test]
fn hellos_of_curl_and_node_are_seen() {
    need_kernel!();
    let server = Server::start();
    let mut watcher = Watcher::start(&Config::default());
    let curl = Program::start(curl(&server, "/hello"));
    let mut command = Command::new("node");
    command.args(["-e", include_str!("client.js"), &server.port.to_string()]).arg(trusted());
    let mut node = Program::start(command);
    node.hear();
    node.tell("go");
    for pid in [curl.pid(), node.pid()] {
        watcher.until("hello", |events| {
            events.iter().any(|event| {
                matches!(event, Event::Hello { process, server_name: Some(name), .. }
                    if process.pid == pid && name == "sonde.test")
            })
        });
    }
}

/// A curl that asks the server for a path.
fn curl(server: &Server, path: &str) -> Command {
    let mut command = Command::new("curl");
    let port = server.port;
    command.args(["--silent", "--http1.1", "--cacert"]).arg(trusted());
    command.arg("--resolve").arg(format!("sonde.test:{port}:127.0.0.1"));
    command.arg(format!("https://sonde.test:{port}{path}"));
    command
}

fn exited(event: &Event, pid: u32) -> bool {
    matches!(event, Event::Exited { process, .. } if process.pid == pid)
}
