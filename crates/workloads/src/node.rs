//! The node: its own identity, and the programs that run on it.

use crate::binary::Versions;
use crate::process::{self, Process, Program};
use crate::sockets::{self, Connection};
use crate::{identity, platform, runtime, tls};
use contract::workload::Instance;
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A node has fewer users than this; more is a broken or hostile file.
const MAX_USERS: usize = 16_384;

/// More processes than this are not looked at in one scan.
const MAX_PROCESSES: usize = 32_768;

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Machine id, or the fallback that the caller gave when the machine has none.
    pub id: String,
    /// Host name.
    pub name: String,
    /// Kernel release, as `uname -r` says.
    pub kernel: String,
}

/// Reads the programs that run on one node.
#[derive(Debug)]
pub struct Node {
    root: PathBuf,
    host: Host,
    /// Start of the node; fixed here, so that the start of a process never moves.
    booted: SystemTime,
    users: HashMap<u32, String>,
    versions: RefCell<Versions>,
}

impl Host {
    /// The scope of this node's keys: `host-` and the beginning of its id.
    pub fn scope(&self) -> String {
        let short: String = self.id.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        format!("host-{short}")
    }
}

impl Node {
    /// Looks at the node whose root directory is `root`.
    ///
    /// `now` is the time of the call; it fixes when the node was booted. `fallback_id` stands in for
    /// the machine id where there is none, and should be the same at every start.
    pub fn open(root: &Path, now: SystemTime, fallback_id: &str) -> Self {
        let host = Host {
            id: machine_id(root).unwrap_or_else(|| fallback_id.to_owned()),
            name: first_line(&root.join("proc/sys/kernel/hostname"))
                .unwrap_or_else(|| "localhost".to_owned()),
            kernel: first_line(&root.join("proc/sys/kernel/osrelease")).unwrap_or_default(),
        };
        Self {
            booted: booted(root, now),
            users: users(root),
            versions: RefCell::default(),
            root: root.to_owned(),
            host,
        }
    }

    /// Who this node is.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The program that runs as `pid`; `None` when it has ended or is a kernel thread.
    ///
    /// What this user may not read is left empty rather than guessed.
    pub fn program(&self, pid: u32) -> Option<Program> {
        let process = Process::read(&self.root, pid)?;
        let place = platform::place(&process, &self.root);
        let mut versions = self.versions.borrow_mut();
        let runtime = runtime::of(&process, &mut versions);
        let tls = tls::library(&process, &mut versions);
        let identity = identity::of(&process, &place, runtime.as_ref());
        Some(Program {
            key: identity.key(&self.host, &place),
            name: identity.name,
            platform: place.platform,
            attributes: place.attributes,
            start_ticks: process.start_ticks,
            instance: Instance {
                pid,
                parent: process.parent,
                directory: process.directory,
                started_unix_nanos: self.started_unix_nanos(process.start_ticks),
                user: self.user(process.user),
                executable: process.executable,
                arguments: process.shown_arguments,
                runtime,
                tls,
                ..Instance::default()
            },
        })
    }

    /// Ids of the processes that run now, in order.
    pub fn pids(&self) -> Vec<u32> {
        process::pids(&self.root, MAX_PROCESSES)
    }

    /// Start of a process in clock ticks since boot, which with its id tells it from every other;
    /// `None` when it has ended.
    pub fn start_ticks(&self, pid: u32) -> Option<u64> {
        process::start(&self.root, pid).map(|(ticks, _)| ticks)
    }

    /// Path of the executable of a process: a cheap first look; `None` when it may not be read.
    pub fn executable(&self, pid: u32) -> Option<String> {
        process::executable(&self.root, pid)
    }

    /// Connections that are established now, with the processes that hold them.
    ///
    /// Costs a walk over the descriptors of all processes: for the start and for slow timers.
    pub fn connections(&self) -> Vec<Connection> {
        sockets::established(&self.root, &self.pids())
    }

    fn started_unix_nanos(&self, ticks: u64) -> u64 {
        let since_boot = Duration::from_nanos(ticks.saturating_mul(process::TICK_NANOS));
        let started = self.booted.checked_add(since_boot).unwrap_or(self.booted);
        let nanos = started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    fn user(&self, id: u32) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// The id of machine-id(5), or else one that the hardware gives.
fn machine_id(root: &Path) -> Option<String> {
    let given = ["etc/machine-id", "var/lib/dbus/machine-id"]
        .iter()
        .filter_map(|path| first_line(&root.join(path)))
        .find(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    given.or_else(|| {
        let uuid =
            first_line(&root.join("sys/class/dmi/id/product_uuid")).filter(|id| id.len() >= 32)?;
        Some(hex(&Sha256::digest(uuid.as_bytes()), 16))
    })
}

fn booted(root: &Path, now: SystemTime) -> SystemTime {
    let uptime = first_line(&root.join("proc/uptime"))
        .and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .filter(|seconds| seconds.is_finite() && (0.0..1e10).contains(seconds))
        .unwrap_or_default();
    now.checked_sub(Duration::from_secs_f64(uptime)).unwrap_or(UNIX_EPOCH)
}

fn users(root: &Path) -> HashMap<u32, String> {
    let text = process::read_text(&root.join("etc/passwd"), 4 << 20).unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, process::clean(name, 64)))
    };
    text.lines().filter_map(user).take(MAX_USERS).collect()
}

fn first_line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = process::clean(text.lines().next()?.trim(), 256);
    Some(line).filter(|line| !line.is_empty())
}

/// The first `length` bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8], length: usize) -> String {
    bytes.iter().take(length).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
