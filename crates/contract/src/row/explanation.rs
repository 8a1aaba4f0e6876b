//! The answer to "why is this discovered, or not": step by step, in words for people, with what each
//! step goes by.

use crate::capture::Level;
use serde::{Deserialize, Serialize};

/// What a controller knows about a process, a name or a key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Explanation {
    /// What was asked about.
    pub asked: String,
    /// One for each program that it can be; empty when nothing is known.
    pub programs: Vec<Explained>,
}

/// One program, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Shown name.
    #[serde(rename = "service.name")]
    pub name: String,
    /// Key of its workload.
    #[serde(rename = "sonde.workload.key")]
    pub key: String,
    /// The process that was looked at; absent when none of it runs.
    #[serde(rename = "process.pid", default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Whether it is listed as a service.
    pub discovered: bool,
    /// Capture level that is wanted.
    #[serde(rename = "sonde.capture.desired")]
    pub desired: Level,
    /// Why, in one sentence.
    pub verdict: String,
    /// How that came about.
    pub steps: Vec<Step>,
}

/// One step of the way to a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was looked at.
    pub about: About,
    /// What it speaks for.
    pub finding: Finding,
    /// What was found, in one sentence.
    pub text: String,
    /// The single things behind it, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// What a step looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// The process itself.
    Process,
    /// Platform, key and name.
    Identity,
    /// Names that it asked for.
    Names,
    /// Its sockets.
    Sockets,
    /// Whether it serves models itself.
    Serves,
    /// Whether it only passes on what others ask.
    Relay,
    /// Rules of people.
    Rules,
    /// Libraries that encrypt its traffic.
    Tls,
    /// What is remembered of it.
    Registry,
    /// The SDK that was put into it.
    Sdk,
    /// Ways of discovery that are off.
    Tiers,
}

/// What a step speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// For being discovered.
    For,
    /// Against it.
    Against,
    /// Neither.
    Neither,
}

/// What rules say about one program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    /// Shown name.
    #[serde(rename = "service.name")]
    pub name: String,
    /// Key of its workload.
    #[serde(rename = "sonde.workload.key")]
    pub key: String,
    /// The process; absent when none of it runs.
    #[serde(rename = "process.pid", default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Whether it counts.
    pub counts: bool,
    /// The rule that decides, with its place; absent when none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// What rules say about the programs that are known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rulings {
    /// One for each program.
    pub programs: Vec<Ruling>,
    /// Rules that cannot be used, with the reason.
    pub refused: Vec<String>,
}
