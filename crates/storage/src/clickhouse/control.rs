//! Control state of several dashboards on one ClickHouse: one log of changes in `control_log`, and
//! in each dashboard's memory the same SQLite database that the embedded engine keeps on disk.
//!
//! SQLite says what a change does; ClickHouse says in which order changes happened, and keeps them.
//!
//! - **Before every question** the log is read from where this dashboard is, so that an answer holds
//!   all that was acknowledged, by whichever dashboard, before the question came.
//! - **A change** is made in SQLite, and its rows are collected by triggers. As SQLite commits, they
//!   are inserted into the log under the next number. The number is the deduplication token of the
//!   insertion: ClickHouse keeps the first insertion of a token and drops any other, under the lock
//!   of the table, or in Keeper where tables are replicated. Whose it was is read back. When it was
//!   another's, SQLite rolls back, the other's change is taken over, and all is done anew.
//!
//! So the log has no gaps and no two changes of one number, numbers are given in the order in which
//! changes are seen, and whoever has applied number `n` has seen all before it: generations, which
//! are counted in the database that the log makes, never collide and never go back.

mod rows;

use self::rows::{COLLECT, Cell, Change, Table, named, rows, tables, triggers};
use super::Shared;
use super::link::Ask;
use crate::error::{Doing, Error};
use crate::secret::Pepper;
use crate::sqlite::control::Control;
use clickhouse::Row;
use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Entries after which a dashboard writes all rows anew, so that a start reads little.
const SNAPSHOT_AFTER: u64 = 2000;
/// How often a number is lost to other dashboards before the question is refused as busy, and the
/// longest pause before the next try, which grows to it.
const MAX_LOST: u32 = 50;
const PAUSE: Duration = Duration::from_millis(50);
/// The log, as far as this dashboard is with it.
#[derive(Debug)]
pub(crate) struct Log {
    tail: Arc<Tail>,
    tables: BTreeMap<String, Table>,
    /// One question at a time; the ticket from which on the log is known to be read.
    turn: Mutex<u64>,
    tickets: AtomicU64,
}

/// What the hooks of SQLite share with the log.
#[derive(Debug)]
struct Tail {
    shared: Arc<Shared>,
    id: u64,
    replaying: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Last number that is in the database of this dashboard.
    applied: u64,
    /// Number of the last entry with all rows.
    snapshot: u64,
    attempt: u64,
    /// Of the transaction that is open.
    changes: Vec<Change>,
    /// What became of the last commit that failed.
    outcome: Option<Outcome>,
}

#[derive(Debug)]
enum Outcome {
    /// Another dashboard had the number.
    Lost,
    Failed(Error),
}

/// What an entry of the log says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Body {
    /// The key of the hashes of secrets; all dashboards must have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pepper: Option<String>,
    /// Tables of which all rows are here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    whole: Vec<String>,
    #[serde(default)]
    changes: Vec<Change>,
}

impl Body {
    fn whole(
        of: &Connection,
        tables: &BTreeMap<String, Table>,
        pepper: &Pepper,
    ) -> Result<Self, Error> {
        let whole = tables.keys().cloned().collect();
        Ok(Self { pepper: Some(pepper.to_hex()), whole, changes: rows(of, tables)? })
    }
}

#[derive(Debug, Row, Serialize, Deserialize)]
struct Entry {
    sequence: u64,
    writer: u64,
    attempt: u64,
    snapshot: bool,
    body: String,
}

impl Log {
    /// Reads the log, or begins it with the key of secrets of this dashboard; answers the state in
    /// memory with it.
    pub(super) fn open(shared: &Arc<Shared>, own: Pepper) -> Result<(Self, Control), Error> {
        let tail = Arc::new(Tail::new(shared)?);
        let found = tail.pepper()?;
        let is_first = found.is_none();
        let mut control = Control::in_memory(found.unwrap_or(own))?;
        let tables = tables(&control.lock())?;
        if is_first {
            let body = Body::whole(&control.lock(), &tables, control.pepper())?;
            tail.append(1, true, &body)?;
            // Whoever was first.
            let pepper =
                tail.pepper()?.ok_or(Error::Damaged { what: "the log of control state" })?;
            control = Control::in_memory(pepper)?;
        }
        tail.attach(&control.lock(), &tables)?;
        let log = Self { tail, tables, turn: Mutex::new(0), tickets: AtomicU64::new(1) };
        log.catch_up(&control)?;
        Ok((log, control))
    }

