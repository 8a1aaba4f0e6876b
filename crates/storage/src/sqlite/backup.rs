//! Copies a data directory while it is used, and makes a data directory of a copy.
//!
//! A copy is a directory with the same files and `backup.json`, which is written last: without
//! it a copy is not whole. It holds the hash of every file, so that a copy that was damaged
//! since is found before it is used. Copies hold secrets, as the data directory does.

use super::control::Control;
use crate::error::{Doing, Error};
use crate::secret::Pepper;
use contract::row::Time;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

const MANIFEST: &str = "backup.json";
const CONTROL: &str = "control.db";
/// Largest manifest that is read: a few hundred bytes for each of 400 days.
const MAX_MANIFEST: u64 = 1 << 20;
/// The key of the hashes of secrets.
const KEY: &str = "secret.key";
/// Files beside the databases, where they are there.
const PLAIN: [&str; 2] = [KEY, "controller.token"];

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// When the copy was begun.
    pub time: Time,
    /// Files, with their hash (SHA-256, hexadecimal).
    pub files: BTreeMap<String, String>,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Copies a data directory in use. Days first: one that is forgotten meanwhile is then in both
/// the copy's days and its sums, and opening the copy tells them apart.
pub(crate) fn backup(
    data_dir: &Path,
    days: &[String],
    to: &Path,
    now: Time,
) -> Result<Copied, Error> {
    if !data_dir.join(CONTROL).exists() {
        let why = "it has no control.db; where a dashboard keeps everything in ClickHouse, name that \
                   with --clickhouse";
        return Err(Error::Unsuited { path: data_dir.into(), why });
    }
    make_empty(to)?;
    let mut copied = Copied { time: now, files: BTreeMap::new(), bytes: 0 };
    let days = days.iter().map(|day| format!("calls-{day}.db"));
    for name in days.chain(["history.db".to_owned(), CONTROL.to_owned()]) {
        if copy_database(&data_dir.join(&name), &to.join(&name))? {
            note(&mut copied, to, name)?;
        }
    }
    for name in PLAIN {
        if data_dir.join(name).exists() {
            copy_file(&data_dir.join(name), &to.join(name))?;
            note(&mut copied, to, name.to_owned())?;
        }
    }
    finish(copied, to)
}

/// Copies control state that is kept elsewhere: the same as of a data directory without a call.
pub(crate) fn backup_of_control(control: &Control, to: &Path, now: Time) -> Result<Copied, Error> {
    make_empty(to)?;
    let mut copied = Copied { time: now, files: BTreeMap::new(), bytes: 0 };
    copy_connection(&control.lock(), &to.join(CONTROL))?;
    control.pepper().save(to)?;
    for name in [CONTROL, KEY] {
        note(&mut copied, to, name.to_owned())?;
    }
    finish(copied, to)
}

/// Writes the list of files, without which a copy is not whole.
fn finish(copied: Copied, to: &Path) -> Result<Copied, Error> {
    let json = serde_json::to_vec_pretty(&copied).doing("a list of files")?;
    write(&to.join(MANIFEST), &mut json.as_slice())?;
    sync(to)?;
    Ok(copied)
}

/// The control state of a copy, in memory.
pub(crate) fn control_of(from: &Path) -> Result<(Control, Copied), Error> {
    let copied = check(from)?;
    if !copied.files.contains_key(KEY) {
        return Err(unusable(from, "it has no secret.key"));
    }
    let control = Control::of_file(&from.join(CONTROL), Pepper::load(from)?)?;
    Ok((control, copied))
}

/// Makes a data directory of a copy.
pub(crate) fn restore(from: &Path, to: &Path) -> Result<Copied, Error> {
    let copied = check(from)?;
    make_empty(to)?;
    for name in copied.files.keys() {
        copy_file(&from.join(name), &to.join(name))?;
    }
    sync(to)?;
    Ok(copied)
}

/// Reads what a copy holds, and holds it to that, before anything is made of it.
fn check(from: &Path) -> Result<Copied, Error> {
    let copied = manifest(from)?;
    for (name, hash) in &copied.files {
        if hash_of(&from.join(name))?.0 != *hash {
            return Err(unusable(from, "a file in it was changed or damaged since it was made"));
        }
    }
    Ok(copied)
}

