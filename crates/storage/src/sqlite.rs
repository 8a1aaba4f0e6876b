//! The embedded engine: SQLite in WAL mode.
//!
//! `control.rs` keeps control state. Calls are columns of blocks: `block.rs` and `column.rs` are
//! their form, `day.rs` writes one day, `reading.rs` and `scan.rs` find calls in it, `days.rs` is
//! all days, `writer.rs` the one thread that writes. `sums.rs` are the sums beside the blocks,
//! `summing.rs` answers from them, and from rows that `grouping.rs` tells apart; `history.rs` is
//! what stays of days that went. `backup.rs` copies all of it; `migrate.rs` and `convert.rs` are
//! the way from any older schema to this one, `snapshot.rs` copies a file before.

pub(crate) mod backup;
mod block;
mod bloom;
mod column;
pub(crate) mod control;
mod convert;
mod day;
mod days;
mod ended;
mod grouping;
mod history;
mod migrate;
mod reading;
mod runs;
mod scan;
mod snapshot;
mod summing;
mod sums;
mod writer;

use crate::engine::{Done, Engine, Sums, SumsQuery};
use crate::error::{Doing, Error};
use crate::query::CallsQuery;
use crate::retention::{Limits, ReadDisk, Retained, Standing};
use crate::store::Telemetry;
use crate::units::{DAY_NANOS, day_name};
use contract::row::{Call, Calls, Run, Time};
use days::Days;
use rusqlite::Connection;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use writer::Writer;

/// The embedded engine, in a directory that nobody else uses.
#[derive(Debug)]
pub(crate) struct Embedded {
    // Before `days`, so that it is dropped first and finishes its work.
    writer: Writer,
    days: Arc<Days>,
    dir: PathBuf,
}

impl Embedded {
    /// Finds what is in the directory and brings it to the newest schema.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let days = Arc::new(Days::open(dir)?);
        let failed =
            |source| Error::Directory { doing: "start a thread for", path: dir.into(), source };
        let writer = Writer::start(Arc::clone(&days)).map_err(failed)?;
        Ok(Self { writer, days, dir: dir.into() })
    }
}

impl Engine for Embedded {
    fn submit(&self, telemetry: Telemetry, done: Done) -> Result<(), Error> {
        self.writer.submit(telemetry, done)
    }

    fn list(&self, query: &CallsQuery) -> Result<Calls, Error> {
        self.days.list(query)
    }

    fn one(&self, id: &str) -> Result<Option<Call>, Error> {
        self.days.one(id)
    }

    fn trace(&self, trace_id: &str) -> Result<Vec<Call>, Error> {
        self.days.trace(trace_id)
    }

    fn runs(&self, trace_id: &str) -> Result<Vec<Run>, Error> {
        self.days.runs(trace_id)
    }

    fn sums(&self, queries: &[SumsQuery<'_>]) -> Result<Vec<Sums>, Error> {
        self.days.sums(queries)
    }

    fn retain(&self, limits: &Limits, disk: &ReadDisk, now: Time) -> Result<Retained, Error> {
        let today = now.0 / DAY_NANOS;
        let mut retained = Retained::default();
        // First, so that calls are refused even if removing fails.
        let before = limits.standing(disk(&self.dir));
        self.writer.set_full(before == Standing::Full);
        let oldest = today.saturating_sub(limits.days.into());
        for day in self.days.kept().into_iter().filter(|day| *day < oldest) {
            self.writer.drop_day(day, now)?;
            retained.aged.push(day_name(day));
        }
        let fills = |standing| matches!(standing, Standing::Dropping | Standing::Full);
        let first = self.days.kept().first().copied().filter(|day| *day < today);
        if let Some(day) = first.filter(|_| fills(limits.standing(disk(&self.dir)))) {
            self.writer.drop_day(day, now)?;
            retained.dropped = Some(day_name(day));
        }
        self.writer.narrow(now)?;
        let kept = self.days.kept();
        retained.oldest = kept.first().copied().map(day_name);
        retained.days = u64::try_from(kept.len()).unwrap_or(u64::MAX);
        retained.disk = disk(&self.dir);
        retained.standing = limits.standing(retained.disk);
        self.writer.set_full(retained.standing == Standing::Full);
        Ok(retained)
    }

    fn bytes_elsewhere(&self) -> Result<u64, Error> {
        Ok(0)
    }

    fn name(&self) -> &'static str {
        "sqlite"
    }
}

/// The days whose files lie in a directory, oldest first, as `2026-11-23`.
pub(crate) fn days_in(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Directory { doing: "read", path: dir.into(), source };
    let mut days = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        days.extend(name.to_str().and_then(days::day_of_name));
    }
    days.sort_unstable();
    Ok(days.into_iter().map(day_name).collect())
}

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
    snapshot::take(&connection, path, migrations)?;
    migrate::run(&mut connection, path, migrations)?;
    Ok(connection)
}

/// Opens a database that is gone with the connection.
fn open_in_memory(migrations: &[migrate::Migration]) -> Result<Connection, Error> {
    let mut connection = Connection::open_in_memory().doing("open the database")?;
    connection.execute_batch("PRAGMA foreign_keys = ON").doing("set the database up")?;
    migrate::run(&mut connection, Path::new(":memory:"), migrations)?;
    Ok(connection)
}

/// As [`open_in_memory`], with all that is in a file.
fn open_in_memory_of(path: &Path, migrations: &[migrate::Migration]) -> Result<Connection, Error> {
    const DOING: &str = "read a copy of a database";
    let source = open_reader(path)?;
    let mut connection = Connection::open_in_memory().doing(DOING)?;
    let read = rusqlite::backup::Backup::new(&source, &mut connection).doing(DOING)?;
    read.step(-1).doing(DOING)?;
    drop(read);
    connection.execute_batch("PRAGMA foreign_keys = ON").doing(DOING)?;
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
