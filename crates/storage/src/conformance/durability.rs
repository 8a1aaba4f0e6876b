//! What was reported as kept is there after a kill, once.

use super::call;
use crate::{CallsQuery, Store};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names the directory to the process that is killed.
const DIR: &str = "SONDE_TEST_WRITE_UNTIL_KILLED";

#[expect(clippy::disallowed_methods, reason = "how a test speaks to its own child")]
fn child_dir() -> Option<PathBuf> {
    std::env::var(DIR).ok().map(PathBuf::from)
}

/// Writes without end from several threads, and says what was kept as soon as it was.
fn write_until_killed(dir: &Path) {
    let store = Store::open_with(&super::place(dir)).unwrap();
    let first = u64::try_from(store.calls(&everything()).unwrap().calls.len()).unwrap() + 1;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for batch in 0.. {
                    let number = first * 1_000_000 + thread * 100_000 + batch * 3;
                    // Two days, so that a commit has two files.
                    let calls = (0..3).map(|n| call(number + n, n as i64 % 2 * 86_400)).collect();
                    let kept = store.insert(calls).unwrap();
                    println!(
                        "kept {}",
                        kept.new.iter().map(|c| &*c.id).collect::<Vec<_>>().join(" ")
                    );
                }
            });
        }
    });
}

fn everything() -> CallsQuery {
    CallsQuery { limit: 1_000_000, ..CallsQuery::default() }
}

#[test]
fn nothing_that_was_reported_as_kept_is_lost_by_a_kill() {
    if let Some(dir) = child_dir() {
        return write_until_killed(&dir);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut kept = BTreeSet::new();
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("conformance::durability::nothing_that_was_reported_as_kept_is_lost_by_a_kill")
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        let mut take = |line: std::io::Result<String>| {
            let line = line.unwrap();
            let ids = line.split_once("kept ").map(|(_, ids)| ids.to_owned());
            seen += u64::from(ids.is_some());
            kept.extend(ids.unwrap_or_default().split_whitespace().map(str::to_owned));
            seen
        };
        while take(lines.next().unwrap()) < 40 * round {}
        child.kill().unwrap();
        child.wait().unwrap();
        // What was said before the kill counts too; a line that the kill cut is no promise.
        let rest: Vec<_> = lines.map_while(Result::ok).collect();
        for line in rest.iter().take(rest.len().saturating_sub(1)) {
            take(Ok(line.clone()));
        }
        let store = Store::open_with(&super::place(dir.path())).unwrap();
        let found: Vec<_> =
            store.calls(&everything()).unwrap().calls.into_iter().map(|c| c.id).collect();
        let once: BTreeSet<_> = found.iter().cloned().collect();
        assert_eq!(once.len(), found.len(), "each is there once");
        let lost: Vec<_> = kept.difference(&once).collect();
        assert!(lost.is_empty(), "round {round}: {} of {} lost", lost.len(), kept.len());
    }
    assert!(kept.len() > 600, "{}", kept.len());
}
