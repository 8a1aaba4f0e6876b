//! The poll: the controller reports what it observed and is answered with what is wanted.
//!
//! The controller always dials. It enrols once (`POST /api/v1/enrol`, an [`Enrolment`]), and then
//! polls: `POST /api/v1/poll` carries a [`Report`] and is answered with a [`Wish`]. With
//! `wait_seconds` above zero the dashboard holds the answer until it has news or the time is over.
//!
//! # Versions
//!
//! Each side names the oldest and the newest protocol it speaks; the newest that both speak holds
//! ([`agreed`]). Fields that are not known are ignored, and what is added has a default, so a
//! dashboard understands controllers two versions back and the other way round.

use crate::before::Before;
use crate::capture::Level;
use crate::doctor::Fact;
use crate::rules::Rules;
use crate::settings::{Applied, Configuration};
use crate::step::{Progress, Step};
use crate::workload::{Key, Observed, Platform};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Newest version of these messages.
pub const PROTOCOL: u32 = 2;

/// Oldest version of these messages that is understood.
pub const OLDEST_PROTOCOL: u32 = 1;

/// Longest time that a poll may wait, in seconds.
pub const MAX_WAIT_SECONDS: u32 = 30;

/// What every credential of a controller begins with; 64 hexadecimal digits follow.
pub const CREDENTIAL_PREFIX: &str = "sonde_node_";

/// The newest version that both sides speak; `None` when there is none.
pub fn agreed(their_oldest: u32, their_newest: u32) -> Option<u32> {
    let newest = their_newest.min(PROTOCOL);
    (newest >= their_oldest.max(OLDEST_PROTOCOL)).then_some(newest)
}

/// What a controller says in a poll.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Newest protocol of the sender.
    pub protocol: u32,
    /// Oldest protocol of the sender.
    #[serde(default = "first")]
    pub oldest_protocol: u32,
    /// Who reports. The id must be the one that the credential was given to.
    pub instance: Instance,
    /// Highest generation whose wishes were taken over; 0 at first.
    pub generation: u64,
    /// True when the wishes of `generation` are in the sender's hands: the answer need not repeat
    /// them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub has_wishes: bool,
    /// How long the dashboard may hold its answer.
    #[serde(default)]
    pub wait_seconds: u32,
    /// All workloads that are known on the node; `None` when nothing changed since the last report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads: Option<Vec<Observed>>,
    /// Number of the full list in `workloads`, from which deltas count on. It is above all earlier
    /// ones of the same run of the controller, so that a list that comes late is known by it; 0 where
    /// no deltas follow.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sequence: u64,
    /// What changed since the list or delta with the number `base`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
    /// What the node allows; `None` when nothing changed since the last report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doctor: Option<Vec<Fact>>,
    /// What was lost since the start, by reason: chunks, bytes, spans.
    #[serde(default)]
    pub lost: BTreeMap<String, u64>,
    /// How steps are going, and results that were not acknowledged yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Progress>,
    /// Which configuration was tried last, and how it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Applied>,
    /// The credential that shall follow this one. The present one stays good until the new one was
    /// used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_credential: Option<Secret>,
    /// All wishes that the node keeps; an answer with [`Wish::ask_held`] asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Vec<Desired>>,
    /// True when the sender has no notes of what it changed: it wants [`Wish::before`], and what it
    /// says of workloads ends no change until it has that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub asks_before: bool,
}

/// What changed in the list of workloads.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Delta {
    /// Number of the list or delta that this one continues. Where the dashboard has not taken that
    /// one over, it takes nothing of this, and asks for a full list ([`Wish::full`]).
    pub base: u64,
    /// Number of this delta.
    pub sequence: u64,
    /// Workloads that are new or changed.
    #[serde(default)]
    pub changed: Vec<Observed>,
    /// Workloads that are no longer known.
    #[serde(default)]
    pub gone: Vec<Key>,
}

/// A running controller.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Instance {
    /// Stable id of the node: the scope of its keys.
    pub id: String,
    /// Name of the node.
    pub host_name: String,
    /// Version of the controller.
    pub version: String,
    /// Kernel release, as `uname -r` says.
    pub kernel: String,
    /// Start of the controller, nanoseconds since 1970.
    pub started_unix_nanos: u64,
    /// True for `sonde replay`: what it reports was recorded earlier.
    #[serde(default)]
    pub recorded: bool,
    /// Cluster that the node belongs to, where it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// Platforms that were found on the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// What the controller can do here, and may do.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub capabilities: BTreeSet<Capability>,
}

/// Something that a controller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Read model calls in the kernel.
    Network,
    /// Put an SDK into programs, and take it out again.
    Sdk,
    /// Restart a workload.
    Restart,
    /// Put a workload back as it was found.
    Undo,
    /// Take steps at all.
    Steps,
    /// Take configuration over.
    Configure,
    /// Something of a newer version.
    #[serde(other)]
    Other,
}

