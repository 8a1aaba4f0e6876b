//! Configuration of controllers, in layers: fleet, environment, cluster, node.
//!
//! Nothing here can lift what a node's own file forbids: these are wishes about how it works, and
//! its ceilings are not among them.

use crate::capture::Level;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Shortest and longest pause between two reports without news, in seconds.
const HEARTBEAT_SECONDS: (u32, u32) = (5, 300);
/// Shortest and longest pause between two full looks at the node's programs, in seconds.
const RESCAN_SECONDS: (u32, u32) = (1, 600);

/// What can be set. A value that is absent is inherited.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Settings {
    /// Capture level of workloads that nobody wished anything of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_capture: Option<Level>,
    /// Pause between two reports without news, in seconds (5 to 300).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_seconds: Option<u32>,
    /// Pause between two full looks at the node's programs, in seconds (1 to 600).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescan_seconds: Option<u32>,
    /// How much the controller logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogLevel>,
    /// Whether no SDK is put into programs, and none is taken out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze: Option<bool>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what may become a trouble.
    Warn,
    /// And what happens.
    Info,
    /// And why.
    Debug,
}

/// A layer; the later one of this list wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// All nodes.
    Fleet,
    /// Nodes that joined with a token of an environment.
    Environment,
    /// Nodes of a cluster.
    Cluster,
    /// One node.
    Node,
}

/// Settings of a node, with where each comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Configuration {
    /// Names these settings: equal settings have an equal hash.
    pub hash: String,
    /// Effective values.
    pub settings: Settings,
    /// Layer that each value comes from, by its name.
    #[serde(default)]
    pub origin: BTreeMap<String, Layer>,
}

/// How applying a configuration went.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Applied {
    /// Hash of the configuration that was tried last.
    pub hash: String,
    /// Why it, or a part of it, is not in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Layer {
    /// All layers, the strongest last.
    pub const ALL: [Self; 4] = [Self::Fleet, Self::Environment, Self::Cluster, Self::Node];

    /// The word for it in JSON and in the database.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Environment => "environment",
            Self::Cluster => "cluster",
            Self::Node => "node",
        }
    }

    /// The layer of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layer| layer.word() == word)
    }
}

impl Settings {
    /// Lays layers over one another, the strongest last: values, and where each comes from.
    pub fn layered<'a>(
        layers: impl IntoIterator<Item = (Layer, &'a Self)>,
    ) -> (Self, BTreeMap<String, Layer>) {
        fn take<T: Copy>(to: &mut Option<T>, from: Option<T>) -> bool {
            *to = from.or(*to);
            from.is_some()
        }
        let mut all = Self::default();
        let mut origin = BTreeMap::new();
        for (layer, one) in layers {
            let taken = [
                ("default_capture", take(&mut all.default_capture, one.default_capture)),
                ("heartbeat_seconds", take(&mut all.heartbeat_seconds, one.heartbeat_seconds)),
                ("rescan_seconds", take(&mut all.rescan_seconds, one.rescan_seconds)),
                ("log", take(&mut all.log, one.log)),
                ("freeze", take(&mut all.freeze, one.freeze)),
            ];
            let names = taken.into_iter().filter(|(_, taken)| *taken).map(|(name, _)| name);
            origin.extend(names.map(|name| (name.to_owned(), layer)));
        }
        (all, origin)
    }

    /// What is out of its limits, in one sentence; `None` when nothing is.
    pub fn complaint(&self) -> Option<String> {
        if self.default_capture == Some(Level::Full) {
            let why = "it restarts programs, so that it is set for one after the other";
            return Some(format!("cannot set `default_capture` to full; {why}"));
        }
        let checked = [
            ("heartbeat_seconds", self.heartbeat_seconds, HEARTBEAT_SECONDS),
            ("rescan_seconds", self.rescan_seconds, RESCAN_SECONDS),
        ];
        checked.into_iter().find_map(|(name, value, (least, most))| {
            let value = value.filter(|value| !(least..=most).contains(value))?;
            Some(format!("cannot set `{name}` to {value}; it is {least} to {most}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_layer_wins_and_is_named() {
        let fleet = Settings {
            heartbeat_seconds: Some(60),
            log: Some(LogLevel::Info),
            ..Settings::default()
        };
        let node = Settings { log: Some(LogLevel::Debug), ..Settings::default() };
        let (settings, origin) = Settings::layered([(Layer::Fleet, &fleet), (Layer::Node, &node)]);
        assert_eq!((settings.heartbeat_seconds, settings.log), (Some(60), Some(LogLevel::Debug)));
        let named = [("heartbeat_seconds", Layer::Fleet), ("log", Layer::Node)];
        assert_eq!(origin, named.map(|(name, layer)| (name.to_owned(), layer)).into());
    }

    #[test]
    fn what_is_out_of_its_limits_is_named() {
        assert_eq!(Settings::default().complaint(), None);
        let settings = Settings { rescan_seconds: Some(0), ..Settings::default() };
        assert!(settings.complaint().unwrap().contains("rescan_seconds"));
        let settings = Settings { default_capture: Some(Level::Full), ..Settings::default() };
        assert!(settings.complaint().unwrap().contains("default_capture"));
    }
}
