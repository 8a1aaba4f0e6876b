//! Units of systemd: a drop-in that names a file with variables, and that file.
//!
//! Here is what is decided, as a pure function of what systemd and the kernel say; `bus` asks and
//! tells systemd, `hands` does what was decided.

mod as_user;
mod bus;
mod deed;
mod files;
mod hands;
mod recovery;

use crate::difference::unified;
use crate::environment::{self, Injection};
use crate::plan::{self, ByHand, Finding, Plan, Refusal};
use crate::program::{self, Program};
pub use as_user::{AS_USER, act_as_user};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The name of the drop-in: late, so that it stands behind what others set, and not last.
const DROP_IN: &str = "90-sonde.conf";
/// The file with the variables, beside it: systemd reads `*.conf` alone of that directory.
const VARIABLES: &str = "90-sonde.env";
/// Where an administrator's drop-ins of system units are.
const UNITS: &str = "/etc/systemd/system";
/// What stands first in both files: how a file is known to be ours.
const MARK: &str =
    "# Sonde put this here for the dial at Full, and takes it away when the dial moves.";
/// A unit that was started anew by systemd this recently is not well, in microseconds.
const RESTLESS_MICROS: u64 = 60_000_000;
/// What is shown in place of a secret.
const HIDDEN: &str = "***";

/// What systemd says of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) load_state: String,
    pub(crate) active_state: String,
    pub(crate) sub_state: String,
    /// `simple`, `forking`, `oneshot`, ….
    pub(crate) kind: String,
    pub(crate) needs_reload: bool,
    pub(crate) is_transient: bool,
    pub(crate) can_stop: bool,
    pub(crate) refuses_manual_stop: bool,
    pub(crate) refuses_manual_start: bool,
    pub(crate) main_pid: u32,
    pub(crate) restarts: u32,
    /// Since when it is active, on the monotonic clock.
    pub(crate) active_since_micros: u64,
    pub(crate) has_private_network: bool,
    pub(crate) unset: Vec<String>,
    pub(crate) drop_ins: Vec<String>,
    /// `success`, `exit-code`, ….
    pub(crate) result: String,
    pub(crate) exit_status: i32,
}

/// What the kernel and the disk say around a unit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Around {
    /// Its main process.
    pub(crate) program: Program,
    /// Why the bundle cannot be read from within it; nothing when it can.
    pub(crate) unreachable: Option<String>,
    /// Both files, where they are there already.
    pub(crate) drop_in: Option<String>,
    pub(crate) variables: Option<String>,
    /// The user whose systemd runs it; nothing for the system's.
    pub(crate) user: Option<u32>,
    /// Where its drop-ins are.
    pub(crate) directory: PathBuf,
    /// The uppermost directory that has to be made for that, if any.
    pub(crate) made: Option<PathBuf>,
    /// Now, on the monotonic clock.
    pub(crate) now_micros: u64,
}

/// Two files beside a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The unit.
    pub(crate) unit: String,
    /// The user whose systemd runs it; nothing for the system's.
    #[serde(default)]
    pub(crate) user: Option<u32>,
    /// The files, in the order in which they are written.
    pub(crate) files: Vec<File>,
    /// Uppermost directory that is made for them, and goes with them, and all that are below it, when
    /// nothing else is in it.
    pub(crate) directory: Option<PathBuf>,
    /// What must be in effect in the main process after the restart.
    pub(crate) variables: BTreeMap<String, String>,
}

/// One file that is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) text: String,
    /// The same with secrets hidden, to be shown.
    pub(crate) shown: String,
}

/// Both files of a unit whose drop-ins are in a directory.
pub(crate) fn paths(directory: &Path) -> (PathBuf, PathBuf) {
    (directory.join(DROP_IN), directory.join(VARIABLES))
}

/// A unit by its place in a key: `NAME`, or `user-ID/NAME` for one of a user's own systemd.
///
/// `None` when it is neither.
pub(crate) fn named_by(place: &str) -> Option<(Option<u32>, &str)> {
    match place.split_once('/') {
        None => Some((None, place)),
        Some((user, name)) => {
            let user = user.strip_prefix("user-")?.parse().ok()?;
            (!name.contains('/')).then_some((Some(user), name))
        }
    }
}

