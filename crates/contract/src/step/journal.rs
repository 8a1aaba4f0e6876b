//! The node's half of a step: what was begun and what came of it, as it has to be on disk.
//!
//! The order is the whole point: [`Journal::begin`], **write it to disk**, take the change,
//! [`Journal::finish`], **write it to disk**, tell the dashboard until it acknowledges.

use super::{Phase, Progress, Step};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Steps that are remembered; the dashboard acknowledges long before there are so many.
pub const MAX_ENTRIES: usize = 4096;

/// All that a node remembers of steps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Journal {
    entries: BTreeMap<String, Progress>,
    /// Highest generation that was begun, by workload (`""` for the node itself).
    newest: BTreeMap<String, u64>,
    /// Ids of steps that the dashboard acknowledged, oldest first: one may still come once more.
    told: Vec<String>,
}

/// What to do with a step that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Write the journal to disk, then take the change.
    Begin,
    /// It is known: it runs, or its result waits to be told, or was told.
    Known,
    /// It must not be taken; the refusal waits to be told.
    Refused,
}

impl Journal {
    /// Notes that a step is begun, unless it was before or a newer one of its workload was.
    pub fn begin(&mut self, step: &Step) -> Verdict {
        if self.knows(&step.id) {
            return Verdict::Known;
        }
        let place = step.key.as_ref().map_or("", |key| key.0.as_str());
        if self.newest.get(place).is_some_and(|newest| *newest > step.generation) {
            self.refuse(step, "A newer wish for the same workload was taken up before.");
            return Verdict::Refused;
        }
        if self.entries.len() >= MAX_ENTRIES {
            // Nothing is noted: the step comes again when results were told.
            return Verdict::Known;
        }
        self.newest.insert(place.to_owned(), step.generation);
        self.note(Progress::new(&step.id, Phase::Running, ""));
        Verdict::Begin
    }

    /// Refuses a step that this node may not or cannot take.
    pub fn refuse(&mut self, step: &Step, reason: &str) {
        if !self.knows(&step.id) {
            self.note(Progress::new(&step.id, Phase::Refused, reason));
        }
    }

    /// Notes that a step is not to be begun; one that runs goes on. True when it was not begun.
    pub fn cancel(&mut self, id: &str) -> bool {
        if self.knows(id) || self.entries.len() >= MAX_ENTRIES {
            return false;
        }
        self.note(Progress::new(id, Phase::Cancelled, "It was taken back before it was begun."));
        true
    }

    /// Notes how a step goes or went.
    pub fn finish(&mut self, progress: Progress) {
        if let Some(entry) = self.entries.get_mut(&progress.id)
            && !entry.phase.is_end()
        {
            *entry = progress;
        }
    }

    /// After a start: what ran when the controller ended is not taken again, because nobody knows
    /// how far it came. What is in effect is observed, and a new step leads on from there.
    pub fn interrupt(&mut self) {
        for entry in self.entries.values_mut().filter(|entry| !entry.phase.is_end()) {
            entry.phase = Phase::Interrupted;
            entry.reason =
                "The controller ended in the middle; what is in effect is looked at anew.".into();
        }
    }

    /// All that the dashboard has not acknowledged.
    pub fn untold(&self) -> impl Iterator<Item = &Progress> {
        self.entries.values()
    }

    /// Forgets results that the dashboard has on disk.
    pub fn acknowledge(&mut self, ids: &[String]) {
        for id in ids {
            if self.entries.get(id).is_some_and(|entry| entry.phase.is_end()) {
                self.entries.remove(id);
                self.told.push(id.clone());
            }
        }
        let beyond = self.told.len().saturating_sub(MAX_ENTRIES);
        self.told.drain(..beyond);
    }

    fn knows(&self, id: &str) -> bool {
        self.entries.contains_key(id) || self.told.iter().any(|told| told == id)
    }

    fn note(&mut self, progress: Progress) {
        self.entries.insert(progress.id.clone(), progress);
    }
}
