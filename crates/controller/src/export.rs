//! Calls to OTLP: spans and metrics, sent over HTTP as protobuf, tried again from a bounded queue.
//!
//! A span is on its way within [`GATHER`] of the end of its call. Content is never sent: what a
//! person typed is not in a [`ModelCall`].

mod metrics;
mod span;

use crate::clock::Now;
use crate::given::Given;
use crate::limits::{Loss, Losses};
use crate::link::{Answer, Backoff, Link, chance};
use genai::ModelCall;
use metrics::Metrics;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use span::Ids;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use workloads::Program;

/// Calls that wait for a receiver that is away: at one a second, more than an hour of them.
const MAX_QUEUE: usize = 4_096;

/// Spans in one request; about 300 KB.
const MAX_BATCH: usize = 512;

/// How long a span waits for company.
const GATHER: Duration = Duration::from_millis(30);

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
    };
    (queue, exporter)
}

impl Exporter {
    /// Sends until every [`Queue`] is gone, then sends what is left for a few seconds at most.
    #[expect(clippy::disallowed_methods, reason = "the export loop reads the clock")]
    pub(crate) fn run(mut self) {
        let mut metrics_due = Instant::now() + METRICS_EVERY;
        let mut is_open = true;
        while is_open {
            let (batch, still_open) =
                self.gather(metrics_due.saturating_duration_since(Instant::now()));
            is_open = still_open;
            if !batch.is_empty() {
                let deadline = (!is_open).then(|| Instant::now() + FLUSH);
                self.record(&batch);
                is_open = self.deliver(&batch, deadline) && is_open;
            }
            if Instant::now() >= metrics_due || !is_open {
                self.send_metrics();
                metrics_due = Instant::now() + METRICS_EVERY;
            }
        }
    }

    /// The next batch, and whether more may come.
    #[expect(clippy::disallowed_methods, reason = "the export loop reads the clock")]
    fn gather(&self, patience: Duration) -> (Vec<Finished>, bool) {
        let mut batch = match self.calls.recv_timeout(patience) {
            Ok(first) => vec![first],
            Err(RecvTimeoutError::Timeout) => return (Vec::new(), true),
            Err(RecvTimeoutError::Disconnected) => return (Vec::new(), false),
        };
        let until = Instant::now() + GATHER;
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
            self.metrics.record(finished);
        }
    }

    /// Sends a batch until it is taken or refused for good; `false` when time ran out.
    ///
    /// The ids are made once, so that a batch that arrives twice is recognised as the same.
    #[expect(clippy::disallowed_methods, reason = "the export loop reads the clock")]
    fn deliver(&mut self, batch: &[Finished], deadline: Option<Instant>) -> bool {
        let request = span::request(batch, &self.sender, &mut Ids::random());
        let body = request.encode_to_vec();
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let mut deadline = deadline;
        loop {
            let wait = match self.link.post("/v1/traces", PROTOBUF, body.clone(), PATIENCE) {
                Ok(answer) if answer.is_success() => {
                    self.succeeded();
                    self.count_rejected(&answer);
                    return true;
                }
                Ok(answer) if !answer.is_worth_another_try() => {
                    self.losses.add(Loss::SpanRejected, count);
                    tracing::warn!(
                        status = answer.status,
                        spans = count,
                        "the dashboard refused spans; they are lost"
                    );
                    return true;
                }
                Ok(answer) => {
                    self.complain(&format!("status {}", answer.status));
                    self.backoff.next(answer.retry_after, chance())
                }
                Err(error) => {
                    self.complain(&format!("{error:#}"));
                    self.backoff.next(None, chance())
                }
            };
            let until = Instant::now() + wait;
            if !self.wait_until(until, &mut deadline) {
                self.losses.add(Loss::SpanUnsent, count);
                return false;
            }
        }
    }

    /// Waits for the next try; `false` when there will be none.
    #[expect(clippy::disallowed_methods, reason = "the export loop reads the clock")]
    fn wait_until(&mut self, until: Instant, deadline: &mut Option<Instant>) -> bool {
        loop {
            let now = Instant::now();
            if deadline.is_none() && self.is_stopping() {
                *deadline = Some(now + FLUSH);
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                return false;
            }
            if now >= until {
                return true;
            }
            std::thread::sleep(until.saturating_duration_since(now).min(Duration::from_millis(50)));
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
        tracing::warn!(spans = rejected, "the dashboard rejected some spans; they are lost");
    }

    /// Says once, until it works again, that it does not.
    fn complain(&mut self, error: &str) {
        if !self.has_complained {
            tracing::warn!(error, "cannot send spans to the dashboard; trying on");
            self.has_complained = true;
        }
    }

    fn succeeded(&mut self) {
        self.backoff.succeeded();
        if std::mem::take(&mut self.has_complained) {
            tracing::info!("spans reach the dashboard again");
        }
    }
}

#[cfg(test)]
mod tests;
