//! Makes changes of platforms' objects, looks at how they are doing, and takes them back.
//!
//! Nothing here decides; every call may be repeated, and one that was cut short by a crash is.
//! What each platform needs for it stands with that platform; here is what all share.

use crate::docker::Member;
use crate::environment::Injection;
use crate::kubernetes::Workload;
use crate::kubernetes::cluster::Cluster;
use crate::plan::{Change, Plan, Refusal};
use crate::program::Program;
use contract::before::Was;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;

/// An object of a platform that can be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A unit of the node's systemd, or `user-ID/NAME` for one of a user's own.
    Unit(String),
    /// Containers.
    Containers {
        /// All of one workload.
        members: Vec<Member>,
        /// The service of `docker compose` that they are.
        service: Option<String>,
    },
    /// What the pods of a workload are made from.
    Pods {
        /// The workload.
        workload: Workload,
        /// The container that the program is in.
        container: String,
        /// The program on this node.
        pid: u32,
    },
}

/// How an object is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It comes up.
    Starting,
    /// It comes up, one part after the other.
    Rolling {
        /// How far it is.
        progress: String,
        /// How long it may stand still there.
        patience_seconds: u64,
    },
    /// It runs, with the change in effect.
    Good,
    /// It does not run as it should; why.
    Bad(String),
    /// Somebody took the change out, or changed it; what was found.
    Reverted(String),
    /// Nothing of it runs.
    Stopped,
}

/// What came of taking a change back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undone {
    /// All is as it was before, to the byte.
    Exactly,
    /// Somebody changed it since; only what is ours was removed. What stayed.
    Ours(String),
}

/// Speaks to the platforms of a node.
#[derive(Debug)]
pub struct Hands {
    pub(crate) runtime: Runtime,
    /// Root directory of the node.
    pub(crate) root: PathBuf,
    cluster: Cluster,
    /// Sockets of container engines.
    pub(crate) engines: Vec<PathBuf>,
    /// Directory for files that people give to Compose.
    pub(crate) files: Option<PathBuf>,
}

