//! Files that are written beside others' files, and taken away to the byte.

use super::{Change, DROP_IN, File, MARK, VARIABLES};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A path of the node, below the root that we see the node at.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// What is in a file; nothing where there is none.
pub(crate) fn read(root: &Path, path: &Path) -> std::io::Result<Option<String>> {
    match fs::read_to_string(below(root, path)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a directory was there before us: one with nothing in it but our files was not.
pub(crate) fn was_there(root: &Path, directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(below(root, directory)) else { return false };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.is_empty() || names.iter().any(|name| name != DROP_IN && name != VARIABLES)
}

/// The uppermost directory that has to be made so that there is one, if any.
pub(crate) fn to_be_made(root: &Path, directory: &Path) -> Option<PathBuf> {
    if was_there(root, directory) {
        return None;
    }
    let missing = directory.ancestors().take_while(|it| !below(root, it).exists());
    Some(missing.last().unwrap_or(directory).to_owned())
}

/// Writes all files of a change; each is there as a whole, or not at all.
pub(crate) fn write(root: &Path, change: &Change) -> std::io::Result<()> {
    if change.directory.is_some() {
        // What is in a home is nobody else's.
        let mode = if change.user.is_some() { 0o700 } else { 0o755 };
        fs::DirBuilder::new().recursive(true).mode(mode).create(below(root, change.place()))?;
    }
    for file in &change.files {
        replace(&below(root, &file.path), file)?;
    }
    Ok(())
}

fn replace(path: &Path, file: &File) -> std::io::Result<()> {
    // systemd reads `*.conf` alone, so that a half-written file is nobody's.
    let fresh = path.with_extension("sonde-new");
    // One that a crash left behind may have another mode.
    remove(&fresh)?;
    let mut out =
        fs::OpenOptions::new().write(true).create_new(true).mode(file.mode).open(&fresh)?;
    out.write_all(file.text.as_bytes())?;
    out.sync_all()?;
    fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Puts all files back as they were; what somebody changed since stays, without what is ours, and is
/// said.
pub(crate) fn put_back(root: &Path, change: &Change) -> std::io::Result<Vec<String>> {
    let mut kept = Vec::new();
    // The drop-in goes first: without it the other file means nothing.
    for file in change.files.iter().rev() {
        let path = below(root, &file.path);
        remove(&path.with_extension("sonde-new"))?;
        let Some(now) = read(root, &file.path)? else { continue };
        let ours_left = if now == file.text { None } else { without_ours(&now, change) };
        match ours_left {
            None => remove(&path)?,
            Some(theirs) => {
                fs::write(&path, &theirs)?;
                kept.push(file.path.display().to_string());
            }
        }
    }
    for directory in change.made() {
        match fs::remove_dir(below(root, directory)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => break,
            Err(error) => return Err(error),
        }
    }
    Ok(kept)
}

/// What somebody added to one of our files; nothing when all of it is ours.
fn without_ours(text: &str, change: &Change) -> Option<String> {
    let ours: Vec<&str> = change.files.iter().flat_map(|file| file.text.lines()).collect();
    let theirs: Vec<&str> = text
        .lines()
        .filter(|line| *line == "[Service]" || (*line != MARK && !ours.contains(line)))
        .collect();
    let says_something = theirs.iter().any(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with(['#', ';', '['])
    });
    says_something.then(|| theirs.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    fn change() -> Change {
        let file = |name: &str, mode, text: &str| File {
            path: Path::new("/etc/systemd/system/a.service.d").join(name),
            mode,
            text: format!("{MARK}\n{text}"),
            shown: String::new(),
        };
        Change {
            unit: "a.service".to_owned(),
            user: None,
            files: vec![
                file("90-sonde.env", 0o600, "A=\"1\"\n"),
                file("90-sonde.conf", 0o644, "[Service]\nEnvironmentFile=-/x\n"),
            ],
            directory: Some("/etc/systemd/system/a.service.d".into()),
            variables: BTreeMap::new(),
        }
    }

    #[test]
    fn what_was_written_goes_without_a_trace() {
        let root = tempfile::tempdir().unwrap();
        let units = root.path().join("etc/systemd/system");
        fs::create_dir_all(&units).unwrap();
        let change = change();
        write(root.path(), &change).unwrap();
        write(root.path(), &change).unwrap();
        let file = units.join("a.service.d/90-sonde.env");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(put_back(root.path(), &change).unwrap(), Vec::<String>::new());
        assert_eq!(put_back(root.path(), &change).unwrap(), Vec::<String>::new());
        assert_eq!(fs::read_dir(&units).unwrap().count(), 0);
    }

    #[test]
    fn all_directories_that_were_made_go_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        fs::create_dir_all(&etc).unwrap();
        let change = Change { directory: Some("/etc/systemd".into()), user: Some(7), ..change() };
        write(root.path(), &change).unwrap();
        let mode = fs::metadata(etc.join("systemd")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        put_back(root.path(), &change).unwrap();
        assert_eq!(fs::read_dir(&etc).unwrap().count(), 0);
        // Where somebody else put something meanwhile, that stays.
        write(root.path(), &change).unwrap();
        fs::write(etc.join("systemd/system/mine.service"), "").unwrap();
        put_back(root.path(), &change).unwrap();
        let left: Vec<_> = fs::read_dir(etc.join("systemd/system")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn a_directory_that_was_made_for_us_is_known_by_what_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = Path::new("/etc/systemd/system/a.service.d");
        let there = || was_there(root.path(), directory);
        assert!(!there());
        fs::create_dir_all(below(root.path(), directory)).unwrap();
        assert!(there(), "somebody else made it");
        let made = |name: &str| to_be_made(root.path(), &Path::new("/etc/systemd").join(name));
        assert_eq!(made("user/b.service.d"), Some("/etc/systemd/user".into()));
        assert_eq!(made("system/b.service.d"), Some("/etc/systemd/system/b.service.d".into()));
        assert_eq!(made("system/a.service.d"), None);
        write(root.path(), &change()).unwrap();
        assert!(!there());
        fs::write(below(root.path(), &directory.join("10-mine.conf")), "").unwrap();
        assert!(there());
    }

    #[test]
    fn what_others_put_there_stays() {
        let root = tempfile::tempdir().unwrap();
        let units = root.path().join("etc/systemd/system/a.service.d");
        fs::create_dir_all(&units).unwrap();
        fs::write(units.join("10-mine.conf"), "[Service]\nNice=5\n").unwrap();
        let change = Change { directory: None, ..change() };
        write(root.path(), &change).unwrap();
        let drop_in = units.join("90-sonde.conf");
        let edited = fs::read_to_string(&drop_in).unwrap() + "MemoryMax=1G\n";
        fs::write(&drop_in, edited).unwrap();
        let kept = put_back(root.path(), &change).unwrap();
        assert_eq!(kept, ["/etc/systemd/system/a.service.d/90-sonde.conf"]);
        assert_eq!(fs::read_to_string(&drop_in).unwrap(), "[Service]\nMemoryMax=1G\n");
        assert!(!units.join("90-sonde.env").exists());
        assert!(units.join("10-mine.conf").exists());
    }
}
