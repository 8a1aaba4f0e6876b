//! The one thread of this dashboard that writes calls. Whoever waits is answered after the
//! insertion, and all who came meanwhile share the next one.
//!
//! # Once
//!
//! Calls are looked for by their ids before they are inserted. Two dashboards that get the same
//! call at once are kept apart by ClickHouse: the insertions of a day are numbered, the number is
//! the deduplication token of the insertion, and of two with one number the first alone is kept.
//! Whose it was is read back; the other looks for its calls again, and takes the next number. The
//! same makes it safe to try an insertion again whose fate is not known. Sums are made after it, of
//! what then has the number (`summing.rs`).
//!
//! Two sightings of one call are told apart from two calls in the same order: whoever inserts under
//! a number has learnt what all numbers before it hold, its own and those of others. Only two that
//! start on two sides of midnight, and that two dashboards insert at the same moment, stay two.

use super::joining::{self, Growing};
use super::link::Ask;
use super::row::{COLUMNS, CallRow, within};
use super::{Shared, runs, summing};
use crate::engine::Done;
use crate::error::Error;
use crate::same::{self, Ids, Sightings};
use crate::store::{Kept, Telemetry};
use crate::units::{DAY_NANOS, id_of};
use clickhouse::Row;
use contract::row::{Call, Run};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Submissions that may wait. Each is one OTLP request.
const MAX_JOBS: usize = 1024;
/// Calls that may wait, over all submissions; about 100 MB at a kilobyte each.
const MAX_WAITING: usize = 100_000;
/// Calls after which an insertion takes no more submissions in. ClickHouse wants few and large
/// ones.
const MAX_TOGETHER: usize = 50_000;
/// Sightings that others kept on a day that are learnt at once; [`Sightings`] remembers no more.
const MAX_LEARNT: usize = 50_000;
/// How close to midnight a call starts whose other sighting may lie on the other day.
const NEAR_NANOS: u64 = 10_000_000_000;
/// How often a number is lost to other dashboards before the submission is refused as busy.
const MAX_LOST: u32 = 50;

struct Job {
    calls: Vec<Call>,
    runs: Vec<Run>,
    done: Done,
}

/// The writing end.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<SyncSender<Job>>,
    waiting: Arc<AtomicUsize>,
    full: AtomicBool,
    thread: Option<JoinHandle<()>>,
}

/// The thread's own.
struct Hand {
    shared: Arc<Shared>,
    waiting: Arc<AtomicUsize>,
    /// The last number of each day that is known here, and is in the sums.
    numbers: BTreeMap<u64, u64>,
    /// The number of each day up to which all is in `sightings`.
    learnt: BTreeMap<u64, u64>,
    /// Which insertion was the last: a random number, and one more for each.
    attempt: u64,
    /// What came by way of this dashboard, and of the others.
    sightings: Sightings,
}

/// A call that is to be written, with the submission that it came in.
struct New<'a> {
    job: usize,
    call: &'a Call,
    row: CallRow,
    /// The call that it is a further sighting of.
    first: Option<Ids>,
}

#[derive(Debug, Row, Deserialize)]
struct KnownRow {
    trace_id: u128,
    span_id: u64,
}

#[derive(Debug, Row, Deserialize)]
struct NumberRow {
    number: u64,
    writer: u64,
}

impl Writer {
    pub(super) fn start(shared: Arc<Shared>, attempt: u64) -> Result<Self, std::io::Error> {
        let (queue, jobs) = sync_channel(MAX_JOBS);
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut hand = Hand {
            shared,
            waiting: Arc::clone(&waiting),
            numbers: BTreeMap::new(),
            learnt: BTreeMap::new(),
            attempt,
            sightings: Sightings::default(),
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || hand.run(&jobs))?;
        Ok(Self { queue: Some(queue), waiting, full: AtomicBool::new(false), thread: Some(thread) })
    }

    /// As [`Engine::submit`](crate::engine::Engine::submit).
    pub(super) fn submit(&self, telemetry: Telemetry, done: Done) -> Result<(), Error> {
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
        match queue.try_send(Job { calls, runs, done }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => refuse(Error::Busy),
            Err(TrySendError::Disconnected(_)) => refuse(Error::Closed),
        }
    }

