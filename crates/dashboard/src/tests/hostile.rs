//! OTLP from senders that mean harm, and from those that only write it in ways of their own: each
//! is answered as the specification says, spoils nothing beside itself, and costs little.

use super::telemetry::{JSON, PROTOBUF, post};
use super::{Bench, NOW, bytes};
use crate::guard::Door;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use serde_json::{Value, json};
use std::time::Duration;

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn text(key: &str, text: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(text.into()))
}

/// A call of a second, which began two seconds ago.
fn span(number: u64) -> Span {
    Span {
        trace_id: u128::from(number).to_be_bytes().into(),
        span_id: number.to_be_bytes().into(),
        start_time_unix_nano: NOW.0 - 2_000_000_000,
        end_time_unix_nano: NOW.0 - 1_000_000_000,
        attributes: vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.request.model", "gpt-4o"),
        ],
        ..Span::default()
    }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

/// The JSON of a request, its one span changed.
fn written(change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut body = serde_json::to_value(request(vec![span(1)])).unwrap();
    change(&mut body["resourceSpans"][0]["scopeSpans"][0]["spans"][0]);
    serde_json::to_vec(&body).unwrap()
}

async fn rows(bench: &Bench) -> Vec<Value> {
    bench.get("/api/v1/calls?limit=1000").await.1["calls"].as_array().unwrap().clone()
}

