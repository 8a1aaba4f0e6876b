//! What a service is said to be: of what its nodes observed, what is wished, and what was counted.

use crate::sqlite::control::Found;
use contract::capture::{Level, State};
use contract::row::{Asked, Instance, Service, Time};
use contract::workload::What;
use std::collections::HashMap;

/// Over how long calls a minute are counted.
pub(super) const RATE_NANOS: u64 = 5 * MINUTE_NANOS;
const MINUTE_NANOS: u64 = 60_000_000_000;

/// The same workload on a second node: one row, with the instances of both, and the word of the one
/// where it runs and that waits for no other.
pub(super) fn join(first: &mut Service, mut second: Service) {
    let waits = |row: &Service| {
        let agent = row.agent.as_ref();
        agent.is_some_and(|agent| agent.state == State::Pending && agent.change.is_empty())
    };
    let weight = |row: &Service| (!row.instances.is_empty(), !waits(row));
    if weight(&second) > weight(first) {
        std::mem::swap(first, &mut second);
    }
    first.instances.extend(second.instances);
    let processes = second.agent.map(|agent| agent.processes).unwrap_or_default();
    if let Some(agent) = &mut first.agent {
        agent.processes.extend(processes);
    }
}

/// The row of a workload on one node. `counts` are the calls of the last minutes by key.
pub(super) fn service(found: Found, counts: &HashMap<String, u64>, now: Time) -> Service {
    let Found { observed, desired, instance, present } = found;
    // Where nobody said anything here, the node goes by its own file and by the configuration of
    // its layers: what it does is what is wanted.
    let desired = desired.unwrap_or(if present { observed.level } else { Level::Off });
    let (state, reason) = state(&observed, desired, &instance, present);
    let instances: Vec<Instance> =
        if present { observed.instances.into_iter().map(Into::into).collect() } else { Vec::new() };
    let first = instances.first();
    let asked = |what| Asked::names(&observed.asked, what);
    // A controller of an earlier version says no more than the evidence.
    let mut providers: Vec<String> = observed.evidence.iter().map(|e| e.provider.clone()).collect();
    providers.extend(asked(What::Provider));
    providers.sort_unstable();
    providers.dedup();
    let models = asked(What::Model);
    let count = counts.get(&observed.key.0).copied().unwrap_or(0);
    Service {
        calls_per_minute: per_minute(count, observed.first_seen_unix_nanos, now),
        host_name: Some(instance.host_name),
        process_pid: first.map(|first| first.pid),
        command_args: first.map(|first| first.command_args.clone()).unwrap_or_default(),
        runtime_name: first.and_then(|first| first.runtime_name.clone()),
        runtime_version: first.and_then(|first| first.runtime_version.clone()),
        tls: instances.iter().find_map(|instance| instance.tls.clone()),
        instances,
        name: observed.name,
        key: observed.key.0,
        platform: observed.platform,
        providers,
        models,
        asked: observed.asked.into_iter().map(Into::into).collect(),
        evidence: observed.evidence.into_iter().map(Into::into).collect(),
        desired,
        observed: if present { observed.level } else { Level::Off },
        state,
        reason,
        first_seen: Time(observed.first_seen_unix_nanos),
        last_seen: Some(Time(observed.last_seen_unix_nanos)).filter(|time| time.0 > 0),
        recorded: instance.recorded.then_some(true),
        agent: observed.agent.filter(|_| present),
        more: observed.attributes.into_iter().map(|(key, value)| (key, value.into())).collect(),
    }
}

/// The state to show: what the controller said, unless it does not know of the wish yet.
fn state(
    observed: &contract::workload::Observed,
    desired: Level,
    instance: &contract::poll::Instance,
    present: bool,
) -> (State, String) {
    if instance.recorded {
        return (State::Recorded, observed.reason.clone());
    }
    if !present {
        return (State::Stopped, "no instance runs; it is listed again when one starts".into());
    }
    let settled = observed.level == desired
        || matches!(
            observed.state,
            State::Unsupported
                | State::Failed
                | State::Partly
                | State::Stopped
                | State::Blocked
                | State::Conflict
                | State::Unhealthy
                | State::Drifted
        );
    let known = settled || observed.state == State::Pending;
    if known && !(desired == Level::Off && observed.level != Level::Off) {
        return (observed.state, observed.reason.clone());
    }
    let reason = format!(
        "the controller of {} takes the change over with its next poll",
        instance.host_name
    );
    (State::Pending, reason)
}

/// Over the last five minutes, or since the workload is known, at least a minute; to two places.
fn per_minute(count: u64, first_seen: u64, now: Time) -> f64 {
    let span = now.0.saturating_sub(first_seen).clamp(MINUTE_NANOS, RATE_NANOS);
    #[expect(clippy::cast_precision_loss, reason = "shown with two places")]
    let rate = count as f64 * MINUTE_NANOS as f64 / span as f64;
    (rate * 100.0).round() / 100.0
}
