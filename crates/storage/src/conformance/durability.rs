//! What was reported as kept is there after a kill, once.

use super::{NOON, SECOND, call};
use crate::{CallsQuery, Span, Store};
use contract::row::{Call, Time};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names the directory to the process that is killed.
const DIR: &str = "SONDE_TEST_WRITE_UNTIL_KILLED";

/// Kills, and how many share a directory: what is left of one is what the next goes on with.
const KILLS: u64 = 300;
const KILLS_OF_A_DIRECTORY: u64 = 25;

#[expect(clippy::disallowed_methods, reason = "how a test speaks to its own child")]
fn child() -> Option<(PathBuf, u64)> {
    let text = std::env::var(DIR).ok()?;
    let (first, dir) = text.split_once(':')?;
    Some((PathBuf::from(dir), first.parse().ok()?))
}

/// A call that its number alone says. Two days, so that a commit has two files.
pub(super) fn numbered(number: u64) -> Call {
    call(number, (number % 2 * 86_400 + number % 5000) as i64)
}

/// Writes without end from several threads, and says what was kept as soon as it was.
fn write_until_killed(dir: &Path, first: u64) {
    let store = Store::open_with(&super::place(dir)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let mut number = first + thread * 1_000_000;
                for batch in 1.. {
                    // From single calls to more than a block.
                    let len = [1, 3, 40, 700][batch % 4] + thread;
                    let calls = (number..number + len).map(numbered).collect();
                    let kept = store.insert(calls).unwrap();
                    assert_eq!((kept.new.len() as u64, kept.duplicates), (len, 0));
                    println!("kept {number} {len}");
                    number += len;
                }
            });
        }
    });
}

/// Runs the writer until it was heard so many times, and kills it. The numbers that it said were
/// kept.
fn killed_after(lines: u64, dir: &Path, first: u64) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("conformance::durability::nothing_that_was_reported_as_kept_is_lost_by_a_kill")
        .env(DIR, format!("{first}:{}", dir.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut kept = Vec::new();
    let (mut heard, mut line) = (0, String::new());
    while output.read_line(&mut line).unwrap_or(0) > 0 {
        // A line that the kill cut is no promise.
        let said = line.strip_suffix('\n').and_then(|line| line.split_once("kept "));
        if let Some((_, numbers)) = said {
            let (first, len) = numbers.split_once(' ').unwrap();
            let (first, len): (u64, u64) = (first.parse().unwrap(), len.parse().unwrap());
            kept.extend(first..first + len);
            heard += 1;
            if heard == lines {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(heard >= lines, "the writer ended by itself after {heard} lines");
    kept
}

/// Holds a store to what was reported: all of it is there, and nothing twice.
pub(super) fn check(store: &Store, kept: &BTreeSet<u64>, what: &str) {
    let all = CallsQuery { limit: 1_000_000, ..CallsQuery::default() };
    let found = store.calls(&all).unwrap().calls;
    let numbers: BTreeSet<u64> =
        found.iter().map(|call| u64::from_str_radix(&call.span_id, 16).unwrap()).collect();
    assert_eq!(numbers.len(), found.len(), "{what}: each is there once");
    let lost = kept.difference(&numbers).count();
    assert_eq!(lost, 0, "{what}: {lost} of {} lost", kept.len());
    let span = Span {
        from: Time(NOON - 86_400 * SECOND),
        to: Time(NOON + 3 * 86_400 * SECOND),
        ..Span::default()
    };
    let counted = store.overview(&span).unwrap().totals.calls;
    assert_eq!(counted, found.len() as u64, "{what}: the sums count what is there");
}

#[test]
fn nothing_that_was_reported_as_kept_is_lost_by_a_kill() {
    if let Some((dir, first)) = child() {
        return write_until_killed(&dir, first);
    }
    // Two directories at a time: a kill waits for the disk most of the time.
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                for round in 0..KILLS / KILLS_OF_A_DIRECTORY / 2 {
                    kill_often(half * 100 + round);
                }
            });
        }
    });
}

fn kill_often(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = BTreeSet::new();
    for kill in 0..KILLS_OF_A_DIRECTORY {
        // Numbers that look random and are the same every time (Knuth's MMIX).
        let chance = (seed * 1000 + kill).wrapping_mul(6_364_136_223_846_793_005);
        let lines = 1 + (chance >> 33) % super::times(12, 4);
        kept.extend(killed_after(lines, dir.path(), 1 + kill * 10_000_000));
    }
    assert!(kept.len() as u64 > super::times(500, 100), "{}", kept.len());
    let store = Store::open_with(&super::place(dir.path())).unwrap();
    check(&store, &kept, &format!("directory {seed}"));
}
