//! What every request goes through, whichever way it came: decompress, decode, keep, answer.

use super::crowd::Source;
use super::read::Batch;
use super::{Malformed, json, protobuf};
use crate::app::{App, Received};
use crate::error::{ApiError, Form};
use crate::hub::Event;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use contract::row::Time;
use http_body_util::{BodyExt, Limited};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use storage::Telemetry;

/// Largest body as sent; collectors send batches of a few megabytes at most.
pub(super) const MAX_BODY: usize = 16 << 20;
/// Largest body once decompressed.
const MAX_PLAIN: usize = 64 << 20;
/// Largest JSON body: every few bytes of it can become a value of its own.
const MAX_JSON: usize = 8 << 20;
/// How many times larger than sent a body may be once decompressed, where that is more than
/// [`ANY_RATIO`]. Batches of spans that repeat themselves reach a hundred.
const MAX_RATIO: usize = 256;
/// Decompressed size that asks no questions about the ratio.
const ANY_RATIO: usize = 4 << 20;
/// Largest window of zstd, as a power of two: 8 MiB, what RFC 8878 asks every decoder to support.
const MAX_ZSTD_WINDOW: u32 = 23;
/// How long a sender may take for a body.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How long a request waits for its turn to be decoded, before it is told to come back.
const TURN_TIME: Duration = Duration::from_secs(5);

/// What a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
    Logs,
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Plain,
    Gzip,
    Zstd,
}

/// A body as it was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) bytes: Bytes,
    pub(super) coding: Coding,
    pub(super) json: bool,
    pub(super) source: Source,
    /// True when it must not be passed on: it was, by us.
    pub(super) is_own: bool,
}

/// What was not kept, and why. Without a reason everything was.
#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) rejected: u64,
    pub(super) reason: Option<String>,
}

impl Signal {
    /// The key of the count of what was rejected, in JSON.
    pub(super) fn rejected_key(self) -> &'static str {
        match self {
            Self::Traces => "rejectedSpans",
            Self::Metrics => "rejectedDataPoints",
            Self::Logs => "rejectedLogRecords",
        }
    }

    /// The path over HTTP.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
        }
    }

    /// The path over gRPC: its service and method.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }
}