fn manifest(from: &Path) -> Result<Copied, Error> {
    let path = from.join(MANIFEST);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(unusable(
                from,
                "it has no backup.json, so it is no copy or not a whole one",
            ));
        }
        Err(source) => return Err(failed("read", &path)(source)),
    };
    let mut json = Vec::new();
    file.take(MAX_MANIFEST).read_to_end(&mut json).map_err(failed("read", &path))?;
    let Ok(copied) = serde_json::from_slice::<Copied>(&json) else {
        return Err(unusable(from, "its backup.json cannot be read"));
    };
    // Only names that a copy has: nothing is read or written elsewhere.
    let ours = |name: &String| {
        let day = name.strip_prefix("calls-").and_then(|name| name.strip_suffix(".db"));
        PLAIN.contains(&name.as_str())
            || ["history.db", CONTROL].contains(&name.as_str())
            || day.is_some_and(|day| day.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
    };
    if !copied.files.keys().all(ours) || !copied.files.contains_key(CONTROL) {
        return Err(unusable(from, "its backup.json names other files than a copy has"));
    }
    Ok(copied)
}

/// Copies a database in use; false when it is gone meanwhile.
fn copy_database(from: &Path, to: &Path) -> Result<bool, Error> {
    if !from.exists() {
        return Ok(false);
    }
    copy_connection(&super::open_reader(from)?, to)?;
    Ok(true)
}

/// Copies a database into a new file, as it is at one moment, and checks the copy.
fn copy_connection(source: &Connection, to: &Path) -> Result<(), Error> {
    const DOING: &str = "copy a database";
    create(to)?;
    let mut copy = Connection::open(to).doing(DOING)?;
    let backup = Backup::new(source, &mut copy).doing(DOING)?;
    // In one step: it reads one state of the log, which writers go on to add to.
    let step = backup.step(-1).doing(DOING)?;
    drop(backup);
    if !matches!(step, StepResult::Done) {
        return Err(Error::Busy);
    }
    if to.ends_with(CONTROL) {
        // When the copy is used, what nodes heard since it was made is newer than all that is in it.
        copy.execute("UPDATE desired SET untold = 0 WHERE untold = 1", []).doing(DOING)?;
    }
    let sql = "PRAGMA quick_check(1)";
    let sound: String = copy.query_row(sql, [], |row| row.get(0)).doing("check a copy")?;
    if sound != "ok" {
        return Err(Error::Damaged { what: "a database" });
    }
    copy.close().map_err(|(_, source)| source).doing(DOING)
}

fn note(copied: &mut Copied, dir: &Path, name: String) -> Result<(), Error> {
    let (hash, bytes) = hash_of(&dir.join(&name))?;
    copied.files.insert(name, hash);
    copied.bytes += bytes;
    Ok(())
}

fn hash_of(path: &Path) -> Result<(String, u64), Error> {
    let mut file =
        BufReader::with_capacity(1 << 16, File::open(path).map_err(failed("read", path))?);
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    loop {
        let piece = file.fill_buf().map_err(failed("read", path))?;
        let len = piece.len();
        if len == 0 {
            break;
        }
        hash.update(piece);
        bytes += u64::try_from(len).unwrap_or_default();
        file.consume(len);
    }
    let hash = hash.finalize();
    let hex = hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    Ok((hex, bytes))
}

fn copy_file(from: &Path, to: &Path) -> Result<(), Error> {
    write(to, &mut File::open(from).map_err(failed("read", from))?)
}

fn write(path: &Path, from: &mut impl Read) -> Result<(), Error> {
    let mut file = create(path)?;
    io::copy(from, &mut file)
        .and_then(|_| file.flush())
        .and_then(|()| file.sync_all())
        .map_err(failed("write", path))
}

/// A new file for its owner alone.
fn create(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path).map_err(failed("write", path))
}

/// Makes the directory, or sees that it is empty.
fn make_empty(dir: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(failed("create", dir))?;
    let mut entries = std::fs::read_dir(dir).map_err(failed("read", dir))?;
    if entries.next().is_some() {
        return Err(Error::NotEmpty { path: dir.into() });
    }
    Ok(())
}

/// Makes the names in a directory as lasting as the files.
fn sync(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("write", dir))
}

fn unusable(path: &Path, why: &'static str) -> Error {
    Error::NotABackup { path: path.into(), why }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Directory { doing, path, source }
}
