//! The poll: says how things stand, and fetches what is wanted.
//!
//! Two threads share it. One lets the node in, and holds a long poll open, so that a wish arrives the
//! moment it is made. The other alone sends reports, one after the other, so that an old one never
//! overtakes a new one. Nothing here waits for anything but the dashboard: steps are taken elsewhere.

mod admission;
mod agreed;
mod agreement;
mod deltas;
mod trouble;

use crate::clock::Now;
use crate::credential::Credential;
use crate::event_loop::{Notice, Notices};
use crate::limits::Losses;
use crate::link::{Backoff, Link};
use crate::programs::Programs;
use crate::standing::{Published, Standings};
use crate::steps::Steps;
use crate::tuning::Tuning;
use admission::lock;
use agreement::Verdict;
use contract::doctor::Fact;
use contract::poll::{Capability, Cluster, Instance, OLDEST_PROTOCOL, PROTOCOL, Report, Wish};
use deltas::Deltas;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use trouble::{Complaint, Trouble};

pub(crate) use agreed::Agreed;

/// How long the dashboard may hold the long poll; below the idle timeout of common proxies.
const WAIT_SECONDS: u32 = 25;

/// How long changes wait for more before they are reported.
const DEBOUNCE: Duration = Duration::from_millis(120);

/// Patience beyond what the dashboard was told to wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause after an answer that came at once and said nothing; it doubles up to the longest, so that a
/// dashboard that goes on like that is not flooded.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often the reporting thread looks whether the node was let in.
const ADMISSION_PAUSE: Duration = Duration::from_millis(250);

const PATH: &str = "/api/v1/poll";
const JSON: &str = "application/json";

/// What both threads need.
#[derive(Clone)]
pub(crate) struct Poll {
    pub(crate) link: Link,
    pub(crate) instance: Instance,
    pub(crate) doctor: Vec<Fact>,
    /// Knows the cluster, and how the engines of containers stand.
    pub(crate) programs: Arc<Programs>,
    pub(crate) standings: Standings,
    pub(crate) notices: Notices,
    pub(crate) losses: Arc<Losses>,
    /// What the kernel side lost, by reason.
    pub(crate) kernel_losses: KernelLosses,
    pub(crate) agreed: Arc<Agreed>,
    /// Who this node is; `None` where the way in shows it: a socket, or a token alone.
    pub(crate) credential: Option<Arc<Mutex<Credential>>>,
    /// Steps; `None` for a recording, of which nothing can be changed.
    pub(crate) steps: Option<Steps>,
    pub(crate) tuning: Tuning,
}

/// Counters of the kernel side, as it last told them.
#[derive(Debug, Clone, Default)]
pub(crate) struct KernelLosses(Arc<Mutex<BTreeMap<String, u64>>>);

impl KernelLosses {
    /// Replaces what is known.
    pub(crate) fn set(&self, losses: BTreeMap<String, u64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = losses;
    }

    fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Poll {
    /// Lets the node in, and holds a long poll open until the stop.
    pub(crate) fn fetch(self) {
        let mut backoff = Backoff::default();
        let mut complaint = Complaint::default();
        let mut wait_seconds = 0;
        let mut pause = FIRST_PAUSE;
        loop {
            let asked_at = self.count();
            let before = Now::read().monotonic;
            let result = self.enter().and_then(|()| self.ask(&self.report(wait_seconds, false)));
            if !self.standings.sleep(Duration::ZERO) {
                return;
            }
            let wait = match result {
                Ok(wish) => {
                    backoff.succeeded();
                    complaint.settle();
                    let is_news = self.take_over(wish, asked_at);
                    let took = Now::read().monotonic.0.saturating_sub(before.0);
                    let was_held = took > 1_000_000_000;
                    pause = match is_news || was_held || wait_seconds == 0 {
                        true => FIRST_PAUSE,
                        false => (pause * 2).min(LONGEST_PAUSE),
                    };
                    wait_seconds = WAIT_SECONDS;
                    pause
                }
                Err(trouble) => {
                    complaint.say(&trouble);
                    self.note(&trouble);
                    wait_seconds = 0;
                    trouble.wait(&mut backoff)
                }
            };
            if !self.standings.sleep(wait) {
                return;
            }
        }
    }

    /// Reports every change, and now and then without one, until the stop.
    pub(crate) fn tell(self) {
        let mut backoff = Backoff::default();
        let mut telling = Telling::default();
        let mut told = None;
        loop {
            let (version, _) = self.standings.latest();
            let patience = if told.is_none() { Duration::ZERO } else { self.tuning.heartbeat() };
            if !self.standings.wait(told.unwrap_or(version), patience)
                || !self.standings.sleep(DEBOUNCE)
            {
                return;
            }
            if !self.is_let_in() {
                if !self.standings.sleep(ADMISSION_PAUSE) {
                    return;
                }
                continue;
            }
            let asked_at = self.count();
            let (version, report) = telling.report(&self);
            match self.ask(&report) {
                Ok(wish) => {
                    backoff.succeeded();
                    told = Some(version);
                    telling.taken(&report);
                    let asked_at = if report.held.is_some() { self.told_held() } else { asked_at };
                    self.take_over(wish, asked_at);
                }
                Err(trouble) => {
                    // The other thread says it.
                    told = None;
                    if !self.standings.sleep(trouble.wait(&mut backoff)) {
                        return;
                    }
                }
            }
        }
    }

    pub(crate) fn report(&self, wait_seconds: u32, with_doctor: bool) -> Report {
        let mut lost = self.losses.by_reason();
        lost.extend(self.kernel_losses.all());
        let generation = self.standings.generation();
        Report {
            protocol: PROTOCOL,
            oldest_protocol: OLDEST_PROTOCOL,
            instance: self.instance(),
            generation,
            has_wishes: generation > 0,
            wait_seconds,
            doctor: with_doctor.then(|| self.facts()),
            lost,
            configuration: self.tuning.applied(),
            asks_before: self.standings.asks_before(),
            ..Report::default()
        }
    }

    fn instance(&self) -> Instance {
        let (_, published) = self.standings.latest();
        let mut platforms = Vec::new();
        for observed in &published.workloads {
            if !platforms.contains(&observed.platform) {
                platforms.push(observed.platform);
            }
        }
        let capabilities = self.capabilities();
        Instance { cluster: self.cluster(), platforms, capabilities, ..self.instance.clone() }
    }

    fn capabilities(&self) -> BTreeSet<Capability> {
        let mut capabilities = self.instance.capabilities.clone();
        if self.steps.is_some() {
            capabilities.extend([Capability::Steps, Capability::Undo, Capability::Configure]);
        }
        capabilities
    }

    /// The cluster, once an API server has told it.
    fn cluster(&self) -> Option<Cluster> {
        let id = self.programs.node(workloads::Node::cluster).flatten()?;
        Some(Cluster { id, name: None })
    }

    /// What the node allows, and how its platforms answer just now.
    fn facts(&self) -> Vec<Fact> {
        let mut facts = self.doctor.clone();
        facts.extend(self.programs.node(workloads::Node::facts).unwrap_or_default());
        facts
    }

    fn ask(&self, report: &Report) -> Result<Wish, Trouble> {
        let shown = self.shown();
        let body = serde_json::to_vec(report).map_err(Trouble::unreadable)?;
        let patience = PATIENCE + Duration::from_secs(u64::from(report.wait_seconds));
        let answer = self
            .link
            .post_with(shown.as_ref(), PATH, (JSON, body), patience)
            .map_err(Trouble::unreachable)?;
        if self.heed(shown.as_ref(), answer.status) {
            return Err(Trouble::Changed);
        }
        if !answer.is_success() {
            return Err(Trouble::Refused(answer));
        }
        let wish: Wish = serde_json::from_slice(&answer.body).map_err(Trouble::unreadable)?;
        match (OLDEST_PROTOCOL..=PROTOCOL).contains(&wish.protocol) {
            true => Ok(wish),
            false => Err(Trouble::Protocol(wish.protocol)),
        }
    }

    /// A wish on disk shows that an earlier token was good: then a person has to look, and what was
    /// wanted holds until then.
    fn note(&self, trouble: &Trouble) {
        let mut state = self.agreed.state();
        state.trouble = Some(trouble.in_words());
        let is_new = state.answered_at.is_none() && self.standings.generation() == 0;
        let was_let_in =
            self.credential.as_ref().is_some_and(|credential| lock(credential).is_enrolled());
        if trouble.is_final_refusal() && is_new && !was_let_in {
            self.agreed.is_stranger.store(true, Ordering::SeqCst);
        }
    }

    fn count(&self) -> u64 {
        let generation = self.standings.generation();
        self.agreed.state().agreement(generation).count()
    }

    /// The dashboard was told all wishes that are held; the number of a question from now on.
    fn told_held(&self) -> u64 {
        let mut state = self.agreed.state();
        let agreement = state.agreement(self.standings.generation());
        agreement.told_held();
        agreement.count()
    }

    /// Takes an answer over; true when it brought something.
    fn take_over(&self, mut wish: Wish, asked_at: u64) -> bool {
        // Before the wishes: they hold for what is there.
        if let Some(before) = wish.before.take() {
            self.standings.bring_back(before);
        }
        let mut is_news = !wish.steps.is_empty() || !wish.cancelled.is_empty();
        if let Some(steps) = &self.steps {
            steps.acknowledge(&wish.acknowledged);
            steps.cancel(&wish.cancelled);
            steps.offer(wish.steps.clone(), Now::read().monotonic);
        }
        if let Some(configuration) = &wish.configuration
            && self.steps.is_some()
        {
            self.tuning.take(configuration);
            self.notices.send_surely(Notice::Tuned);
            is_news = true;
        }
        if let Some(credential) = &self.credential {
            let mut credential = lock(credential);
            if wish.credential_kept {
                credential.kept();
                self.link.keyring().hold(credential.shown());
                tracing::info!("the credential of this node was changed");
            }
            if wish.rotate {
                credential.rotate();
            }
        }
        let handing_over = &self.agreed.handing_over;
        let turn = handing_over.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = {
            let mut state = self.agreed.state();
            state.protocol = wish.protocol;
            state.answered_at = Some(Now::read().monotonic);
            state.trouble = None;
            state.wants_all |= wish.full;
            state.note_refused(&wish.refused);
            state.agreement(self.standings.generation()).hear(&wish, asked_at)
        };
        if wish.full || wish.rotate || wish.configuration.is_some() || verdict == Verdict::TellHeld
        {
            self.standings.nudge();
        }
        if verdict == Verdict::Take {
            self.notices.send_surely(Notice::Wanted(Box::new(wish)));
            is_news = true;
        }
        drop(turn);
        is_news
    }
}

/// What the reporting thread remembers of what it told.
#[derive(Default)]
struct Telling {
    deltas: Deltas,
    doctor: Option<Vec<Fact>>,
}

impl Telling {
    /// The next report, and the version of what is published in it.
    fn report(&mut self, poll: &Poll) -> (u64, Report) {
        let (version, published): (u64, Arc<Published>) = poll.standings.latest();
        let mut report = poll.report(0, true);
        let (takes_deltas, tells_held) = {
            let mut state = poll.agreed.state();
            if std::mem::take(&mut state.wants_all) {
                self.deltas.begin_anew();
                self.doctor = None;
            }
            let protocol = state.protocol;
            (protocol >= 2, state.agreement(report.generation).is_held_asked())
        };
        self.deltas.fill(&mut report, &published, takes_deltas);
        if self.doctor == report.doctor {
            report.doctor = None;
        }
        if tells_held {
            report.held = Some(published.held.clone());
        }
        report.steps = poll.steps.as_ref().map(Steps::untold).unwrap_or_default();
        report.next_credential =
            poll.credential.as_ref().and_then(|credential| lock(credential).offered());
        (version, report)
    }

    /// The report was answered.
    fn taken(&mut self, report: &Report) {
        self.deltas.taken();
        if let Some(doctor) = &report.doctor {
            self.doctor = Some(doctor.clone());
        }
    }
}

#[cfg(test)]
mod tests;
