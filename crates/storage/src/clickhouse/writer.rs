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

use super::link::Ask;
use super::row::{CallRow, within};
use super::{Shared, joining, runs, summing};
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
/// How often a number is lost to other dashboards before the submission is refused as busy.
const MAX_LOST: u32 = 20;

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
    /// Which insertion was the last: a random number, and one more for each.
    attempt: u64,
    /// What came by way of this dashboard: sightings of one call by two dashboards stay apart.
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
        match self.shared.newest(same::RECALLED) {
            Ok(newest) => self.sightings.recall(&newest),
            // The first insertion says so itself.
            Err(error) => tracing::debug!(%error, "cannot look at the newest calls"),
        }
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
                    let first = self.sightings.see(row.ids(), call);
                    if let Some(first) = first {
                        self.sightings.note_further(row.ids(), first);
                    }
                    by_day.entry(day).or_default().push(New { job, call, row, first });
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
            self.write_day(day, new, &seen, &mut kept)?;
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
        written: &HashSet<Ids>,
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
            for new in &mut new {
                // One whose first sighting was never written, or went, is a call of its own.
                new.first = new.first.filter(|ids| known.contains(ids) || written.contains(ids));
            }
            if self.insert(day, last + 1, &new)? {
                for New { job, call, first, .. } in new {
                    match first {
                        Some(_) => kept[job].joined += 1,
                        None => kept[job].new.push(Call { id: id_of(call), ..call.clone() }),
                    }
                }
                return Ok(());
            }
        }
        Err(Error::Busy)
    }

    /// Inserts under a number of the day; false when another insertion had the number.
    fn insert(&mut self, day: u64, number: u64, new: &[New<'_>]) -> Result<bool, Error> {
        const DOING: &str = "write calls";
        // Another one each time: an insertion of this dashboard that was given up may still be
        // under way, with other calls.
        self.attempt = self.attempt.wrapping_add(1);
        let attempt = self.attempt;
        let row = |new: &New<'_>| new.row.of_batch(number, attempt).of_call(new.first);
        let rows = new.iter().map(row);
        let Shared { link, layout, .. } = &*self.shared;
        // Until it is known who has the number.
        self.numbers.remove(&day);
        link.insert(DOING, &layout.local("call"), &format!("{day}-{number}"), rows.collect())?;
        let is_ours = self.owner(day, number)? == Some(attempt);
        self.sum(day, number)?;
        Ok(is_ours)
    }

    /// Which of the calls, and of those that they are further sightings of, are known, by their
    /// ids, on the day or one beside it: a sender whose
    /// clock was set anew, or that reckons the start anew at each try, may name another day.
    fn known(&self, day: u64, new: &[New<'_>]) -> Result<HashSet<(u128, u64)>, Error> {
        let Shared { link, layout, .. } = &*self.shared;
        let wanted: HashSet<Ids> =
            new.iter().flat_map(|new| [Some(new.row.ids()), new.first]).flatten().collect();
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
        self.sum(day, last.number)?;
        Ok(last.number)
    }

    /// Adds an insertion to the sums.
    fn sum(&mut self, day: u64, number: u64) -> Result<(), Error> {
        summing::add(&self.shared.link, &self.shared.layout, day, number)?;
        if self.numbers.len() > 64 {
            self.numbers.pop_first();
        }
        self.numbers.insert(day, number);
        Ok(())
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
