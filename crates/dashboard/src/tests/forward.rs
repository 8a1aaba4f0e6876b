//! What is passed on, to a second dashboard over real HTTP; and `/metrics`.

use super::NOW;
use crate::{Config, Dashboard, PassOn, Passed, Port};
use contract::row::{Call, Time};
use std::path::Path;
use std::time::{Duration, Instant};

fn start(dir: &Path, forward: Option<PassOn>) -> Dashboard {
    // Whoever made it first is as good as this.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let config = Config::new(dir, ([127, 0, 0, 1], 0).into());
    let http = Some(Port::at(([127, 0, 0, 1], 0).into()));
    let grpc = Some(Port::at(([127, 0, 0, 1], 0).into()));
    Dashboard::start(Config { otlp_http: http, otlp_grpc: grpc, forward, ..config }).unwrap()
}

fn call(number: u64) -> Call {
    Call {
        time: Time(crate::clock::system().0 - 3_000_000_000),
        trace_id: format!("{number:032x}"),
        span_id: format!("{number:016x}"),
        service_name: Some("agent".into()),
        operation_name: Some("chat".into()),
        provider_name: Some("openai".into()),
        request_model: Some("gpt-4o".into()),
        input_tokens: Some(42),
        finish_reasons: vec!["stop".into()],
        duration: Some(0.75),
        cost: "0.25".parse().ok(),
        ..Call::default()
    }
}

fn pass_on(to: &Dashboard, what: Passed) -> PassOn {
    let token = format!("Bearer {}", to.agent_token());
    PassOn {
        endpoint: format!("http://{}/", to.otlp_http().unwrap()),
        what,
        headers: vec![("authorization".into(), token)],
        ca: None,
    }
}

fn send(to: &Dashboard, path: &str, body: Vec<u8>) -> u16 {
    let client = reqwest::blocking::Client::new();
    let request = client
        .post(format!("http://{}{path}", to.otlp_http().unwrap()))
        .header("content-type", "application/x-protobuf")
        .bearer_auth(to.agent_token());
    request.body(body).send().unwrap().status().as_u16()
}

#[expect(clippy::disallowed_methods, reason = "waits for another thread")]
fn until(what: &str, look: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !look() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn calls_are_passed_on_once_and_come_out_equal() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let to = start(far.path(), None);
    let from = start(near.path(), Some(pass_on(&to, Passed::Calls)));
    let calls = [call(1), call(2)];
    let body = crate::otlp::calls_request(&calls);
    assert_eq!(send(&from, "/v1/traces", body.clone()), 200);
    assert_eq!(send(&from, "/v1/traces", body), 200);
    until("both calls", || to.rows().len() == 2);
    assert_eq!(to.rows(), from.rows());
    assert_eq!(to.rows()[0].cost, "0.25".parse().ok());
    assert_eq!(to.counts()["duplicate"], 0, "a call that is sent twice is passed on once");
}

#[test]
fn everything_is_passed_on_as_it_came_and_a_ring_ends() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let to = start(far.path(), None);
    let from = start(near.path(), Some(pass_on(&to, Passed::Everything)));
    assert_eq!(send(&from, "/v1/traces", crate::otlp::calls_request(&[call(1)])), 200);
    // One metric with one point, and one log.
    assert_eq!(send(&from, "/v1/metrics", vec![0x0a, 8, 0x12, 6, 0x12, 4, 0x2a, 2, 0x0a, 0]), 200);
    assert_eq!(send(&from, "/v1/logs", vec![0x0a, 4, 0x12, 2, 0x12, 0]), 200);
    until("all three", || {
        let counts = to.counts();
        (counts["call"], counts["metric"], counts["log"]) == (1, 1, 1)
    });
    drop(from);
    // To itself: what it passed on is taken, and not passed on again.
    let again = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = Config::new(again.path(), ([127, 0, 0, 1], 0).into());
    let forward = PassOn { endpoint: format!("http://{port}"), ..pass_on(&to, Passed::Everything) };
    let config = Config { otlp_http: Some(Port::at(port)), forward: Some(forward), ..config };
    let ring = Dashboard::start(config).unwrap();
    assert_eq!(send(&ring, "/v1/logs", vec![0x0a, 4, 0x12, 2, 0x12, 0]), 200);
    std::thread::sleep(Duration::from_millis(300));
    assert!(ring.counts()["log"] <= 2);
}

