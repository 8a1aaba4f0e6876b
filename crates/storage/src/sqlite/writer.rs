//! The one thread that writes calls. Whoever waits is answered after the commit, and all who
//! came meanwhile share the next one.

use super::day::{DayWriter, day_of, id_of, is_identified};
use super::days::Days;
use crate::error::Error;
use crate::store::Kept;
use contract::row::Call;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

type Done = Box<dyn FnOnce(Result<Kept, Error>) + Send>;

struct Job {
    calls: Vec<Call>,
    done: Done,
}

/// The writing end of all days.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Option<SyncSender<Job>>,
    waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(days: Arc<Days>) -> Result<Self, std::io::Error> {
        let (queue, jobs) = sync_channel(MAX_JOBS);
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut hand = Hand { days, open: BTreeMap::new(), waiting: Arc::clone(&waiting) };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || hand.run(&jobs))?;
        Ok(Self { queue: Some(queue), waiting, thread: Some(thread) })
    }

    /// Queues the calls; `done` is called once, on the writer's thread, after they are on disk or
    /// could not be written.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when too much waits already; `done` is then never called.
    pub(crate) fn submit(&self, calls: Vec<Call>, done: Done) -> Result<(), Error> {
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
        match queue.try_send(Job { calls, done }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => refuse(Error::Busy),
            Err(TrySendError::Disconnected(_)) => refuse(Error::Closed),
        }
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
    waiting: Arc<AtomicUsize>,
}

impl Hand {
    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut calls = first.calls.len();
            let mut together = vec![first];
            while calls < MAX_TOGETHER
                && let Ok(job) = jobs.try_recv()
            {
                calls += job.calls.len();
                together.push(job);
            }
            self.carry_out(together);
            self.waiting.fetch_sub(calls, Ordering::Relaxed);
        }
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
        let mut kept: Vec<Kept> = jobs.iter().map(|_| Kept::default()).collect();
        for (job, calls) in jobs.iter().enumerate() {
            for call in calls {
                if is_identified(call) {
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

    fn write_day(&mut self, day: u64, calls: &[&Call]) -> Result<Vec<bool>, Error> {
        if !self.open.contains_key(&day) {
            if self.open.len() >= MAX_OPEN {
                // The oldest is the least likely to be written again.
                self.open.pop_first();
            }
            self.open.insert(day, self.days.writer(day)?);
        }
        let Some(writer) = self.open.get_mut(&day) else { return Err(Error::Closed) };
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
