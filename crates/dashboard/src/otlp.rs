//! OTLP over HTTP: `/v1/traces`, `/v1/metrics`, `/v1/logs`, in protobuf and in JSON.
//!
//! Spans that are model calls are kept; an answer of success means that they are on disk. Other
//! spans, metrics and logs are read, counted and let go: nothing shows them yet, and a sender that
//! is answered with success does not send them again and again.
//!
//! What is read is hostile until proven otherwise: size, decompressed size, counts and texts are
//! bounded, and only attributes that are known by name are ever copied.

mod json;
mod protobuf;
mod read;

use crate::app::{App, Received};
use crate::error::{ApiError, Form};
use crate::hub::Event;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use contract::row::Time;
use http_body_util::{BodyExt, Limited};
use read::Batch;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Content type of protobuf bodies.
pub(crate) const PROTOBUF: &str = "application/x-protobuf";

/// Largest body as sent; collectors send batches of a few megabytes at most.
const MAX_BODY: usize = 16 << 20;
/// Largest body once decompressed.
const MAX_PLAIN: usize = 64 << 20;
/// Largest JSON body: every few bytes of it can become a value of its own.
const MAX_JSON: usize = 8 << 20;
/// How long a sender may take for a body.
const BODY_TIME: Duration = Duration::from_secs(30);

/// A body that is not what it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// What a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Traces,
    Metrics,
    Logs,
}

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(traces)).routes(routes!(metrics)).routes(routes!(logs))
}

/// The form in which to answer a telemetry request.
pub(crate) fn form(headers: &HeaderMap) -> Form {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    match kind.map(|kind| kind.split(';').next().unwrap_or("").trim()) {
        Some("application/json") => Form::OtlpJson,
        Some(PROTOBUF) => Form::OtlpProtobuf,
        _ => Form::Api,
    }
}

/// Takes spans in. Those that are model calls are on disk when this answers.
#[utoipa::path(post, path = "/v1/traces", tag = "telemetry",
    request_body(content = Object, content_type = "application/x-protobuf",
        description = "ExportTraceServiceRequest in protobuf or JSON, plain or gzip"),
    responses((status = OK, description = "ExportTraceServiceResponse"),
        (status = BAD_REQUEST), (status = UNAUTHORIZED), (status = PAYLOAD_TOO_LARGE),
        (status = TOO_MANY_REQUESTS)))]
async fn traces(State(state): State<App>, headers: HeaderMap, body: Body) -> Response {
    answer(&headers, receive(&state, &headers, body, Signal::Traces).await)
}

/// Takes metrics in: they are read, counted, and not kept.
#[utoipa::path(post, path = "/v1/metrics", tag = "telemetry",
    request_body(content = Object, content_type = "application/x-protobuf",
        description = "ExportMetricsServiceRequest in protobuf or JSON, plain or gzip"),
    responses((status = OK, description = "ExportMetricsServiceResponse"),
        (status = BAD_REQUEST), (status = UNAUTHORIZED)))]
async fn metrics(State(state): State<App>, headers: HeaderMap, body: Body) -> Response {
    answer(&headers, receive(&state, &headers, body, Signal::Metrics).await)
}

/// Takes logs in: they are read, counted, and not kept.
#[utoipa::path(post, path = "/v1/logs", tag = "telemetry",
    request_body(content = Object, content_type = "application/x-protobuf",
        description = "ExportLogsServiceRequest in protobuf or JSON, plain or gzip"),
    responses((status = OK, description = "ExportLogsServiceResponse"),
        (status = BAD_REQUEST), (status = UNAUTHORIZED)))]
async fn logs(State(state): State<App>, headers: HeaderMap, body: Body) -> Response {
    answer(&headers, receive(&state, &headers, body, Signal::Logs).await)
}

/// Spans that were refused, and why.
#[derive(Debug, Default)]
struct Partial {
    rejected: u64,
    reason: &'static str,
}

fn answer(headers: &HeaderMap, outcome: Result<Partial, ApiError>) -> Response {
    let form = form(headers);
    match outcome {
        Err(error) => error.with_form(form).into_response(),
        Ok(partial) if form == Form::OtlpJson => {
            let body = if partial.rejected == 0 {
                serde_json::json!({})
            } else {
                // 64-bit numbers are strings in the JSON form of protobuf.
                let rejected = partial.rejected.to_string();
                let reason = partial.reason;
                serde_json::json!({
                    "partialSuccess": { "rejectedSpans": rejected, "errorMessage": reason }
                })
            };
            axum::Json(body).into_response()
        }
        Ok(partial) => {
            let body = protobuf::partial_success(partial.rejected, partial.reason);
            ([(header::CONTENT_TYPE, PROTOBUF)], body).into_response()
        }
    }
}

/// A `google.rpc.Status` in protobuf.
pub(crate) fn status(code: u64, message: &str) -> Vec<u8> {
    protobuf::status(code, message)
}

