//! The poll: the controller reports what it observed and is answered with what is wanted.
//!
//! The controller always dials. `POST /api/v1/poll` carries a [`Report`] and is answered with a
//! [`Wish`]. With `wait_seconds` above zero the dashboard holds the answer until its generation
//! is above the report's `generation` or the time is over.

use crate::capture::Level;
use crate::doctor::Fact;
use crate::rules::Rules;
use crate::workload::{Key, Observed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of these messages.
pub const PROTOCOL: u32 = 1;

/// Longest time that a poll may wait, in seconds.
pub const MAX_WAIT_SECONDS: u32 = 30;

/// What a controller says in a poll.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u32,
    /// Who reports.
    pub instance: Instance,
    /// Highest generation whose wishes were taken over; 0 at first.
    pub generation: u64,
    /// How long the dashboard may hold its answer.
    #[serde(default)]
    pub wait_seconds: u32,
    /// All workloads that are known on the node; `None` when nothing changed since the last report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads: Option<Vec<Observed>>,
    /// What the node allows; `None` when nothing changed since the last report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doctor: Option<Vec<Fact>>,
    /// What was lost since the start, by reason: chunks, bytes, spans.
    #[serde(default)]
    pub lost: BTreeMap<String, u64>,
}

/// A running controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Stable id of the node: the scope of its keys.
    pub id: String,
    /// Name of the node.
    pub host_name: String,
    /// Version of the controller.
    pub version: String,
    /// Kernel release, as `uname -r` says.
    pub kernel: String,
    /// Start of the controller, nanoseconds since 1970.
    pub started_unix_nanos: u64,
    /// True for `sonde replay`: what it reports was recorded earlier.
    #[serde(default)]
    pub recorded: bool,
    /// Cluster that the node belongs to, where it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// A Kubernetes cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// UID of its namespace `kube-system`, which nobody can rename.
    pub id: String,
    /// Name that a person gave it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What the dashboard answers to a poll.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wish {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u32,
    /// Generation of the wishes below; grows with every change.
    pub generation: u64,
    /// All wishes for the workloads of this node.
    pub desired: Vec<Desired>,
    /// Rules of discovery that people set on the dashboard.
    #[serde(default)]
    pub rules: Rules,
    /// Names that people gave workloads of this node; they win over every other.
    #[serde(default)]
    pub names: BTreeMap<Key, String>,
}

/// What is wanted of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Which workload.
    pub key: Key,
    /// Capture level.
    pub level: Level,
}
