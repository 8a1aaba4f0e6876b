//! The loop that decides: takes notices of what happened and of what is wanted, keeps the registry,
//! carries out what `reconcile::plan` says, and publishes how things stand.

use crate::clock::Now;
use crate::limits::{Loss, Losses};
use crate::programs::Programs;
use crate::reconcile::{self, Ability, Action, Progress, Step, Watch, World};
use crate::registry::{Kept, Registry, Store};
use crate::standing::{Published, Standings};
use capture::{ProcessId, Start, Watched};
use contract::capture::Level;
use contract::poll::Wish;
use contract::workload::{By, Evidence, Key, Observed};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use wire::Moment;
use workloads::Program;

/// Notices that wait; one is a few hundred bytes.
const MAX_NOTICES: usize = 4_096;

/// Instances that are reported of one workload.
const MAX_REPORTED: usize = 64;

/// How long to wait before a failed watch is tried again.
const RETRY_NANOS: u64 = 10 * 1_000_000_000;

/// How long what changed waits for more before it is written to disk.
const SAVE_AFTER: Duration = Duration::from_millis(500);

/// How often a report that differs only in times goes out.
const TIMES_EVERY: Duration = Duration::from_secs(5);

/// A process that is younger than this may still become another program (fork, then exec).
const SETTLED_TICKS: u64 = 200;

/// Something that the loop has to know.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A program was seen to talk to a model.
    Sighted(Sighting),
    /// A process was forked, or began to run another program.
    Started { process: ProcessId, parent: ProcessId, how: Start, watched: bool },
    /// A process ended.
    Exited(ProcessId),
    /// What the dashboard wants.
    Wanted(Wish),
    /// What became of a step.
    Watched { pid: u32, start_ticks: u64, result: Result<Watched, String> },
    /// A watched process got another library that is read.
    Attached { pid: u32, library: String },
    /// A watched process has a library that no probe could be set in.
    Refused { pid: u32, reason: String },
    /// A process talks to a known provider in a way that cannot be read.
    Unreadable { process: ProcessId, why: &'static str },
    /// Stop.
    Stop,
}

/// A program that was seen to talk to a model, and how.
#[derive(Debug)]
pub(crate) struct Sighting {
    pub(crate) program: Arc<Program>,
    pub(crate) provider: String,
    pub(crate) by: By,
    pub(crate) seen: String,
    pub(crate) at_unix_nanos: u64,
}

/// The entry to the loop.
#[derive(Debug, Clone)]
pub(crate) struct Notices {
    entry: SyncSender<Notice>,
    losses: Arc<Losses>,
}

/// What the loop needs.
pub(crate) struct Loop {
    pub(crate) programs: Arc<Programs>,
    pub(crate) ability: Ability,
    pub(crate) store: Option<Store>,
    pub(crate) standings: Standings,
    pub(crate) losses: Arc<Losses>,
    /// Carries out a step; `false` when it cannot be handed over now.
    pub(crate) carry_out: Box<dyn Fn(&Step) -> bool + Send>,
    /// How often all processes are looked at; more often where the kernel does not tell.
    pub(crate) scan_every: Duration,
}

/// The loop, running.
struct Running {
    parts: Loop,
    registry: Registry,
    desired: BTreeMap<Key, Level>,
    generation: u64,
    watches: BTreeMap<u32, Watch>,
    /// Processes that were looked at and belong to no workload, by their starts.
    passed: HashMap<u32, u64>,
    is_unsaved: Option<Instant>,
    published: Vec<Observed>,
    published_at: Option<Instant>,
}

impl Notices {
    /// Makes the entry and its other end.
    pub(crate) fn channel(losses: Arc<Losses>) -> (Self, Receiver<Notice>) {
        let (entry, notices) = sync_channel(MAX_NOTICES);
        (Self { entry, losses }, notices)
    }

    /// Hands a notice over; when there are too many it is counted and dropped.
    ///
    /// The next scan finds what a dropped notice would have said.
    pub(crate) fn send(&self, notice: Notice) {
        if self.entry.try_send(notice).is_err() {
            self.losses.add(Loss::NoticeQueueFull, 1);
        }
    }

