//! The configuration that comes from the dashboard: checked, applied, kept on disk, and told back.
//!
//! It is how the controller works, and no more: what the node's own configuration forbids is decided
//! by `ceilings`, which never looks here.

use crate::file;
use contract::settings::{Applied, Configuration, LogLevel, Settings};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The file has a few hundred bytes.
const MAX_FILE: u64 = 64 << 10;

/// How often a report goes out when nothing changes and nobody set it.
const HEARTBEAT: Duration = Duration::from_secs(25);

/// The configuration that holds; shared by those who work by it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tuning(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    file: Option<PathBuf>,
    set_log: Option<fn(LogLevel)>,
    /// What is in effect.
    settings: Settings,
    /// What was tried last, and how it went.
    applied: Option<Applied>,
}

impl Tuning {
    /// What was kept in a directory, in effect again.
    pub(crate) fn open(directory: &Path, set_log: Option<fn(LogLevel)>) -> Self {
        let file = directory.join("configuration.json");
        let kept: Option<Configuration> = file::load(&file, MAX_FILE, |_| Ok(()));
        let state = State { file: Some(file), set_log, ..State::default() };
        let tuning = Self(Arc::new(Mutex::new(state)));
        if let Some(kept) = kept {
            tuning.apply(&kept);
        }
        tuning
    }

    /// What is in effect.
    pub(crate) fn settings(&self) -> Settings {
        self.state().settings.clone()
    }

    /// What was tried last, and how it went.
    pub(crate) fn applied(&self) -> Option<Applied> {
        self.state().applied.clone()
    }

    /// How often a report goes out when nothing changes.
    pub(crate) fn heartbeat(&self) -> Duration {
        let seconds = self.state().settings.heartbeat_seconds;
        seconds.map_or(HEARTBEAT, |seconds| Duration::from_secs(seconds.into()))
    }

    /// Tries a configuration, and keeps it when it is good; what was in effect stays where it is not.
    pub(crate) fn take(&self, configuration: &Configuration) {
        if self.applied().is_some_and(|applied| applied.hash == configuration.hash) {
            return;
        }
        if !self.apply(configuration) {
            return;
        }
        let file = self.state().file.clone();
        if let Some(Err(error)) = file.map(|file| file::replace(&file, configuration)) {
            let error =
                format!("It holds until the controller ends, because it cannot be kept: {error}.");
            tracing::warn!(
                error,
                "cannot keep the configuration of the dashboard; make room in the data directory"
            );
            self.state().applied =
                Some(Applied { hash: configuration.hash.clone(), error: Some(error) });
        }
    }

    /// Puts a configuration into effect; false when it is refused.
    fn apply(&self, configuration: &Configuration) -> bool {
        let settings = &configuration.settings;
        let mut state = self.state();
        let complaint = settings.complaint();
        let is_good = complaint.is_none();
        let mut error = complaint.map(|it| format!("Nothing of it is in effect: {it}."));
        if is_good {
            match (settings.log, state.set_log) {
                (Some(level), Some(set)) => set(level),
                (Some(_), None) => {
                    error = Some("`log` is not in effect: this controller cannot change it while it runs; set it with --log.".to_owned());
                }
                (None, _) => {}
            }
            state.settings = settings.clone();
        }
        state.applied = Some(Applied { hash: configuration.hash.clone(), error });
        is_good
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::capture::Level;

    fn configuration(hash: &str, heartbeat: u32) -> Configuration {
        let settings = Settings {
            heartbeat_seconds: Some(heartbeat),
            default_capture: Some(Level::Network),
            ..Settings::default()
        };
        Configuration { hash: hash.to_owned(), settings, ..Configuration::default() }
    }

    #[test]
    fn it_is_applied_told_back_and_kept_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let tuning = Tuning::open(directory.path(), None);
        assert_eq!((tuning.applied(), tuning.heartbeat()), (None, HEARTBEAT));
        tuning.take(&configuration("a", 60));
        let applied = Applied { hash: "a".to_owned(), error: None };
        assert_eq!(tuning.applied(), Some(applied.clone()));
        let again = Tuning::open(directory.path(), None);
        assert_eq!(again.applied(), Some(applied));
        assert_eq!(again.heartbeat(), Duration::from_secs(60));
    }

    #[test]
    fn what_is_out_of_its_limits_is_refused_and_said_and_the_old_one_holds() {
        let directory = tempfile::tempdir().unwrap();
        let tuning = Tuning::open(directory.path(), None);
        tuning.take(&configuration("a", 60));
        tuning.take(&configuration("b", 1));
        let applied = tuning.applied().unwrap();
        assert_eq!(applied.hash, "b");
        assert!(applied.error.unwrap().contains("heartbeat_seconds"));
        assert_eq!(tuning.heartbeat(), Duration::from_secs(60));
        let again = Tuning::open(directory.path(), None);
        assert_eq!(again.applied().unwrap().hash, "a");
    }

    #[test]
    fn a_part_that_cannot_be_applied_is_named() {
        let tuning = Tuning::default();
        let mut with_log = configuration("c", 60);
        with_log.settings.log = Some(LogLevel::Debug);
        tuning.take(&with_log);
        assert!(tuning.applied().unwrap().error.unwrap().contains("`log`"));
        assert_eq!(tuning.heartbeat(), Duration::from_secs(60), "the rest is in effect");
    }
}
