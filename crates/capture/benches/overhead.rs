//! Added time per TLS call: for a process that is not watched while another one is, for one
//! that is watched, and for one whose connections are ignored.
//!
//! Prints a table of nanoseconds and of ratios to the same program's time before anything
//! was attached, all from one run. Needs root, a C compiler and OpenSSL's headers.
#![expect(clippy::unwrap_used, reason = "a bench that cannot run has nothing to say")]
#![expect(clippy::print_stdout, reason = "a bench prints its results")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use capture::{Capture, Config, Event};

/// Repeats of the whole, of which the least counts: what else the machine does only adds.
const REPEATS: usize = 3;

struct Client {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Client {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(directory.join("client"))
            .args(["cert.pem", "key.pem"])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut client = Self { child, output };
        assert_eq!(client.hear(), "ready");
        client
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Nanoseconds of one call, while `capture` is read.
    fn time(&mut self, capture: &mut Capture) -> f64 {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    while capture.next(Duration::from_millis(1)).is_some() {}
                }
            });
            let mut least = f64::INFINITY;
            for _ in 0..REPEATS {
                self.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
                least = least.min(self.hear().parse::<f64>().unwrap());
            }
            done.store(true, Ordering::Release);
            reader.join().unwrap();
            least
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn main() {
    // `cargo test --benches` only asks whether it runs.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    build(directory.path());
    let mut watched = Client::start(directory.path());
    let mut other = Client::start(directory.path());
    let mut capture = match Capture::start(&Config::default()) {
        Ok(capture) => capture,
        Err(error) => {
            println!("NOT RUN: {error}");
            return;
        }
    };
    let before = watched.time(&mut capture);
    let other_before = other.time(&mut capture);
    let pid = watched.child.id();
    assert_eq!(capture.watch(pid).unwrap().libraries.len(), 1);
    let other_after = other.time(&mut capture);
    let with = watched.time(&mut capture);
    ignore_all(&mut watched, &mut capture);
    let ignored = watched.time(&mut capture);
    capture.unwatch(pid);
    let after = watched.time(&mut capture);

    println!("TLS calls of 64 bytes (SSL_write and SSL_read in turn), OpenSSL, memory BIOs");
    println!("{:<34}{:>10}{:>12}{:>8}", "process", "ns/call", "added ns", "ratio");
    let row = |name: &str, now: f64, before: f64| {
        println!("{name:<34}{now:>10.0}{:>12.0}{:>8.2}", now - before, now / before);
    };
    row("before", before, before);
    row("not watched, another one is", other_after, other_before);
    row("watched", with, before);
    row("watched, connections ignored", ignored, before);
    row("watched no more", after, before);
    println!("lost: {:?}", capture.lost());
}

/// Lets the client make calls until every connection of it is known and ignored.
fn ignore_all(client: &mut Client, capture: &mut Capture) {
    client.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    let mut connections = BTreeSet::new();
    while connections.len() < 2 {
        if let Some(Event::Data(data)) = capture.next(Duration::from_millis(100))
            && connections.insert(data.connection)
        {
            capture.ignore(data.connection);
        }
    }
    while capture.next(Duration::from_millis(50)).is_some() {}
    client.hear();
}

fn build(directory: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/client.c");
    let built = Command::new("cc")
        .args(["-O2", "-o", "client"])
        .arg(source)
        .args(["-lssl", "-lcrypto"])
        .current_dir(directory)
        .status()
        .unwrap();
    assert!(built.success(), "cannot build benches/client.c; install gcc and libssl-dev");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=sonde.test", "-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(directory)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
}
