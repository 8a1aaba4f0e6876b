//! All days of calls: one file each, read by as many as want to, written by one thread.

use super::day;
use super::ended::Day;
use super::history::{self, History};
use super::reading::{self, Found, Part};
use super::runs;
use super::snapshot;
use super::summing::Adding;
use crate::cover::Share;
use crate::engine::{MAX_TRACE, Sums, SumsQuery};
use crate::error::{Doing, Error};
use crate::query::{CallsQuery, Cursor};
use crate::units::{DAY_NANOS, day_name, read_id, span_id, trace_id};
use contract::row::{Call, Calls, Run, Time};
use rusqlite::Connection;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const BEGINNING: &str = "begin to read calls";

/// Connections that are kept open for the next question, over all days.
const MAX_IDLE: usize = 16;

/// Threads that look for one question, at most, the one that asks among them: each takes a
/// connection, and a core.
const MAX_SHARES: usize = 4;

/// The day files of a data directory.
#[derive(Debug)]
pub(crate) struct Days {
    dir: PathBuf,
    /// Threads that look for one question.
    shares: usize,
    /// How often writing began and ended: odd while something is written.
    writes: AtomicU64,
    // Day to the moment at which the last of its calls ended.
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
                snapshot::forget(&dir.join(&name), &day::MIGRATIONS);
                known.insert(day, day::prepare(&dir.join(&name))?);
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            dir: dir.into(),
            shares: cores.min(MAX_SHARES),
            writes: AtomicU64::new(0),
            known: Mutex::new(known),
            idle: Mutex::default(),
            history,
        })
    }

    /// Says that something is written, until it is dropped.
    pub(super) fn writing(&self) -> Writing<'_> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        Writing(&self.writes)
    }

    pub(super) fn writer(&self, day: u64) -> Result<day::DayWriter, Error> {
        day::DayWriter::open(&self.path(day))
    }

    /// Forgets the sums of a width in seconds of a day. On the writer's thread.
    pub(super) fn forget_sums(&self, day: u64, level: u64) -> Result<(), Error> {
        day::forget_sums(&self.path(day), level)
    }

    pub(super) fn has_day(&self, day: u64) -> bool {
        lock(&self.known).contains_key(&day)
    }

    /// Makes a day known to questions; after its first commit.
    pub(super) fn learn(&self, day: u64, last_end: u64) {
        lock(&self.known).insert(day, last_end);
    }

    pub(crate) fn list(&self, query: &CallsQuery) -> Result<Calls, Error> {
        let limit = query.limit.max(1);
        let mut found = Vec::new();
        let mut stopped = None;
        for day in self.days_to_list(query) {
            if query.budget.is_over() {
                let end = Cursor::before(Time((day + 1).saturating_mul(DAY_NANOS)));
                stopped = Some(query.before.map_or(end, |before| end.min(before)));
                break;
            }
            // One more than asked for tells whether there is a next page.
            let wanted = limit + 1 - found.len();
            let (calls, stopped_at) = self.list_day(day, query, wanted)?;
            found.extend(calls);
            stopped = stopped_at;
            if found.len() > limit || stopped.is_some() {
                break;
            }
        }
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more).map(Cursor::of);
        let next = last.or(stopped).map(|cursor| cursor.to_string());
        Ok(Calls { calls: found, next, partial: !more && stopped.is_some() })
    }

    /// A page of a day, and where the search stopped when the budget was over. Where few calls
    /// match, several threads look through all of the day.
    fn list_day(
        &self,
        day: u64,
        query: &CallsQuery,
        limit: usize,
    ) -> Result<(Vec<Call>, Option<Cursor>), Error> {
        let newest = self.read(day, |file| {
            let found = reading::look(file, query, limit, Part::Newest)?;
            Ok((reading::calls(file, &found.rows())?, found))
        })?;
        let Some((calls, newest)) = newest else { return Ok((Vec::new(), None)) };
        if !newest.is_short {
            return Ok((calls, newest.stopped));
        }
        self.read_together(day, |files| {
            let shares = together(files, |file, share| {
                reading::look(file, query, limit, Part::Shared(share))
            })?;
            let found = Found::of_shares(shares, limit);
            let rows = found.rows();
            let calls = together(files, |file, share| reading::calls_of_share(file, &rows, share))?;
            Ok((reading::in_order(calls.into_iter().flatten().collect()), found.stopped))
        })
    }

    pub(crate) fn one(&self, id: &str) -> Result<Option<Call>, Error> {
        let Some((day, trace, span)) = read_id(id) else { return Ok(None) };
        self.call(day, trace, span)
    }

    /// The call of a day with these ids.
    pub(super) fn call(&self, day: u64, trace: u128, span: u64) -> Result<Option<Call>, Error> {
        let found = self.read(day, |file| reading::find(file, trace, Some(span)))?;
        Ok(found.and_then(|calls| calls.into_iter().next()))
    }

    pub(crate) fn trace(&self, trace: &str) -> Result<Vec<Call>, Error> {
        let Some(trace) = trace_id(trace) else { return Ok(Vec::new()) };
        let mut found: Vec<Call> = Vec::new();
        let mut first = None;
        for day in self.kept().into_iter().rev() {
            // Beyond the day beside the newest that has it, nobody looks.
            if first.is_some_and(|first| day + 1 < first) {
                break;
            }
            let calls =
                self.read(day, |file| reading::find(file, trace, None))?.unwrap_or_default();
            if !calls.is_empty() {
                first = Some(day);
            }
            found.extend(calls);
        }
        found.sort_by_key(|call| (call.time, span_id(&call.span_id)));
        found.truncate(MAX_TRACE);
        Ok(found)
    }

    /// What stands around the calls of a trace, of the days where [`trace`](Self::trace) looks.
    pub(crate) fn runs(&self, trace: &str) -> Result<Vec<Run>, Error> {
        let Some(trace) = trace_id(trace) else { return Ok(Vec::new()) };
        let mut found: Vec<Run> = Vec::new();
        let mut first = None;
        for day in self.kept().into_iter().rev() {
            if first.is_some_and(|first| day + 1 < first) {
                break;
            }
            let runs = self.read(day, |file| runs::find(file, trace))?.unwrap_or_default();
            if !runs.is_empty() {
                first = Some(day);
            }
            found.extend(runs);
        }
        found.sort_by_key(|run| (run.time, span_id(&run.span_id)));
        found.truncate(MAX_TRACE);
        Ok(found)
    }

    pub(crate) fn sums(&self, queries: &[SumsQuery<'_>]) -> Result<Vec<Sums>, Error> {
        let mut answers: Vec<_> = queries.iter().map(Adding::new).collect();
        let mut by_day: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        // The same days for all questions: one may begin meanwhile.
        let known = lock(&self.known).clone();
        for (number, query) in queries.iter().enumerate() {
            self.history.read(|file| answers[number].add_history(file, history::LEVELS[0]))?;
            for day in days_that_ended(&known, query.from, query.to) {
                by_day.entry(day).or_default().push(number);
            }
        }
        for (day, numbers) in by_day {
            let asked: Vec<_> = numbers.iter().map(|number| &queries[*number]).collect();
            for added in self.add_day(day, &asked)? {
                for (number, added) in numbers.iter().zip(added) {
                    answers[*number].merge(added);
                }
            }
        }
        Ok(answers.into_iter().map(Adding::answer).collect())
    }

    /// Adds a day up, in shares: for each, what it adds for each question.
    fn add_day<'q>(
        &self,
        day: u64,
        queries: &[&'q SumsQuery<'q>],
    ) -> Result<Vec<Vec<Adding<'q>>>, Error> {
        let add = |file: &Connection, share| {
            // What one question reads, the next one of the same day finds.
            let day = Day::open(file)?;
            let adding = queries.iter().map(|query| {
                let mut adding = Adding::new(query);
                if !adding.is_over() {
                    adding.add_day(&day, share)?;
                }
                Ok(adding)
            });
            adding.collect()
        };
        self.read_together(day, |files| together(files, add))
    }

    /// Closes what is open for the next question.
    pub(super) fn close_idle(&self) {
        lock(&self.idle).clear();
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
        let last = query.before.map_or(u64::MAX, |cursor| cursor.time.0 / DAY_NANOS);
        let last = last.min(query.to.map_or(u64::MAX, |to| to.0 / DAY_NANOS));
        let first = query.from.map_or(0, |from| from.0 / DAY_NANOS);
        if first > last {
            return Vec::new();
        }
        lock(&self.known).range(first..=last).rev().map(|(day, _)| *day).collect()
    }

    fn path(&self, day: u64) -> PathBuf {
        self.dir.join(format!("calls-{}.db", day_name(day)))
    }

    /// Asks the file of a day; `None` when the day was dropped meanwhile.
    fn read<T>(
        &self,
        day: u64,
        ask: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let Some(connection) = self.reader(day)? else { return Ok(None) };
        connection.execute_batch("BEGIN").doing(BEGINNING)?;
        let answer = ask(&connection)?;
        self.give_back(day, connection)?;
        Ok(Some(answer))
    }

    /// Asks the file of a day by several connections that all see it as it is at one moment. Where
    /// it is written just then, there is one; none when the day was dropped.
    fn read_together<T>(
        &self,
        day: u64,
        ask: impl FnOnce(&mut [Connection]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut readers = self.readers(day)?;
        let answer = ask(&mut readers)?;
        readers.into_iter().try_for_each(|reader| self.give_back(day, reader))?;
        Ok(answer)
    }

    /// Connections that see a day as it is at one moment: one, where it is written just then.
    fn readers(&self, day: u64) -> Result<Vec<Connection>, Error> {
        let before = self.writes.load(Ordering::SeqCst);
        let shares = if before.is_multiple_of(2) { self.shares } else { 1 };
        let mut readers = Vec::new();
        for _ in 0..shares {
            let Some(reader) = self.reader(day)? else { return Ok(Vec::new()) };
            // What is read first fixes the moment.
            reader.execute_batch("BEGIN; SELECT seconds FROM level LIMIT 1;").doing(BEGINNING)?;
            readers.push(reader);
        }
        if self.writes.load(Ordering::SeqCst) != before {
            for reader in readers.drain(1..) {
                self.give_back(day, reader)?;
            }
        }
        Ok(readers)
    }

    /// A connection to the file of a day; `None` when the day was dropped meanwhile.
    fn reader(&self, day: u64) -> Result<Option<Connection>, Error> {
        let idle = lock(&self.idle).get_mut(&day).and_then(Vec::pop);
        if idle.is_some() {
            return Ok(idle);
        }
        if !lock(&self.known).contains_key(&day) {
            return Ok(None);
        }
        super::open_reader(&self.path(day)).map(Some)
    }

    /// Ends what a connection reads, and keeps it for the next question.
    fn give_back(&self, day: u64, connection: Connection) -> Result<(), Error> {
        connection.execute_batch("COMMIT").doing("end reading calls")?;
        // Held while looking, so that a day that is dropped meanwhile leaves nothing open.
        let mut idle = lock(&self.idle);
        let kept = lock(&self.known).contains_key(&day);
        if kept && idle.values().map(Vec::len).sum::<usize>() < MAX_IDLE {
            idle.entry(day).or_default().push(connection);
        }
        Ok(())
    }
}

