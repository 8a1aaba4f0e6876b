//! The workloads that are known on this node. A value; `kept` is its form on disk.

mod kept;
mod workload;

use crate::limits::Loss;
use crate::rules::Subject;
use contract::workload::{By, Evidence, Key};
pub(crate) use kept::{Kept, Override, Store, Wishes};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use workload::{MAX_MODELS, MAX_PROVIDERS, note};
pub(crate) use workload::{Running, Span, Workload};
use workloads::Program;

/// Workloads of one node; beyond, the longest unseen ones that are stopped make room.
const MAX_WORKLOADS: usize = 1_000;

/// Running processes of one workload.
const MAX_INSTANCES: usize = 512;

/// How long a workload that is stopped and was not seen is remembered: three months.
const RETENTION_NANOS: u64 = 90 * 24 * 60 * 60 * 1_000_000_000;

/// All workloads that were seen to talk to a model, running or not.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    workloads: BTreeMap<Key, Workload>,
    /// Workloads that the rules leave out: remembered, and neither shown nor watched.
    hidden: BTreeMap<Key, Workload>,
    /// Which workload a process was last seen in.
    processes: HashMap<u32, Key>,
    forgotten: Vec<(Loss, u64)>,
}

/// Whether a program runs that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It was read, and runs.
    Running,
    /// It ended before anybody looked.
    Gone,
}

impl Registry {
    /// All workloads that count, by key.
    pub(crate) fn workloads(&self) -> &BTreeMap<Key, Workload> {
        &self.workloads
    }

    /// Whether a workload with this key was seen, and counts.
    pub(crate) fn knows(&self, key: &Key) -> bool {
        self.workloads.contains_key(key)
    }

    /// Notes that a program was seen to talk to a model, and which one; `false` when there is no
    /// room for it.
    pub(crate) fn sighted(
        &mut self,
        program: &Arc<Program>,
        evidence: Evidence,
        model: Option<String>,
        presence: Presence,
    ) -> bool {
        // What saw it may have looked before its platform told more.
        let known = self.running(program.instance.pid).map(|known| &known.program);
        let known = known.filter(|known| {
            program.provisional && !known.provisional && known.start_ticks == program.start_ticks
        });
        let program = &Arc::clone(known.unwrap_or(program));
        let key = &program.key;
        if let Some(hidden) = self.hidden.remove(key) {
            self.workloads.insert(key.clone(), hidden);
        }
        if !self.knows(key) && !self.make_room() {
            return false;
        }
        let at = evidence.last_seen_unix_nanos;
        let workload =
            self.workloads.entry(key.clone()).or_insert_with(|| Workload::new(program, at));
        workload.first_seen_unix_nanos = workload.first_seen_unix_nanos.min(at);
        workload.last_seen_unix_nanos = workload.last_seen_unix_nanos.max(at);
        let forgotten = &mut self.forgotten;
        note(&mut workload.providers, &evidence.provider, at, MAX_PROVIDERS, forgotten);
        if let Some(model) = model {
            note(&mut workload.models, &model, at, MAX_MODELS, forgotten);
        }
        workload.witness(evidence, forgotten);
        match presence {
            Presence::Running => {
                self.joined(program);
                if let Some(running) = self.running_mut(program.instance.pid) {
                    running.talks = true;
                }
            }
            Presence::Gone => workload.remember(program, at),
        }
        true
    }

    /// Notes that a process runs a program of a known workload; of others nothing is kept.
    ///
    /// A process that is the same and has another key now was not known well enough before: what is
    /// known of its workload goes with it. Gives the key that it had and the one that it has then.
    pub(crate) fn joined(&mut self, program: &Arc<Program>) -> Option<(Key, Key)> {
        let pid = program.instance.pid;
        let before = self.processes.get(&pid).filter(|key| **key != program.key).cloned();
        let mut moved = None;
        if let Some(before) = before {
            let is_same = self.running(pid).is_some_and(|known| is_same(&known.program, program));
            self.processes.remove(&pid);
            if let Some(workload) = self.workloads.get_mut(&before) {
                workload.instances.remove(&pid);
            }
            if is_same {
                self.identified(&before, program);
                moved = Some((before, program.key.clone()));
            }
        }
        let Some(workload) = self.workloads.get_mut(&program.key) else { return moved };
        if workload.instances.len() >= MAX_INSTANCES && !workload.instances.contains_key(&pid) {
            self.forgotten.push((Loss::InstanceLimit, 1));
            return moved;
        }
        workload.update(program);
        let before = workload
            .instances
            .get(&pid)
            .filter(|running| running.program.start_ticks == program.start_ticks);
        let talks = before.is_some_and(|running| running.talks);
        workload.instances.insert(pid, Running { program: Arc::clone(program), talks });
        self.processes.insert(pid, program.key.clone());
        moved
    }

    /// What was known under a provisional key is known under the real one; the old row goes with the
    /// last of its processes.
    fn identified(&mut self, before: &Key, program: &Arc<Program>) {
        let Some(old) = self.workloads.get_mut(before) else { return };
        old.becomes = Some(program.key.clone());
        let first_seen = old.first_seen_unix_nanos;
        self.workloads
            .entry(program.key.clone())
            .or_insert_with(|| Workload::new(program, first_seen));
        self.merge(before);
    }

    /// Adds what is known of a workload to the one that it becomes; it goes with the last of its
    /// processes.
    fn merge(&mut self, before: &Key) {
        let Some(old) = self.workloads.get(before).cloned() else { return };
        let Some(new) = old.becomes.as_ref().and_then(|key| self.workloads.get_mut(key)) else {
            return;
        };
        new.learn(&old, &mut self.forgotten);
        if old.instances.is_empty() {
            new.replace(before, old);
            self.workloads.remove(before);
        }
    }

