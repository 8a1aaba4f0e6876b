//! OTLP out: passes calls, or everything, on to another receiver over HTTP or gRPC.
//!
//! It never slows ingest down: what is to be passed on goes into a bounded queue, and what the
//! queue or the receiver refuses is counted by reason. The queue is in memory, so that content on
//! its way elsewhere never reaches our disk.

mod grpc;

use crate::config::{PassOn, Passed};
use crate::otlp::Signal;
use axum::http::HeaderMap;
use bytes::Bytes;
use reqwest::header::{HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Requests that may wait.
const MAX_JOBS: usize = 4_096;
/// Bytes that may wait: a few minutes of a busy fleet, and what a small machine can spare.
const MAX_WAITING: usize = 64 << 20;
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The first wait after a failure; it doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// Longest wait that a `Retry-After` may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// Longest answer that is read.
const MAX_ANSWER: usize = 64 << 10;
/// Names the dashboards that a request went through, so that none passes it on twice.
const MARK: &str = "sonde-forwarded";

/// Why something cannot be passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "cannot use `{0}` as the receiver to forward to; write it as https://HOST or http://HOST:PORT, \
         for gRPC as grpcs://HOST:PORT or grpc://HOST:PORT"
    )]
    Endpoint(String),
    #[error("cannot use a header of that receiver; write it as NAME=VALUE in plain ASCII")]
    Header,
    #[error("cannot use the certificates in `{path}`; give a readable file in PEM")]
    Ca { path: String },
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
}

/// The way into the queue.
#[derive(Debug)]
pub(crate) struct Forward {
    what: Passed,
    queue: mpsc::Sender<Job>,
    counts: Arc<Counts>,
    mark: String,
}

/// The loop that sends.
#[derive(Debug)]
pub(crate) struct Sending {
    jobs: mpsc::Receiver<Job>,
    client: reqwest::Client,
    endpoint: String,
    is_grpc: bool,
    counts: Arc<Counts>,
    mark: String,
    has_complained: bool,
}

#[derive(Debug)]
struct Job {
    signal: Signal,
    json: bool,
    body: Bytes,
}

/// Requests by what became of them.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    /// The queue was full.
    dropped: AtomicU64,
    /// The receiver does not want it, now or ever.
    refused: AtomicU64,
    /// Tries that failed and were repeated.
    retried: AtomicU64,
    waiting_bytes: AtomicUsize,
}

/// What an answer means for what was sent.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    Refused,
    Later(Option<Duration>),
}