/// A table of bodies, one below the other.
#[tokio::test]
async fn json_is_read_in_every_way_that_its_writers_have() {
    let add = |span: &mut Value, attribute: Value| {
        span["attributes"].as_array_mut().unwrap().push(attribute);
    };
    let tokens = |value: Value| {
        written(|span| {
            let value = json!({ "intValue": value });
            add(span, json!({ "key": "gen_ai.usage.input_tokens", "value": value }));
        })
    };
    let bent = |bytes: &[u8]| {
        let plain = written(|span| {
            add(span, json!({ "key": "app.text", "value": { "stringValue": "BENT" } }));
            span["name"] = "BENT".into();
        });
        let mut body = Vec::new();
        let mut rest = &plain[..];
        while let Some(at) = rest.windows(4).position(|four| four == b"BENT") {
            body.extend_from_slice(&rest[..at]);
            body.extend_from_slice(bytes);
            rest = &rest[at + 4..];
        }
        [&body[..], rest].concat()
    };
    #[expect(clippy::cast_precision_loss, reason = "what JavaScript makes of it")]
    let real = |nanos: u64| Value::from(nanos as f64);
    let marked = [b"\xef\xbb\xbf", &written(|_| {})[..]].concat();
    for (what, kind, body, input) in [
        ("as it should be", JSON, tokens("12".into()), Some(12)),
        ("a number", JSON, tokens(12.into()), Some(12)),
        ("a number with a point", JSON, tokens(12.0.into()), Some(12)),
        ("a number that is not whole", JSON, tokens(12.5.into()), None),
        ("a number that is too large", JSON, tokens(u64::MAX.into()), None),
        ("no number", JSON, tokens("many".into()), None),
        ("half of a character", JSON, bent(b"\\ud83d"), None),
        ("the other half", JSON, bent(b"\\udc00 and more"), None),
        ("another encoding", JSON, bent(b"\xe4"), None),
        ("a mark of the order of bytes", JSON, marked, None),
        ("a type in capitals", "Application/JSON; charset=UTF-8", written(|_| {}), None),
        (
            "times with an exponent",
            JSON,
            written(|span| {
                span["startTimeUnixNano"] = real(NOW.0 - 2_000_000_000);
                span["endTimeUnixNano"] = real(NOW.0 - 1_000_000_000);
            }),
            None,
        ),
        (
            "null for what is not there",
            JSON,
            written(|span| {
                for key in ["events", "links", "status", "parentSpanId", "traceState"] {
                    span[key] = Value::Null;
                }
                add(span, json!({ "key": null, "value": { "stringValue": "x" } }));
                add(span, json!({ "key": "a.b", "value": null }));
            }),
            None,
        ),
    ] {
        let bench = Bench::new();
        let (status, answer) = post(&bench, "/v1/traces", kind, "identity", body).await;
        assert_eq!((status, &answer[..]), (StatusCode::OK, &b"{}"[..]), "{what}");
        let rows = rows(&bench).await;
        assert_eq!(rows.len(), 1, "{what}");
        assert_eq!(rows[0]["sonde.duration"], 1.0, "{what}");
        assert_eq!(rows[0]["gen_ai.usage.input_tokens"].as_u64(), input, "{what}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_an_empty_one_is_none_the_worse() {
    let bench = Bench::new();
    for (kind, body, wanted) in [
        (PROTOBUF, &b""[..], StatusCode::OK),
        (JSON, b"{}", StatusCode::OK),
        (JSON, b" {\"resourceSpans\":null} ", StatusCode::OK),
        (JSON, b"", StatusCode::BAD_REQUEST),
        (JSON, b"null", StatusCode::BAD_REQUEST),
        (JSON, b"[]", StatusCode::BAD_REQUEST),
        (JSON, b"[[]]", StatusCode::BAD_REQUEST),
        (JSON, b"\"\"", StatusCode::BAD_REQUEST),
        (JSON, b"{\"resourceSpans\":[null]}", StatusCode::BAD_REQUEST),
        (JSON, b"{}{}", StatusCode::BAD_REQUEST),
    ] {
        for path in ["/v1/traces", "/v1/metrics", "/v1/logs"] {
            let body = if path == "/v1/traces" {
                body.to_vec()
            } else {
                let named = path.trim_start_matches("/v1/");
                let text = String::from_utf8(body.to_vec()).unwrap();
                let key = if named == "logs" { "resourceLogs" } else { "resourceMetrics" };
                text.replace("resourceSpans", key).into_bytes()
            };
            let what = format!("{path} {:?}", String::from_utf8_lossy(&body));
            assert_eq!(post(&bench, path, kind, "identity", body).await.0, wanted, "{what}");
        }
    }
}

#[tokio::test]
async fn times_that_cannot_be_and_ids_that_come_twice_spoil_one_span_alone() {
    for (kind, encode) in [
        (PROTOBUF, (|r: &ExportTraceServiceRequest| r.encode_to_vec()) as fn(&_) -> Vec<u8>),
        (JSON, |request| serde_json::to_vec(request).unwrap()),
    ] {
        let bench = Bench::new();
        let at = |number, start, end| Span {
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            ..span(number)
        };
        let soon = NOW.0 - 1_000_000_000;
        let spans = vec![
            at(1, 0, 0),
            at(2, 0, u64::MAX),
            at(3, u64::MAX, u64::MAX),
            at(4, soon, u64::MAX),
            at(5, soon, 0),
            span(6),
            span(6),
            Span { parent_span_id: span(7).span_id, ..span(7) },
            Span { trace_id: vec![0xff; 300], ..span(8) },
            Span { trace_id: vec![], span_id: vec![], ..span(9) },
        ];
        let body = encode(&request(spans));
        let (status, answer) = post(&bench, "/v1/traces", kind, "identity", body).await;
        assert_eq!(status, StatusCode::OK);
        if kind == JSON {
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer["partialSuccess"]["rejectedSpans"], "6", "{answer}");
        } else {
            assert!(answer.windows(2).any(|pair| pair == [1 << 3, 6]), "{answer:?}");
        }
        let mut ids: Vec<_> = rows(&bench).await.iter().map(|row| row["span_id"].clone()).collect();
        ids.sort_by_key(ToString::to_string);
        let known = [5, 6, 7].map(|number| Value::from(format!("{number:016x}")));
        assert_eq!(ids, known, "what ended before it began has no duration, and is a call");
    }
}

/// A field of bytes, text or a message in protobuf.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encode_length_delimiter(bytes.len(), &mut field).unwrap();
    field.extend_from_slice(bytes);
    field
}

