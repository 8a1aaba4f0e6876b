//! The SDK in programs: what is wanted, what was changed for it, and how that goes.
//!
//! One thread owns it. Which way a workload goes is decided by the table of `contract::reconcile`, as
//! for the kernel's capture; how a platform's object is changed is `injector`'s. What is changed is on
//! disk before it is touched, so that a crash at any moment ends in one of two states: as it was, or
//! as it is wished.

mod kept;
mod processes;
mod restore;

use crate::ceilings::Ceilings;
use crate::clock::Now;
use crate::config::{Agents, Token};
use crate::event_loop::{Notice, Notices};
use crate::standing::{Published, Standings};
use crate::tuning::Tuning;
use contract::attribute;
use contract::capture::State;
use contract::reconcile::{Case, Feature, Found, Outcome, pause, reconcile};
use contract::step::Change as Word;
use contract::workload::{Agent, AgentProgress, Key, Observed, Platform};
use injector::bundle::Bundle;
use injector::environment::Injection;
use injector::plan::{Kind, Plan, Refusal};
use injector::{Hands, Health, Target, Undone};
pub(crate) use kept::Records;
use kept::{Phase, Record, Why};
pub use restore::{Restored, changed, restore};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// How often a change that was just made is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How often a change that is in effect is looked at: whether somebody took it out.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// How much longer than the window a program may take to come up.
const SLOW_START_NANOS: u64 = 180_000_000_000;

/// Questions that wait.
const MAX_QUESTIONS: usize = 16;

const SECOND: u64 = 1_000_000_000;

/// What would be changed, as text; or why nothing is, and how a person does it, where one can.
pub(crate) type Previewed = Result<String, (String, String)>;

/// Somebody who wants to know what would be changed.
#[derive(Debug)]
struct Question {
    key: Key,
    reply: SyncSender<Previewed>,
}

/// Those who wait for an answer.
#[derive(Debug)]
pub(crate) struct Questions(Receiver<Question>);

/// The way to ask.
#[derive(Debug, Clone)]
pub(crate) struct Previews {
    questions: SyncSender<Question>,
    standings: Standings,
}

/// What the thread needs.
#[derive(Debug)]
pub(crate) struct Injections {
    pub(crate) standings: Standings,
    pub(crate) notices: Notices,
    pub(crate) ceilings: Ceilings,
    pub(crate) tuning: Tuning,
    /// How programs are told to send; why they cannot be, and what to do.
    pub(crate) agents: Result<Agents, String>,
    pub(crate) records: Records,
    pub(crate) hands: Hands,
    /// Root directory of the node.
    pub(crate) root: PathBuf,
    pub(crate) host_name: String,
    pub(crate) questions: Questions,
}

/// Tries that failed since a wish was made.
#[derive(Debug, Clone, Default)]
struct Tries {
    generation: u64,
    failures: u32,
    failed_at: u64,
    /// What was found that stands in the way, and of which processes.
    refusal: Option<(Refusal, Vec<u32>)>,
    /// What the last try said.
    said: String,
}

/// The thread, running.
struct Running {
    parts: Injections,
    tries: HashMap<Key, Tries>,
    told: BTreeMap<Key, Agent>,
    /// Wishes that were looked at last.
    wanted: BTreeMap<Key, u64>,
    looked_at: u64,
    bundle: Option<String>,
    has_told: bool,
}

impl Previews {
    /// A way to ask, and what answers.
    pub(crate) fn channel(standings: Standings) -> (Self, Questions) {
        let (questions, asked) = sync_channel(MAX_QUESTIONS);
        (Self { questions, standings }, Questions(asked))
    }

    /// What would be changed for a workload, as text for people.
    ///
    /// # Errors
    ///
    /// Why nothing would be, and what to do.
    pub(crate) fn ask(&self, key: &Key, patience: Duration) -> Previewed {
        let busy = "The controller is busy or stops; ask again.";
        let (reply, answer) = sync_channel(1);
        let is_busy = || (busy.to_owned(), String::new());
        let asked = self.questions.try_send(Question { key: key.clone(), reply });
        asked.ok().ok_or_else(is_busy)?;
        self.standings.nudge();
        answer.recv_timeout(patience).ok().ok_or_else(is_busy)?
    }
}

