//! The one public type: start, watch, read, stop.
//!
//! All work is done on the thread that calls [`Capture::next`], which should do little
//! else: between its calls the kernel keeps what comes in its rings. Dropping the
//! [`Capture`] detaches everything.

mod attaching;
mod taking;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libbpf_rs::PrintLevel;

use crate::error::Error;
use crate::event::{ConnectionId, Event, Library, ProcessId};
use crate::kernel::{self, Fact, Standing};
use crate::library::Libraries;
use crate::mapped::Mapped;
use crate::node::Node;
use crate::process;
use crate::programs::{self, Programs};
use crate::reading::Reading;
use crate::record;
use crate::system;
use crate::watch::{Watch, Watches};

/// How capturing is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Size of the ring that carries the bytes of all watched processes: a power of two, at
    /// least a page. It is kernel memory, there while somebody is watched or
    /// [to be watched](Capture::make_ready), and should hold several of the largest messages.
    pub ring_bytes: u32,
    /// Set one link for each function even where one for all of them works, as on kernels before
    /// 6.10: so a test on a newer one sees that way work, too. Slower to attach.
    pub single_links: bool,
}

/// Reads what watched processes write and read over TLS; see the [crate's page](crate).
#[derive(Debug)]
pub struct Capture {
    tls: Reading,
    /// Absent where the kernel refused; then watched processes are asked in turn whether they
    /// still run, and no child of theirs is followed.
    processes: Option<Programs<record::Process>>,
    node: Node,
    /// Absent where the kernel refused; then watched processes are looked at in turn.
    mapped: Option<Mapped>,
    libraries: Libraries,
    watches: Watches,
    events: VecDeque<Event>,
    /// Processes that ended or executed while the ring of bytes was not empty yet.
    held: Vec<record::Process>,
    facts: Vec<Fact>,
    wake: io::PipeReader,
    waker: Waker,
    /// Takes links to remove, which waits for the kernel, off this thread.
    removals: mpsc::Sender<Watch>,
    last_look: u64,
    last_roll_call: u64,
}

/// Ends the wait of [`Capture::next`] from another thread.
#[derive(Debug, Clone)]
pub struct Waker {
    pipe: Arc<io::PipeWriter>,
    pending: Arc<AtomicBool>,
}

/// What is known of a process after [`Capture::watch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The process.
    pub process: ProcessId,
    /// The TLS libraries it maps now and that have probes; later ones follow as
    /// [`Event::Attached`].
    pub libraries: Vec<Library>,
    /// TLS libraries that have none, and what the kernel said.
    pub refused: Vec<(PathBuf, String)>,
}

/// What was not seen, since the start, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lost {
    /// Bytes for which the ring had no room: the reader was too slow, or the ring is small.
    pub ring_full_bytes: u64,
    /// Bytes that were not in memory when the function returned.
    pub fault_bytes: u64,
    /// Bytes beyond the 8 MiB that are copied of one call of a function.
    pub too_long_bytes: u64,
    /// Calls of functions of TLS libraries whose arguments could not be kept until they returned.
    pub calls: u64,
    /// Calls of those functions whose connection could not be kept.
    pub connections: u64,
    /// Other records: closes, names, processes.
    pub records: u64,
    /// First bytes of connections: for which there was no room, or that could not be read.
    pub openings: u64,
    /// Connections whose first bytes were never complete when others took their place.
    pub unfinished: u64,
    /// Answers of name servers: for which there was no room, or that could not be read.
    pub answers: u64,
    /// Connections of processes that our pid namespace does not show.
    pub strangers: u64,
}

/// Records taken from the ring of bytes in one go; bounds the memory of [`Capture::events`].
const BATCH: usize = 1024;
/// How often watched processes are looked at where the kernel does not tell of mappings.
const LOOK_NANOS: u64 = 100_000_000;
/// How often watched processes are asked for where the kernel does not tell of their ends, and
/// processes that come and go are read of while nobody is to be watched.
const ROLL_CALL_NANOS: u64 = 1_000_000_000;

impl Default for Config {
    fn default() -> Self {
        // Four times the largest prompts that agents send.
        Self { ring_bytes: 16 << 20, single_links: false }
    }
}

impl Waker {
    /// Makes [`Capture::next`] return soon, at once if it is waiting.
    pub fn wake(&self) {
        // One byte at most is ever in the pipe, so this cannot block.
        if !self.pending.swap(true, Ordering::AcqRel)
            && let Err(error) = (&*self.pipe).write_all(&[0])
        {
            tracing::debug!(%error, "cannot wake the capture thread");
        }
    }
}

