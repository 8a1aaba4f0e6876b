//! Where a running Sonde is found on this machine: its data directory and its socket.
//!
//! The socket lies in the data directory. A link in the runtime directory points to the one that
//! was started last, so that `sonde services` finds it without being told where it keeps its data.

use crate::config::environment;
use crate::failure::Failure;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Name of the socket in the data directory.
pub(crate) const SOCKET: &str = "sonde.sock";

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

/// Socket to ask: the one in the data directory where one is named, else the one started last.
///
/// # Errors
///
/// [`Failure::Usage`] when there is no place to look in.
pub(crate) fn socket(data_dir: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(directory) = data_dir {
        return Ok(directory.join(SOCKET));
    }
    let link = runtime_link();
    if let Some(target) = link.as_deref().and_then(|link| std::fs::read_link(link).ok()) {
        return Ok(target);
    }
    Ok(default_data_dir()?.join(SOCKET))
}

/// The link in the runtime directory, while this process runs.
#[derive(Debug)]
pub(crate) struct Announced {
    link: PathBuf,
    socket: PathBuf,
}

/// Points the runtime directory's link to the socket of this data directory.
///
/// A runtime directory that cannot be written is no failure: the commands then need `--data-dir`.
pub(crate) fn announce(data_dir: &Path) -> Option<Announced> {
    let link = runtime_link()?;
    let socket = data_dir.join(SOCKET);
    let directory = link.parent()?;
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).ok()?;
    let fresh = directory.join(format!(".{}-{}", SOCKET, std::process::id()));
    std::os::unix::fs::symlink(&socket, &fresh).ok()?;
    match std::fs::rename(&fresh, &link) {
        Ok(()) => Some(Announced { link, socket }),
        Err(error) => {
            tracing::debug!(%error, "cannot announce the socket; commands need --data-dir");
            drop(std::fs::remove_file(&fresh));
            None
        }
    }
}

impl Drop for Announced {
    /// Takes the link away, unless another Sonde points it elsewhere by now.
    fn drop(&mut self) {
        if std::fs::read_link(&self.link).is_ok_and(|target| target == self.socket) {
            drop(std::fs::remove_file(&self.link));
        }
    }
}

fn runtime_link() -> Option<PathBuf> {
    let directory = if is_root() {
        PathBuf::from("/run/sonde")
    } else {
        PathBuf::from(environment("XDG_RUNTIME_DIR")?).join("sonde")
    };
    Some(directory.join(SOCKET))
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
    fn the_data_directory_is_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let directory = prepare(Some(&parent.path().join("a/b"))).unwrap();
        assert_eq!(std::fs::metadata(directory).unwrap().mode() & 0o777, 0o700);
    }
}
