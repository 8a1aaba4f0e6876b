//! The poll: says how things stand, and fetches what is wanted.
//!
//! Two threads share it. One holds a long poll open, so that a wish arrives the moment it is made.
//! The other alone sends reports, one after the other, so that an old one never overtakes a new one.

use crate::event_loop::{Notice, Notices};
use crate::limits::Losses;
use crate::link::{Answer, Backoff, Link, chance};
use crate::programs::Programs;
use crate::standing::Standings;
use contract::doctor::Fact;
use contract::poll::{Cluster, Instance, OLDEST_PROTOCOL, PROTOCOL, Report, Wish};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the dashboard may hold the long poll; below the idle timeout of common proxies.
const WAIT_SECONDS: u32 = 25;

/// How long changes wait for more before they are reported.
const DEBOUNCE: Duration = Duration::from_millis(120);

/// How often a report goes out when nothing changes.
const HEARTBEAT: Duration = Duration::from_secs(25);

/// Patience beyond what the dashboard was told to wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// Wait after the dashboard said that the token is wrong: nothing but a person can help.
const WRONG_TOKEN_WAIT: Duration = Duration::from_secs(30);

const PATH: &str = "/api/v1/poll";

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
}

/// Counters of the kernel side, as it last told them.
#[derive(Debug, Clone, Default)]
pub(crate) struct KernelLosses(Arc<Mutex<BTreeMap<String, u64>>>);

/// The wishes that were taken over, as the poll knows them.
#[derive(Debug, Default)]
pub(crate) struct Agreed {
    generation: AtomicU64,
    /// Counts the answers that were taken over.
    answers: AtomicU64,
    /// Set when the token was refused before the dashboard ever took it.
    is_stranger: AtomicBool,
}

impl Agreed {
    /// Whether the dashboard refused our token, and no dashboard ever accepted us.
    pub(crate) fn is_stranger(&self) -> bool {
        self.is_stranger.load(Ordering::SeqCst)
    }
}