    /// The state as of now, to look at alone; `None` where the log was never begun.
    pub(super) fn read(shared: &Arc<Shared>) -> Result<Option<Control>, Error> {
        if !shared.layout.has(&shared.link, "control_log")? {
            return Ok(None);
        }
        let tail = Arc::new(Tail::new(shared)?);
        let Some(pepper) = tail.pepper()? else { return Ok(None) };
        let control = Control::in_memory(pepper)?;
        let tables = tables(&control.lock())?;
        let log = Self { tail, tables, turn: Mutex::new(0), tickets: AtomicU64::new(1) };
        log.catch_up(&control)?;
        Ok(Some(control))
    }

    /// Begins the log with a state; false where it was begun already, and is left as it is.
    pub(super) fn begin(shared: &Arc<Shared>, with: &Control) -> Result<bool, Error> {
        let tail = Tail::new(shared)?;
        if tail.pepper()?.is_some() {
            return Ok(false);
        }
        let connection = with.lock();
        let body = Body::whole(&connection, &tables(&connection)?, with.pepper())?;
        tail.append(1, true, &body)
    }

    /// Asks the state as of now, and changes it: what is acknowledged is in the log.
    pub(crate) fn ask<T>(
        &self,
        control: &Control,
        ask: impl Fn(&Control) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let ticket = self.tickets.fetch_add(1, Ordering::SeqCst);
        let mut fresh = lock(&self.turn);
        for lost in 0..MAX_LOST {
            // Read for another after this question came, it is fresh enough for this one too.
            if *fresh <= ticket || lost > 0 {
                let began = self.tickets.fetch_add(1, Ordering::SeqCst);
                self.catch_up(control)?;
                *fresh = began;
            }
            let answer = ask(control);
            // Not within the match, which would hold the lock to its end.
            let outcome = lock(&self.tail.state).outcome.take();
            match outcome {
                None => {
                    self.shorten(control);
                    return answer;
                }
                Some(Outcome::Failed(error)) => return Err(error),
                Some(Outcome::Lost) => std::thread::sleep(PAUSE.min(PAUSE / 20 * lost)),
            }
        }
        Err(Error::Busy)
    }

    /// Number of the last change that this dashboard has seen.
    pub(crate) fn seen(&self) -> u64 {
        lock(&self.tail.state).applied
    }

    /// Takes over what came since.
    fn catch_up(&self, control: &Control) -> Result<(), Error> {
        let applied = self.seen();
        let mut entries = self.tail.entries(&format!("sequence > {applied}"))?;
        if entries.is_empty() {
            return Ok(());
        }
        let connection = control.lock();
        let mut nodes = BTreeSet::new();
        let begins = entries.first().map_or(0, |entry| entry.sequence);
        if applied == 0 || begins != applied + 1 {
            // From the last entry with all rows: what is before it may be gone.
            let table = self.tail.table();
            let newest = format!("sequence >= (SELECT max(sequence) FROM {table} WHERE snapshot)");
            entries = self.tail.entries(&newest)?;
            self.replay(&connection, |connection| {
                entries.iter().try_for_each(|entry| self.apply(connection, entry, true, &mut nodes))
            })?;
        } else {
            self.replay(&connection, |connection| {
                let mut entries = entries.iter();
                entries.try_for_each(|entry| self.apply(connection, entry, false, &mut nodes))
            })?;
        }
        control.took_over(&connection, &nodes)?;
        let mut state = lock(&self.tail.state);
        for entry in entries {
            state.applied = entry.sequence;
            if entry.snapshot {
                state.snapshot = entry.sequence;
            }
        }
        Ok(())
    }

