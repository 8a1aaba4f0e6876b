//! Requests that wait for a receiver that is away: on disk, in order, up to a limit; in memory where
//! the disk takes none.
//!
//! A request is kept as it will be sent, ids included, so that one that arrives twice is known to be
//! the same. What is on disk is sent after a restart, too.

use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// On disk: about half a million calls, hours of a busy node.
const MAX_DISK_BYTES: u64 = 256 << 20;

/// Files; a directory with more is slow to list.
const MAX_FILES: usize = 16_384;

/// In memory, where the disk takes none: some ten thousand calls.
const MAX_MEMORY_BYTES: u64 = 8 << 20;

/// Longest request that is read back; one has at most 512 calls.
const MAX_REQUEST_BYTES: u64 = 16 << 20;

const ENDING: &str = "otlp";

/// Requests that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Spool {
    directory: Option<PathBuf>,
    waiting: VecDeque<Waiting>,
    disk_bytes: u64,
    memory_bytes: u64,
    next: u64,
    /// How many calls wait, for those who ask.
    length: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Waiting {
    place: Place,
    spans: u64,
    bytes: u64,
}

#[derive(Debug)]
enum Place {
    Disk(PathBuf),
    Memory(Vec<u8>),
}

impl Spool {
    /// What waits in a directory; in memory alone where none is named.
    pub(super) fn open(directory: Option<PathBuf>, length: Arc<AtomicU64>) -> Self {
        let mut spool = Self { directory, length, ..Self::default() };
        let Some(directory) = spool.directory.clone() else { return spool };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        if let Err(error) = made {
            tracing::warn!(%error, directory = %directory.display(), "cannot keep calls on disk while a receiver is away; some wait in memory");
        }
        let mut found: Vec<(u64, Waiting)> = fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| waiting(&entry.ok()?.path()))
            .collect();
        found.sort_by_key(|(number, _)| *number);
        for (number, one) in found.into_iter().take(MAX_FILES) {
            spool.next = number + 1;
            spool.disk_bytes += one.bytes;
            spool.add(one);
        }
        spool
    }

    /// Keeps a request; false when there is no room for it.
    pub(super) fn push(&mut self, body: Vec<u8>, spans: u64) -> bool {
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let has_room = self.disk_bytes + bytes <= MAX_DISK_BYTES && self.waiting.len() < MAX_FILES;
        if has_room && let Some(file) = self.write(&body, spans) {
            self.disk_bytes += bytes;
            self.add(Waiting { place: Place::Disk(file), spans, bytes });
            return true;
        }
        // Beyond the limit of the disk nothing more is kept: memory is for a disk that fails.
        if !has_room || self.memory_bytes + bytes > MAX_MEMORY_BYTES {
            return false;
        }
        self.memory_bytes += bytes;
        self.add(Waiting { place: Place::Memory(body), spans, bytes });
        true
    }

    /// The oldest request, and how many calls it has. One that cannot be read any more is left out.
    pub(super) fn front(&mut self) -> Option<(Vec<u8>, u64)> {
        loop {
            let front = self.waiting.front()?;
            match &front.place {
                Place::Memory(body) => return Some((body.clone(), front.spans)),
                Place::Disk(file) => match fs::read(file) {
                    Ok(body) if !body.is_empty() => return Some((body, front.spans)),
                    _ => {
                        tracing::warn!(file = %file.display(), "cannot read calls that were kept; they are lost");
                        self.pop();
                    }
                },
            }
        }
    }

    /// The oldest request is not needed any more.
    pub(super) fn pop(&mut self) {
        let Some(front) = self.waiting.pop_front() else { return };
        self.length.fetch_sub(front.spans, Ordering::Relaxed);
        match front.place {
            Place::Disk(file) => {
                self.disk_bytes = self.disk_bytes.saturating_sub(front.bytes);
                if let Err(error) = fs::remove_file(&file) {
                    tracing::debug!(%error, file = %file.display(), "cannot remove calls that were sent");
                }
            }
            Place::Memory(_) => self.memory_bytes = self.memory_bytes.saturating_sub(front.bytes),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Calls that a restart would lose.
    pub(super) fn in_memory(&self) -> u64 {
        let spans = self.waiting.iter().map(|one| match one.place {
            Place::Memory(_) => one.spans,
            Place::Disk(_) => 0,
        });
        spans.sum()
    }

    fn add(&mut self, one: Waiting) {
        self.length.fetch_add(one.spans, Ordering::Relaxed);
        self.waiting.push_back(one);
    }

    fn write(&mut self, body: &[u8], spans: u64) -> Option<PathBuf> {
        let directory = self.directory.as_ref()?;
        let file = directory.join(format!("{:020}-{spans}.{ENDING}", self.next));
        let fresh = directory.join("new");
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut out| out.write_all(body))
            .and_then(|()| fs::rename(&fresh, &file));
        match written {
            Ok(()) => {
                self.next += 1;
                Some(file)
            }
            Err(error) => {
                // A part of it must not take room on a disk that is full.
                drop(fs::remove_file(&fresh));
                tracing::debug!(%error, "cannot keep calls on disk; they wait in memory");
                None
            }
        }
    }
}

/// Reads `NUMBER-SPANS.otlp`.
fn waiting(file: &Path) -> Option<(u64, Waiting)> {
    let name = file.file_stem()?.to_str()?;
    if file.extension()?.to_str()? != ENDING {
        return None;
    }
    let (number, spans) = name.split_once('-')?;
    let bytes = fs::metadata(file).ok()?.len();
    if bytes > MAX_REQUEST_BYTES {
        return None;
    }
    let one = Waiting { place: Place::Disk(file.to_owned()), spans: spans.parse().ok()?, bytes };
    Some((number.parse().ok()?, one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Spool {
        Spool::open(Some(directory.join("spool")), Arc::default())
    }

    #[test]
    fn what_waits_survives_a_restart_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = open(directory.path());
        for number in 0..12_u8 {
            assert!(spool.push(vec![number], 2));
        }
        spool.pop();
        let mut again = open(directory.path());
        assert_eq!((again.length.load(Ordering::Relaxed), again.in_memory()), (22, 0));
        for number in 1..12_u8 {
            assert_eq!(again.front(), Some((vec![number], 2)));
            again.pop();
        }
        assert_eq!((again.front(), again.is_empty()), (None, true));
        assert!(again.push(vec![99], 1));
        assert_eq!(open(directory.path()).front(), Some((vec![99], 1)));
    }

    #[test]
    fn a_disk_that_takes_nothing_leaves_memory_up_to_a_limit() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = open(directory.path());
        fs::remove_dir_all(directory.path().join("spool")).unwrap();
        let megabyte = vec![0; 1 << 20];
        for _ in 0..8 {
            assert!(spool.push(megabyte.clone(), 1));
        }
        assert!(!spool.push(megabyte, 1), "bounded");
        assert_eq!(spool.in_memory(), 8);
    }

    #[test]
    fn files_that_are_gone_or_are_no_calls_stop_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = open(directory.path());
        spool.push(vec![1], 1);
        spool.push(vec![2], 1);
        let spooled = directory.path().join("spool");
        fs::write(spooled.join("notes.txt"), "x").unwrap();
        fs::write(spooled.join("x-y.otlp"), "x").unwrap();
        fs::write(spooled.join(format!("{:020}-1.otlp", 0)), "").unwrap();
        assert_eq!(open(directory.path()).front(), Some((vec![2], 1)));
    }
}
