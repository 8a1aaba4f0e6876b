//! Programs that were read once: the process of a call may be gone when its call ends.

use capture::ProcessId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use workloads::{Clients, Node, Program};

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
    pub(crate) fn connect(self: &Arc<Self>, clients: &Clients) -> std::io::Result<()> {
        let Source::Node(node) = &self.source else { return Ok(()) };
        let programs = Arc::downgrade(self);
        let renamed = move |container: &str| {
            if let Some(programs) = programs.upgrade() {
                programs.forget_container(container);
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

    /// Forgets a process that ended, or that runs another program now.
    pub(crate) fn forget(&self, pid: u32) {
        if matches!(self.source, Source::Node(_)) {
            lock(&self.known).remove(&pid);
        }
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
