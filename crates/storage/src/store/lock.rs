//! The lock of a data directory: one process at a time.

use crate::error::Error;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The directory is this process's alone.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone is not enough: a child that was just begun has the file open, too, until
        // it becomes another program (flock(2)).
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "cannot unlock the data directory; it is closed now");
        }
    }
}

/// Locks the directory for this process; the system unlocks it when the process ends, however.
pub(super) fn lock(data_dir: &Path) -> Result<Lock, Error> {
    let path = data_dir.join("lock");
    let failed = |doing| {
        let path = path.clone();
        move |source| Error::Directory { doing, path, source }
    };
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let mut file = opened.map_err(failed("write"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let owner =
                file.read_to_string(&mut owner).ok().and_then(|_| owner.trim().parse().ok());
            return Err(Error::InUse { path: data_dir.into(), owner });
        }
        Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed("write"))?;
    Ok(Lock(file))
}

#[cfg(test)]
mod tests {
    use super::lock;

    /// As a child has it that another thread begins just then.
    #[test]
    fn a_directory_that_was_left_is_free_though_somebody_has_its_lock_open() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        let _child = held.0.try_clone().unwrap();
        drop(lock(dir.path()).unwrap_err());
        drop(held);
        lock(dir.path()).unwrap();
    }
}
