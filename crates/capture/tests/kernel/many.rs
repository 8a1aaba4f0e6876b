//! Many connections, and many processes that are gone at once. The long forms, a minute each,
//! are in the bench `connects`.

use capture::Config;

use crate::load::{self, Sink, name};
use crate::programs::need_kernel;
use crate::seen::Watcher;

#[test]
fn a_thousand_connections_a_second_are_all_seen() {
    need_kernel!();
    let sink = Sink::start();
    let mut watcher = Watcher::start(&Config::default());
    let count = load::connections(&mut watcher.capture, &sink, (5_000, 1_000));
    assert_eq!(count.once((0..5_000).map(|number| name("c", number))), 5_000);
    let lost = watcher.capture.lost();
    assert_eq!((lost.openings, lost.unfinished), (0, 0));
}

#[test]
fn processes_that_are_gone_at_once_are_all_seen_with_their_arguments_and_leave_nothing() {
    need_kernel!();
    let directory = tempfile::tempdir().unwrap();
    let program = load::short_program(directory.path());
    let sink = Sink::start();
    let mut watcher = Watcher::start(&Config::default());
    let churn = |watcher: &mut Watcher, count| {
        let seen = load::processes(&mut watcher.capture, &sink, &program, (count, 170));
        assert_eq!(seen.once((0..count).map(|number| name("p", number))), count);
        assert_eq!(seen.named, count, "each has its arguments");
    };
    churn(&mut watcher, 100);
    let (descriptors, resident) = (load::descriptors(), load::resident_kib());
    churn(&mut watcher, 400);
    assert_eq!(load::descriptors(), descriptors);
    // What is remembered of 400 programs, each with 2 KiB at most, and what the count needs.
    let grown = load::resident_kib().saturating_sub(resident);
    assert!(grown < 4096, "{grown} KiB");
    let lost = watcher.capture.lost();
    assert_eq!((lost.openings, lost.unfinished, lost.records), (0, 0, 0));
}
