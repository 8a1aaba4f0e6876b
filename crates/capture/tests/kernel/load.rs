//! Many connections and many processes, for the tests and for the bench `connects`.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use capture::{Capture, Event};

/// Takes connections, reads a little of each and closes it.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) port: u16,
}

/// How often each name was seen.
#[derive(Debug, Default)]
pub(crate) struct Count {
    hellos: HashMap<String, usize>,
    /// Hellos whose process has the arguments that it was started with.
    pub(crate) named: usize,
}

impl Sink {
    /// Listens on loopback for as long as this process lives.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for connection in listener.incoming() {
                // A client that is gone already is as good.
                drop(connection.and_then(|mut connection| connection.read(&mut [0; 2048])));
            }
        });
        Self { port }
    }

    /// One of many addresses, so that the ports of one are not used up.
    pub(crate) fn address(&self, number: usize) -> SocketAddr {
        let last = u8::try_from(number % 200).unwrap() + 1;
        SocketAddr::new(IpAddr::from([127, 77, 7, last]), self.port)
    }
}

impl Count {
    /// How many of these names were seen exactly once.
    pub(crate) fn once(&self, names: impl Iterator<Item = String>) -> usize {
        names.filter(|name| self.hellos.get(name) == Some(&1)).count()
    }

    pub(crate) fn take(&mut self, event: Event) {
        if let Event::Hello { server_name: Some(name), caller, .. } = event
            && name.ends_with(".load.test")
        {
            let arguments = caller.program.as_ref().map(|program| program.arguments.as_bytes());
            let ends = format!("\0{name}\0");
            if arguments.is_some_and(|arguments| arguments.ends_with(ends.as_bytes())) {
                self.named += 1;
            }
            *self.hellos.entry(name).or_default() += 1;
        }
    }
}

/// The name of a connection.
pub(crate) fn name(kind: &str, number: usize) -> String {
    format!("{kind}{number}.load.test")
}

/// The least hello that has a name.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let names = sized(&[&[0][..], &sized(name.as_bytes())].concat());
    let extensions = sized(&[&[0, 0][..], &sized(&names)].concat());
    let body = [&[3, 3][..], &[9; 32], &[0, 0, 2, 0x13, 1, 1, 0], &extensions].concat();
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &len[1..], &body].concat();
    [&[0x16, 3, 1][..], &sized(&message)].concat()
}

/// Opens a connection, sends bytes and closes it.
pub(crate) fn connect(to: SocketAddr, bytes: &[u8]) {
    let mut connection = TcpStream::connect(to).unwrap();
    connection.write_all(bytes).unwrap();
}

/// Makes connections at a rate while a capture is read, and says what was seen.
pub(crate) fn connections(
    capture: &mut Capture,
    sink: &Sink,
    (count, per_second): (usize, u32),
) -> Count {
    reading(capture, || {
        let start = Instant::now();
        for number in 0..count {
            let due = start + Duration::from_secs(1) * u32::try_from(number).unwrap() / per_second;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            connect(sink.address(number), &hello(&name("c", number)));
        }
    })
}

/// Starts processes at a rate, each of which makes one connection and ends.
pub(crate) fn processes(
    capture: &mut Capture,
    sink: &Sink,
    program: &Path,
    (count, per_second): (usize, u32),
) -> Count {
    reading(capture, || {
        let start = Instant::now();
        for number in 0..count {
            let due = start + Duration::from_secs(1) * u32::try_from(number).unwrap() / per_second;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let to = sink.address(number);
            let words = [to.ip().to_string(), to.port().to_string(), name("p", number)];
            assert!(Command::new(program).args(words).status().unwrap().success());
        }
    })
}

/// Reads a capture while something is done, and a little longer.
fn reading(capture: &mut Capture, work: impl FnOnce()) -> Count {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut count = Count::default();
            loop {
                let is_done = done.load(Ordering::Acquire);
                match capture.next(Duration::from_millis(50)) {
                    Some(event) => count.take(event),
                    None if is_done => return count,
                    None => {}
                }
            }
        });
        work();
        done.store(true, Ordering::Release);
        reader.join().unwrap()
    })
}

/// Builds the program that is gone at once.
pub(crate) fn short_program(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/short.c");
    let program = directory.join("short");
    let built = Command::new("cc").arg("-O2").arg("-o").arg(&program).arg(source).status().unwrap();
    assert!(built.success(), "cannot build tests/kernel/short.c; install gcc");
    program
}

/// Open descriptors of this process.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Resident memory of this process, in KiB.
pub(crate) fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
