//! Changes that steps ask for, and what holds of all who wish something of a workload.

use super::Running;
use crate::reconcile::Progress;
use crate::registry::Override;
use crate::taking::{Asked, What};
use contract::capture::Level;
use contract::workload::Key;

impl Running {
    pub(super) fn change(&mut self, asked: Asked) {
        let answer = match asked.what {
            What::Retry(key) => Ok(self.retry(key.as_ref())),
            What::Set { key, level, generation } => self.set(key, level, generation),
            What::Undo(key) => self.undo(&key),
        };
        // Who asked may have given up.
        drop(asked.reply.try_send(answer));
    }

    fn retry(&mut self, key: Option<&Key>) -> String {
        let pids = match key {
            Some(key) => self.pids(key),
            None => self.watches.keys().copied().collect(),
        };
        let mut forgotten = 0;
        for pid in pids {
            let failed = self.watches.get(&pid).filter(|watch| {
                matches!(
                    watch.progress,
                    Progress::Failed { .. } | Progress::Attached { refused: Some(_), .. }
                )
            });
            if failed.is_some() {
                // Planned anew, as if it was never tried.
                self.watches.remove(&pid);
                forgotten += 1;
            }
        }
        format!("processes that are tried again: {forgotten}")
    }

    fn set(&mut self, key: Key, level: Level, generation: u64) -> Result<String, String> {
        let Some(workload) = self.registry.workloads().get(&key) else {
            return Err("No workload of this node has this key.".to_owned());
        };
        let ceilings = &self.parts.ability.ceilings;
        if level > Level::Off
            && let Some(reason) =
                ceilings.forbids_capture(&key, workload.platform, &workload.attributes)
        {
            return Err(reason);
        }
        let before = self.desired.get(&key).copied().unwrap_or_default();
        let old = self.wishes.overrides.insert(key.clone(), Override { level, generation });
        if let Err(error) = self.try_save() {
            match old {
                Some(old) => self.wishes.overrides.insert(key, old),
                None => self.wishes.overrides.remove(&key),
            };
            return Err(format!("The node cannot write to its disk ({error}); make room there."));
        }
        self.forget_failures(&key);
        if level == Level::Full {
            self.agents.remove(&key);
        }
        Ok(format!("{}: capture {} -> {}", key.0, before.word(), level.word()))
    }

    fn undo(&mut self, key: &Key) -> Result<String, String> {
        let Some(old) = self.wishes.overrides.remove(key) else {
            return Err("No step changed anything of this workload.".to_owned());
        };
        if let Err(error) = self.try_save() {
            self.wishes.overrides.insert(key.clone(), old);
            return Err(format!("The node cannot write to its disk ({error}); make room there."));
        }
        self.want();
        let now = self.desired.get(key).copied().unwrap_or_default();
        Ok(format!("{}: capture {} -> {}", key.0, old.level.word(), now.word()))
    }

    /// Somebody wants it anew: what failed before is tried again at once.
    pub(super) fn forget_failures(&mut self, key: &Key) {
        self.retry(Some(key));
    }

    fn pids(&self, key: &Key) -> Vec<u32> {
        let workload = self.registry.workloads().get(key);
        workload.map(|it| it.instances.keys().copied().collect()).unwrap_or_default()
    }

    /// Works out which level holds for each workload: the newest of the dashboard's wish and a step;
    /// where nobody wished anything, this node's own wishes; then the fleet's configuration.
    pub(super) fn want(&mut self) {
        let default = self.parts.tuning.settings().default_capture.unwrap_or_default();
        // What restarts programs is wished of each by name.
        let default = default.min(Level::Network);
        let mut desired = self.wishes.levels();
        for (key, workload) in self.registry.workloads() {
            if desired.contains_key(key) {
                continue;
            }
            // What was wanted of an earlier key is wanted until the dashboard says so of the real one.
            let mut earlier = workload.replaces.iter().filter_map(|key| desired.get(key));
            if let Some(level) = earlier.next().copied() {
                desired.insert(key.clone(), level);
                continue;
            }
            let mut subject = workload.subject(key);
            subject.name = self.parts.given.name(key, &subject.name);
            let level = if self.own_wishes.chooses(&subject) { Level::Network } else { default };
            if level > Level::Off {
                desired.insert(key.clone(), level);
            }
        }
        self.desired = desired;
    }
}
