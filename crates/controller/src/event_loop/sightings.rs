//! What was seen of programs that talk to models.

use super::{Running, Sighting};
use crate::explain::{Account, Question};
use crate::limits::Loss;
use crate::registry::Presence;
use crate::rules::Subject;
use capture::ProcessId;
use contract::workload::{By, Evidence};
use std::time::{Duration, Instant};
use workloads::Program;

/// How long a new workload waits for others before their processes are looked for.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// How often that is done at most: it lists all processes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

impl Running {
    pub(super) fn sighted(&mut self, sighting: Sighting, now: Instant) {
        let Sighting { program, presence, provider, model, by, seen, at_unix_nanos } = sighting;
        if !self.counts(&program) {
            return;
        }
        let is_new = !self.registry.knows(&program.key);
        // An address names nobody, but it may confirm what is known.
        if is_new && by == By::Address {
            return;
        }
        let evidence = Evidence { provider, by, seen, last_seen_unix_nanos: at_unix_nanos };
        if !self.registry.sighted(&program, evidence, model, presence) {
            self.parts.losses.add(Loss::WorkloadLimit, 1);
            return;
        }
        self.bystanders.forget(program.instance.pid);
        if is_new {
            tracing::debug!(key = %program.key.0, name = %program.name, "discovered a program that talks to a model");
            if presence == Presence::Running {
                // Its other processes have been passed by until now.
                let soonest = self.looked_at.map_or(now, |at| at + LOOK_EVERY);
                self.look_due.get_or_insert((now + LOOK_AFTER).max(soonest));
            }
        }
        self.is_changed();
    }

    /// A process only passes on what another asks: what was seen of it is taken back.
    pub(super) fn relays(&mut self, process: ProcessId, name: &str) {
        let is_same = self
            .registry
            .running(process.pid)
            .is_some_and(|running| running.program.started_at(process.start_time));
        if is_same && self.registry.retract(process.pid, name) {
            tracing::debug!(pid = process.pid, "passes on what others ask; no program of its own");
            self.is_changed();
        }
    }

    /// Whether the rules let a program count.
    pub(super) fn counts(&self, program: &Program) -> bool {
        self.book.decide(&self.subject(program)).counts
    }

    pub(super) fn subject(&self, program: &Program) -> Subject {
        Subject::of(program, &self.parts.given.name(&program.key, &program.name))
    }

    /// Tells what is known about a process or a workload.
    pub(super) fn explain(&self, question: Question) {
        let given = &self.parts.given;
        let mut account = Account::of(&question.about, &self.registry, &self.book, given);
        account.desired.clone_from(&self.desired);
        account.agents.clone_from(&self.agents);
        account.own_rules.clone_from(&self.parts.rules);
        account.their_rules.clone_from(&self.wishes.rules);
        question.answer(account);
    }
}
