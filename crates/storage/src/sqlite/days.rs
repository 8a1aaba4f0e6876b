//! All days of calls: one file each, read by as many as want to, written by one thread.

use super::day::{self, DAY_NANOS};
use super::history::{self, History};
use super::{ended, overview};
use crate::error::{Doing, Error};
use crate::query::{CallsQuery, Span};
use contract::row::{Call, Calls, Overview, Time};
use rusqlite::Connection;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Connections that are kept open for the next question, over all days.
const MAX_IDLE: usize = 16;

/// The day files of a data directory.
#[derive(Debug)]
pub(crate) struct Days {
    dir: PathBuf,
    // Day to the longest duration of its calls, in nanoseconds.
    known: Mutex<BTreeMap<u64, u64>>,
    idle: Mutex<HashMap<u64, Vec<Connection>>>,
    history: History,
}

impl Days {
    /// Finds the day files and brings each to the newest schema.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Directory { doing: "read", path: dir.into(), source };
        let history = History::open(dir)?;
        let horizon = history.horizon();
        let mut known = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(day) = name.to_str().and_then(day_of_name) {
                if horizon.is_some_and(|horizon| day <= horizon) {
                    // Its sums were taken over; only the removal was cut short.
                    remove(&dir.join(&name))?;
                    continue;
                }
                let writer = day::DayWriter::open(&dir.join(&name))?;
                known.insert(day, writer.longest());
            }
        }
        Ok(Self { dir: dir.into(), known: Mutex::new(known), idle: Mutex::default(), history })
    }

    pub(super) fn writer(&self, day: u64) -> Result<day::DayWriter, Error> {
        day::DayWriter::open(&self.path(day))
    }

    /// Says of each call whether the day before or after has it, by its ids: a sender whose clock
    /// was set anew, or that reckons the start anew at each try, may name another day. Further
    /// away nobody looks: a retry is over within a day.
    pub(super) fn neighbours_have(&self, day: u64, calls: &[&Call]) -> Result<Vec<bool>, Error> {
        let mut have = vec![false; calls.len()];
        for near in [day.checked_sub(1), day.checked_add(1)].into_iter().flatten() {
            if lock(&self.known).contains_key(&near) {
                let found = self.read(near, |file| day::has(file, calls))?.unwrap_or_default();
                have.iter_mut().zip(found).for_each(|(have, found)| *have |= found);
            }
        }
        Ok(have)
    }

    /// Makes a day known to questions; after its first commit.
    pub(super) fn learn(&self, day: u64, longest: u64) {
        lock(&self.known).insert(day, longest);
    }

    pub(crate) fn list(&self, query: &CallsQuery) -> Result<Calls, Error> {
        let limit = query.limit.max(1);
        let mut found = Vec::new();
        for day in self.days_to_list(query) {
            // One more than asked for tells whether there is a next page.
            let wanted = limit + 1 - found.len();
            let rows = self.read(day, |file| day::list(file, day, query, wanted))?;
            found.extend(rows.unwrap_or_default());
            if found.len() > limit {
                break;
            }
        }
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|(cursor, _)| cursor.to_string());
        Ok(Calls { calls: found.into_iter().map(|(_, call)| call).collect(), next })
    }

    pub(crate) fn one(&self, id: &str) -> Result<Option<Call>, Error> {
        let parts: Vec<&str> = id.split('-').collect();
        let [date, trace, span] = parts[..] else { return Ok(None) };
        let Some(day) = day_of_date(date) else { return Ok(None) };
        let call = Call { trace_id: trace.into(), span_id: span.into(), ..Call::default() };
        if !day::is_identified(&call) || !lock(&self.known).contains_key(&day) {
            return Ok(None);
        }
        Ok(self.read(day, |file| day::one(file, trace, span))?.flatten())
    }

    pub(crate) fn overview(&self, span: &Span) -> Result<Overview, Error> {
        let mut sum = overview::Sum::new(span);
        let from = span.previous().from.0;
        self.history.read(|file| sum.add_history(file, history::LEVELS[0]))?;
        for day in self.days_that_ended(from, span.to.0) {
            self.read(day, |file| sum.add_day(file))?;
        }
        Ok(sum.overview())
    }

    /// Calls that ended in a span, by key of the workload.
    pub(crate) fn counts(&self, from: Time, to: Time) -> Result<HashMap<String, u64>, Error> {
        let mut counts = HashMap::new();
        for day in self.days_that_ended(from.0, to.0) {
            let rows = self.read(day, |file| ended::counts(file, from, to))?;
            for (key, count) in rows.unwrap_or_default() {
                *counts.entry(key).or_default() += count;
            }
        }
        Ok(counts)
    }

    /// Closes what is open for the next question.
    pub(super) fn close_idle(&self) {
        lock(&self.idle).clear();
    }

    /// The name of a day: `2026-11-23`.
    pub(crate) fn name(day: u64) -> String {
        let (year, month, date) = Time(day.saturating_mul(DAY_NANOS)).date();
        format!("{year:04}-{month:02}-{date:02}")
    }

    /// The days that are kept, oldest first.
    pub(crate) fn kept(&self) -> Vec<u64> {
        lock(&self.known).keys().copied().collect()
    }

    /// The newest day that is no longer kept; calls of it and of all before are refused.
    pub(super) fn horizon(&self) -> Option<u64> {
        self.history.horizon()
    }

    /// Forgets a day but for its sums of hours. On the writer's thread, which does not write it
    /// meanwhile.
    pub(super) fn drop_day(&self, day: u64, now: Time) -> Result<(), Error> {
        self.read(day, |file| self.history.take_over(day, file, now))?;
        let mut idle = lock(&self.idle);
        lock(&self.known).remove(&day);
        idle.remove(&day);
        drop(idle);
        remove(&self.path(day))
    }

    fn days_to_list(&self, query: &CallsQuery) -> Vec<u64> {
        let last = query.before.map_or(u64::MAX, |cursor| cursor.day);
        let last = last.min(query.to.map_or(u64::MAX, |to| to.0 / DAY_NANOS));
        let first = query.from.map_or(0, |from| from.0 / DAY_NANOS);
        if first > last {
            return Vec::new();
        }
        lock(&self.known).range(first..=last).rev().map(|(day, _)| *day).collect()
    }

    /// Days of which a call can have ended in the span.
    fn days_that_ended(&self, from: u64, to: u64) -> Vec<u64> {
        let known = lock(&self.known);
        let days = known.range(..=to / DAY_NANOS);
        days.filter(|(day, longest)| {
            (*day + 1).saturating_mul(DAY_NANOS).saturating_add(**longest) > from
        })
        .map(|(day, _)| *day)
        .collect()
    }

    fn path(&self, day: u64) -> PathBuf {
        self.dir.join(format!("calls-{}.db", Self::name(day)))
    }

    /// Asks the file of a day; `None` when the day was dropped meanwhile.
    fn read<T>(
        &self,
        day: u64,
        ask: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let idle = lock(&self.idle).get_mut(&day).and_then(Vec::pop);
        let connection = match idle {
            Some(connection) => connection,
            None => {
                if !lock(&self.known).contains_key(&day) {
                    return Ok(None);
                }
                super::open_reader(&self.path(day))?
            }
        };
        let transaction = connection.unchecked_transaction().doing("begin to read calls")?;
        let answer = ask(&transaction)?;
        drop(transaction);
        // Held while looking, so that a day that is dropped meanwhile leaves nothing open.
        let mut idle = lock(&self.idle);
        let kept = lock(&self.known).contains_key(&day);
        if kept && idle.values().map(Vec::len).sum::<usize>() < MAX_IDLE {
            idle.entry(day).or_default().push(connection);
        }
        Ok(Some(answer))
    }
}

/// Removes a database with what SQLite puts beside it.
fn remove(path: &Path) -> Result<(), Error> {
    for suffix in ["-wal", "-shm", ""] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Directory { doing: "remove", path: name.into(), source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// What is behind the lock is whole after every single operation on it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn day_of_name(name: &str) -> Option<u64> {
    let date = name.strip_prefix("calls-")?.strip_suffix(".db")?;
    let moment: Time = format!("{date}T00:00:00Z").parse().ok()?;
    Some(moment.0 / DAY_NANOS)
}

fn day_of_date(date: &str) -> Option<u64> {
    let digits = date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit());
    let (year, rest) = digits.then(|| date.split_at(4))?;
    let (month, day) = rest.split_at(2);
    day_of_name(&format!("calls-{year}-{month}-{day}.db"))
}
