//! Names that processes of the node look up.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use capture::{Config, Event, ProcessId};

use crate::openings::{Anywhere, done};
use crate::programs::{Program, identity, need_kernel};
use crate::seen::Watcher;

fn name_server(addresses: &[&str]) -> Program {
    let mut command = Command::new("python3");
    command.args(["-u", "-c", include_str!("nameserver.py")]).args(addresses);
    let mut server = Program::start(command);
    assert_eq!(server.hear(), "ready", "port 53 is taken");
    server
}

fn resolved(events: &[Event], wanted: &str) -> Vec<(Option<ProcessId>, Vec<IpAddr>)> {
    let of = |event: &Event| match event {
        Event::Resolved { process, name, addresses, .. } if name == wanted => {
            Some((*process, addresses.clone()))
        }
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

#[test]
fn answers_over_every_transport_are_seen_with_who_asked() {
    need_kernel!();
    // As systemd-resolved's stub listens, on loopback; and one on IPv6.
    let server = name_server(&["127.0.0.53", "::1"]);
    let place = Anywhere::start();
    let mut sender = place.sender();
    let mut watcher = Watcher::start(&Config::default());
    let expected: Vec<IpAddr> =
        ["192.0.2.9", "2001:db8::9"].iter().map(|text| text.parse().unwrap()).collect();
    for (number, (at, how)) in [
        ("127.0.0.53", "unconnected"),
        ("127.0.0.53", "connected"),
        ("::1", "unconnected"),
        ("::1", "connected"),
        ("127.0.0.53", "tcp"),
        ("::1", "tcp"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("n{number}.sonde.test");
        done(&mut sender, &format!("ask {name} {at} {how}"));
        watcher.until(how, |events| !resolved(events, &name).is_empty());
        let found = resolved(&watcher.events, &name);
        assert_eq!(found, [(Some(identity(sender.pid())), expected.clone())], "{at} {how}");
    }
    watcher.settle(Duration::from_millis(50));
    assert!(resolved(&watcher.events, "other.example").is_empty());
    assert_eq!(watcher.capture.lost().answers, 0);
    drop(server);
}
