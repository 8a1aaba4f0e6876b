//! Processes that start, end and change: each is looked at when the kernel tells of it, and once at
//! the start. Only where the kernel does not tell are all of them listed on a timer.

use super::Running;
use crate::bystanders::Verdict;
use crate::clock::Now;
use crate::limits::Loss;
use crate::servers;
use capture::{ProcessId, Start};
use contract::attribute;
use contract::capture::Level;
use contract::workload::Key;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a process that runs an executable of a known workload is left alone, where nobody waits
/// for it: most programs that start are gone by then, and cost nothing.
const SETTLE: Duration = Duration::from_secs(2);

/// A process that is younger than this may still become another program (fork, then exec).
const SETTLED_TICKS: u64 = 200;

/// Processes that are to be looked at later.
const MAX_LATER: usize = 4_096;

impl Running {
    /// A process that runs a program of a watched workload is watched at once; to look at every
    /// program that starts would cost more than it gives.
    pub(super) fn started(&mut self, process: ProcessId, how: Start, now: Instant) {
        self.bystanders.forget(process.pid);
        if how == Start::Executed {
            // The kernel's side took its probes off: it is another program.
            self.watches.remove(&process.pid);
            self.registry.left(process.pid, Now::read().unix_nanos);
            self.has_news = true;
        }
        let executable = self.parts.programs.node(|node| node.executable(process.pid)).flatten();
        let Some(executable) = executable else { return };
        if self.runs(&executable, Level::Network) {
            self.read_again(process.pid);
        } else if self.runs(&executable, Level::Off) && self.later.len() < MAX_LATER {
            self.later.push_back((now + SETTLE, process));
        }
        if how == Start::Executed && servers::may_serve(&executable) {
            (self.parts.may_serve)(process);
        }
    }

    /// Whether a workload that is wanted at this level or above runs an executable.
    fn runs(&self, executable: &str, level: Level) -> bool {
        let desired = &self.desired;
        let is_wanted = |key: &Key| desired.get(key).copied().unwrap_or_default() >= level;
        let mut workloads = self.registry.workloads().iter();
        workloads.any(|(key, it)| is_wanted(key) && it.executables.contains(executable))
    }

    pub(super) fn exited(&mut self, process: ProcessId) {
        self.bystanders.forget(process.pid);
        let is_same = self
            .registry
            .running(process.pid)
            .is_some_and(|running| running.program.started_at(process.start_time));
        if is_same {
            self.registry.left(process.pid, Now::read().unix_nanos);
            self.is_changed();
        }
    }

    /// Looks at those processes whose time has come.
    pub(super) fn look_later(&mut self, now: Instant) {
        while let Some((_, process)) = self.later.front().copied().filter(|(due, _)| *due <= now) {
            self.later.pop_front();
            let start = self.parts.programs.node(|node| node.start_ticks(process.pid)).flatten();
            if start == Some(process.start_time / capture::TICK_NANOS) {
                self.read_again(process.pid);
            }
        }
        if self.look_due.is_some_and(|due| due <= now) {
            self.look();
        }
    }

    /// Reads the program of a process anew, and notes it where it is of a known workload that counts.
    pub(super) fn read_again(&mut self, pid: u32) {
        let Some(program) = self.parts.programs.read(pid) else { return };
        let is_known = self.registry.knows(&program.key) || self.registry.running(pid).is_some();
        if !is_known || !self.counts(&program) {
            let executable = program.instance.executable.clone();
            let key = Some(program.key.clone());
            self.bystanders.pass(pid, program.start_ticks, executable, key);
            if self.registry.running(pid).is_none() {
                self.parts.programs.forget(pid);
            }
            return;
        }
        if let Some((before, after)) = self.registry.joined(&program) {
            tracing::debug!(before = %before.0, after = %after.0, "a program is known by its real key now");
            self.is_changed();
        }
    }

    /// Lists all processes, and looks at those that nobody looked at.
    #[expect(clippy::disallowed_methods, reason = "the event loop reads the clock")]
    pub(super) fn look(&mut self) {
        self.look_due = None;
        self.looked_at = Some(Instant::now());
        if self.registry.workloads().is_empty() {
            return;
        }
        let programs = Arc::clone(&self.parts.programs);
        let Some(pids) = programs.node(workloads::Node::pids) else { return };
        for pid in pids {
            if self.registry.running(pid).is_some() {
                continue;
            }
            let knows = |key: &Key| self.registry.knows(key);
            let runs = |executable: &str| self.runs(executable, Level::Off);
            match self.bystanders.verdict(pid, knows, runs) {
                Verdict::Pass => {}
                Verdict::Read => self.read_again(pid),
                Verdict::Unknown => self.look_at(pid),
            }
        }
    }

    /// Looks at a process of which nothing is known: at its executable first, which is cheap.
    fn look_at(&mut self, pid: u32) {
        let programs = Arc::clone(&self.parts.programs);
        let executable = programs.node(|node| node.executable(pid)).flatten();
        // Another user's program cannot be told by its executable: it is read.
        let Some(executable) = executable.filter(|it| !self.runs(it, Level::Off)) else {
            self.read_again(pid);
            return;
        };
        let Some(start) = programs.node(|node| node.start_ticks(pid)).flatten() else { return };
        // Where the kernel does not tell of it, a launcher becomes what it launches unseen.
        let age = (Now::read().monotonic.0 / capture::TICK_NANOS).saturating_sub(start);
        if self.parts.scan_every.is_none() || age >= SETTLED_TICKS {
            self.bystanders.pass(pid, start, executable, None);
        }
    }

    /// Checks what should be so anyway: known processes run, old workloads are forgotten.
    pub(super) fn check(&mut self) {
        let now = Now::read().unix_nanos;
        let programs = Arc::clone(&self.parts.programs);
        let start = |pid: u32| programs.node(|node| node.start_ticks(pid)).flatten();
        for (pid, start_ticks) in self.registry.processes() {
            if programs.node(|_| ()).is_some() && start(pid) != Some(start_ticks) {
                self.registry.left(pid, now);
                self.is_changed();
            }
        }
        self.registry.expire(now);
        let refused = self.parts.losses.count(Loss::NoticeQueueFull);
        let has_missed = std::mem::replace(&mut self.refused_notices, refused) != refused;
        if self.parts.scan_every.is_some() || has_missed {
            self.bystanders.check(start);
            self.look();
        }
    }

    /// A platform knows more of a container than before: its programs are read again, so that a
    /// provisional key becomes the real one.
    pub(super) fn container_named(&mut self, container: &str) {
        let is_in = |pid: &u32| {
            let program = self.registry.running(*pid).map(|running| &running.program);
            let id = program.and_then(|it| it.instance.attributes.get(attribute::CONTAINER_ID));
            id.is_some_and(|id| id == container)
        };
        let pids: Vec<u32> =
            self.registry.processes().into_iter().map(|(pid, _)| pid).filter(is_in).collect();
        for pid in pids {
            self.read_again(pid);
        }
    }
}