async fn receive(
    state: &App,
    headers: &HeaderMap,
    body: Body,
    signal: Signal,
) -> Result<Partial, ApiError> {
    let form = form(headers);
    if form == Form::Api {
        let message =
            "cannot read this content type; send application/x-protobuf or application/json";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let gzip = is_gzip(headers)?;
    let body = collect(body).await?;
    // A sender that is told to come back later does so; one that waits holds its memory and ours.
    let Ok(turn) = tokio::time::timeout(Duration::from_secs(5), state.decoding.acquire()).await
    else {
        return Err(ApiError::busy());
    };
    let now = (state.clock)();
    let decoded = tokio::task::spawn_blocking(move || decode(&body, gzip, form, signal, now)).await;
    drop(turn);
    let batch = decoded.map_err(|error| ApiError::failed(&error))??;
    let count = |counter, count| Received::add(counter, count);
    match signal {
        Signal::Metrics => count(&state.received.metric, batch.others),
        Signal::Logs => count(&state.received.log, batch.others),
        Signal::Traces => {
            count(&state.received.not_a_call, batch.others);
            count(&state.received.rejected, batch.rejected);
        }
    }
    let mut partial = Partial { rejected: batch.rejected, reason: batch.reason };
    if !batch.calls.is_empty() {
        let too_old = keep(state, batch).await?;
        if too_old > 0 {
            partial.rejected += too_old;
            partial.reason = "a span is of a day that is no longer kept";
        }
    }
    Ok(partial)
}

/// Hands the calls to the store, waits until they are on disk, and tells the pages. Answers how
/// many were too old to be kept.
async fn keep(state: &App, batch: Batch) -> Result<u64, ApiError> {
    let (done, kept) = tokio::sync::oneshot::channel();
    state.store.submit(batch.calls, move |outcome| {
        // Nobody waits any more when the sender hung up; the calls are kept all the same.
        let _gone = done.send(outcome);
    })?;
    let kept = kept.await.map_err(|error| ApiError::failed(&error))??;
    Received::add(&state.received.call, u64::try_from(kept.new.len()).unwrap_or(0));
    Received::add(&state.received.duplicate, kept.duplicates);
    Received::add(&state.received.rejected, kept.too_old);
    if state.hub.has_listeners() {
        for call in &kept.new {
            let row = serde_json::to_string(call).map_err(|error| ApiError::failed(&error))?;
            state.hub.publish(Event::Call(Arc::from(row)));
        }
    }
    Ok(kept.too_old)
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, ApiError> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|encoding| encoding.to_str());
    match encoding {
        None | Some(Ok("identity" | "")) => Ok(false),
        Some(Ok(encoding)) if encoding.eq_ignore_ascii_case("gzip") => Ok(true),
        Some(_) => {
            let message = "cannot read this content encoding; send gzip or nothing";
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

async fn collect(body: Body) -> Result<Bytes, ApiError> {
    let limited = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(BODY_TIME, limited).await {
        Err(_elapsed) => {
            let message = "cannot wait for the body any longer; send smaller batches";
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message))
        }
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_cut)) => Err(ApiError::bad("cannot read the body; the connection was cut")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

fn too_large() -> ApiError {
    let message = format!(
        "cannot take a body of this size; send at most {} MiB, {} MiB decompressed, {} MiB as JSON",
        MAX_BODY >> 20,
        MAX_PLAIN >> 20,
        MAX_JSON >> 20
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn decode(
    body: &Bytes,
    gzip: bool,
    form: Form,
    signal: Signal,
    now: Time,
) -> Result<Batch, ApiError> {
    let most = if form == Form::OtlpJson { MAX_JSON } else { MAX_PLAIN };
    let plain = if gzip { unpack(body, most)? } else { body.clone() };
    if plain.len() > most {
        return Err(too_large());
    }
    let json = form == Form::OtlpJson;
    let batch = match signal {
        Signal::Traces if json => json::traces(&plain, now),
        Signal::Traces => protobuf::traces(&plain, now),
        Signal::Metrics | Signal::Logs if json => json::others(&plain),
        Signal::Metrics | Signal::Logs => protobuf::others(&plain),
    };
    batch.map_err(|Malformed(why)| ApiError::bad(format!("cannot read the body; {why}")))
}

fn unpack(body: &[u8], most: usize) -> Result<Bytes, ApiError> {
    let mut plain = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut reader = flate2::read::MultiGzDecoder::new(body).take(limit);
    match reader.read_to_end(&mut plain) {
        Err(_not_gzip) => Err(ApiError::bad("cannot read the body; it is not gzip")),
        Ok(_) if plain.len() > most => Err(too_large()),
        Ok(_) => Ok(plain.into()),
    }
}

/// Reads bytes in every form; what comes out does not matter.
#[cfg(test)]
pub(crate) fn try_all(body: &[u8]) -> [Option<usize>; 4] {
    let now = Time(0);
    let read = [
        protobuf::traces(body, now),
        protobuf::others(body),
        json::traces(body, now),
        json::others(body),
    ];
    read.map(|batch| batch.ok().map(|batch| batch.calls.len()))
}
