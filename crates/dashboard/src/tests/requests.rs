//! What the page and the command line ask.

use super::{Bench, NOW, bytes, report};
use crate::guard::Door;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use contract::row::{Call, Time};
use serde_json::{Value, json};

fn call(number: u64) -> Call {
    Call {
        time: Time(NOW.0 - number * 1_000_000_000),
        trace_id: format!("{number:032x}"),
        span_id: format!("{number:016x}"),
        service_name: Some("=agent".into()),
        operation_name: Some("chat".into()),
        request_model: Some("gpt-4o".into()),
        duration: Some(0.5),
        cost: Some("0.001".parse().unwrap()),
        ..Call::default()
    }
}

#[tokio::test]
async fn calls_are_paged_filtered_and_found() {
    let bench = Bench::new();
    bench.state.store.insert((1..=5).map(call).collect()).unwrap();
    let (status, page) = bench.get("/api/v1/calls?limit=3&service=%3Dagent&status=ok&model=").await;
    assert_eq!((status, page["calls"].as_array().unwrap().len()), (StatusCode::OK, 3));
    let next = page["next"].as_str().unwrap();
    let (_, last) = bench.get(&format!("/api/v1/calls?limit=3&before={next}")).await;
    assert_eq!(last["calls"].as_array().unwrap().len(), 2);
    assert!(last.get("next").is_none(), "the last page has no next");
    let id = last["calls"][1]["sonde.call.id"].as_str().unwrap();
    let (status, one) = bench.get(&format!("/api/v1/calls/{id}")).await;
    assert_eq!((status, &one), (StatusCode::OK, &last["calls"][1]));
    assert_eq!(bench.get("/api/v1/calls/nothing").await.0, StatusCode::NOT_FOUND);
    let (_, some) =
        bench.get("/api/v1/calls?from=2026-11-23T11:59:58Z&to=2026-11-23T12:00:00Z").await;
    assert_eq!(some["calls"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn bad_queries_say_what_is_wrong() {
    let bench = Bench::new();
    for (path, said) in [
        ("/api/v1/calls?limit=0", "1 to 1000"),
        ("/api/v1/calls?limit=1001", "1 to 1000"),
        ("/api/v1/calls?limit=x", "query"),
        ("/api/v1/calls?before=xx", "before"),
        ("/api/v1/calls?status=maybe", "status"),
        ("/api/v1/calls?from=yesterday", "from"),
        ("/api/v1/overview?from=2026-11-23T13:00:00Z", "before"),
        ("/api/v1/overview?from=1980-11-23T13:00:00Z", "400 days"),
        ("/api/v1/overview?to=1", "to"),
        ("/api/v1/overview?range=1h", "`range`"),
        ("/api/v1/calls?form=2026-11-23T13:00:00Z", "`form`"),
    ] {
        let (status, body) = bench.get(path).await;
        let message = body["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert!(message.contains(said), "{path}: {message}");
    }
}

#[tokio::test]
async fn files_have_the_rows_and_csv_no_formulas() {
    let bench = Bench::new();
    bench.state.store.insert(vec![call(1), call(2)]).unwrap();
    let request = Request::get("/api/v1/calls.csv").body(Body::empty()).unwrap();
    let response = bench.send(Door::Socket, request).await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/csv"));
    let text = String::from_utf8(bytes(response).await.1).unwrap();
    let lines: Vec<_> = text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("time,service.name,"));
    assert!(lines[1].starts_with("2026-11-23T11:59:59.000000000Z,'=agent,"), "{}", lines[1]);
    let request = Request::get("/api/v1/calls.jsonl").body(Body::empty()).unwrap();
    let text = String::from_utf8(bytes(bench.send(Door::Socket, request).await).await.1).unwrap();
    let (_, page) = bench.get("/api/v1/calls").await;
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(&lines, page["calls"].as_array().unwrap());
}

#[tokio::test]
async fn an_overview_adds_up_the_last_hour_when_nothing_is_said() {
    let bench = Bench::new();
    bench.state.store.insert((1..=5).map(call).collect()).unwrap();
    let (status, overview) = bench.get("/api/v1/overview").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(overview["from"], "2026-11-23T11:00:00.000000000Z");
    assert_eq!(overview["totals"]["calls"], 5);
    assert_eq!(overview["totals"]["cost"], "0.005");
    assert_eq!(overview["series"].as_array().unwrap().len(), 60);
    let (_, other) = bench.get("/api/v1/overview?service=nobody").await;
    assert_eq!(other["totals"]["calls"], 0);
}

#[tokio::test]
async fn numbers_over_time_are_told_apart_as_asked_with_percentiles_or_without() {
    let bench = Bench::new();
    let of_user = |number: u64| Call {
        more: [("user.id".to_owned(), format!("u{}", number % 10).into())].into(),
        cost: Some(contract::row::Money { pico_usd: u128::from(number % 10) }),
        ..call(number)
    };
    bench.state.store.insert((1..=100).map(of_user).collect()).unwrap();
    let span = "from=2026-11-23T11:00:00Z&to=2026-11-23T12:00:00Z";
    for (asked, has_percentiles) in [("", true), ("&percentiles=false", false)] {
        let path = format!("/api/v1/series?{span}&by=user&weight=cost{asked}");
        let (status, series) = bench.get(&path).await;
        assert_eq!((status, &series["step_seconds"]), (StatusCode::OK, &json!(60)));
        let groups = series["groups"].as_array().unwrap();
        // The dearest eight, and the two others as one.
        let names: Vec<_> = groups.iter().map(|group| group["name"].as_str()).collect();
        let named = ["u9", "u8", "u7", "u6", "u5", "u4", "u3", "u2"].map(Some);
        assert_eq!(names, [&named[..], &[None]].concat());
        let calls: Vec<_> = groups.iter().map(|g| g["totals"]["calls"].as_u64()).collect();
        assert_eq!(calls, [vec![Some(10); 8], vec![Some(20)]].concat());
        for group in groups {
            assert_eq!(group["totals"]["duration"].is_object(), has_percentiles, "{group}");
            assert_eq!(group["series"].as_array().unwrap().len(), 60);
        }
    }
    let (_, all) = bench.get(&format!("/api/v1/series?{span}&percentiles=false")).await;
    assert_eq!(all["groups"].as_array().unwrap().len(), 1);
    assert_eq!(all["groups"][0]["totals"]["calls"], 100);
    for asked in ["by=colour", "weight=heavy", "percentiles=some"] {
        let (status, answer) = bench.get(&format!("/api/v1/series?{asked}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
}

#[tokio::test]
async fn the_dial_is_kept_and_refused_with_reasons() {
    let bench = Bench::new();
    let key = "host-1/docker:shop/agent 1";
    assert_eq!(
        bench.owner("POST", "/api/v1/poll", &report("n", key, 0, 0)).await.0,
        StatusCode::OK
    );
    let mut recorded = report("r", "r/process:x", 0, 0);
    recorded["instance"]["recorded"] = true.into();
    bench.owner("POST", "/api/v1/poll", &recorded).await;
    let path = "/api/v1/services/host-1%2Fdocker%3Ashop%2Fagent%201/capture";
    let network = json!({ "level": "network" });
    let (status, answer) = bench.owner("PUT", path, &network).await;
    assert_eq!((status, &answer), (StatusCode::OK, &json!({ "generation": 1 })));
    let (_, services) = bench.get("/api/v1/services").await;
    let row = &services["services"][0];
    assert_eq!(row["sonde.workload.key"], key);
    assert_eq!(
        (&row["sonde.capture.desired"], &row["sonde.capture.state"]),
        (&json!("network"), &json!("pending"))
    );
    assert!(row.get("sonde.last_seen").is_none() && row.get("process.pid").is_none());
    for (path, body, wanted) in [
        (path, json!({ "level": "telepathy" }), StatusCode::BAD_REQUEST),
        (path, json!({ "level": 1 }), StatusCode::UNPROCESSABLE_ENTITY),
        (path, json!({}), StatusCode::UNPROCESSABLE_ENTITY),
        ("/api/v1/services/nobody/capture", network.clone(), StatusCode::NOT_FOUND),
        ("/api/v1/services/r%2Fprocess%3Ax/capture", network.clone(), StatusCode::CONFLICT),
    ] {
        let (status, answer) = bench.owner("PUT", path, &body).await;
        assert_eq!(status, wanted, "{path} {body}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("cannot"), "{answer}");
    }
}

#[tokio::test]
async fn status_tells_of_nodes() {
    let bench = Bench::new();
    bench.owner("POST", "/api/v1/poll", &report("n", "k", 0, 0)).await;
    let (status, body) = bench.get("/api/v1/status").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["recorded"], false);
    assert_eq!(body["instances"][0]["id"], "n");
    assert_eq!(body["instances"][0]["last_poll"], "2026-11-23T12:00:00.000000000Z");
    assert_eq!(body["instances"][0]["connected"], true);
}

#[tokio::test]
async fn hostile_reports_are_cut_to_size_or_refused() {
    let bench = Bench::new();
    let mut body = report("n", "k", 0, 0);
    let workload = body["workloads"][0].clone();
    let long = "\u{1b}[2J".to_owned() + &"x".repeat(100_000);
    body["workloads"][0]["name"] = long.into();
    body["workloads"][0]["attributes"] =
        json!({ "service.name": "forged", "sonde.recorded": "x", "k8s.pod.name": "p" });
    let with_key = |key: &str| {
        let mut workload = workload.clone();
        workload["key"] = key.into();
        workload
    };
    let bad = [String::new(), "a\nb".into(), "k".repeat(2000)];
    body["workloads"].as_array_mut().unwrap().extend(bad.iter().map(|key| with_key(key)));
    assert_eq!(bench.owner("POST", "/api/v1/poll", &body).await.0, StatusCode::OK);
    let (_, services) = bench.get("/api/v1/services").await;
    assert_eq!(services["services"].as_array().unwrap().len(), 1);
    let row = &services["services"][0];
    let name = row["service.name"].as_str().unwrap();
    assert!(name.len() <= 1024 && name.starts_with("[2Jxxx"), "{name}");
    assert_eq!(row["k8s.pod.name"], "p");
    assert!(row.get("sonde.recorded").is_none());
    for body in [json!({}), json!([]), report("", "k", 0, 0), report("a\u{7}", "k", 0, 0)] {
        assert_eq!(bench.owner("POST", "/api/v1/poll", &body).await.0, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn every_path_is_described_and_every_description_has_a_path() {
    let bench = Bench::new();
    let (status, described) = bench.get("/api/v1/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    let paths = described["paths"].as_object().unwrap();
    // Routes are described where they are made (`routes!`); this holds the exceptions to one.
    let source = include_str!("../app.rs");
    assert_eq!(source.matches(".route(").count(), 1, "only openapi.json itself is not described");
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            if path == "/api/v1/events" {
                continue;
            }
            let uri = path.replace("{key}", "x").replace("{id}", "x");
            let (status, body) = bench.owner(&method.to_uppercase(), &uri, &Value::Null).await;
            let missing =
                body["error"]["message"].as_str().is_some_and(|m| m.contains("this path"));
            assert!(
                !missing && status != StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}: {status}"
            );
        }
    }
    let schemas = described["components"]["schemas"].as_object().unwrap();
    let call = &schemas["Call"]["properties"];
    assert!(call["gen_ai.usage.cache_read.input_tokens"].is_object(), "{call}");
}

#[tokio::test]
async fn unknown_paths_are_the_page_or_an_error() {
    let bench = Bench::new();
    for path in ["/api/v1/nothing", "/api/nothing", "/v1/nothing", "/assets/x.js", "/x.png"] {
        let (status, body) = bench.get(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(body["error"]["message"].is_string(), "{path}");
    }
    for path in ["/", "/calls", "/services/some%2Fkey"] {
        let response =
            bench.send(Door::Socket, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    }
    assert_eq!(bench.get("/healthz").await.0, StatusCode::OK);
    assert_eq!(bench.get("/readyz").await.0, StatusCode::OK);
    assert_eq!(bench.get("/version").await.1["protocol"], contract::poll::PROTOCOL);
    bench.stop.send_replace(true);
    assert_eq!(bench.get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
}
