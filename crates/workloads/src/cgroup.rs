//! What the cgroup paths of a process say about who manages it.
//!
//! Paths come in three layouts (v1, hybrid, v2), from two drivers (cgroupfs and systemd) and a dozen
//! runtimes, and are relative to the cgroup namespace of who reads them, so that a sibling's begins
//! with `/..`. Whoever may write to a cgroup tree of their own can make up any path below it: what is
//! below a user's slice, or below another container, is therefore marked as theirs.

/// Parts of a path worth looking at; the kernel allows deeper trees, nobody has them.
const MAX_PARTS: usize = 64;

/// Longest part: a file name.
const MAX_PART: usize = 255;

/// What the paths say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cgroup {
    /// Containers, the outermost first.
    pub(crate) containers: Vec<Container>,
    /// The pod, by the uid that the kubelet knows it by.
    pub(crate) pod: Option<String>,
    /// The deepest unit of systemd that is not a container's own.
    pub(crate) unit: Option<Unit>,
    /// The system container (LXC, systemd-nspawn) around it.
    pub(crate) machine: Option<Machine>,
    /// The user below whose slice it is, where that is not root: the path is of their making.
    pub(crate) user: Option<u32>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    /// `None` where the path does not say it.
    pub(crate) engine: Option<Engine>,
}

/// Who makes containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Docker,
    Podman,
    Containerd,
    CriO,
}

/// A unit of systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Its name, such as `agent.service`.
    pub(crate) name: String,
    /// The user whose manager runs it; `None` for the system's.
    pub(crate) manager: Option<u32>,
}

/// A system container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// `lxc` or `systemd-nspawn`.
    pub(crate) runtime: &'static str,
    pub(crate) name: String,
}

impl Engine {
    /// Name by the attribute `container.runtime.name`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
        }
    }
}

/// Reads the paths of `/proc/PID/cgroup`, one a hierarchy: the one that says most counts, since in
/// the others the process may stand anywhere.
pub(crate) fn read(paths: &[String]) -> Cgroup {
    let weight = |cgroup: &Cgroup| {
        (
            cgroup.containers.len(),
            cgroup.pod.is_some(),
            cgroup.machine.is_some(),
            cgroup.unit.is_some(),
        )
    };
    let mut best = Cgroup::default();
    for path in paths {
        let cgroup = read_path(path);
        if weight(&cgroup) > weight(&best) {
            best = cgroup;
        }
    }
    best
}

fn read_path(path: &str) -> Cgroup {
    let mut cgroup = Cgroup::default();
    let mut manager = None;
    let mut parent = "";
    let parts = path.split('/').filter(|part| !part.is_empty() && part.len() <= MAX_PART);
    for part in parts.take(MAX_PARTS) {
        if let Some(user) = user_slice(part) {
            cgroup.user = Some(user).filter(|user| *user != 0);
        }
        if let Some(pod) = pod_uid(part) {
            cgroup.pod = Some(pod);
        }
        if let Some(machine) = machine(part) {
            cgroup.machine = Some(machine);
            (cgroup.unit, manager) = (None, None);
        }
        if let Some(container) = container(part, parent) {
            cgroup.containers.push(container);
        } else if let Some(user) = user_manager(part) {
            manager = Some(user);
        } else if is_unit(part) {
            cgroup.unit = Some(Unit { name: part.to_owned(), manager });
        }
        parent = part;
    }
    cgroup
}

/// A container in one part of a path: an id behind a prefix of the runtime, or bare where its parent
/// or its length says what it is.
fn container(part: &str, parent: &str) -> Option<Container> {
    // `kubepods-pod<uid>.slice:cri-containerd:<id>`: runc without the systemd driver it was asked for.
    let (marked, tail) = match part.rsplit_once(':') {
        Some((before, id)) => (before.rsplit(':').next().unwrap_or_default(), id),
        None => ("", part.strip_suffix(".scope").unwrap_or(part)),
    };
    let id = tail.get(tail.len().checked_sub(64)?..)?;
    if !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let prefix = match tail.len() {
        64 => marked,
        length => tail.get(..length - 64)?.strip_suffix('-')?,
    };
    let engine = match prefix {
        "docker" => Some(Engine::Docker),
        "libpod" | "libpod-payload" => Some(Engine::Podman),
        "cri-containerd" | "nerdctl" | "containerd" => Some(Engine::Containerd),
        "crio" => Some(Engine::CriO),
        "" => match parent {
            "docker" => Some(Engine::Docker),
            "libpod" | "libpod_parent" => Some(Engine::Podman),
            _ => None,
        },
        // `crio-conmon-<id>`, `libpod-conmon-<id>`: the monitor, which stands outside.
        _ => return None,
    };
    Some(Container { id: id.to_owned(), engine })
}

/// `pod<uid>` of the cgroupfs driver, `kubepods-burstable-pod<uid with _>.slice` of systemd's. A
/// static pod has a hash of its file for a uid.
fn pod_uid(part: &str) -> Option<String> {
    let part = part.split(':').next()?;
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let of_slice = || part.rsplit_once("-pod").filter(|(slice, _)| slice.contains("kubepods"));
    let uid = part.strip_prefix("pod").or_else(|| of_slice().map(|(_, uid)| uid))?;
    let uid = uid.replace('_', "-");
    let is_uid = matches!(uid.len(), 32 | 36)
        && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

/// `lxc.payload.<name>`, `machine-<name>.scope`, `systemd-nspawn@<name>.service`.
fn machine(part: &str) -> Option<Machine> {
    let (runtime, name) = if let Some(name) = part.strip_prefix("lxc.payload.") {
        ("lxc", name.to_owned())
    } else {
        let name = part
            .strip_prefix("machine-")
            .and_then(|rest| rest.strip_suffix(".scope"))
            // Virtual machines are not containers: their programs are not on this node.
            .filter(|name| !name.starts_with("qemu"))
            .or_else(|| part.strip_prefix("systemd-nspawn@")?.strip_suffix(".service"))?;
        ("systemd-nspawn", unescaped(name))
    };
    Some(Machine { runtime, name }).filter(|machine| !machine.name.is_empty())
}

/// `user-1000.slice`.
fn user_slice(part: &str) -> Option<u32> {
    part.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok()
}

/// `user@1000.service`: the manager of a user, whose units follow.
fn user_manager(part: &str) -> Option<u32> {
    part.strip_prefix("user@")?.strip_suffix(".service")?.parse().ok()
}

fn is_unit(part: &str) -> bool {
    let is_unit = part.ends_with(".service") || part.ends_with(".scope");
    is_unit && !part.starts_with("systemd-nspawn@") && !part.starts_with("machine-")
}

/// A name without systemd's escapes (`\x2d` for `-`).
pub(crate) fn unescaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("\\x") {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 2..at + 4).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push_str("\\x");
                rest = &rest[at + 2..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests;
