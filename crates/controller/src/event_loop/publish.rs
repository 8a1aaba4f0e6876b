//! How things stand, for those who tell others.

use super::Running;
use crate::clock::Now;
use crate::injection::TAKEN_OUT;
use crate::reconcile::{self, Standing};
use crate::registry::Workload;
use crate::standing::Published;
use contract::capture::{Level, State};
use contract::workload::{Agent, Key, Observed};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Instances that are reported of one workload.
const MAX_REPORTED: usize = 64;

/// How often a report that differs only in times goes out.
const TIMES_EVERY: Duration = Duration::from_secs(5);

/// How long a workload with a provisional key is not told: its platform names a new container
/// within a second or two as a rule, and who was told the provisional key would keep a row of it.
const SETTLE_NANOS: u64 = 10_000_000_000;

impl Running {
    pub(super) fn publish(&mut self, now: Instant) {
        let observed = self.observed();
        let is_news = !is_same_but_for_times(&observed, &self.published);
        let times_are_due =
            self.published_at.is_none_or(|at| now.saturating_duration_since(at) >= TIMES_EVERY);
        let full = self.full();
        let is_news = is_news || full != self.published_full;
        if is_news || (times_are_due && observed != self.published) {
            self.published.clone_from(&observed);
            self.published_at = Some(now);
            let desired = self.desired.clone();
            let held = self.wishes.desired.values().cloned().collect();
            self.published_full.clone_from(&full);
            self.parts.standings.publish(Published { workloads: observed, desired, full, held });
        }
    }

    /// Workloads in which an SDK is wanted, with the number of the wish.
    fn full(&self) -> BTreeMap<Key, u64> {
        let wanted = self.desired.iter().filter(|(_, level)| **level == Level::Full);
        wanted.map(|(key, _)| (key.clone(), self.wishes.generation_of(key))).collect()
    }

    /// When times that changed are to be told; `None` when none did.
    pub(super) fn times_due(&self, now: Instant) -> Option<Duration> {
        let at = self.published_at?;
        let is_later = |observed: &Observed| {
            let workload = self.registry.workloads().get(&observed.key);
            workload.is_some_and(|it| it.last_seen_unix_nanos != observed.last_seen_unix_nanos)
        };
        let is_due = self.published.iter().any(is_later);
        let times = is_due.then(|| (at + TIMES_EVERY).saturating_duration_since(now));
        let unix_nanos = Now::read().unix_nanos;
        let settled = self.registry.workloads().values();
        let settled = settled.filter_map(|workload| settles_in(workload, unix_nanos)).min();
        times.into_iter().chain(settled).min()
    }

    /// Joins what holds for the kernel's capture and for the SDK: the level in effect, and the
    /// sentence of the one that is not where it is wanted.
    fn joined(&self, key: &Key, network: Standing) -> (Standing, Option<Agent>) {
        let wants = self.desired.get(key) == Some(&Level::Full);
        let agent = self.agents.get(key).cloned();
        let is_well = matches!(network.state, State::Capturing | State::Partly);
        let standing = match &agent {
            Some(agent) if !wants && !agent.change.is_empty() && agent.state != State::Blocked => {
                let is_on = network.level == Level::Network;
                // With what stands in the way, where something does.
                let reason = agent.is_leaving.then(|| agent.reason.clone());
                Standing {
                    level: if is_on { Level::Full } else { network.level },
                    state: State::Pending,
                    reason: reason.unwrap_or_else(|| TAKEN_OUT.to_owned()),
                }
            }
            Some(agent) if agent.state == State::Capturing && network.level == Level::Network => {
                let reason = format!("{} {}", network.reason, agent.reason);
                Standing { level: Level::Full, reason, ..network }
            }
            Some(agent) if wants && is_well => {
                let reason = format!("{} {}", agent.reason, network.reason);
                Standing { state: agent.state, reason, ..network }
            }
            Some(agent) if agent.state == State::Pending => {
                Standing { state: State::Pending, reason: agent.reason.clone(), ..network }
            }
            Some(agent) => {
                Standing { reason: format!("{} {}", network.reason, agent.reason), ..network }
            }
            None if wants && is_well => Standing {
                state: State::Pending,
                reason: "The node looks at how the SDK gets in.".to_owned(),
                ..network
            },
            None => network,
        };
        (standing, agent)
    }

    fn observed(&self) -> Vec<Observed> {
        let world = self.world();
        let now = Now::read().unix_nanos;
        let told = self.registry.workloads().iter();
        let told = told.filter(|(_, workload)| settles_in(workload, now).is_none());
        let observed = told.map(|(key, workload)| {
            let network = reconcile::standing(world, key, workload);
            let (standing, agent) = self.joined(key, network);
            let instances = workload
                .instances
                .values()
                .take(MAX_REPORTED)
                .map(|running| running.program.instance.clone());
            Observed {
                key: key.clone(),
                name: self.parts.given.name(key, &workload.name),
                platform: workload.platform,
                instances: instances.collect(),
                evidence: workload.evidence.clone(),
                asked: workload.asked(),
                level: standing.level,
                state: standing.state,
                reason: standing.reason,
                first_seen_unix_nanos: workload.first_seen_unix_nanos,
                last_seen_unix_nanos: workload.last_seen_unix_nanos,
                attributes: workload.attributes.clone(),
                replaces: self.registry.replaces(workload),
                agent,
            }
        });
        observed.collect()
    }
}

/// How long it is until a workload is told; `None` when it is.
fn settles_in(workload: &Workload, now_unix_nanos: u64) -> Option<Duration> {
    let mut programs = workload.instances.values().map(|running| &running.program);
    let is_provisional = !workload.instances.is_empty() && programs.all(|it| it.provisional);
    let until = workload.first_seen_unix_nanos.saturating_add(SETTLE_NANOS);
    (is_provisional && until > now_unix_nanos).then(|| Duration::from_nanos(until - now_unix_nanos))
}

fn is_same_but_for_times(left: &[Observed], right: &[Observed]) -> bool {
    let without_times = |observed: &Observed| {
        let mut observed = observed.clone();
        observed.last_seen_unix_nanos = 0;
        for evidence in &mut observed.evidence {
            evidence.last_seen_unix_nanos = 0;
        }
        for asked in &mut observed.asked {
            asked.last_seen_unix_nanos = 0;
        }
        observed
    };
    left.len() == right.len()
        && left.iter().zip(right).all(|(left, right)| without_times(left) == without_times(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::tests::program;
    use crate::registry::{Presence, Registry};
    use contract::workload::{By, Evidence};
    use std::sync::Arc;

    #[test]
    fn a_workload_without_its_real_key_is_told_only_when_that_does_not_come() {
        let mut registry = Registry::default();
        let mut early = (*program("host/pod", 7, None)).clone();
        early.provisional = true;
        let evidence = Evidence {
            provider: "openai".to_owned(),
            by: By::Sni,
            seen: "api.openai.com".to_owned(),
            last_seen_unix_nanos: 5,
        };
        registry.sighted(&Arc::new(early), evidence.clone(), None, Presence::Running);
        registry.sighted(&program("host/other", 8, None), evidence, None, Presence::Running);
        let wait = |name: &str, now| {
            let key = Key(name.to_owned());
            settles_in(&registry.workloads()[&key], now)
        };
        assert_eq!(wait("host/pod", 6), Some(Duration::from_nanos(SETTLE_NANOS - 1)));
        assert_eq!(wait("host/pod", SETTLE_NANOS + 5), None);
        assert_eq!(wait("host/other", 6), None);
    }
}
