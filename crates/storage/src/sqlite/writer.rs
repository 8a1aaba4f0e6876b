//! The one thread that writes calls. Whoever waits is answered after the commit, and all who
//! came meanwhile share the next one.

use super::day::{DayWriter, is_identified};
use super::days::Days;
use crate::engine::Done;
use crate::error::Error;
use crate::query::CallsQuery;
use crate::same::{self, Ids, Sightings};
use crate::store::Kept;
use crate::units::{DAY_NANOS, day_of, id_of};
use contract::row::{Call, Time};
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
const MAX_OPEN: usize = 4;

/// Calls that are looked at when the store is opened, so that a second sighting of one of them is
/// recognised.
const RECALLED: usize = 5_000;

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

/// Calls by the day of their start, each with the place of its submission.
type ByDay<'a> = BTreeMap<u64, Vec<(usize, &'a Call)>>;

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
        let mut by_day = ByDay::new();
        let horizon = self.days.horizon();
        let mut kept: Vec<Kept> = jobs.iter().map(|_| Kept::default()).collect();
        let mut again: Vec<(usize, Ids, &Call)> = Vec::new();
        for (job, calls) in jobs.iter().enumerate() {
            for call in calls {
                if horizon.is_some_and(|horizon| day_of(call) <= horizon) {
                    kept[job].too_old += 1;
                } else if is_identified(call) {
                    match self.sightings.see(call) {
                        Some(ids) => again.push((job, ids, call)),
                        None => by_day.entry(day_of(call)).or_default().push((job, call)),
                    }
                } else {
                    kept[job].refused += 1;
                }
            }
        }
        self.insert(by_day, &mut kept)?;
        let alone = self.join(again, &mut kept)?;
        self.insert(alone, &mut kept)?;
        Ok(kept)
    }

    /// Writes calls that nobody saw before, day by day.
    fn insert(&mut self, by_day: ByDay<'_>, kept: &mut [Kept]) -> Result<(), Error> {
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
        Ok(())
    }

    /// Adds what further sightings know to the rows of their calls. Gives back those whose row is
    /// not there: it could not be written, or its day went.
    fn join<'a>(
        &mut self,
        mut again: Vec<(usize, Ids, &'a Call)>,
        kept: &mut [Kept],
    ) -> Result<ByDay<'a>, Error> {
        let mut alone = ByDay::new();
        while !again.is_empty() {
            // One sighting of each row at a time, and all of those in one commit a day.
            let mut rows: BTreeMap<Ids, (usize, &'a Call)> = BTreeMap::new();
            let mut later = Vec::new();
            for (job, ids, call) in again {
                let ids = self.sightings.current(&ids).unwrap_or(ids);
                match rows.entry(ids) {
                    Entry::Vacant(free) => {
                        free.insert((job, call));
                    }
                    Entry::Occupied(taken) => later.push((job, taken.key().clone(), call)),
                }
            }
            let mut merged: BTreeMap<u64, Vec<(Ids, Call)>> = BTreeMap::new();
            for (ids, (job, call)) in rows {
                match self.row(&ids, call)? {
                    None => alone.entry(day_of(call)).or_default().push((job, call)),
                    Some(row) if same::is_known(&row, call) => kept[job].duplicates += 1,
                    Some(row) => {
                        let joined = same::merge(row, call.clone());
                        merged.entry(day_of(&joined)).or_default().push((ids, joined));
                        kept[job].joined += 1;
                    }
                }
            }
            for (day, rows) in merged {
                let outcome = self.writer(day)?.amend(&rows);
                if outcome.is_err() {
                    self.open.remove(&day);
                }
                outcome?;
                rows.iter().for_each(|(ids, row)| self.sightings.rename(ids, row));
            }
            again = later;
        }
        Ok(alone)
    }

    /// The row of these ids, which began about when this sighting did.
    fn row(&self, ids: &Ids, about: &Call) -> Result<Option<Call>, Error> {
        let day = day_of(about);
        for day in [Some(day), day.checked_sub(1), day.checked_add(1)].into_iter().flatten() {
            let (trace_id, span_id) = ids.clone();
            let time = Time(day.saturating_mul(DAY_NANOS));
            let id = id_of(&Call { time, trace_id, span_id, ..Call::default() });
            if let Some(row) = self.days.one(&id)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Learns of the newest calls that were kept before the start.
    fn recall(&mut self) {
        let newest = CallsQuery { limit: RECALLED, ..CallsQuery::default() };
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

#[cfg(test)]
mod tests {
    use crate::{Budget, CallsQuery, Filter, Span, Store};
    use contract::row::{Call, Time};

    const NOON: u64 = 1_795_435_200_000_000_000;

    fn kernel() -> Call {
        Call {
            time: Time(NOON),
            trace_id: format!("{:032x}", 1),
            span_id: format!("{:016x}", 1),
            recognised_by: Some("host".into()),
            service_name: Some("agent".into()),
            operation_name: Some("chat".into()),
            request_model: Some("gpt-4o".into()),
            response_id: Some("chatcmpl-1".into()),
            output_tokens: Some(17),
            cost: "0.25".parse().ok(),
            duration: Some(1.0),
            ..Call::default()
        }
    }

    fn sdk() -> Call {
        Call {
            time: Time(NOON - 1_000_000),
            trace_id: format!("{:032x}", 2),
            span_id: format!("{:016x}", 2),
            parent_span_id: Some(format!("{:016x}", 3)),
            recognised_by: None,
            conversation_id: Some("talk".into()),
            output_tokens: None,
            cost: None,
            more: [("otel.scope.name".to_owned(), "openlit".into())].into(),
            ..kernel()
        }
    }

    fn rows(store: &Store) -> Vec<Call> {
        store.calls(&CallsQuery { limit: 10, ..CallsQuery::default() }).unwrap().calls
    }

    fn counted(store: &Store) -> u64 {
        let hour = NOON - NOON % 3_600_000_000_000;
        let span = Span {
            from: Time(hour),
            to: Time(hour + 3_600_000_000_000),
            filter: Filter::default(),
            budget: Budget::default(),
        };
        store.overview(&span).unwrap().totals.calls
    }

    #[test]
    fn two_sightings_of_a_call_are_one_row_and_one_count_whoever_comes_first() {
        for (first, second) in [(kernel(), sdk()), (sdk(), kernel())] {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            assert_eq!(store.insert(vec![first.clone()]).unwrap().new.len(), 1);
            let kept = store.insert(vec![second.clone()]).unwrap();
            assert_eq!((kept.new.len(), kept.joined, kept.duplicates), (0, 1, 0));
            let check = |store: &Store| {
                let rows = rows(store);
                assert_eq!((rows.len(), counted(store)), (1, 1));
                let row = &rows[0];
                assert_eq!(
                    (&row.trace_id, &row.parent_span_id),
                    (&sdk().trace_id, &sdk().parent_span_id)
                );
                assert_eq!((row.output_tokens, row.cost), (Some(17), kernel().cost));
                assert_eq!(row.conversation_id.as_deref(), Some("talk"));
                assert_eq!(store.call(&row.id).unwrap().as_ref(), Some(row));
            };
            check(&store);
            let again = store.insert(vec![first.clone(), second.clone()]).unwrap();
            assert_eq!((again.duplicates, again.joined), (2, 0));
            drop(store);
            // A sender that had no answer sends again, also to the next process.
            let store = Store::open(dir.path()).unwrap();
            let again = store.insert(vec![second, first]).unwrap();
            assert_eq!((again.duplicates, again.new.len()), (2, 0));
            check(&store);
        }
    }

    #[test]
    fn both_in_one_submission_are_one_call_too_and_the_second_may_come_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let kept = store.insert(vec![kernel(), sdk(), kernel()]).unwrap();
        assert_eq!((kept.new.len(), kept.joined, kept.duplicates), (1, 1, 1));
        assert_eq!((rows(&store).len(), counted(&store)), (1, 1));

        let dir = tempfile::tempdir().unwrap();
        Store::open(dir.path()).unwrap().insert(vec![kernel()]).unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.insert(vec![sdk()]).unwrap().joined, 1);
        assert_eq!((rows(&store).len(), counted(&store)), (1, 1));
    }

    #[test]
    fn calls_of_a_server_that_gives_every_answer_the_same_id_stay_apart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let number = |number: u64| Call {
            span_id: format!("{number:016x}"),
            time: Time(NOON + number * 100_000_000),
            ..kernel()
        };
        assert_eq!(store.insert((1..=9).map(number).collect()).unwrap().new.len(), 9);
        assert_eq!(counted(&store), 9);
    }
}
