//! OTLP in, from friends and others. The official encoder writes what our reader reads.

use super::{Bench, NOW, bytes};
use crate::guard::Door;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use contract::row::Time;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use prost::Message;
use serde_json::{Value, json};
use std::io::Write;

pub(super) const PROTOBUF: &str = "application/x-protobuf";
pub(super) const JSON: &str = "application/json";

pub(super) async fn post(
    bench: &Bench,
    path: &str,
    kind: &str,
    encoding: &str,
    body: Vec<u8>,
) -> (StatusCode, Vec<u8>) {
    let request = Request::post(path)
        .header("content-type", kind)
        .header("content-encoding", encoding)
        .body(body.into())
        .unwrap();
    bytes(bench.send(Door::Socket, request).await).await
}

fn value(value: any_value::Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn attribute(key: &str, of: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: value(of), ..KeyValue::default() }
}

fn text(key: &str, text: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(text.into()))
}

fn whole(key: &str, number: i64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(number))
}

fn span(number: u8) -> Span {
    let reasons =
        ArrayValue { values: vec![value(any_value::Value::StringValue("stop".into())).unwrap()] };
    Span {
        trace_id: vec![number; 16],
        span_id: vec![number; 8],
        parent_span_id: vec![9; 8],
        name: "chat gpt-4o".into(),
        start_time_unix_nano: NOW.0 - 2_000_000_000,
        end_time_unix_nano: NOW.0 - 500_000_000,
        attributes: vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.system", "openai"),
            text("gen_ai.request.model", "gpt-4o"),
            whole("gen_ai.usage.input_tokens", 11),
            whole("gen_ai.usage.output_tokens", -1),
            attribute("gen_ai.request.stream", any_value::Value::BoolValue(true)),
            attribute("gen_ai.response.time_to_first_chunk", any_value::Value::DoubleValue(0.25)),
            attribute("gen_ai.response.finish_reasons", any_value::Value::ArrayValue(reasons)),
            text("gen_ai.input.messages", "SECRET PROMPT"),
            text("sonde.cost", "0.000025"),
        ],
        events: vec![Event {
            attributes: vec![text("gen_ai.event.content", "SECRET")],
            ..Event::default()
        }],
        ..Span::default()
    }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![
            text("service.name", "agent"),
            text("k8s.namespace.name", "shop"),
            text("telemetry.sdk.name", "x"),
            whole("process.pid", 42),
        ],
        ..Resource::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body).unwrap();
    gzip.finish().unwrap()
}

/// Bytes that do not repeat themselves.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

async fn calls(bench: &Bench) -> Vec<Value> {
    bench.get("/api/v1/calls?limit=1000").await.1["calls"].as_array().unwrap().clone()
}

#[tokio::test]
async fn protobuf_and_json_and_gzip_make_the_same_row() {
    let expected = json!({
        "time": "2026-11-23T11:59:58.000000000Z",
        "sonde.call.id": "20261123-01010101010101010101010101010101-0101010101010101",
        "trace_id": "01010101010101010101010101010101", "span_id": "0101010101010101",
        "parent_span_id": "0909090909090909", "service.name": "agent", "process.pid": 42,
        "k8s.namespace.name": "shop", "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o", "gen_ai.request.stream": true, "gen_ai.usage.input_tokens": 11,
        "gen_ai.response.time_to_first_chunk": 0.25, "gen_ai.response.finish_reasons": ["stop"],
        "sonde.duration": 1.5, "sonde.cost": "0.000025",
    });
    let request = request(vec![span(1)]);
    let (binary, text) = (request.encode_to_vec(), serde_json::to_vec(&request).unwrap());
    for (kind, encoding, body) in [
        (PROTOBUF, "identity", binary.clone()),
        (PROTOBUF, "gzip", gzip(&binary)),
        (PROTOBUF, "zstd", zstd::encode_all(&binary[..], 3).unwrap()),
        (JSON, "identity", text.clone()),
        ("application/json; charset=utf-8", "gzip", gzip(&text)),
    ] {
        let bench = Bench::new();
        let (status, answer) = post(&bench, "/v1/traces", kind, encoding, body).await;
        assert_eq!(status, StatusCode::OK);
        let nothing: &[u8] = if kind == PROTOBUF { b"" } else { b"{}" };
        assert_eq!(answer, nothing, "{kind}");
        assert_eq!(calls(&bench).await, std::slice::from_ref(&expected), "{kind} {encoding}");
    }
}

