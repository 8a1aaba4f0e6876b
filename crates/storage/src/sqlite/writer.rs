//! The one thread that writes calls. Whoever waits is answered after the commit, and all who
//! came meanwhile share the next one.

use super::block::Id;
use super::day::DayWriter;
use super::days::Days;
use crate::engine::Done;
use crate::error::Error;
use crate::query::CallsQuery;
use crate::same::{self, Ids, Sightings};
use crate::store::{Kept, Telemetry};
use crate::units::{DAY_NANOS, day_name, day_of, id_of, span_id, trace_id};
use contract::row::{Call, Run, Time};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Submissions that may wait. Each is one OTLP request.
const MAX_JOBS: usize = 1024;
/// Calls that may wait, over all submissions; about 100 MB at a kilobyte each.
const MAX_WAITING: usize = 100_000;
/// Calls after which a commit takes no more submissions in, so that nobody waits for long.
const MAX_TOGETHER: usize = 8192;
/// Day files that are held open for writing: today, yesterday, and what arrives late.
const MAX_OPEN: usize = 8;

/// Sums of a width in seconds, and how long they are kept after the day, in nanoseconds.
const NARROW: [(u64, u64); 3] = [(10, 2 * DAY_NANOS), (60, 2 * DAY_NANOS), (300, 30 * DAY_NANOS)];

struct Job {
    calls: Vec<Call>,
    runs: Vec<Run>,
    done: Done,
}

/// What became of a call.
#[derive(Debug, Clone, Copy)]
enum Fate {
    New,
    Duplicate,
    Joined,
    Refused,
    TooOld,
}

/// A call that is to be written.
#[derive(Clone, Copy)]
struct Asked<'a> {
    /// Number of the job, and of the call in it.
    place: (usize, usize),
    id: Id,
    call: &'a Call,
}

/// What the thread is asked for.
enum Order {
    Write(Job),
    /// Something else that no write may overlap with.
    Do(Box<dyn FnOnce(&mut Hand) + Send>),
}

/// The writing end of all days.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Option<SyncSender<Order>>,
    waiting: Arc<AtomicUsize>,
    full: AtomicBool,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(days: Arc<Days>) -> Result<Self, std::io::Error> {
        let (queue, jobs) = sync_channel(MAX_JOBS);
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut hand = Hand {
            days,
            open: BTreeMap::new(),
            narrowed: BTreeSet::new(),
            sightings: Sightings::default(),
            waiting: Arc::clone(&waiting),
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || hand.run(&jobs))?;
        Ok(Self { queue: Some(queue), waiting, full: AtomicBool::new(false), thread: Some(thread) })
    }

    /// Queues the calls; `done` is called once, on the writer's thread, after they are on disk or
    /// could not be written.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when too much waits already, [`Error::Full`] when the disk is; `done` is
    /// then never called.
    pub(crate) fn submit(&self, telemetry: Telemetry, done: Done) -> Result<(), Error> {
        let Telemetry { calls, runs } = telemetry;
        if self.full.load(Ordering::Relaxed) {
            return Err(Error::Full);
        }
        let len = calls.len() + runs.len();
        let before = self.waiting.fetch_add(len, Ordering::Relaxed);
        let refuse = |error| {
            self.waiting.fetch_sub(len, Ordering::Relaxed);
            Err(error)
        };
        if before > 0 && before.saturating_add(len) > MAX_WAITING {
            return refuse(Error::Busy);
        }
        let Some(queue) = &self.queue else { return refuse(Error::Closed) };
        match queue.try_send(Order::Write(Job { calls, runs, done })) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => refuse(Error::Busy),
            Err(TrySendError::Disconnected(_)) => refuse(Error::Closed),
        }
    }

    /// Refuses calls, or takes them again.
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Forgets a day but for its sums of hours, after what is queued.
    pub(crate) fn drop_day(&self, day: u64, now: Time) -> Result<(), Error> {
        self.wait_for(move |hand| {
            // What stays of a day is its sums, which are of what is sealed.
            hand.writer(day)?.finish()?;
            hand.open.remove(&day);
            hand.days.drop_day(day, now)
        })
    }

    /// Forgets the narrow sums of days that are over for long.
    pub(crate) fn narrow(&self, now: Time) -> Result<(), Error> {
        self.wait_for(move |hand| hand.narrow(now))
    }

    fn wait_for(
        &self,
        order: impl FnOnce(&mut Hand) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let (send, receive) = sync_channel(1);
        let order = Order::Do(Box::new(move |hand| {
            // A receiver that is gone no longer wants to know.
            let _gone = send.send(order(hand));
        }));
        let queue = self.queue.as_ref().ok_or(Error::Closed)?;
        queue.send(order).map_err(|_gone| Error::Closed)?;
        receive.recv().unwrap_or(Err(Error::Closed))
    }
}

