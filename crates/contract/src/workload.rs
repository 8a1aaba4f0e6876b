//! Workloads as a node sees them.

use crate::before::Before;
use crate::capture::{Level, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Identity of a workload, made from infrastructure alone.
///
/// It reads `<scope>/<platform>:<place>`, for instance `host-4c…/systemd:agent.service`. A restart, a
/// second replica or a new shown name never changes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub String);

/// Where a workload runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// A container of a pod.
    Kubernetes,
    /// A container of Docker, Podman or containerd; the key says of which.
    Docker,
    /// A systemd unit.
    Systemd,
    /// A process that nothing manages.
    Process,
}

impl Platform {
    /// Every platform, from the one that says most of its programs to none.
    pub const ALL: [Self; 4] = [Self::Kubernetes, Self::Docker, Self::Systemd, Self::Process];

    /// Its word in attributes and rows, the same as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Docker => "docker",
            Self::Systemd => "systemd",
            Self::Process => "process",
        }
    }
}

/// A workload, as observed on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Identity: the row it is.
    pub key: Key,
    /// Name to show, before a person gives it one on the dashboard.
    pub name: String,
    /// Where it runs.
    pub platform: Platform,
    /// Running instances; empty when it is stopped.
    pub instances: Vec<Instance>,
    /// Why we think that it talks to a model.
    pub evidence: Vec<Evidence>,
    /// Whom and for what it was seen to ask, providers first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Asked>,
    /// Capture level in effect.
    #[serde(deserialize_with = "crate::capture::level_of_any_version")]
    pub level: Level,
    /// Where it is on the way to its desired level.
    pub state: State,
    /// One sentence on the state, and what to do next.
    pub reason: String,
    /// First time it was seen, nanoseconds since 1970.
    pub first_seen_unix_nanos: u64,
    /// Last time it was seen to talk to a model, nanoseconds since 1970.
    pub last_seen_unix_nanos: u64,
    /// Further resource attributes (namespace, container, image, …), by name.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Keys that it had before its platform told the real one: rows of those are this one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<Key>,
    /// The SDK in it, where one is wanted or was put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
}

/// How far the SDK is that was put into a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Agent {
    /// Where it is on the way into the workload, or out of it.
    pub state: State,
    /// One sentence on why, and what to do next.
    pub reason: String,
    /// How far it is in each process, as far as that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<AgentIn>,
    /// What was changed for it, as a difference; empty when nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub change: String,
    /// What was there before; nothing when nothing is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
    /// Whether it is being taken out; known within a controller alone, others see `state`.
    #[serde(skip)]
    pub is_leaving: bool,
}

/// How far the SDK is in one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AgentIn {
    /// Process id on the node.
    pub pid: u32,
    /// How far.
    pub progress: AgentProgress,
    /// Libraries that it watches; or why it stood down, or why its spans do not arrive.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// How far the SDK is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AgentProgress {
    /// The process was not started with it.
    Absent,
    /// The process was started with it, and it said nothing yet.
    Injected,
    /// It was loaded.
    Loaded,
    /// It watches libraries of the program.
    Started,
    /// It recorded spans, and they do not arrive.
    Unsent,
    /// Its first span arrived.
    Sent,
    /// It was loaded, and left the program alone.
    StoodDown,
    /// Something of a newer version.
    #[serde(other)]
    Unknown,
}

/// One running process of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Instance {
    /// Process id on the node.
    pub pid: u32,
    /// Start time, nanoseconds since 1970.
    pub started_unix_nanos: u64,
    /// Path of the executable.
    pub executable: String,
    /// Arguments, secrets masked.
    pub arguments: Vec<String>,
    /// Name of the user that it runs as; the number where the node has no name for it.
    pub user: String,
    /// Language runtime, `None` when not recognised.
    pub runtime: Option<Runtime>,
    /// What reads its TLS traffic, for instance `libssl 3.0.17`; `None` when nothing was found.
    pub tls: Option<String>,
    /// How much of its TLS traffic can be read here; `None` when nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// Process that started it; 0 when not known.
    #[serde(default)]
    pub parent: u32,
    /// Working directory, as the process sees it; empty when not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub directory: String,
    /// What only this instance has (container id, pod name and uid), by attribute name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// How much of the TLS traffic of a process can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Coverage {
    /// How much.
    pub extent: Extent,
    /// One sentence on why; empty when all of it can be read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// How much can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// All of it.
    Covered,
    /// Some of it: another TLS library of the process cannot be read.
    Partly,
    /// None of it so far.
    NotYet,
}

/// A language runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Name, such as `cpython`.
    pub name: String,
    /// Version, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// One reason to think that a workload talks to a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Provider, by its well-known name.
    pub provider: String,
    /// How it was recognised.
    pub by: By,
    /// What was seen: the host name, or the path.
    pub seen: String,
    /// Last time, nanoseconds since 1970.
    pub last_seen_unix_nanos: u64,
}

/// A provider or a model that a workload was seen to ask, and from when to when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Which of the two it is.
    pub what: What,
    /// Its name.
    pub name: String,
    /// First time, nanoseconds since 1970.
    pub first_seen_unix_nanos: u64,
    /// Last time, nanoseconds since 1970.
    pub last_seen_unix_nanos: u64,
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A provider, by its well-known name.
    Provider,
    /// A model, as calls that were read name it.
    Model,
}

/// Ways to recognise a program that talks to a model, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A model call was read.
    Call,
    /// The server name in a TLS `ClientHello` (RFC 6066).
    Sni,
    /// The Host header of a plain-text request (RFC 9112 section 3.2).
    Host,
    /// The name in a CONNECT request to a proxy (RFC 9110 section 9.3.6).
    Connect,
    /// A name that the resolver answered for the address, as the node saw it pass (RFC 1035).
    Dns,
    /// It listens like a model server (Ollama, vLLM, llama.cpp, LiteLLM): it serves models itself.
    Listen,
    /// The address of an open connection, learned from a name seen before; a hint only.
    Address,
}

/// How sure a recognition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The program itself said whom it asks, or the call was read.
    Certain,
    /// Something else said it, and it can be another program's business.
    Likely,
    /// Shown, and never enough alone.
    Hint,
}

impl Confidence {
    /// The word for it, the same as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
            Self::Hint => "hint",
        }
    }
}

impl By {
    /// How sure a recognition of this kind is.
    pub fn confidence(self) -> Confidence {
        match self {
            Self::Call | Self::Sni | Self::Host | Self::Connect => Confidence::Certain,
            Self::Dns | Self::Listen => Confidence::Likely,
            Self::Address => Confidence::Hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;

    #[test]
    fn a_platform_has_one_word_in_attributes_and_in_json() {
        for platform in Platform::ALL {
            assert_eq!(serde_json::to_value(platform).unwrap(), platform.word());
        }
    }
}
