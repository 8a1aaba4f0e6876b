//! What it costs a connection that its first bytes are seen, and whether any is missed: 1,000
//! connections a second for a minute, and 10,000 processes in a minute that are gone at once.
//!
//! Prints a table of nanoseconds for connections of this very process over loopback, without
//! and with the programs attached, in turn; then what was seen of the long runs, and what they
//! left behind. Needs root and a C compiler. `SONDE_BENCH_SECONDS` shortens the long runs.
#![expect(clippy::unwrap_used, reason = "a bench that cannot run has nothing to say")]
#![expect(clippy::print_stdout, reason = "a bench prints its results")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

#[path = "../tests/kernel/load.rs"]
mod load;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use capture::{Capture, Config};

use load::{Sink, name};

/// Connections of one round.
const CONNECTIONS: usize = 2_000;
/// Rounds, of which the least counts: what else the machine does only adds.
const ROUNDS: usize = 9;
const PER_SECOND: u32 = 1_000;
/// 10,000 in a minute.
const PROCESSES_PER_SECOND: u32 = 167;

fn main() {
    // `cargo test --benches` only asks whether it runs.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let sink = Sink::start();
    if let Err(error) = Capture::start(&Config::default()) {
        println!("NOT RUN: {error}");
        return;
    }
    cost(&sink);
    let seconds = std::env::var("SONDE_BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds = seconds.unwrap_or(60);
    println!();
    println!("{:<36}{:>8}{:>8}{:>8}{:>8}", "run", "made", "seen", "missed", "named");
    let mut capture = Capture::start(&Config::default()).unwrap();
    many_connections(&mut capture, &sink, seconds);
    many_processes(&mut capture, &sink, seconds);
    println!("lost: {:?}", capture.lost());
}

/// Times connections without and with the programs attached.
fn cost(sink: &Sink) {
    let plain = load::hello("a.bench.test");
    let mut least = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        least[0] = least[0].min(round(sink, &plain));
        let mut capture = Capture::start(&Config::default()).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    while capture.next(Duration::from_millis(1)).is_some() {}
                }
            });
            least[1] = least[1].min(round(sink, &plain));
            done.store(true, Ordering::Release);
            reader.join().unwrap();
        });
    }
    let [without, with] = least;
    println!("TCP connections over loopback that send a ClientHello and are closed");
    println!("{:<36}{:>12}{:>12}{:>8}", "programs", "ns/connect", "added ns", "ratio");
    println!("{:<36}{without:>12.0}{:>12.0}{:>8.2}", "none", 0.0, 1.0);
    println!(
        "{:<36}{with:>12.0}{:>12.0}{:>8.2}",
        "all attached, and read",
        with - without,
        with / without
    );
}

/// Nanoseconds of one connection.
fn round(sink: &Sink, bytes: &[u8]) -> f64 {
    let start = Instant::now();
    for number in 0..CONNECTIONS {
        load::connect(sink.address(number), bytes);
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(u32::try_from(CONNECTIONS).unwrap())
}

fn many_connections(capture: &mut Capture, sink: &Sink, seconds: u32) {
    let made = usize::try_from(seconds * PER_SECOND).unwrap();
    let count = load::connections(capture, sink, (made, PER_SECOND));
    let seen = count.once((0..made).map(|number| name("c", number)));
    let what = format!("{PER_SECOND} connections/s for {seconds} s");
    println!("{what:<36}{made:>8}{seen:>8}{:>8}{:>8}", made - seen, "-");
}

fn many_processes(capture: &mut Capture, sink: &Sink, seconds: u32) {
    let directory = tempfile::tempdir().unwrap();
    let program = load::short_program(directory.path());
    let made = usize::try_from(seconds * PROCESSES_PER_SECOND).unwrap();
    // What is remembered of processes fills up first, so that only a leak can grow.
    load::processes(capture, sink, &program, (made / 2, PROCESSES_PER_SECOND));
    let before = (load::descriptors(), load::resident_kib());
    let count = load::processes(capture, sink, &program, (made, PROCESSES_PER_SECOND));
    let after = (load::descriptors(), load::resident_kib());
    let seen = count.once((0..made).map(|number| name("p", number)));
    let what = format!("{PROCESSES_PER_SECOND} processes/s for {seconds} s");
    println!("{what:<36}{made:>8}{seen:>8}{:>8}{:>8}", made - seen, count.named);
    println!(
        "left behind by {made} processes: {} descriptors, {} KiB of resident memory",
        after.0.saturating_sub(before.0),
        after.1.saturating_sub(before.1)
    );
}