    /// Hands over a notice that must not be lost; waits for room.
    pub(crate) fn send_surely(&self, notice: Notice) {
        // The loop is gone only at a stop, when nobody needs to know any more.
        drop(self.entry.send(notice));
    }
}

impl Loop {
    /// Runs until [`Notice::Stop`].
    pub(crate) fn run(self, notices: &Receiver<Notice>) {
        let kept = self.store.as_ref().map_or_else(Kept::default, Store::load);
        let mut running = Running {
            registry: Registry::from_kept(&kept),
            desired: kept
                .desired
                .iter()
                .map(|desired| (desired.key.clone(), desired.level))
                .collect(),
            generation: kept.generation,
            watches: BTreeMap::new(),
            passed: HashMap::new(),
            is_unsaved: None,
            published: Vec::new(),
            published_at: None,
            parts: self,
        };
        running.run(notices);
    }
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "the event loop reads the clock")]
    fn run(&mut self, notices: &Receiver<Notice>) {
        let mut scan_due = Instant::now();
        loop {
            let now = Instant::now();
            if now >= scan_due {
                self.scan();
                scan_due = now + self.parts.scan_every;
            }
            self.reconcile(Now::read().monotonic);
            self.publish(now);
            self.save_if_due(now);
            match notices.recv_timeout(self.patience(now, scan_due)) {
                Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(notice) => {
                    self.take(notice);
                    // Notices come in bursts: plan once for all that are here.
                    for notice in notices.try_iter().take(MAX_NOTICES) {
                        if matches!(notice, Notice::Stop) {
                            self.save();
                            return;
                        }
                        self.take(notice);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.save();
    }

    /// How long nothing is due.
    fn patience(&self, now: Instant, scan_due: Instant) -> Duration {
        let scan = scan_due.saturating_duration_since(now);
        let save = self
            .is_unsaved
            .map_or(scan, |since| (since + SAVE_AFTER).saturating_duration_since(now));
        let retry = reconcile::next_try(self.world()).map_or(scan, |again| {
            Duration::from_nanos(again.0.saturating_sub(Now::read().monotonic.0))
        });
        scan.min(save).min(retry).max(Duration::from_millis(5))
    }

    fn take(&mut self, notice: Notice) {
        match notice {
            Notice::Sighted(sighting) => self.sighted(sighting),
            Notice::Started { process, parent, how, watched } => {
                if watched {
                    self.inherited(process, parent);
                }
                self.started(process, how);
            }
            Notice::Exited(process) => self.exited(process),
            Notice::Wanted(wish) => self.wanted(wish),
            Notice::Watched { pid, start_ticks, result } => self.watched(pid, start_ticks, result),
            Notice::Attached { pid, library } => self.attached(pid, library),
            Notice::Refused { pid, reason } => self.refused(pid, reason),
            Notice::Unreadable { process, why } => {
                if let Some(watch) = self.watches.get_mut(&process.pid) {
                    watch.unreadable = Some(why);
                }
            }
            Notice::Stop => {}
        }
    }

    fn sighted(&mut self, sighting: Sighting) {
        let Sighting { program, provider, by, seen, at_unix_nanos } = sighting;
        let is_new = !self.registry.knows(&program.key);
        let evidence = Evidence { provider, by, seen, last_seen_unix_nanos: at_unix_nanos };
        if !self.registry.sighted(&program, evidence) {
            self.parts.losses.add(Loss::WorkloadLimit, 1);
            return;
        }
        if is_new {
            tracing::debug!(key = %program.key.0, name = %program.name, "discovered a program that talks to a model");
            // Its other processes have been passed by until now.
            self.passed.clear();
        }
        self.is_changed();
    }

    /// A process that runs a program of a watched workload is watched at once; to look at every
    /// program that starts would cost more than it gives.
    fn started(&mut self, process: ProcessId, how: Start) {
        self.passed.remove(&process.pid);
        if how == Start::Executed {
            // The kernel's side took its probes off: it is another program.
            self.watches.remove(&process.pid);
        }
        let executable = self.parts.programs.node(|node| node.executable(process.pid)).flatten();
        let is_like_ours =
            executable.is_some_and(|executable| self.executables().contains(&executable));
        if is_like_ours && let Some(program) = self.parts.programs.read(process.pid) {
            self.registry.joined(&program);
        } else {
            self.registry.left(process.pid);
        }
    }

    /// Executables of workloads that are wanted; where none runs, of all that are known.
    fn executables(&self) -> BTreeSet<String> {
        let is_wanted = |key: &Key| self.desired.get(key).is_some_and(|level| *level > Level::Off);
        let wanted = self.registry.workloads().iter().filter(|(key, _)| is_wanted(key));
        wanted.flat_map(|(_, workload)| workload.executables.iter().cloned()).collect()
    }

    fn exited(&mut self, process: ProcessId) {
        self.passed.remove(&process.pid);
        let is_same = self
            .registry
            .running(process.pid)
            .is_some_and(|running| running.program.started_at(process.start_time));
        if is_same {
            self.registry.left(process.pid);
        }
    }

    fn wanted(&mut self, wish: Wish) {
        let desired =
            wish.desired.into_iter().map(|desired| (desired.key, desired.level)).collect();
        if self.desired != desired || self.generation != wish.generation {
            self.desired = desired;
            self.generation = wish.generation;
            // A wish is on disk before it is said to be taken over.
            self.save();
        }
        self.parts.standings.taken_over(self.generation);
    }

    /// A fork child of a watched process is watched already, whatever becomes of it.
    fn inherited(&mut self, process: ProcessId, parent: ProcessId) {
        if let Some(watch) = self.watches.get(&parent.pid) {
            let start_ticks = process.start_time / capture::TICK_NANOS;
            let watch = Watch { start_ticks, ..watch.clone() };
            self.watches.insert(process.pid, watch);
        }
    }

    fn watched(&mut self, pid: u32, start_ticks: u64, result: Result<Watched, String>) {
        let Some(watch) =
            self.watches.get_mut(&pid).filter(|watch| watch.start_ticks == start_ticks)
        else {
            return;
        };
        watch.progress = match result {
            Ok(watched) => Progress::Attached {
                libraries: watched
                    .libraries
                    .iter()
                    .map(|library| library.path.display().to_string())
                    .collect(),
                refused: watched
                    .refused
                    .first()
                    .map(|(path, reason)| format!("{reason} ({})", path.display())),
            },
            Err(error) => {
                let again_at = Moment(Now::read().monotonic.0.saturating_add(RETRY_NANOS));
                Progress::Failed { error, again_at }
            }
        };
    }

    fn attached(&mut self, pid: u32, library: String) {
        match self.watches.get_mut(&pid).map(|watch| &mut watch.progress) {
            Some(Progress::Attached { libraries, .. }) if !libraries.contains(&library) => {
                libraries.push(library);
            }
            _ => {}
        }
        // The page shows the library that the program has by now.
        if let Some(program) = self.parts.programs.read(pid) {
            self.registry.joined(&program);
        }
    }

    fn refused(&mut self, pid: u32, reason: String) {
        if let Some(Progress::Attached { refused, .. }) =
            self.watches.get_mut(&pid).map(|watch| &mut watch.progress)
        {
            *refused = Some(reason);
        }
    }

    /// Looks at all processes: finds those of known workloads, and those that are gone.
    fn scan(&mut self) {
        let programs = Arc::clone(&self.parts.programs);
        let start = |pid: u32| programs.node(|node| node.start_ticks(pid)).flatten();
        let Some(pids) = programs.node(workloads::Node::pids) else { return };
        for (pid, start_ticks) in self.registry.processes() {
            if start(pid) != Some(start_ticks) {
                self.registry.left(pid);
            }
        }
        if self.registry.workloads().is_empty() {
            return;
        }
        let newest = pids.iter().filter_map(|pid| start(*pid)).max().unwrap_or_default();
        for pid in pids {
            let Some(start_ticks) = start(pid) else { continue };
            if self.registry.running(pid).is_some() || self.passed.get(&pid) == Some(&start_ticks) {
                continue;
            }
            match programs.read(pid) {
                Some(program) if self.registry.knows(&program.key) => {
                    self.registry.joined(&program);
                }
                _ => {
                    programs.forget(pid);
                    if newest.saturating_sub(start_ticks) >= SETTLED_TICKS {
                        self.passed.insert(pid, start_ticks);
                    }
                }
            }
        }
        self.passed.retain(|pid, start_ticks| start(*pid) == Some(*start_ticks));
    }

    fn world(&self) -> World<'_> {
        World {
            workloads: self.registry.workloads(),
            desired: &self.desired,
            watches: &self.watches,
            ability: &self.parts.ability,
        }
    }

    fn reconcile(&mut self, now: Moment) {
        for step in reconcile::plan(self.world(), now) {
            tracing::debug!(pid = step.pid, action = ?step.action, reason = step.reason, "step");
            if !(self.parts.carry_out)(&step) {
                // The next round plans it again.
                continue;
            }
            match step.action {
                Action::Watch => {
                    self.watches.insert(step.pid, Watch::asked(step.start_ticks));
                }
                Action::Unwatch => {
                    self.watches.remove(&step.pid);
                }
            }
        }
    }

    fn publish(&mut self, now: Instant) {
        let observed = self.observed();
        let is_news = !is_same_but_for_times(&observed, &self.published);
        let times_are_due =
            self.published_at.is_none_or(|at| now.saturating_duration_since(at) >= TIMES_EVERY);
        if is_news || (times_are_due && observed != self.published) {
            self.published.clone_from(&observed);
            self.published_at = Some(now);
            self.parts
                .standings
                .publish(Published { workloads: observed, desired: self.desired.clone() });
        }
    }

    fn observed(&self) -> Vec<Observed> {
        let world = self.world();
        let observed = self.registry.workloads().iter().map(|(key, workload)| {
            let standing = reconcile::standing(world, key, workload);
            let instances = workload
                .instances
                .values()
                .take(MAX_REPORTED)
                .map(|running| running.program.instance.clone());
            Observed {
                key: key.clone(),
                name: workload.name.clone(),
                platform: workload.platform,
                instances: instances.collect(),
                evidence: workload.evidence.clone(),
                level: standing.level,
                state: standing.state,
                reason: standing.reason,
                first_seen_unix_nanos: workload.first_seen_unix_nanos,
                last_seen_unix_nanos: workload.last_seen_unix_nanos,
                attributes: workload.attributes.clone(),
            }
        });
        observed.collect()
    }

    #[expect(clippy::disallowed_methods, reason = "the event loop reads the clock")]
    fn is_changed(&mut self) {
        self.is_unsaved.get_or_insert_with(Instant::now);
    }

    fn save_if_due(&mut self, now: Instant) {
        if self.is_unsaved.is_some_and(|since| now >= since + SAVE_AFTER) {
            self.save();
        }
    }

    fn save(&mut self) {
        self.is_unsaved = None;
        let Some(store) = &self.parts.store else { return };
        if let Err(error) = store.save(&self.registry.to_keep(self.generation, &self.desired)) {
            tracing::error!(%error, "cannot write to the data directory; a restart would forget what is wanted");
        }
    }
}

fn is_same_but_for_times(left: &[Observed], right: &[Observed]) -> bool {
    let without_times = |observed: &Observed| {
        let mut observed = observed.clone();
        observed.last_seen_unix_nanos = 0;
        for evidence in &mut observed.evidence {
            evidence.last_seen_unix_nanos = 0;
        }
        observed
    };
    left.len() == right.len()
        && left.iter().zip(right).all(|(left, right)| without_times(left) == without_times(right))
}
