//! The loop that decides: takes notices of what happened and of what is wanted, keeps the registry,
//! carries out what `reconcile::plan` says, and publishes how things stand.

mod changes;
mod processes;
mod publish;
mod sightings;
mod watches;
mod wishes;

use crate::bystanders::Bystanders;
use crate::clock::Now;
use crate::explain;
use crate::given::Given;
use crate::limits::{Loss, Losses};
use crate::programs::Programs;
use crate::reconcile::{self, Ability, Step, Watch, World};
use crate::registry::{Kept, Presence, Registry, Store, Wishes};
use crate::rules::{Chooser, Rulebook};
use crate::standing::Standings;
use crate::taking::Asked;
use crate::tuning::Tuning;
use capture::{ProcessId, Start, Watched};
use contract::capture::Level;
use contract::poll::Wish;
use contract::rules::{Rule, Rules};
use contract::workload::{Agent, By, Key, Observed};
use genai::Providers;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use wire::Moment;
use workloads::Program;

/// Notices that wait; one is a few hundred bytes.
const MAX_NOTICES: usize = 4_096;

/// How long what changed waits for more before it is written to disk.
const SAVE_AFTER: Duration = Duration::from_millis(500);

/// How often known processes are checked where the kernel tells of their ends, and old workloads are
/// forgotten: only what the kernel could not tell is found so.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// Something that the loop has to know.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A program was seen to talk to a model.
    Sighted(Sighting),
    /// A process that was seen to ask for a name only passes on what another asks.
    Relays { process: ProcessId, name: String },
    /// A process was forked, or began to run another program.
    Started { process: ProcessId, parent: ProcessId, how: Start, watched: bool },
    /// A process ended.
    Exited(ProcessId),
    /// What the dashboard wants.
    Wanted(Box<Wish>),
    /// How the controller works is set anew.
    Tuned,
    /// How the SDKs in programs stand.
    Agents(BTreeMap<Key, Agent>),
    /// A step asks for a change.
    Change(Asked),
    /// A container has another name than before, or one at all.
    ContainerNamed(String),
    /// What became of a step.
    Watched { pid: u32, start_ticks: u64, result: Result<Watched, String> },
    /// A watched process got another library that is read.
    Attached { pid: u32, library: String },
    /// A watched process has a library that no probe could be set in.
    Refused { pid: u32, reason: String },
    /// A process talks to a known provider in a way that cannot be read.
    Unreadable { process: ProcessId, why: &'static str },
    /// Somebody wants to know why.
    Asked(explain::Question),
    /// Stop.
    Stop,
}

/// A program that was seen to talk to a model, and how.
#[derive(Debug)]
pub(crate) struct Sighting {
    pub(crate) program: Arc<Program>,
    pub(crate) presence: Presence,
    pub(crate) provider: String,
    /// The model that was asked, where a call was read.
    pub(crate) model: Option<String>,
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
    /// Rules of this node's own configuration.
    pub(crate) rules: Rules,
    /// Wishes of this node's own configuration.
    pub(crate) own_wishes: Vec<Rule>,
    /// How the controller works.
    pub(crate) tuning: Tuning,
    /// SDKs that were put into programs before.
    pub(crate) agents: BTreeMap<Key, Agent>,
    /// Names that people gave, for those who send calls.
    pub(crate) given: Given,
    /// Carries out a step; `false` when it cannot be handed over now.
    pub(crate) carry_out: Box<dyn Fn(&Step) -> bool + Send>,
    /// Says whether anybody is to be watched; `false` when it cannot be handed over now.
    pub(crate) make_ready: Box<dyn Fn(bool) -> bool + Send>,
    /// Tells who serves models, when that changed.
    pub(crate) tell_providers: Box<dyn Fn(Providers) + Send>,
    /// Hands a process over that may serve models itself.
    pub(crate) may_serve: Box<dyn Fn(ProcessId) + Send>,
    /// How often processes are looked for; `None` where the kernel tells of each.
    pub(crate) scan_every: Option<Duration>,
}

/// The loop, running.
struct Running {
    parts: Loop,
    registry: Registry,
    wishes: Wishes,
    /// Level that holds for each workload, by `wishes`, the own wishes and the configuration.
    desired: BTreeMap<Key, Level>,
    own_wishes: Chooser,
    book: Rulebook,
    watches: BTreeMap<u32, Watch>,
    /// Whether the kernel's side was told that somebody is to be watched.
    is_ready: bool,
    agents: BTreeMap<Key, Agent>,
    bystanders: Bystanders,
    /// Processes that began to run a program that may be a known one, and when to look at them.
    later: VecDeque<(Instant, ProcessId)>,
    /// When to look for other processes of workloads that are new.
    look_due: Option<Instant>,
    looked_at: Option<Instant>,
    /// Notices that were refused, when that was last looked at.
    refused_notices: u64,
    /// Whether anything happened that a plan or a report can depend on.
    has_news: bool,
    is_unsaved: Option<Instant>,
    cannot_save: bool,
    published: Vec<Observed>,
    published_full: BTreeMap<Key, u64>,
    published_at: Option<Instant>,
}

impl Notices {
    /// Makes the entry and its other end.
    pub(crate) fn channel(losses: Arc<Losses>) -> (Self, Receiver<Notice>) {
        let (entry, notices) = sync_channel(MAX_NOTICES);
        (Self { entry, losses }, notices)
    }