impl Coding {
    /// The coding of a header's value; `None` for one that is not known.
    pub(super) fn of(value: Option<&axum::http::HeaderValue>) -> Option<Self> {
        let word = value.map_or(Ok(""), |value| value.to_str()).ok()?.trim().to_ascii_lowercase();
        match word.as_str() {
            "" | "identity" => Some(Self::Plain),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Takes a request over HTTP.
pub(super) async fn http(
    state: &App,
    headers: &HeaderMap,
    body: Body,
    signal: Signal,
) -> Result<Partial, ApiError> {
    let json = match super::form(headers) {
        Form::OtlpJson => true,
        Form::OtlpProtobuf => false,
        Form::Api | Form::Grpc => {
            let message =
                "cannot read this content type; send application/x-protobuf or application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
    };
    let Some(coding) = Coding::of(headers.get(header::CONTENT_ENCODING)) else {
        let message = "cannot read this content encoding; send gzip, zstd or nothing";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    };
    let (source, is_own) = (state.crowds.source(headers), state.is_own(headers));
    let bytes = collect(body, MAX_BODY).await?;
    receive(state, Sent { bytes, coding, json, source, is_own }, signal).await
}

/// Takes a body; when this answers, the calls in it are on disk.
pub(super) async fn receive(state: &App, sent: Sent, signal: Signal) -> Result<Partial, ApiError> {
    // A sender that is told to come back later does so; one that waits holds its memory and ours.
    let Ok(turn) = tokio::time::timeout(TURN_TIME, state.decoding.acquire()).await else {
        return Err(ApiError::busy());
    };
    let now = (state.clock)();
    let (source, json, is_own) = (sent.source, sent.json, sent.is_own);
    let shared = Arc::clone(state);
    let decoded = tokio::task::spawn_blocking(move || {
        let (plain, mut batch) = decode(&sent, signal, now)?;
        shared.crowds.limit(source, now, &mut batch.calls);
        Ok::<_, ApiError>((plain, batch))
    });
    let (plain, batch) = decoded.await.map_err(|error| ApiError::failed(&error))??;
    drop(turn);
    count(state, signal, &batch);
    let passes_all = state.forward.as_ref().is_some_and(|forward| forward.is_everything());
    let mut partial = left_out(signal, &batch, passes_all);
    if !batch.calls.is_empty() || !batch.runs.is_empty() {
        let too_old = keep(state, batch, is_own || passes_all).await?;
        if too_old > 0 {
            partial.rejected += too_old;
            partial.reason = Some("a span is of a day that is no longer kept".into());
        }
    }
    if let Some(forward) = state.forward.as_ref().filter(|_| passes_all && !is_own) {
        forward.offer(signal, json, plain);
    }
    Ok(partial)
}

fn count(state: &App, signal: Signal, batch: &Batch) {
    let received = &state.received;
    match signal {
        Signal::Metrics => Received::add(&received.metric, batch.others),
        Signal::Logs => Received::add(&received.log, batch.others),
        Signal::Traces => {
            Received::add(&received.not_a_call, batch.others);
            Received::add(&received.run, u64::try_from(batch.runs.len()).unwrap_or(0));
            Received::add(&received.rejected, batch.rejected);
        }
    }
}

/// What of a batch is not kept. Nothing goes without a word.
fn left_out(signal: Signal, batch: &Batch, passes_all: bool) -> Partial {
    let reason = match signal {
        Signal::Traces if batch.rejected > 0 => Some(batch.reason.to_owned()),
        _ if batch.others == 0 || passes_all => None,
        Signal::Traces => Some(format!(
            "{} spans are no model calls, agents or tools and are not kept; --forward passes them \
             on",
            batch.others
        )),
        Signal::Metrics => Some(
            "metrics are not kept, the numbers of calls come from their spans; --forward passes \
             metrics on"
                .into(),
        ),
        Signal::Logs => {
            Some("logs are not kept, calls come from spans; --forward passes logs on".into())
        }
    };
    let rejected = match signal {
        Signal::Traces => batch.rejected,
        // A metric without a point is nothing that could be rejected.
        Signal::Metrics if reason.is_some() => batch.points,
        Signal::Logs if reason.is_some() => batch.others,
        Signal::Metrics | Signal::Logs => 0,
    };
    Partial { rejected, reason }
}

/// Hands calls and runs to the store, waits until they are on disk, and tells the pages. Answers how
/// many were too old to be kept.
async fn keep(state: &App, batch: Batch, is_passed_on: bool) -> Result<u64, ApiError> {
    let (done, kept) = tokio::sync::oneshot::channel();
    let telemetry = Telemetry { calls: batch.calls, runs: batch.runs };
    state.store.submit_all(telemetry, move |outcome| {
        // Nobody waits any more when the sender hung up; the calls are kept all the same.
        let _gone = done.send(outcome);
    })?;
    let kept = kept.await.map_err(|error| ApiError::failed(&error))??;
    Received::add(&state.received.call, u64::try_from(kept.new.len()).unwrap_or(0));
    Received::add(&state.received.duplicate, kept.duplicates + kept.joined);
    Received::add(&state.received.rejected, kept.too_old);
    state.numbers.add(&kept.new);
    if let Some(forward) = state.forward.as_ref().filter(|_| !is_passed_on && !kept.new.is_empty())
    {
        forward.offer(Signal::Traces, false, super::calls_request(&kept.new).into());
    }
    if state.hub.has_listeners() {
        for call in &kept.new {
            let row = serde_json::to_string(call).map_err(|error| ApiError::failed(&error))?;
            state.hub.publish(Event::Call(Arc::new(call.clone()), Arc::from(row)));
        }
    }
    Ok(kept.too_old)
}

/// Reads a body to its end.
pub(super) async fn collect(body: Body, most: usize) -> Result<Bytes, ApiError> {
    let limited = Limited::new(body, most).collect();
    match tokio::time::timeout(BODY_TIME, limited).await {
        // A sender may try again after this one, so that a slow network loses nothing.
        Err(_elapsed) => {
            Err(ApiError::late("cannot wait for the body any longer; send smaller batches"))
        }
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_cut)) => Err(ApiError::bad("cannot read the body; the connection was cut")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

fn too_large() -> ApiError {
    let message = format!(
        "cannot take a body of this size; send at most {} MiB, {} MiB decompressed and {MAX_RATIO} \
         times what was sent, {} MiB as JSON",
        MAX_BODY >> 20,
        MAX_PLAIN >> 20,
        MAX_JSON >> 20
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn decode(sent: &Sent, signal: Signal, now: Time) -> Result<(Bytes, Batch), ApiError> {
    let most = if sent.json { MAX_JSON } else { MAX_PLAIN };
    let ratio = sent.bytes.len().saturating_mul(MAX_RATIO).max(ANY_RATIO);
    let plain = match sent.coding {
        Coding::Plain => sent.bytes.clone(),
        Coding::Gzip => {
            unpack(flate2::read::MultiGzDecoder::new(&sent.bytes[..]), most.min(ratio))?
        }
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(&sent.bytes[..])
                .map_err(|error| ApiError::failed(&error))?;
            decoder.window_log_max(MAX_ZSTD_WINDOW).map_err(|error| ApiError::failed(&error))?;
            unpack(decoder, most.min(ratio))?
        }
    };
    if plain.len() > most {
        return Err(too_large());
    }
    let batch = match signal {
        Signal::Traces if sent.json => json::traces(&plain, now),
        Signal::Traces => protobuf::traces(&plain, now),
        Signal::Metrics | Signal::Logs if sent.json => json::others(&plain),
        Signal::Metrics | Signal::Logs => protobuf::others(&plain),
    };
    let batch =
        batch.map_err(|Malformed(why)| ApiError::bad(format!("cannot read the body; {why}")))?;
    Ok((plain, batch))
}

fn unpack(decoder: impl Read, most: usize) -> Result<Bytes, ApiError> {
    let mut plain = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    match decoder.take(limit).read_to_end(&mut plain) {
        Err(_garbage) => {
            Err(ApiError::bad("cannot read the body; it is not compressed as it says"))
        }
        Ok(_) if plain.len() > most => Err(too_large()),
        Ok(_) => Ok(plain.into()),
    }
}