/// The change that brings the agent into a unit.
///
/// # Errors
///
/// Why it must not be made.
pub(crate) fn plan(unit: &Unit, around: &Around, injection: &Injection) -> Result<Plan, Refusal> {
    refuse(unit, around)?;
    program::check(&around.program)?;
    if let Some(reason) = &around.unreachable {
        return Err(Refusal::unsupported("bundle_unreachable", reason.clone()));
    }
    let changes = environment::environment(&around.program.environment, injection);
    let secret: Vec<&str> = changes.iter().filter(|it| it.secret).map(|it| it.name).collect();
    let variables: BTreeMap<String, String> =
        changes.iter().map(|it| (it.name.to_owned(), it.after.clone())).collect();
    if let Some(name) = variables.keys().find(|name| {
        unit.unset.iter().any(|unset| unset == *name || unset.starts_with(&format!("{name}=")))
    }) {
        return Err(Refusal::unsupported(
            "unset",
            format!(
                "The unit takes {name} away with UnsetEnvironment=; let it stay there, then set the dial again."
            ),
        ));
    }
    let files = files_of(&around.directory, &variables, &secret);
    let systemctl = if around.user.is_some() { "systemctl --user" } else { "systemctl" };
    let by_hand = files.iter().map(|file| {
        format!("# {} (mode {:04o})\n{}\n", file.path.display(), file.mode, file.shown)
    });
    let by_hand = format!(
        "{}{systemctl} daemon-reload && {systemctl} restart {}",
        by_hand.collect::<String>(),
        shell(&unit.name)
    );
    let change = Change {
        unit: unit.name.clone(),
        user: around.user,
        files,
        directory: around.made.clone(),
        variables,
    };
    Ok(Plan {
        change: plan::Change::Systemd(change),
        findings: [findings(unit), program::findings(&around.program)].concat(),
        restart: format!(
            "{} is restarted once, by systemd; it is down for as long as that takes.",
            unit.name
        ),
        by_hand: vec![ByHand { tool: "an editor and systemctl".to_owned(), text: by_hand }],
    })
}

/// Both files in a directory, with these variables, some of which are secret.
fn files_of(directory: &Path, variables: &BTreeMap<String, String>, secret: &[&str]) -> Vec<File> {
    let (drop_in, file) = paths(directory);
    let text = |hide: bool| {
        let lines = variables.iter().map(|(name, value)| {
            let is_secret = secret.contains(&name.as_str());
            let value = if hide && is_secret { HIDDEN } else { value };
            format!("{name}={}\n", quoted(value))
        });
        format!("{MARK}\n{}", lines.collect::<String>())
    };
    // The `-` lets the unit start when the file is lost: the program matters more than we do.
    let named =
        format!("{MARK}\n[Service]\nEnvironmentFile=-{}\n", named(&file.display().to_string()));
    vec![
        File { path: file, mode: 0o600, text: text(false), shown: text(true) },
        File { path: drop_in, mode: 0o644, text: named.clone(), shown: named },
    ]
}

/// What speaks against changing the unit itself.
fn refuse(unit: &Unit, around: &Around) -> Result<(), Refusal> {
    let name = &unit.name;
    let unsupported = |code: &str, reason: String| Err(Refusal::unsupported(code, reason));
    if unit.load_state != "loaded" {
        return unsupported(
            "not_loaded",
            format!(
                "systemd says that {name} is {}; give it a file that systemd can load.",
                unit.load_state
            ),
        );
    }
    if unit.is_transient {
        return unsupported(
            "transient",
            format!(
                "{name} was made by systemd-run and is gone after a restart; start it with `sonde run` within."
            ),
        );
    }
    if unit.kind == "oneshot" {
        return unsupported(
            "one_shot",
            format!("{name} runs once and ends; put `sonde run --` before its command."),
        );
    }
    if !unit.can_stop || unit.refuses_manual_stop || unit.refuses_manual_start {
        return unsupported(
            "no_restart",
            format!(
                "{name} must not be restarted by hand (RefuseManualStop= or RefuseManualStart=); change that in the unit."
            ),
        );
    }
    refuse_now(unit, around)
}

