//! What is said of a workload whose program was changed, or is not.

use super::kept::Phase;
use super::{Running, SECOND, processes};
use crate::clock::Now;
use contract::capture::State;
use contract::workload::{Agent, AgentProgress, Key, Observed};
use injector::plan::Kind;

/// What is said of a program that is being put back as it was.
pub(crate) const TAKEN_OUT: &str = "The SDK is being taken out.";

impl Running {
    /// How a workload stands whose change was made, or is being made or taken back.
    pub(super) fn stands(
        &self,
        key: &Key,
        observed: Option<&Observed>,
        wanted: Option<u64>,
    ) -> Option<Agent> {
        let Some(record) = self.parts.records.get(key) else {
            let (state, reason) = self.unchanged(key, wanted)?;
            return Some(self.agent(key, observed, state, reason));
        };
        let (state, reason) = match &record.phase {
            Phase::Making => (State::Pending, "It is being restarted with the SDK.".to_owned()),
            Phase::Watched { .. } if self.rolling.contains_key(key) => {
                let progress = self.rolling.get(key).map_or("", String::as_str);
                (State::Pending, format!("It rolls out with the SDK: {progress}."))
            }
            Phase::Watched { since_unix_nanos } => {
                let over = since_unix_nanos.saturating_add(self.window());
                let left = over.saturating_sub(Now::read().unix_nanos) / SECOND;
                let left = left.div_ceil(5) * 5;
                let reason =
                    format!("It was restarted with the SDK, and is watched for {left} s more.");
                (State::Pending, reason)
            }
            Phase::InEffect => match self.parts.turns.holder(&key.0) {
                Some(by) => (State::Pending, format!("Another node makes it: {by}.")),
                None => return Some(self.in_effect(key, observed)),
            },
            Phase::Undoing(_) => {
                let said = self.tries.get(key).map(|tries| tries.said.as_str()).unwrap_or_default();
                (State::Pending, format!("{TAKEN_OUT} {said}").trim().to_owned())
            }
            Phase::RolledBack { reason } => (
                State::Unhealthy,
                format!(
                    "It did not come up healthy with the SDK, and was put back as it was ({reason}); look at its log, then set it again."
                ),
            ),
            Phase::Reverted { reason } => (
                State::Drifted,
                format!(
                    "Somebody took the SDK out by other means ({reason}), and that is respected; set it again to put it back in."
                ),
            ),
        };
        Some(self.agent(key, observed, state, reason))
    }

    /// The state of a program in which nothing was changed: it waits, or it cannot be changed.
    fn unchanged(&self, key: &Key, wanted: Option<u64>) -> Option<(State, String)> {
        if let Some(waits) = self.waits.get(key) {
            return Some((State::Pending, waits.reason.clone()));
        }
        let tries = self.tries.get(key)?;
        wanted?;
        let Some((refusal, _)) = &tries.refusal else {
            return Some((State::Failed, tries.said.clone()));
        };
        let state = match refusal.kind {
            Kind::Unsupported => State::Unsupported,
            Kind::Conflict => State::Conflict,
            Kind::Blocked => State::Blocked,
            Kind::NotNow => State::Failed,
        };
        Some((state, refusal.reason.clone()))
    }

    /// The change is made and well: whether the SDK is in the processes, they say themselves.
    fn in_effect(&self, key: &Key, observed: Option<&Observed>) -> Agent {
        let mut agent = self.agent(key, observed, State::Capturing, String::new());
        let count = |is: fn(AgentProgress) -> bool| {
            agent.processes.iter().filter(|process| is(process.progress)).count()
        };
        let all = agent.processes.len();
        let loaded = count(|it| {
            use AgentProgress::{Loaded, Sent, Started, Unsent};
            matches!(it, Loaded | Started | Unsent | Sent)
        });
        let one = |at: AgentProgress| agent.processes.iter().find(|it| it.progress == at);
        let place = match loaded {
            1 => "its process".to_owned(),
            loaded => format!("{loaded} of its processes"),
        };
        (agent.state, agent.reason) = match (loaded, one(AgentProgress::StoodDown)) {
            (0, _) if all == 0 => (State::Stopped, "It starts with the SDK; no process of it runs.".to_owned()),
            (0, Some(process)) => (
                State::Conflict,
                format!("The SDK left the program alone: {}; it runs on as if nothing were there.", process.detail),
            ),
            (0, None) if count(|it| it == AgentProgress::Absent) == all => (
                State::Partly,
                "It is to start with the SDK, and none of its processes did: what starts them, such as an admission webhook or a script, takes it out.".to_owned(),
            ),
            (0, None) => (
                State::Partly,
                "It was started with the SDK, and no process says that it was loaded; it may start another interpreter, or none of Python.".to_owned(),
            ),
            _ => match (one(AgentProgress::Sent), one(AgentProgress::Unsent)) {
                (Some(_), _) => (State::Capturing, format!("The SDK is in {place}, and its spans arrive.")),
                (None, Some(process)) => (
                    State::Partly,
                    format!("The SDK is in {place}, and its spans do not arrive: {}.", process.detail),
                ),
                (None, None) => (State::Capturing, format!("The SDK is in {place}.")),
            },
        };
        agent
    }

    /// What is told of a workload.
    pub(super) fn agent(
        &self,
        key: &Key,
        observed: Option<&Observed>,
        state: State,
        reason: String,
    ) -> Agent {
        let record = self.parts.records.get(key).filter(|record| record.is_in_effect());
        let processes = match (record, observed) {
            (Some(_), Some(observed)) => processes::of(&self.parts.root, observed),
            _ => Vec::new(),
        };
        let change = record.map(|record| record.difference.clone()).unwrap_or_default();
        let before = record.map(|record| record.change.before());
        let before = before.or_else(|| self.parts.records.lost().get(key).cloned());
        let is_leaving = record.is_some_and(|record| matches!(record.phase, Phase::Undoing(_)));
        Agent { state, reason, processes, change, before, is_leaving }
    }

    /// Why nothing is done, with what was found in this workload.
    pub(super) fn explained(
        &self,
        key: &Key,
        state: State,
        reason: &str,
        forbidden: Option<String>,
    ) -> String {
        let tries = self.tries.get(key).cloned().unwrap_or_default();
        let refused = tries.refusal.map(|(refusal, _)| refusal.reason);
        match state {
            State::Blocked => forbidden.unwrap_or_else(|| reason.to_owned()),
            State::Conflict | State::Unsupported => refused.unwrap_or_else(|| reason.to_owned()),
            State::Failed => format!("{reason} {}", refused.unwrap_or(tries.said)),
            State::Unhealthy | State::Drifted => {
                match self.parts.records.get(key).map(|it| &it.phase) {
                    Some(Phase::RolledBack { reason: why } | Phase::Reverted { reason: why }) => {
                        format!("{reason} ({why})")
                    }
                    _ => match self.parts.turns.end(&key.0, 0) {
                        Some(end) => format!("{reason} ({})", end.reason),
                        None => reason.to_owned(),
                    },
                }
            }
            _ => reason.to_owned(),
        }
    }
}
