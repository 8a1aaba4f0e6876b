//! Where a process runs. One file a platform; the first that recognises a process has it.

mod bare;
mod docker;
mod kubernetes;
mod systemd;

use crate::process::Process;
use contract::workload;
use std::collections::BTreeMap;
use std::path::Path;

/// A place in which a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) platform: workload::Platform,
    /// The place's own name, stable over restarts; `None` when the program itself has to be named.
    pub(crate) place: Option<String>,
    /// Name to show, where the platform knows a good one.
    pub(crate) name: Option<String>,
    /// What else is known, by attribute name.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// A manager of processes: Kubernetes, Docker, systemd, or none.
///
/// # Contract
///
/// A platform reports and never decides. `place` looks at what `/proc` said and at files below
/// `root`, the node's root directory; it may be asked about any process at any time, is cheap, and
/// answers `None` for what is not its own.
pub(crate) trait Platform: Sync {
    /// The place of a process, when it runs on this platform.
    fn place(&self, process: &Process, root: &Path) -> Option<Place>;
}

/// In order of precedence: a container of a pod is also a container, and its runtime is a unit.
const PLATFORMS: [&dyn Platform; 3] = [&kubernetes::Kubernetes, &docker::Docker, &systemd::Systemd];

/// The place of a process.
pub(crate) fn place(process: &Process, root: &Path) -> Place {
    PLATFORMS.iter().find_map(|platform| platform.place(process, root)).unwrap_or_else(bare::place)
}

/// The 64 hexadecimal digits of a container id, in one part of a cgroup path: bare, or between a
/// prefix of the runtime and `.scope`.
fn container_id(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = part.get(part.len().checked_sub(64)?..)?;
    let is_id = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then_some(id)
}