impl Injections {
    /// Runs until the stop.
    pub(crate) fn run(self) {
        let mut running = Running {
            parts: self,
            tries: HashMap::new(),
            told: BTreeMap::new(),
            wanted: BTreeMap::new(),
            looked_at: 0,
            bundle: None,
            has_told: false,
        };
        running.recover();
        loop {
            let (version, published) = running.parts.standings.latest();
            running.look(&published, Now::read().unix_nanos);
            running.answer(&published);
            let patience = if running.is_watching() { WATCH_EVERY } else { LOOK_EVERY };
            if !running.parts.standings.wait(version, patience) {
                return;
            }
            // What was asked for comes in bursts.
            if !running.parts.standings.sleep(Duration::from_millis(50)) {
                return;
            }
        }
    }
}

impl Running {
    /// What was under way when the controller ended is taken back; then it is planned anew.
    fn recover(&mut self) {
        let making = self.parts.records.all().iter();
        let making = making.filter(|(_, record)| record.phase == Phase::Making);
        let keys: Vec<Key> = making.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.advance(&key, Phase::Undoing(Why::Interrupted));
        }
    }

    fn is_watching(&self) -> bool {
        self.parts.records.all().values().any(|record| {
            matches!(record.phase, Phase::Making | Phase::Watched { .. } | Phase::Undoing(_))
        })
    }

    fn answer(&mut self, published: &Published) {
        loop {
            let Ok(question) = self.parts.questions.0.try_recv() else { return };
            let observed = published.workloads.iter().find(|it| it.key == question.key);
            let answer = match observed {
                None => Err(("No workload of this node has this key.".to_owned(), String::new())),
                Some(observed) => self.preview(observed),
            };
            // Who asked may have given up.
            question.reply.try_send(answer).unwrap_or_default();
        }
    }

    fn preview(&mut self, observed: &Observed) -> Previewed {
        if let Some(record) = self.parts.records.get(&observed.key).filter(|it| it.is_in_effect()) {
            return Ok(format!(
                "It is in effect already; this was changed:\n{}",
                record.difference
            ));
        }
        if let Some(reason) = self.forbidden(observed) {
            return Err((reason, String::new()));
        }
        let plan = self
            .plan(observed)
            .map_err(|refusal| {
                let by_hand = injector::plan::by_hand(&refusal.by_hand);
                (refusal.reason, by_hand)
            })?
            .1;
        Ok(plan.text())
    }

    /// Looks at all workloads for which something is wanted or was changed.
    fn look(&mut self, published: &Published, now: u64) {
        let is_due = now.saturating_sub(self.looked_at) >= nanos(LOOK_EVERY);
        if is_due {
            self.looked_at = now;
        }
        let mut keys: Vec<Key> = published.full.keys().cloned().collect();
        keys.extend(
            self.parts
                .records
                .all()
                .keys()
                .filter(|key| !published.full.contains_key(key))
                .cloned(),
        );
        let mut told = BTreeMap::new();
        for key in keys {
            let observed = published.workloads.iter().find(|observed| observed.key == key);
            self.check(&key, is_due, now);
            if let Some(agent) = self.one(&key, observed, published.full.get(&key).copied(), now) {
                told.insert(key, agent);
            }
        }
        self.tries.retain(|key, _| published.full.contains_key(key) || told.contains_key(key));
        // What is told first replaces what was said before anything was looked at.
        if !self.has_told || told != self.told || published.full != self.wanted {
            self.has_told = true;
            self.wanted.clone_from(&published.full);
            self.told.clone_from(&told);
            self.parts.notices.send_surely(Notice::Agents(told));
        }
    }

    /// How a change is doing that was made.
    fn check(&mut self, key: &Key, is_due: bool, now: u64) {
        let Some(record) = self.parts.records.get(key).cloned() else { return };
        let since = match record.phase {
            Phase::Watched { since_unix_nanos } => since_unix_nanos,
            Phase::InEffect if is_due => 0,
            _ => return,
        };
        let window = self.window();
        let health = match self.parts.hands.health(&record.change) {
            Ok(health) => health,
            Err(error) => {
                tracing::debug!(key = %key.0, error, "cannot look at a changed workload");
                return;
            }
        };
        let age = now.saturating_sub(since);
        match health {
            Health::Good if since > 0 && age >= window => self.advance(key, Phase::InEffect),
            Health::Starting if since > 0 && age >= window + SLOW_START_NANOS => {
                let reason = "it did not come up in time".to_owned();
                self.advance(key, Phase::Undoing(Why::Unwell { reason }));
            }
            // Once it was well, what goes wrong with it is the program's own.
            Health::Bad(reason) if since > 0 => {
                self.advance(key, Phase::Undoing(Why::Unwell { reason }));
            }
            Health::Reverted(reason) => {
                self.advance(key, Phase::Undoing(Why::Reverted { reason }));
            }
            Health::Good | Health::Starting | Health::Bad(_) | Health::Stopped => {}
        }
    }

    /// Takes the next step for one workload, and says how it stands.
    fn one(
        &mut self,
        key: &Key,
        observed: Option<&Observed>,
        wanted: Option<u64>,
        now: u64,
    ) -> Option<Agent> {
        self.finish(key, now);
        let tries = self.tries.entry(key.clone()).or_default();
        if wanted.is_some_and(|generation| generation > tries.generation) {
            *tries = Tries { generation: wanted.unwrap_or_default(), ..Tries::default() };
        }
        let forbidden = observed.and_then(|observed| self.forbidden(observed));
        let found = self.found(key, observed, wanted);
        let tries = self.tries.entry(key.clone()).or_default().clone();
        let is_under_way = self
            .parts
            .records
            .get(key)
            .is_some_and(|record| matches!(record.phase, Phase::Making | Phase::Undoing(_)));
        let case = Case {
            feature: Feature::Agent,
            // What came to be forbidden while it was on is ended like what is not wanted any more.
            wanted: Some(wanted.is_some() && (forbidden.is_none() || found != Found::Ours)),
            found,
            is_allowed: forbidden.is_none(),
            is_under_way,
            failures: tries.failures,
            failed_at: tries.failed_at,
        };
        let outcome = reconcile(&case, now);
        if let Outcome::Act { change, .. } = outcome {
            if self.parts.tuning.settings().freeze == Some(true) {
                let reason = "The fleet is frozen: no SDK is put into programs, and none is taken out, until that is lifted in Settings.";
                return Some(self.agent(key, observed, State::Blocked, reason.to_owned()));
            }
            match (change, observed) {
                (Word::EnableSdk, Some(observed)) => {
                    self.enable(observed, wanted.unwrap_or_default(), now);
                }
                _ => self.advance(key, Phase::Undoing(Why::NotWanted)),
            }
            self.finish(key, now);
            return self.stands(key, observed, wanted);
        }
        let (state, reason) = match outcome {
            Outcome::Rest { state, reason } | Outcome::Wait { state, reason, .. } => {
                (state, reason)
            }
            Outcome::Act { reason, .. } => (State::Pending, reason),
        };
        if wanted.is_none() && !self.parts.records.get(key).is_some_and(Record::is_in_effect) {
            return None;
        }
        let refused = tries.refusal.map(|(refusal, _)| refusal.reason);
        let reason = match state {
            State::Capturing => return self.stands(key, observed, wanted),
            State::Blocked => forbidden.unwrap_or_else(|| reason.to_owned()),
            State::Conflict | State::Unsupported => refused.unwrap_or_else(|| reason.to_owned()),
            State::Failed => format!("{reason} {}", refused.unwrap_or(tries.said)),
            State::Unhealthy | State::Drifted => {
                match self.parts.records.get(key).map(|it| &it.phase) {
                    Some(Phase::RolledBack { reason: why } | Phase::Reverted { reason: why }) => {
                        format!("{reason} ({why})")
                    }
                    _ => reason.to_owned(),
                }
            }
            _ => reason.to_owned(),
        };
        Some(self.agent(key, observed, state, reason))
    }

    /// What is there of the SDK, as the table of decisions asks.
    fn found(&mut self, key: &Key, observed: Option<&Observed>, wanted: Option<u64>) -> Found {
        let generation = wanted.unwrap_or_default();
        match self.parts.records.get(key).map(|record| (&record.phase, record.generation)) {
            Some((Phase::RolledBack { .. }, of)) if of >= generation => return Found::Unhealthy,
            Some((Phase::Reverted { .. }, of)) if of >= generation => return Found::Reverted,
            Some((Phase::RolledBack { .. } | Phase::Reverted { .. }, _)) | None => {}
            Some(_) => return Found::Ours,
        }
        let Some(observed) = observed.filter(|it| !it.instances.is_empty()) else {
            return Found::Stopped;
        };
        let pids = pids(observed);
        let tries = self.tries.entry(key.clone()).or_default();
        // Other processes may be another program by now.
        if tries.refusal.as_ref().is_some_and(|(_, of)| *of != pids) {
            tries.refusal = None;
        }
        match &tries.refusal {
            Some((Refusal { kind: Kind::Unsupported, .. }, _)) => Found::Unsupported,
            Some((Refusal { kind: Kind::Conflict, .. }, _)) => Found::Conflict,
            _ => Found::Off,
        }
    }

    /// Why the node's own configuration, or the program itself, forbids it.
    fn forbidden(&self, observed: &Observed) -> Option<String> {
        let parts = &self.parts;
        parts
            .ceilings
            .forbids_injection()
            .map(str::to_owned)
            .or_else(|| {
                parts.ceilings.forbids_capture(
                    &observed.key,
                    observed.platform,
                    &observed.attributes,
                )
            })
            .or_else(|| parts.agents.as_ref().err().cloned())
            .or_else(|| {
                let tries = self.tries.get(&observed.key)?;
                let (refusal, _) = tries.refusal.as_ref()?;
                (refusal.kind == Kind::Blocked).then(|| refusal.reason.clone())
            })
    }

    fn plan(&mut self, observed: &Observed) -> Result<(Target, Plan), Refusal> {
        // Nothing is laid down for what cannot be changed anyway.
        let target = target(observed)?;
        let bundle = match (&target, &self.parts.agents) {
            (Target::Container { .. }, Ok(agents)) => agents.bundle.clone(),
            _ => self.bundle()?,
        };
        let agents = self.parts.agents.as_ref();
        let agents = agents.map_err(|reason| Refusal::blocked("no_agent", reason.clone()))?;
        let injection = injection(agents, bundle, observed, &self.parts.host_name);
        let runtime = observed.instances.iter().find_map(|instance| instance.runtime.as_ref());
        let runtime =
            (runtime.map(|it| it.name.as_str()), runtime.and_then(|it| it.version.as_deref()));
        let plan = self.parts.hands.plan(&target, runtime, &injection)?;
        Ok((target, plan))
    }

    /// The directory of the bundle, as programs of the node see it; laid down when it is first needed.
    fn bundle(&mut self) -> Result<String, Refusal> {
        if let Some(bundle) = &self.bundle {
            return Ok(bundle.clone());
        }
        let agents = self.parts.agents.as_ref();
        let agents = agents.map_err(|reason| Refusal::blocked("no_agent", reason.clone()))?;
        let cannot = |error: &dyn std::fmt::Display| {
            Refusal::not_now(
                "no_bundle",
                format!(
                    "The SDK cannot be laid down at {}: {error}; name a place with --agent-bundle that can be written.",
                    agents.bundle
                ),
            )
        };
        let embedded = Bundle::embedded().map_err(|error| cannot(&error))?;
        let Some(embedded) = embedded else {
            return Err(Refusal::blocked(
                "no_bundle",
                "This controller was built without the SDK; install a released one, or run `./dev agents` before building.",
            ));
        };
        let link = self.parts.root.join(agents.bundle.trim_start_matches('/'));
        let directory = embedded.install(&link).map_err(|error| cannot(&error))?;
        let below = directory.strip_prefix(&self.parts.root).unwrap_or(&directory);
        let bundle = Path::new("/").join(below).display().to_string();
        self.bundle = Some(bundle.clone());
        Ok(bundle)
    }

    /// Puts the SDK in.
    fn enable(&mut self, observed: &Observed, generation: u64, now: u64) {
        let key = &observed.key;
        let (target, plan) = match self.plan(observed) {
            Ok(planned) => planned,
            Err(refusal) => {
                let tries = self.tries.entry(key.clone()).or_default();
                if refusal.kind == Kind::NotNow {
                    tries.failures += 1;
                    tries.failed_at = now;
                }
                tries.refusal = Some((refusal, pids(observed)));
                return;
            }
        };
        let difference = plan.difference();
        let record =
            Record { target, change: plan.change, difference, generation, phase: Phase::Making };
        // What is not on disk must not have an effect: nobody could take it back.
        if let Err(error) = self.parts.records.put(key, record.clone()) {
            self.failed(
                key,
                format!("The node cannot write to its disk ({error}); make room there."),
                now,
            );
            return;
        }
        tracing::info!(key = %key.0, "puts the SDK in");
        match self.parts.hands.make(&record.change) {
            Ok(()) => {
                let since_unix_nanos = Now::read().unix_nanos;
                self.advance(key, Phase::Watched { since_unix_nanos });
            }
            Err(reason) => self.advance(key, Phase::Undoing(Why::Unwell { reason })),
        }
    }

    /// Takes back what is to be; what fails is tried again after a pause.
    fn finish(&mut self, key: &Key, now: u64) {
        let Some(record) = self.parts.records.get(key).cloned() else { return };
        let Phase::Undoing(why) = &record.phase else { return };
        let tries = self.tries.entry(key.clone()).or_default();
        if tries.failures > 0 && now < tries.failed_at.saturating_add(pause(tries.failures)) {
            return;
        }
        let revive = matches!(why, Why::Unwell { .. } | Why::Interrupted);
        match self.parts.hands.undo(&record.change, revive) {
            Err(error) => self.failed(key, error, now),
            Ok(undone) => {
                let kept = match undone {
                    Undone::Exactly => String::new(),
                    Undone::Ours(kept) => format!("; {kept}"),
                };
                tracing::info!(key = %key.0, ?why, kept, "took the SDK out");
                if let Some(tries) = self.tries.get_mut(key) {
                    (tries.failures, tries.failed_at) = (0, 0);
                }
                match why.clone() {
                    Why::NotWanted | Why::Interrupted => {
                        if let Err(error) = self.parts.records.forget(key) {
                            tracing::error!(%error, "cannot write to the data directory");
                        }
                    }
                    Why::Unwell { reason } => {
                        self.advance(key, Phase::RolledBack { reason: format!("{reason}{kept}") });
                    }
                    Why::Reverted { reason } => {
                        self.advance(key, Phase::Reverted { reason: format!("{reason}{kept}") });
                    }
                }
            }
        }
    }

    fn failed(&mut self, key: &Key, said: String, now: u64) {
        tracing::warn!(key = %key.0, said, "cannot change a workload");
        let tries = self.tries.entry(key.clone()).or_default();
        tries.failures += 1;
        tries.failed_at = now;
        tries.said = said;
    }

    fn advance(&mut self, key: &Key, phase: Phase) {
        // What cannot be noted is noted with the next step; each of them may be taken twice.
        if let Err(error) = self.parts.records.advance(key, phase) {
            tracing::error!(%error, "cannot write to the data directory");
        }
    }

    /// How a workload stands whose change was made, or is being made or taken back.
    fn stands(&self, key: &Key, observed: Option<&Observed>, wanted: Option<u64>) -> Option<Agent> {
        let Some(record) = self.parts.records.get(key) else {
            let tries = self.tries.get(key)?;
            wanted?;
            let reason = match &tries.refusal {
                Some((refusal, _)) => refusal.reason.clone(),
                None => tries.said.clone(),
            };
            let state = match tries.refusal.as_ref().map(|(refusal, _)| refusal.kind) {
                Some(Kind::Unsupported) => State::Unsupported,
                Some(Kind::Conflict) => State::Conflict,
                Some(Kind::Blocked) => State::Blocked,
                Some(Kind::NotNow) | None => State::Failed,
            };
            return Some(self.agent(key, observed, state, reason));
        };
        let (state, reason) = match &record.phase {
            Phase::Making => (State::Pending, "It is being restarted with the SDK.".to_owned()),
            Phase::Watched { since_unix_nanos } => {
                let over = since_unix_nanos.saturating_add(self.window());
                let left = over.saturating_sub(Now::read().unix_nanos) / SECOND;
                let left = left.div_ceil(5) * 5;
                let reason =
                    format!("It was restarted with the SDK, and is watched for {left} s more.");
                (State::Pending, reason)
            }
            Phase::InEffect => return Some(self.in_effect(key, observed)),
            Phase::Undoing(_) => {
                let said = self.tries.get(key).map(|tries| tries.said.as_str()).unwrap_or_default();
                (
                    State::Pending,
                    format!("It is being put back as it was. {said}").trim().to_owned(),
                )
            }
            Phase::RolledBack { reason } => (
                State::Unhealthy,
                format!(
                    "It did not come up healthy with the SDK, and was put back as it was ({reason}); look at its log, then set it again."
                ),
            ),
            Phase::Reverted { reason } => (
                State::Drifted,
                format!(
                    "Somebody took the SDK out by other means ({reason}), and that is respected; set it again to put it back in."
                ),
            ),
        };
        Some(self.agent(key, observed, state, reason))
    }

    /// The change is made and well: whether the SDK is in the processes, they say themselves.
    fn in_effect(&self, key: &Key, observed: Option<&Observed>) -> Agent {
        let mut agent = self.agent(key, observed, State::Capturing, String::new());
        let count = |is: fn(AgentProgress) -> bool| {
            agent.processes.iter().filter(|process| is(process.progress)).count()
        };
        let all = agent.processes.len();
        let loaded = count(|it| matches!(it, AgentProgress::Loaded | AgentProgress::Started));
        let stood_down = agent.processes.iter().find(|it| it.progress == AgentProgress::StoodDown);
        (agent.state, agent.reason) = match (loaded, stood_down) {
            (0, _) if all == 0 => (State::Stopped, "It starts with the SDK; no process of it runs.".to_owned()),
            (0, Some(process)) => (
                State::Conflict,
                format!("The SDK left the program alone: {}; it runs on as if nothing were there.", process.detail),
            ),
            (0, None) => (
                State::Partly,
                "It was started with the SDK, and no process says that it was loaded; it may start another interpreter, or none of Python.".to_owned(),
            ),
            (1, _) => (State::Capturing, "The SDK is in its process.".to_owned()),
            (loaded, _) => (State::Capturing, format!("The SDK is in {loaded} of its processes.")),
        };
        agent
    }

    fn agent(&self, key: &Key, observed: Option<&Observed>, state: State, reason: String) -> Agent {
        let record = self.parts.records.get(key).filter(|record| record.is_in_effect());
        let processes = match (record, observed) {
            (Some(_), Some(observed)) => processes::of(&self.parts.root, observed),
            _ => Vec::new(),
        };
        let change = record.map(|record| record.difference.clone()).unwrap_or_default();
        Agent { state, reason, processes, change }
    }

    fn window(&self) -> u64 {
        let seconds = self.parts.agents.as_ref().map_or(0, |agents| agents.window_seconds);
        u64::from(seconds) * SECOND
    }
}

