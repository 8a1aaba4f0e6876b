//! Files below a root that somebody else controls, read without ever leaving it.
//!
//! Every file of a container or of another program's directory goes through here. The kernel resolves
//! the path below the root (openat2(2), Linux 5.6): an absolute link or `..` ends inside of it, the
//! links of `/proc` are refused. Only regular files are opened at all, never a pipe or a device, and
//! at most as many bytes are read as the caller expects. Where the kernel is older, nothing is read.

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

/// A directory that paths cannot leave.
#[derive(Debug)]
pub(crate) struct Inside {
    root: OwnedFd,
}

impl Inside {
    /// The directory `root`, for instance `/proc/PID/root`, which the kernel itself answers for.
    pub(crate) fn of(root: &Path) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Some(Self { root: fs::open(root, flags, Mode::empty()).ok()? })
    }

    /// Opens a regular file; `path` begins at the root, with or without a slash.
    pub(crate) fn open(&self, path: &str) -> Option<File> {
        let found = self.find(path, OFlags::PATH)?;
        let kind = fs::FileType::from_raw_mode(fs::fstat(&found).ok()?.st_mode);
        // Opening a device does something to it: what is not a regular file is left alone.
        if !kind.is_file() {
            return None;
        }
        let again = format!("/proc/self/fd/{}", found.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        Some(File::from(fs::open(again, flags, Mode::empty()).ok()?))
    }

    /// At most `limit` bytes of a file.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.take(limit).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// At most `limit` bytes of text.
    pub(crate) fn text(&self, path: &str, limit: u64) -> Option<String> {
        Some(String::from_utf8_lossy(&self.read(path, limit)?).into_owned())
    }

    fn find(&self, path: &str, flags: OFlags) -> Option<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A root that its owner made hostile, beside a secret.
    fn hostile() -> (tempfile::TempDir, Inside) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir_all(root.join("etc/deep")).unwrap();
        std::fs::write(directory.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("etc/inner"), "inner").unwrap();
        symlink("../../secret", root.join("etc/up")).unwrap();
        symlink(directory.path().join("secret"), root.join("etc/absolute")).unwrap();
        symlink("/etc/inner", root.join("etc/within")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.join("etc/magic")).unwrap();
        symlink("../../..", root.join("etc/out")).unwrap();
        symlink("round", root.join("etc/round")).unwrap();
        let inside = Inside::of(&root).unwrap();
        (directory, inside)
    }

    #[test]
    fn no_link_leads_out_of_the_root() {
        let (_directory, inside) = hostile();
        assert_eq!(inside.text("/etc/inner", 99).as_deref(), Some("inner"));
        assert_eq!(inside.text("etc/within", 99).as_deref(), Some("inner"), "absolute, and inside");
        for path in [
            "etc/up",
            "etc/absolute",
            "etc/magic",
            "etc/out/secret",
            "etc/round",
            "../secret",
            "/../../secret",
        ] {
            assert_eq!(inside.text(path, 99), None, "{path}");
        }
    }

    #[test]
    fn a_link_of_proc_is_refused_even_where_proc_is_mounted() {
        let inside = Inside::of(Path::new("/")).unwrap();
        assert!(inside.text("/proc/self/root/etc/passwd", 99).is_none());
        assert!(inside.text("/proc/uptime", 99).is_some());
    }

    #[test]
    fn pipes_and_devices_are_not_opened_and_files_are_cut() {
        let (directory, inside) = hostile();
        let pipe = directory.path().join("root/etc/pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        // Would wait for a writer for ever.
        assert!(inside.open("etc/pipe").is_none());
        assert!(inside.open("etc").is_none());
        assert!(Inside::of(Path::new("/")).unwrap().open("/dev/zero").is_none());
        assert_eq!(inside.text("etc/inner", 3).as_deref(), Some("inn"));
    }
}