/// A Kubernetes cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// UID of its namespace `kube-system`, which nobody can rename.
    pub id: String,
    /// Name that a person gave it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What the dashboard answers to a poll.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wish {
    /// The protocol that both sides speak.
    pub protocol: u32,
    /// Generation of the wishes below; grows with every change.
    pub generation: u64,
    /// All wishes for the workloads of this node; empty when `unchanged`.
    pub desired: Vec<Desired>,
    /// True when wishes, rules and names are left out, because the report has them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unchanged: bool,
    /// Rules of discovery that people set on the dashboard.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rules: Rules,
    /// Names that people gave workloads of this node; they win over every other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<Key, String>,
    /// Steps to take, each until it ended. One may come more than once; its id tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Ids of steps that shall not be begun any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancelled: Vec<String>,
    /// Ids of steps whose end the dashboard has on disk: the node may forget the results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acknowledged: Vec<String>,
    /// Configuration to apply, when it is not the one that was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Configuration>,
    /// What of the report was not taken over, and why; the rest was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// True when the next report shall carry all workloads and facts.
    #[serde(default, skip_serializing_if = "is_false")]
    pub full: bool,
    /// True when the dashboard knows less than the node was told (it was restored from an older
    /// copy): the next report shall carry [`Report::held`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub ask_held: bool,
    /// True when the credential is old: the next report shall carry [`Report::next_credential`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub rotate: bool,
    /// True when [`Report::next_credential`] is known now; using it ends the one before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub credential_kept: bool,
    /// What was there before each change that the node told of, where it asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<BTreeMap<Key, Before>>,
}

/// What is wanted of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Which workload.
    pub key: Key,
    /// Capture level.
    #[serde(deserialize_with = "crate::capture::level_of_any_version")]
    pub level: Level,
    /// Whether an SDK is wanted in it; `None` when nobody ever said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<bool>,
    /// Generation of the newest wish for it; 0 from a dashboard that does not say.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
}

/// Something of a report that was not taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Key of the workload, or id of the step, as far as it could be read.
    pub key: String,
    /// Why, in one sentence.
    pub reason: String,
}

/// The first contact of a controller, with a join token.
///
/// The controller makes its credential itself, keeps it on disk, and then sends this: an answer
/// that is lost costs nothing, because the same enrolment may be sent again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Newest protocol of the sender.
    pub protocol: u32,
    /// Oldest protocol of the sender.
    #[serde(default = "first")]
    pub oldest_protocol: u32,
    /// Who enrols.
    pub instance: Instance,
    /// [`CREDENTIAL_PREFIX`] and 64 hexadecimal digits from the system's random numbers.
    pub credential: Secret,
}

/// The answer to an enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Enrolled {
    /// The id that the credential speaks for, and no other.
    pub id: String,
    /// Protocol that both sides speak.
    pub protocol: u32,
    /// Environment that the join token was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
}

/// A secret; its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

impl Secret {
    /// Whether it has the form of a controller's credential: nothing shorter may be one.
    pub fn is_credential(&self) -> bool {
        self.0.strip_prefix(CREDENTIAL_PREFIX).is_some_and(|digits| {
            digits.len() == 64
                && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    }
}

fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_default(rules: &Rules) -> bool {
    *rules == Rules::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_protocol_that_both_speak_holds() {
        assert_eq!(agreed(1, 1), Some(1));
        assert_eq!(agreed(1, 2), Some(2));
        assert_eq!(agreed(2, 9), Some(PROTOCOL));
        assert_eq!(agreed(PROTOCOL + 1, PROTOCOL + 2), None);
        assert_eq!(agreed(0, 0), None);
    }

    #[test]
    fn a_report_of_the_first_protocol_and_one_of_a_later_one_are_read() {
        let first = r#"{"protocol":1,"generation":3,"instance":{"id":"n","host_name":"h",
            "version":"0.1.0","kernel":"6.1","started_unix_nanos":1}}"#;
        let report: Report = serde_json::from_str(first).unwrap();
        assert_eq!((report.oldest_protocol, report.has_wishes, report.wait_seconds), (1, false, 0));
        let later = r#"{"protocol":9,"oldest_protocol":2,"generation":3,"moon":{"phase":1},
            "instance":{"id":"n","host_name":"h","version":"9","kernel":"9","sun":1,
            "started_unix_nanos":1,"capabilities":["network","teleport"]}}"#;
        let report: Report = serde_json::from_str(later).unwrap();
        let capabilities = [Capability::Network, Capability::Other];
        assert_eq!(report.instance.capabilities, capabilities.into());
    }

    #[test]
    fn an_answer_with_a_step_of_a_newer_version_is_read() {
        let wish = r#"{"protocol":2,"generation":1,"desired":[{"key":"k","level":"telepathy"}],
            "steps":[{"id":"s","change":"dance","reason":"r","actor":"a","generation":1}]}"#;
        let wish: Wish = serde_json::from_str(wish).unwrap();
        assert_eq!(wish.steps[0].change, crate::step::Change::Unknown);
        assert_eq!(wish.desired[0].level, Level::Off, "nothing is the safe wish");
    }

    #[test]
    fn a_credential_has_a_form_and_is_not_printed() {
        let good = Secret(format!("{CREDENTIAL_PREFIX}{}", "0f".repeat(32)));
        assert!(good.is_credential());
        assert_eq!(format!("{good:?}"), "***");
        for bad in ["", "sonde_node_", "sonde_node_00", "x"] {
            assert!(!Secret(bad.into()).is_credential(), "{bad}");
        }
        assert!(!Secret(good.0.to_uppercase()).is_credential());
    }
}
