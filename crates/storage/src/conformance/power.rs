//! What was reported as kept is there after the power went, once.
//!
//! A writer runs under `strace`, which notes every write, every wait for the disk and every report.
//! Of that, disks are made as they may look after a power cut at any moment: what was waited for is
//! there; of all else any part may be, in any order, the last write torn within a sector's edge,
//! and a file whose directory was not waited for may be missing. The store must come back from each.

use super::durability::{check, numbered};
use crate::Store;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names the directory to the process that is watched.
const DIR: &str = "SONDE_TEST_WRITE_FOR_POWER";
/// Submissions of the writer: enough that calls are sealed several times.
const SUBMISSIONS: u64 = 170;
/// Power cuts, spread over all that was done.
const CUTS: u64 = 120;
/// What a disk writes whole, or not at all.
const SECTOR: usize = 512;

/// What a process did to a file, as far as a disk is concerned.
#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Append(Vec<u8>),
    Resize(usize),
}

#[derive(Debug)]
enum Event {
    Create(PathBuf),
    Remove(PathBuf),
    Change(PathBuf, Change),
    /// Waited for a file or a directory: what was done before the event of this number is there.
    Synced(PathBuf, usize),
    /// Calls were reported as kept.
    Kept(u64, u64),
}

#[expect(clippy::disallowed_methods, reason = "how a test speaks to its own child")]
fn child() -> Option<PathBuf> {
    std::env::var(DIR).ok().map(PathBuf::from)
}

fn write_some(dir: &Path) {
    let store = Store::open(dir).unwrap();
    let mut number = 1;
    for submission in 0..SUBMISSIONS {
        let len = [1, 3, 60, 350][usize::try_from(submission % 4).unwrap()];
        let kept = store.insert((number..number + len).map(numbered).collect()).unwrap();
        assert_eq!((kept.new.len() as u64, kept.duplicates), (len, 0));
        println!("kept {number} {len}");
        number += len;
    }
}

/// The bytes of a text of `strace -xx`.
fn unhex(text: &str) -> Vec<u8> {
    let digits = text.split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(&digits[..2], 16).unwrap()).collect()
}

fn path(text: &str) -> PathBuf {
    String::from_utf8(unhex(text)).unwrap().into()
}

/// The path that `strace -y` writes behind a descriptor.
fn of_descriptor(arguments: &str) -> Option<(PathBuf, &str)> {
    let (_, rest) = arguments.split_once('<')?;
    let (name, rest) = rest.split_once('>')?;
    Some((path(name), rest))
}

/// The bytes that a call was given.
fn quoted(from: &str) -> Vec<u8> {
    unhex(from.split('"').nth(1).unwrap_or_default())
}

/// What a call changes in a file; `rest` is what follows the descriptor.
fn change(name: &str, rest: &str) -> Change {
    let number = |at: usize| -> usize {
        let behind = rest.rsplit('"').next().unwrap_or(rest);
        let numbers = behind.split([',', ')', '<']).map(str::trim);
        numbers.filter(|word| !word.is_empty()).nth(at).unwrap().parse().unwrap()
    };
    match name {
        "write" => Change::Append(quoted(rest)),
        "pwrite64" => Change::Write(number(1), quoted(rest)),
        _ => Change::Resize(number(0)),
    }
}

/// Reads what `strace` wrote. Databases and what stands beside them alone: all other files are of
/// one write each.
fn events(log: &str, dir: &Path) -> Vec<Event> {
    let mut events = Vec::new();
    let mut waiting: HashMap<&str, (PathBuf, usize)> = HashMap::new();
    let is_ours = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path == dir || (path.starts_with(dir) && !name.ends_with("-shm"))
    };
    for line in log.lines() {
        let Some((pid, line)) = line.split_once(' ') else { continue };
        let line = line.trim_start();
        if line.starts_with("<... f") {
            if let Some((path, before)) = waiting.remove(pid).filter(|_| line.ends_with("= 0")) {
                events.push(Event::Synced(path, before));
            }
            continue;
        }
        let Some((name, arguments)) = line.split_once('(') else { continue };
        if line.contains(") = -1 ") {
            continue;
        }
        match name {
            "openat" if arguments.contains("O_CREAT") => {
                let path = String::from_utf8(quoted(arguments)).unwrap();
                events.push(Event::Create(path.into()));
            }
            "unlink" => {
                let path = String::from_utf8(quoted(arguments)).unwrap();
                events.push(Event::Remove(path.into()));
            }
            "write" if arguments.starts_with("1<") => {
                let text = String::from_utf8(quoted(arguments)).unwrap();
                let Some((_, numbers)) = text.trim_end().split_once("kept ") else { continue };
                let (first, len) = numbers.split_once(' ').unwrap();
                events.push(Event::Kept(first.parse().unwrap(), len.parse().unwrap()));
            }
            "write" | "pwrite64" | "ftruncate" | "fsync" | "fdatasync" => {
                let Some((path, rest)) = of_descriptor(arguments) else { continue };
                match name {
                    _ if !is_ours(&path) => {}
                    "write" | "pwrite64" | "ftruncate" => {
                        events.push(Event::Change(path, change(name, rest)));
                    }
                    _ if line.contains("<unfinished") => {
                        waiting.insert(pid, (path, events.len()));
                    }
                    _ => {
                        let before = events.len();
                        events.push(Event::Synced(path, before));
                    }
                }
            }
            _ => {}
        }
    }
    events.retain(|event| match event {
        Event::Create(path) | Event::Remove(path) => is_ours(path),
        _ => true,
    });
    events
}