#[test]
fn over_grpc_it_is_the_same_also_what_came_as_json() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let to = start(far.path(), None);
    let endpoint = format!("grpc://{}", to.otlp_grpc().unwrap());
    let over_grpc = PassOn { endpoint, ..pass_on(&to, Passed::Everything) };
    let from = start(near.path(), Some(over_grpc));
    assert_eq!(send(&from, "/v1/traces", crate::otlp::calls_request(&[call(1)])), 200);
    assert_eq!(send(&from, "/v1/metrics", vec![0x0a, 8, 0x12, 6, 0x12, 4, 0x2a, 2, 0x0a, 0]), 200);
    let json =
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}"#;
    let request = reqwest::blocking::Client::new()
        .post(format!("http://{}/v1/logs", from.otlp_http().unwrap()))
        .header("content-type", "application/json")
        .bearer_auth(from.agent_token());
    assert_eq!(request.body(json).send().unwrap().status(), 200);
    until("all three", || {
        let counts = to.counts();
        (counts["call"], counts["metric"], counts["log"]) == (1, 1, 1)
    });
    assert_eq!(to.rows(), from.rows());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "that nothing waits is what is tested")]
fn a_receiver_that_is_away_costs_ingest_nothing_and_gets_its_calls_later() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = start(far.path(), None);
    let forward = pass_on(&first, Passed::Calls);
    let address = first.otlp_http().unwrap();
    first.stop();
    let from = start(near.path(), Some(forward));
    let began = Instant::now();
    assert_eq!(send(&from, "/v1/traces", crate::otlp::calls_request(&[call(1)])), 200);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let config = Config::new(far.path(), ([127, 0, 0, 1], 0).into());
    let to = Dashboard::start(Config { otlp_http: Some(Port::at(address)), ..config }).unwrap();
    until("the call", || to.rows().len() == 1);
}

#[test]
fn a_receiver_that_cannot_be_used_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let wrong = |forward: PassOn| {
        let config = Config::new(dir.path(), ([127, 0, 0, 1], 0).into());
        let error = Dashboard::start(Config { forward: Some(forward), ..config }).unwrap_err();
        assert!(error.to_string().starts_with("cannot use"), "{error}");
    };
    let good = PassOn {
        endpoint: "http://127.0.0.1:1".into(),
        what: Passed::Calls,
        headers: Vec::new(),
        ca: None,
    };
    wrong(PassOn { endpoint: "ftp://x".into(), ..good.clone() });
    wrong(PassOn { headers: vec![("a b".into(), "c".into())], ..good.clone() });
    wrong(PassOn { ca: Some("/nowhere".into()), ..good });
}

#[tokio::test]
async fn metrics_are_for_who_may_ask_the_api_and_count_each_call_once() {
    use super::{Bench, bytes};
    use crate::guard::Door;
    use axum::body::Body;
    use axum::http::Request;
    use storage::TokenKind;
    let bench = Bench::new();
    let call = Call { time: Time(NOW.0 - 1_000_000_000), ..call(1) };
    for _ in 0..2 {
        let sent = Request::post("/v1/traces")
            .header("content-type", "application/x-protobuf")
            .body(crate::otlp::calls_request(std::slice::from_ref(&call)).into())
            .unwrap();
        assert_eq!(bench.send(Door::Socket, sent).await.status(), 200);
    }
    let mut report = super::report("n1", "n1/k", 0, 0);
    report["lost"] = serde_json::json!({ "span_unsent": 3 });
    assert_eq!(bench.owner("POST", "/api/v1/poll", &report).await.0, 200);
    let api = bench.token(TokenKind::Api);
    let ask = |token: String| {
        let request = Request::get("/metrics")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        bench.send(Door::Tcp, request)
    };
    assert_eq!(ask("wrong".into()).await.status(), 401);
    assert_eq!(ask(bench.token(TokenKind::Ingest)).await.status(), 403);
    let (status, text) = bytes(ask(api).await).await;
    let text = String::from_utf8(text).unwrap();
    assert_eq!(status, 200);
    let labels =
        "service=\"agent\",provider=\"openai\",model=\"gpt-4o\",operation=\"chat\",outcome=\"ok\"";
    for line in [
        format!("sonde_calls_total{{{labels}}} 1"),
        format!("sonde_call_tokens_total{{{labels},type=\"input\"}} 42"),
        format!("sonde_call_cost_usd_total{{{labels}}} 0.25"),
        format!("sonde_call_duration_seconds_bucket{{{labels},le=\"0.64\"}} 0"),
        format!("sonde_call_duration_seconds_bucket{{{labels},le=\"1.28\"}} 1"),
        format!("sonde_call_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 1"),
        "sonde_received_total{result=\"duplicate\"} 1".to_owned(),
        "sonde_controller_lost_total{id=\"n1\",node=\"h\",reason=\"span_unsent\"} 3".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
