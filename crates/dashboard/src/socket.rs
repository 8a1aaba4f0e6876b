//! The owner's unix socket in the data directory.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Name of the socket in the data directory.
const NAME: &str = "sonde.sock";
/// Longest path that `sockaddr_un` holds (unix(7)), its terminating zero left out.
const MAX_PATH: usize = 107;

/// A socket file that is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, "cannot remove the socket");
        }
    }
}

/// Binds the socket, for the owner alone. A file that is there was left by a dashboard that was
/// killed: the lock on the directory, which the caller holds, says that none lives.
pub(crate) fn bind(data_dir: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let path = data_dir.join(NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = if path.as_os_str().len() <= MAX_PATH {
        UnixListener::bind(&path)?
    } else {
        // The same file by a short name: through the open directory.
        let dir = File::open(data_dir)?;
        UnixListener::bind(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()))?
    };
    let file = SocketFile(path);
    std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok((listener, file))
}