#[tokio::test]
async fn an_export_makes_the_same_rows_where_it_is_sent() {
    let (from, to) = (Bench::new(), Bench::new());
    let mut failed = span(4);
    failed.status = Some(Status { code: 2, ..Status::default() });
    let body = request(vec![span(1), span(2), failed]).encode_to_vec();
    assert_eq!(post(&from, "/v1/traces", PROTOBUF, "identity", body).await.0, StatusCode::OK);
    let asked = Request::get("/api/v1/calls.otlp?filter=status:error").header("host", "localhost");
    let answer = from.send(Door::Socket, asked.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.headers()["content-type"], PROTOBUF);
    let part = bytes(answer).await.1;
    assert_eq!(post(&to, "/v1/traces", PROTOBUF, "identity", part).await.0, StatusCode::OK);
    assert_eq!(calls(&to).await.len(), 1, "the filter holds for a file, too");
    let asked = Request::get("/api/v1/calls.otlp").header("host", "localhost");
    let all = bytes(from.send(Door::Socket, asked.body(Body::empty()).unwrap()).await).await.1;
    let read = ExportTraceServiceRequest::decode(&all[..]).unwrap();
    assert_eq!(read.resource_spans.len(), 3, "the official decoder reads it");
    assert_eq!(post(&to, "/v1/traces", PROTOBUF, "identity", all).await.0, StatusCode::OK);
    assert_eq!(calls(&to).await, calls(&from).await);
}

#[tokio::test]
async fn only_model_calls_are_kept_and_each_once() {
    let bench = Bench::new();
    let mut tool = span(2);
    tool.attributes[0] = text("gen_ai.operation.name", "execute_tool");
    let other = Span { attributes: vec![text("http.route", "/x")], ..span(3) };
    let mut failed = span(4);
    failed.status = Some(Status { code: 2, ..Status::default() });
    let body = request(vec![span(1), tool, other, failed, span(1)]).encode_to_vec();
    for _ in 0..2 {
        assert_eq!(
            post(&bench, "/v1/traces", PROTOBUF, "identity", body.clone()).await.0,
            StatusCode::OK
        );
    }
    let rows = calls(&bench).await;
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().any(|row| row["error.type"] == "_OTHER"));
    let received = bench.get("/api/v1/status").await.1["received"].clone();
    let expected = json!({ "call": 2, "duplicate": 4, "run": 2, "not_a_call": 2, "rejected": 0, "metric": 0, "log": 0 });
    assert_eq!(received, expected);
}

#[tokio::test]
async fn what_cannot_be_kept_is_rejected_alone_and_said() {
    let bench = Bench::new();
    let bad = [
        Span { trace_id: vec![0; 16], ..span(2) },
        Span { trace_id: vec![1; 15], ..span(3) },
        Span { span_id: vec![1; 4000], ..span(4) },
        Span { span_id: Vec::new(), ..span(5) },
        Span { start_time_unix_nano: 0, ..span(6) },
        Span { start_time_unix_nano: u64::MAX, ..span(7) },
        Span { end_time_unix_nano: u64::MAX, ..span(8) },
    ];
    let backwards = Span { end_time_unix_nano: NOW.0 - 3_000_000_000, ..span(9) };
    let spans = [vec![span(1), backwards], bad.to_vec()].concat();
    let request = request(spans);
    let (status, answer) =
        post(&bench, "/v1/traces", PROTOBUF, "identity", request.encode_to_vec()).await;
    assert_eq!(status, StatusCode::OK);
    let partial = ExportTraceServiceResponse::decode(&answer[..]).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 7);
    assert!(partial.error_message.contains("future"), "{}", partial.error_message);
    let rows = calls(&bench).await;
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().any(|row| row.get("sonde.duration").is_none()), "ends before it starts");
    let text = serde_json::to_vec(&request).unwrap();
    let (status, answer) = post(&bench, "/v1/traces", JSON, "identity", text).await;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((status, &answer["partialSuccess"]["rejectedSpans"]), (StatusCode::OK, &json!("7")));
}

