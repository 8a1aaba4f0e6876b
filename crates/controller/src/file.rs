//! Small files that survive a restart: replaced as a whole, for the owner alone, bounded.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// What a file holds; `None` when there is none.
///
/// One that is longer than `limit` bytes or that `check` finds fault with is set aside rather than
/// lost or obeyed, and said.
pub(crate) fn load<T: DeserializeOwned>(
    file: &Path,
    limit: u64,
    check: impl Fn(&T) -> Result<(), String>,
) -> Option<T> {
    let text = match fs::metadata(file) {
        Ok(metadata) if metadata.len() > limit => Err(ErrorKind::FileTooLarge.into()),
        Ok(_) => fs::read(file),
        Err(error) => Err(error),
    };
    let error = match text {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => error.to_string(),
        Ok(text) => match serde_json::from_slice::<T>(&text) {
            Err(error) => error.to_string(),
            Ok(value) => match check(&value) {
                Ok(()) => return Some(value),
                Err(error) => error,
            },
        },
    };
    let aside = file.with_extension("json.unreadable");
    tracing::warn!(error, file = %file.display(), aside = %aside.display(), "cannot read what was kept; starting anew");
    if let Err(error) = fs::rename(file, &aside) {
        tracing::warn!(%error, "cannot set the file aside; the next write replaces it");
    }
    None
}

/// The first line of a file that a person or the kubelet writes.
///
/// # Errors
///
/// When it cannot be read, is longer than `limit` bytes, or begins with nothing.
pub(crate) fn first_line(file: &Path, limit: u64) -> std::io::Result<String> {
    if fs::metadata(file)?.len() > limit {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let text = fs::read_to_string(file)?;
    let line = text.lines().next().map(str::trim).filter(|line| !line.is_empty());
    line.map(str::to_owned).ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

/// Replaces a file as a whole: after a crash, or when the disk is full, it is either the old one or
/// the new one.
///
/// # Errors
///
/// When the directory cannot be written; the old file stands then.
pub(crate) fn replace(file: &Path, value: &impl Serialize) -> std::io::Result<()> {
    let fresh = file.with_extension("json.new");
    let mut out =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    out.write_all(&serde_json::to_vec(value)?)?;
    out.sync_all()?;
    fs::rename(&fresh, file)?;
    // The new name is on disk only when its directory is.
    file.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}
