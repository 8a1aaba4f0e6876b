//! What was changed for the SDK, on disk: noted before anything is touched, with the way back.

use crate::file;
use contract::before::Before;
use contract::capture::State;
use contract::workload::{Agent, Key};
use injector::Target;
use injector::plan::Change;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of the file.
const VERSION: u32 = 1;

/// A thousand changes, some with the whole description of a container.
const MAX_FILE: u64 = 256 << 20;

/// One changed workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) target: Target,
    /// What is, or was, in effect, with what was there before.
    pub(crate) change: Change,
    /// The same for people, without secrets.
    pub(crate) difference: String,
    /// Number of the wish that it was made for.
    pub(crate) generation: u64,
    pub(crate) phase: Phase,
}

/// How far a change is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Being made: some of it may be in effect.
    Making,
    /// Made, and watched until the window is over.
    Watched { since_unix_nanos: u64 },
    /// Made, and well.
    InEffect,
    /// Being taken back.
    Undoing(Why),
    /// Taken back, because it did not go well; stays until somebody wishes it anew.
    RolledBack { reason: String },
    /// Taken out by somebody else; stays until somebody wishes it anew.
    Reverted { reason: String },
}

/// Why a change is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    /// It is not wanted any more.
    NotWanted,
    /// The controller ended while it was being made.
    Interrupted,
    /// It did not go well.
    Unwell { reason: String },
    /// Somebody took it out by other means; what is left of it goes, too.
    Reverted { reason: String },
}

impl Record {
    /// Whether something of it may be in effect.
    pub(crate) fn is_in_effect(&self) -> bool {
        !matches!(self.phase, Phase::RolledBack { .. } | Phase::Reverted { .. })
    }
}

/// All records, and their file.
#[derive(Debug)]
pub(crate) struct Records {
    file: PathBuf,
    all: BTreeMap<Key, Record>,
    /// Changes that there are no notes of, with what the dashboard says was there before.
    lost: BTreeMap<Key, Before>,
    /// Nothing was ever noted here, or it is gone.
    is_fresh: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    records: BTreeMap<Key, Record>,
    #[serde(default)]
    lost: BTreeMap<Key, Before>,
}

impl Records {
    /// Those that are kept in a directory.
    pub(crate) fn open(directory: &Path) -> Self {
        let file = directory.join("injections.json");
        let check = |kept: &Kept| match kept.version {
            VERSION => Ok(()),
            other => Err(format!("version {other} is not {VERSION}")),
        };
        let kept: Option<Kept> = file::load(&file, MAX_FILE, check);
        let is_fresh = kept.is_none();
        let (all, lost) = kept.map(|kept| (kept.records, kept.lost)).unwrap_or_default();
        Self { file, all, lost, is_fresh }
    }

    /// Whether the dashboard has to be asked what was changed.
    pub(crate) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// What the dashboard says of changes that there are no notes of: on disk before anything is made
    /// of it.
    pub(crate) fn bring_back(&mut self, before: BTreeMap<Key, Before>) -> std::io::Result<()> {
        if !std::mem::replace(&mut self.is_fresh, false) {
            return Ok(());
        }
        let is_unknown = |key: &Key| !self.all.contains_key(key);
        self.lost = before.into_iter().filter(|(key, _)| is_unknown(key)).collect();
        self.write()
    }

    /// Changes that there are no notes of.
    pub(crate) fn lost(&self) -> &BTreeMap<Key, Before> {
        &self.lost
    }

    /// Such a change was looked for: what was found of it, if anything.
    pub(crate) fn found(&mut self, key: &Key, record: Option<Record>) -> std::io::Result<()> {
        let Some(before) = self.lost.remove(key) else { return Ok(()) };
        let written = match record {
            Some(record) => self.put(key, record),
            None => self.write(),
        };
        if written.is_err() {
            self.lost.insert(key.clone(), before);
        }
        written
    }

    /// What is said of those that are in effect, until they were looked at.
    pub(crate) fn told(&self) -> BTreeMap<Key, Agent> {
        let in_effect = self.all.iter().filter(|(_, record)| record.is_in_effect());
        let one = |record: &Record| Agent {
            state: State::Pending,
            reason: "The node looks at the SDK that it put in.".to_owned(),
            processes: Vec::new(),
            change: record.difference.clone(),
            before: Some(record.change.before()),
            is_leaving: false,
        };
        let lost = self.lost.iter().map(|(key, before)| {
            let agent = Agent {
                state: State::Pending,
                reason: "The node lost its notes of what it changed, and looks for it.".to_owned(),
                processes: Vec::new(),
                change: String::new(),
                before: Some(before.clone()),
                is_leaving: false,
            };
            (key.clone(), agent)
        });
        in_effect.map(|(key, record)| (key.clone(), one(record))).chain(lost).collect()
    }

    pub(crate) fn all(&self) -> &BTreeMap<Key, Record> {
        &self.all
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Record> {
        self.all.get(key)
    }

    /// Notes a record, on disk; what was noted before stands when that fails.
    pub(crate) fn put(&mut self, key: &Key, record: Record) -> std::io::Result<()> {
        let before = self.all.insert(key.clone(), record);
        let written = self.write();
        if written.is_err() {
            match before {
                Some(before) => self.all.insert(key.clone(), before),
                None => self.all.remove(key),
            };
        }
        written
    }

    /// Notes how far a change is.
    pub(crate) fn advance(&mut self, key: &Key, phase: Phase) -> std::io::Result<()> {
        let Some(record) = self.all.get(key).cloned() else { return Ok(()) };
        if record.phase == phase {
            return Ok(());
        }
        self.put(key, Record { phase, ..record })
    }

    /// Forgets a change that is taken back.
    pub(crate) fn forget(&mut self, key: &Key) -> std::io::Result<()> {
        let Some(before) = self.all.remove(key) else { return Ok(()) };
        let written = self.write();
        if written.is_err() {
            self.all.insert(key.clone(), before);
        }
        written
    }

    fn write(&self) -> std::io::Result<()> {
        let (records, lost) = (self.all.clone(), self.lost.clone());
        file::replace(&self.file, &Kept { version: VERSION, records, lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::before::Was;

    #[test]
    fn what_was_lost_is_brought_back_once_and_outlives_a_crash_until_it_was_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        let key = Key("host/systemd:a.service".to_owned());
        let before = Before { shown: "none".to_owned(), was: Was::Template };
        let told = BTreeMap::from([(key.clone(), before)]);
        let mut records = Records::open(directory.path());
        assert!(records.is_fresh());
        records.bring_back(told.clone()).unwrap();
        let mut records = Records::open(directory.path());
        assert!(!records.is_fresh());
        assert_eq!(records.lost(), &told);
        assert_eq!(records.told()[&key].before.as_ref(), told.get(&key), "it is told meanwhile");
        records.found(&key, None).unwrap();
        // Notes are at hand: what the dashboard says later is older than they are.
        records.bring_back(told).unwrap();
        assert_eq!(records.lost().len(), 0);
        assert_eq!(Records::open(directory.path()).lost().len(), 0);
    }
}
