//! Puts the files beside a unit, restarts it, looks at it, and puts all back.

use super::deed::{Deed, Said, Seen, carry_out};
use super::recovery::recovered;
use super::{Around, Change, Unit, as_user, named_by, plan};
use crate::environment::Injection;
use crate::hands::{Hands, Health, Undone};
use crate::plan::{Plan, Refusal};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use std::fs;

impl Hands {
    /// Thinks the change of a unit through; `place` is its name, or `user-ID/NAME`.
    pub(crate) fn plan_unit(
        &self,
        place: &str,
        runtime: (Option<&str>, Option<&str>),
        injection: &Injection,
    ) -> Result<Plan, Refusal> {
        let Some((user, name)) = named_by(place) else {
            return Err(Refusal::unsupported(
                "no_unit",
                "It is no unit that systemd could restart; put `sonde run --` before its command.",
            ));
        };
        if let Some(user) = user.filter(|user| !self.root.join(as_user::bus(*user)).exists()) {
            return Err(Refusal::unsupported(
                "no_user_bus",
                format!(
                    "The systemd of user {user} cannot be spoken to: there is no bus at /{}; install dbus-user-session, or put `sonde run --` before its command.",
                    as_user::bus(user).display()
                ),
            ));
        }
        let seen =
            self.look(user, name).map_err(|why| Refusal::not_now("no_systemd", sentence(&why)))?;
        let around = self.around(user, &seen, (runtime, injection));
        plan(&seen.unit, &around, injection)
    }

    /// Writes the files, and restarts the unit.
    pub(crate) fn make_unit(&self, change: &Change) -> Result<(), String> {
        self.deed(change.user, Deed::Write(change.clone()))?;
        self.deed(change.user, Deed::Reload)?;
        self.deed(change.user, Deed::Restart(change.unit.clone())).map(drop)
    }

    /// How a changed unit is doing.
    pub(crate) fn unit_health(&self, change: &Change) -> Result<Health, String> {
        Ok(self.judged(change, &self.look(change.user, &change.unit)?))
    }

    /// Puts the files back, and restarts what runs with them.
    pub(crate) fn undo_unit(&self, change: &Change, revive: bool) -> Result<Undone, String> {
        let kept = match self.deed(change.user, Deed::PutBack(change.clone()))? {
            Said::Kept(kept) => kept,
            Said::Seen(_) | Said::Done => Vec::new(),
        };
        let unit = self.look(change.user, &change.unit)?.unit;
        let environment = self.environment(unit.main_pid).unwrap_or_default();
        // One that somebody restarted since without it, or stopped, is left alone.
        let has_it = change.missing(&environment).len() < change.variables.len();
        self.deed(change.user, Deed::Reload)?;
        let is_down = matches!(unit.active_state.as_str(), "activating" | "failed");
        if has_it || (revive && is_down) {
            self.deed(change.user, Deed::StartAnew(change.unit.clone()))?;
        }
        Ok(match kept.is_empty() {
            true => Undone::Exactly,
            false => Undone::Ours(format!("kept what others wrote to {}", kept.join(", "))),
        })
    }

    /// The change of a unit that nobody has notes of any more, by what is on disk; nothing when
    /// nothing of it is.
    pub(crate) fn recover_unit(
        &self,
        place: &str,
        before: (u32, &BTreeSet<String>),
    ) -> Result<Option<Change>, String> {
        let Some((user, name)) = named_by(place) else { return Ok(None) };
        Ok(recovered(&self.look(user, name)?, user, before))
    }

    fn deed(&self, user: Option<u32>, deed: Deed) -> Result<Said, String> {
        match user {
            None => self.runtime.block_on(carry_out(&self.root, None, deed)),
            Some(user) => as_user::ask(&self.root, user, deed),
        }
    }

    fn look(&self, user: Option<u32>, name: &str) -> Result<Seen, String> {
        let Said::Seen(mut seen) = self.deed(user, Deed::Look(name.to_owned()))? else {
            return Err(format!("nobody says how {name} is"));
        };
        if let Some(user) = user {
            // The user may say what they like of it, and not have us look at anybody else's process.
            let group = self.process(seen.unit.main_pid).join("cgroup");
            let group = fs::read_to_string(group).unwrap_or_default();
            if !group.contains(&format!("/user@{user}.service/")) {
                seen.unit.main_pid = 0;
            }
        }
        Ok(*seen)
    }

    fn judged(&self, change: &Change, seen: &Seen) -> Health {
        let unit = &seen.unit;
        let texts = [&seen.variables, &seen.drop_in];
        for (file, text) in change.files.iter().zip(texts) {
            let path = file.path.display();
            match text {
                Some(text) if *text == file.text => {}
                Some(_) => return Health::Reverted(format!("{path} was changed")),
                None => return Health::Reverted(format!("{path} was removed")),
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
        user: Option<u32>,
        seen: &Seen,
        (runtime, injection): ((Option<&str>, Option<&str>), &Injection),
    ) -> Around {
        let unit: &Unit = &seen.unit;
        let now = clock_gettime(ClockId::Monotonic);
        Around {
            program: self.program(unit.main_pid, runtime),
            unreachable: (unit.main_pid > 0)
                .then(|| self.unreachable(unit.main_pid, &injection.bundle))
                .flatten(),
            drop_in: seen.drop_in.clone(),
            variables: seen.variables.clone(),
            user,
            directory: seen.directory.clone(),
            made: seen.made.clone(),
            now_micros: u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000
                + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000,
        }
    }
}

/// What somebody else said, as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}
