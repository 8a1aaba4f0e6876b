//! The controller listens on no network. A test file of its own, since other tests of the same
//! process do listen.

use controller::{Config, Controller};
use std::time::Duration;

/// Inodes of our own sockets that listen on TCP or are bound on UDP.
fn listening() -> Vec<String> {
    let socket = |entry: std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    };
    let descriptors = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let own: Vec<String> = descriptors.filter_map(socket).collect();
    let mut found = Vec::new();
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = std::fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields.get(3) == Some(&state)
                && own.iter().any(|inode| fields.get(9) == Some(&inode.as_str()))
            {
                found.push(line.to_owned());
            }
        }
    }
    found
}

#[test]
fn nothing_listens_but_the_unix_socket() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(listening().len(), 1, "the test sees what listens");
    let dashboard = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("controller.sock");
    let config = Config {
        socket: Some(socket.clone()),
        ebpf: false,
        ..Config::new(directory.path(), dashboard)
    };
    let controller = Controller::start(config).unwrap();
    for _ in 0..10 {
        assert_eq!(listening(), Vec::<String>::new());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(socket.exists());
    controller.stop();
}