    /// Runs a change that comes from the log, as one transaction.
    fn replay(
        &self,
        connection: &Connection,
        change: impl FnOnce(&Connection) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.tail.replaying.store(true, Ordering::SeqCst);
        let done = (|| {
            // Rows that went with another are in the log themselves.
            connection.execute_batch("PRAGMA foreign_keys = OFF; BEGIN").doing(DOING)?;
            let done = change(connection);
            let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
            connection.execute_batch(end).doing(DOING)?;
            connection.execute_batch("PRAGMA foreign_keys = ON").doing(DOING)?;
            done
        })();
        self.tail.replaying.store(false, Ordering::SeqCst);
        done
    }

    /// Applies an entry; `nodes` learns of which nodes it is.
    fn apply(
        &self,
        to: &Connection,
        entry: &Entry,
        whole: bool,
        nodes: &mut BTreeSet<String>,
    ) -> Result<(), Error> {
        if entry.snapshot && !whole {
            return Ok(());
        }
        let body: Body = serde_json::from_str(&entry.body).doing("a change of control state")?;
        // A table that a newer version added keeps what the version begins it with.
        for table in body.whole.iter().filter(|table| self.tables.contains_key(*table)) {
            to.execute(&format!("DELETE FROM {}", named(table)), []).doing(DOING)?;
        }
        for change in &body.changes {
            let known = self.tables.get(&change.table);
            let knows = |table: &Table| change.columns.iter().all(|c| table.columns.contains(c));
            if !known.is_some_and(knows) || change.columns.len() != change.values.len() {
                let path = "the log of control state in ClickHouse".into();
                return Err(Error::Newer { path, found: 2, known: 1 });
            }
            nodes.extend(change.node());
            let columns: Vec<_> = change.columns.iter().map(|column| named(column)).collect();
            let table = named(&change.table);
            let sql = if change.gone {
                let terms: Vec<_> = columns.iter().map(|column| format!("{column} IS ?")).collect();
                format!("DELETE FROM {table} WHERE {}", terms.join(" AND "))
            } else {
                let marks = vec!["?"; columns.len()].join(", ");
                format!("INSERT OR REPLACE INTO {table} ({}) VALUES ({marks})", columns.join(", "))
            };
            let values = change.values.iter().map(Cell::value);
            let mut statement = to.prepare_cached(&sql).doing(DOING)?;
            statement.execute(rusqlite::params_from_iter(values)).doing(DOING)?;
        }
        Ok(())
    }

    /// Writes all rows as one entry after many changes, and lets go of those before. When it fails,
    /// the next question tries again.
    fn shorten(&self, control: &Control) {
        let (applied, snapshot) = {
            let state = lock(&self.tail.state);
            (state.applied, state.snapshot)
        };
        if applied - snapshot < SNAPSHOT_AFTER {
            return;
        }
        if let Err(error) = self.try_to_shorten(control, applied) {
            tracing::debug!(%error, "the log of control state could not be shortened");
        }
    }

    fn try_to_shorten(&self, control: &Control, applied: u64) -> Result<(), Error> {
        let body = Body::whole(&control.lock(), &self.tables, control.pepper())?;
        if self.tail.append(applied + 1, true, &body)? {
            let mut state = lock(&self.tail.state);
            (state.applied, state.snapshot) = (applied + 1, applied + 1);
            let Shared { link, layout, .. } = &*self.tail.shared;
            let cluster = layout.on_cluster();
            // The few before it stay, for those who are reading them.
            let sql = format!(
                "ALTER TABLE {} {cluster} DELETE WHERE sequence < {}",
                self.tail.table(),
                applied.saturating_sub(100)
            );
            link.execute("shorten the log of control state", Ask::of(sql))?;
        }
        Ok(())
    }
}

const DOING: &str = "take over a change of control state";

