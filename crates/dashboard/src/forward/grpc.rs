//! The other transport: OTLP over gRPC, a unary call for each request.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use super::Verdict;
use crate::otlp::Signal;
use axum::http::{HeaderMap, Response};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde::de::DeserializeOwned;

/// A compressed message, framed.
pub(super) fn frame(packed: &[u8]) -> Option<Bytes> {
    let mut framed = BytesMut::with_capacity(packed.len() + 5);
    framed.put_u8(1);
    framed.put_u32(u32::try_from(packed.len()).ok()?);
    framed.put_slice(packed);
    Some(framed.freeze())
}

/// A request in the only form that gRPC has; `None` for JSON that is no request.
pub(super) fn protobuf(signal: Signal, json: &[u8]) -> Option<Vec<u8>> {
    fn read<T: Message + DeserializeOwned>(json: &[u8]) -> Option<Vec<u8>> {
        serde_json::from_slice::<T>(json).ok().map(|request| request.encode_to_vec())
    }
    match signal {
        Signal::Traces => read::<ExportTraceServiceRequest>(json),
        Signal::Metrics => read::<ExportMetricsServiceRequest>(json),
        Signal::Logs => read::<ExportLogsServiceRequest>(json),
    }
}

/// What an answer says, and in which words. The status of a call is in its trailers, or in the
/// headers of an answer without a message.
pub(super) async fn answer(response: reqwest::Response) -> (Verdict, String) {
    let (head, body) = Response::from(response).into_parts();
    if !head.status.is_success() {
        return (super::verdict(head.status.as_u16(), None), head.status.to_string());
    }
    let mut found = status(&head.headers);
    if found.is_none()
        && let Ok(body) = Limited::new(body, super::MAX_ANSWER).collect().await
    {
        found = body.trailers().and_then(status);
    }
    match found {
        Some(code) => (verdict(code), format!("gRPC status {code}")),
        None => (Verdict::Later(None), "no gRPC status; is it a receiver of gRPC?".to_owned()),
    }
}

fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// What a status says: those that OTLP names may be tried again, all others may not.
///
/// <https://opentelemetry.io/docs/specs/otlp/#failures>
fn verdict(code: u32) -> Verdict {
    match code {
        0 => Verdict::Taken,
        // CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, OUT_OF_RANGE, UNAVAILABLE,
        // DATA_LOSS; and PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED: a token or a route
        // that is being mended is worth the wait, too.
        1 | 4 | 7 | 8 | 10 | 11 | 12 | 14 | 15 | 16 => Verdict::Later(None),
        _ => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::{Verdict, frame, protobuf, verdict};
    use crate::otlp::Signal;

    #[test]
    fn only_what_may_be_sent_again_is() {
        assert_eq!(verdict(0), Verdict::Taken);
        assert_eq!(verdict(3), Verdict::Refused, "INVALID_ARGUMENT");
        assert_eq!(verdict(14), Verdict::Later(None), "UNAVAILABLE");
        assert_eq!(verdict(99), Verdict::Refused);
    }

    #[test]
    fn a_message_has_a_prefix_and_json_becomes_protobuf() {
        assert_eq!(frame(b"abc").as_deref(), Some(&b"\x01\0\0\0\x03abc"[..]));
        let json = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"x"}]}]}]}"#;
        assert!(protobuf(Signal::Traces, json).is_some_and(|bytes| bytes.ends_with(b"x")));
        assert_eq!(protobuf(Signal::Logs, b"no request"), None);
    }
}
