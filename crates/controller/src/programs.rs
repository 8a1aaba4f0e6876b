//! Programs that were read once: the process of a call may be gone when its call ends.

use capture::{Caller, ProcessId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use workloads::{Clients, Node, Program, Remains};

/// Programs that are remembered; then those that ended are forgotten.
const MAX_PROGRAMS: usize = 8_192;

/// The programs of processes, shared by the threads that meet them.
#[derive(Debug)]
pub(crate) struct Programs {
    source: Source,
    known: Mutex<HashMap<u32, Arc<Program>>>,
}

/// Where programs are read.
#[derive(Debug)]
enum Source {
    /// This node's `/proc`.
    Node(Box<Mutex<Node>>),
    /// A recording, which names all of them.
    Recording,
}

impl Programs {
    /// The programs of a node.
    pub(crate) fn of_node(node: Node) -> Self {
        Self { source: Source::Node(Box::new(Mutex::new(node))), known: Mutex::default() }
    }

    /// Programs that a recording names, by their process ids.
    pub(crate) fn recorded(programs: Vec<Program>) -> Self {
        let known = programs.into_iter().map(|program| (program.instance.pid, Arc::new(program)));
        Self { source: Source::Recording, known: Mutex::new(known.collect()) }
    }

    /// Starts to ask engines of containers and the cluster; what they name anew is read anew.
    ///
    /// `tell` is told the id of each container that has another name now.
    pub(crate) fn connect(
        self: &Arc<Self>,
        clients: &Clients,
        tell: impl Fn(&str) + Send + Sync + 'static,
    ) -> std::io::Result<()> {
        let Source::Node(node) = &self.source else { return Ok(()) };
        let programs = Arc::downgrade(self);
        let renamed = move |container: &str| {
            if let Some(programs) = programs.upgrade() {
                programs.forget_container(container);
                tell(container);
            }
        };
        lock(node).connect(clients, renamed)
    }

    fn forget_container(&self, container: &str) {
        let is_in = |program: &Program| {
            let id = program.instance.attributes.get(contract::attribute::CONTAINER_ID);
            id.is_some_and(|id| id == container)
        };
        lock(&self.known).retain(|_, program| !is_in(program));
    }

    /// The program of a process; `None` when it ended before anybody looked.
    pub(crate) fn of(&self, process: ProcessId) -> Option<Arc<Program>> {
        let is_recorded = matches!(self.source, Source::Recording);
        let known = lock(&self.known).get(&process.pid).cloned();
        match known {
            Some(program) if is_recorded || program.started_at(process.start_time) => Some(program),
            _ => self.read(process.pid).filter(|program| program.started_at(process.start_time)),
        }
    }

    /// Reads the program of a process anew: it may have changed, or loaded a library.
    pub(crate) fn read(&self, pid: u32) -> Option<Arc<Program>> {
        let Source::Node(node) = &self.source else { return lock(&self.known).get(&pid).cloned() };
        let program = Arc::new(lock(node).program(pid)?);
        let mut known = lock(&self.known);
        if known.len() >= MAX_PROGRAMS {
            let node = lock(node);
            known.retain(|pid, program| node.start_ticks(*pid) == Some(program.start_ticks));
            if known.len() >= MAX_PROGRAMS {
                known.clear();
            }
        }
        known.insert(pid, Arc::clone(&program));
        Some(program)
    }

    /// The program of a process that ended before it was read, as the kernel said it was: under the
    /// name that it called itself. `None` for a recording.
    pub(crate) fn unread(&self, process: ProcessId, caller: &Caller) -> Option<Arc<Program>> {
        let remains = Remains {
            pid: process.pid,
            start_ticks: process.start_time / capture::TICK_NANOS,
            parent: caller.parent.map_or(0, |parent| parent.pid),
            user: caller.user,
            name: &caller.name,
            executable: caller.program.as_ref().and_then(|program| program.executable.to_str()),
            arguments: caller.program.as_ref().map(|program| program.arguments.as_bytes()),
            cgroup: caller.program.as_ref().map(|program| program.cgroup.as_str()),
            directory: None,
        };
        self.node(|node| Arc::new(node.remains(&remains)))
    }

    /// Forgets a process that ended, or that runs another program now.
    pub(crate) fn forget(&self, pid: u32) {
        if matches!(self.source, Source::Node(_)) {
            lock(&self.known).remove(&pid);
        }
    }

    /// Name of a user by its number; the number where it has none.
    pub(crate) fn user(&self, id: u32) -> String {
        self.node(|node| node.user_name(id)).unwrap_or_else(|| id.to_string())
    }

    /// Asks the node; `None` for a recording.
    pub(crate) fn node<T>(&self, ask: impl FnOnce(&Node) -> T) -> Option<T> {
        match &self.source {
            Source::Node(node) => Some(ask(&lock(node))),
            Source::Recording => None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic while the lock was held ends the controller anyway; what is here is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
