//! The dashboard's half of a step: when it is lent, and when it is over. Moments are nanoseconds
//! since 1970.

use super::Phase;
use serde::{Deserialize, Serialize};

/// How long a node may keep silent about a step before it is lent again: two polls and some.
pub const LEASE_NANOS: u64 = 75_000_000_000;
/// How often a step is lent at most. A node that never says anything about it cannot take it.
pub(super) const MAX_ATTEMPTS: u32 = 8;

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// How often it was lent; at most eight times.
    pub attempts: u32,
    /// Until when the node has it; 0 when it has it not.
    pub until: u64,
    /// Until when it may be lent.
    pub deadline: u64,
    /// Whether somebody took it back; a node that may have begun still says how it went.
    pub cancelled: bool,
    /// How it ended.
    pub end: Option<End>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// In effect.
    Done,
    /// Not in effect.
    Failed,
    /// The controller ended in the middle.
    Interrupted,
    /// The node did not begin it.
    Refused,
    /// Taken back before it was begun.
    Cancelled,
    /// Nobody took it in time, or the node never said how it went.
    Expired,
}

impl End {
    /// The word for it in JSON and in histories.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// What a word of the node changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: the step was over. The node may forget it.
    Late,
    /// The node is at it; it keeps the step for another while.
    Extended,
    /// The step ended with this. The node may forget it once that is on disk.
    Ended(End),
}

impl Lease {
    /// A step that is new; it may be lent until `deadline`.
    pub fn new(deadline: u64) -> Self {
        Self { attempts: 0, until: 0, deadline, cancelled: false, end: None }
    }

    /// Lends the step when it is due: the number of this attempt, or `None`.
    pub fn lend(&mut self, now: u64) -> Option<u32> {
        let is_due = self.end.is_none()
            && !self.cancelled
            && self.until <= now
            && now < self.deadline
            && self.attempts < MAX_ATTEMPTS;
        if !is_due {
            return None;
        }
        self.attempts += 1;
        self.until = now.saturating_add(LEASE_NANOS);
        Some(self.attempts)
    }

    /// When it can be lent or found expired; `None` when it is over.
    pub fn due(&self) -> Option<u64> {
        self.end.is_none().then_some(self.until)
    }

    /// Takes the node's word over.
    pub fn hear(&mut self, phase: Phase, now: u64) -> Heard {
        if self.end.is_some() {
            return Heard::Late;
        }
        let end = match phase {
            Phase::Running => {
                // A word about a step that was never lent is of a dashboard before a restore.
                self.attempts = self.attempts.max(1);
                self.until = now.saturating_add(LEASE_NANOS);
                return Heard::Extended;
            }
            Phase::Done => End::Done,
            Phase::Failed => End::Failed,
            Phase::Interrupted => End::Interrupted,
            Phase::Refused => End::Refused,
            Phase::Cancelled => End::Cancelled,
        };
        self.end = Some(end);
        Heard::Ended(end)
    }

    /// Takes the step back. One that was never lent ends at once; a node that may have begun is
    /// told, and says how it went.
    pub fn cancel(&mut self) -> Option<End> {
        if self.end.is_some() {
            return None;
        }
        self.cancelled = true;
        if self.attempts == 0 {
            self.end = Some(End::Cancelled);
        }
        self.end
    }

    /// Ends a step that nobody can end any more: not lent in time, or lent and never heard of.
    pub fn expire(&mut self, now: u64) -> Option<End> {
        let is_never_lent = self.attempts == 0 && now >= self.deadline;
        let is_silent = self.attempts > 0
            && now >= self.until
            && (now >= self.deadline || self.attempts >= MAX_ATTEMPTS || self.cancelled);
        if self.end.is_some() || !(is_never_lent || is_silent) {
            return None;
        }
        self.end = Some(if self.cancelled { End::Cancelled } else { End::Expired });
        self.end
    }
}
