//! What the runtime of a container leaves beside it: the name and the annotations in its bundle.
//!
//! Whoever started a container stays above it as long as it runs: `containerd-shim`, `conmon`. That
//! process stands outside of the container's cgroup, so what it was told is not the container's to
//! forge. Its arguments and its bundle (the OCI runtime specification's `config.json`) name the
//! container where no API does: CRI-O, nerdctl, rootless Podman, a cluster that answers nobody.

use crate::cgroup::{self, Engine};
use crate::inside::Inside;
use crate::process::{self, Process, clean};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A bundle with a large environment.
const MAX_CONFIG: u64 = 1 << 20;

/// Processes above one that are looked at.
const MAX_ANCESTORS: usize = 32;

/// Longest name.
const MAX_NAME: usize = 253;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) engine: Option<Engine>,
    /// Name of the container, where it has one that is not its id.
    pub(super) name: Option<String>,
    /// Namespace of containerd, where it is not the usual one.
    pub(super) namespace: Option<String>,
    pub(super) image: Option<String>,
    pub(super) pod: Option<Pod>,
}

/// The pod of a container, as the kubelet told the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) container: String,
}

#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What watches over the innermost container of a process.
#[derive(Debug)]
pub(super) struct Keeper {
    pid: u32,
    /// The user that runs it, where that is not root: what it says is theirs.
    pub(super) user: Option<u32>,
    name: String,
    arguments: Vec<String>,
    /// The files that it sees: the node's, or those of the container that it runs in itself.
    pub(super) files: Option<Inside>,
}

impl Keeper {
    /// The nearest process above that is not in the container.
    pub(super) fn of(process: &Process, root: &Path) -> Option<Self> {
        let innermost = process.cgroup.containers.last().map(|container| container.id.as_str());
        let mut pid = process.parent;
        for _ in 0..MAX_ANCESTORS {
            if pid == 0 {
                return None;
            }
            let outside = innermost.is_none_or(|id| {
                let cgroup = cgroup::read(&process::cgroup_paths(root, pid));
                cgroup.containers.iter().all(|container| container.id != id)
            });
            if outside {
                let executable = process::executable(root, pid)?;
                return Some(Self {
                    pid,
                    user: process::user(root, pid).filter(|user| *user != 0),
                    name: executable.rsplit('/').next().unwrap_or_default().to_owned(),
                    arguments: process::arguments(root, pid),
                    files: Inside::of(&root.join("proc").join(pid.to_string()).join("root")),
                });
            }
            pid = process::start(root, pid)?.1;
        }
        None
    }

    fn option(&self, name: &str) -> Option<&str> {
        let at = self.arguments.iter().position(|argument| argument == name)?;
        self.arguments.get(at + 1).map(String::as_str)
    }

    /// What it was told about container `id`; its own word for the id, where the cgroup has none.
    pub(super) fn told(&self, root: &Path, id: Option<&str>) -> Option<Told> {
        if self.name.starts_with("containerd-shim") {
            self.shim(root, id)
        } else if self.name.starts_with("conmon") {
            self.conmon(id)
        } else {
            None
        }
    }

    fn shim(&self, root: &Path, id: Option<&str>) -> Option<Told> {
        let namespace = self.option("-namespace").unwrap_or("default");
        let own = self.option("-id");
        let id = id.or(own)?;
        // The shim stands in the bundle of its first container; those of its pod lie beside it.
        let stands = process::directory(root, self.pid);
        let beside =
            stands.rsplit_once('/').map(|(parent, _)| format!("{parent}/{id}/config.json"));
        let usual =
            format!("/run/containerd/io.containerd.runtime.v2.task/{namespace}/{id}/config.json");
        let files = self.files.as_ref();
        let config = beside
            .into_iter()
            .chain([usual])
            .find_map(|path| files?.read(&path, MAX_CONFIG))
            .and_then(|bytes| serde_json::from_slice::<Bundle>(&bytes).ok());
        let annotations = config.map(|bundle| bundle.annotations).unwrap_or_default();
        let text = |name: &str| annotations.get(name).and_then(|value| name_of(value));
        let pod = || {
            Some(Pod {
                namespace: text("io.kubernetes.cri.sandbox-namespace")?,
                name: text("io.kubernetes.cri.sandbox-name")?,
                uid: text("io.kubernetes.cri.sandbox-uid")?,
                container: text("io.kubernetes.cri.container-name")?,
            })
        };
        // An id that a person chose (`ctr run IMAGE my-agent`) is a name.
        let chosen = own.filter(|own| *own == id && !is_made_up(own)).and_then(name_of);
        Some(Told {
            engine: Some(if namespace == "moby" { Engine::Docker } else { Engine::Containerd }),
            name: text("nerdctl/name").or(chosen),
            namespace: name_of(namespace).filter(|name| name != "default" && name != "moby"),
            image: text("io.kubernetes.cri.image-name"),
            pod: pod(),
        })
    }

    fn conmon(&self, id: Option<&str>) -> Option<Told> {
        let own = self.option("-c").or_else(|| self.option("--cid"))?;
        if id.is_some_and(|id| id != own) {
            return None;
        }
        let bundle = self.option("-b").or_else(|| self.option("--bundle"));
        let config = bundle
            .and_then(|path| self.files.as_ref()?.read(&format!("{path}/config.json"), MAX_CONFIG))
            .and_then(|bytes| serde_json::from_slice::<Bundle>(&bytes).ok());
        let annotations = config.map(|bundle| bundle.annotations).unwrap_or_default();
        let text = |name: &str| annotations.get(name).and_then(|value| name_of(value));
        let pod = || {
            Some(Pod {
                namespace: text("io.kubernetes.pod.namespace")?,
                name: text("io.kubernetes.pod.name")?,
                uid: text("io.kubernetes.pod.uid")?,
                container: text("io.kubernetes.container.name")?,
            })
        };
        let pod = pod();
        let name = self.option("-n").or_else(|| self.option("--name")).and_then(name_of);
        Some(Told {
            engine: Some(if pod.is_some() { Engine::CriO } else { Engine::Podman }),
            name: name.filter(|_| pod.is_none()),
            namespace: None,
            image: text("io.kubernetes.cri-o.ImageName"),
            pod,
        })
    }
}

fn name_of(text: &str) -> Option<String> {
    Some(clean(text, MAX_NAME)).filter(|text| !text.is_empty())
}

/// Whether an id looks like one that a program made: 64, 32 or 12 hexadecimal digits.
fn is_made_up(id: &str) -> bool {
    id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}
