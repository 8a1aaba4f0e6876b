//! What the pages of the fleet show beside the nodes: history, steps, configuration.

use super::value::Time;
use crate::settings::{Applied, Configuration, Layer, Settings};
use crate::step::Change;
use crate::step::lease::End;
use serde::{Deserialize, Serialize};

/// What happened to a workload, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    /// What happened.
    pub entries: Vec<Happened>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Happened {
    /// When.
    pub time: Time,
    /// `wish`, `state`, `step` or `name`.
    pub kind: String,
    /// Who: a person's way in (`page`, `command line`, `api token`), or the node.
    pub actor: String,
    /// What: `network`, a state, a step and how far it is, a name.
    pub what: String,
    /// Why, in one sentence; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Node, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Generation of a wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Id of a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The exact change that a step made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub change: String,
    /// What the tools said that a step used.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// How long a step took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// Steps, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Steps {
    /// The rows.
    pub steps: Vec<StepRow>,
}

/// A step, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepRow {
    /// Id, which the dashboard gave it.
    pub id: String,
    /// Node that takes it.
    pub instance: String,
    /// Workload that it is about; absent for the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What to do.
    pub change: Change,
    /// Why.
    pub reason: String,
    /// Who wants it.
    pub actor: String,
    /// When it was made.
    pub created: Time,
    /// Until when it may be begun.
    pub deadline: Time,
    /// How often it was sent to the node.
    pub attempts: u32,
    /// True when it was taken back.
    pub cancelled: bool,
    /// How it ended; absent while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
}

/// Settings of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LayerRow {
    /// Which layer.
    pub layer: Layer,
    /// Which environment, cluster or node; empty for the fleet.
    pub name: String,
    /// What it sets.
    pub settings: Settings,
}

/// All layers that set anything, and what comes of them on each node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Configurations {
    /// Layers, the strongest last.
    pub layers: Vec<LayerRow>,
    /// Nodes, by id.
    pub instances: Vec<Configured>,
}

/// The configuration of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Configured {
    /// Node.
    pub id: String,
    /// Effective values, with where each comes from.
    pub configuration: Configuration,
    /// What the node tried last, and how that went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
}