#[tokio::test]
async fn garbage_and_bombs_are_refused_in_the_form_of_otlp() {
    let bench = Bench::new();
    let bomb = gzip(&vec![0; 80 << 20]);
    let json_bomb = gzip(format!("{{\"x\":\"{}\"}}", "x".repeat(9 << 20)).as_bytes());
    let zstd_bomb = zstd::encode_all(&vec![0; 80 << 20][..], 1).unwrap();
    // Small enough in all, but thousands of times what was sent.
    let ratio_bomb = zstd::encode_all(&vec![0; 32 << 20][..], 1).unwrap();
    // A frame that wants 128 MiB of memory for its window.
    let mut wide = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(27).unwrap();
    wide.write_all(&noise(9 << 20)).unwrap();
    let wide = wide.finish().unwrap();
    let deep = "{\"resourceSpans\":".to_owned() + &"[".repeat(100_000);
    let cut = request(vec![span(1)]).encode_to_vec();
    for (kind, encoding, body, wanted) in [
        (PROTOBUF, "identity", b"garbage".to_vec(), StatusCode::BAD_REQUEST),
        (PROTOBUF, "identity", cut[..cut.len() - 3].to_vec(), StatusCode::BAD_REQUEST),
        (PROTOBUF, "identity", vec![0xff; 1000], StatusCode::BAD_REQUEST),
        (PROTOBUF, "identity", vec![0; 17 << 20], StatusCode::PAYLOAD_TOO_LARGE),
        (PROTOBUF, "gzip", b"not gzip".to_vec(), StatusCode::BAD_REQUEST),
        (PROTOBUF, "gzip", bomb, StatusCode::PAYLOAD_TOO_LARGE),
        (PROTOBUF, "br", vec![], StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (PROTOBUF, "zstd", b"not zstd".to_vec(), StatusCode::BAD_REQUEST),
        (PROTOBUF, "zstd", zstd_bomb, StatusCode::PAYLOAD_TOO_LARGE),
        (PROTOBUF, "zstd", ratio_bomb, StatusCode::PAYLOAD_TOO_LARGE),
        (PROTOBUF, "zstd", wide, StatusCode::BAD_REQUEST),
        (JSON, "identity", b"{\"resourceSpans\":[".to_vec(), StatusCode::BAD_REQUEST),
        (JSON, "identity", deep.into_bytes(), StatusCode::BAD_REQUEST),
        (JSON, "gzip", json_bomb, StatusCode::PAYLOAD_TOO_LARGE),
        ("text/plain", "identity", vec![], StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        for path in ["/v1/traces", "/v1/metrics", "/v1/logs"] {
            let (status, answer) = post(&bench, path, kind, encoding, body.clone()).await;
            assert_eq!(status, wanted, "{kind} {encoding} {} bytes", body.len());
            match kind {
                PROTOBUF => assert_eq!(answer[0], 8, "the code of a google.rpc.Status"),
                _ => assert!(serde_json::from_slice::<Value>(&answer).is_ok()),
            }
        }
    }
    assert_eq!(calls(&bench).await.len(), 0);
}

#[tokio::test]
async fn crowds_of_spans_and_attributes_cost_little_and_disturb_nobody() {
    let bench = Bench::new();
    let many = (0..20_000).map(|n| text(&format!("k8s.label.{n}"), "v")).collect();
    let crowded = Span { attributes: [span(1).attributes, many].concat(), ..span(1) };
    let huge =
        Span { attributes: vec![text("gen_ai.request.model", &"x".repeat(1 << 20))], ..span(2) };
    let forms = [
        request(vec![crowded.clone(), huge.clone()]).encode_to_vec(),
        serde_json::to_vec(&request(vec![crowded, huge])).unwrap(),
    ];
    for (kind, body) in [PROTOBUF, JSON].into_iter().zip(forms) {
        assert_eq!(post(&bench, "/v1/traces", kind, "gzip", gzip(&body)).await.0, StatusCode::OK);
    }
    let rows = calls(&bench).await;
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.to_string().len() < 8192));
    // A request of five million empty spans.
    let mut spans = [0x12, 0].repeat(5_000_000);
    for key in [0x12_u8, 0x0a] {
        let mut framed = vec![key];
        prost::encode_length_delimiter(spans.len(), &mut framed).unwrap();
        framed.extend(spans);
        spans = framed;
    }
    assert_eq!(post(&bench, "/v1/traces", PROTOBUF, "identity", spans).await.0, StatusCode::OK);
    assert_eq!(bench.get("/api/v1/status").await.1["received"]["not_a_call"], 5_000_000);
}