impl Lost {
    /// Every counter with its name, for status pages and metrics.
    #[must_use]
    pub fn by_reason(&self) -> [(&'static str, u64); 10] {
        [
            ("ring_full_bytes", self.ring_full_bytes),
            ("fault_bytes", self.fault_bytes),
            ("too_long_bytes", self.too_long_bytes),
            ("calls", self.calls),
            ("connections", self.connections),
            ("records", self.records),
            ("openings", self.openings),
            ("unfinished", self.unfinished),
            ("answers", self.answers),
            ("strangers", self.strangers),
        ]
    }
}

impl Capture {
    /// Loads the programs and begins to see processes, openings of connections and names.
    /// Nothing is watched yet. What the kernel refuses of this is a [fact](Self::facts), and the
    /// rest goes on.
    ///
    /// # Errors
    ///
    /// [`Error::Privilege`] and [`Error::Kernel`] when neither calls nor openings can be seen.
    pub fn start(config: &Config) -> Result<Self, Error> {
        if !config.ring_bytes.is_power_of_two() || (config.ring_bytes as usize) < system::page_len()
        {
            return Err(Error::Setting {
                setting: "ring_bytes",
                value: config.ring_bytes.to_string(),
                expected: "a power of two, at least one page",
            });
        }
        if let Some(obstacle) = kernel::obstacle() {
            return Err(obstacle);
        }
        libbpf_rs::set_print(Some((PrintLevel::Debug, |_, text| {
            tracing::debug!(target: "libbpf", "{}", text.trim_end());
        })));
        let mut facts = Vec::new();
        let node = Node::start(&mut facts);
        let (tls, fact) = match Reading::try_out(config.ring_bytes, config.single_links) {
            Err(error) if !node.sees_openings() => {
                return Err(refused("the programs that read TLS calls", &error));
            }
            Err(error) => Reading::refused(format!("the kernel refused: {error:#}")),
            Ok(tried) => tried,
        };
        facts.push(fact);
        let processes = optional(
            programs::processes().map_err(|error| format!("{error:#}")),
            ("processes", "processes that start and end are seen at once"),
            "new programs are found more slowly, children of watched programs are not read, and one \
             that is gone when it is looked at has no name",
            &mut facts,
        );
        let mapped = optional(
            Mapped::open().map_err(|error| error.to_string()),
            ("mappings", "libraries that a program loads later are seen at once"),
            "libraries that a program loads later are found within 100 ms; grant CAP_PERFMON",
            &mut facts,
        );
        let (wake, pipe) =
            io::pipe().map_err(|source| Error::Resource { doing: "open a pipe", source })?;
        Ok(Self {
            tls,
            processes,
            node,
            mapped,
            libraries: Libraries::default(),
            watches: Watches::default(),
            events: VecDeque::new(),
            held: Vec::new(),
            facts,
            wake,
            waker: Waker { pipe: Arc::new(pipe), pending: Arc::default() },
            removals: remover()?,
            last_look: 0,
            last_roll_call: 0,
        })
    }

