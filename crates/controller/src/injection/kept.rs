//! What was changed for the SDK, on disk: noted before anything is touched, with the way back.

use crate::file;
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
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    records: BTreeMap<Key, Record>,
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
        Self { file, all: kept.map(|kept| kept.records).unwrap_or_default() }
    }

    /// What is said of those that are in effect, until they were looked at.
    pub(crate) fn told(&self) -> BTreeMap<Key, Agent> {
        let in_effect = self.all.iter().filter(|(_, record)| record.is_in_effect());
        let one = |record: &Record| Agent {
            state: State::Pending,
            reason: "The node looks at the SDK that it put in.".to_owned(),
            processes: Vec::new(),
            change: record.difference.clone(),
        };
        in_effect.map(|(key, record)| (key.clone(), one(record))).collect()
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
        file::replace(&self.file, &Kept { version: VERSION, records: self.all.clone() })
    }
}
