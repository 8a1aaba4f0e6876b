//! How connections open: hellos in every shape, requests, tunnels, and who opened them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use capture::{Caller, Config, Event, ProcessId};

use crate::programs::{Program, Server, identity, need_kernel, trusted};
use crate::seen::Watcher;

const SENDER: &str = include_str!("sender.py");

/// A place to connect to that takes whatever comes, on both families.
pub(crate) struct Anywhere {
    pub(crate) port: u16,
}

impl Anywhere {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                std::thread::spawn(move || std::io::copy(&mut connection, &mut std::io::sink()));
            }
        });
        Self { port }
    }

    pub(crate) fn sender(&self) -> Program {
        let mut command = Command::new("python3");
        command.args(["-u", "-c", SENDER, &self.port.to_string()]);
        Self::ready(command)
    }

    /// A sender behind another command, such as `unshare`.
    pub(crate) fn sender_behind(&self, words: &[&str]) -> Program {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["python3", "-u", "-c", SENDER, &self.port.to_string()]);
        Self::ready(command)
    }

    fn ready(command: Command) -> Program {
        let mut program = Program::start(command);
        assert_eq!(program.hear(), "ready");
        program
    }
}

pub(crate) fn done(sender: &mut Program, line: &str) {
    sender.tell(line);
    assert_eq!(sender.hear(), "done");
}

/// The hellos for a name.
pub(crate) fn hellos<'a>(events: &'a [Event], name: &str) -> Vec<&'a Event> {
    let is_named = |event: &&Event| matches!(event, Event::Hello { server_name: Some(known), .. } if known == name);
    events.iter().filter(is_named).collect()
}

/// Waits for the hello for a name, and returns who sent it and whether it may hide another.
pub(crate) fn hello(watcher: &mut Watcher, name: &str) -> (ProcessId, Caller, bool) {
    watcher.until(name, |events| !hellos(events, name).is_empty());
    watcher.settle(Duration::from_millis(20));
    let found = hellos(&watcher.events, name);
    assert_eq!(found.len(), 1, "{found:?}");
    match found[0] {
        Event::Hello { process, caller, ech, .. } => (*process, (**caller).clone(), *ech),
        _ => unreachable!(),
    }
}

