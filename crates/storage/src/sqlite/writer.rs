//! The one thread that writes calls. Whoever waits is answered after the commit, and all who
//! came meanwhile share the next one.

use super::day::{DayWriter, is_identified};
use super::days::Days;
use crate::engine::Done;
use crate::error::Error;
use crate::store::Kept;
use crate::units::{DAY_NANOS, day_of, id_of};
use contract::row::{Call, Time};
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
const MAX_OPEN: usize = 4;

/// Sums of a width in seconds, and how long they are kept after the day, in nanoseconds.
const NARROW: [(u64, u64); 2] = [(60, 2 * DAY_NANOS), (300, 30 * DAY_NANOS)];

struct Job {
    calls: Vec<Call>,
    done: Done,
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
    pub(crate) fn submit(&self, calls: Vec<Call>, done: Done) -> Result<(), Error> {
        if self.full.load(Ordering::Relaxed) {
            return Err(Error::Full);
        }
        let len = calls.len();
        let before = self.waiting.fetch_add(len, Ordering::Relaxed);
        let refuse = |error| {
            self.waiting.fetch_sub(len, Ordering::Relaxed);
            Err(error)
        };
        if before > 0 && before.saturating_add(len) > MAX_WAITING {
            return refuse(Error::Busy);
        }
        let Some(queue) = &self.queue else { return refuse(Error::Closed) };
        match queue.try_send(Order::Write(Job { calls, done })) {
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

struct Hand {
    days: Arc<Days>,
    open: BTreeMap<u64, DayWriter>,
    /// Days and widths of which the sums are known to be gone.
    narrowed: BTreeSet<(u64, u64)>,
    waiting: Arc<AtomicUsize>,
}

impl Hand {
    fn run(&mut self, orders: &Receiver<Order>) {
        while let Ok(first) = orders.recv() {
            let mut next = Some(first);
            let mut calls = 0;
            let mut together = Vec::new();
            while let Some(Order::Write(job)) = next {
                calls += job.calls.len();
                together.push(job);
                next = if calls < MAX_TOGETHER { orders.try_recv().ok() } else { None };
            }
            if !together.is_empty() {
                self.carry_out(together);
                self.waiting.fetch_sub(calls, Ordering::Relaxed);
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
                    self.writer(day)?.forget_sums(level)?;
                    self.narrowed.insert((day, level));
                }
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, mut jobs: Vec<Job>) {
        let calls: Vec<_> = jobs.iter_mut().map(|job| std::mem::take(&mut job.calls)).collect();
        match self.write(&calls) {
            Ok(kept) => {
                for (job, kept) in jobs.into_iter().zip(kept) {
                    (job.done)(Ok(kept));
                }
            }
            // Alone again, so that each learns its own fate; what a day kept is found there.
            Err(_) if jobs.len() > 1 => {
                for (job, calls) in jobs.into_iter().zip(calls) {
                    self.carry_out(vec![Job { calls, done: job.done }]);
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

    fn write(&mut self, jobs: &[Vec<Call>]) -> Result<Vec<Kept>, Error> {
        let mut by_day: BTreeMap<u64, Vec<(usize, &Call)>> = BTreeMap::new();
        let horizon = self.days.horizon();
        let mut kept: Vec<Kept> = jobs.iter().map(|_| Kept::default()).collect();
        for (job, calls) in jobs.iter().enumerate() {
            for call in calls {
                if horizon.is_some_and(|horizon| day_of(call) <= horizon) {
                    kept[job].too_old += 1;
                } else if is_identified(call) {
                    by_day.entry(day_of(call)).or_default().push((job, call));
                } else {
                    kept[job].refused += 1;
                }
            }
        }
        for (day, mut rows) in by_day {
            let calls: Vec<&Call> = rows.iter().map(|(_, call)| *call).collect();
            let mut elsewhere = self.days.neighbours_have(day, &calls)?.into_iter();
            rows.retain(|(job, _)| {
                let known = elsewhere.next().unwrap_or(false);
                kept[*job].duplicates += u64::from(known);
                !known
            });
            if rows.is_empty() {
                continue;
            }
            let calls: Vec<&Call> = rows.iter().map(|(_, call)| *call).collect();
            let new = self.write_day(day, &calls)?;
            for ((job, call), new) in rows.into_iter().zip(new) {
                if new {
                    kept[job].new.push(Call { id: id_of(call), ..call.clone() });
                } else {
                    kept[job].duplicates += 1;
                }
            }
        }
        Ok(kept)
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

    fn write_day(&mut self, day: u64, calls: &[&Call]) -> Result<Vec<bool>, Error> {
        let writer = self.writer(day)?;
        let outcome = writer.insert(calls);
        let longest = writer.longest();
        if outcome.is_err() {
            // Opened anew next time: the file may have been taken away.
            self.open.remove(&day);
        }
        let new = outcome?;
        self.days.learn(day, longest);
        Ok(new)
    }
}