/// Whether trouble with the dashboard was said already.
#[derive(Debug, Default)]
struct Complaint {
    said: Option<String>,
}

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
    /// Holds a long poll open until the stop.
    pub(crate) fn fetch(self) {
        let mut backoff = Backoff::default();
        let mut complaint = Complaint::default();
        let mut wait_seconds = 0;
        loop {
            let asked_after = self.agreed.answers.load(Ordering::SeqCst);
            let report = self.report(wait_seconds, false);
            let result = self.ask(&report);
            if !self.standings.sleep(Duration::ZERO) {
                return;
            }
            let wait = match result {
                Ok(wish) => {
                    backoff.succeeded();
                    complaint.settle();
                    self.take_over(wish, asked_after);
                    wait_seconds = WAIT_SECONDS;
                    // A dashboard that answers at once, again and again, must not be flooded.
                    Duration::from_millis(20)
                }
                Err(trouble) => {
                    complaint.say(&trouble);
                    self.note_refusal(&trouble);
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
        let mut told = None;
        loop {
            let (version, _) = self.standings.latest();
            let patience = if told.is_none() { Duration::ZERO } else { HEARTBEAT };
            if !self.standings.wait(told.unwrap_or(version), patience)
                || !self.standings.sleep(DEBOUNCE)
            {
                return;
            }
            let asked_after = self.agreed.answers.load(Ordering::SeqCst);
            let (version, report) = self.full_report();
            match self.ask(&report) {
                Ok(wish) => {
                    backoff.succeeded();
                    told = Some(version);
                    self.take_over(wish, asked_after);
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

    /// A wish on disk shows that an earlier token was good: then a person has to look, and what was
    /// wanted holds until then.
    fn note_refusal(&self, trouble: &Trouble) {
        let is_refused = matches!(trouble, Trouble::Refused(Answer { status: 401 | 403, .. }));
        let is_first = self.agreed.answers.load(Ordering::SeqCst) == 0;
        if is_refused && is_first && self.standings.generation() == 0 {
            self.agreed.is_stranger.store(true, Ordering::SeqCst);
        }
    }

    fn full_report(&self) -> (u64, Report) {
        let (version, published) = self.standings.latest();
        let mut report = self.report(0, true);
        report.workloads = Some(published.workloads.clone());
        (version, report)
    }

    pub(crate) fn report(&self, wait_seconds: u32, with_doctor: bool) -> Report {
        let mut lost = self.losses.by_reason();
        lost.extend(self.kernel_losses.all());
        Report {
            protocol: PROTOCOL,
            oldest_protocol: OLDEST_PROTOCOL,
            instance: Instance { cluster: self.cluster(), ..self.instance.clone() },
            generation: self.standings.generation(),
            wait_seconds,
            workloads: None,
            doctor: with_doctor.then(|| self.facts()),
            lost,
            ..Report::default()
        }
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
        let body =
            serde_json::to_vec(report).map_err(|error| Trouble::Unreachable(error.to_string()))?;
        let patience = PATIENCE + Duration::from_secs(u64::from(report.wait_seconds));
        let answer = self
            .link
            .post(PATH, "application/json", body, patience)
            .map_err(|error| Trouble::Unreachable(format!("{error:#}")))?;
        if !answer.is_success() {
            return Err(Trouble::Refused(answer));
        }
        serde_json::from_slice(&answer.body).map_err(|error| Trouble::Unreadable(error.to_string()))
    }

    /// Hands the wishes over when they are news.
    ///
    /// A lower generation than known is an old answer that was overtaken, unless it was asked for
    /// after the newest was taken over: then the dashboard began anew, and its word holds.
    fn take_over(&self, wish: Wish, asked_after: u64) {
        if wish.protocol != PROTOCOL {
            tracing::debug!(
                theirs = wish.protocol,
                ours = PROTOCOL,
                "the dashboard speaks another version"
            );
        }
        let known = self.agreed.generation.load(Ordering::SeqCst);
        let is_first = self.agreed.answers.load(Ordering::SeqCst) == 0;
        let is_anew =
            wish.generation < known && self.agreed.answers.load(Ordering::SeqCst) == asked_after;
        if is_first || wish.generation > known || is_anew {
            self.agreed.generation.store(wish.generation, Ordering::SeqCst);
            self.agreed.answers.fetch_add(1, Ordering::SeqCst);
            self.notices.send_surely(Notice::Wanted(Box::new(wish)));
        }
    }
}

/// Why a poll did not give an answer.
#[derive(Debug)]
enum Trouble {
    Unreachable(String),
    Refused(Answer),
    Unreadable(String),
}

impl Trouble {
    fn wait(&self, backoff: &mut Backoff) -> Duration {
        let asked = match self {
            Self::Refused(Answer { status: 401 | 403, retry_after, .. }) => {
                Some(retry_after.unwrap_or_default().max(WRONG_TOKEN_WAIT))
            }
            Self::Refused(answer) => answer.retry_after,
            Self::Unreachable(_) | Self::Unreadable(_) => None,
        };
        backoff.next(asked, chance())
    }

    fn in_words(&self) -> String {
        match self {
            Self::Unreachable(error) => error.clone(),
            Self::Unreadable(error) => {
                format!("cannot read its answer: {error}; is it a Sonde dashboard?")
            }
            Self::Refused(Answer { status: 401 | 403, .. }) => {
                "it refuses our token; make a new one with `sonde tokens create --kind join` there"
                    .to_owned()
            }
            Self::Refused(answer) => format!("it answers with status {}", answer.status),
        }
    }
}

impl Complaint {
    /// Says each kind of trouble once, until it is over.
    fn say(&mut self, trouble: &Trouble) {
        let words = trouble.in_words();
        if self.said.as_ref() != Some(&words) {
            tracing::warn!(error = %words, "cannot poll the dashboard; trying on, and what it wanted last still holds");
            self.said = Some(words);
        }
    }

    fn settle(&mut self) {
        if self.said.take().is_some() {
            tracing::info!("the dashboard answers again");
        }
    }
}

#[cfg(test)]
mod tests;