    /// Notes that a process ended, or runs another program now.
    pub(crate) fn left(&mut self, pid: u32, at_unix_nanos: u64) {
        let Some(key) = self.processes.remove(&pid) else { return };
        if let Some(workload) = self.workloads.get_mut(&key)
            && let Some(running) = workload.instances.remove(&pid)
        {
            workload.remember(&running.program, at_unix_nanos);
            let is_last = workload.instances.is_empty();
            if is_last && workload.becomes.is_some() {
                self.merge(&key);
            }
        }
    }

    /// Earlier keys of a workload that nothing else has by now.
    pub(crate) fn replaces(&self, workload: &Workload) -> Vec<Key> {
        workload.replaces.iter().filter(|key| !self.knows(key)).cloned().collect()
    }

    /// Takes back that a process asked for a name: it only passes on what others ask. Gives whether
    /// anything was taken back; a workload without any other evidence is forgotten.
    pub(crate) fn retract(&mut self, pid: u32, name: &str) -> bool {
        let Some(key) = self.processes.get(&pid).cloned() else { return false };
        let Some(workload) = self.workloads.get_mut(&key) else { return false };
        let before = workload.evidence.len();
        workload.evidence.retain(|known| known.seen != name || known.by == By::Call);
        if workload.evidence.len() == before {
            return false;
        }
        let Workload { evidence, providers, .. } = workload;
        providers.retain(|provider, _| evidence.iter().any(|known| known.provider == *provider));
        if workload.evidence.is_empty() {
            let pids: Vec<u32> = workload.instances.keys().copied().collect();
            self.workloads.remove(&key);
            pids.iter().for_each(|pid| drop(self.processes.remove(pid)));
        }
        true
    }

    /// Shows those workloads that count, and hides the others.
    ///
    /// `counts` is asked about every process that runs, and about a workload as a whole when none
    /// does. What is hidden stays known, so that a rule that is taken back brings it back.
    pub(crate) fn judge(&mut self, counts: impl Fn(&Subject) -> bool) {
        for (key, mut workload) in std::mem::take(&mut self.hidden) {
            workload.instances.clear();
            self.workloads.insert(key, workload);
        }
        for (key, mut workload) in std::mem::take(&mut self.workloads) {
            let had_instances = !workload.instances.is_empty();
            workload.instances.retain(|pid, running| {
                let stays = counts(&Subject::of(&running.program, &workload.name));
                if !stays {
                    self.processes.remove(pid);
                }
                stays
            });
            let whole = || counts(&workload.subject(&key));
            let is_shown = !workload.instances.is_empty() || (!had_instances && whole());
            let place = if is_shown { &mut self.workloads } else { &mut self.hidden };
            place.insert(key, workload);
        }
    }

    /// Workloads that the rules leave out.
    pub(crate) fn hidden(&self) -> &BTreeMap<Key, Workload> {
        &self.hidden
    }

    /// Forgets what is stopped and was not seen for three months.
    pub(crate) fn expire(&mut self, now_unix_nanos: u64) {
        let is_kept = |workload: &Workload| {
            let unseen = now_unix_nanos.saturating_sub(workload.last_seen_unix_nanos);
            !workload.instances.is_empty() || unseen <= RETENTION_NANOS
        };
        self.workloads.retain(|_, workload| is_kept(workload));
        self.hidden.retain(|_, workload| is_kept(workload));
    }

    /// What was forgotten since the last time, by reason.
    pub(crate) fn take_forgotten(&mut self) -> Vec<(Loss, u64)> {
        std::mem::take(&mut self.forgotten)
    }

    /// The process with this id, when it belongs to a workload.
    pub(crate) fn running(&self, pid: u32) -> Option<&Running> {
        self.workloads.get(self.processes.get(&pid)?)?.instances.get(&pid)
    }

    fn running_mut(&mut self, pid: u32) -> Option<&mut Running> {
        self.workloads.get_mut(self.processes.get(&pid)?)?.instances.get_mut(&pid)
    }

    /// Ids and starts of all processes of workloads.
    pub(crate) fn processes(&self) -> Vec<(u32, u64)> {
        let instances = self.workloads.values().flat_map(|workload| &workload.instances);
        instances.map(|(pid, running)| (*pid, running.program.start_ticks)).collect()
    }

    /// Forgets the longest unseen stopped workload when there is no room for one more.
    fn make_room(&mut self) -> bool {
        if self.workloads.len() + self.hidden.len() < MAX_WORKLOADS {
            return true;
        }
        let oldest = |of: &BTreeMap<Key, Workload>| {
            let stopped = of.iter().filter(|(_, workload)| workload.instances.is_empty());
            stopped
                .min_by_key(|(_, workload)| workload.last_seen_unix_nanos)
                .map(|(key, _)| key.clone())
        };
        if let Some(key) = oldest(&self.hidden) {
            self.hidden.remove(&key);
        } else if let Some(key) = oldest(&self.workloads) {
            self.workloads.remove(&key);
        } else {
            return false;
        }
        self.forgotten.push((Loss::WorkloadForgotten, 1));
        true
    }
}

/// Whether two readings are of one process that runs one program: exec changes what is run. A
/// provisional key comes from the place of the process alone, whatever it runs.
fn is_same(one: &Program, other: &Program) -> bool {
    one.start_ticks == other.start_ticks && (one.provisional || is_unchanged(one, other))
}

fn is_unchanged(one: &Program, other: &Program) -> bool {
    one.instance.executable == other.instance.executable
        && one.instance.arguments == other.instance.arguments
}

#[cfg(test)]
pub(crate) mod tests;
