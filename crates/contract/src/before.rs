//! What was there before a workload was changed for an SDK, as its node tells it and is told it again
//! when it lost its own notes.
//!
//! It holds no secrets, and no more than what was touched. A node takes nothing of it on trust: what
//! it says is used to tell ours from others' in what the node itself finds, and never put anywhere
//! that the node does not confirm.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What was there before one workload was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Before {
    /// For people: a line for each thing that was touched.
    pub shown: String,
    /// For the node, to find its change again.
    pub was: Was,
}

/// What was there, by what is changed on a platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Was {
    /// Files beside a unit of systemd, which are never there before.
    Unit {
        /// How many directories were made for them, one in the other.
        made: u32,
        /// Names of the variables that the change set.
        variables: BTreeSet<String>,
    },
    /// Containers that were made anew.
    Containers {
        /// Each of them.
        containers: Vec<Container>,
    },
    /// The template of pods: what was there stands in a note on the object itself.
    Template,
    /// Something of a newer version.
    #[serde(other)]
    Unknown,
}

/// A container as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Container {
    /// Id that the engine gave it.
    pub id: String,
    /// Image, as it was asked for: a name, or an id.
    pub image: String,
    /// Names of its variables, in their order.
    pub environment: Vec<String>,
    /// Those that the change set, by name, each as it was.
    pub variables: BTreeMap<String, Variable>,
}

/// A variable as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Variable {
    /// It was not set.
    Absent,
    /// It was set, to something that is not told.
    Hidden,
    /// It was set to this.
    Value(String),
}