impl Tail {
    fn new(shared: &Arc<Shared>) -> Result<Self, Error> {
        Ok(Self {
            shared: Arc::clone(shared),
            id: crate::secret::number()?,
            replaying: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    fn table(&self) -> String {
        self.shared.layout.name("control_log")
    }

    /// Entries in their order. Of two with one number, which takes a writer that slept for longer
    /// than tokens are remembered, the first counts.
    fn entries(&self, which: &str) -> Result<Vec<Entry>, Error> {
        let sql = format!(
            "SELECT sequence, writer, attempt, snapshot, body FROM {} WHERE {which}
             ORDER BY sequence, written, writer, attempt LIMIT 1 BY sequence",
            self.table()
        );
        self.shared.link.rows("read the log of control state", Ask::of(sql))
    }

    fn pepper(&self) -> Result<Option<Pepper>, Error> {
        let newest =
            format!("sequence = (SELECT max(sequence) FROM {} WHERE snapshot)", self.table());
        let entry = self.entries(&newest)?.into_iter().next();
        let Some(entry) = entry else { return Ok(None) };
        let body: Body = serde_json::from_str(&entry.body).doing("the log of control state")?;
        Ok(body.pepper.and_then(|hex| Pepper::of_hex(&hex)))
    }

    /// Appends an entry; false when another dashboard had the number.
    fn append(&self, sequence: u64, snapshot: bool, body: &Body) -> Result<bool, Error> {
        const DOING: &str = "keep a change";
        let attempt = {
            let mut state = lock(&self.state);
            state.attempt += 1;
            state.attempt
        };
        let body = serde_json::to_string(body).doing("a change of control state")?;
        let row = Entry { sequence, writer: self.id, attempt, snapshot, body };
        let token = format!("control-{sequence}");
        self.shared.link.insert(DOING, &self.table(), &token, vec![row])?;
        let first = self.entries(&format!("sequence = {sequence}"))?.into_iter().next();
        Ok(first.is_some_and(|first| (first.writer, first.attempt) == (self.id, attempt)))
    }

    /// Called as SQLite commits; true makes it roll back.
    fn refuses(&self) -> bool {
        if self.replaying.load(Ordering::SeqCst) {
            return false;
        }
        let (changes, next) = {
            let mut state = lock(&self.state);
            (std::mem::take(&mut state.changes), state.applied + 1)
        };
        if changes.is_empty() {
            return false;
        }
        let appended = self.append(next, false, &Body { changes, ..Body::default() });
        let mut state = lock(&self.state);
        let outcome = match appended {
            Ok(true) => {
                state.applied = next;
                return false;
            }
            Ok(false) => Outcome::Lost,
            Err(error) => Outcome::Failed(error),
        };
        state.outcome = Some(outcome);
        true
    }

    fn collect(
        &self,
        context: &Context<'_>,
        tables: &BTreeMap<String, Table>,
    ) -> rusqlite::Result<bool> {
        if self.replaying.load(Ordering::SeqCst) {
            return Ok(false);
        }
        let name: String = context.get(0)?;
        let gone: bool = context.get(1)?;
        let Some(table) = tables.get(&name) else { return Ok(false) };
        let columns = if gone { table.key.clone() } else { table.columns.clone() };
        let values = (0..columns.len()).map(|n| Cell::of(context.get_raw(n + 2))).collect();
        lock(&self.state).changes.push(Change { table: name, gone, columns, values });
        Ok(true)
    }

    /// Makes SQLite tell of every row that changes, and ask before it commits.
    fn attach(
        self: &Arc<Self>,
        to: &Connection,
        tables: &BTreeMap<String, Table>,
    ) -> Result<(), Error> {
        const DOING: &str = "set control state up";
        let (tail, known) = (Arc::clone(self), tables.clone());
        let collect = move |context: &Context<'_>| tail.collect(context, &known);
        to.create_scalar_function(COLLECT, -1, FunctionFlags::SQLITE_UTF8, collect).doing(DOING)?;
        for (name, table) in tables {
            to.execute_batch(&triggers(name, table)).doing(DOING)?;
        }
        // A row that is replaced by one with another key must be told of too.
        to.execute_batch("PRAGMA recursive_triggers = ON").doing(DOING)?;
        let tail = Arc::clone(self);
        to.commit_hook(Some(move || tail.refuses())).doing(DOING)?;
        let tail = Arc::clone(self);
        to.rollback_hook(Some(move || lock(&tail.state).changes.clear())).doing(DOING)
    }
}

/// What is behind the lock is whole after every single operation on it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
