//! Old days go, a disk that fills up is told of, and a full one refuses in a way senders wait for.

use super::{Bench, NOW, bytes};
use crate::guard::Door;
use crate::upkeep::look;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use storage::{Disk, Limits};

const DAY: u64 = 86_400_000_000_000;

/// Sends one call that began so many days ago; status, `retry-after`, and the answer.
async fn send(bench: &Bench, number: u8, days: u64) -> (StatusCode, Option<String>, Value) {
    let (from, to) = (NOW.0 - days * DAY - 1_000_000_000, NOW.0 - days * DAY);
    let span = json!({
        "traceId": format!("{number:032x}"), "spanId": format!("{number:016x}"), "name": "chat m",
        "startTimeUnixNano": from.to_string(), "endTimeUnixNano": to.to_string(),
        "attributes": [{ "key": "gen_ai.operation.name", "value": { "stringValue": "chat" } }],
    });
    let body = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [span] }] }] });
    let request = Request::post("/v1/traces").header("content-type", "application/json");
    let response = bench.send(Door::Socket, request.body(body.to_string().into()).unwrap()).await;
    let retry = response.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
    let (status, body) = bytes(response).await;
    (status, retry, serde_json::from_slice(&body).unwrap_or_default())
}

/// Looks at a disk with so many percent in use.
fn look_at(bench: &Bench, percent: u64) {
    let disk = Disk { total: 1000, available: 1000 - percent * 10 };
    look(&bench.state, &Limits::default(), &move |_| Some(disk));
}

async fn storage(bench: &Bench) -> Value {
    bench.get("/api/v1/status").await.1["storage"].clone()
}

#[tokio::test]
async fn status_tells_how_full_the_disk_is() {
    let bench = Bench::new();
    assert_eq!(storage(&bench).await, Value::Null, "not looked at yet");
    send(&bench, 1, 0).await;
    send(&bench, 2, 3).await;
    look_at(&bench, 50);
    let expected = json!({
        "checked": NOW.to_string(), "standing": "good", "oldest_day": "2026-11-20", "days": 2,
        "keep_days": 30, "engine": "sqlite", "disk_bytes": 1000, "disk_available_bytes": 500, "disk_used_percent": 50,
        "dropped_days": 0,
    });
    assert_eq!(storage(&bench).await, expected);
    look_at(&bench, 85);
    assert_eq!(storage(&bench).await["standing"], "warning");
    look_at(&bench, 90);
    let found = storage(&bench).await;
    assert_eq!((&found["standing"], &found["dropped_days"]), (&json!("dropping"), &json!(1)));
    assert_eq!(found["oldest_day"], "2026-11-23");
}

#[tokio::test]
async fn a_full_disk_refuses_calls_until_there_is_room() {
    let bench = Bench::new();
    look_at(&bench, 97);
    let (status, retry, answer) = send(&bench, 1, 0).await;
    assert_eq!((status, retry.as_deref()), (StatusCode::TOO_MANY_REQUESTS, Some("60")));
    assert!(answer["message"].as_str().unwrap().contains("disk"), "{answer}");
    assert_eq!(storage(&bench).await["standing"], "full");
    look_at(&bench, 40);
    assert_eq!(send(&bench, 1, 0).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_call_of_a_day_that_went_is_named_in_the_answer() {
    let bench = Bench::new();
    send(&bench, 1, 40).await;
    look_at(&bench, 10);
    let (status, _, answer) = send(&bench, 2, 40).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "1", "{answer}");
    assert_eq!(bench.get("/api/v1/status").await.1["received"]["rejected"], 1);
    let total = bench.get("/api/v1/overview?from=2026-10-01T00:00:00Z").await.1;
    assert_eq!(total["totals"]["calls"], 1, "its hour stays");
}
