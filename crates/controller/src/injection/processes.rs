//! How far the SDK is in each process, as the kernel shows it: what the process was started with, and
//! what the agent in it says.

use contract::workload::{AgentIn, AgentProgress, Observed};
use injector::environment::ENDPOINT;
use injector::report::{self, State};
use std::fs;
use std::path::Path;

/// Longest list of libraries, or reason, that is told.
const MAX_DETAIL: usize = 300;

/// All processes of a workload.
pub(super) fn of(root: &Path, observed: &Observed) -> Vec<AgentIn> {
    let one = |pid: u32| {
        let process = root.join("proc").join(pid.to_string());
        let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
        let (progress, detail) = match report::read(&maps) {
            Some(State::Loaded) => (AgentProgress::Loaded, String::new()),
            Some(State::Started { libraries }) => (AgentProgress::Started, libraries.join(", ")),
            Some(State::Unsent { reason }) => (AgentProgress::Unsent, reason),
            Some(State::Sent { libraries }) => (AgentProgress::Sent, libraries.join(", ")),
            Some(State::StoodDown { reason, detail }) => {
                (AgentProgress::StoodDown, format!("{reason}: {detail}"))
            }
            None if is_started_with(root, pid) => (AgentProgress::Injected, String::new()),
            None => (AgentProgress::Absent, String::new()),
        };
        let detail = detail.chars().filter(|it| !it.is_control()).take(MAX_DETAIL).collect();
        AgentIn { pid, progress, detail }
    };
    observed.instances.iter().map(|instance| one(instance.pid)).collect()
}

/// Whether a process was started with what agents are told.
pub(super) fn is_started_with(root: &Path, pid: u32) -> bool {
    let ours = format!("{ENDPOINT}=");
    let environment = root.join("proc").join(pid.to_string()).join("environ");
    let environment = fs::read(environment).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(ours.as_bytes()))
}
