//! One process, as `/proc` shows it.

use crate::arguments;
use crate::cgroup::{self, Cgroup};
use crate::declared::Declared;
use crate::inside::Inside;
use contract::workload::{Instance, Key, Platform};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// One tick of the start times in `/proc/PID/stat`: Linux counts a hundred a second for programs,
/// whatever the kernel is built with (`USER_HZ`).
pub(crate) const TICK_NANOS: u64 = 10_000_000;

/// Command lines of real programs are far shorter; the kernel allows 2 MiB.
const MAX_COMMAND_LINE: u64 = 256 << 10;

/// A process that maps 30 000 files has about this much text.
const MAX_MAPS: u64 = 8 << 20;

/// Longest path that the kernel takes.
const MAX_PATH: usize = 4_096;

/// More distinct mapped files than a program has.
const MAX_MAPPED_FILES: usize = 4_096;

/// A program that runs: one process, whose workload is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Identity of its workload.
    pub key: Key,
    /// Name of its workload.
    pub name: String,
    /// Where it runs.
    pub platform: Platform,
    /// What is known about the workload (unit, namespace, labels, image), by attribute name; what
    /// only this process has stands in the instance.
    pub attributes: BTreeMap<String, String>,
    /// Whether key and name may still change: the platform that manages it has yet to tell of it.
    pub provisional: bool,
    /// Start in clock ticks since boot, of which there are a hundred a second.
    pub start_ticks: u64,
    /// The process itself.
    pub instance: Instance,
}

/// What is left of a process that ended before it was read: what the kernel said of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Remains<'a> {
    /// Its id.
    pub pid: u32,
    /// Its start in clock ticks since boot.
    pub start_ticks: u64,
    /// Process that started it; 0 when not known.
    pub parent: u32,
    /// Number of its user.
    pub user: u32,
    /// What it called itself (`comm`).
    pub name: &'a str,
    /// Path of its executable, where that was seen.
    pub executable: Option<&'a str>,
    /// Its arguments, each ended by a zero byte, where they were seen.
    pub arguments: Option<&'a [u8]>,
    /// Path of its cgroup, where that was seen.
    pub cgroup: Option<&'a str>,
    /// Its working directory, where that was seen.
    pub directory: Option<&'a str>,
}

impl Program {
    /// Whether this is the process that the kernel says was started `start_nanos` after boot.
    pub fn started_at(&self, start_nanos: u64) -> bool {
        self.start_ticks == start_nanos / TICK_NANOS
    }
}

/// What is read of a process, before anything is made of it.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) start_ticks: u64,
    pub(crate) parent: u32,
    /// Effective user, as the node counts, not as a user namespace does.
    pub(crate) user: u32,
    /// Path of the executable in the process's own root; its name where the path may not be read.
    pub(crate) executable: String,
    /// Arguments with secrets masked, whole: for identity.
    pub(crate) arguments: Vec<String>,
    /// Arguments with secrets masked, cut to what is worth showing.
    pub(crate) shown_arguments: Vec<String>,
    pub(crate) directory: String,
    /// What the paths of `/proc/PID/cgroup` say.
    pub(crate) cgroup: Cgroup,
    /// What its owner said by the variables of the OpenTelemetry specification.
    pub(crate) declared: Declared,
    /// Files that are mapped, in order of their addresses, each once.
    pub(crate) mapped: Vec<String>,
    /// The files that the process sees; `None` where its root may not be opened.
    pub(crate) files: Option<Inside>,
    /// `/proc/PID/exe`: opens the executable even when it was replaced.
    pub(crate) executable_link: PathBuf,
}

impl Process {
    /// Reads process `pid`; `None` when it has ended or is a thread of the kernel.
    pub(crate) fn read(root: &Path, pid: u32) -> Option<Self> {
        let directory = root.join("proc").join(pid.to_string());
        let (start_ticks, parent) = start(root, pid)?;
        let user = user(root, pid)?;
        let raw_arguments = split(&read_bytes(&directory.join("cmdline"), MAX_COMMAND_LINE)?);
        let executable = match executable(root, pid) {
            Some(path) => path,
            // Another user's program: the first argument is all that may be seen.
            None => raw_arguments.first()?.clone(),
        };
        let arguments = arguments::masked(&raw_arguments);
        let process = Self {
            start_ticks,
            parent,
            user,
            executable: clean(&executable, MAX_PATH),
            shown_arguments: arguments::shown(&arguments),
            arguments,
            directory: self::directory(root, pid),
            cgroup: cgroup::read(&cgroup_paths(root, pid)),
            declared: Declared::read(&directory),
            mapped: mapped(&directory),
            files: Inside::of(&directory.join("root")),
            executable_link: directory.join("exe"),
        };
        // The id may have gone to another process while its files were read, and one that ended has
        // files that end early: half of its arguments would be another program's.
        let is_whole = start(root, pid)?.0 == start_ticks
            && (raw_arguments.is_empty() || has_memory(&directory));
        is_whole.then_some(process)
    }

    /// A process of which nothing is left but what the kernel said.
    pub(crate) fn of_remains(remains: &Remains<'_>) -> Self {
        let raw_arguments = split(remains.arguments.unwrap_or_default());
        let arguments = arguments::masked(&raw_arguments);
        Self {
            start_ticks: remains.start_ticks,
            parent: remains.parent,
            user: remains.user,
            executable: clean(remains.executable.unwrap_or(remains.name), MAX_PATH),
            shown_arguments: arguments::shown(&arguments),
            arguments,
            cgroup: cgroup::read(
                &remains.cgroup.map(str::to_owned).into_iter().collect::<Vec<_>>(),
            ),
            directory: clean(remains.directory.unwrap_or_default(), MAX_PATH),
            ..Self::default()
        }
    }