impl Drop for Writer {
    /// Writes what is queued, then ends the thread.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::debug!("the thread that writes calls ended by a panic");
        }
    }
}

/// Calls by the day of their start.
type ByDay<'a> = BTreeMap<u64, Vec<Asked<'a>>>;

/// What became of each call of each job.
type Fates = Vec<Vec<Fate>>;

struct Hand {
    days: Arc<Days>,
    open: BTreeMap<u64, DayWriter>,
    /// Days and widths of which the sums are known to be gone.
    narrowed: BTreeSet<(u64, u64)>,
    sightings: Sightings,
    waiting: Arc<AtomicUsize>,
}

impl Hand {
    fn run(&mut self, orders: &Receiver<Order>) {
        self.recall();
        while let Ok(first) = orders.recv() {
            let days = Arc::clone(&self.days);
            let _writing = days.writing();
            let mut next = Some(first);
            let mut calls = 0;
            let mut together = Vec::new();
            while let Some(Order::Write(job)) = next {
                calls += job.calls.len() + job.runs.len();
                together.push(job);
                next = if calls < MAX_TOGETHER { orders.try_recv().ok() } else { None };
            }
            if !together.is_empty() {
                self.carry_out(together);
                self.waiting.fetch_sub(calls, Ordering::Relaxed);
                // Whoever waited was answered: this is nobody's time.
                self.tidy();
            }
            if let Some(Order::Do(order)) = next {
                order(self);
            }
        }
        // Readers first: the last to leave a database writes its log into it, if it may write.
        self.days.close_idle();
    }

    fn narrow(&mut self, now: Time) -> Result<(), Error> {
        for day in self.days.kept() {
            for (level, kept) in NARROW {
                let over = (day + 1).saturating_mul(DAY_NANOS).saturating_add(kept);
                if over <= now.0 && !self.narrowed.contains(&(day, level)) {
                    self.days.forget_sums(day, level)?;
                    self.narrowed.insert((day, level));
                }
            }
        }
        Ok(())
    }

    /// Keeps the logs of days short. What fails is tried again after the next commit.
    fn tidy(&mut self) {
        self.open.retain(|day, writer| {
            let outcome = writer.tidy();
            if let Err(error) = &outcome {
                let day = day_name(*day);
                tracing::warn!(%error, day, "calls could not be sealed; they are kept as they are");
            }
            outcome.is_ok()
        });
    }

    fn carry_out(&mut self, mut jobs: Vec<Job>) {
        let calls: Vec<_> = jobs.iter_mut().map(|job| std::mem::take(&mut job.calls)).collect();
        self.sightings.begin();
        let written = self.write(&calls).and_then(|fates| {
            self.write_runs(jobs.iter().flat_map(|job| &job.runs))?;
            Ok(fates)
        });
        match &written {
            Ok(_) => self.sightings.keep(),
            // What was not written is no sighting; what was is found by its ids when it comes again.
            Err(_) => self.sightings.undo(),
        }
        match written {
            Ok(fates) => {
                for ((job, calls), fates) in jobs.into_iter().zip(calls).zip(fates) {
                    (job.done)(Ok(kept(calls, fates)));
                }
            }
            // Alone again, so that each learns its own fate; what a day kept is found there.
            Err(_) if jobs.len() > 1 => {
                for (job, calls) in jobs.into_iter().zip(calls) {
                    self.carry_out(vec![Job { calls, ..job }]);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "calls could not be written");
                let mut error = Some(error);
                for job in jobs {
                    (job.done)(Err(error.take().unwrap_or(Error::Closed)));
                }
            }
        }
    }

