//! The row of a service: a workload with its shown name, its instances and its dial.

use super::value::Time;
use crate::capture::{Level, State};
use crate::workload::{self, Agent, By, Confidence, Coverage, Platform, What};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A workload, as the page and the command line list it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Service {
    /// Shown name.
    #[serde(rename = "service.name")]
    pub name: String,
    /// Key of the workload.
    #[serde(rename = "sonde.workload.key")]
    pub key: String,
    /// Where it runs.
    #[serde(rename = "sonde.platform")]
    pub platform: Platform,
    /// Name of the node.
    #[serde(rename = "host.name", default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// Process id of the first running instance.
    #[serde(rename = "process.pid", default, skip_serializing_if = "Option::is_none")]
    pub process_pid: Option<u32>,
    /// Arguments of the first running instance, secrets masked.
    #[serde(rename = "process.command_args", default, skip_serializing_if = "Vec::is_empty")]
    pub command_args: Vec<String>,
    /// Language runtime.
    #[serde(rename = "process.runtime.name", default, skip_serializing_if = "Option::is_none")]
    pub runtime_name: Option<String>,
    /// Version of the language runtime.
    #[serde(rename = "process.runtime.version", default, skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<String>,
    /// Running instances; empty when it is stopped.
    #[serde(rename = "sonde.instances", default)]
    pub instances: Vec<Instance>,
    /// Providers seen.
    #[serde(rename = "sonde.providers", default)]
    pub providers: Vec<String>,
    /// Models that calls which were read asked for.
    #[serde(rename = "sonde.models", default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// From when to when it was seen to ask each provider and model.
    #[serde(rename = "sonde.asked", default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Asked>,
    /// How it was recognised.
    #[serde(rename = "sonde.evidence", default)]
    pub evidence: Vec<Evidence>,
    /// What reads its TLS traffic.
    #[serde(rename = "sonde.tls", default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Capture level that is wanted.
    #[serde(rename = "sonde.capture.desired")]
    pub desired: Level,
    /// Capture level in effect.
    #[serde(rename = "sonde.capture.observed")]
    pub observed: Level,
    /// Where it is on the way.
    #[serde(rename = "sonde.capture.state")]
    pub state: State,
    /// One sentence on why, and what to do next.
    #[serde(rename = "sonde.capture.reason")]
    pub reason: String,
    /// Calls a minute, over the last five minutes or since the workload is known.
    #[serde(rename = "sonde.calls_per_minute", default)]
    pub calls_per_minute: f64,
    /// First time that it was seen.
    #[serde(rename = "sonde.first_seen")]
    pub first_seen: Time,
    /// Last time that it was seen to talk to a model; absent when it never was.
    #[serde(rename = "sonde.last_seen", default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// True when it comes from `sonde replay`: nothing can be wanted of it.
    #[serde(rename = "sonde.recorded", default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<bool>,
    /// The SDK in it, where one is wanted or was put in.
    #[serde(rename = "sonde.agent", default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    /// Further attributes of the resource (namespace, container, image, …), by name.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

/// A running process of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Instance {
    /// Process id on the node.
    #[serde(rename = "process.pid")]
    pub pid: u32,
    /// Start of the process.
    #[serde(rename = "process.creation.time")]
    pub started: Time,
    /// Path of the executable.
    #[serde(rename = "process.executable.path", default, skip_serializing_if = "String::is_empty")]
    pub executable: String,
    /// Arguments, secrets masked.
    #[serde(rename = "process.command_args", default, skip_serializing_if = "Vec::is_empty")]
    pub command_args: Vec<String>,
    /// User that it runs as.
    #[serde(rename = "process.owner", default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Language runtime.
    #[serde(rename = "process.runtime.name", default, skip_serializing_if = "Option::is_none")]
    pub runtime_name: Option<String>,
    /// Version of the language runtime.
    #[serde(rename = "process.runtime.version", default, skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<String>,
    /// What reads its TLS traffic.
    #[serde(rename = "sonde.tls", default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// How much of its TLS traffic can be read.
    #[serde(rename = "sonde.coverage", default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// Process that started it.
    #[serde(rename = "process.parent_pid", default, skip_serializing_if = "is_zero")]
    pub parent_pid: u32,
    /// Working directory, as the process sees it.
    #[serde(
        rename = "process.working_directory",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub working_directory: String,
    /// What only this instance has (container id, pod name), by attribute name.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

/// A provider or a model that a service was seen to ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Asked {
    /// Which of the two.
    pub what: What,
    /// Its name.
    pub name: String,
    /// First time.
    pub first_seen: Time,
    /// Last time.
    pub last_seen: Time,
}

/// One reason to think that a workload talks to a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Evidence {
    /// Provider, by its well-known name.
    pub provider: String,
    /// How it was recognised.
    pub by: By,
    /// How sure that is.
    pub confidence: Confidence,
    /// What was seen: the host name, or the path.
    pub seen: String,
    /// Last time.
    pub last_seen: Time,
}

impl From<workload::Instance> for Instance {
    fn from(instance: workload::Instance) -> Self {
        let (runtime_name, runtime_version) =
            instance.runtime.map_or((None, None), |runtime| (Some(runtime.name), runtime.version));
        let more = instance.attributes.into_iter().map(|(name, value)| (name, value.into()));
        Self {
            pid: instance.pid,
            started: Time(instance.started_unix_nanos),
            executable: instance.executable,
            command_args: instance.arguments,
            owner: instance.user,
            runtime_name,
            runtime_version,
            tls: instance.tls,
            coverage: instance.coverage,
            parent_pid: instance.parent,
            working_directory: instance.directory,
            more: more.collect(),
        }
    }
}

impl Asked {
    /// The names of one kind, in order.
    pub fn names(asked: &[workload::Asked], what: What) -> Vec<String> {
        let of_kind = asked.iter().filter(|asked| asked.what == what);
        let mut names: Vec<String> = of_kind.map(|asked| asked.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl From<workload::Asked> for Asked {
    fn from(asked: workload::Asked) -> Self {
        Self {
            what: asked.what,
            name: asked.name,
            first_seen: Time(asked.first_seen_unix_nanos),
            last_seen: Time(asked.last_seen_unix_nanos),
        }
    }
}

impl From<workload::Evidence> for Evidence {
    fn from(evidence: workload::Evidence) -> Self {
        Self {
            provider: evidence.provider,
            by: evidence.by,
            confidence: evidence.by.confidence(),
            seen: evidence.seen,
            last_seen: Time(evidence.last_seen_unix_nanos),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The services of all nodes: the answer of `/api/v1/services`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Services {
    /// The rows, by name and key.
    pub services: Vec<Service>,
}
