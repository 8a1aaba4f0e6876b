//! Where a process runs. One file a platform, one line in the list.
//!
//! Every platform is asked about every process. The first in the list that manages it says its key
//! and name; what the others know of it (a container that is also a unit) is kept as attributes.

mod bare;
mod bundle;
mod docker;
mod kubernetes;
mod machine;
mod systemd;

use crate::clients::{Changed, Clients, Task};
use crate::declared::Declared;
use crate::process::{Process, clean};
use contract::doctor::Fact;
use contract::workload;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Labels of one container or pod that are kept; more is no description any more.
const MAX_LABELS: usize = 64;

/// Longest value of an attribute that is kept.
const MAX_VALUE: usize = 256;

/// A place in which a process runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) platform: Option<workload::Platform>,
    /// Whose name the key is: `cluster-…` where all nodes of a cluster share it; else this host's.
    pub(crate) scope: Option<String>,
    /// What the key calls the platform: `k8s`, `docker`, `podman`, `systemd`, ….
    pub(crate) manager: &'static str,
    /// The place's own name, stable over restarts; `None` when the program itself has to be named.
    pub(crate) place: Option<String>,
    /// What stands before the program's own name where it has to be named: the container around it.
    pub(crate) within: Option<String>,
    /// Name to show, where the platform knows a good one.
    pub(crate) name: Option<String>,
    /// What the owner said by labels or annotations.
    pub(crate) declared: Declared,
    /// What is known of the workload, by attribute name.
    pub(crate) attributes: BTreeMap<String, String>,
    /// What is known of this one instance, by attribute name.
    pub(crate) instance: BTreeMap<String, String>,
    /// Whether the platform may know more in a moment.
    pub(crate) is_provisional: bool,
}

/// What a platform may look at beside the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<'a> {
    /// Root directory of the node.
    pub(crate) root: &'a Path,
    /// Containers that the controller itself stands in, the outermost first.
    pub(crate) own: &'a [String],
}

/// A manager of processes: Kubernetes, Docker, systemd.
///
/// # Contract
///
/// A platform reports and never decides. `place` looks at what `/proc` said, at files below the node's
/// root and at tables in memory; it may be asked about any process at any time, never waits for a
/// network, and answers `None` for what is not its own. A platform that has to ask somebody does so
/// in a task of its own, which writes those tables and says what changed.
pub(crate) trait Platform: fmt::Debug + Send {
    /// The place of a process, when it runs on this platform.
    fn place(&self, process: &Process, around: Around<'_>) -> Option<Place>;

    /// What to run for as long as the node is open.
    fn tasks(&self, _clients: &Clients, _changed: &Changed) -> Vec<Task> {
        Vec::new()
    }

    /// The cluster that it says the node belongs to.
    fn cluster(&self) -> Option<String> {
        None
    }

    /// How its connections stand.
    fn facts(&self) -> Vec<Fact> {
        Vec::new()
    }
}

/// All platforms in order of precedence: a container of a pod is also a container, and its runtime is
/// a unit.
pub(crate) fn all() -> Vec<Box<dyn Platform>> {
    vec![
        Box::<kubernetes::Kubernetes>::default(),
        Box::<docker::Docker>::default(),
        Box::new(machine::Machine),
        Box::new(systemd::Systemd),
    ]
}

/// The place of a process.
pub(crate) fn place(
    platforms: &[Box<dyn Platform>],
    process: &Process,
    around: Around<'_>,
) -> Place {
    let mut places = platforms.iter().filter_map(|platform| platform.place(process, around));
    let Some(mut first) = places.next() else { return bare::place() };
    for other in places {
        first.declared = first.declared.or(&other.declared);
        for (name, value) in other.attributes {
            first.attributes.entry(name).or_insert(value);
        }
        for (name, value) in other.instance {
            first.instance.entry(name).or_insert(value);
        }
    }
    first
}

impl Place {
    /// Notes an attribute of the workload.
    fn note(&mut self, name: &str, value: &str) {
        insert(&mut self.attributes, name, value);
    }

    /// Notes an attribute of the instance.
    fn note_instance(&mut self, name: &str, value: &str) {
        insert(&mut self.instance, name, value);
    }
}

fn insert(attributes: &mut BTreeMap<String, String>, name: &str, value: &str) {
    let value = clean(value, MAX_VALUE);
    if !value.is_empty() {
        attributes.insert(clean(name, MAX_VALUE), value);
    }
}

/// Resource attributes that people give by labels or annotations
/// (`resource.opentelemetry.io/deployment.environment.name`, OpenTelemetry's convention for
/// Kubernetes).
fn declared<'a>(labels: impl Iterator<Item = (&'a String, &'a String)>) -> Declared {
    let mut declared = Declared::default();
    for (name, value) in labels {
        if let Some(attribute) = name.strip_prefix("resource.opentelemetry.io/") {
            declared.take(attribute, value);
        }
    }
    declared
}
