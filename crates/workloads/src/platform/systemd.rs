//! Units of systemd, recognised by their cgroups.
//!
//! A service is a unit that restarts under its name. A scope is a group of processes that somebody
//! else started: one with a name that a person gave counts, a session or a terminal tab does not,
//! since nothing restarts it and its name is made up. So are the names that `systemd-run` makes up;
//! what runs there is a bare process.

use super::{Around, Place, Platform};
use crate::cgroup;
use crate::process::{Process, clean};
use contract::{attribute, workload};

#[derive(Debug)]
pub(super) struct Systemd;

/// A unit, as its workload is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// Part of the key.
    pub(super) place: String,
    /// Name to show.
    pub(super) name: String,
}

/// Units that hold containers: what runs in those is not theirs.
const RUNTIMES: [&str; 12] = [
    "buildkit.service",
    "containerd.service",
    "crio.service",
    "cri-docker.service",
    "docker.service",
    "k3s.service",
    "k3s-agent.service",
    "kubelet.service",
    "podman.service",
    "rke2-agent.service",
    "rke2-server.service",
    "snap.microk8s.daemon-containerd.service",
];

impl Platform for Systemd {
    fn place(&self, process: &Process, _around: Around<'_>) -> Option<Place> {
        let found = process.cgroup.unit.as_ref()?;
        let in_container = !process.cgroup.containers.is_empty() || process.cgroup.pod.is_some();
        if in_container && RUNTIMES.contains(&found.name.as_str()) {
            return None;
        }
        let unit = unit(process)?;
        let mut place = Place {
            platform: Some(workload::Platform::Systemd),
            manager: "systemd",
            place: Some(unit.place),
            name: Some(unit.name),
            ..Place::default()
        };
        place.note(attribute::SYSTEMD_UNIT, &stable(&found.name)?);
        Some(place)
    }
}

/// The unit of a process, when it has one with a name that lasts.
pub(super) fn unit(process: &Process) -> Option<Unit> {
    let unit = process.cgroup.unit.as_ref()?;
    let name = clean(&stable(&unit.name)?, 256);
    let shown = name.strip_suffix(".service").or_else(|| name.strip_suffix(".scope"));
    let shown = cgroup::unescaped(shown.unwrap_or(&name));
    let place = match unit.manager {
        Some(user) => format!("user-{user}/{name}"),
        None => name,
    };
    Some(Unit { place, name: shown })
}

/// The part of a unit's name that is the same at its next start; `None` when nothing is.
fn stable(name: &str) -> Option<String> {
    if let Some(name) = name.strip_suffix(".scope") {
        return (!is_made_up_scope(name)).then(|| format!("{name}.scope"));
    }
    let name = name.strip_suffix(".service")?;
    // The manager of a user: its own helpers only.
    if name.starts_with("user@") || is_made_up_run(name) {
        return None;
    }
    // A name that D-Bus makes of the connection that asked: `dbus-:1.2-org.example.Bot@0`.
    if let Some(rest) = name.strip_prefix("dbus-:") {
        let bus = rest.split_once('-')?.1.split('@').next()?;
        return Some(format!("dbus-{bus}.service"));
    }
    match name.split_once('@') {
        // One unit a connection (`sshd@3-10.0.0.1:22-10.0.0.9:5022`) or a start of a desktop program.
        Some((template, instance)) if is_connection(instance) || is_random(instance) => {
            Some(format!("{template}@.service"))
        }
        _ => Some(format!("{name}.service")),
    }
}

/// `run-u123`, `run-r0a1b…`, `run-p123-i456`: what `systemd-run` calls a unit without a name.
fn is_made_up_run(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(rest) = name.strip_prefix("run-") else { return false };
    rest.strip_prefix('u').is_some_and(number)
        || rest.strip_prefix('r').is_some_and(is_random)
        || rest
            .strip_prefix('p')
            .and_then(|rest| rest.split_once("-i"))
            .is_some_and(|(process, inode)| number(process) && number(inode))
        || number(rest)
}

fn is_made_up_scope(name: &str) -> bool {
    let ends_in_number = |name: &str| {
        let number = name.rsplit(['-', '_', '.']).next().unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    name == "init"
        || is_made_up_run(name)
        || name.starts_with("session-")
        || name.starts_with("vte-spawn-")
        || name.starts_with("tmux-spawn-")
        || name.starts_with("libpod-")
        || name.starts_with("crio-")
        || name.starts_with("docker-")
        || name.starts_with("snap.")
        || name.starts_with("user@")
        // Desktops append the process id: `app-gnome-org.example.Bot-4242.scope`.
        || (name.starts_with("app-") && ends_in_number(name))
}

/// `3-10.0.0.1:22-10.0.0.9:5022`, as systemd.socket(5) names the instances of `Accept=yes`.
fn is_connection(instance: &str) -> bool {
    let mut parts = instance.splitn(2, '-');
    let number = parts.next().unwrap_or_default();
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number && parts.next().is_some_and(|rest| rest.contains(':') && rest.contains('-'))
}

fn is_random(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_last_are_told_from_made_up_ones() {
        let same = |name: &str| assert_eq!(stable(name).as_deref(), Some(name));
        for name in ["agent.service", "worker@1.service", "mybot.scope", "run-bot.service"] {
            same(name);
        }
        same("app-com.example.Bot@autostart.service");
        for name in [
            "run-u17.service",
            "run-r0123456789abcdef0123456789abcdef.service",
            "run-p4242-i4243.service",
            "run-4242.scope",
            "session-3.scope",
            "init.scope",
            "user@1000.service",
            "app-gnome-org.example.Bot-4242.scope",
            "vte-spawn-0a7c2d10-3b1c-4f7a-9d55-8c1f1f2f3a4b.scope",
            "not-a-unit",
        ] {
            assert_eq!(stable(name), None, "{name}");
        }
        let to = |name: &str| stable(name).unwrap();
        assert_eq!(to("sshd@3-10.0.0.1:22-10.0.0.9:5022.service"), "sshd@.service");
        assert_eq!(to("app-bot@0123456789abcdef0123456789abcdef.service"), "app-bot@.service");
        assert_eq!(to("dbus-:1.2-org.example.Bot@0.service"), "dbus-org.example.Bot.service");
    }
}
