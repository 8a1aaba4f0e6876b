//! Capture levels, and the state of the way from what is wanted to what is in effect.

use serde::{Deserialize, Deserializer, Serialize};

/// How much of a workload is captured.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing: no probe is attached.
    #[default]
    Off,
    /// Model calls, read in the kernel; no restart.
    Network,
    /// And an SDK within the program, for the work around the calls; one restart.
    Full,
}

impl Level {
    /// The word for this level in JSON, on the command line and on the page.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Network => "network",
            Self::Full => "full",
        }
    }

    /// All levels, the lowest first.
    const ALL: [Self; 3] = [Self::Off, Self::Network, Self::Full];

    /// The level of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.word() == word)
    }
}

/// Reads a level as the other end wrote it: one of a newer version means nothing here, and nothing
/// is the safe wish.
pub(crate) fn level_of_any_version<'de, D: Deserializer<'de>>(from: D) -> Result<Level, D::Error> {
    let word = String::deserialize(from)?;
    Ok(Level::of_word(&word).unwrap_or_default())
}

/// Where a workload is on the way to its desired level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Seen, and nothing is wanted.
    #[default]
    Discovered,
    /// Wanted, and not yet in effect.
    Pending,
    /// In effect on every running instance.
    Capturing,
    /// In effect where possible; the reason says what is missing.
    Partly,
    /// Cannot be done here; the reason says why and what to do.
    Unsupported,
    /// Failed; will be tried again, the reason says when.
    Failed,
    /// No instance is running.
    Stopped,
    /// Played from a recording; nothing can be wanted of it.
    Recorded,
    /// The node's own configuration forbids it.
    Blocked,
    /// Something else is in the way, such as another SDK.
    Conflict,
    /// The workload did not come up healthy, and was put back as it was.
    Unhealthy,
    /// Somebody took it out by other means, and that is respected.
    Drifted,
    /// A state of a newer version.
    #[serde(other)]
    Unknown,
}

impl State {
    /// The word for this state in JSON and on the page.
    pub fn word(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Pending => "pending",
            Self::Capturing => "capturing",
            Self::Partly => "partly",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Recorded => "recorded",
            Self::Blocked => "blocked",
            Self::Conflict => "conflict",
            Self::Unhealthy => "unhealthy",
            Self::Drifted => "drifted",
            Self::Unknown => "unknown",
        }
    }
}