    /// Reads this process from now on: sets probes in every TLS library it maps, now and
    /// later, and in its fork children. Watching a watched process changes nothing.
    ///
    /// A watch ends with [`unwatch`](Self::unwatch), when the process ends, and when it
    /// executes another program ([`Event::Started`] tells).
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] when the process does not run, [`Error::Privilege`] when it may not be
    /// looked into, [`Error::Kernel`] when this kernel lets nothing be watched.
    pub fn watch(&mut self, pid: u32) -> Result<Watched, Error> {
        self.be_ready()?;
        let process = process::identity(pid).ok_or(Error::Gone { pid })?;
        if self.watches.of(pid).is_some_and(|watch| watch.process != process) {
            self.end(pid, system::monotonic_nanos());
        }
        if !self.watches.contains(pid) {
            self.watches.begin(process, system::monotonic_nanos());
        }
        if let Err(error) = self.attach_mapped(pid) {
            self.end(pid, system::monotonic_nanos());
            return Err(match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    Error::Privilege { missing: format!("process {pid} may not be looked into") }
                }
                _ => Error::Gone { pid },
            });
        }
        let watch = self.watches.of(pid).ok_or(Error::Gone { pid })?;
        Ok(Watched { process, libraries: watch.libraries.clone(), refused: watch.refused.clone() })
    }

    /// Stops reading this process. When this returns its probes are gone. Its fork children
    /// stay watched. What was seen before may still come from [`next`](Self::next), ended by
    /// [`Event::Closed`] for each connection.
    pub fn unwatch(&mut self, pid: u32) {
        let Some(watch) = self.watches.of(pid) else { return };
        watch.links.clear();
        // What the probes saw before they went belongs to this watch.
        while self.read_tls() {}
        self.end(pid, system::monotonic_nanos());
    }

    /// Makes ready to watch, which takes memory (see [`Config::ring_bytes`]) and a moment that the
    /// first watch otherwise waits; or lets go of it where nobody is watched. What cannot be made
    /// ready is said by [`watch`](Self::watch).
    pub fn make_ready(&mut self, is_wanted: bool) {
        if is_wanted {
            if let Err(error) = self.be_ready() {
                tracing::debug!(%error, "cannot make ready to watch");
            }
        } else if self.watches.pids().is_empty() {
            self.tls.rest();
            self.processes.iter().for_each(|processes| processes.wake_for_each(false));
        }
    }

    fn be_ready(&mut self) -> Result<(), Error> {
        if self.tls.programs().is_none() {
            self.tls.load()?;
            self.processes.iter().for_each(|processes| processes.wake_for_each(true));
        }
        Ok(())
    }

    /// Says that no more of a connection is wanted: its calls then cost a look-up and are not
    /// copied. [`Event::Closed`] still comes.
    pub fn ignore(&mut self, connection: ConnectionId) {
        let Some(watch) = self.watches.of(connection.process.pid) else { return };
        if watch.process != connection.process {
            return;
        }
        let id = watch.id;
        let Some(tls) = self.tls.programs() else { return };
        if let Err(error) = tls.ignore(id, connection.object, connection.generation) {
            tracing::debug!(%error, "cannot ignore a connection; it is copied on");
        }
    }

    /// Tells of connections to these addresses from now on, as [`Event::Connected`]; made for
    /// addresses that a name of interest has. At least 4,096 are kept, and those that nobody
    /// connected to lately give way. Every connection of the node costs one look-up for it.
    pub fn interest(&mut self, addresses: &[IpAddr]) {
        self.node.interest(addresses);
    }

    /// The next event, waiting for it up to `wait`; `None` when none came or
    /// [`Waker::wake`] was called.
    pub fn next(&mut self, wait: Duration) -> Option<Event> {
        let deadline = system::monotonic_nanos()
            .saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            self.read();
            if !self.events.is_empty() {
                continue;
            }
            let now = system::monotonic_nanos();
            if now >= deadline {
                return None;
            }
            let nap = match (&self.mapped, &self.processes) {
                // The kernel wakes for nothing that can wait; see `make_ready`.
                (_, Some(_)) if self.tls.programs().is_none() => ROLL_CALL_NANOS,
                _ if self.watches.pids().is_empty() => u64::MAX,
                (None, _) => LOOK_NANOS,
                (Some(_), None) => ROLL_CALL_NANOS,
                (Some(_), Some(_)) => u64::MAX,
            };
            if self.sleep(Duration::from_nanos(nap.min(deadline - now))) {
                return self.events.pop_front();
            }
        }
    }

    /// What was not seen so far, by reason.
    #[must_use]
    pub fn lost(&self) -> Lost {
        let tls = |reason| self.tls.lost(reason);
        let node = self.node.lost();
        Lost {
            ring_full_bytes: tls(0),
            fault_bytes: tls(1),
            too_long_bytes: tls(2),
            calls: tls(3),
            connections: tls(4),
            records: tls(5) + self.processes.as_ref().map_or(0, |processes| processes.lost(5)),
            openings: node.openings,
            unfinished: node.unfinished,
            answers: node.answers,
            strangers: node.strangers,
        }
    }

    /// What could be attached on this machine, beyond [`kernel::probe`].
    #[must_use]
    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// The processes that are watched now.
    #[must_use]
    pub fn watched(&self) -> Vec<u32> {
        self.watches.pids()
    }

    /// A handle that ends a wait in [`next`](Self::next).
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits until the kernel has something, and says whether [`Waker::wake`] ended the wait.
    fn sleep(&mut self, wait: Duration) -> bool {
        let mut fds = vec![self.wake.as_raw_fd()];
        fds.extend(self.tls.programs().map(|tls| tls.programs.fd()));
        fds.extend(self.processes.as_ref().map(Programs::fd));
        fds.extend(self.node.fds());
        // What others map is nobody's business, and read along where something else wakes us.
        if !self.watches.pids().is_empty() {
            fds.extend(self.mapped.iter().flat_map(Mapped::fds));
        }
        let woken = system::wait_readable(&fds, wait).first() == Some(&true);
        if woken {
            let mut byte = [0];
            if let Err(error) = self.wake.read_exact(&mut byte) {
                tracing::debug!(%error, "cannot read the wake-up pipe");
            }
            self.waker.pending.store(false, Ordering::Release);
        }
        woken
    }
}

/// Starts the thread that removes the links of ended watches. The kernel waits for every
/// running probe when a link goes, some 20 ms, in which no new process would be attached.
fn remover() -> Result<mpsc::Sender<Watch>, Error> {
    // As many as were watched, at most; one that had to wait for room would hold up the reader.
    let (sender, watches) = mpsc::channel::<Watch>();
    thread::Builder::new()
        .name("detach".to_owned())
        .spawn(move || watches.into_iter().for_each(drop))
        .map_err(|source| Error::Resource { doing: "start a thread", source })?;
    Ok(sender)
}

fn optional<T>(
    result: Result<T, String>,
    (name, good): (&'static str, &str),
    remedy: &str,
    facts: &mut Vec<Fact>,
) -> Option<T> {
    let (standing, found, remedy) = match &result {
        Ok(_) => (Standing::Good, good.to_owned(), String::new()),
        Err(reason) => {
            (Standing::Limited, format!("the kernel refused: {reason}"), remedy.to_owned())
        }
    };
    facts.push(Fact { name, standing, found, remedy });
    result.ok()
}

/// What it means that the kernel refused something.
pub(crate) fn refused(what: &str, error: &libbpf_rs::Error) -> Error {
    let missing = format!("the kernel refused {what}: {error:#}");
    match error.kind() {
        libbpf_rs::ErrorKind::PermissionDenied => Error::Privilege { missing },
        _ => Error::Kernel { missing },
    }
}

#[cfg(test)]
mod tests;