impl Forward {
    /// Makes the queue, and the loop behind it.
    pub(crate) fn new(to: &PassOn) -> Result<(Self, Sending), Error> {
        // gRPC has no scheme of its own on the wire.
        let is_grpc = to.endpoint.starts_with("grpc");
        let written = to.endpoint.replacen("grpc", "http", usize::from(is_grpc));
        let url = reqwest::Url::parse(&written)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| Error::Endpoint(to.endpoint.clone()))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &to.headers {
            let name: HeaderName = name.parse().map_err(|_name| Error::Header)?;
            let mut value: HeaderValue = value.parse().map_err(|_value| Error::Header)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let mut client = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(Duration::from_secs(10))
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("sonde/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &to.ca {
            let unusable = || Error::Ca { path: path.display().to_string() };
            let pem = std::fs::read(path).map_err(|_unreadable| unusable())?;
            let bundle =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|_not_pem| unusable())?;
            client = client.tls_certs_merge(bundle);
        }
        if is_grpc {
            client = client.http2_prior_knowledge();
        }
        let client = client.build().map_err(Error::Client)?;
        let (queue, jobs) = mpsc::channel(MAX_JOBS);
        let counts = Arc::new(Counts::default());
        let mark = format!("{:016x}", RandomState::new().hash_one(0));
        let endpoint = url.as_str().trim_end_matches('/').to_owned();
        let sending = Sending {
            jobs,
            client,
            endpoint,
            is_grpc,
            counts: Arc::clone(&counts),
            mark: mark.clone(),
            has_complained: false,
        };
        Ok((Self { what: to.what, queue, counts, mark }, sending))
    }

    /// Whether all telemetry is passed on as it came, rather than calls alone.
    pub(crate) fn is_everything(&self) -> bool {
        self.what == Passed::Everything
    }

    /// Whether a request was passed on by this dashboard.
    pub(crate) fn is_mark(&self, headers: &HeaderMap) -> bool {
        let marks = headers.get_all(MARK).into_iter().filter_map(|mark| mark.to_str().ok());
        marks.flat_map(|marks| marks.split(',')).any(|mark| mark.trim() == self.mark)
    }

    /// Queues a request; a full queue refuses it, and counts.
    pub(crate) fn offer(&self, signal: Signal, json: bool, body: Bytes) {
        let len = body.len();
        let before = self.counts.waiting_bytes.fetch_add(len, Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(len) <= MAX_WAITING;
        if !fits || self.queue.try_send(Job { signal, json, body }).is_err() {
            self.counts.waiting_bytes.fetch_sub(len, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests by what became of them, and the bytes that wait.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let waiting = self.counts.waiting_bytes.load(Ordering::Relaxed);
        BTreeMap::from([
            ("sent", read(&self.counts.sent)),
            ("dropped", read(&self.counts.dropped)),
            ("refused", read(&self.counts.refused)),
            ("retried", read(&self.counts.retried)),
            ("waiting_bytes", u64::try_from(waiting).unwrap_or(u64::MAX)),
        ])
    }
}

impl Sending {
    /// Sends until the dashboard stops.
    pub(crate) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        loop {
            let job = tokio::select! {
                job = self.jobs.recv() => job,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            let Some(job) = job else { return };
            let len = job.body.len();
            tokio::select! {
                () = self.deliver(job) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            self.counts.waiting_bytes.fetch_sub(len, Ordering::Relaxed);
        }
    }

    async fn deliver(&mut self, job: Job) {
        let (is_grpc, signal) = (self.is_grpc, job.signal);
        let json = job.json && !is_grpc;
        let packed = tokio::task::spawn_blocking(move || packed(&job, is_grpc));
        let Ok(Some(packed)) = packed.await else {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut wait = FIRST_WAIT;
        loop {
            let asked = match self.send(signal, json, packed.clone()).await {
                Verdict::Taken => {
                    self.counts.sent.fetch_add(1, Ordering::Relaxed);
                    if std::mem::take(&mut self.has_complained) {
                        tracing::info!("what is forwarded arrives again");
                    }
                    return;
                }
                Verdict::Refused => {
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Verdict::Later(asked) => asked,
            };
            self.counts.retried.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(asked.unwrap_or(wait).max(wait)).await;
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    async fn send(&mut self, signal: Signal, json: bool, body: Bytes) -> Verdict {
        let path = if self.is_grpc { signal.method() } else { signal.path() };
        let request = self.client.post(format!("{}{path}", self.endpoint));
        let request = if self.is_grpc {
            request
                .header("content-type", "application/grpc")
                .header("grpc-encoding", "gzip")
                .header("te", "trailers")
        } else {
            let kind = if json { "application/json" } else { crate::otlp::PROTOBUF };
            request.header("content-type", kind).header("content-encoding", "gzip")
        };
        let response = match request.header(MARK, &self.mark).body(body).send().await {
            Ok(response) => response,
            Err(error) => {
                self.complain(&error.without_url().to_string());
                return Verdict::Later(None);
            }
        };
        let (verdict, words) =
            if self.is_grpc { grpc::answer(response).await } else { answer(response).await };
        if verdict != Verdict::Taken {
            self.complain(&format!("it answers {words}"));
        }
        verdict
    }

    /// Says once, until it works again, that it does not.
    fn complain(&mut self, error: &str) {
        if !self.has_complained {
            tracing::warn!(error, "cannot forward to the other receiver; trying on");
            self.has_complained = true;
        }
    }
}

/// What a receiver answers over HTTP, and in which words. It is read to the end, so that the
/// connection serves again; a long answer is not.
async fn answer(mut response: reqwest::Response) -> (Verdict, String) {
    let asked = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let asked = asked.and_then(|seconds| seconds.trim().parse().ok());
    let verdict = verdict(response.status().as_u16(), asked);
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > MAX_ANSWER {
            break;
        }
    }
    (verdict, response.status().to_string())
}

/// What a status says: those that OTLP names may be tried again, all others may not.
fn verdict(status: u16, retry_after: Option<u64>) -> Verdict {
    match status {
        200..=299 => Verdict::Taken,
        // A token or a route that is being mended is worth the wait, too.
        401 | 403 | 404 | 408 | 429 | 502..=504 => Verdict::Later(
            retry_after.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER)),
        ),
        _ => Verdict::Refused,
    }
}

/// A request as it is sent; `None` for what has no such form.
fn packed(job: &Job, is_grpc: bool) -> Option<Bytes> {
    if !is_grpc {
        return gzip(&job.body).ok().map(Bytes::from);
    }
    let as_protobuf = if job.json { Some(grpc::protobuf(job.signal, &job.body)?) } else { None };
    grpc::frame(&gzip(as_protobuf.as_deref().unwrap_or(&job.body)).ok()?)
}

fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body)?;
    gzip.finish()
}

#[cfg(test)]
mod tests {
    use super::{Verdict, verdict};
    use std::time::Duration;

    #[test]
    fn only_what_may_be_sent_again_is() {
        assert_eq!(verdict(200, None), Verdict::Taken);
        assert_eq!(verdict(400, None), Verdict::Refused);
        assert_eq!(verdict(413, None), Verdict::Refused);
        assert_eq!(verdict(500, None), Verdict::Refused);
        assert_eq!(verdict(503, None), Verdict::Later(None));
        assert_eq!(verdict(429, Some(7)), Verdict::Later(Some(Duration::from_secs(7))));
        assert_eq!(verdict(429, Some(u64::MAX)), Verdict::Later(Some(Duration::from_secs(300))));
    }
}
