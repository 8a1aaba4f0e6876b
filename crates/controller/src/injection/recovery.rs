//! Changes that the node lost its notes of: the dashboard says what was there before, the platforms say
//! what is there now.

use super::kept::{Phase, Record};
use super::planning::place_of;
use super::{Running, pause};
use contract::before::{Before, Was};
use contract::capture::State;
use contract::workload::{Agent, Key, Observed};
use injector::plan::Change;
use injector::{Target, Workload};

impl Running {
    /// Takes over what the dashboard brought back, once.
    pub(super) fn bring_back(&mut self) {
        let Some(before) = self.parts.standings.brought_back() else { return };
        if let Err(error) = self.parts.records.bring_back(before) {
            tracing::error!(%error, "cannot write to the data directory; make room there");
        }
    }

    /// Makes a change out again that there are no notes of, or says why that fails; until then nothing
    /// else is done to its workload.
    pub(super) fn recover_lost(
        &mut self,
        (key, before): (&Key, &Before),
        observed: Option<&Observed>,
        generation: u64,
        now: u64,
    ) -> Option<Agent> {
        let tries = self.tries.entry(key.clone()).or_default();
        let is_due = now >= tries.failed_at.saturating_add(pause(tries.failures));
        if tries.failures == 0 || is_due {
            match self.made_out(key, before) {
                Ok(found) => {
                    let record = found.map(|(target, change)| Record {
                        difference: change.difference(),
                        // It may have been in its window, which begins anew. What is in a cluster,
                        // those watch who have the turn.
                        phase: match &target {
                            Target::Pods { .. } => Phase::InEffect,
                            _ => Phase::Watched { since_unix_nanos: now },
                        },
                        target,
                        change,
                        generation,
                    });
                    tracing::info!(key = %key.0, is_there = record.is_some(), "looked for a change that there were no notes of");
                    match self.parts.records.found(key, record) {
                        Ok(()) => {
                            self.tries.remove(key);
                            return self.stands(key, observed, None);
                        }
                        Err(error) => self.failed(key, error.to_string(), now),
                    }
                }
                Err(said) => self.failed(key, said, now),
            }
        }
        let said = self.tries.get(key).map(|tries| tries.said.as_str()).unwrap_or_default();
        let reason = format!(
            "The node lost its notes of what it changed, and looks for that by what the dashboard kept. {said}"
        );
        Some(self.agent(key, observed, State::Pending, reason.trim().to_owned()))
    }

    /// The change, as its platform shows it; nothing when nothing of it is there.
    fn made_out(&self, key: &Key, before: &Before) -> Result<Option<(Target, Change)>, String> {
        let place = place_of(key);
        let target = match &before.was {
            Was::Unit { .. } => match place.strip_prefix("systemd:") {
                Some(unit) => Target::Unit(unit.to_owned()),
                None => return Ok(None),
            },
            Was::Containers { .. } => Target::Containers { members: Vec::new(), service: None },
            Was::Template => {
                let Ok((workload, container)) = Workload::of_place(place) else { return Ok(None) };
                let change = self.parts.turns.made(&workload, &container)?;
                let target = Target::Pods { workload, container, pid: 0 };
                return Ok(change.map(|change| (target, change)));
            }
            Was::Unknown => return Ok(None),
        };
        let change = self.parts.hands.recover(&target, &before.was)?;
        Ok(change.map(|change| (target, change)))
    }
}
