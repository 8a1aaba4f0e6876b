//! The root of cgroup v2, where programs see the sockets of every process of the node.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use crate::system;

/// Entries of `/proc` that are looked at for a process in the first cgroup namespace. The first
/// processes of a node, its kernel threads among them, are.
const MAX_PROCESSES: usize = 1024;

/// A directory to attach to.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) directory: File,
    /// Whether it is the root for the whole node, and not that of our own cgroup namespace.
    pub(crate) is_whole: bool,
    /// How it was found, for people.
    pub(crate) found: String,
}

/// Finds the root: among the mounts, else by a mount of our own that nobody else sees.
///
/// # Errors
///
/// When cgroup v2 is nowhere and may not be mounted.
pub(crate) fn open() -> io::Result<Root> {
    let mounted = mounted();
    if let Some(path) = mounted.iter().find(|path| is_whole(path)) {
        return Root::at(path, true);
    }
    let own = mount_privately(initial_namespace());
    match mounted.first() {
        Some(path) if !own.as_ref().is_ok_and(|root| root.is_whole) => Root::at(path, false),
        _ => own,
    }
}

/// Where cgroup v2 is mounted and can be reached; the root of the node first.
pub(crate) fn mounted() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // A mount that another one covers is still listed, and its path is another's or nobody's.
    let is_reached = |path: &PathBuf| path.join("cgroup.procs").exists();
    let mut paths: Vec<PathBuf> = text.lines().filter_map(mount_point).filter(is_reached).collect();
    paths.sort_by_key(|path| !is_whole(path));
    paths
}

/// Only the root has no type (since 4.14).
fn is_whole(path: &Path) -> bool {
    path.join("cgroup.procs").exists() && !path.join("cgroup.type").exists()
}

/// The path of a line of `/proc/self/mountinfo`, if it is of cgroup v2.
fn mount_point(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    if kind.split(' ').next() != Some("cgroup2") {
        return None;
    }
    // Spaces and the like are written as three octal digits (man 5 proc_pid_mountinfo).
    let escaped = mount.split(' ').nth(4)?;
    let mut path = String::new();
    let mut parts = escaped.split('\\');
    path.push_str(parts.next()?);
    for part in parts {
        let (digits, rest) = part.split_at_checked(3)?;
        path.push(char::from(u8::from_str_radix(digits, 8).ok()?));
        path.push_str(rest);
    }
    Some(PathBuf::from(path))
}

impl Root {
    fn at(path: &Path, is_whole: bool) -> io::Result<Self> {
        let found = format!("cgroup v2 is mounted at {}", path.display());
        Ok(Self { directory: File::open(path)?, is_whole, found })
    }
}

/// The cgroup namespace that has the root of the node, when a process of it can be seen and
/// looked into. The kernel numbers it always the same (`PROC_CGROUP_INIT_INO`).
fn initial_namespace() -> Option<File> {
    const INITIAL: &str = "cgroup:[4026531835]";
    let pids = fs::read_dir("/proc").ok()?.flatten();
    let paths = pids.map(|pid| pid.path().join("ns/cgroup")).take(MAX_PROCESSES);
    let is_initial = |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to == Path::new(INITIAL));
    paths.filter(is_initial).find_map(|path| File::open(path).ok())
}

/// Makes a mount that is no part of any tree and ends with its descriptor, on a thread of its
/// own, because the thread enters the namespace.
fn mount_privately(namespace: Option<File>) -> io::Result<Root> {
    let mount = move || -> io::Result<OwnedFd> {
        if let Some(namespace) = namespace {
            system::enter_cgroup_namespace(&namespace)?;
        }
        system::mount_detached(c"cgroup2")
    };
    let thread = thread::Builder::new().name("mount".to_owned()).spawn(mount)?;
    let mount = thread.join().map_err(|_panic| io::Error::other("the thread failed"))??;
    let through = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
    let directory = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&through)?;
    let found = "cgroup v2 is mounted for this process alone".to_owned();
    Ok(Root { is_whole: is_whole(&through), directory, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_v2_are_found_wherever_they_are() {
        let line = "35 25 0:30 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(mount_point(line), Some("/sys/fs/cgroup/unified".into()));
        let line = "35 25 0:30 /../.. /a\\040b\\134c rw - cgroup2 none rw";
        assert_eq!(mount_point(line), Some("/a b\\c".into()));
        let line = "36 25 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids";
        assert_eq!(mount_point(line), None);
        for strange in ["", " - ", " - cgroup2", "a b c d \\9 - cgroup2"] {
            assert_eq!(mount_point(strange), None, "{strange}");
        }
    }
}
