//! Calls to OTLP: spans and metrics, sent over HTTP as protobuf, tried again from a bounded queue that
//! goes to disk while the receiver is away.
//!
//! A span is on its way within [`GATHER`] of the end of its call. Content is never sent: what a
//! person typed is not in a [`ModelCall`].

mod metrics;
mod span;
mod spool;

use crate::clock::Now;
use crate::given::Given;
use crate::limits::{Loss, Losses};
use crate::link::{Answer, Backoff, Link, chance};
use genai::ModelCall;
use metrics::Metrics;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use span::Ids;
use spool::Spool;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use workloads::Program;

/// Calls that wait to be made into requests.
const MAX_QUEUE: usize = 4_096;

/// Spans in one request; about 300 KB.
const MAX_BATCH: usize = 512;

/// How long a span waits for company.
const GATHER: Duration = Duration::from_millis(30);

/// The same, while the receiver is away: fewer and larger requests wait.
const GATHER_AWAY: Duration = Duration::from_secs(1);

/// How often metrics are sent, when there are new ones.
const METRICS_EVERY: Duration = Duration::from_secs(10);

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest time that sending what is left may take at a stop.
const FLUSH: Duration = Duration::from_secs(4);

const PROTOBUF: &str = "application/x-protobuf";

/// A model call, and the program that made it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) program: Arc<Program>,
    pub(crate) call: ModelCall,
    /// Both clocks, read when the call was complete.
    pub(crate) now: Now,
}

/// Who sends: goes into the resource of every span and metric.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) host_name: String,
    pub(crate) host_id: String,
    /// Names that people gave; they win.
    pub(crate) given: Given,
    /// Whether all of it comes from a recording.
    pub(crate) recorded: bool,
}

/// The entry to the export queue.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    calls: SyncSender<Finished>,
    losses: Arc<Losses>,
}

/// The loop that sends; to be run on a thread of its own.
#[derive(Debug)]
pub(crate) struct Exporter {
    calls: Receiver<Finished>,
    link: Link,
    sender: Sender,
    losses: Arc<Losses>,
    metrics: Metrics,
    backoff: Backoff,
    has_complained: bool,
    stop: Arc<AtomicBool>,
    spool: Spool,
    /// When what waits may be tried again.
    again_at: Option<Instant>,
}

/// Where calls wait, and how many do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backlog {
    /// Directory for them; `None` for memory alone.
    pub(crate) directory: Option<PathBuf>,
    /// Calls that wait.
    pub(crate) length: Arc<AtomicU64>,
}

/// What became of a request.
enum Sent {
    /// Taken, or refused for good.
    Over,
    /// To be tried again after this time.
    Later(Duration),
}

impl Queue {
    /// Hands a call over; a full queue refuses it, and counts.
    pub(crate) fn push(&self, finished: Finished) {
        match self.calls.try_send(finished) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.losses.add(Loss::SpanQueueFull, 1);
            }
        }
    }
}

/// Makes the queue and the loop behind it.
///
/// `stop` says that there is an end to trying again.
pub(crate) fn channel(
    link: Link,
    sender: Sender,
    losses: Arc<Losses>,
    stop: Arc<AtomicBool>,
    backlog: Backlog,
) -> (Queue, Exporter) {
    let (entry, calls) = sync_channel(MAX_QUEUE);
    let queue = Queue { calls: entry, losses: Arc::clone(&losses) };
    let metrics = Metrics::new(Arc::clone(&losses));
    let exporter = Exporter {
        calls,
        link,
        sender,
        losses,
        metrics,
        backoff: Backoff::default(),
        has_complained: false,
        stop,
        spool: Spool::open(backlog.directory, backlog.length),
        again_at: None,
    };
    (queue, exporter)
}

impl Exporter {
    /// Sends until every [`Queue`] is gone, then sends what is left for a few seconds at most.
    #[expect(clippy::disallowed_methods, reason = "the export loop reads the clock")]
    pub(crate) fn run(mut self) {
        let mut metrics_due = Instant::now() + METRICS_EVERY;
        loop {
            let (batch, is_open) = self.gather(self.patience(metrics_due));
            if !batch.is_empty() {
                self.record(&batch);
                self.deliver(&batch);
            }
            if !is_open {
                break;
            }
            self.send_oldest();
            if Instant::now() >= metrics_due {
                self.send_metrics();
                metrics_due = Instant::now() + METRICS_EVERY;
            }
        }
        self.flush();
        self.send_metrics();
    }

    /// How long nothing is due.
    #[expect(clippy::disallowed_methods, reason = "the export loop reads the clock")]
    fn patience(&self, metrics_due: Instant) -> Duration {
        let due = match self.again_at {
            _ if self.spool.is_empty() => metrics_due,
            Some(again_at) => again_at.min(metrics_due),
            None => return Duration::ZERO,
        };
        due.saturating_duration_since(Instant::now())
    }