impl Hands {
    /// For a node whose root directory is `root`.
    ///
    /// # Errors
    ///
    /// When the kernel gives no descriptors for a runtime.
    pub fn new(root: &Path) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self {
            runtime,
            root: root.to_owned(),
            cluster: Cluster::default(),
            engines: Vec::new(),
            files: None,
        })
    }

    /// With what is known of the cluster that the node belongs to.
    #[must_use]
    pub fn with_cluster(self, cluster: Cluster) -> Self {
        Self { cluster, ..self }
    }

    /// With the sockets of the engines that containers of the node belong to, and a directory for
    /// files that people give to Compose.
    #[must_use]
    pub fn with_engines(self, engines: Vec<PathBuf>, files: PathBuf) -> Self {
        Self { engines, files: Some(files), ..self }
    }

    /// Thinks a change through; nothing that runs is touched.
    ///
    /// `runtime` is the language runtime of the program and its version, as far as they are known.
    ///
    /// # Errors
    ///
    /// Why it must not be made.
    pub fn plan(
        &self,
        target: &Target,
        runtime: (Option<&str>, Option<&str>),
        injection: &Injection,
    ) -> Result<Plan, Refusal> {
        match target {
            Target::Containers { members, service } => {
                self.plan_containers((members, service.as_deref()), runtime, injection)
            }
            Target::Unit(name) => self.plan_unit(name, runtime, injection),
            Target::Pods { workload, container, pid } => {
                let program = self.program(*pid, runtime);
                let effective = self.environment(self.first(*pid)).unwrap_or_default();
                let around = (program, effective);
                let plan = self.cluster.plan((workload, container), around, injection);
                self.runtime.block_on(plan)
            }
        }
    }

    /// Makes a change, and restarts what has to be.
    ///
    /// # Errors
    ///
    /// A sentence; some of the change may be in effect, and is to be taken back.
    pub fn make(&self, change: &Change) -> Result<(), String> {
        match change {
            Change::Systemd(change) => self.make_unit(change),
            Change::Docker(change) => self.make_containers(change),
            Change::Kubernetes(change) => self.runtime.block_on(self.cluster.make(change)),
        }
    }

    /// How a changed object is doing.
    ///
    /// # Errors
    ///
    /// When the platform does not answer; nothing is known then.
    pub fn health(&self, change: &Change) -> Result<Health, String> {
        match change {
            Change::Systemd(change) => self.unit_health(change),
            Change::Docker(change) => self.containers_health(change),
            Change::Kubernetes(change) => self.runtime.block_on(self.cluster.health(change)),
        }
    }

    /// Lets go of what was kept while a change was watched: it is well.
    ///
    /// # Errors
    ///
    /// A sentence; it is to be tried again.
    pub fn settle(&self, change: &Change) -> Result<(), String> {
        match change {
            Change::Docker(change) => self.settle_containers(change),
            Change::Systemd(_) | Change::Kubernetes(_) => Ok(()),
        }
    }

    /// Takes a change back, and restarts what runs with it; with `revive`, also what failed with it.
    ///
    /// # Errors
    ///
    /// A sentence; it is to be tried again.
    pub fn undo(&self, change: &Change, revive: bool) -> Result<Undone, String> {
        match change {
            Change::Systemd(change) => self.undo_unit(change, revive),
            Change::Docker(change) => self.undo_containers(change, revive),
            Change::Kubernetes(change) => self.runtime.block_on(self.cluster.undo(change)),
        }
    }

    /// A change of this node that nobody has notes of any more, made out from what was there before
    /// and from what is there now; nothing when nothing of it is.
    ///
    /// # Errors
    ///
    /// A sentence; it is to be tried again.
    pub fn recover(&self, target: &Target, was: &Was) -> Result<Option<Change>, String> {
        match (target, was) {
            (Target::Unit(name), Was::Unit { made, variables }) => {
                let change = self.recover_unit(name, (*made, variables))?;
                Ok(change.map(Change::Systemd))
            }
            (Target::Containers { .. }, Was::Containers { containers }) => {
                let change = self.recover_containers(containers)?;
                Ok(change.map(|change| Change::Docker(Box::new(change))))
            }
            _ => Ok(None),
        }
    }

    /// A program as it runs.
    pub(crate) fn program(
        &self,
        pid: u32,
        (runtime, version): (Option<&str>, Option<&str>),
    ) -> Program {
        let process = self.process(pid);
        let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
        let arguments =
            arguments.split(|byte| *byte == 0).map(|it| String::from_utf8_lossy(it).into_owned());
        Program {
            runtime: runtime.map(str::to_owned),
            version: version.map(str::to_owned),
            arguments: arguments.filter(|it| !it.is_empty()).collect(),
            environment: self.environment(pid).unwrap_or_default(),
            maps: fs::read_to_string(process.join("maps")).unwrap_or_default(),
        }
    }

    pub(crate) fn process(&self, pid: u32) -> PathBuf {
        self.root.join("proc").join(pid.to_string())
    }

    /// The first process of the container that a process is in: what was started with the container's
    /// own environment.
    fn first(&self, pid: u32) -> u32 {
        let read = |pid: u32, file: &str| fs::read_to_string(self.process(pid).join(file)).ok();
        let mut first = pid;
        while let Some(status) = read(first, "status") {
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            let parent = parent.and_then(|parent| parent.trim().parse().ok()).unwrap_or(0);
            let group = read(parent, "cgroup");
            if parent == 0 || group.is_none() || group != read(first, "cgroup") {
                break;
            }
            first = parent;
        }
        first
    }

    /// The environment that a process was started with; nothing when it is gone.
    pub(crate) fn environment(&self, pid: u32) -> Option<BTreeMap<String, String>> {
        let text = fs::read(self.process(pid).join("environ")).ok()?;
        let pairs = text.split(|byte| *byte == 0).filter_map(|pair| {
            let pair = String::from_utf8_lossy(pair);
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        // Of a name that is there twice, programs see the first.
        let mut all = BTreeMap::new();
        for (name, value) in pairs {
            all.entry(name).or_insert(value);
        }
        Some(all)
    }

    /// Why a process cannot read the bundle; nothing when it can.
    pub(crate) fn unreachable(&self, pid: u32, bundle: &str) -> Option<String> {
        let first = "bootstrap/sitecustomize.py";
        let relative = Path::new(bundle).strip_prefix("/").unwrap_or(Path::new(bundle)).join(first);
        let there = fs::metadata(self.process(pid).join("root").join(&relative));
        let here = match fs::metadata(self.root.join(&relative)) {
            Ok(here) => here,
            Err(error) => {
                return Some(format!(
                    "The agent is not at {bundle} ({error}); `sonde agents list` says where it is."
                ));
            }
        };
        let is_same = there.is_ok_and(|there| {
            (there.dev(), there.ino()) == (here.dev(), here.ino()) || there.len() == here.len()
        });
        if !is_same {
            return Some(format!(
                "The program cannot see {bundle} from within its own file system (RootDirectory=, ProtectHome=, TemporaryFileSystem= or the like); bind that directory into it, read-only."
            ));
        }
        let status = fs::read_to_string(self.process(pid).join("status")).unwrap_or_default();
        let user = status.lines().find_map(|line| {
            line.strip_prefix("Uid:")?.split_whitespace().nth(1)?.parse::<u32>().ok()
        });
        if user == Some(0) {
            return None;
        }
        let closed =
            relative.ancestors().filter(|path| !path.as_os_str().is_empty()).find(|path| {
                let mode =
                    fs::metadata(self.root.join(path)).map_or(0, |it| it.permissions().mode());
                mode & 0o004 == 0 || (mode & 0o111 == 0 && path.extension().is_none())
            });
        closed.map(|path| {
            format!(
                "The program's user may not read /{}; let everybody read it, it holds no secrets.",
                path.display()
            )
        })
    }
}
