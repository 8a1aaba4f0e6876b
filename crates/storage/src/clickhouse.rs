//! The engine for fleets: ClickHouse, over HTTP by its official client. Any number of dashboards
//! may use one database.
//!
//! `link.rs` is the way to the server, `schema.rs` and the SQL files the tables, `row.rs` and
//! `parts.rs` how calls and sums lie in them, `writer.rs` the one thread that writes calls,
//! `summing.rs` adds
//! them up, `joining.rs` makes one call of its sightings, `filter.rs` and `sums.rs` compile questions, `keep.rs` forgets days, `control.rs` orders what
//! dashboards want.

pub(crate) mod control;
mod filter;
mod joining;
mod keep;
mod link;
mod parts;
mod row;
mod runs;
mod schema;
mod summing;
mod sums;
mod writer;

#[cfg(test)]
mod tests;

use crate::engine::{Done, Engine, MAX_TRACE, Sums, SumsQuery};
use crate::error::Error;
use crate::query::{CallsQuery, Cursor};
use crate::retention::{Disk, Limits, ReadDisk, Retained, Standing};
use crate::secret::Pepper;
use crate::sqlite::backup::backup_of_control;
use crate::sqlite::control::Control;
use crate::store::Telemetry;
use crate::units::{DAY_NANOS, day_name, read_id, span_id, trace_id};
use contract::row::{Call, Calls, Run, Time};
use joining::Whole;
use keep::Gone;
use link::{Ask, Link, is_over_time};
use row::{COLUMNS, COUNTS, CallRow, moment, within};
use schema::Layout;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use writer::Writer;

/// Rows that are read at once where few of them are listed.
const MAX_LISTED: usize = 2_000;

/// A ClickHouse server and the database in it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClickHouse {
    /// Of its HTTP interface, such as `http://127.0.0.1:8123`.
    pub url: String,
    /// Who comes.
    pub user: String,
    /// What the user proves to be with.
    pub password: Option<String>,
    /// Where the tables are; made when it is not there.
    pub database: String,
    /// A cluster of the server's configuration: tables are then replicated, and read over all
    /// shards.
    pub cluster: Option<String>,
    /// Whether ClickHouse is told how long rows are kept, so that it removes them by itself should
    /// no dashboard do it.
    pub set_ttl: bool,
    /// Whether days go before their time when a disk of the server fills up.
    pub watch_disks: bool,
}

impl ClickHouse {
    /// One server, as it is after an installation: its user without a password, the database
    /// `sonde`.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            user: "default".into(),
            password: None,
            database: "sonde".into(),
            cluster: None,
            set_ttl: true,
            watch_disks: true,
        }
    }
}

impl fmt::Debug for ClickHouse {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ClickHouse")
            .field("url", &self.url)
            .field("user", &self.user)
            .field("database", &self.database)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// What the threads of the engine share.
#[derive(Debug)]
struct Shared {
    link: Link,
    layout: Layout,
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Remote {
    writer: Writer,
    shared: Arc<Shared>,
    dir: PathBuf,
    watch_disks: bool,
    /// Days of calls for which the tables' own limits were set by this process; none before, and
    /// none where they are not to be set.
    ttl: Option<Mutex<Option<u32>>>,
}

impl Shared {
    fn gone(&self) -> Result<Gone, Error> {
        keep::gone(&self.link, &self.layout)
    }

    /// The server's time.
    fn now(&self) -> Result<Time, Error> {
        let ask = Ask::of("SELECT toUInt64(toUnixTimestamp64Nano(now64(9))) AS now");
        let now: Vec<u64> = self.link.rows("ask for the time", ask)?;
        Ok(Time(now.first().copied().unwrap_or(0)))
    }

    /// Rows of a question; its SQL goes on behind the name of the table.
    fn rows(&self, doing: &'static str, mut ask: Ask, which: &str) -> Result<Vec<CallRow>, Error> {
        ask.sql = format!("SELECT {COLUMNS} FROM {} {which}", self.layout.name("call"));
        self.link.rows(doing, ask)
    }

    /// The days that are kept, oldest first.
    fn days(&self, gone: &Gone) -> Result<Vec<u64>, Error> {
        let mut days = keep::days(&self.link, &self.layout, "call")?;
        days.retain(|day| gone.horizon().is_none_or(|horizon| *day > horizon));
        Ok(days)
    }

