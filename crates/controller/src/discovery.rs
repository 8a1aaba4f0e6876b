//! Discovery that does not need the kernel's events: names that this node gives to addresses,
//! connections that are open, and programs that listen like model servers.
//!
//! Where the kernel tells of connections, one look at the start is enough; else open connections are
//! listed on a timer, and those that open and close between two looks are missed. Descriptors of
//! processes are searched only for connections whose address has a provider's name.

use crate::asks::Contact;
use crate::clock::Now;
use crate::event_loop::{Notice, Notices, Sighting};
use crate::names::Source;
use crate::programs::Programs;
use crate::registry::Presence;
use crate::servers;
use crate::standing::Standings;
use crate::watcher::{EventQueue, Input};
use capture::ProcessId;
use contract::workload::By;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use workloads::{Sockets, State, hosts_file};

/// How often open connections are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often the known names are looked up: their addresses change within minutes.
const ASK_EVERY: Duration = Duration::from_secs(120);

/// Looks at a process that is new, where the kernel does not tell that it runs another program by
/// now: a launcher becomes what it launches.
const LOOKS: u8 = 2;

/// How long an address waits for the others of its name.
const SETTLE: Duration = Duration::from_millis(500);

/// Addresses of known names that are remembered; they rotate.
const MAX_ADDRESSES: usize = 4_096;

/// Port of the known providers.
const HTTPS: u16 = 443;

/// How long after its start a program that may serve models is looked at; then twice as long each
/// time, since models take minutes to load.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Looks at a program that may serve models; the last comes some eight minutes after its start.
const MAX_LOOKS: u32 = 9;

/// Programs that may serve models and do not listen yet.
const MAX_CANDIDATES: usize = 1_024;

/// Names that are worth a question to the resolver. Which provider is behind each is not said here,
/// but by `genai`, which knows many more.
const LOOKED_UP: [&str; 12] = [
    "api.anthropic.com",
    "api.cohere.com",
    "api.deepseek.com",
    "api.groq.com",
    "api.mistral.ai",
    "api.openai.com",
    "api.perplexity.ai",
    "api.together.xyz",
    "api.x.ai",
    "generativelanguage.googleapis.com",
    "integrate.api.nvidia.com",
    "openrouter.ai",
];

/// The loop; to be run on a thread of its own, since the resolver may take its time.
pub(crate) struct Discovery {
    pub(crate) programs: Arc<Programs>,
    pub(crate) notices: Notices,
    pub(crate) events: EventQueue,
    pub(crate) standings: Standings,
    pub(crate) sockets: Sockets,
    pub(crate) root: PathBuf,
    /// Processes and addresses that are worth a look.
    pub(crate) hints: Receiver<Hint>,
    /// Whether the kernel tells of new connections and processes, so that one look at the start is
    /// enough.
    pub(crate) once: bool,
}

/// What is worth a look.
#[derive(Debug, Clone)]
pub(crate) enum Hint {
    /// A process began to run a program that may serve models.
    MayServe(ProcessId),
    /// A known name has these addresses.
    Named(Vec<IpAddr>),
}

/// Asks the resolver of this node for the known names; on a thread of its own, since where there is
/// no network each question takes its time.
pub(crate) struct Resolver {
    pub(crate) events: EventQueue,
    pub(crate) standings: Standings,
    pub(crate) hints: SyncSender<Hint>,
    /// Whether once is enough.
    pub(crate) once: bool,
}

impl Resolver {
    /// Asks once, or again and again until the stop.
    pub(crate) fn run(self) {
        loop {
            for host in LOOKED_UP {
                // A name that cannot be resolved here is not asked here either.
                let found = (host, HTTPS).to_socket_addrs().into_iter().flatten();
                let found: Vec<IpAddr> = found.map(|address| address.ip().to_canonical()).collect();
                if !self.standings.sleep(Duration::ZERO) {
                    return;
                }
                if found.is_empty() {
                    continue;
                }
                let (name, at) = (host.to_owned(), Now::read().monotonic);
                let (addresses, source) = (found.clone(), Source::Asked);
                self.events.push_surely(Input::Learned { name, addresses, source, at });
                if self.hints.send(Hint::Named(found)).is_err() {
                    return;
                }
            }
            if self.once || !self.standings.sleep(ASK_EVERY) {
                return;
            }
        }
    }
}

/// A program that may serve models, and when it is looked at next.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    process: ProcessId,
    due: Instant,
    looks: u32,
}

