//! OTLP over gRPC, as its clients see it.

use super::{Bench, NOW, bytes};
use crate::app::telemetry;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt;
use storage::TokenKind;
use tower::ServiceExt;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A call in protobuf, as our own forwarding writes it.
fn call(number: u8) -> Vec<u8> {
    crate::otlp::calls_request(&[contract::row::Call {
        time: contract::row::Time(NOW.0 - 1_000_000_000),
        trace_id: format!("{number:032x}"),
        span_id: format!("{number:016x}"),
        service_name: Some("agent".into()),
        operation_name: Some("chat".into()),
        request_model: Some("gpt-4o".into()),
        duration: Some(0.5),
        ..contract::row::Call::default()
    }])
}

fn framed(compressed: bool, message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[u8::from(compressed)], &len[..], message].concat()
}

/// Sends a request, and answers headers, trailers and body.
async fn ask(
    bench: &Bench,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (HeaderMap, Vec<u8>) {
    let mut request = Request::post(path).header("content-type", "application/grpc");
    for (key, value) in headers {
        request = request.header(*key, *value);
    }
    let router = telemetry(&bench.state, crate::otlp::grpc_routes());
    let response = router.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200, "gRPC says everything in its own status");
    let mut all = response.headers().clone();
    let body = response.into_body().collect().await.unwrap();
    all.extend(body.trailers().cloned().unwrap_or_default());
    (all, body.to_bytes().to_vec())
}

#[tokio::test]
async fn a_call_comes_in_whichever_way_it_is_compressed() {
    let bench = Bench::new();
    let bearer = format!("Bearer {}", bench.token(TokenKind::Ingest));
    let gzip = |body: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, body).unwrap();
        gzip.finish().unwrap()
    };
    for (coding, body) in [
        ("identity", framed(false, &call(1))),
        ("gzip", framed(true, &gzip(&call(2)))),
        ("zstd", framed(true, &zstd::encode_all(&call(3)[..], 1).unwrap())),
        // The header names what may be used; the flag says whether it is.
        ("gzip", framed(false, &call(4))),
    ] {
        let headers = [("authorization", bearer.as_str()), ("grpc-encoding", coding)];
        let (answer, body) = ask(&bench, TRACES, &headers, body).await;
        assert_eq!((&answer["grpc-status"], &body[..]), (&"0".parse().unwrap(), &[0; 5][..]));
    }
    let rows = bench.get("/api/v1/calls?limit=10").await.1["calls"].clone();
    assert_eq!(rows.as_array().unwrap().len(), 4);
    assert_eq!(rows[0]["service.name"], "agent");
    assert_eq!(rows[0]["sonde.duration"], 0.5);
}

#[tokio::test]
async fn refusals_have_the_status_that_the_specification_names() {
    let bench = Bench::new();
    let bearer = format!("Bearer {}", bench.token(TokenKind::Ingest));
    let api = format!("Bearer {}", bench.token(TokenKind::Api));
    let bomb = framed(true, &zstd::encode_all(&vec![0; 80 << 20][..], 1).unwrap());
    for (token, coding, body, wanted) in [
        ("Bearer wrong", "identity", framed(false, &call(1)), "16"),
        ("", "identity", framed(false, &call(1)), "16"),
        (&*api, "identity", framed(false, &call(1)), "7"),
        (&*bearer, "identity", b"garbage".to_vec(), "3"),
        (&*bearer, "identity", framed(false, b"garbage"), "3"),
        (&*bearer, "br", framed(true, &call(1)), "12"),
        (&*bearer, "gzip", framed(true, b"not gzip"), "3"),
        (&*bearer, "zstd", bomb, "3"),
        (&*bearer, "identity", vec![0; 17 << 20], "3"),
    ] {
        let headers = [("authorization", token), ("grpc-encoding", coding)];
        let (answer, _) = ask(&bench, TRACES, &headers, body).await;
        assert_eq!(answer["grpc-status"], wanted, "{answer:?}");
        assert!(answer["grpc-message"].to_str().unwrap().starts_with("cannot"));
        assert!(!answer.contains_key("grpc-status-details-bin"), "not to be tried again");
    }
    let headers = [("authorization", bearer.as_str())];
    let (answer, _) = ask(&bench, "/some.other.Service/Export", &headers, Vec::new()).await;
    assert_eq!(answer["grpc-status"], "12");
    assert_eq!(bench.get("/api/v1/calls").await.1["calls"].as_array().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_comes_at_a_bad_time_is_told_when_to_come_back() {
    let bench = Bench::new();
    let bearer = format!("Bearer {}", bench.token(TokenKind::Ingest));
    let _all = bench.state.decoding.acquire_many(4).await.unwrap();
    let headers = [("authorization", bearer.as_str())];
    let (answer, _) = ask(&bench, TRACES, &headers, framed(false, &call(1))).await;
    assert_eq!(answer["grpc-status"], "8");
    assert!(answer.contains_key("grpc-status-details-bin"), "RetryInfo");
}

#[tokio::test]
async fn the_port_of_http_answers_telemetry_alone_and_only_with_a_token() {
    let bench = Bench::new();
    let bearer = format!("Bearer {}", bench.token(TokenKind::Ingest));
    let router = || telemetry(&bench.state, crate::otlp::routes().split_for_parts().0);
    for (path, token, wanted) in [
        ("/v1/traces", bearer.as_str(), 200),
        ("/v1/traces", "", 401),
        ("/api/v1/calls", &bearer, 404),
    ] {
        let request = Request::post(path)
            // Under whatever name: a token is needed anyway.
            .header("host", "otel.example.com")
            .header("content-type", "application/x-protobuf")
            .header("authorization", token)
            .body(Body::from(call(1)))
            .unwrap();
        let (status, _) = bytes(router().oneshot(request).await.unwrap()).await;
        assert_eq!(status, wanted, "{path}");
    }
}