/// Days of which a call can have ended in the span, of all with the end of their last call.
fn days_that_ended(known: &BTreeMap<u64, u64>, from: u64, to: u64) -> impl Iterator<Item = u64> {
    let days = known.range(..=to / DAY_NANOS);
    days.filter(move |(_, last_end)| **last_end >= from).map(|(day, _)| *day)
}

/// Asks each connection by a thread of its own, for a share.
fn together<T: Send>(
    files: &mut [Connection],
    ask: impl Fn(&Connection, Share) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let of = files.len();
    let Some((first, others)) = files.split_first_mut() else { return Ok(Vec::new()) };
    std::thread::scope(|scope| {
        let ask = &ask;
        let mut threads = Vec::new();
        for (number, file) in (1..).zip(others) {
            let thread = std::thread::Builder::new().name("store-share".into());
            let thread = thread.spawn_scoped(scope, move || ask(file, Share { number, of }));
            // A machine that has no thread left has it later.
            threads.push(thread.map_err(|_none_left| Error::Busy)?);
        }
        let first = ask(first, Share { number: 0, of });
        let others = threads.into_iter().map(|thread| match thread.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        std::iter::once(first).chain(others).collect()
    })
}

/// Something is written while this lives.
pub(super) struct Writing<'a>(&'a AtomicU64);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Removes a database with what SQLite puts beside it.
fn remove(path: &Path) -> Result<(), Error> {
    for suffix in ["-wal", "-shm", snapshot::SUFFIX, ""] {
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

/// The day whose file has this name.
pub(super) fn day_of_name(name: &str) -> Option<u64> {
    let date = name.strip_prefix("calls-")?.strip_suffix(".db")?;
    let moment: Time = format!("{date}T00:00:00Z").parse().ok()?;
    Some(moment.0 / DAY_NANOS)
}

#[cfg(test)]
mod tests {
    use crate::conformance::{NOON, call};
    use crate::query::{Budget, CallsQuery, Cursor, Span};
    use crate::store::Store;
    use crate::units::DAY_NANOS;
    use contract::row::Time;
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    /// Each batch begins a day.
    #[test]
    fn a_day_that_begins_is_in_all_of_an_answer_or_in_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let days = 40;
        let to = Time(NOON + days * DAY_NANOS);
        let span = Span { from: Time(NOON), to, ..Span::default() };
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for day in 0..days {
                    let seconds = (day * DAY_NANOS / 1_000_000_000) as i64;
                    let calls = (1..4).map(|number| call(day * 10 + number, seconds)).collect();
                    assert_eq!(store.insert(calls).unwrap().new.len(), 3);
                }
            });
            let mut counted = 0;
            while !writer.is_finished() || counted < days * 3 {
                let overview = store.overview(&span).unwrap();
                counted = overview.totals.calls;
                let of_models: u64 = overview.by_model.iter().map(|row| row.stats.calls).sum();
                assert_eq!(of_models, counted);
            }
        });
    }

    /// The charts come from one question, the tables from another, and each from several threads.
    #[test]
    fn all_of_an_answer_is_of_one_moment_whatever_is_written_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let to = Time(NOON + 7_200_000_000_000);
        let span = Span { from: Time(NOON), to, ..Span::default() };
        let counted = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for batch in 0..60_u64 {
                    let numbers = (batch * 100..).take(100);
                    let calls = numbers.map(|number| call(number + 1, number as i64));
                    assert_eq!(store.insert(calls.collect()).unwrap().new.len(), 100);
                }
            });
            let mut counted = BTreeSet::new();
            while !writer.is_finished() || !counted.contains(&6000) {
                let overview = store.overview(&span).unwrap();
                let calls = overview.totals.calls;
                let of_models: u64 = overview.by_model.iter().map(|row| row.stats.calls).sum();
                let over_time: u64 = overview.series.iter().map(|bucket| bucket.stats.calls).sum();
                assert_eq!((of_models, over_time), (calls, calls));
                assert_eq!(calls % 100, 0, "a batch is there as a whole");
                counted.insert(calls);
            }
            counted
        });
        assert!(counted.len() > 2, "{counted:?}");
    }

    /// More places than are looked at first, none of which is older than all others.
    #[test]
    fn a_list_has_each_call_once_in_order_whoever_looks_and_whenever_it_stops() {
        static LOOKS: AtomicU64 = AtomicU64::new(0);
        let clock = || Duration::from_secs(LOOKS.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut all = Vec::new();
        for batch in 0..50_u64 {
            let calls = (0..6).map(|number| {
                let number = batch * 6 + number;
                let mut call = call(number + 1, (batch * 3 + number * 7 % 30) as i64 / 2);
                call.error_type = (number % 20 == 0).then(|| "timeout".into());
                call
            });
            let calls: Vec<_> = calls.collect();
            store.insert(calls.clone()).unwrap();
            all.extend(calls);
        }
        for (filter, looks) in ["", "status:error", "model:none"]
            .into_iter()
            .flat_map(|filter| [None, Some(40), Some(60)].map(|looks| (filter, looks)))
        {
            let filter: crate::Filter = filter.parse().unwrap();
            let mut wanted: Vec<_> = all.iter().filter(|call| filter.matches(call)).collect();
            wanted.sort_by(|one, other| {
                (other.time, &other.trace_id).cmp(&(one.time, &one.trace_id))
            });
            let wanted: Vec<_> = wanted.into_iter().map(|call| call.trace_id.clone()).collect();
            for limit in [4, 100] {
                let mut query = CallsQuery { limit, filter: filter.clone(), ..Default::default() };
                let mut found = Vec::new();
                loop {
                    let end = looks.map(|looks| LOOKS.load(Ordering::Relaxed) + looks);
                    query.budget = end.map_or_else(Budget::default, |end| {
                        Budget::until(Duration::from_secs(end), clock)
                    });
                    let page = store.calls(&query).unwrap();
                    assert!(page.calls.len() <= limit);
                    found.extend(page.calls.into_iter().map(|call| call.trace_id));
                    let Some(next) = page.next else { break };
                    query.before = Some(next.parse().unwrap());
                }
                assert!(found == wanted, "{filter:?}, {limit} at a time, {looks:?} looks");
            }
        }
    }

    #[test]
    fn a_list_that_has_no_time_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.insert((1..=9).map(|number| call(number, number as i64)).collect()).unwrap();
        let first = store.calls(&CallsQuery { limit: 3, ..Default::default() }).unwrap();
        let before: Cursor = first.next.unwrap().parse().unwrap();
        // Over before the day is looked at, or before its only place is.
        for looks in [0, 1] {
            static LOOKS: AtomicU64 = AtomicU64::new(0);
            let clock = || Duration::from_secs(LOOKS.fetch_add(1, Ordering::Relaxed));
            LOOKS.store(0, Ordering::Relaxed);
            let budget = Budget::until(Duration::from_secs(looks), clock);
            let query = CallsQuery { limit: 3, before: Some(before), budget, ..Default::default() };
            let page = store.calls(&query).unwrap();
            assert!(page.calls.is_empty() && page.partial);
            assert_eq!(page.next, Some(before.to_string()));
        }
    }
}
