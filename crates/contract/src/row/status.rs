//! The dashboard and the controllers that report to it.

use super::value::Time;
use crate::doctor::Fact;
use crate::poll::Capability;
use crate::settings::{Applied, Configuration};
use crate::workload::Platform;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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
    /// What is kept, and how full the disk is; absent where nothing is kept, and until it was
    /// looked at for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
}

/// What is kept, and how full the disk is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Storage {
    /// When this was looked at.
    pub checked: Time,
    /// `good`; `warning` when the disk fills up; `dropping` when days go before their time; `full`
    /// when calls are refused.
    pub standing: String,
    /// Oldest day of which calls are kept, as `2026-11-23` (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_day: Option<String>,
    /// Days of which calls are kept.
    pub days: u64,
    /// Days of calls that are kept at most, today not counted.
    pub keep_days: u32,
    /// What keeps calls: `sqlite`, `clickhouse`.
    #[serde(default)]
    pub engine: String,
    /// Days after which ClickHouse removes calls by itself, should no dashboard run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_days: Option<u32>,
    /// Size of the disk, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// What may still be written to it, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_available_bytes: Option<u64>,
    /// Share of it in use, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_used_percent: Option<u8>,
    /// Days that went because the disk filled up, since the start of the dashboard.
    pub dropped_days: u64,
}

/// A controller, as it last reported.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// Environment that its join token was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Id of its cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Name of its cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// Platforms that were found on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// What it can do, and may do.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub capabilities: BTreeSet<Capability>,
    /// Workloads that it reports now.
    #[serde(default)]
    pub workloads: u64,
    /// When it got a credential of its own; absent when it polls with a join token or through the
    /// socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolled: Option<Time>,
    /// True when its credential was revoked.
    #[serde(default)]
    pub revoked: bool,
    /// Configuration that it should have.
    #[serde(default)]
    pub configuration: Configuration,
    /// Configuration that it tried last, and how that went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
}
