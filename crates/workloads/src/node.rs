//! The node: its own identity, and the programs that run on it.

use crate::binary::Binaries;
use crate::clients::{Changed, Clients, Running};
use crate::platform::{Around, Platform};
use crate::process::{self, Process, Program, Remains};
use crate::{cgroup, identity, platform, runtime, tls};
use contract::attribute;
use contract::doctor::Fact;
use contract::workload::Instance;
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io;
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
    binaries: RefCell<Binaries>,
    platforms: Vec<Box<dyn Platform>>,
    /// Containers that we stand in ourselves, the outermost first.
    own: Vec<String>,
    clients: Option<Running>,
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
            binaries: RefCell::default(),
            platforms: platform::all(),
            own: own_containers(root),
            clients: None,
            root: root.to_owned(),
            host,
        }
    }

    /// Starts to listen to engines of containers and to the API server, on a thread of its own that
    /// ends with the node.
    ///
    /// `changed` is called on that thread with the id of a container (the attribute `container.id` of
    /// its instances) when it became known or is called something else now: the programs in it are to
    /// be read again. It must not block. Before the first answers, and where one of them is away,
    /// programs are named by files, and [`Program::provisional`] where more may come.
    ///
    /// # Errors
    ///
    /// The system's, when no thread can be started; the node goes on without.
    pub fn connect(
        &mut self,
        clients: &Clients,
        changed: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<()> {
        let changed = Changed::new(changed);
        let tasks = self.platforms.iter().flat_map(|platform| platform.tasks(clients, &changed));
        self.clients = Some(Running::start(tasks.collect())?);
        Ok(())
    }

    /// How the connections to engines and API servers stand; none before [`Node::connect`].
    pub fn facts(&self) -> Vec<Fact> {
        self.platforms.iter().flat_map(|platform| platform.facts()).collect()
    }

    /// Id of the Kubernetes cluster that the node belongs to: the UID of its namespace `kube-system`,
    /// or what stands in for it where that may not be read; `None` while no API server has told.
    pub fn cluster(&self) -> Option<String> {
        self.platforms.iter().find_map(|platform| platform.cluster())
    }

    /// Who this node is.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The program that runs as `pid`; `None` when it has ended or is a kernel thread.
    ///
    /// What this user may not read is left empty rather than guessed.
    pub fn program(&self, pid: u32) -> Option<Program> {
        Some(self.named(pid, Process::read(&self.root, pid)?))
    }

    /// The program of a process that ended before anybody looked, from what the kernel said of it.
    pub fn remains(&self, remains: &Remains<'_>) -> Program {
        self.named(remains.pid, Process::of_remains(remains))
    }

    fn named(&self, pid: u32, process: Process) -> Program {
        let around = Around { root: &self.root, own: &self.own };
        let place = platform::place(&self.platforms, &process, around);
        let mut binaries = self.binaries.borrow_mut();
        let runtime = runtime::of(&process, &mut binaries);
        let tls = tls::of(&process, runtime.as_ref(), &mut binaries);
        let identity = identity::of(&process, &place, runtime.as_ref(), &self.host);
        let declared = process.declared.or(&place.declared);
        let mut attributes = place.attributes;
        let said = [
            (attribute::SERVICE_NAMESPACE, declared.namespace),
            (attribute::DEPLOYMENT_ENVIRONMENT_NAME, declared.environment),
        ];
        attributes
            .extend(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        let in_container = !process.cgroup.containers.is_empty() || process.cgroup.pod.is_some();
        Program {
            key: identity.key,
            name: identity.name,
            platform: place.platform.unwrap_or(contract::workload::Platform::Process),
            attributes,
            provisional: place.is_provisional,
            start_ticks: process.start_ticks,
            instance: Instance {
                pid,
                parent: process.parent,
                directory: process.directory,
                started_unix_nanos: self.started_unix_nanos(process.start_ticks),
                user: self.user(process.user, in_container),
                executable: process.executable,
                arguments: process.shown_arguments,
                runtime,
                tls: tls.library,
                coverage: tls.coverage,
                attributes: place.instance,
            },
        }
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

    fn started_unix_nanos(&self, ticks: u64) -> u64 {
        let since_boot = Duration::from_nanos(ticks.saturating_mul(process::TICK_NANOS));
        let started = self.booted.checked_add(since_boot).unwrap_or(self.booted);
        let nanos = started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// The name of a user. In a container the names of the node mean nothing; root is root.
    fn user(&self, id: u32, in_container: bool) -> String {
        let name = self.users.get(&id).filter(|_| !in_container || id == 0);
        name.cloned().unwrap_or_else(|| id.to_string())
    }

    /// Name of a user of the node by its number; the number where it has none.
    pub fn user_name(&self, id: u32) -> String {
        self.user(id, false)
    }
}

/// Containers that this program stands in, where `root` shows it.
fn own_containers(root: &Path) -> Vec<String> {
    let Ok(own) = fs::read_link(root.join("proc/self")) else { return Vec::new() };
    let Some(pid) = own.to_str().and_then(|pid| pid.parse().ok()) else { return Vec::new() };
    let cgroup = cgroup::read(&process::cgroup_paths(root, pid));
    cgroup.containers.into_iter().map(|container| container.id).collect()
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
mod hostile;
#[cfg(test)]
mod tests;