    fn list(&self, query: &CallsQuery) -> Result<Calls, Error> {
        let limit = query.limit.max(1);
        let mut found: Vec<(Cursor, Call)> = Vec::new();
        let mut stopped = None;
        let last = query.before.map_or(u64::MAX, |before| before.time.0 / DAY_NANOS);
        let last = last.min(query.to.map_or(u64::MAX, |to| to.0 / DAY_NANOS));
        let first = query.from.map_or(0, |from| from.0 / DAY_NANOS);
        let days = self.days(&self.gone()?)?;
        for day in days.into_iter().rev().filter(|day| (first..=last).contains(day)) {
            // One more than asked for tells whether there is a next page.
            stopped = self.list_day(query, day, limit + 1, &mut found)?;
            if stopped.is_some() || found.len() > limit {
                break;
            }
        }
        let more = found.len() > limit;
        found.truncate(limit);
        // Of the row, whose ids the call need not have.
        let next = found.last().filter(|_| more).map(|(cursor, _)| *cursor).or(stopped);
        let next = next.map(|cursor| cursor.to_string());
        let calls = found.into_iter().map(|(_, call)| call).collect();
        Ok(Calls { calls, next, partial: !more && stopped.is_some() })
    }

    /// Adds calls of a day until there are so many; says where the search stopped when its time was
    /// over before.
    fn list_day(
        &self,
        query: &CallsQuery,
        day: u64,
        enough: usize,
        found: &mut Vec<(Cursor, Call)>,
    ) -> Result<Option<Cursor>, Error> {
        let begin = Cursor::before(Time((day + 1).saturating_mul(DAY_NANOS)));
        let mut before = query.before;
        let mut asked = enough - found.len();
        loop {
            if query.budget.is_over() {
                return Ok(Some(before.unwrap_or(begin)));
            }
            let rows = match self.list_rows(query, day, before, asked) {
                Ok(rows) => rows,
                Err(error) if is_over_time(&error) => return Ok(Some(before.unwrap_or(begin))),
                Err(error) => return Err(error),
            };
            let is_last = rows.len() < asked;
            before = rows.last().map(CallRow::cursor).or(before);
            found.extend(self.listed(query, rows)?);
            if is_last || found.len() >= enough {
                return Ok(None);
            }
            // Where sightings that came later make many calls unlike the filter.
            asked = (asked * 4).min(MAX_LISTED.max(enough));
        }
    }

    /// Rows of a day by which calls may be listed: a call is in the place of its last sighting.
    fn list_rows(
        &self,
        query: &CallsQuery,
        day: u64,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<CallRow>, Error> {
        let mut ask = limited(Ask::default(), query.budget.left());
        let condition = filter::condition(&query.filter, &mut ask);
        let from = query.from.map_or(0, |from| from.0).max(day.saturating_mul(DAY_NANOS));
        let to = query.to.map_or(u64::MAX, |to| to.0).min((day + 1).saturating_mul(DAY_NANOS));
        let before = before.map_or_else(String::new, |before| {
            let Cursor { time, trace, span } = before;
            let time = moment(time.0);
            format!(
                "AND time <= {time} AND (time < {time} OR (trace_id, span_id) < \
                 (toUInt128('{trace}'), toUInt64({span})))"
            )
        });
        let which = format!(
            "WHERE time >= {} AND time < {} {before} AND {COUNTS} AND amends >= 0 AND ({condition})
             ORDER BY time DESC, trace_id DESC, span_id DESC LIMIT {limit}",
            moment(from),
            moment(to),
        );
        self.rows("list calls", ask, &which)
    }

    /// The calls of rows that stand for them, where they still are like the filter.
    fn listed(
        &self,
        query: &CallsQuery,
        mut rows: Vec<CallRow>,
    ) -> Result<Vec<(Cursor, Call)>, Error> {
        // Where the ids stayed those of the first sighting, both rows have one place.
        rows.dedup_by_key(|row| row.cursor());
        let firsts = joining::firsts(self, rows.clone())?;
        let ids: Vec<_> = firsts.iter().map(CallRow::ids).collect();
        let wholes = joining::wholes(self, firsts)?;
        let wholes: HashMap<_, _> = ids.into_iter().zip(wholes).collect();
        let stands_for = |row: CallRow| {
            let Whole { call, is_amended } = wholes.get(&row.first().unwrap_or(row.ids()))?;
            let is_it = call.time.0 == row.start()
                && (trace_id(&call.trace_id), span_id(&call.span_id))
                    == (Some(row.trace_id), Some(row.span_id));
            let stands = is_it || !is_amended && !row.is_amendment();
            (stands && query.filter.matches(call)).then(|| (row.cursor(), call.clone()))
        };
        Ok(rows.into_iter().filter_map(stands_for).collect())
    }
}

impl Remote {
    /// Finds the server, and brings the database to the newest schema. The directory is the one
    /// whose disk is watched beside the server's.
    pub(crate) fn open(to: &ClickHouse, dir: &Path) -> Result<Self, Error> {
        let shared = Arc::new(Shared { link: Link::open(to)?, layout: Layout::of(to) });
        copy_before(&shared, dir)?;
        schema::migrate(&shared.link, &shared.layout)?;
        let failed =
            |source| Error::Directory { doing: "start a thread for", path: dir.into(), source };
        let writer =
            Writer::start(Arc::clone(&shared), crate::secret::number()?).map_err(failed)?;
        let ttl = to.set_ttl.then(Mutex::default);
        Ok(Self { writer, shared, dir: dir.into(), watch_disks: to.watch_disks, ttl })
    }