/// The heads of the requests that a process opened connections with.
fn openings(events: &[Event], pid: u32) -> Vec<Vec<u8>> {
    let of = |event: &Event| match event {
        Event::Opening { process, bytes, .. } if process.pid == pid => {
            Some(bytes.as_bytes().to_vec())
        }
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_hello_in_segments_and_in_records_of_every_size_is_seen_once() {
    need_kernel!();
    let place = Anywhere::start();
    let mut sender = place.sender();
    let mut watcher = Watcher::start(&Config::default());
    let lines = [
        ("segments 1400", "a.sonde.test"),
        ("segments 100", "b.sonde.test"),
        ("segments 536", "c.sonde.test"),
        ("records 1", "d.sonde.test"),
        ("records 3", "e.sonde.test"),
        ("records 200", "f.sonde.test"),
        ("large", "g.sonde.test"),
        ("extension", "h.sonde.test"),
        ("multipath", "i.sonde.test"),
    ];
    for (word, name) in lines {
        done(&mut sender, &format!("{word} {name}"));
        let (process, caller, ech) = hello(&mut watcher, name);
        assert_eq!(process, identity(sender.pid()), "{word}");
        assert!(!ech && caller.name.starts_with("python3"), "{word} {caller:?}");
    }
    // One byte at a time: whoever cuts so small has time.
    done(&mut sender, "segments 7 z.sonde.test");
    hello(&mut watcher, "z.sonde.test");
    assert_eq!(watcher.capture.lost().openings, 0);
}

#[test]
fn a_real_hello_with_post_quantum_key_shares_is_seen_whole_and_in_two_segments() {
    need_kernel!();
    let recorded = |digits: &str| -> String { digits.split_whitespace().collect() };
    let open = recorded(include_str!("../../src/hello/go_post_quantum.hex"));
    let hidden = recorded(include_str!("../../src/hello/go_encrypted.hex"));
    let place = Anywhere::start();
    let mut sender = place.sender();
    let mut watcher = Watcher::start(&Config::default());
    let (first, rest) = open.split_at(2 * 1400);
    done(&mut sender, &format!("pieces {first} {rest}"));
    assert!(!hello(&mut watcher, "api.anthropic.com").2);
    done(&mut sender, &format!("raw {hidden}"));
    assert!(hello(&mut watcher, "front.example").2, "what is behind it is hidden");
}

#[test]
fn a_hello_in_the_first_packet_of_a_connection_is_seen() {
    need_kernel!();
    let place = Anywhere::start();
    // A network of its own, where fast open is allowed to both sides without a cookie.
    let allow = "ip link set lo up; echo 0x607 > /proc/sys/net/ipv4/tcp_fastopen; exec \"$@\"";
    let mut sender = place.sender_behind(&["unshare", "--net", "sh", "-c", allow, "sh"]);
    let mut watcher = Watcher::start(&Config::default());
    sender.tell("fast fast.sonde.test");
    assert_eq!(sender.hear(), "done in the SYN");
    assert_eq!(hello(&mut watcher, "fast.sonde.test").0, identity(sender.pid()));
}

#[test]
fn a_hello_that_may_hide_another_says_so() {
    need_kernel!();
    let place = Anywhere::start();
    let mut sender = place.sender();
    let mut watcher = Watcher::start(&Config::default());
    done(&mut sender, "ech front.sonde.test");
    assert!(hello(&mut watcher, "front.sonde.test").2);
}

#[test]
fn a_real_client_is_seen_in_both_versions_and_when_it_resumes() {
    need_kernel!();
    let server = Server::start();
    let mut watcher = Watcher::start(&Config::default());
    let directory = tempfile::tempdir().unwrap();
    let session = directory.path().join("session");
    let client = |version: &str, name: &str, session: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["s_client", version, "-quiet", "-alpn", "h2,http/1.1"]);
        command.args(["-servername", name, "-CAfile"]).arg(trusted()).args(session);
        command.args(["-connect", &format!("127.0.0.1:{}", server.port)]);
        command.stderr(std::process::Stdio::null());
        let mut client = Program::start(command);
        let pid = client.pid();
        client.tell("echo");
        assert_eq!(client.hear(), "echo");
        client.tell_last("end");
        pid
    };
    let path = session.to_str().unwrap();
    let rounds: [(&str, &str, &[&str]); 4] = [
        ("-tls1_2", "twelve.sonde.test", &[]),
        ("-tls1_3", "thirteen.sonde.test", &[]),
        ("-tls1_2", "first.sonde.test", &["-sess_out", path]),
        ("-tls1_2", "again.sonde.test", &["-sess_in", path]),
    ];
    for (version, name, session) in rounds {
        let pid = client(version, name, session);
        assert_eq!(hello(&mut watcher, name).0.pid, pid, "{version} {name}");
    }
}

#[test]
fn a_hello_that_is_passed_on_has_the_random_of_the_first() {
    need_kernel!();
    let place = Anywhere::start();
    let mut sender = place.sender();
    let mut watcher = Watcher::start(&Config::default());
    done(&mut sender, "relay passed.sonde.test");
    watcher.until("two hellos", |events| hellos(events, "passed.sonde.test").len() == 2);
    done(&mut sender, "hello own.sonde.test");
    hello(&mut watcher, "own.sonde.test");
    let of = |name: &str| -> Vec<(u32, u64)> {
        let told = |event: &&Event| match event {
            Event::Hello { process, random, .. } => (process.pid, *random),
            _ => unreachable!(),
        };
        hellos(&watcher.events, name).iter().map(told).collect()
    };
    let (passed, own) = (of("passed.sonde.test"), of("own.sonde.test"));
    assert_eq!(passed[0].1, passed[1].1);
    assert_ne!(passed[0].0, passed[1].0, "two processes");
    assert_ne!(passed[0].1, own[0].1);
}

