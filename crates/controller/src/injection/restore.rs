//! Takes everything back that was changed on a node, for a Sonde that leaves it.

use super::kept::{Record, Records};
use super::turns::{is_shared, rolls};
use crate::clock::Now;
use contract::workload::Key;
use injector::{Cluster, End, Hands, How, Turn, Turns, Undone};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a turn is waited for: two rollouts, each of which may take the time of a deadline.
const PATIENCE_NANOS: u64 = 1_800_000_000_000;
/// How long a rollout without the SDK is waited for, while its turn is kept.
const LEAVING_NANOS: u64 = 600_000_000_000;
/// How often a turn is asked for, or renewed.
const PAUSE: Duration = Duration::from_secs(2);

/// A workload that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Its key.
    pub key: String,
    /// What was changed, as a difference without secrets.
    pub change: String,
    /// What came of taking it back: what of others stayed, or why it failed.
    pub outcome: Result<Option<String>, String>,
}

/// What is changed on this node, by the records in the data directory of a controller that does not
/// run. Nothing is touched.
pub fn changed(data_dir: &Path) -> Vec<Restored> {
    let records = Records::open(data_dir);
    let changed = records.all().iter().filter(|(_, record)| record.is_in_effect());
    let one = |(key, record): (&Key, &Record)| Restored {
        key: key.0.clone(),
        change: record.difference.clone(),
        outcome: Ok(None),
    };
    changed.map(one).collect()
}

/// Takes all of it back; what runs with a change is restarted without it. Workloads of a cluster are
/// taken in turns with the controllers of other nodes, by way of `kubeconfig` or of our own pod. May
/// be called again. What is waited for is told to `said`.
///
/// # Errors
///
/// When nothing can be begun; what fails for one workload stands in its outcome.
pub fn restore(
    data_dir: &Path,
    root: &Path,
    kubeconfig: Option<PathBuf>,
    said: impl Fn(&str),
) -> io::Result<Vec<Restored>> {
    let mut records = Records::open(data_dir);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // Controllers know by this name whose turn it is; none of them is called so.
    let node = format!("{}/uninstall", host.trim());
    let cluster = Cluster { kubeconfig, node, ..Cluster::default() };
    let hands = Hands::new(root)?.with_cluster(cluster.clone());
    let mut turns = Turns::new(cluster)?;
    let mut all = Vec::new();
    for (key, record) in records.all().clone() {
        if !record.is_in_effect() {
            continue;
        }
        let undone = match is_shared(&record) {
            true => in_turn((&hands, &mut turns), &key, &record, &said),
            false => hands.undo(&record.change, false),
        };
        let outcome = match undone {
            Ok(Undone::Exactly) => Ok(None),
            Ok(Undone::Ours(kept)) => Ok(Some(kept)),
            Err(reason) => Err(reason),
        };
        if outcome.is_ok() {
            records.forget(&key)?;
        }
        all.push(Restored { key: key.0, change: record.difference, outcome });
    }
    Ok(all)
}

/// Takes one change back in its turn, which is kept until its pods are replaced.
fn in_turn(
    (hands, turns): (&Hands, &mut Turns),
    key: &Key,
    record: &Record,
    said: &impl Fn(&str),
) -> Result<Undone, String> {
    let since = || Now::read().monotonic.0;
    let began = since();
    let mut told = String::new();
    loop {
        let waits = match turns.claim(&key.0, rolls(record))? {
            Turn::Ours => break,
            Turn::Theirs(by) => format!("{} waits: another node has it in hand ({by}).", key.0),
            Turn::Full => {
                format!("{} waits: two rollouts are under way in this cluster.", key.0)
            }
        };
        if since().saturating_sub(began) >= PATIENCE_NANOS {
            return Err(format!("it had no turn within half an hour. {waits}"));
        }
        if waits != told {
            said(&waits);
            told = waits;
        }
        std::thread::sleep(PAUSE);
    }
    let undone = hands.undo(&record.change, false);
    if undone.is_ok() && record.generation > 0 {
        let reason = "`sonde controller uninstall --restore` took it out";
        turns.ended(&key.0, &End::new(record.generation, How::Reverted, reason))?;
    }
    let began = since();
    while undone.is_ok()
        && since().saturating_sub(began) < LEAVING_NANOS
        && !turns.is_settled(&record.change).unwrap_or(false)
    {
        turns.keep(false).unwrap_or_default();
        std::thread::sleep(PAUSE);
    }
    // It passes by itself, where nobody hears of this.
    turns.release(&key.0).unwrap_or_default();
    undone
}
