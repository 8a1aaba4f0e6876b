//! Puts the files beside a unit, restarts it, looks at it, and puts all back.

use super::bus::Bus;
use super::files::was_there;
use super::recovery::recovered;
use super::{Around, Change, Unit, directory, paths, plan, put_back, read, write};
use crate::environment::Injection;
use crate::hands::{Hands, Health, Undone};
use crate::plan::{Plan, Refusal};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use std::path::Path;

impl Hands {
    /// Thinks the change of a unit through.
    pub(crate) fn plan_unit(
        &self,
        name: &str,
        runtime: (Option<&str>, Option<&str>),
        injection: &Injection,
    ) -> Result<Plan, Refusal> {
        let unit = self.unit(name).map_err(|why| Refusal::not_now("no_systemd", sentence(&why)))?;
        let around = self.around(&unit, runtime, injection)?;
        plan(&unit, &around, injection)
    }

    /// Writes the files, and restarts the unit.
    pub(crate) fn make_unit(&self, change: &Change) -> Result<(), String> {
        write(&self.root, change)
            .map_err(|error| format!("Cannot write the files of {}: {error}.", change.unit))?;
        self.block(async |bus: Bus| {
            bus.reload().await?;
            bus.restart(&change.unit).await
        })
    }

    /// How a changed unit is doing.
    pub(crate) fn unit_health(&self, change: &Change) -> Result<Health, String> {
        Ok(self.judged(change, &self.unit(&change.unit)?))
    }

    /// Puts the files back, and restarts what runs with them.
    pub(crate) fn undo_unit(&self, change: &Change, revive: bool) -> Result<Undone, String> {
        let kept = put_back(&self.root, change)
            .map_err(|error| format!("Cannot put the files of {} back: {error}.", change.unit))?;
        let unit = self.unit(&change.unit)?;
        let environment = self.environment(unit.main_pid).unwrap_or_default();
        // One that somebody restarted since without it, or stopped, is left alone.
        let has_it = change.missing(&environment).len() < change.variables.len();
        self.block(async |bus: Bus| {
            bus.reload().await?;
            let is_down = matches!(unit.active_state.as_str(), "activating" | "failed");
            if has_it || (revive && is_down) {
                bus.start_anew(&change.unit).await?;
            }
            Ok(())
        })?;
        Ok(match kept.is_empty() {
            true => Undone::Exactly,
            false => Undone::Ours(format!("kept what others wrote to {}", kept.join(", "))),
        })
    }

    /// The change of a unit that nobody has notes of any more, by what is on disk; nothing when
    /// nothing of it is.
    pub(crate) fn recover_unit(
        &self,
        name: &str,
        (has_directory, names): (bool, &BTreeSet<String>),
    ) -> Result<Option<Change>, String> {
        let (drop_in, variables) = paths(name);
        let read = |path: &Path| {
            read(&self.root, path)
                .map_err(|error| format!("Cannot read {}: {error}.", path.display()))
        };
        let (drop_in, variables) = (read(&drop_in)?, read(&variables)?);
        let texts = (drop_in.as_deref(), variables.as_deref());
        Ok(recovered(name, texts, (has_directory, names)))
    }

    fn unit(&self, name: &str) -> Result<Unit, String> {
        self.block(async |bus: Bus| bus.unit(name).await)
    }

    fn block<T>(&self, work: impl AsyncFnOnce(Bus) -> Result<T, String>) -> Result<T, String> {
        self.runtime.block_on(async { work(Bus::open(&self.root).await?).await })
    }

    fn judged(&self, change: &Change, unit: &Unit) -> Health {
        for file in &change.files {
            match read(&self.root, &file.path) {
                Ok(Some(text)) if text == file.text => {}
                Ok(Some(_)) => {
                    return Health::Reverted(format!("{} was changed", file.path.display()));
                }
                Ok(None) => {
                    return Health::Reverted(format!("{} was removed", file.path.display()));
                }
                Err(error) => {
                    return Health::Reverted(format!(
                        "{} cannot be read: {error}",
                        file.path.display()
                    ));
                }
            }
        }
        let how = format!(
            "{} is {} ({}), result {}, exit status {}, started anew {} times",
            unit.name,
            unit.active_state,
            unit.sub_state,
            unit.result,
            unit.exit_status,
            unit.restarts
        );
        match unit.active_state.as_str() {
            _ if unit.restarts > 0 && unit.result != "success" => Health::Bad(how),
            "failed" => Health::Bad(how),
            _ if unit.sub_state == "auto-restart" => Health::Bad(how),
            "inactive" => Health::Stopped,
            "active" if unit.main_pid > 0 => match self.environment(unit.main_pid) {
                Some(environment) => match change.missing(&environment).as_slice() {
                    [] => Health::Good,
                    missing => Health::Bad(format!(
                        "{} is not in effect in process {}: something in the unit stands behind Sonde's drop-in",
                        missing.join(", "),
                        unit.main_pid
                    )),
                },
                None => Health::Starting,
            },
            _ => Health::Starting,
        }
    }

    /// What the kernel and the disk say around a unit.
    fn around(
        &self,
        unit: &Unit,
        (runtime, version): (Option<&str>, Option<&str>),
        injection: &Injection,
    ) -> Result<Around, Refusal> {
        let (drop_in, variables) = paths(&unit.name);
        let read = |path: &Path| {
            read(&self.root, path).map_err(|error| {
                Refusal::not_now(
                    "unreadable",
                    format!("Cannot read {}: {error}; look at its permissions.", path.display()),
                )
            })
        };
        let now = clock_gettime(ClockId::Monotonic);
        Ok(Around {
            program: self.program(unit.main_pid, (runtime, version)),
            unreachable: (unit.main_pid > 0)
                .then(|| self.unreachable(unit.main_pid, &injection.bundle))
                .flatten(),
            drop_in: read(&drop_in)?,
            variables: read(&variables)?,
            has_directory: was_there(&self.root, &directory(&unit.name)),
            now_micros: u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000
                + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000,
        })
    }
}

/// What somebody else said, as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}
