//! Steps: single changes that a node is asked to take, and how they went.
//!
//! A step has an id, and taking it twice is taking it once. The dashboard lends it to the node for
//! a while ([`lease`]); the node notes on disk that it begins before it does anything
//! ([`journal`]), and keeps the result until the dashboard has it on disk. Whatever is lost, sent
//! twice or overtaken in between: at most one effect, at least one attempt, the last wish wins.
//!
//! Times that cross the network are spans, never moments: the two clocks may differ by hours.

pub mod journal;
pub mod lease;

use crate::workload::Key;
use serde::{Deserialize, Serialize};

/// A change to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Id; 1 to 64 characters of `a-z`, `0-9` and `-`.
    pub id: String,
    /// Workload that it is about; `None` for the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// What to do.
    pub change: Change,
    /// Why, in one sentence.
    pub reason: String,
    /// Who wants it: a person's way in (`page`, `command line`, `api token`).
    pub actor: String,
    /// Number of the wish: for the same workload, a higher one overtakes a lower one.
    pub generation: u64,
    /// How often it was lent to the node, this time included; 1 at first.
    #[serde(default)]
    pub attempt: u32,
    /// How long the node may keep silent about it before it is lent again, in seconds.
    #[serde(default)]
    pub lease_seconds: u32,
    /// How long it may still be begun, in seconds from when the answer was made.
    #[serde(default)]
    pub deadline_seconds: u32,
}

/// All that can be asked for. Nothing else is ever executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Report everything anew.
    Refresh,
    /// Forget failed tries, and try again now.
    Retry,
    /// Begin to read the workload's model calls in the kernel.
    Instrument,
    /// End it.
    Uninstrument,
    /// Put an SDK into the workload.
    EnableSdk,
    /// Take out the SDK that was put in.
    DisableSdk,
    /// Say what putting an SDK into the workload would change, and change nothing.
    PreviewSdk,
    /// Restart the workload.
    Restart,
    /// Put the workload back as it was found.
    Undo,
    /// Something of a newer version: it is refused.
    #[serde(other)]
    Unknown,
}

impl Change {
    /// All that can be asked for by name.
    const ALL: [Self; 9] = [
        Self::Refresh,
        Self::Retry,
        Self::Instrument,
        Self::Uninstrument,
        Self::EnableSdk,
        Self::DisableSdk,
        Self::PreviewSdk,
        Self::Restart,
        Self::Undo,
    ];

    /// The word for it in JSON, in histories and in the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Refresh => "refresh",
            Self::Retry => "retry",
            Self::Instrument => "instrument",
            Self::Uninstrument => "uninstrument",
            Self::EnableSdk => "enable_sdk",
            Self::DisableSdk => "disable_sdk",
            Self::PreviewSdk => "preview_sdk",
            Self::Restart => "restart",
            Self::Undo => "undo",
            Self::Unknown => "unknown",
        }
    }

    /// The change of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|change| change.word() == word)
    }
}

/// How a step is going, as the node says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Id of the step.
    pub id: String,
    /// How far it is.
    pub phase: Phase,
    /// One sentence on it; where it failed, why, and what to do next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The exact change that was made, as `diff -u` writes it; secrets are left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub change: String,
    /// What the tools said that were used.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// How long it took so far, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Begun.
    Running,
    /// Done: it is in effect.
    Done,
    /// Not done; nothing of it is in effect.
    Failed,
    /// Begun when the controller ended: what is in effect has to be looked at.
    Interrupted,
    /// Not begun: the node may not, cannot, or has a newer one.
    Refused,
    /// Not begun, because it was taken back.
    Cancelled,
}

impl Phase {
    /// Whether nothing more comes after it.
    pub fn is_end(self) -> bool {
        !matches!(self, Self::Running)
    }

    /// The word for it in JSON and in histories.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Progress {
    /// A word about a step that says no more than how far it is, and why.
    pub fn new(id: &str, phase: Phase, reason: &str) -> Self {
        Self {
            id: id.to_owned(),
            phase,
            reason: reason.to_owned(),
            change: String::new(),
            output: String::new(),
            duration_ms: 0,
        }
    }
}

#[cfg(test)]
mod tests;