/// The object of its platform that is to be changed.
fn target(observed: &Observed) -> Result<Target, Refusal> {
    let place = observed.key.0.split_once('/').map_or("", |(_, place)| place);
    match observed.platform {
        Platform::Systemd => match place.strip_prefix("systemd:") {
            Some(unit) if !unit.contains('/') => Ok(Target::Unit(unit.to_owned())),
            _ => Err(Refusal::unsupported(
                "user_unit",
                "It is a unit of a user's own systemd, which is not changed; put `sonde run --` before its command.",
            )),
        },
        Platform::Process => Err(Refusal::unsupported(
            "bare_process",
            "It is a bare process, which is never restarted; start it with `sonde run -- COMMAND`.",
        )),
        Platform::Docker => {
            let first = observed.instances.iter().map(|instance| instance.pid).min();
            let service = "container.label.com.docker.compose.service";
            let service = observed.attributes.get(service).cloned();
            Ok(Target::Container { pid: first.unwrap_or_default(), service })
        }
        Platform::Kubernetes => Err(Refusal::unsupported(
            "platform",
            "Pods are not changed by this version; put `sonde run --` into their image, or set it to Network.",
        )),
    }
}

/// What the agent in a workload is told.
fn injection(agents: &Agents, bundle: String, observed: &Observed, host_name: &str) -> Injection {
    let mut attributes = vec![("host.name".to_owned(), host_name.to_owned())];
    let environment = observed.attributes.get(attribute::DEPLOYMENT_ENVIRONMENT_NAME);
    if let Some(environment) = environment.or(agents.environment.as_ref()) {
        attributes.push((attribute::DEPLOYMENT_ENVIRONMENT_NAME.to_owned(), environment.clone()));
    }
    Injection {
        bundle,
        endpoint: agents.endpoint.clone(),
        headers: agents
            .headers
            .iter()
            .map(|(name, Token(value))| (name.clone(), value.clone()))
            .collect(),
        workload_key: observed.key.0.clone(),
        service_name: Some(observed.name.clone()),
        attributes,
        capture_content: false,
    }
}

fn pids(observed: &Observed) -> Vec<u32> {
    observed.instances.iter().map(|instance| instance.pid).collect()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
