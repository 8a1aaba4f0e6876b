//! One workload: what is known of it, within limits.

use crate::limits::Loss;
use crate::rules::Subject;
use contract::workload::{Asked, Evidence, Key, Platform, What};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use workloads::Program;

/// Kinds of evidence of one workload: providers times hosts.
pub(super) const MAX_EVIDENCE: usize = 16;

/// Executables, and users, of one workload.
pub(super) const MAX_EXECUTABLES: usize = 16;

/// Instances of one workload that ended and are remembered.
pub(super) const MAX_ENDED: usize = 16;

/// Providers of one workload; there are some fifty.
pub(super) const MAX_PROVIDERS: usize = 64;

/// Models of one workload; a gateway asks for many.
pub(super) const MAX_MODELS: usize = 128;

/// Earlier keys of one workload: a pod of many replicas that started while its platform was away.
pub(super) const MAX_REPLACED: usize = 64;

/// One workload.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// Name that it has without a person's help.
    pub(crate) name: String,
    pub(crate) platform: Platform,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) evidence: Vec<Evidence>,
    /// Providers that it was seen to ask.
    pub(crate) providers: BTreeMap<String, Span>,
    /// Models that it was seen to ask for.
    pub(crate) models: BTreeMap<String, Span>,
    pub(crate) first_seen_unix_nanos: u64,
    pub(crate) last_seen_unix_nanos: u64,
    /// Executables that its processes ran, by which new ones are recognised cheaply.
    pub(crate) executables: BTreeSet<String>,
    /// Users that its processes ran as.
    pub(crate) users: BTreeSet<String>,
    /// Running processes, by id.
    pub(crate) instances: BTreeMap<u32, Running>,
    /// Those that ended, oldest first.
    pub(crate) ended: VecDeque<Ended>,
    /// Keys that it had before the real one was known.
    pub(crate) replaces: BTreeSet<Key>,
    /// The real key, where some of its processes are known by it already.
    pub(super) becomes: Option<Key>,
}

/// From when to when something was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) first_unix_nanos: u64,
    pub(crate) last_unix_nanos: u64,
}

/// A running process of a workload.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) program: Arc<Program>,
    /// Whether this very process was seen to talk to a model.
    pub(crate) talks: bool,
}

/// A process of a workload that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) pid: u32,
    pub(crate) started_unix_nanos: u64,
    /// When it was noticed.
    pub(crate) ended_unix_nanos: u64,
}

impl Workload {
    pub(super) fn new(program: &Program, at_unix_nanos: u64) -> Self {
        Self {
            name: program.name.clone(),
            platform: program.platform,
            attributes: program.attributes.clone(),
            evidence: Vec::new(),
            providers: BTreeMap::new(),
            models: BTreeMap::new(),
            first_seen_unix_nanos: at_unix_nanos,
            last_seen_unix_nanos: at_unix_nanos,
            executables: BTreeSet::new(),
            users: BTreeSet::new(),
            instances: BTreeMap::new(),
            ended: VecDeque::new(),
            replaces: BTreeSet::new(),
            becomes: None,
        }
    }

