//! Controllers with credentials of their own, what is hostile among them, and those of OpenLIT.

use super::{Bench, NOW, json as read, report};
use crate::guard::Door;
use axum::http::{Request, StatusCode};
use contract::row::Time;
use serde_json::{Value, json};
use storage::{NewToken, TokenKind};

fn credential(digit: char) -> String {
    format!("sonde_node_{}", digit.to_string().repeat(64))
}

/// Sends a body over the network with a secret.
async fn post(bench: &Bench, path: &str, secret: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::post(path)
        .header("host", "localhost:8080")
        .header("authorization", format!("Bearer {secret}"))
        .header("x-database-config-id", "forged")
        .header("x-instance-id", "n1")
        .header("content-type", "application/json")
        .body(body.to_string().into())
        .unwrap();
    read(bench.send(Door::Tcp, request).await).await
}

fn enrolment(node: &str, digit: char) -> Value {
    json!({ "protocol": 2, "instance": report(node, "", 0, 0)["instance"],
        "credential": credential(digit) })
}

/// A dashboard with a node `n1` that has a credential and a workload.
async fn with_node() -> (Bench, String, String) {
    let bench = Bench::new();
    let join = bench.token(TokenKind::Join);
    let (status, answer) = post(&bench, "/api/v1/enrol", &join, &enrolment("n1", 'a')).await;
    assert_eq!((status, &answer["id"]), (StatusCode::OK, &json!("n1")), "{answer}");
    let secret = credential('a');
    let (status, answer) = post(&bench, "/api/v1/poll", &secret, &report("n1", "n1/k", 0, 0)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    (bench, join, secret)
}

#[tokio::test]
async fn a_credential_speaks_for_its_own_node_alone() {
    let (bench, join, secret) = with_node().await;
    let forged = post(&bench, "/api/v1/poll", &secret, &report("n2", "n2/k", 0, 0)).await;
    assert_eq!(forged.0, StatusCode::FORBIDDEN);
    let shared = post(&bench, "/api/v1/poll", &join, &report("n1", "n1/k", 0, 0)).await;
    assert_eq!(shared.0, StatusCode::FORBIDDEN, "the join token no longer speaks for it");
    let (status, answer) = post(&bench, "/api/v1/poll", &secret, &report("n1", "n2/k", 0, 0)).await;
    assert_eq!((status, &answer["refused"][0]["key"]), (StatusCode::OK, &json!("n2/k")));
    let taken = post(&bench, "/api/v1/enrol", &join, &enrolment("n1", 'b')).await;
    assert_eq!(taken.0, StatusCode::FORBIDDEN, "its name is taken while it is heard");
    let weak = json!({ "protocol": 2, "instance": report("n3", "", 0, 0)["instance"],
        "credential": "sonde_node_1" });
    assert_eq!(post(&bench, "/api/v1/enrol", &join, &weak).await.0, StatusCode::BAD_REQUEST);
    for path in ["/api/v1/enrol", "/api/controller/poll", "/api/v1/steps", "/api/v1/tokens"] {
        let (status, _) = post(&bench, path, &secret, &json!({})).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
    }
    let revoked = bench.owner("POST", "/api/v1/instances/revoke", &json!({ "id": "n1" })).await;
    assert_eq!(revoked.0, StatusCode::OK);
    let late = post(&bench, "/api/v1/poll", &secret, &report("n1", "n1/k", 0, 0)).await;
    assert_eq!(late.0, StatusCode::UNAUTHORIZED);
    let back = post(&bench, "/api/v1/enrol", &join, &enrolment("n1", 'c')).await;
    assert_eq!(back.0, StatusCode::FORBIDDEN, "revoked is revoked");
}

#[tokio::test]
async fn a_node_stays_in_the_cluster_that_it_joined_in() {
    let (bench, _, secret) = with_node().await;
    let mut elsewhere = report("n1", "cluster-deadbeef/kubernetes:shop", 0, 0);
    elsewhere["instance"]["cluster"] = json!({ "id": "deadbeef-0000" });
    let (status, _) = post(&bench, "/api/v1/poll", &secret, &elsewhere).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_expired_token_is_refused_with_the_reason() {
    let bench = Bench::new();
    let new = NewToken { expires: Some(Time(NOW.0 - 1)), ..NewToken::new(TokenKind::Join, "old") };
    let old = bench.state.store.make_token(&new, NOW).unwrap();
    let (status, answer) = post(&bench, "/api/v1/enrol", &old, &enrolment("n", 'a')).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(answer["error"]["message"].as_str().unwrap().contains("its time is over"));
    let body = json!({ "kind": "join", "expires_seconds": 60, "uses": 3, "environment": "e" });
    let (status, made) = bench.owner("POST", "/api/v1/tokens", &body).await;
    assert_eq!(
        (status, &made["expires"]),
        (StatusCode::OK, &json!("2026-11-23T12:01:00.000000000Z"))
    );
    let (_, listed) = bench.get("/api/v1/tokens").await;
    let row = &listed["tokens"][1];
    assert_eq!(
        (&row["uses"], &row["used"], &row["environment"]),
        (&json!(3), &json!(0), &json!("e"))
    );
    assert_eq!(listed["tokens"][0]["expired"], true);
}

#[tokio::test]
async fn what_only_a_join_token_has_is_refused_of_another() {
    let bench = Bench::new();
    for (more, wanted) in [
        (json!({}), StatusCode::OK),
        (json!({ "uses": 1 }), StatusCode::BAD_REQUEST),
        (json!({ "environment": "e" }), StatusCode::BAD_REQUEST),
    ] {
        let mut body = more;
        body["kind"] = "api".into();
        let (status, answer) = bench.owner("POST", "/api/v1/tokens", &body).await;
        assert_eq!(status, wanted, "{body} {answer}");
    }
}

#[tokio::test]
async fn one_workload_that_cannot_be_read_does_not_fail_the_others() {
    let (bench, _, secret) = with_node().await;
    let mut body = report("n1", "n1/good", 0, 0);
    body["workloads"].as_array_mut().unwrap().extend([
        json!({ "key": "n1/bad", "name": 7 }),
        json!("nothing"),
        json!({ "key": "n1/\u{1b}[2J", "platform": "mainframe" }),
    ]);
    let (status, answer) = post(&bench, "/api/v1/poll", &secret, &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["refused"].as_array().unwrap().len(), 3, "{answer}");
    assert!(!answer.to_string().contains("\\u001b"), "{answer}");
    let (_, services) = bench.get("/api/v1/services").await;
    let keys: Vec<_> = services["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["sonde.workload.key"].as_str().unwrap())
        .collect();
    assert!(keys.contains(&"n1/good"), "{keys:?}");
    let (status, _) = post(&bench, "/api/v1/poll", &secret, &json!({ "workloads": [7] })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_step_goes_to_the_node_and_its_result_to_the_history() {
    let (bench, _, secret) = with_node().await;
    let step = json!({ "instance": "n1", "change": "refresh", "reason": "look again" });
    let (status, _) = bench.owner("POST", "/api/v1/steps", &step).await;
    assert_eq!(status, StatusCode::CONFLICT, "its controller takes no steps");
    let mut able = report("n1", "n1/k", 0, 0);
    able["instance"]["capabilities"] = json!(["steps", "restart"]);
    post(&bench, "/api/v1/poll", &secret, &able).await;
    let (status, made) = bench.owner("POST", "/api/v1/steps", &step).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    let (_, wish) = post(&bench, "/api/v1/poll", &secret, &able).await;
    assert_eq!(wish["steps"][0]["id"], made["id"]);
    let mut done = able.clone();
    done["steps"] = json!([{ "id": made["id"], "phase": "done", "output": "a\nb\u{1b}[2J" }]);
    let (_, wish) = post(&bench, "/api/v1/poll", &secret, &done).await;
    assert_eq!(wish["acknowledged"], json!([made["id"]]));
    let (_, steps) = bench.get("/api/v1/steps?instance=n1").await;
    assert_eq!(steps["steps"][0]["end"], "done");
    for (body, wanted) in [
        (json!({ "instance": "n1", "change": "rm -rf /" }), StatusCode::BAD_REQUEST),
        (json!({ "instance": "n1", "change": "instrument" }), StatusCode::BAD_REQUEST),
        (json!({ "instance": "n1", "change": "restart" }), StatusCode::BAD_REQUEST),
        (json!({ "instance": "n1", "change": "undo", "key": "n1/k" }), StatusCode::CONFLICT),
        (json!({ "instance": "n9", "change": "refresh" }), StatusCode::NOT_FOUND),
    ] {
        assert_eq!(bench.owner("POST", "/api/v1/steps", &body).await.0, wanted, "{body}");
    }
}

#[tokio::test]
async fn names_rules_and_layers_are_checked_at_the_border() {
    let (bench, _, secret) = with_node().await;
    let name = "/api/v1/services/n1%2Fk/name";
    assert_eq!(bench.owner("PUT", name, &json!({ "name": "Ada" })).await.0, StatusCode::OK);
    let (_, wish) = post(&bench, "/api/v1/poll", &secret, &report("n1", "n1/k", 0, 0)).await;
    assert_eq!(wish["names"]["n1/k"], "Ada");
    let rules = json!({ "exclude": [{ "namespace": "kube-*" }] });
    assert_eq!(bench.owner("PUT", "/api/v1/rules", &rules).await.0, StatusCode::OK);
    assert_eq!(bench.get("/api/v1/rules").await.1["exclude"], rules["exclude"]);
    let layer = json!({ "layer": "fleet", "name": "", "settings": { "log": "debug" } });
    assert_eq!(bench.owner("PUT", "/api/v1/configuration", &layer).await.0, StatusCode::OK);
    let (_, all) = bench.get("/api/v1/configuration").await;
    assert_eq!(all["instances"][0]["configuration"]["origin"]["log"], "fleet");
    for (path, body) in [
        (name, json!({ "name": "a\u{7}" })),
        (name, json!({ "name": "x".repeat(300) })),
        ("/api/v1/rules", json!({ "include": [{}] })),
        ("/api/v1/rules", json!({ "providers": [{ "name": "", "host": "h" }] })),
        (
            "/api/v1/configuration",
            json!({ "layer": "node", "name": "", "settings": { "log": "debug" } }),
        ),
        (
            "/api/v1/configuration",
            json!({ "layer": "fleet", "name": "", "settings": { "rescan_seconds": 0 } }),
        ),
    ] {
        assert_eq!(bench.owner("PUT", path, &body).await.0, StatusCode::BAD_REQUEST, "{body}");
    }
    let (_, history) = bench.get("/api/v1/services/n1%2Fk/history").await;
    assert!(history["entries"].as_array().unwrap().iter().any(|one| one["kind"] == "name"));
}

fn openlit(status: &str, results: &Value) -> Value {
    json!({ "instance_id": "vm", "cluster_id": "default", "version": "0.10.0", "mode": "linux",
        "node_name": "vm", "services_discovered": 2, "services_instrumented": 0,
        "services": [
            { "service_name": "api", "workload_key": "linux:systemd:api.service",
              "namespace": "", "language_runtime": "python", "llm_providers": ["openai"],
              "open_ports": [], "pid": 101, "exe_path": "/usr/bin/python3.11",
              "instrumentation_status": status, "first_seen": "2026-11-23 09:57:11" },
            { "service_name": "without a key" },
            { "workload_key": 7 },
        ],
        "action_results": results,
        "resource_attributes": { "host.name": "vm",
            "controller.capabilities": "obi_llm_observability,python_sdk_injection_linux_bare_v1" },
        "config_hash": "" })
}

#[tokio::test]
async fn a_controller_of_openlit_is_understood_and_asked_in_its_words() {
    let bench = Bench::new();
    let join = bench.token(TokenKind::Join);
    let poll = "/api/controller/poll";
    let none = json!([]);
    let (status, answer) = post(&bench, poll, &join, &openlit("discovered", &none)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!((&answer["actions"], &answer["config_changed"]), (&none, &json!(true)));
    assert_eq!(answer["refused"], 2, "the rest was taken over");
    let (_, services) = bench.get("/api/v1/services").await;
    let row = &services["services"][0];
    assert_eq!((&row["service.name"], &row["sonde.platform"]), (&json!("api"), &json!("systemd")));
    let key = row["sonde.workload.key"].as_str().unwrap().replace('/', "%2F").replace(':', "%3A");
    let dial = format!("/api/v1/services/{key}/capture");
    assert_eq!(bench.owner("PUT", &dial, &json!({ "level": "network" })).await.0, StatusCode::OK);
    let (_, answer) = post(&bench, poll, &join, &openlit("discovered", &none)).await;
    let action = &answer["actions"][0];
    assert_eq!(action["action_type"], "instrument");
    assert_eq!(action["service_key"], "linux:systemd:api.service");
    let (_, answer) = post(&bench, poll, &join, &openlit("discovered", &none)).await;
    assert_eq!(answer["actions"], none, "it is lent");
    let result = json!([{ "action_id": action["id"], "status": "completed" }]);
    post(&bench, poll, &join, &openlit("instrumented", &result)).await;
    let (_, services) = bench.get("/api/v1/services").await;
    assert_eq!(services["services"][0]["sonde.capture.state"], "capturing");
    assert_eq!(bench.owner("PUT", &dial, &json!({ "level": "off" })).await.0, StatusCode::OK);
    let (_, answer) = post(&bench, poll, &join, &openlit("instrumented", &none)).await;
    assert_eq!(answer["actions"][0]["action_type"], "uninstrument");
    let other = bench.token(TokenKind::Join);
    post(&bench, poll, &other, &openlit("discovered", &none)).await;
    let (_, status) = bench.get("/api/v1/status").await;
    assert_eq!(
        status["instances"].as_array().unwrap().len(),
        2,
        "a token speaks for its own nodes"
    );
    assert_eq!(
        post(&bench, poll, "", &openlit("discovered", &none)).await.0,
        StatusCode::UNAUTHORIZED
    );
}

/// A poll of a controller of OpenLIT that says this of the SDK in its service.
fn openlit_with(agent: &str, source: &str, results: &Value) -> Value {
    let mut poll = openlit("instrumented", results);
    poll["services"][0]["resource_attributes"] = json!({
        "openlit.agent_observability.status": agent,
        "openlit.agent_observability.source": source,
        "openlit.observability.reason": "why",
    });
    poll
}

#[tokio::test]
async fn a_controller_of_openlit_is_asked_for_its_sdk_and_for_its_end() {
    let bench = Bench::new();
    let join = bench.token(TokenKind::Join);
    let none = json!([]);
    let ask = async |agent: &str, source: &str, results: &Value| {
        let poll = openlit_with(agent, source, results);
        post(&bench, "/api/controller/poll", &join, &poll).await.1["actions"].clone()
    };
    let row = async || bench.get("/api/v1/services").await.1["services"][0].clone();
    assert_eq!(ask("disabled", "none", &none).await, none);
    let key = row().await["sonde.workload.key"].as_str().unwrap().to_owned();
    let dial = format!("/api/v1/services/{}/capture", key.replace('/', "%2F").replace(':', "%3A"));
    let set = async |level: &str| {
        let (status, _) = bench.owner("PUT", &dial, &json!({ "level": level })).await;
        assert_eq!(status, StatusCode::OK);
    };
    set("full").await;
    // What stands in the way is said, and nothing is asked.
    assert_eq!(ask("conflict", "existing_otel", &none).await, none);
    assert_eq!(row().await["sonde.agent"]["state"], "conflict");
    assert_eq!(ask("unsupported", "none", &none).await, none);
    assert_eq!(ask("enabled", "existing_openlit", &none).await, none);

    let asked = ask("disabled", "none", &none).await;
    assert_eq!(asked[0]["action_type"], "enable_python_sdk");
    assert_eq!(asked[0]["service_key"], "linux:systemd:api.service");
    let payload: Value = serde_json::from_str(asked[0]["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload["instrumentation_profile"], "controller_managed");
    assert_eq!(asked.as_array().unwrap().len(), 1, "its calls are read already");
    let done = json!([{ "action_id": asked[0]["id"], "status": "completed" }]);
    assert_eq!(ask("enabled", "controller_managed", &done).await, none);
    let shown = row().await;
    assert_eq!(
        (&shown["sonde.capture.observed"], &shown["sonde.capture.state"]),
        (&json!("full"), &json!("capturing"))
    );

    set("network").await;
    // An SDK that it did not put in is not ours to take out.
    assert_eq!(ask("enabled", "existing_openlit", &none).await, none);
    let asked = ask("enabled", "controller_managed", &none).await;
    assert_eq!(asked[0]["action_type"], "disable_python_sdk");
    let done = json!([{ "action_id": asked[0]["id"], "status": "completed" }]);
    assert_eq!(ask("disabled", "none", &done).await, none);
    assert_eq!(row().await["sonde.capture.observed"], "network");
}

#[tokio::test]
async fn a_failing_action_is_tried_again_with_growing_pauses() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SECONDS: AtomicU64 = AtomicU64::new(0);
    let bench = Bench::at(|| Time(NOW.0 + SECONDS.load(Ordering::Relaxed) * 1_000_000_000));
    let join = bench.token(TokenKind::Join);
    let poll = "/api/controller/poll";
    post(&bench, poll, &join, &openlit("discovered", &json!([]))).await;
    let (_, services) = bench.get("/api/v1/services").await;
    let key = services["services"][0]["sonde.workload.key"].as_str().unwrap();
    let key = key.replace('/', "%2F").replace(':', "%3A");
    let level = json!({ "level": "network" });
    bench.owner("PUT", &format!("/api/v1/services/{key}/capture"), &level).await;
    let (mut asked, mut results) = (0, json!([]));
    for _ in 0..3000 {
        let (_, answer) = post(&bench, poll, &join, &openlit("discovered", &results)).await;
        results = json!([]);
        if let Some(action) = answer["actions"].get(0) {
            asked += 1;
            results = json!([{ "action_id": action["id"], "status": "failed", "error": "pip" }]);
        }
        SECONDS.fetch_add(5, Ordering::Relaxed);
    }
    assert_eq!(asked, u64::from(contract::reconcile::MAX_TRIES), "then it is given up");
}
