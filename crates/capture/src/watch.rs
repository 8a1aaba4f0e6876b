//! The processes that are watched: their links, and the connections seen in them.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use libbpf_rs::Link;

use crate::event::{ConnectionId, Library, ProcessId};
use crate::library::FileKey;

/// Connections remembered of one process, to close them when it ends. The kernel side
/// remembers fewer of all processes together.
const MAX_CONNECTIONS: usize = 65_536;

/// One watched process.
#[derive(Debug)]
pub(crate) struct Watch {
    /// In every record of this watch's links.
    pub(crate) id: u32,
    pub(crate) process: ProcessId,
    /// When it began, in nanoseconds on the kernel's monotonic clock.
    pub(crate) since: u64,
    pub(crate) links: Vec<Link>,
    pub(crate) libraries: Vec<Library>,
    /// Files looked at, with or without TLS functions.
    pub(crate) files: HashSet<FileKey>,
    /// Libraries without probes, and why.
    pub(crate) refused: Vec<(PathBuf, String)>,
    /// TLS objects in use, and the generation of each.
    connections: HashMap<u64, u64>,
}

/// All watched processes.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    by_pid: HashMap<u32, Watch>,
    pids: HashMap<u32, u32>,
    last_id: u32,
}

impl Watch {
    /// Notes that a connection was seen. Returns the one that used the same object before,
    /// if its end was not seen.
    pub(crate) fn seen(&mut self, object: u64, generation: u64) -> Option<ConnectionId> {
        if self.connections.len() >= MAX_CONNECTIONS && !self.connections.contains_key(&object) {
            return None;
        }
        let before = self.connections.insert(object, generation)?;
        (before != generation).then(|| self.connection(object, before))
    }

    /// Notes that a connection is closed. Says whether it was known.
    pub(crate) fn closed(&mut self, object: u64, generation: u64) -> bool {
        let known = self.connections.get(&object) == Some(&generation);
        if known {
            self.connections.remove(&object);
        }
        known
    }

    /// The connections that are open, oldest first.
    pub(crate) fn open(&self) -> Vec<ConnectionId> {
        let mut open: Vec<_> =
            self.connections.iter().map(|(object, generation)| (*generation, *object)).collect();
        open.sort_unstable();
        open.iter().map(|(generation, object)| self.connection(*object, *generation)).collect()
    }

    /// The id of a connection of this process.
    pub(crate) fn connection(&self, object: u64, generation: u64) -> ConnectionId {
        ConnectionId { process: self.process, object, generation }
    }

    /// Notes probes that were set.
    pub(crate) fn attached(
        &mut self,
        path: PathBuf,
        functions: Vec<&'static str>,
        links: Vec<Link>,
    ) -> Library {
        let library = Library { path: Arc::new(path), functions };
        self.libraries.push(library.clone());
        self.links.extend(links);
        library
    }
}

impl Watches {
    /// Begins a watch.
    pub(crate) fn begin(&mut self, process: ProcessId, since: u64) -> &mut Watch {
        self.last_id = self.last_id.wrapping_add(1);
        let id = self.last_id;
        self.pids.insert(id, process.pid);
        let watch = Watch {
            id,
            process,
            since,
            links: Vec::new(),
            libraries: Vec::new(),
            files: HashSet::new(),
            refused: Vec::new(),
            connections: HashMap::new(),
        };
        self.by_pid.entry(process.pid).insert_entry(watch).into_mut()
    }

    /// Ends a watch. Its links are in what is returned: dropping it removes the probes.
    pub(crate) fn end(&mut self, pid: u32) -> Option<Watch> {
        let watch = self.by_pid.remove(&pid)?;
        self.pids.remove(&watch.id);
        Some(watch)
    }

    /// The watch of a process.
    pub(crate) fn of(&mut self, pid: u32) -> Option<&mut Watch> {
        self.by_pid.get_mut(&pid)
    }

    /// The watch whose link made a record.
    pub(crate) fn by_id(&mut self, id: u32) -> Option<&mut Watch> {
        self.by_pid.get_mut(self.pids.get(&id)?)
    }

    /// Whether a process is watched.
    pub(crate) fn contains(&self, pid: u32) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// All processes.
    pub(crate) fn processes(&self) -> Vec<ProcessId> {
        self.by_pid.values().map(|watch| watch.process).collect()
    }

    /// All pids.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.by_pid.keys().copied().collect()
    }
}
