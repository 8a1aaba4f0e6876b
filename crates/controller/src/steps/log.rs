//! The log of steps on the node itself: one JSON object a line, only ever added to, bounded by
//! setting old files aside and forgetting the oldest.

use contract::step::{Change, Phase, Progress, Step};
use serde::Serialize;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

/// Length at which a file is set aside.
const MAX_BYTES: u64 = 4 << 20;

/// Files that were set aside and are kept.
const MAX_OLD: u32 = 4;

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    file: PathBuf,
}

/// A line.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    at_unix_nanos: u64,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a str>,
    step: Change,
    actor: &'a str,
    why: &'a str,
    generation: u64,
    phase: Phase,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    change: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    output: &'a str,
    duration_ms: u64,
}

impl<'a> Entry<'a> {
    /// How a step goes.
    pub(super) fn of(step: &'a Step, progress: &'a Progress, at_unix_nanos: u64) -> Self {
        Self {
            at_unix_nanos,
            id: &step.id,
            workload: step.key.as_ref().map(|key| key.0.as_str()),
            step: step.change,
            actor: &step.actor,
            why: &step.reason,
            generation: step.generation,
            phase: progress.phase,
            reason: &progress.reason,
            change: &progress.change,
            output: &progress.output,
            duration_ms: progress.duration_ms,
        }
    }
}

impl Log {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Adds a line. A log that cannot be written stops nothing: the dashboard has it, too.
    pub(super) fn write(&self, entry: &Entry<'_>) {
        if let Err(error) = self.add(entry) {
            tracing::debug!(%error, file = %self.file.display(), "cannot write the log of steps");
        }
    }

    fn add(&self, entry: &Entry<'_>) -> std::io::Result<()> {
        if fs::metadata(&self.file).is_ok_and(|metadata| metadata.len() >= MAX_BYTES) {
            for number in (1..MAX_OLD).rev() {
                // One that is not there yet has nothing to give up.
                drop(fs::rename(self.old(number), self.old(number + 1)));
            }
            fs::rename(&self.file, self.old(1))?;
        }
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut file =
            fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&self.file)?;
        file.write_all(&line)
    }

    fn old(&self, number: u32) -> PathBuf {
        let name = self.file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        self.file.with_file_name(format!("{name}.{number}"))
    }
}

/// What the log of a directory says.
#[cfg(test)]
pub(super) fn lines(directory: &std::path::Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(directory.join("steps.log")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_the_newest_stays() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::new(directory.path().join("steps.log"));
        let full = vec![b'x'; usize::try_from(MAX_BYTES).unwrap()];
        let step = super::super::tests::step("s", 1);
        for number in 0..MAX_OLD + 3 {
            let progress = Progress::new("s", Phase::Done, &number.to_string());
            log.write(&Entry::of(&step, &progress, 1));
            assert_eq!(lines(directory.path()).last().unwrap()["reason"], number.to_string());
            fs::write(directory.path().join("steps.log"), &full).unwrap();
        }
        let count = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(count, usize::try_from(MAX_OLD + 1).unwrap());
    }
}