/// Numbers that look random and are the same every time (Knuth's MMIX).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>, torn: Option<usize>) {
        let mut put = |at: usize, bytes: &[u8]| {
            // Edges of sectors are those of the disk.
            let end = torn.map_or(at + bytes.len(), |sectors| (at / SECTOR + sectors) * SECTOR);
            let bytes = &bytes[..end.saturating_sub(at).min(bytes.len())];
            if to.len() < at + bytes.len() {
                to.resize(at + bytes.len(), 0);
            }
            to[at..at + bytes.len()].copy_from_slice(bytes);
        };
        match self {
            Self::Write(at, bytes) => put(*at, bytes),
            Self::Append(bytes) => to.extend_from_slice(bytes),
            Self::Resize(len) => to.resize(*len, 0),
        }
    }
}

/// A disk as it may look when the power goes before the event of a number, and what was reported
/// as kept until then.
fn after_a_cut(
    events: &[Event],
    chance: &mut Chance,
) -> (BTreeMap<PathBuf, Vec<u8>>, BTreeSet<u64>) {
    let mut kept = BTreeSet::new();
    // For each event, whether the disk was waited for since.
    let mut is_there = vec![false; events.len()];
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Kept(first, len) => kept.extend(*first..first + len),
            Event::Synced(path, before) => {
                for (earlier, there) in events[..*before.min(&at)].iter().zip(&mut is_there) {
                    *there |= match earlier {
                        Event::Change(of, _) => of == path,
                        Event::Create(of) | Event::Remove(of) => of.parent() == Some(path),
                        Event::Synced(..) | Event::Kept(..) => false,
                    };
                }
            }
            Event::Create(_) | Event::Remove(_) | Event::Change(..) => {}
        }
    }
    // How much of what was not waited for is there: none, all, or some.
    let mood = chance.below(4);
    let luck = move |chance: &mut Chance| match mood {
        0 => false,
        1 => true,
        _ => chance.below(2) == 0,
    };
    let mut disk: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    let mut named: BTreeMap<&Path, bool> = BTreeMap::new();
    for (event, is_there) in events.iter().zip(is_there) {
        match event {
            Event::Create(path) => {
                if !disk.contains_key(path) {
                    disk.insert(path.clone(), Vec::new());
                    named.insert(path, is_there || luck(chance));
                }
            }
            Event::Remove(path) => {
                if is_there || luck(chance) {
                    disk.remove(path);
                }
            }
            Event::Change(path, change) => {
                let Some(file) = disk.get_mut(path) else { continue };
                if is_there || luck(chance) {
                    let torn = (!is_there && mood == 3).then(|| chance.below(8));
                    change.apply(file, torn);
                }
            }
            Event::Synced(..) | Event::Kept(..) => {}
        }
    }
    disk.retain(|path, _| named.get(path.as_path()).copied().unwrap_or(true));
    (disk, kept)
}

#[test]
fn nothing_that_was_reported_as_kept_is_lost_when_the_power_goes() {
    if let Some(dir) = child() {
        return write_some(&dir);
    }
    let place = tempfile::tempdir().unwrap();
    let (dir, log) = (place.path().join("data"), place.path().join("strace.log"));
    std::fs::create_dir(&dir).unwrap();
    let calls = "trace=openat,unlink,write,pwrite64,ftruncate,fsync,fdatasync";
    let watched = Command::new("strace")
        .args(["-f", "-qq", "-y", "-xx", "-s", "100000000", "-e", calls, "-e", "signal=none", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("conformance::power::nothing_that_was_reported_as_kept_is_lost_when_the_power_goes")
        .env(DIR, &dir)
        .stdout(Stdio::null())
        .status();
    let status = watched.expect("strace is missing; `./dev test` installs it");
    assert!(status.success(), "the writer failed");
    let events = events(&std::fs::read_to_string(&log).unwrap(), &dir);
    let reports = events.iter().filter(|event| matches!(event, Event::Kept(..))).count();
    assert_eq!(reports as u64, SUBMISSIONS, "every report was seen");
    let mut chance = Chance(7);
    let mut sealed = 0;
    for cut in 0..CUTS {
        // Everywhere, and often right behind a report.
        let mut at = chance.below(events.len());
        if cut % 3 == 0 {
            while at < events.len() && !matches!(events[at], Event::Kept(..)) {
                at += 1;
            }
            at = (at + 1).min(events.len());
        }
        let (disk, kept) = after_a_cut(&events[..at], &mut chance);
        let cut_dir = tempfile::tempdir().unwrap();
        for (path, bytes) in &disk {
            std::fs::write(cut_dir.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
        sealed += u64::from(kept.len() > 8192);
        let what = format!("cut {cut} before event {at} of {}", events.len());
        let store = Store::open(cut_dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        check(&store, &kept, &what);
    }
    assert!(sealed > 10, "cuts after calls were sealed: {sealed}");
}