    /// Last part of the executable's path.
    pub(crate) fn executable_name(&self) -> &str {
        self.executable.rsplit('/').next().unwrap_or(&self.executable)
    }

    /// At most `limit` bytes of a text file that the process sees.
    pub(crate) fn text(&self, path: &str, limit: u64) -> Option<String> {
        self.files.as_ref()?.text(path, limit)
    }
}

/// Whether a process that has arguments still has the memory that they stand in.
fn has_memory(directory: &Path) -> bool {
    read_bytes(&directory.join("cmdline"), 1).is_some_and(|first| !first.is_empty())
}

/// The effective user. The owner of the directory would do, but is root for programs that changed
/// their user.
pub(crate) fn user(root: &Path, pid: u32) -> Option<u32> {
    let directory = root.join("proc").join(pid.to_string());
    let owner = fs::metadata(&directory).ok()?.uid();
    let status = read_text(&directory.join("status"), 16 << 10).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let effective = ids.and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
    Some(effective.unwrap_or(owner))
}

/// Start in ticks since boot, and parent.
pub(crate) fn start(root: &Path, pid: u32) -> Option<(u64, u32)> {
    let stat = read_text(&root.join("proc").join(pid.to_string()).join("stat"), 4096)?;
    // The name is in parentheses, and may hold parentheses and spaces.
    let mut fields = stat.get(stat.rfind(')')?..)?.split_whitespace().skip(1);
    let parent = fields.nth(1)?.parse().ok()?;
    let ticks = fields.nth(17)?.parse().ok()?;
    Some((ticks, parent))
}

/// Path of the executable, even when the file is gone.
pub(crate) fn executable(root: &Path, pid: u32) -> Option<String> {
    let path = link(&root.join("proc").join(pid.to_string()).join("exe"))?;
    Some(clean(path.trim_end_matches(" (deleted)"), MAX_PATH))
}

/// Arguments of a process as they are, for what runs containers.
pub(crate) fn arguments(root: &Path, pid: u32) -> Vec<String> {
    let file = root.join("proc").join(pid.to_string()).join("cmdline");
    split(&read_bytes(&file, MAX_COMMAND_LINE).unwrap_or_default())
}

/// Working directory of a process; empty where it may not be read.
pub(crate) fn directory(root: &Path, pid: u32) -> String {
    let path = link(&root.join("proc").join(pid.to_string()).join("cwd")).unwrap_or_default();
    clean(&path, MAX_PATH)
}

/// Ids of the processes that run, in order, at most `limit` of them.
pub(crate) fn pids(root: &Path, limit: usize) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(root.join("proc")) else { return Vec::new() };
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let mut pids: Vec<u32> = entries.flatten().filter_map(pid).take(limit).collect();
    pids.sort_unstable();
    pids
}

/// The paths of `/proc/PID/cgroup`, one a hierarchy.
pub(crate) fn cgroup_paths(root: &Path, pid: u32) -> Vec<String> {
    let file = root.join("proc").join(pid.to_string()).join("cgroup");
    let text = read_text(&file, 64 << 10).unwrap_or_default();
    text.lines().filter_map(|line| Some(line.splitn(3, ':').nth(2)?.to_owned())).collect()
}

fn mapped(directory: &Path) -> Vec<String> {
    let text = read_text(&directory.join("maps"), MAX_MAPS).unwrap_or_default();
    let mut files: Vec<String> = Vec::new();
    for line in text.lines() {
        let Some(path) = line.find('/').and_then(|at| line.get(at..)) else { continue };
        let path = path.trim_end_matches(" (deleted)");
        // Segments of one file follow each other.
        if files.last().is_none_or(|last| last != path) && files.len() < MAX_MAPPED_FILES {
            files.push(path.to_owned());
        }
    }
    files
}

fn split(command_line: &[u8]) -> Vec<String> {
    // A program that overwrites its title leaves zeros behind it.
    let end = command_line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    command_line[..end]
        .split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

fn link(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.to_string_lossy().into_owned())
}

/// Reads at most `limit` bytes of a file of `/proc`; what fits into a page with one call, so that it
/// is of one moment.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4096);
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Reads at most `limit` bytes of text.
pub(crate) fn read_text(path: &Path, limit: u64) -> Option<String> {
    Some(String::from_utf8_lossy(&read_bytes(path, limit)?).into_owned())
}

/// The text without what [`is_shown`] leaves out, at most `length` characters of it.
pub(crate) fn clean(text: &str, length: usize) -> String {
    text.chars().filter(|character| is_shown(*character)).take(length).collect()
}

/// Whether a character shows as itself: not those that control, nor those that turn the direction of
/// what stands around them (Unicode's bidirectional marks), with which a text looks like another.
pub(crate) fn is_shown(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !turns && !character.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt as _;

    const O_NONBLOCK: i32 = 0o4000;

    #[test]
    fn a_process_that_ends_while_it_is_read_is_not_half_read() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("proc/7");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("stat"), format!("7 (x) S 1 {}99 0", "0 ".repeat(17))).unwrap();
        let arguments = directory.join("cmdline");
        let made = std::process::Command::new("mkfifo").arg(&arguments).status().unwrap();
        assert!(made.success());
        let reader = std::thread::spawn({
            let root = root.path().to_owned();
            move || Process::read(&root, 7)
        });
        // Half of them when they are read first, nothing from then on.
        fs::write(&arguments, b"/bin/x\0ser").unwrap();
        while !reader.is_finished() {
            let writer =
                fs::OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(&arguments);
            drop(writer);
            std::thread::yield_now();
        }
        assert_eq!(reader.join().unwrap().map(|process| process.arguments), None);
    }
}
