//! OTLP in: over HTTP (`/v1/traces`, `/v1/metrics`, `/v1/logs`, protobuf and JSON) and over gRPC.
//!
//! Spans that are model calls are kept, and those of agents and tools around them; an answer of
//! success means that they are on disk. Other spans, metrics and logs are read, counted and passed on where forwarding is on, and
//! otherwise let go; the answer says so.
//!
//! `intake.rs` is the way in of both transports. What is read is hostile until proven otherwise:
//! size, decompressed size, counts and texts are bounded, and content is never copied.

mod call;
mod crowd;
mod fields;
mod grpc;
mod intake;
mod json;
mod names;
mod price;
mod protobuf;
mod read;
mod words;

pub(crate) use crowd::Crowds;
pub(crate) use grpc::{failure as grpc_failure, routes as grpc_routes};
pub(crate) use intake::Signal;
pub(crate) use protobuf::calls_request;

use crate::app::App;
use crate::error::{ApiError, Form};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use intake::Partial;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Content type of protobuf bodies.
pub(crate) const PROTOBUF: &str = "application/x-protobuf";

/// A body that is not what it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(traces)).routes(routes!(metrics)).routes(routes!(logs))
}

/// The form in which to answer a telemetry request.
pub(crate) fn form(headers: &HeaderMap) -> Form {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase());
    match kind.as_deref() {
        Some("application/json") => Form::OtlpJson,
        Some("application/grpc" | "application/grpc+proto") => Form::Grpc,
        Some(PROTOBUF) => Form::OtlpProtobuf,
        _ => Form::Api,
    }
}

/// Takes spans in. Those that are model calls are on disk when this answers.
#[utoipa::path(post, path = "/v1/traces", tag = "telemetry",
    request_body(content = Object, content_type = "application/x-protobuf",
        description = "ExportTraceServiceRequest in protobuf or JSON, plain, gzip or zstd"),
    responses((status = OK, description = "ExportTraceServiceResponse"),
        (status = BAD_REQUEST), (status = UNAUTHORIZED), (status = PAYLOAD_TOO_LARGE),
        (status = TOO_MANY_REQUESTS)))]
async fn traces(State(state): State<App>, headers: HeaderMap, body: Body) -> Response {
    answer(&headers, Signal::Traces, intake::http(&state, &headers, body, Signal::Traces).await)
}

/// Takes metrics in: they are read, counted, passed on where forwarding is on, and not kept.
#[utoipa::path(post, path = "/v1/metrics", tag = "telemetry",
    request_body(content = Object, content_type = "application/x-protobuf",
        description = "ExportMetricsServiceRequest in protobuf or JSON, plain, gzip or zstd"),
    responses((status = OK, description = "ExportMetricsServiceResponse"),
        (status = BAD_REQUEST), (status = UNAUTHORIZED)))]
async fn metrics(State(state): State<App>, headers: HeaderMap, body: Body) -> Response {
    answer(&headers, Signal::Metrics, intake::http(&state, &headers, body, Signal::Metrics).await)
}

/// Takes logs in: they are read, counted, passed on where forwarding is on, and not kept.
#[utoipa::path(post, path = "/v1/logs", tag = "telemetry",
    request_body(content = Object, content_type = "application/x-protobuf",
        description = "ExportLogsServiceRequest in protobuf or JSON, plain, gzip or zstd"),
    responses((status = OK, description = "ExportLogsServiceResponse"),
        (status = BAD_REQUEST), (status = UNAUTHORIZED)))]
async fn logs(State(state): State<App>, headers: HeaderMap, body: Body) -> Response {
    answer(&headers, Signal::Logs, intake::http(&state, &headers, body, Signal::Logs).await)
}

fn answer(headers: &HeaderMap, signal: Signal, outcome: Result<Partial, ApiError>) -> Response {
    let form = form(headers);
    match outcome {
        Err(error) => error.with_form(form).into_response(),
        Ok(partial) if form == Form::OtlpJson => {
            let body = match partial.reason {
                None => serde_json::json!({}),
                // 64-bit numbers are strings in the JSON form of protobuf.
                Some(reason) => serde_json::json!({ "partialSuccess": {
                    signal.rejected_key(): partial.rejected.to_string(), "errorMessage": reason,
                }}),
            };
            axum::Json(body).into_response()
        }
        Ok(partial) => {
            let body = protobuf::partial_success(partial.rejected, partial.reason.as_deref());
            ([(header::CONTENT_TYPE, PROTOBUF)], body).into_response()
        }
    }
}

/// A `google.rpc.Status` in protobuf.
pub(crate) fn status(code: u64, message: &str) -> Vec<u8> {
    protobuf::status(code, message)
}

/// Reads bytes in every form; what comes out does not matter.
#[cfg(test)]
pub(crate) fn try_all(body: &[u8]) -> [Option<usize>; 4] {
    let now = contract::row::Time(0);
    let read = [
        protobuf::traces(body, now),
        protobuf::others(body),
        json::traces(body, now),
        json::others(body),
    ];
    read.map(|batch| batch.ok().map(|batch| batch.calls.len()))
}

/// The calls of a body read as protobuf and as JSON, with how many spans were something else.
#[cfg(test)]
pub(crate) fn read_both(
    body: &[u8],
    now: contract::row::Time,
) -> [Option<(Vec<contract::row::Call>, u64, u64)>; 2] {
    let told = |batch: Result<read::Batch, Malformed>| {
        batch.ok().map(|batch| (batch.calls, batch.others, batch.rejected))
    };
    [told(protobuf::traces(body, now)), told(json::traces(body, now))]
}
