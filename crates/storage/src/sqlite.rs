//! The embedded engine: SQLite in WAL mode.
//!
//! `control.rs` keeps control state, `day.rs` one day of calls, `days.rs` all days, `writer.rs`
//! the one thread that writes calls, `sums.rs` the sums that are written with them, `history.rs`
//! what stays of days that went, `backup.rs` copies all of it, `migrate.rs` is the way from any
//! older schema to this one.

pub(crate) mod backup;
pub(crate) mod control;
mod cover;
pub(crate) mod day;
pub(crate) mod days;
mod ended;
mod history;
mod migrate;
mod overview;
mod sums;
pub(crate) mod writer;

use crate::error::{Doing, Error};
use rusqlite::Connection;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Opens a database for writing, for its owner alone, and brings it to the newest schema.
fn open(path: &Path, migrations: &[migrate::Migration]) -> Result<Connection, Error> {
    let created = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    created.map_err(|source| Error::Directory { doing: "write", path: path.into(), source })?;
    let mut connection = Connection::open(path).doing("open the database")?;
    connection.busy_timeout(Duration::from_secs(5)).doing("set the database up")?;
    // FULL: an answer that says "kept" must hold after the power went, not only after a crash.
    // Space of sums that are forgotten goes back to the system; a new file alone can be told so.
    let setup = "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
                 PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;";
    connection.execute_batch(setup).map_err(|source| unusable(path, source))?;
    migrate::run(&mut connection, path, migrations)?;
    Ok(connection)
}

/// Opens a database for reading only.
fn open_reader(path: &Path) -> Result<Connection, Error> {
    use rusqlite::OpenFlags;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).doing("open the database")?;
    connection.busy_timeout(Duration::from_secs(5)).doing("set the database up")?;
    let setup = "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096; PRAGMA query_only = ON;";
    connection.execute_batch(setup).doing("set the database up")?;
    Ok(connection)
}

/// A file that is there and is not ours, or is on a file system that cannot hold it.
fn unusable(path: &Path, source: rusqlite::Error) -> Error {
    let source = std::io::Error::other(source);
    Error::Directory { doing: "use the database", path: path.into(), source }
}