    /// Whom and for what it was seen to ask.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let all = |what, spans: &BTreeMap<String, Span>| {
            let asked = spans.iter().map(|(name, span)| Asked {
                what,
                name: name.clone(),
                first_seen_unix_nanos: span.first_unix_nanos,
                last_seen_unix_nanos: span.last_unix_nanos,
            });
            asked.collect::<Vec<_>>()
        };
        [all(What::Provider, &self.providers), all(What::Model, &self.models)].concat()
    }

    /// Takes over what its newest process says about it.
    pub(super) fn update(&mut self, program: &Program) {
        self.name.clone_from(&program.name);
        self.attributes.clone_from(&program.attributes);
        if self.executables.len() < MAX_EXECUTABLES {
            self.executables.insert(program.instance.executable.clone());
        }
        if self.users.len() < MAX_EXECUTABLES {
            self.users.insert(program.instance.user.clone());
        }
    }

    /// Adds what another row knows that turned out to be of this workload.
    pub(super) fn learn(&mut self, other: &Self, forgotten: &mut Vec<(Loss, u64)>) {
        self.first_seen_unix_nanos = self.first_seen_unix_nanos.min(other.first_seen_unix_nanos);
        self.last_seen_unix_nanos = self.last_seen_unix_nanos.max(other.last_seen_unix_nanos);
        for (known, more, limit) in [
            (&mut self.providers, &other.providers, MAX_PROVIDERS),
            (&mut self.models, &other.models, MAX_MODELS),
        ] {
            for (name, span) in more {
                note(known, name, span.first_unix_nanos, limit, forgotten);
                note(known, name, span.last_unix_nanos, limit, forgotten);
            }
        }
        for evidence in &other.evidence {
            self.witness(evidence.clone(), forgotten);
        }
    }

    /// Takes the place of the row with this key, which has no process any more.
    pub(super) fn replace(&mut self, key: &Key, other: Self) {
        self.ended.extend(other.ended);
        let excess = self.ended.len().saturating_sub(MAX_ENDED);
        self.ended.drain(..excess);
        self.replaces.extend(other.replaces);
        self.replaces.insert(key.clone());
        while self.replaces.len() > MAX_REPLACED {
            self.replaces.pop_first();
        }
    }

    /// Remembers a process that ended.
    pub(super) fn remember(&mut self, program: &Program, at_unix_nanos: u64) {
        let ended = Ended {
            pid: program.instance.pid,
            started_unix_nanos: program.instance.started_unix_nanos,
            ended_unix_nanos: at_unix_nanos,
        };
        let is_same = |known: &Ended| {
            known.pid == ended.pid && known.started_unix_nanos == ended.started_unix_nanos
        };
        if !self.ended.iter().any(is_same) {
            self.ended.push_back(ended);
        }
        while self.ended.len() > MAX_ENDED {
            self.ended.pop_front();
        }
    }

    /// Adds evidence, or renews what is there; the oldest goes when there is too much.
    pub(super) fn witness(&mut self, evidence: Evidence, forgotten: &mut Vec<(Loss, u64)>) {
        let same = |known: &&mut Evidence| {
            known.provider == evidence.provider
                && known.by == evidence.by
                && known.seen == evidence.seen
        };
        if let Some(known) = self.evidence.iter_mut().find(same) {
            known.last_seen_unix_nanos =
                known.last_seen_unix_nanos.max(evidence.last_seen_unix_nanos);
            return;
        }
        if self.evidence.len() >= MAX_EVIDENCE {
            let known = self.evidence.iter().enumerate();
            let oldest = known.min_by_key(|(_, known)| known.last_seen_unix_nanos);
            if let Some((index, _)) = oldest {
                self.evidence.swap_remove(index);
                forgotten.push((Loss::EvidenceForgotten, 1));
            }
        }
        self.evidence.push(evidence);
        self.evidence
            .sort_by(|a, b| (a.by, &a.provider, &a.seen).cmp(&(b.by, &b.provider, &b.seen)));
    }

    /// What rules look at while none of its processes runs.
    pub(crate) fn subject(&self, key: &Key) -> Subject {
        Subject {
            name: self.name.clone(),
            key: key.0.clone(),
            attributes: self.attributes.clone(),
            users: self.users.clone(),
            paths: self.executables.clone(),
        }
    }
}

/// Notes when something was seen; the longest unseen makes room.
pub(super) fn note(
    known: &mut BTreeMap<String, Span>,
    name: &str,
    at: u64,
    limit: usize,
    forgotten: &mut Vec<(Loss, u64)>,
) {
    if let Some(span) = known.get_mut(name) {
        span.first_unix_nanos = span.first_unix_nanos.min(at);
        span.last_unix_nanos = span.last_unix_nanos.max(at);
        return;
    }
    if known.len() >= limit {
        let oldest = known.iter().min_by_key(|(_, span)| span.last_unix_nanos);
        if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
            known.remove(&oldest);
            forgotten.push((Loss::EvidenceForgotten, 1));
        }
    }
    known.insert(name.to_owned(), Span { first_unix_nanos: at, last_unix_nanos: at });
}
