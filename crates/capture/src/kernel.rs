//! What this kernel, this user and this machine allow: facts, each with its remedy.
//!
//! [`probe`] only looks; it needs no privilege and changes nothing. What a running
//! [`Capture`](crate::Capture) could really attach is told by
//! [`Capture::facts`](crate::Capture::facts).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::cgroup;
use crate::system;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Short stable word.
    pub name: &'static str,
    /// How it stands.
    pub standing: Standing,
    /// What was found, in one sentence.
    pub found: String,
    /// What is lost without it, and what to do; empty when all is well.
    pub remedy: String,
}

/// How a fact stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Works.
    Good,
    /// Something is missing that another way makes up for, or that only some programs need.
    Limited,
    /// Capturing does not work without it.
    Missing,
}

/// Capabilities by their bit (linux/capability.h), with what each is for.
const NET_ADMIN: u32 = 12;
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// Looks at the machine. Never fails: what cannot be read is a fact too.
#[must_use]
pub fn probe() -> Vec<Fact> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = effective_capabilities(&status);
    vec![
        release(&read("/proc/sys/kernel/osrelease")),
        btf(Path::new("/sys/kernel/btf/vmlinux").exists()),
        privilege(capabilities),
        uprobes(),
        pids(fs::metadata("/proc/self/ns/pid").ok().map(|namespace| namespace.ino())),
        cgroup(cgroup::mounted().first().map(|root| root.display().to_string()), capabilities),
        tracefs(),
        memory(system::locked_memory_limit(), capabilities),
        lockdown(&read("/sys/kernel/security/lockdown")),
    ]
}

/// The first reason for which capturing cannot start, told apart by what to do about it.
pub(crate) fn obstacle() -> Option<crate::Error> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_capabilities(effective_capabilities(&status));
    if !missing.is_empty() {
        return Some(crate::Error::Privilege { missing: format!("this user lacks {missing}") });
    }
    let btf = btf(Path::new("/sys/kernel/btf/vmlinux").exists());
    if btf.standing == Standing::Missing {
        return Some(crate::Error::Kernel { missing: format!("{}; {}", btf.found, btf.remedy) });
    }
    None
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn good(name: &'static str, found: impl Into<String>) -> Fact {
    Fact { name, standing: Standing::Good, found: found.into(), remedy: String::new() }
}

fn effective_capabilities(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
        .unwrap_or_default()
}

fn has(capabilities: u64, bit: u32) -> bool {
    capabilities >> bit & 1 == 1
}

fn missing_capabilities(capabilities: u64) -> String {
    if has(capabilities, SYS_ADMIN) {
        return String::new();
    }
    let wanted = [(BPF, "CAP_BPF"), (PERFMON, "CAP_PERFMON")];
    let missing: Vec<&str> =
        wanted.iter().filter(|(bit, _)| !has(capabilities, *bit)).map(|(_, name)| *name).collect();
    missing.join(" and ")
}

fn release(release: &str) -> Fact {
    let numbers: Vec<u32> =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok()).collect();
    match numbers.as_slice() {
        [major, minor, ..] if (*major, *minor) >= (5, 15) => {
            good("kernel", format!("Linux {release}"))
        }
        [_, _, ..] => Fact {
            name: "kernel",
            standing: Standing::Limited,
            found: format!(
                "Linux {release} is older than 5.15, the oldest that probes can carry a mark on"
            ),
            remedy: "network capture is tried and may be refused; use a kernel from 5.15 on"
                .to_owned(),
        },
        _ => Fact {
            name: "kernel",
            standing: Standing::Limited,
            found: "the kernel's release cannot be read".to_owned(),
            remedy: "mount /proc; network capture needs Linux 5.15 or newer".to_owned(),
        },
    }
}

fn btf(there: bool) -> Fact {
    if there {
        return good("btf", "the kernel describes its own types (/sys/kernel/btf/vmlinux)");
    }
    Fact {
        name: "btf",
        standing: Standing::Missing,
        found: "the kernel does not describe its own types: /sys/kernel/btf/vmlinux is not there".to_owned(),
        remedy: "nothing can be captured; use a kernel with CONFIG_DEBUG_INFO_BTF=y (all large distributions since 2021), \
                 and in a container mount /sys"
            .to_owned(),
    }
}

fn privilege(capabilities: u64) -> Fact {
    let missing = missing_capabilities(capabilities);
    if !missing.is_empty() {
        return Fact {
            name: "privilege",
            standing: Standing::Missing,
            found: format!("this user lacks {missing}"),
            remedy: "nothing can be captured; run as root, or grant CAP_BPF, CAP_PERFMON, \
                     CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
                .to_owned(),
        };
    }
    if !has(capabilities, SYS_ADMIN) && !has(capabilities, SYS_PTRACE) {
        return Fact {
            name: "privilege",
            standing: Standing::Limited,
            found: "this user lacks CAP_SYS_PTRACE".to_owned(),
            remedy: "programs of other users cannot be watched; grant CAP_SYS_PTRACE".to_owned(),
        };
    }
    good("privilege", "eBPF programs may be loaded, and other processes looked into")
}

fn uprobes() -> Fact {
    if Path::new("/sys/bus/event_source/devices/uprobe/type").exists() {
        return good("uprobes", "probes can be set in programs (perf's uprobe source is there)");
    }
    Fact {
        name: "uprobes",
        standing: Standing::Missing,
        found: "probes cannot be set in programs: /sys/bus/event_source/devices/uprobe is not there".to_owned(),
        remedy: "no call can be read; use a kernel with CONFIG_UPROBE_EVENTS=y, and in a container mount /sys"
            .to_owned(),
    }
}

