//! OTLP over gRPC: unary calls over HTTP/2, framed by hand.
//!
//! A request is one message behind five bytes, an answer too, with the status in trailers: that is
//! all of gRPC that OTLP uses. Framing it here lets both transports share one way in, with the
//! same limits on what a body may become, and keeps "too large" an answer that senders do not try
//! again for ever.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use super::intake::{self, Coding, Partial, Sent, Signal};
use super::protobuf;
use crate::app::App;
use crate::error::{ApiError, Form};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};

/// The flag for a compressed message, and the length of a message.
const PREFIX: usize = 5;

/// The three services of OTLP.
pub(crate) fn routes() -> Router<App> {
    let export = |signal: Signal| {
        post(move |State(state): State<App>, headers: HeaderMap, body: Body| async move {
            match export(&state, &headers, body, signal).await {
                Ok(partial) => success(&partial),
                Err(error) => error.with_form(Form::Grpc).into_response(),
            }
        })
    };
    [Signal::Traces, Signal::Metrics, Signal::Logs]
        .into_iter()
        .fold(Router::new(), |routes, signal| routes.route(signal.method(), export(signal)))
}

async fn export(
    state: &App,
    headers: &HeaderMap,
    body: Body,
    signal: Signal,
) -> Result<Partial, ApiError> {
    let Some(coding) = Coding::of(headers.get("grpc-encoding")) else {
        let message = "cannot read this grpc-encoding; send gzip, zstd or identity";
        return Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, message));
    };
    let (source, is_own) = (state.crowds.source(headers), state.is_own(headers));
    let body = intake::collect(body, intake::MAX_BODY + PREFIX).await?;
    let (compressed, bytes) = message(body)?;
    let coding = if compressed { coding } else { Coding::Plain };
    intake::receive(state, Sent { bytes, coding, json: false, source, is_own }, signal).await
}

/// The one message of a request, and whether it is compressed.
fn message(mut body: Bytes) -> Result<(bool, Bytes), ApiError> {
    let cut = || ApiError::bad("cannot read the request; it is not one whole gRPC message");
    let prefix: [u8; PREFIX] =
        body.get(..PREFIX).and_then(|b| b.try_into().ok()).ok_or_else(cut)?;
    let [flag, length @ ..] = prefix;
    let bytes = body.split_off(PREFIX);
    if flag > 1 || usize::try_from(u32::from_be_bytes(length)) != Ok(bytes.len()) {
        return Err(cut());
    }
    Ok((flag == 1, bytes))
}

fn success(partial: &Partial) -> Response {
    let answer = protobuf::partial_success(partial.rejected, partial.reason.as_deref());
    let mut framed = BytesMut::with_capacity(PREFIX + answer.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(answer.len()).unwrap_or(0));
    framed.put_slice(&answer);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(framed.freeze()).with_trailers(async { Some(Ok(trailers)) });
    let head = [
        (header::CONTENT_TYPE, "application/grpc"),
        (header::HeaderName::from_static("grpc-accept-encoding"), "identity,gzip,zstd"),
    ];
    (head, Body::new(body)).into_response()
}

/// A failure, in headers alone. `retry_after` is in seconds; without it a sender that is told
/// `RESOURCE_EXHAUSTED` must not try again, so it is told how long to wait where it may.
pub(crate) fn failure(code: u64, message: &str, retry_after: Option<u32>) -> Response {
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity,gzip,zstd"));
    headers.insert("grpc-status", HeaderValue::from(code));
    if let Ok(message) = HeaderValue::from_str(&percent(message)) {
        headers.insert("grpc-message", message);
    }
    if let Some(seconds) = retry_after
        && let Ok(details) = HeaderValue::from_str(&base64(&details(code, message, seconds)))
    {
        headers.insert("grpc-status-details-bin", details);
    }
    response
}

/// A `google.rpc.Status` with a `google.rpc.RetryInfo` in it.
fn details(code: u64, message: &str, seconds: u32) -> Vec<u8> {
    let mut duration = vec![1 << 3];
    protobuf::put_varint(&mut duration, seconds.into());
    let (mut retry_info, mut any) = (Vec::new(), Vec::new());
    protobuf::put_bytes(&mut retry_info, 1, &duration);
    protobuf::put_bytes(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
    protobuf::put_bytes(&mut any, 2, &retry_info);
    let mut status = protobuf::status(code, message);
    protobuf::put_bytes(&mut status, 3, &any);
    status
}

/// The form of `grpc-message`: all but printable ASCII is percent-encoded.
fn percent(message: &str) -> String {
    let plain = |b: u8| matches!(b, b' '..=b'~') && b != b'%';
    let encode = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    message.bytes().map(encode).collect()
}

/// Base64 without padding, as gRPC has binary headers.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = move |at: u32| char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
        (0..=u32::try_from(chunk.len()).unwrap_or(3)).map(digit)
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::{base64, message, percent};
    use bytes::Bytes;

    #[test]
    fn headers_hold_any_text_and_any_bytes() {
        assert_eq!(percent("no: 100 % \u{e4}\n"), "no: 100 %25 %C3%A4%0A");
        for (bytes, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_request_is_one_whole_message() {
        let read = |bytes: &'static [u8]| message(Bytes::from_static(bytes)).ok();
        assert_eq!(read(&[0, 0, 0, 0, 2, 7, 8]), Some((false, Bytes::from_static(&[7, 8]))));
        assert_eq!(read(&[1, 0, 0, 0, 0]), Some((true, Bytes::new())));
        for bad in [
            &[][..],
            &[0, 0, 0, 0],
            &[2, 0, 0, 0, 0],
            &[0, 0, 0, 0, 3, 7, 8],
            &[0, 0, 0, 0, 1, 7, 8],
            &[0, 255, 255, 255, 255, 7],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