#[tokio::test]
async fn metrics_and_logs_are_read_and_counted_and_the_answer_says_that_they_are_not_kept() {
    let bench = Bench::new();
    let points = json!([{ "asInt": "1" }, { "asDouble": 2.0 }]);
    let metrics = json!({ "resourceMetrics": [{ "scopeMetrics": [{ "metrics": [
        { "name": "a", "sum": { "dataPoints": points } }, {} ] }] }] });
    let logs = json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": [{}] }, {}] }, {}] });
    // One resource, one scope, one metric with a gauge of one point, or one log.
    let metric = vec![0x0a, 8, 0x12, 6, 0x12, 4, 0x2a, 2, 0x0a, 0];
    let log = vec![0x0a, 4, 0x12, 2, 0x12, 0];
    for (path, body, key, count, binary) in [
        ("/v1/metrics", metrics, "rejectedDataPoints", "2", metric),
        ("/v1/logs", logs, "rejectedLogRecords", "1", log),
    ] {
        let (status, answer) = post(&bench, path, JSON, "identity", body.to_string().into()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((status, &answer["partialSuccess"][key]), (StatusCode::OK, &json!(count)));
        let (status, answer) = post(&bench, path, PROTOBUF, "identity", binary).await;
        assert_eq!(status, StatusCode::OK);
        let partial = ExportTraceServiceResponse::decode(&answer[..]).unwrap().partial_success;
        assert_eq!(partial.unwrap().rejected_spans, 1, "the three answers have one form");
        let (status, answer) = post(&bench, path, PROTOBUF, "identity", Vec::new()).await;
        assert_eq!((status, answer.len()), (StatusCode::OK, 0));
    }
    let received = bench.get("/api/v1/status").await.1["received"].clone();
    assert_eq!((&received["metric"], &received["log"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn no_content_reaches_the_disk() {
    let bench = Bench::new();
    let body = request(vec![span(1)]);
    post(&bench, "/v1/traces", PROTOBUF, "identity", body.encode_to_vec()).await;
    for file in std::fs::read_dir(bench._dir.path()).unwrap() {
        let path = file.unwrap().path();
        let kept = std::fs::read(&path).unwrap();
        assert!(!kept.windows(6).any(|window| window == b"SECRET"), "{}", path.display());
    }
}

/// What the controller's own tests say that it sends must come out as it went in.
#[tokio::test]
async fn what_our_controller_sends_comes_out_as_it_went_in() {
    let bench = Bench::at(|| Time(1_800_003_600_000_000_000));
    let sent = |name: &str| {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../controller/src/export");
        std::fs::read(format!("{dir}/{name}.otlp.json")).unwrap()
    };
    let body = sent("calls");
    assert_eq!(
        post(&bench, "/v1/traces", JSON, "gzip", gzip(&body)).await,
        (StatusCode::OK, b"{}".to_vec())
    );
    assert_eq!(
        post(&bench, "/v1/metrics", JSON, "identity", sent("metrics")).await.0,
        StatusCode::OK
    );
    let rows = calls(&bench).await;
    let spans: ExportTraceServiceRequest = serde_json::from_slice(&body).unwrap();
    let mut seen = 0;
    for resource_spans in spans.resource_spans {
        let resource = resource_spans.resource.unwrap_or_default().attributes;
        for span in resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let id = span.span_id.iter().fold(String::new(), |id, byte| format!("{id}{byte:02x}"));
            let row = rows.iter().find(|row| row["span_id"] == id.as_str()).unwrap();
            seen += 1;
            for KeyValue { key, value, .. } in resource.iter().chain(&span.attributes) {
                // These are known from the report of the workload.
                if !["process.command_args", "process.working_directory"].contains(&key.as_str()) {
                    assert_eq!(row.get(key), Some(&plain(value.as_ref().unwrap())), "{key}");
                }
            }
        }
    }
    assert!(seen > 0 && seen == rows.len());
}

fn plain(value: &AnyValue) -> Value {
    match value.value.as_ref().unwrap() {
        any_value::Value::StringValue(text) => text.as_str().into(),
        any_value::Value::BoolValue(flag) => (*flag).into(),
        any_value::Value::IntValue(number) => (*number).into(),
        any_value::Value::DoubleValue(number) => (*number).into(),
        any_value::Value::ArrayValue(array) => array.values.iter().map(plain).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_is_told_to_come_back_when_there_is_too_much() {
    let bench = Bench::new();
    let _all = bench.state.decoding.acquire_many(4).await.unwrap();
    let body = request(vec![span(1)]).encode_to_vec();
    let sent =
        Request::post("/v1/traces").header("content-type", PROTOBUF).body(body.into()).unwrap();
    let response = bench.send(Door::Socket, sent).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "1");
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        // Whatever they find, they must come back.
        crate::otlp::try_all(&body);
    }

    #[test]
    fn no_bent_request_makes_a_reader_panic(at in any::<prop_index::Index>(), byte in any::<u8>()) {
        let mut body = request(vec![span(1)]).encode_to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        crate::otlp::try_all(&body);
    }

    #[test]
    fn no_bent_json_makes_a_reader_panic(at in any::<prop_index::Index>(), byte in any::<u8>()) {
        let mut body = serde_json::to_vec(&request(vec![span(1)])).unwrap();
        let at = at.index(body.len());
        body[at] = byte;
        crate::otlp::try_all(&body);
    }

    #[test]
    fn both_forms_of_a_request_make_the_same_calls(
        attributes in proptest::collection::vec((0..KEYS.len(), any_value()), 0..40),
        ids in any::<(u8, u8)>(), times in any::<(u32, i32)>(), code in 0..4,
    ) {
        let named = attributes.into_iter().map(|(key, value)| attribute(KEYS[key], value));
        let start = NOW.0 - u64::from(times.0);
        let spans = vec![Span {
            trace_id: vec![ids.0; 16],
            span_id: vec![ids.1; 8],
            start_time_unix_nano: start,
            end_time_unix_nano: start.saturating_add_signed(times.1.into()),
            attributes: named.collect(),
            status: Some(Status { code, ..Status::default() }),
            ..span(1)
        }];
        let request = request(spans);
        let [protobuf, ..] = crate::otlp::read_both(&request.encode_to_vec(), NOW);
        let [_, json] = crate::otlp::read_both(&serde_json::to_vec(&request).unwrap(), NOW);
        prop_assert!(protobuf.is_some());
        prop_assert_eq!(protobuf, json);
    }
}

/// Names of all kinds, known and not, and one whose text is looked into.
const KEYS: [&str; 14] = [
    "gen_ai.operation.name",
    "gen_ai.system",
    "gen_ai.request.model",
    "llm.model_name",
    "gen_ai.usage.input_tokens",
    "llm.token_count.prompt",
    "gen_ai.usage.cost",
    "gen_ai.response.finish_reasons",
    "gen_ai.completion.0.finish_reason",
    "llm.invocation_parameters",
    "ai.operationId",
    "vendor.tier.name",
    "vendor.prompt",
    "",
];

fn any_value() -> impl Strategy<Value = any_value::Value> {
    use any_value::Value as Any;
    prop_oneof![
        "[a-z .\u{0}\u{e4}]{0,12}".prop_map(Any::StringValue),
        Just(Any::StringValue("chat".into())),
        Just(Any::StringValue("ai.streamText.doStream".into())),
        Just(Any::StringValue("{\"model\":\"m\",\"max_tokens\":-1,\"temperature\":0.5}".into())),
        any::<bool>().prop_map(Any::BoolValue),
        any::<i64>().prop_map(Any::IntValue),
        (-1e12..1e12_f64).prop_map(Any::DoubleValue),
        proptest::collection::vec("[a-z]{0,4}", 0..3).prop_map(|texts| {
            let values = texts.into_iter().map(|text| value(Any::StringValue(text)).unwrap());
            Any::ArrayValue(ArrayValue { values: values.collect() })
        }),
    ]
}

use proptest::sample as prop_index;
