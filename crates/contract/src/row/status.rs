//! The dashboard and the controllers that report to it.

use super::value::Time;
use crate::doctor::Fact;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the dashboard and its controllers are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// Version of the dashboard.
    pub version: String,
    /// Its clock, to tell how old a poll is.
    pub time: Time,
    /// True when any controller plays a recording.
    pub recorded: bool,
    /// Controllers, by name of the node.
    pub instances: Vec<Node>,
    /// Spans received since the start, by what became of them: `call`, `duplicate`, `not_a_call`,
    /// `rejected`, `metric`, `log`.
    pub received: BTreeMap<String, u64>,
    /// Bytes on disk.
    pub storage_bytes: u64,
}

/// A controller, as it last reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Node {
    /// Stable id of the node.
    pub id: String,
    /// Name of the node.
    pub host_name: String,
    /// Version of the controller.
    pub version: String,
    /// Kernel release.
    pub kernel: String,
    /// Start of the controller.
    pub started: Time,
    /// True when it plays a recording.
    pub recorded: bool,
    /// Its last poll.
    pub last_poll: Time,
    /// True when a poll of it waits now.
    #[serde(default)]
    pub connected: bool,
    /// Generation of the wishes that it took over.
    pub generation: u64,
    /// Generation of the newest wish for it.
    pub desired_generation: u64,
    /// What the node allows.
    pub doctor: Vec<Fact>,
    /// What was lost since its start, by reason.
    pub lost: BTreeMap<String, u64>,
}
