//! What this kernel, this user and this platform allow, one fact at a time.

use serde::{Deserialize, Serialize};

/// One thing that Sonde looked at on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fact {
    /// Short stable word, such as `btf` or `uprobe_multi`.
    pub name: String,
    /// How it stands.
    pub standing: Standing,
    /// What was found, in one sentence.
    pub found: String,
    /// What is lost without it, and what to do; empty when all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// How a fact stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Works.
    Good,
    /// Something is missing that another way makes up for, or that only some programs need.
    Limited,
    /// Network capture does not work without it.
    Missing,
}
