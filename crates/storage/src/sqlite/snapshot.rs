//! A copy of a file as it was before it was brought to a newer schema: `control.db.before`. With it
//! the version of Sonde before this one can go on. It is there until the next start that finds
//! nothing to bring forward.

use super::migrate::{Migration, is_behind};
use crate::error::{Doing, Error};
use rusqlite::Connection;
use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What stands behind the name of the file.
pub(super) const SUFFIX: &str = ".before";

/// Copies the file, where steps of the list are missing in it. A new file has nothing to copy.
pub(super) fn take(file: &Connection, path: &Path, migrations: &[Migration]) -> Result<(), Error> {
    const DOING: &str = "copy the database before it is brought to the newest schema";
    if !is_behind(file, migrations)? {
        return Ok(());
    }
    let failed = |source| Error::Directory { doing: "copy", path: path.into(), source };
    let unfinished = with(path, ".copying");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    file.execute("VACUUM INTO ?1", [unfinished.to_string_lossy()]).doing(DOING)?;
    std::fs::set_permissions(&unfinished, Permissions::from_mode(0o600)).map_err(failed)?;
    let copied = std::fs::File::open(&unfinished).and_then(|copy| copy.sync_all());
    copied.map_err(failed)?;
    std::fs::rename(&unfinished, with(path, SUFFIX)).map_err(failed)
}

/// Removes the copy, where the file is of the newest schema. For a start: the run that brought the
/// file forward keeps it.
pub(super) fn forget(path: &Path, migrations: &[Migration]) {
    let copy = with(path, SUFFIX);
    if !copy.exists() {
        return;
    }
    let is_behind = super::open_reader(path).and_then(|file| is_behind(&file, migrations));
    if matches!(is_behind, Ok(false))
        && let Err(error) = std::fs::remove_file(&copy)
    {
        tracing::debug!(%error, path = %copy.display(), "cannot remove an old copy");
    }
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::super::day::MIGRATIONS;
    use crate::Store;

    #[test]
    fn a_file_that_is_brought_forward_was_copied_and_the_copy_goes_with_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("calls-2026-11-23.db");
        let copy = dir.path().join("calls-2026-11-23.db.before");
        drop(crate::sqlite::open(&path, &MIGRATIONS[..5]).unwrap());
        assert!(!copy.exists(), "a new file has nothing to copy");
        drop(Store::open(dir.path()).unwrap());
        let version = |path| {
            let file = rusqlite::Connection::open(path).unwrap();
            let newest = "SELECT max(number) FROM migration";
            file.query_row(newest, [], |row| row.get::<_, u32>(0)).unwrap()
        };
        assert_eq!((version(&copy), version(&path)), (5, u32::try_from(MIGRATIONS.len()).unwrap()));
        drop(Store::open(dir.path()).unwrap());
        assert!(!copy.exists());
        assert!(!dir.path().join("control.db.before").exists());
    }
}