    /// The next batch, and whether more may come.
    #[expect(clippy::disallowed_methods, reason = "the export loop reads the clock")]
    fn gather(&self, patience: Duration) -> (Vec<Finished>, bool) {
        let mut batch = match self.calls.recv_timeout(patience) {
            Ok(first) => vec![first],
            Err(RecvTimeoutError::Timeout) => return (Vec::new(), true),
            Err(RecvTimeoutError::Disconnected) => return (Vec::new(), false),
        };
        let until = Instant::now() + if self.spool.is_empty() { GATHER } else { GATHER_AWAY };
        while batch.len() < MAX_BATCH {
            match self.calls.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(next) => batch.push(next),
                Err(RecvTimeoutError::Timeout) => break,
                // What is left in the queue was taken out before this is said.
                Err(RecvTimeoutError::Disconnected) => return (batch, false),
            }
        }
        (batch, true)
    }

    fn record(&mut self, batch: &[Finished]) {
        for finished in batch {
            self.metrics.record(finished, &self.sender);
        }
    }

    /// Sends a batch, or lets it wait behind those that wait already.
    ///
    /// The ids are made once, so that a batch that arrives twice is recognised as the same.
    #[expect(clippy::disallowed_methods, reason = "the export loop reads the clock")]
    fn deliver(&mut self, batch: &[Finished]) {
        let request = span::request(batch, &self.sender, &mut Ids::random());
        let body = request.encode_to_vec();
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        if self.spool.is_empty() {
            match self.send(body.clone(), count) {
                Sent::Over => return,
                Sent::Later(wait) => self.again_at = Some(Instant::now() + wait),
            }
        }
        if !self.spool.push(body, count) {
            self.losses.add(Loss::SpanQueueFull, count);
        }
    }

    /// Sends the oldest of what waits, when its time has come.
    #[expect(clippy::disallowed_methods, reason = "the export loop reads the clock")]
    fn send_oldest(&mut self) {
        if self.again_at.is_some_and(|again_at| Instant::now() < again_at) {
            return;
        }
        let Some((body, count)) = self.spool.front() else { return };
        self.again_at = match self.send(body, count) {
            Sent::Over => {
                self.spool.pop();
                None
            }
            Sent::Later(wait) => Some(Instant::now() + wait),
        };
    }

    /// Sends a request once.
    fn send(&mut self, body: Vec<u8>, count: u64) -> Sent {
        match self.link.post("/v1/traces", PROTOBUF, body, PATIENCE) {
            Ok(answer) if answer.is_success() => {
                self.succeeded();
                self.count_rejected(&answer);
                Sent::Over
            }
            Ok(answer) if !answer.is_worth_another_try() => {
                self.losses.add(Loss::SpanRejected, count);
                tracing::warn!(
                    status = answer.status,
                    spans = count,
                    "the receiver refused spans; they are lost"
                );
                Sent::Over
            }
            Ok(answer) => {
                self.complain(&format!("status {}", answer.status));
                Sent::Later(self.backoff.next(answer.retry_after, chance()))
            }
            Err(error) => {
                self.complain(&format!("{error:#}"));
                Sent::Later(self.backoff.next(None, chance()))
            }
        }
    }

    /// Sends what is left, for a few seconds at most; what is on disk waits for the next start.
    #[expect(clippy::disallowed_methods, reason = "the export loop reads the clock")]
    fn flush(&mut self) {
        let deadline = Instant::now() + FLUSH;
        while !self.spool.is_empty() {
            if !self.wait_for_turn(deadline) {
                self.losses.add(Loss::SpanUnsent, self.spool.in_memory());
                return;
            }
            self.send_oldest();
        }
    }

    /// Waits until what waits may be tried again; `false` when there is no time for that.
    #[expect(clippy::disallowed_methods, reason = "the export loop reads the clock")]
    fn wait_for_turn(&self, deadline: Instant) -> bool {
        loop {
            let now = Instant::now();
            let is_over = now >= deadline;
            // What is safe on disk does not hold up a stop.
            let is_safe = self.is_stopping() && self.spool.in_memory() == 0;
            if is_over || (is_safe && self.again_at.is_some()) {
                return false;
            }
            let Some(again_at) = self.again_at.filter(|again_at| *again_at > now) else {
                return true;
            };
            let wait = again_at.min(deadline).saturating_duration_since(now);
            std::thread::sleep(wait.min(Duration::from_millis(50)));
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn send_metrics(&mut self) {
        let now = Now::read();
        let Some(request) = self.metrics.request(&self.sender, now.unix_nanos) else { return };
        match self.link.post("/v1/metrics", PROTOBUF, request.encode_to_vec(), PATIENCE) {
            Ok(answer) if answer.is_success() => self.metrics.sent(),
            // Metrics are cumulative: the next ones make up for these.
            Ok(answer) => tracing::debug!(status = answer.status, "cannot send metrics"),
            Err(error) => tracing::debug!(error = %format!("{error:#}"), "cannot send metrics"),
        }
    }

    fn count_rejected(&self, answer: &Answer) {
        let response =
            ExportTraceServiceResponse::decode(answer.body.as_slice()).unwrap_or_default();
        let Some(partial) = response.partial_success.filter(|partial| partial.rejected_spans > 0)
        else {
            return;
        };
        let rejected = u64::try_from(partial.rejected_spans).unwrap_or_default();
        self.losses.add(Loss::SpanRejected, rejected);
        tracing::warn!(spans = rejected, "the receiver rejected some spans; they are lost");
    }

    /// Says once, until it works again, that it does not.
    fn complain(&mut self, error: &str) {
        if !self.has_complained {
            tracing::warn!(error, "cannot send spans; they wait, and are tried again");
            self.has_complained = true;
        }
    }

    fn succeeded(&mut self) {
        self.backoff.succeeded();
        if std::mem::take(&mut self.has_complained) {
            tracing::info!("spans reach the receiver again");
        }
    }
}

#[cfg(test)]
mod tests;
