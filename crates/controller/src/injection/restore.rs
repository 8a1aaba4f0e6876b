//! Takes everything back that was changed on a node, for a Sonde that leaves it.

use super::kept::Records;
use injector::{Hands, Undone};
use std::path::Path;

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
    let one = |(key, record): (&contract::workload::Key, &super::kept::Record)| Restored {
        key: key.0.clone(),
        change: record.difference.clone(),
        outcome: Ok(None),
    };
    changed.map(one).collect()
}

/// Takes all of it back; what runs with a change is restarted without it. May be called again.
///
/// # Errors
///
/// When nothing can be begun; what fails for one workload stands in its outcome.
pub fn restore(data_dir: &Path, root: &Path) -> std::io::Result<Vec<Restored>> {
    let mut records = Records::open(data_dir);
    let hands = Hands::new(root)?;
    let mut all = Vec::new();
    for (key, record) in records.all().clone() {
        if !record.is_in_effect() {
            continue;
        }
        let outcome = match hands.undo(&record.change, false) {
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