    /// Refuses calls, or takes them again.
    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
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

impl Hand {
    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut calls = first.calls.len() + first.runs.len();
            let mut together = vec![first];
            while calls < MAX_TOGETHER
                && let Ok(job) = jobs.try_recv()
            {
                calls += job.calls.len() + job.runs.len();
                together.push(job);
            }
            self.carry_out(together);
            self.waiting.fetch_sub(calls, Ordering::Relaxed);
        }
    }

    fn carry_out(&mut self, mut jobs: Vec<Job>) {
        let calls: Vec<_> = jobs.iter_mut().map(|job| std::mem::take(&mut job.calls)).collect();
        let runs: Vec<Run> = jobs.iter().flat_map(|job| job.runs.iter().cloned()).collect();
        match self.write(&calls).and_then(|kept| self.write_runs(&runs).map(|()| kept)) {
            Ok(kept) => {
                for (job, kept) in jobs.into_iter().zip(kept) {
                    (job.done)(Ok(kept));
                }
            }
            // Alone again, so that each learns its own fate; what was kept is found there. Not when
            // the server is away: each would wait for it anew.
            Err(error) if jobs.len() > 1 && !matches!(error, Error::Away { .. }) => {
                for (job, calls) in jobs.into_iter().zip(calls) {
                    self.carry_out(vec![Job { calls, ..job }]);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "calls could not be written");
                let mut error = Some(error);
                for job in jobs {
                    (job.done)(Err(error.take().unwrap_or(Error::Busy)));
                }
            }
        }
    }

    fn write(&mut self, jobs: &[Vec<Call>]) -> Result<Vec<Kept>, Error> {
        let horizon = self.shared.gone()?.horizon();
        let mut kept: Vec<Kept> = jobs.iter().map(|_| Kept::default()).collect();
        let mut by_day: BTreeMap<u64, Vec<New<'_>>> = BTreeMap::new();
        for (job, calls) in jobs.iter().enumerate() {
            for call in calls {
                let day = call.time.0 / DAY_NANOS;
                if horizon.is_some_and(|horizon| day <= horizon) {
                    kept[job].too_old += 1;
                } else if let Some(row) = CallRow::of(call) {
                    by_day.entry(day).or_default().push(New { job, call, row, first: None });
                } else {
                    kept[job].refused += 1;
                }
            }
        }
        let mut seen = HashSet::new();
        for (day, mut new) in by_day {
            new.retain(|new| {
                let is_new = seen.insert(new.row.ids());
                kept[new.job].duplicates += u64::from(!is_new);
                is_new
            });
            if new.is_empty() {
                continue;
            }
            self.write_day(day, new, &mut kept)?;
        }
        Ok(kept)
    }

    /// Writes what stands around calls.
    fn write_runs(&mut self, runs: &[Run]) -> Result<(), Error> {
        if runs.is_empty() {
            return Ok(());
        }
        self.attempt = self.attempt.wrapping_add(1);
        let token = format!("run-{}", self.attempt);
        runs::insert(&self.shared, &token, runs, self.shared.gone()?.horizon())
    }

    /// Writes the calls of a day that are not known.
    fn write_day(
        &mut self,
        day: u64,
        mut new: Vec<New<'_>>,
        kept: &mut [Kept],
    ) -> Result<(), Error> {
        for _ in 0..MAX_LOST {
            // Before the calls are looked for: an insertion that comes between has the next number,
            // and the one of here is lost. Read after, it would be counted on, with its calls unseen.
            let last = self.last_number(day)?;
            let known = self.known(day, &new)?;
            new.retain(|new| {
                let is_known = known.contains(&new.row.ids());
                kept[new.job].duplicates += u64::from(is_known);
                !is_known
            });
            if new.is_empty() {
                return Ok(());
            }
            self.learn(day, last, &new)?;
            self.sightings.begin();
            let written = self.join(day, &mut new).and_then(|amendments| {
                let rows = new.iter().map(|new| new.row.clone().of_call(new.first));
                self.insert(day, last + 1, rows.chain(amendments).collect())
            });
            if !written.as_ref().is_ok_and(|is_ours| *is_ours) {
                self.sightings.undo();
                written?;
                continue;
            }
            self.sightings.keep();
            self.has_learnt(day, last + 1);
            for New { job, call, first, .. } in new {
                match first {
                    Some(_) => kept[job].joined += 1,
                    None => kept[job].new.push(Call { id: id_of(call), ..call.clone() }),
                }
            }
            return Ok(());
        }
        Err(Error::Busy)
    }

    /// Finds the calls that these are further sightings of, and gives the rows that say what becomes
    /// of those.
    fn join(&mut self, day: u64, new: &mut [New<'_>]) -> Result<Vec<CallRow>, Error> {
        for new in new.iter_mut() {
            new.first = self.sightings.see(new.row.ids(), new.call);
            if let Some(first) = new.first {
                self.sightings.note_further(new.row.ids(), first);
            }
        }
        let firsts = || new.iter().filter_map(|new| new.first);
        let here: HashSet<Ids> =
            new.iter().filter(|new| new.first.is_none()).map(|new| new.row.ids()).collect();
        let elsewhere = firsts().filter(|first| !here.contains(first)).collect();
        let mut growing = Growing::read(&self.shared, day, &elsewhere)?;
        let wanted: HashSet<Ids> = firsts().collect();
        let begin = new.iter().filter(|new| wanted.contains(&new.row.ids()));
        begin.for_each(|new| growing.begin(new.row.clone()));
        let mut amendments = Vec::new();
        for new in new {
            // One whose first sighting went with its day is a call of its own.
            new.first = new.first.filter(|first| growing.has(*first));
            if let Some(first) = new.first {
                amendments.extend(growing.amend(first, new.row.clone()));
            }
        }
        Ok(amendments)
    }

    /// Inserts under a number of the day; false when another insertion had the number.
    fn insert(&mut self, day: u64, number: u64, rows: Vec<CallRow>) -> Result<bool, Error> {
        const DOING: &str = "write calls";
        // Another one each time: an insertion of this dashboard that was given up may still be
        // under way, with other calls.
        self.attempt = self.attempt.wrapping_add(1);
        let attempt = self.attempt;
        let of_batch = rows.iter().map(|row| row.of_batch(number, attempt)).collect();
        let Shared { link, layout, .. } = &*self.shared;
        // Until it is known who has the number.
        self.numbers.remove(&day);
        link.insert(DOING, &layout.local("call"), &format!("{day}-{number}"), of_batch)?;
        let owner = self.owner(day, number)?;
        // Where it is another's, others may be far ahead: the last number is read anew.
        match owner {
            Some(owner) if owner == attempt => self.sum(day, number, &rows)?,
            Some(_) => {}
            // Given to rows that went since.
            None => drop(self.numbers.insert(day, number)),
        }
        Ok(owner == Some(attempt))
    }

    /// Learns what others wrote on a day, up to a number, and on the day beside it where one of the
    /// calls may have been seen there.
    fn learn(&mut self, day: u64, last: u64, new: &[New<'_>]) -> Result<(), Error> {
        self.learn_day(day, last)?;
        let near = |other: u64, edge: u64| {
            let is_near = |new: &New<'_>| new.call.time.0.abs_diff(edge) < NEAR_NANOS;
            new.iter().any(is_near).then_some(other)
        };
        let (begin, end) = (day.saturating_mul(DAY_NANOS), (day + 1).saturating_mul(DAY_NANOS));
        let beside =
            [day.checked_sub(1).and_then(|before| near(before, begin)), near(day + 1, end)];
        for day in beside.into_iter().flatten() {
            let last = self.number(day, "ORDER BY batch DESC LIMIT 1")?;
            self.learn_day(day, last.map_or(0, |last| last.number))?;
        }
        Ok(())
    }

    fn learn_day(&mut self, day: u64, last: u64) -> Result<(), Error> {
        let learnt = self.learnt.get(&day).copied();
        if last == 0 || learnt >= Some(last) {
            return Ok(());
        }
        // After a start only the newest, as they lie; later what is new.
        let which = match learnt {
            None => format!("ORDER BY time DESC LIMIT {}", same::RECALLED),
            Some(learnt) => {
                format!("AND batch > {learnt} ORDER BY batch DESC, time DESC LIMIT {MAX_LEARNT}")
            }
        };
        let Shared { link, layout, .. } = &*self.shared;
        let ask = Ask::of(format!(
            "SELECT {COLUMNS} FROM {} WHERE {} AND amends = 0 {which}",
            layout.local("call"),
            within(day, day),
        ));
        let rows: Vec<CallRow> = link.rows("learn what other dashboards wrote", ask)?;
        // Firsts before further ones, whichever came first of two that lie in one insertion.
        let (firsts, further): (Vec<_>, Vec<_>) =
            rows.into_iter().rev().partition(|row| row.first().is_none());
        for row in firsts.into_iter().chain(further) {
            let (ids, first) = (row.ids(), row.first());
            self.sightings.learn(ids, first, &row.into_call());
        }
        self.has_learnt(day, last);
        Ok(())
    }

    fn has_learnt(&mut self, day: u64, number: u64) {
        if self.learnt.len() > 64 {
            self.learnt.pop_first();
        }
        self.learnt.insert(day, number);
    }

    /// Which of the calls are known, by their ids, on the day or one beside it: a sender whose
    /// clock was set anew, or that reckons the start anew at each try, may name another day.
    fn known(&self, day: u64, new: &[New<'_>]) -> Result<HashSet<Ids>, Error> {
        let Shared { link, layout, .. } = &*self.shared;
        let wanted: HashSet<Ids> = new.iter().map(|new| new.row.ids()).collect();
        let spans = joining::spans(&wanted);
        let ask = Ask::of(format!(
            "SELECT trace_id, span_id FROM {} WHERE {} AND span_id IN ({spans})",
            layout.name("call"),
            within(day.saturating_sub(1), day + 1),
        ));
        let rows: Vec<KnownRow> = link.rows("look for calls", ask)?;
        let ids = rows.into_iter().map(|row| (row.trace_id, row.span_id));
        Ok(ids.filter(|id| wanted.contains(id)).collect())
    }

    /// The last number of the day, or one before it, which is then lost. What has it is in the
    /// sums.
    fn last_number(&mut self, day: u64) -> Result<u64, Error> {
        if let Some(last) = self.numbers.get(&day) {
            return Ok(*last);
        }
        let Some(last) = self.number(day, "ORDER BY batch DESC LIMIT 1")? else { return Ok(0) };
        // It may be of long ago, and of a dashboard that was killed behind it.
        summing::add_missing(&self.shared.link, &self.shared.layout, (day, last.number))?;
        self.is_summed(day, last.number);
        Ok(last.number)
    }

    /// Adds an insertion to the sums.
    fn sum(&mut self, day: u64, number: u64, rows: &[CallRow]) -> Result<(), Error> {
        summing::add(&self.shared.link, &self.shared.layout, (day, number), rows)?;
        self.is_summed(day, number);
        Ok(())
    }

    fn is_summed(&mut self, day: u64, number: u64) {
        if self.numbers.len() > 64 {
            self.numbers.pop_first();
        }
        self.numbers.insert(day, number);
    }

    fn owner(&self, day: u64, number: u64) -> Result<Option<u64>, Error> {
        let found = self.number(day, &format!("AND batch = {number} LIMIT 1"))?;
        Ok(found.map(|row| row.writer))
    }

    fn number(&self, day: u64, which: &str) -> Result<Option<NumberRow>, Error> {
        let Shared { link, layout, .. } = &*self.shared;
        let ask = Ask::of(format!(
            "SELECT batch AS number, writer FROM {} WHERE {} {which}",
            layout.local("call"),
            within(day, day),
        ));
        Ok(link.rows::<NumberRow>("read the number of an insertion", ask)?.into_iter().next())
    }
}