/// The kernel numbers the first pid namespace always the same (`PROC_PID_INIT_INO`).
fn pids(namespace: Option<u64>) -> Fact {
    if namespace == Some(0xEFFF_FFFC) {
        return good("pids", "the processes of the whole node are seen");
    }
    Fact {
        name: "pids",
        standing: Standing::Limited,
        found: "this process has a pid namespace of its own".to_owned(),
        remedy:
            "programs outside it are not seen, only counted (capture_strangers); in a container \
                 use the host's (--pid host, hostPID: true)"
                .to_owned(),
    }
}

fn cgroup(root: Option<String>, capabilities: u64) -> Fact {
    let remedy = "programs are discovered more slowly, through /proc";
    let may_attach = has(capabilities, SYS_ADMIN)
        || missing_capabilities(capabilities).is_empty() && has(capabilities, NET_ADMIN);
    match root {
        Some(_) if !may_attach => Fact {
            name: "cgroup",
            standing: Standing::Limited,
            found: "the first bytes of connections may not be read by this user".to_owned(),
            remedy: format!(
                "{remedy}; run as root, or grant CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
            ),
        },
        Some(root) => good("cgroup", format!("cgroup v2 is mounted at {root}")),
        None if has(capabilities, SYS_ADMIN) => {
            good("cgroup", "cgroup v2 is not mounted, and can be mounted for this process alone")
        }
        None => Fact {
            name: "cgroup",
            standing: Standing::Limited,
            found: "cgroup v2 is not mounted".to_owned(),
            remedy: format!("{remedy}; in a container mount /sys/fs/cgroup of the host"),
        },
    }
}

fn tracefs() -> Fact {
    let places = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
    match places.iter().find(|place| Path::new(place).exists()) {
        Some(place) => {
            good("tracefs", format!("tracefs is at {}", place.trim_end_matches("/events")))
        }
        None => {
            good("tracefs", "tracefs is not mounted or may not be read, and nothing here needs it")
        }
    }
}

fn memory(limit: Option<u64>, capabilities: u64) -> Fact {
    match limit {
        None => good("memory", "locked memory has no limit"),
        Some(_) if has(capabilities, SYS_ADMIN) || has(capabilities, BPF) => good(
            "memory",
            "eBPF memory is accounted to the cgroup (Linux 5.11 and newer), so the limit on locked memory does not apply",
        ),
        Some(limit) => Fact {
            name: "memory",
            standing: Standing::Limited,
            found: format!("locked memory is limited to {} KiB", limit >> 10),
            remedy: "before Linux 5.11 the rings do not fit; raise it (ulimit -l unlimited)"
                .to_owned(),
        },
    }
}

fn lockdown(state: &str) -> Fact {
    if state.contains("[confidentiality]") {
        return Fact {
            name: "lockdown",
            standing: Standing::Missing,
            found: "the kernel is locked down for confidentiality".to_owned(),
            remedy: "eBPF may not read memory; boot with lockdown=integrity or none".to_owned(),
        };
    }
    good("lockdown", "the kernel is not locked down against reading memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_says_what_to_do_or_is_good() {
        let facts = probe();
        assert!(facts.len() >= 8);
        for fact in facts {
            assert_eq!(fact.remedy.is_empty(), fact.standing == Standing::Good, "{fact:?}");
            assert!(!fact.found.is_empty(), "{fact:?}");
        }
    }

    #[test]
    fn capabilities_are_read_bit_by_bit() {
        let status = "Name:\tx\nCapEff:\t000001ffffffffff\n";
        assert_eq!(missing_capabilities(effective_capabilities(status)), "");
        assert_eq!(missing_capabilities(1 << BPF), "CAP_PERFMON");
        assert_eq!(missing_capabilities(0), "CAP_BPF and CAP_PERFMON");
        assert_eq!(missing_capabilities(1 << SYS_ADMIN), "");
        assert_eq!(privilege(1 << BPF | 1 << PERFMON).standing, Standing::Limited);
        assert_eq!(privilege(0).standing, Standing::Missing);
    }

    #[test]
    fn old_and_strange_releases_are_told() {
        assert_eq!(release("6.18.44-fc").standing, Standing::Good);
        assert_eq!(release("5.15.0-1").standing, Standing::Good);
        assert_eq!(release("5.10.0-39-amd64").standing, Standing::Limited);
        assert_eq!(release("").standing, Standing::Limited);
    }

    #[test]
    fn what_is_missing_is_missing() {
        assert_eq!(btf(false).standing, Standing::Missing);
        assert_eq!(pids(Some(4_026_531_836)).standing, Standing::Good);
        assert_eq!(pids(Some(4_026_532_200)).standing, Standing::Limited);
        assert_eq!(pids(None).standing, Standing::Limited);
        assert_eq!(cgroup(None, 1 << BPF | 1 << PERFMON).standing, Standing::Limited);
        assert_eq!(cgroup(None, u64::MAX).standing, Standing::Good);
        let at = |capabilities| cgroup(Some("/x".to_owned()), capabilities).standing;
        assert_eq!(at(0), Standing::Limited);
        assert_eq!(at(1 << BPF | 1 << PERFMON), Standing::Limited);
        assert_eq!(at(1 << BPF | 1 << PERFMON | 1 << NET_ADMIN), Standing::Good);
        assert_eq!(at(1 << SYS_ADMIN), Standing::Good);
        assert_eq!(lockdown("none integrity [confidentiality]").standing, Standing::Missing);
        assert_eq!(lockdown("[none] integrity confidentiality").standing, Standing::Good);
        assert_eq!(memory(Some(8 << 20), 0).standing, Standing::Limited);
    }
}
