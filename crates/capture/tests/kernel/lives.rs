//! Programs that start, fork, load, execute and end while they are watched.

use std::process::Command;
use std::time::{Duration, Instant};

use capture::{Config, Direction, Event, Plaintext, Start};

use crate::programs::{Program, Server, need_kernel, probe_links};
use crate::seen::{Watcher, bytes_of, streams};

#[test]
fn a_library_that_is_loaded_later_is_read() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python_without_ssl(&server);
    let mut watcher = Watcher::start(&Config::default());
    let watched = watcher.capture.watch(client.pid()).unwrap();
    assert_eq!(watched.libraries, []);
    client.tell("import");
    assert_eq!(client.hear(), "imported");
    watcher.until("attachment", |events| {
        events.iter().any(
            |event| matches!(event, Event::Attached { process, .. } if process.pid == client.pid()),
        )
    });
    client.tell("connect sonde.test");
    client.hear();
    client.tell("echo later");
    assert_eq!(client.hear(), "echoed 5");
    assert_eq!(watcher.stream(client.pid(), Direction::Sent, 5), b"later");
}

#[test]
fn a_library_that_was_deleted_is_read() {
    need_kernel!();
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.pid())).unwrap();
    for name in ["libssl.so", "libcrypto.so"] {
        let path = maps.split_whitespace().find(|word| word.contains(name)).unwrap();
        let file = path.rsplit_once('/').unwrap().1;
        std::fs::copy(path, directory.path().join(file)).unwrap();
    }
    let mut client = Program::python_with(&server, &[("LD_LIBRARY_PATH", directory.path())]);
    client.tell("connect sonde.test");
    assert_eq!(client.hear(), "connected");
    directory.close().unwrap();
    let mut watcher = Watcher::start(&Config::default());
    let watched = watcher.capture.watch(client.pid()).unwrap();
    assert_eq!(watched.libraries.len(), 1, "{watched:?}");
    client.tell("echo from nowhere");
    assert_eq!(client.hear(), "echoed 12");
    assert_eq!(watcher.stream(client.pid(), Direction::Sent, 12), b"from nowhere");
}

#[test]
fn fork_children_are_watched_at_once() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python(&server);
    let mut watcher = Watcher::start(&Config::default());
    watcher.capture.watch(client.pid()).unwrap();
    client.tell("fork from the child");
    let child: u32 = client.hear().parse().unwrap();
    watcher.until("start of the child", |events| {
        events.iter().any(|event| {
            matches!(event, Event::Started { process, parent, how: Start::Forked, watched: true, .. }
                if process.pid == child && parent.pid == client.pid())
        })
    });
    client.tell("go");
    assert_eq!(client.hear(), "child done");
    assert_eq!(client.hear(), "waited");
    assert_eq!(watcher.stream(child, Direction::Sent, 14), b"from the child");
    watcher
        .until("end of the child", |events| events.iter().any(|event| crate::exited(event, child)));
    let end = watcher.events.iter().position(|event| crate::exited(event, child)).unwrap();
    let last = watcher.events.iter().rposition(
        |event| matches!(event, Event::Data(data) if data.connection.process.pid == child),
    );
    assert!(last.unwrap() < end, "bytes after the end");
    assert_eq!(watcher.capture.watched(), [client.pid()]);
}

#[test]
fn executing_another_program_ends_the_watch() {
    need_kernel!();
    let mut watcher = Watcher::start(&Config::default());
    let mut command = Command::new("sh");
    command.args(["-c", "read go; exec cat"]);
    let mut shell = Program::start(command);
    watcher.follow_exec(shell.pid());
    assert_eq!(watcher.capture.watched(), [shell.pid()]);
    watcher.events.clear();
    shell.tell("go");
    watcher.until("exec", |events| {
        events.iter().any(|event| {
            matches!(event, Event::Started { process, how: Start::Executed, watched: false, .. }
                if process.pid == shell.pid())
        })
    });
    assert_eq!(watcher.capture.watched(), [0; 0]);
}

#[test]
fn unwatching_removes_the_probes_and_nothing_more_is_seen() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python(&server);
    let mut watcher = Watcher::start(&Config::default());
    assert_eq!(probe_links(), 0);
    watcher.capture.watch(client.pid()).unwrap();
    assert_eq!(probe_links(), 2, "one for calls, one for returns");
    client.tell("echo seen");
    client.hear();
    watcher.stream(client.pid(), Direction::Received, 4);
    watcher.capture.unwatch(client.pid());
    assert_eq!(probe_links(), 0);
    client.tell("echo not seen");
    assert_eq!(client.hear(), "echoed 8");
    watcher.settle(Duration::from_millis(100));
    assert_eq!(bytes_of(&watcher.events, client.pid()), 8);
    let closed = watcher.events.iter().filter(|event| matches!(event, Event::Closed { .. }));
    assert_eq!(closed.count(), 1);
    // And again: a second watch sees again, as a new connection.
    watcher.capture.watch(client.pid()).unwrap();
    client.tell("echo again");
    client.hear();
    watcher.until("bytes", |events| {
        streams(events, client.pid(), Direction::Sent).values().any(|bytes| bytes == b"again")
    });
}

#[test]
fn the_end_of_a_process_closes_its_connections_and_removes_its_probes() {
    need_kernel!();
    let server = Server::start();
    let mut client = Program::python(&server);
    let pid = client.pid();
    let mut watcher = Watcher::start(&Config::default());
    watcher.capture.watch(pid).unwrap();
    client.tell("echo last words");
    assert_eq!(client.hear(), "echoed 10");
    drop(client);
    watcher.until("end", |events| events.iter().any(|event| crate::exited(event, pid)));
    let last: Vec<&Event> = watcher
        .events
        .iter()
        .filter(|event| match event {
            Event::Data(Plaintext { connection, .. }) | Event::Closed { connection, .. } => {
                connection.process.pid == pid
            }
            event => crate::exited(event, pid),
        })
        .collect();
    assert!(
        matches!(last[..], [.., Event::Data(_), Event::Closed { .. }, Event::Exited { .. }]),
        "{last:?}"
    );
    let until = Instant::now() + Duration::from_secs(5);
    while probe_links() > 0 {
        assert!(Instant::now() < until, "probes of a process that is gone");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(matches!(watcher.capture.watch(pid), Err(capture::Error::Gone { .. })));
}

#[test]
fn a_wait_ends_when_another_thread_asks() {
    need_kernel!();
    let mut watcher = Watcher::start(&Config::default());
    watcher.settle(Duration::from_millis(50));
    let waker = watcher.capture.waker();
    let start = Instant::now();
    let asked = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        // More often than a pipe has room.
        for _ in 0..100_000 {
            waker.wake();
        }
    });
    // Other programs of this machine start and end, and their events come first.
    while watcher.capture.next(Duration::from_secs(9)).is_some() {
        assert!(start.elapsed() < Duration::from_secs(8));
    }
    assert!(start.elapsed() < Duration::from_secs(8));
    asked.join().unwrap();
}