#[test]
fn a_request_in_plain_text_is_seen_up_to_its_empty_line() {
    need_kernel!();
    let place = Anywhere::start();
    let mut sender = place.sender();
    let mut watcher = Watcher::start(&Config::default());
    let head = b"POST /api/chat HTTP/1.1\r\nHost: ollama:11434\r\nAuthorization: Bearer k\r\n\r\n";
    let whole = [head.as_slice(), b"{\"model\": \"the body\"}"].concat();
    done(&mut sender, &format!("raw {}", hex(&whole)));
    let cut = hex(head);
    let (one, rest) = cut.split_at(2);
    let (two, rest) = rest.split_at(60);
    done(&mut sender, &format!("pieces {one} {two} {rest}"));
    watcher.until("two requests", |events| openings(events, sender.pid()).len() == 2);
    // What else a program may say first is nobody's business.
    for other in
        [b"SSH-2.0-x\r\n".as_slice(), b"EHLO x\r\n", b"get x\r\n", b"\x00\x00\x00\x08", b"U"]
    {
        done(&mut sender, &format!("raw {}", hex(other)));
    }
    watcher.settle(Duration::from_millis(100));
    assert_eq!(openings(&watcher.events, sender.pid()), [head, head]);
    let own = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), place.port);
    let is_told = |event: &Event| {
        matches!(event, Event::Opening { process, peer, .. }
            if *process == identity(sender.pid()) && *peer == own)
    };
    assert!(watcher.events.iter().any(is_told));
}

#[test]
fn the_hello_in_a_tunnel_is_seen_after_the_request_for_it() {
    need_kernel!();
    let place = Anywhere::start();
    let mut sender = place.sender();
    let mut watcher = Watcher::start(&Config::default());
    let head = b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n";
    done(&mut sender, &format!("tunnel {} in.sonde.test", hex(head)));
    assert_eq!(hello(&mut watcher, "in.sonde.test").0, identity(sender.pid()));
    assert_eq!(openings(&watcher.events, sender.pid()), [head]);
    // The greeting of SOCKS 5 and 4.
    for (greeting, name) in
        [("050100", "five.sonde.test"), ("040101bb7f00000100", "four.sonde.test")]
    {
        done(&mut sender, &format!("tunnel {greeting} {name}"));
        assert_eq!(hello(&mut watcher, name).0, identity(sender.pid()));
    }
    assert_eq!(openings(&watcher.events, sender.pid()).len(), 1);
}

#[test]
fn connections_to_addresses_of_interest_are_told_and_no_others() {
    need_kernel!();
    let place = Anywhere::start();
    let mut sender = place.sender();
    let mut watcher = Watcher::start(&Config::default());
    let six: IpAddr = Ipv6Addr::LOCALHOST.into();
    watcher.capture.interest(&[IpAddr::from([127, 3, 3, 3]), IpAddr::from([127, 3, 3, 4]), six]);
    done(&mut sender, "connect 127.3.3.9");
    done(&mut sender, "connect 127.3.3.3");
    done(&mut sender, "mapped 127.3.3.4");
    done(&mut sender, "mapped 127.3.3.8");
    done(&mut sender, "connect ::1");
    let of = |events: &[Event]| -> Vec<String> {
        let told = |event: &Event| match event {
            Event::Connected { process, peer, caller, .. }
                if *process == identity(sender.pid()) && peer.port() == place.port =>
            {
                assert!(caller.program.is_some());
                Some(peer.ip().to_string())
            }
            _ => None,
        };
        events.iter().filter_map(told).collect()
    };
    watcher.until("connections", |events| of(events).len() >= 3);
    watcher.settle(Duration::from_millis(50));
    assert_eq!(of(&watcher.events), ["127.3.3.3", "127.3.3.4", "::1"]);
}
