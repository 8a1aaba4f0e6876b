//! What would be changed, and whether it may be: values that can be shown, kept, made and undone.

use crate::docker;
use crate::kubernetes;
use crate::systemd;
use contract::before::Before;
use serde::{Deserialize, Serialize};

/// A change that was thought through, and not made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Exactly what is changed, with what is needed to take it back.
    pub change: Change,
    /// What was looked at before, for people.
    pub findings: Vec<Finding>,
    /// What has to be restarted, in one sentence.
    pub restart: String,
    /// How a person does the same by hand: which tool, and what to give it.
    pub by_hand: Vec<ByHand>,
}

/// A change of one platform's object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Two files beside a unit.
    Systemd(systemd::Change),
    /// Containers that are made anew.
    Docker(Box<docker::Change>),
    /// The template that pods are made from.
    Kubernetes(Box<kubernetes::Change>),
}

impl Change {
    /// What was there before, in short and without secrets.
    pub fn before(&self) -> Before {
        match self {
            Self::Systemd(change) => change.before(),
            Self::Docker(change) => change.before(),
            Self::Kubernetes(change) => change.before(),
        }
    }

    /// The exact difference, as `diff -u` writes it. What is secret is left out.
    pub fn difference(&self) -> String {
        match self {
            Self::Systemd(change) => change.difference(),
            Self::Docker(change) => change.difference(),
            Self::Kubernetes(change) => change.difference(),
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How it is.
    pub grade: Grade,
    /// One word for it, such as `single_instance`.
    pub code: String,
    /// One sentence.
    pub text: String,
}

/// How something is that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Good,
    /// It works, and somebody should know.
    Warn,
    /// It must not be done.
    Block,
}

/// How a person does the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByHand {
    /// With what: `systemctl edit`, `docker compose`, `kubectl`.
    pub tool: String,
    /// What to run, or to write.
    pub text: String,
}

/// Why a change is not made. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Of which kind.
    pub kind: Kind,
    /// One word for it.
    pub code: String,
    /// Why, and what a person can do, in a sentence or two.
    pub reason: String,
    /// How a person does it, where a person can.
    #[serde(default)]
    pub by_hand: Vec<ByHand>,
}

/// Kinds of refusals, which differ in what is shown and in what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It cannot be done for this program.
    Unsupported,
    /// Something else is in the program already.
    Conflict,
    /// Somebody said that it must not be.
    Blocked,
    /// Not as things stand; it is tried again.
    NotNow,
}

impl Finding {
    /// All is as it should be.
    pub fn good(code: &str, text: impl Into<String>) -> Self {
        Self { grade: Grade::Good, code: code.to_owned(), text: text.into() }
    }

    /// Somebody should know.
    pub fn warn(code: &str, text: impl Into<String>) -> Self {
        Self { grade: Grade::Warn, ..Self::good(code, text) }
    }
}

impl Refusal {
    /// It cannot be done for this program.
    pub fn unsupported(code: &str, reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Unsupported,
            code: code.to_owned(),
            reason: reason.into(),
            by_hand: Vec::new(),
        }
    }

    /// Something else is in the way.
    pub fn conflict(code: &str, reason: impl Into<String>) -> Self {
        Self { kind: Kind::Conflict, ..Self::unsupported(code, reason) }
    }

    /// Somebody said no.
    pub fn blocked(code: &str, reason: impl Into<String>) -> Self {
        Self { kind: Kind::Blocked, ..Self::unsupported(code, reason) }
    }

    /// Not as things stand.
    pub fn not_now(code: &str, reason: impl Into<String>) -> Self {
        Self { kind: Kind::NotNow, ..Self::unsupported(code, reason) }
    }
}

impl Plan {
    /// The exact difference, as `diff -u` writes it. What is secret is left out.
    pub fn difference(&self) -> String {
        self.change.difference()
    }

    /// All of it as text for people: difference, findings, restart, and how to do it by hand.
    pub fn text(&self) -> String {
        let mut text = self.difference();
        text.push('\n');
        for finding in &self.findings {
            let mark = match finding.grade {
                Grade::Good => "ok  ",
                Grade::Warn => "warn",
                Grade::Block => "stop",
            };
            text.push_str(&format!("{mark}  {}\n", finding.text));
        }
        text.push_str(&format!("\nRestart: {}\n", self.restart));
        text.push_str(&by_hand(&self.by_hand));
        text
    }
}

/// Ways to do it by hand, as text for people.
pub fn by_hand(ways: &[ByHand]) -> String {
    ways.iter().map(|way| format!("\nBy hand, with {}:\n{}\n", way.tool, way.text)).collect()
}