/// What speaks against changing it as things stand.
fn refuse_now(unit: &Unit, around: &Around) -> Result<(), Refusal> {
    let name = &unit.name;
    let mut ours = [&around.drop_in, &around.variables].into_iter().flatten();
    if ours.any(|text| !text.starts_with(MARK)) {
        return Err(Refusal::conflict(
            "foreign_file",
            format!(
                "A file of ours for {name} is there already, and Sonde did not write it; move it away from {}.",
                around.directory.display()
            ),
        ));
    }
    if unit.needs_reload {
        return Err(Refusal::not_now(
            "needs_reload",
            format!(
                "Somebody changed files of {name} and did not reload systemd, and a reload for Sonde would put that in effect too; run `systemctl daemon-reload` first."
            ),
        ));
    }
    let age = around.now_micros.saturating_sub(unit.active_since_micros);
    let is_restless = unit.restarts > 0 && age < RESTLESS_MICROS;
    if unit.active_state != "active" || unit.main_pid == 0 || is_restless {
        return Err(Refusal::not_now(
            "unhealthy",
            format!(
                "{name} is not well even now (it is {}, {}, systemd started it anew {} times); mend it first.",
                unit.active_state, unit.sub_state, unit.restarts
            ),
        ));
    }
    Ok(())
}

fn findings(unit: &Unit) -> Vec<Finding> {
    let mut findings =
        vec![Finding::good(format!("{} is active, with process {}.", unit.name, unit.main_pid))];
    findings.push(Finding::warn("It is one process: while it restarts, nobody answers."));
    if unit.has_private_network {
        findings.push(Finding::warn("It has a network of its own (PrivateNetwork=), so what the agent sends may not get out."));
    }
    let later = unit.drop_ins.iter().filter_map(|path| path.rsplit('/').next());
    if let Some(later) = later.filter(|name| *name > DROP_IN).max() {
        findings.push(Finding::warn(format!("The drop-in {later} stands behind ours; if it sets the same variables, the change is taken back.")));
    }
    findings
}

impl Change {
    /// Directory of its files.
    pub(crate) fn place(&self) -> &Path {
        self.files.first().and_then(|file| file.path.parent()).unwrap_or(Path::new(""))
    }

    /// Directories that are made for it, the innermost first.
    pub(crate) fn made(&self) -> impl Iterator<Item = &Path> {
        let top = self.directory.as_deref();
        self.place().ancestors().take_while(move |it| top.is_some_and(|top| it.starts_with(top)))
    }

    /// What is written, as a difference. Secrets are hidden.
    pub(crate) fn difference(&self) -> String {
        let one = |file: &File| {
            let name = format!("{} (mode {:04o})", file.path.display(), file.mode);
            unified(&name, None, Some(&file.shown))
        };
        self.files.iter().rev().map(one).collect()
    }

    /// Variables that are not in effect in a process with this environment.
    pub(crate) fn missing(&self, effective: &BTreeMap<String, String>) -> Vec<&str> {
        let is_missing = |(name, value): &(&String, &String)| effective.get(*name) != Some(value);
        self.variables.iter().filter(is_missing).map(|(name, _)| name.as_str()).collect()
    }
}

/// A value of a file with variables (systemd.exec(5), `EnvironmentFile=`): in double quotes, where
/// four characters are escaped and line breaks stay.
fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for letter in value.chars() {
        if matches!(letter, '"' | '\\' | '`' | '$') {
            text.push('\\');
        }
        text.push(letter);
    }
    text.push('"');
    text
}

/// A path as `EnvironmentFile=` takes it: a pattern (glob(7)) in which specifiers are expanded
/// (systemd.unit(5)) before.
fn named(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for letter in path.chars() {
        match letter {
            '*' | '?' | '[' | '\\' => text.extend(['\\', letter]),
            '%' => text.push_str("%%"),
            other => text.push(other),
        }
    }
    text
}

fn shell(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