#[tokio::test]
async fn values_within_values_a_thousand_deep_are_read_over() {
    // By hand: encoders run out of stack on it.
    let (mut list, mut map) = (field(1, b"x"), field(1, b"x"));
    for _ in 0..1000 {
        list = field(5, &field(1, &list));
        map = field(6, &field(1, &[field(1, b"k"), field(2, &map)].concat()));
    }
    let nested = |before: &str, after: &str| {
        format!("{}{{\"stringValue\":\"x\"}}{}", before.repeat(1000), after.repeat(1000))
    };
    let json_list = nested("{\"arrayValue\":{\"values\":[", "]}}");
    let json_map = nested("{\"kvlistValue\":{\"values\":[{\"key\":\"k\",\"value\":", "}]}}");
    // Under names that are known, that are kept, and that are neither.
    let names = ["gen_ai.response.finish_reasons", "k8s.label.x", "gen_ai.input.messages", "x"];
    let (mut deep, mut json) = (span(1).encode_to_vec(), String::new());
    for name in names {
        for value in [&list, &map] {
            let attribute = [field(1, name.as_bytes()), field(2, value)].concat();
            deep.extend(field(9, &attribute));
        }
        for value in [&json_list, &json_map] {
            json += &format!("{{\"key\":\"{name}\",\"value\":{value}}},");
        }
    }
    let spans = [field(2, &deep), field(2, &span(2).encode_to_vec())].concat();
    let protobuf = field(1, &field(2, &spans));
    let plain = String::from_utf8(written(|_| {})).unwrap();
    let json = plain.replace("\"attributes\":[{", &format!("\"attributes\":[{json}{{"));
    for (kind, body, calls) in [(PROTOBUF, protobuf, 2), (JSON, json.into_bytes(), 1)] {
        assert!(body.len() > 8 * 1000, "it is deep");
        let bench = Bench::new();
        assert_eq!(post(&bench, "/v1/traces", kind, "identity", body).await.0, StatusCode::OK);
        assert_eq!(rows(&bench).await.len(), calls, "{kind}");
    }
}

#[tokio::test]
async fn a_request_of_more_calls_than_any_real_one_is_kept_in_part_and_says_so() {
    let bench = Bench::new();
    let body = request((1..=50_003).map(span).collect()).encode_to_vec();
    let (status, answer) = post(&bench, "/v1/traces", PROTOBUF, "identity", body).await;
    assert_eq!(status, StatusCode::OK);
    assert!(answer.windows(2).any(|pair| pair == [1 << 3, 3]), "three were rejected: {answer:?}");
    let (_, overview) = bench.get("/api/v1/overview").await;
    assert_eq!(overview["totals"]["calls"], 50_000);
}

/// A body that gives its first part, and then whatever comes.
fn begun(
    then: impl Future<Output = Option<Result<Vec<u8>, std::io::Error>>> + Send + 'static,
) -> Body {
    let first = request(vec![span(1)]).encode_to_vec();
    let parts = futures_util::stream::once(async { Ok::<_, std::io::Error>(first) });
    let rest = futures_util::stream::once(then);
    let rest = futures_util::StreamExt::filter_map(rest, |part| async { part });
    Body::from_stream(futures_util::StreamExt::chain(parts, rest))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_waited_for_half_a_minute_and_one_that_is_cut_keeps_nothing() {
    let bench = Bench::new();
    let send = |body| {
        let request = Request::post("/v1/traces").header("content-type", PROTOBUF);
        bench.send(Door::Socket, request.body(body).unwrap())
    };
    let began = tokio::time::Instant::now();
    let never = begun(std::future::pending());
    let response = send(never).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(began.elapsed().as_secs(), 30);
    let cut = begun(async { Some(Err(std::io::Error::other("gone"))) });
    assert_eq!(bytes(send(cut).await).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(rows(&bench).await.len(), 0);
    let slow = begun(async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        Some(Ok(request(vec![span(2)]).encode_to_vec()))
    });
    assert_eq!(send(slow).await.status(), StatusCode::OK);
    assert_eq!(rows(&bench).await.len(), 2, "slow, and whole");
}