impl Discovery {
    /// Runs until the stop.
    #[expect(clippy::disallowed_methods, reason = "the discovery loop reads the clock")]
    pub(crate) fn run(self) {
        let mut names = HashSet::new();
        let mut known = HashSet::new();
        let mut candidates: VecDeque<Candidate> = VecDeque::new();
        let mut seen = HashMap::new();
        self.read_hosts(&mut names);
        let mut look_due = Some(Instant::now());
        loop {
            let now = Instant::now();
            if look_due.is_some_and(|due| due <= now) {
                self.look(&names, &mut known);
                // Once the kernel tells of every program that is started, there is nothing to look for.
                if !self.once || seen.is_empty() {
                    self.look_for_servers(&mut seen, &mut candidates, now);
                }
                look_due = (!self.once).then(|| now + LOOK_EVERY);
            }
            self.look_at(&mut candidates, now);
            let due = candidates.iter().map(|candidate| candidate.due).chain(look_due).min();
            let now = Instant::now();
            // A stop is noticed by the end of the channel.
            let patience =
                due.map_or(Duration::from_secs(600), |due| due.saturating_duration_since(now));
            match self.hints.recv_timeout(patience) {
                Ok(Hint::MayServe(process)) => push(&mut candidates, process, now),
                Ok(Hint::Named(addresses)) => {
                    if names.len() > MAX_ADDRESSES {
                        names.clear();
                    }
                    names.extend(addresses);
                    look_due.get_or_insert(now + SETTLE);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !self.standings.sleep(Duration::ZERO) {
                return;
            }
        }
    }

    /// Takes the names of the node's file of hosts.
    fn read_hosts(&self, addresses: &mut HashSet<IpAddr>) {
        let at = Now::read().monotonic;
        for (name, address) in hosts_file(&self.root) {
            addresses.insert(address.to_canonical());
            let source = Source::HostsFile;
            self.events.push_surely(Input::Learned { name, addresses: vec![address], source, at });
        }
    }

    /// Finds the owners of connections to addresses that have a name and that nobody looked at.
    fn look(&self, addresses: &HashSet<IpAddr>, known: &mut HashSet<u64>) {
        let pids = self.sockets.pids();
        let mut open = self.sockets.all(State::Established, &pids);
        open.retain(|socket| addresses.contains(&socket.peer.ip()));
        let inodes: HashSet<u64> = open.iter().map(|socket| socket.inode).collect();
        known.retain(|inode| inodes.contains(inode));
        let new: HashSet<u64> = inodes.difference(known).copied().collect();
        if new.is_empty() {
            return;
        }
        let owners = self.sockets.owners(&new, &pids);
        let at = Now::read().monotonic;
        for socket in open {
            let Some(pid) = owners.get(&socket.inode) else { continue };
            let ticks = self.programs.node(|node| node.start_ticks(*pid)).flatten();
            if let Some(ticks) = ticks {
                let process = ProcessId::from_ticks(*pid, ticks);
                let contact = Contact { process, peer: socket.peer, at };
                self.events.push_surely(Input::Open(contact));
                known.insert(socket.inode);
            }
        }
    }

    /// Takes note of processes, not looked at before, that may serve models.
    fn look_for_servers(
        &self,
        seen: &mut HashMap<u32, u8>,
        candidates: &mut VecDeque<Candidate>,
        now: Instant,
    ) {
        let pids = self.sockets.pids();
        let looks = |pid: &u32| seen.get(pid).copied().unwrap_or_default();
        let new: Vec<u32> = pids.iter().copied().filter(|pid| looks(pid) < LOOKS).collect();
        *seen = pids.into_iter().map(|pid| (pid, (looks(&pid) + 1).min(LOOKS))).collect();
        for pid in new {
            let executable = self.programs.node(|node| node.executable(pid)).flatten();
            let ticks = self.programs.node(|node| node.start_ticks(pid)).flatten();
            if executable.is_some_and(|executable| servers::may_serve(&executable))
                && let Some(ticks) = ticks
            {
                let process = ProcessId::from_ticks(pid, ticks);
                push(candidates, process, now);
                if let Some(candidate) = candidates.back_mut() {
                    candidate.due = now;
                }
            }
        }
    }

    /// Looks at those candidates whose time has come.
    fn look_at(&self, candidates: &mut VecDeque<Candidate>, now: Instant) {
        let (due, rest): (VecDeque<_>, VecDeque<_>) =
            candidates.drain(..).partition(|candidate| candidate.due <= now);
        *candidates = rest;
        for candidate in due {
            let looks = candidate.looks + 1;
            if self.is_server(candidate.process) == Some(false) && looks < MAX_LOOKS {
                let due = now + FIRST_LOOK * 2_u32.saturating_pow(looks);
                candidates.push_back(Candidate { due, looks, ..candidate });
            }
        }
    }

    /// Whether a process serves models; `None` when it is gone, or does not look like it.
    fn is_server(&self, process: ProcessId) -> Option<bool> {
        let program = self.programs.of(process)?;
        let Some(server) = servers::shape(&program.instance) else {
            self.programs.forget(process.pid);
            return None;
        };
        let sockets = self.sockets.of_process(process.pid);
        let listening = sockets.iter().filter(|socket| socket.state == State::Listening);
        let listening: Vec<_> = listening.map(|socket| socket.local).collect();
        let Some(place) = servers::place(server, &listening) else { return Some(false) };
        self.notices.send(Notice::Sighted(Sighting {
            program,
            presence: Presence::Running,
            provider: server.provider.to_owned(),
            model: None,
            by: By::Listen,
            seen: place.to_string(),
            at_unix_nanos: Now::read().unix_nanos,
        }));
        Some(true)
    }
}

fn push(candidates: &mut VecDeque<Candidate>, process: ProcessId, now: Instant) {
    if candidates.len() >= MAX_CANDIDATES {
        candidates.pop_front();
    }
    candidates.push_back(Candidate { process, due: now + FIRST_LOOK, looks: 0 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_looked_up_is_known() {
        let known = genai::Providers::default();
        assert!(LOOKED_UP.iter().all(|host| known.of_host(host, None).is_some()));
    }
}
