//! What would be changed, and whether it may be: values that can be shown, kept, made and undone.

use crate::docker;
use crate::kubernetes;
use crate::systemd;
use contract::before::Before;
use serde::{Deserialize, Serialize};

/// A change that was thought through, and not made.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Exactly what is changed, with what is needed to take it back.
    pub change: Change,
    /// What was looked at before, for people.
    pub(crate) findings: Vec<Finding>,
    /// What has to be restarted, in one sentence.
    pub(crate) restart: String,
    /// How a person does the same by hand: which tool, and what to give it.
    pub(crate) by_hand: Vec<ByHand>,
}

/// A change of one platform's object, as a controller keeps it on disk.
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

/// One thing that was looked at, and that does not forbid the change; what does is a [`Refusal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) grade: Grade,
    /// One sentence.
    pub(crate) text: String,
}

/// How something is that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grade {
    /// As it should be.
    Good,
    /// It works, and somebody should know.
    Warn,
}

/// How a person does the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByHand {
    /// With what: `systemctl edit`, `docker compose`, `kubectl`.
    pub tool: String,
    /// What to run, or to write.
    pub text: String,
}

/// Why a change is not made. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of which kind.
    pub kind: Kind,
    /// One stable word for it, such as `bare_process`, by which the log tells refusals apart.
    pub code: String,
    /// Why, and what a person can do, in a sentence or two.
    pub reason: String,
    /// How a person does it, where a person can.
    pub by_hand: Vec<ByHand>,
}

/// Kinds of refusals, which differ in what is shown and in what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    pub(crate) fn good(text: impl Into<String>) -> Self {
        Self { grade: Grade::Good, text: text.into() }
    }

    pub(crate) fn warn(text: impl Into<String>) -> Self {
        Self { grade: Grade::Warn, text: text.into() }
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

    /// Something else is in the program already.
    pub(crate) fn conflict(code: &str, reason: impl Into<String>) -> Self {
        Self { kind: Kind::Conflict, ..Self::unsupported(code, reason) }
    }

    /// Somebody said that it must not be.
    pub fn blocked(code: &str, reason: impl Into<String>) -> Self {
        Self { kind: Kind::Blocked, ..Self::unsupported(code, reason) }
    }

    /// Not as things stand; it is tried again.
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