    /// Hands a notice over; when there are too many it is counted and dropped, and the loop looks for
    /// itself what it would have said.
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
            wishes: kept.wishes(),
            desired: BTreeMap::new(),
            own_wishes: Chooser::new(&self.own_wishes, |id| self.programs.user(id)),
            book: Rulebook::default(),
            watches: BTreeMap::new(),
            is_ready: false,
            agents: self.agents.clone(),
            bystanders: Bystanders::default(),
            later: VecDeque::new(),
            look_due: None,
            looked_at: None,
            refused_notices: 0,
            has_news: true,
            is_unsaved: None,
            cannot_save: false,
            published: Vec::new(),
            published_full: BTreeMap::new(),
            published_at: None,
            parts: self,
        };
        running.run(notices);
    }
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "the event loop reads the clock")]
    fn run(&mut self, notices: &Receiver<Notice>) {
        self.parts.standings.taken_over(self.wishes.generation);
        self.want();
        self.obey_rules();
        self.look();
        let mut check_due = Instant::now() + self.pace();
        loop {
            let now = Instant::now();
            if now >= check_due {
                self.check();
                check_due = now + self.pace();
            }
            self.look_later(now);
            let moment = Now::read().monotonic;
            let is_due = reconcile::next_try(self.world()).is_some_and(|again| again <= moment);
            if std::mem::take(&mut self.has_news) || is_due {
                self.want();
                self.reconcile(moment);
                self.publish(now);
            } else if self.times_due(now) == Some(Duration::ZERO) {
                self.publish(now);
            }
            self.save_if_due(now);
            match notices.recv_timeout(self.patience(now, check_due)) {
                Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(notice) => {
                    self.take(notice, now);
                    // Notices come in bursts: plan once for all that are here.
                    for notice in notices.try_iter().take(MAX_NOTICES) {
                        if matches!(notice, Notice::Stop) {
                            self.save();
                            return;
                        }
                        self.take(notice, now);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.save();
    }

    fn pace(&self) -> Duration {
        let set = self.parts.tuning.settings().rescan_seconds;
        set.map(|seconds| Duration::from_secs(seconds.into()))
            .or(self.parts.scan_every)
            .unwrap_or(CHECK_EVERY)
    }

    /// How long nothing is due.
    fn patience(&self, now: Instant, check_due: Instant) -> Duration {
        let until = |at: Instant| at.saturating_duration_since(now);
        let retry = reconcile::next_try(self.world())
            .map(|again| Duration::from_nanos(again.0.saturating_sub(Now::read().monotonic.0)));
        [
            Some(until(check_due)),
            self.is_unsaved.map(|since| until(since + SAVE_AFTER)),
            self.later.front().map(|(at, _)| until(*at)),
            self.look_due.map(until),
            self.times_due(now),
            retry,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or_default()
        .max(Duration::from_millis(5))
    }

    fn take(&mut self, notice: Notice, now: Instant) {
        // Most processes that start and end are nobody's business.
        self.has_news |= !matches!(notice, Notice::Started { .. } | Notice::Exited(_));
        match notice {
            Notice::Sighted(sighting) => self.sighted(sighting, now),
            Notice::Relays { process, name } => self.relays(process, &name),
            Notice::Started { process, parent, how, watched } => {
                if watched {
                    self.inherited(process, parent);
                }
                self.started(process, how, now);
            }
            Notice::Exited(process) => self.exited(process),
            Notice::Wanted(wish) => self.wanted(*wish),
            Notice::Tuned => {}
            Notice::Agents(agents) => self.agents = agents,
            Notice::Change(asked) => self.change(asked),
            Notice::ContainerNamed(container) => self.container_named(&container),
            Notice::Watched { pid, start_ticks, result } => self.watched(pid, start_ticks, result),
            Notice::Attached { pid, library } => self.attached(pid, library),
            Notice::Refused { pid, reason } => self.refused(pid, reason),
            Notice::Unreadable { process, why } => {
                if let Some(watch) = self.watches.get_mut(&process.pid) {
                    watch.unreadable = Some(why);
                }
            }
            Notice::Asked(question) => self.explain(question),
            Notice::Stop => {}
        }
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
        let is_wanted = self.desired.values().any(|level| *level > Level::Off);
        let is_due = is_wanted != self.is_ready && (is_wanted || self.watches.is_empty());
        if is_due {
            let is_told = (self.parts.make_ready)(is_wanted);
            self.is_ready = if is_told { is_wanted } else { self.is_ready };
            self.has_news |= !is_told;
        }
        for step in reconcile::plan(self.world(), now) {
            tracing::debug!(pid = step.pid, action = ?step.action, reason = step.reason, "step");
            // One that cannot be handed over is planned again by the next round.
            if (self.parts.carry_out)(&step) {
                self.took(&step);
            } else {
                self.has_news = true;
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the event loop reads the clock")]
    fn is_changed(&mut self) {
        self.has_news = true;
        self.is_unsaved.get_or_insert_with(Instant::now);
    }

    fn save_if_due(&mut self, now: Instant) {
        for (loss, number) in self.registry.take_forgotten() {
            self.parts.losses.add(loss, number);
        }
        if self.is_unsaved.is_some_and(|since| now >= since + SAVE_AFTER) {
            self.save();
        }
    }

    fn save(&mut self) {
        match self.try_save() {
            Ok(()) => self.cannot_save = false,
            // Said once; it is tried again with the next change, and at the stop.
            Err(_) if self.cannot_save => {}
            Err(error) => {
                self.cannot_save = true;
                tracing::error!(%error, "cannot write to the data directory; a restart would forget what is wanted");
            }
        }
    }

    fn try_save(&mut self) -> std::io::Result<()> {
        self.is_unsaved = None;
        let Some(store) = &self.parts.store else { return Ok(()) };
        store.save(&self.registry.to_keep(&self.wishes))
    }
}