    /// Writes the calls of all jobs and says of each call what became of it.
    fn write(&mut self, jobs: &[Vec<Call>]) -> Result<Vec<Vec<Fate>>, Error> {
        let mut by_day = ByDay::new();
        let horizon = self.days.horizon();
        let mut fates: Fates = jobs.iter().map(|calls| vec![Fate::Refused; calls.len()]).collect();
        let mut again: Vec<(Asked<'_>, Ids)> = Vec::new();
        for (job, calls) in jobs.iter().enumerate() {
            for (at, call) in calls.iter().enumerate() {
                if horizon.is_some_and(|horizon| day_of(call) <= horizon) {
                    fates[job][at] = Fate::TooOld;
                } else if let (Some(trace), Some(span)) =
                    (trace_id(&call.trace_id), span_id(&call.span_id))
                {
                    let asked = Asked { place: (job, at), id: (trace, span), call };
                    match self.sightings.see(asked.id, call) {
                        Some(ids) => again.push((asked, ids)),
                        None => by_day.entry(day_of(call)).or_default().push(asked),
                    }
                }
            }
        }
        self.insert(by_day, &mut fates)?;
        let alone = self.join(again, &mut fates)?;
        self.insert(alone, &mut fates)?;
        Ok(fates)
    }

    /// Writes what stands around calls, day by day.
    fn write_runs<'a>(&mut self, runs: impl Iterator<Item = &'a Run>) -> Result<(), Error> {
        let horizon = self.days.horizon();
        let mut by_day: BTreeMap<u64, Vec<&Run>> = BTreeMap::new();
        for run in runs {
            let day = run.time.0 / DAY_NANOS;
            if horizon.is_none_or(|horizon| day > horizon) {
                by_day.entry(day).or_default().push(run);
            }
        }
        for (day, runs) in by_day {
            let writer = self.writer(day)?;
            let outcome = writer.insert_runs(&runs);
            let last_end = writer.last_end();
            if outcome.is_err() {
                self.open.remove(&day);
            }
            outcome?;
            self.days.learn(day, last_end);
        }
        Ok(())
    }

    /// Writes calls that nobody saw before, day by day.
    fn insert(&mut self, by_day: ByDay<'_>, fates: &mut Fates) -> Result<(), Error> {
        for (day, asked) in by_day {
            let elsewhere = self.neighbours_have(day, &asked)?;
            let mut rows = Vec::with_capacity(asked.len());
            for (asked, known) in asked.iter().zip(elsewhere) {
                fates[asked.place.0][asked.place.1] = Fate::Duplicate;
                if !known {
                    rows.push(asked);
                }
            }
            let new: Vec<(Id, &Call)> = rows.iter().map(|asked| (asked.id, asked.call)).collect();
            let new = if new.is_empty() { Vec::new() } else { self.write_day(day, &new)? };
            for (asked, _) in rows.into_iter().zip(new).filter(|(_, new)| *new) {
                fates[asked.place.0][asked.place.1] = Fate::New;
            }
        }
        Ok(())
    }

