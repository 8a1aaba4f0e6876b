//! Where a running Sonde is found on this machine: its data directory and its socket.
//!
//! The socket lies in the data directory. While it runs, each Sonde has a link to its socket in the
//! runtime directory, so that `sonde services` finds it without being told where it keeps its data.

use crate::config::environment;
use crate::failure::Failure;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Name of the socket in the data directory.
pub(crate) const SOCKET: &str = "sonde.sock";

/// Socket of the controller below the data directory, where a dashboard has the other one.
pub(crate) const CONTROLLER_SOCKET: &str = "controller/controller.sock";

/// Directory for everything that is kept, when none is named.
///
/// # Errors
///
/// [`Failure::Usage`] when this user has no home directory.
pub(crate) fn default_data_dir() -> Result<PathBuf, Failure> {
    if is_root() {
        return Ok(PathBuf::from("/var/lib/sonde"));
    }
    environment("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| environment("HOME").map(|home| PathBuf::from(home).join(".local/state")))
        .map(|state| state.join("sonde"))
        .ok_or_else(|| {
            Failure::usage(
                "cannot choose a data directory: HOME is not set; name one with --data-dir",
            )
        })
}

/// Makes the data directory for its owner alone, and checks that it can be written.
///
/// # Errors
///
/// [`Failure::Usage`] that names the directory.
pub(crate) fn prepare(data_dir: Option<&Path>) -> Result<PathBuf, Failure> {
    let directory = match data_dir {
        Some(directory) => std::path::absolute(directory).map_err(anyhow::Error::from)?,
        None => default_data_dir()?,
    };
    let cannot = |error: std::io::Error| {
        Failure::usage(format!(
            "cannot write to the data directory `{}`: {error}; name another with --data-dir, or \
             change its owner or mode",
            directory.display()
        ))
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(cannot)?;
    let probe = directory.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"").map_err(cannot)?;
    std::fs::remove_file(&probe).map_err(cannot)?;
    Ok(directory)
}

/// Socket to ask: the one in the data directory where one is named, else that of the Sonde that was
/// started last and answers.
///
/// # Errors
///
/// [`Failure::Usage`] when there is no place to look in.
pub(crate) fn socket(data_dir: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(directory) = data_dir {
        return Ok(directory.join(SOCKET));
    }
    match runtime_dir().and_then(|directory| newest_running(&directory)) {
        Some(socket) => Ok(socket),
        None => Ok(default_data_dir()?.join(SOCKET)),
    }
}

/// Socket of the controller to ask, by the same rule.
///
/// # Errors
///
/// [`Failure::Usage`] when there is no place to look in.
pub(crate) fn controller_socket(data_dir: Option<&Path>) -> Result<PathBuf, Failure> {
    let socket = socket(data_dir)?;
    let beside = socket.with_file_name(CONTROLLER_SOCKET);
    Ok(if is_running(&beside) { beside } else { socket })
}

/// Targets of the links in the runtime directory, newest first; the first that takes a connection.
fn newest_running(directory: &Path) -> Option<PathBuf> {
    let mut links: Vec<_> = std::fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let made = entry.path().symlink_metadata().ok()?.modified().ok()?;
            Some((made, std::fs::read_link(entry.path()).ok()?))
        })
        .collect();
    links.sort_by_key(|(made, _)| std::cmp::Reverse(*made));
    links.into_iter().map(|(_, socket)| socket).find(|socket| is_running(socket))
}

/// Whether somebody listens there. One that we may not talk to counts: the command then says why.
fn is_running(socket: &Path) -> bool {
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

/// A link in the runtime directory, while this process runs.
#[derive(Debug)]
pub(crate) struct Announced {
    link: PathBuf,
}

/// Links the socket of this data directory in the runtime directory.
///
/// A runtime directory that cannot be written is no failure: the commands then need `--data-dir`.
pub(crate) fn announce(data_dir: &Path) -> Option<Announced> {
    let directory = runtime_dir()?;
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&directory).ok()?;
    forget_the_dead(&directory);
    let link = directory.join(format!("{}.sock", std::process::id()));
    match std::os::unix::fs::symlink(data_dir.join(SOCKET), &link) {
        Ok(()) => Some(Announced { link }),
        Err(error) => {
            tracing::debug!(%error, "cannot announce the socket; commands need --data-dir");
            None
        }
    }
}

/// Takes away the links of processes that were killed before they could.
fn forget_the_dead(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_dead = std::fs::read_link(entry.path()).is_ok_and(|socket| !is_running(&socket));
        if is_dead {
            // Another Sonde may have taken it away at the same moment.
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // What is left after a failure is taken away by the next start.
        drop(std::fs::remove_file(&self.link));
    }
}

fn runtime_dir() -> Option<PathBuf> {
    if is_root() {
        return Some(PathBuf::from("/run/sonde"));
    }
    Some(PathBuf::from(environment("XDG_RUNTIME_DIR")?).join("sonde"))
}

/// True when this process has the rights of root by its effective user.
pub(crate) fn is_root() -> bool {
    // The owner of a process's entry in /proc is its effective user.
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_be_made_is_named_with_the_next_step() {
        let message = prepare(Some(Path::new("/proc/sonde"))).unwrap_err().message().unwrap();
        assert!(message.contains("/proc/sonde") && message.contains("--data-dir"), "{message}");
    }

    #[test]
    fn the_sonde_that_was_started_last_and_still_answers_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = directory.path().join("run");
        std::fs::create_dir(&runtime).unwrap();
        let [first, second, dead] =
            ["first", "second", "dead"].map(|name| directory.path().join(name));
        let one = std::os::unix::net::UnixListener::bind(&first).unwrap();
        let two = std::os::unix::net::UnixListener::bind(&second).unwrap();
        for (pid, socket) in [("9", &first), ("10", &second), ("11", &dead)] {
            std::os::unix::fs::symlink(socket, runtime.join(format!("{pid}.sock"))).unwrap();
            // The times of two links must differ, whatever the file system's clock.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(newest_running(&runtime), Some(second));
        drop(two);
        assert_eq!(newest_running(&runtime), Some(first));
        drop(one);
        assert_eq!(newest_running(&runtime), None);
        forget_the_dead(&runtime);
        assert_eq!(std::fs::read_dir(&runtime).unwrap().count(), 0);
    }

    #[test]
    fn the_data_directory_is_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let directory = prepare(Some(&parent.path().join("a/b"))).unwrap();
        assert_eq!(std::fs::metadata(directory).unwrap().mode() & 0o777, 0o700);
    }
}
