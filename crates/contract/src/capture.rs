//! Capture levels, and the state of the way from what is wanted to what is in effect.

use serde::{Deserialize, Serialize};

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
}

impl Level {
    /// The word for this level in JSON, on the command line and on the page.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Network => "network",
        }
    }
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
}