    /// Says of each call whether the day before or after has it, by its ids: a sender whose clock
    /// was set anew, or that reckons the start anew at each try, may name another day. Further
    /// away nobody looks: a retry is over within a day.
    fn neighbours_have(&mut self, day: u64, asked: &[Asked<'_>]) -> Result<Vec<bool>, Error> {
        let mut have = vec![false; asked.len()];
        for near in [day.checked_sub(1), day.checked_add(1)].into_iter().flatten() {
            if self.days.has_day(near) {
                let writer = self.writer(near)?;
                for (have, asked) in have.iter_mut().zip(asked) {
                    *have = *have || writer.has(asked.id)?;
                }
            }
        }
        Ok(have)
    }

    /// Adds what further sightings know to the rows of their calls. Gives back those whose row is
    /// not there: it could not be written, or its day went.
    fn join<'a>(
        &mut self,
        mut again: Vec<(Asked<'a>, Ids)>,
        fates: &mut Fates,
    ) -> Result<ByDay<'a>, Error> {
        let mut alone = ByDay::new();
        while !again.is_empty() {
            // One sighting of each row at a time, and all of those in one commit a day.
            let mut rows: BTreeMap<Ids, Asked<'a>> = BTreeMap::new();
            let mut later = Vec::new();
            for (asked, ids) in again {
                let ids = self.sightings.current(ids).unwrap_or(ids);
                match rows.entry(ids) {
                    Entry::Vacant(free) => {
                        free.insert(asked);
                    }
                    Entry::Occupied(taken) => later.push((asked, *taken.key())),
                }
            }
            let mut merged: BTreeMap<u64, Vec<(Ids, Call)>> = BTreeMap::new();
            for (ids, asked) in rows {
                let (job, at) = asked.place;
                match self.row(ids, asked.call)? {
                    None => alone.entry(day_of(asked.call)).or_default().push(asked),
                    Some(row) if same::is_known(&row, asked.call) => {
                        fates[job][at] = Fate::Duplicate;
                    }
                    Some(row) => {
                        let joined = same::merge(row, asked.call.clone());
                        merged.entry(day_of(&joined)).or_default().push((ids, joined));
                        fates[job][at] = Fate::Joined;
                    }
                }
            }
            for (day, rows) in merged {
                let outcome = self.writer(day)?.amend(&rows);
                if outcome.is_err() {
                    self.open.remove(&day);
                }
                outcome?;
                rows.iter().for_each(|(ids, row)| self.sightings.rename(*ids, row));
            }
            again = later;
        }
        Ok(alone)
    }

    /// The row of these ids, which began about when this sighting did.
    fn row(&self, (trace, span): Ids, about: &Call) -> Result<Option<Call>, Error> {
        let day = day_of(about);
        for day in [Some(day), day.checked_sub(1), day.checked_add(1)].into_iter().flatten() {
            if let Some(row) = self.days.call(day, trace, span)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Learns of the newest calls that were kept before the start.
    fn recall(&mut self) {
        let newest = CallsQuery { limit: same::RECALLED, ..CallsQuery::default() };
        match self.days.list(&newest) {
            Ok(mut newest) => {
                newest.calls.reverse();
                self.sightings.recall(&newest.calls);
            }
            // The day says so itself as soon as it is asked for.
            Err(error) => tracing::debug!(%error, "cannot look at the newest calls"),
        }
    }

    fn writer(&mut self, day: u64) -> Result<&mut DayWriter, Error> {
        if !self.open.contains_key(&day) {
            if self.open.len() >= MAX_OPEN {
                // The oldest is the least likely to be written again.
                self.open.pop_first();
            }
            self.open.insert(day, self.days.writer(day)?);
        }
        self.open.get_mut(&day).ok_or(Error::Closed)
    }

    fn write_day(&mut self, day: u64, calls: &[(Id, &Call)]) -> Result<Vec<bool>, Error> {
        let writer = self.writer(day)?;
        let outcome = writer.insert(calls);
        let last_end = writer.last_end();
        if outcome.is_err() {
            // Opened anew next time: the file may have been taken away.
            self.open.remove(&day);
        }
        let new = outcome?;
        self.days.learn(day, last_end);
        Ok(new)
    }
}

/// The answer to a submission.
fn kept(mut calls: Vec<Call>, fates: Vec<Fate>) -> Kept {
    let mut kept = Kept::default();
    let mut fates = fates.into_iter();
    calls.retain_mut(|call| {
        match fates.next() {
            Some(Fate::New) => {
                call.id = id_of(call);
                return true;
            }
            Some(Fate::Duplicate) => kept.duplicates += 1,
            Some(Fate::Joined) => kept.joined += 1,
            Some(Fate::TooOld) => kept.too_old += 1,
            Some(Fate::Refused) | None => kept.refused += 1,
        }
        false
    });
    Kept { new: calls, ..kept }
}