    /// Control state that all dashboards share.
    pub(crate) fn control(&self) -> Result<(control::Log, Control), Error> {
        control::Log::open(&self.shared, Pepper::load(&self.dir)?)
    }

    /// The control state that dashboards share in a database, to look at; `None` where none ever
    /// used it.
    pub(crate) fn control_in(to: &ClickHouse) -> Result<Option<Control>, Error> {
        let shared = Arc::new(Shared { link: Link::open(to)?, layout: Layout::of(to) });
        control::Log::read(&shared)
    }

    /// Gives a database the control state that its dashboards will share; false where it has one.
    pub(crate) fn begin_control(to: &ClickHouse, with: &Control) -> Result<bool, Error> {
        let shared = Arc::new(Shared { link: Link::open(to)?, layout: Layout::of(to) });
        schema::migrate(&shared.link, &shared.layout)?;
        control::Log::begin(&shared, with)
    }

    /// The fuller of the directory's disk and the server's.
    fn disk(&self, disk: &ReadDisk) -> Result<Option<Disk>, Error> {
        let server = if self.watch_disks { keep::disk(&self.shared.link)? } else { None };
        let both = disk(&self.dir).into_iter().chain(server);
        Ok(both.max_by_key(Disk::percent))
    }
}

impl Remote {
    /// Tells ClickHouse how long rows are kept, where that is not told yet. Gives the days after
    /// which it removes calls by itself.
    fn set_ttl(&self, days: u32) -> Result<Option<u32>, Error> {
        let Some(ttl) = &self.ttl else { return Ok(None) };
        let mut set = ttl.lock().unwrap_or_else(PoisonError::into_inner);
        if *set != Some(days) {
            keep::set_ttl(&self.shared.link, &self.shared.layout, days)?;
            *set = Some(days);
        }
        Ok(Some(keep::ttl_days(days)))
    }
}

impl Engine for Remote {
    fn submit(&self, telemetry: Telemetry, done: Done) -> Result<(), Error> {
        self.writer.submit(telemetry, done)
    }

    fn list(&self, query: &CallsQuery) -> Result<Calls, Error> {
        self.shared.list(query)
    }

    fn one(&self, id: &str) -> Result<Option<Call>, Error> {
        let Some((day, trace, span)) = read_id(id) else { return Ok(None) };
        if self.shared.gone()?.horizon().is_some_and(|horizon| day <= horizon) {
            return Ok(None);
        }
        // The day is that of the first sighting, the ids may be those of another.
        let which = format!(
            "WHERE {} AND trace_id = toUInt128('{trace}') AND span_id = {span} AND amends = 0
             LIMIT 1",
            within(day.saturating_sub(1), day + 1),
        );
        let rows = self.shared.rows("read a call", Ask::default(), &which)?;
        let calls = joining::joined(&self.shared, joining::firsts(&self.shared, rows)?)?;
        Ok(calls.into_iter().find(|call| call.id == id))
    }

    fn trace(&self, trace: &str) -> Result<Vec<Call>, Error> {
        let Some(id) = trace_id(trace) else { return Ok(Vec::new()) };
        let begin = moment(self.shared.gone()?.calls_end());
        let which = format!(
            "WHERE trace_id = toUInt128('{id}') AND time >= {begin} AND amends = 0
             ORDER BY time DESC, span_id DESC LIMIT {MAX_TRACE}"
        );
        let rows = self.shared.rows("read a trace", Ask::default(), &which)?;
        let mut calls = joining::joined(&self.shared, joining::firsts(&self.shared, rows)?)?;
        // A call is in the trace that its sightings agree on.
        calls.retain(|call| call.trace_id == trace);
        calls.sort_by(|a, b| (b.time, &b.span_id).cmp(&(a.time, &a.span_id)));
        // Beyond the day beside the newest that has it, nobody looks.
        if let Some(newest) = calls.first().map(|call| call.time.0 / DAY_NANOS) {
            let mut last = newest;
            let near = |call: &&Call| {
                let day = call.time.0 / DAY_NANOS;
                let is_near = day + 1 >= last;
                last = day;
                is_near
            };
            let len = calls.iter().take_while(near).count();
            calls.truncate(len);
        }
        calls.reverse();
        Ok(calls)
    }

    fn runs(&self, trace_id: &str) -> Result<Vec<Run>, Error> {
        runs::find(&self.shared, trace_id)
    }

    fn sums(&self, queries: &[SumsQuery<'_>]) -> Result<Vec<Sums>, Error> {
        let Shared { link, layout, .. } = &*self.shared;
        let gone = self.shared.gone()?;
        let ask = |query: &SumsQuery<'_>| {
            let is_over = query.budget.is_over();
            let ask = if is_over { None } else { sums::question(query, &gone, layout) };
            ask.map(|ask| limited(ask, query.budget.left()))
        };
        let asks: Vec<_> = queries.iter().map(ask).collect();
        let asked: Vec<_> = asks.iter().flatten().cloned().collect();
        let mut answers = link.rows_all("add calls up", &asked).into_iter();
        let answer = |(query, ask): (&SumsQuery<'_>, Option<Ask>)| match ask
            .and_then(|_ask| answers.next())
        {
            Some(Ok(rows)) => Ok(sums::answer(rows)),
            Some(Err(error)) if !is_over_time(&error) => Err(error),
            Some(Err(_)) => Ok(Sums { partial: true, ..Sums::default() }),
            None => Ok(Sums { partial: query.budget.is_over(), ..Sums::default() }),
        };
        queries.iter().zip(asks).map(answer).collect()
    }

    fn retain(&self, limits: &Limits, disk: &ReadDisk, now: Time) -> Result<Retained, Error> {
        let Shared { link, layout, .. } = &*self.shared;
        let today = now.0 / DAY_NANOS;
        let mut retained = Retained::default();
        // First, so that calls are refused even if removing fails.
        let before = limits.standing(self.disk(disk)?);
        self.writer.set_full(before == Standing::Full);
        let oldest = today.saturating_sub(limits.days.into());
        let mut kept = self.shared.days(&self.shared.gone()?)?;
        for day in kept.iter().copied().filter(|day| *day < oldest) {
            keep::drop_day(link, layout, day)?;
            retained.aged.push(day_name(day));
        }
        kept.retain(|day| *day >= oldest);
        let fills = |standing| matches!(standing, Standing::Dropping | Standing::Full);
        let first = kept.first().copied().filter(|day| *day < today);
        if let Some(day) = first
            && fills(limits.standing(self.disk(disk)?))
        {
            keep::drop_day(link, layout, day)?;
            retained.dropped = Some(day_name(day));
        }
        let gone = self.shared.gone()?;
        keep::narrow(link, layout, &gone, now)?;
        let kept = self.shared.days(&gone)?;
        retained.oldest = kept.first().copied().map(day_name);
        retained.days = u64::try_from(kept.len()).unwrap_or(u64::MAX);
        // After what is gone was noted: what a question asks for must never go unnoticed.
        retained.ttl_days = self.set_ttl(limits.days)?;
        retained.disk = self.disk(disk)?;
        retained.standing = limits.standing(retained.disk);
        self.writer.set_full(retained.standing == Standing::Full);
        Ok(retained)
    }

    fn bytes_elsewhere(&self) -> Result<u64, Error> {
        keep::bytes(&self.shared.link, &self.shared.layout)
    }

    fn name(&self) -> &'static str {
        "clickhouse"
    }
}

/// Copies control state before the schema changes, into the directory of the dashboard that changes
/// it; what is there already was copied by a start that did not get further. Of calls there is
/// nothing to copy: their tables only ever get more columns.
fn copy_before(shared: &Arc<Shared>, dir: &Path) -> Result<(), Error> {
    let Some(next) = schema::next_step(&shared.link, &shared.layout)? else { return Ok(()) };
    let to = dir.join(format!("clickhouse-before-{next}"));
    if to.exists() {
        return Ok(());
    }
    match control::Log::read(shared)? {
        Some(control) => backup_of_control(&control, &to, shared.now()?).map(drop),
        None => Ok(()),
    }
}

/// A question that ends with an error when its time is over.
fn limited(ask: Ask, left: Option<std::time::Duration>) -> Ask {
    match left {
        None => ask,
        Some(left) => {
            let seconds = left.as_secs_f64().max(0.05);
            ask.setting("max_execution_time", format!("{seconds:.3}"))
                .setting("timeout_overflow_mode", "throw")
        }
    }
}
