//! Who may pass, from the first minute.

use super::{Bench, bytes, json, report};
use crate::guard::Door;
use axum::body::Body;
use axum::http::{Request, StatusCode, request::Builder};
use serde_json::{Value, json};
use std::time::Duration;
use storage::TokenKind;

fn from_network(method: &str, path: &str) -> Builder {
    let json = "application/json";
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost:8080")
        .header("content-type", json)
}

async fn status(bench: &Bench, request: Builder, body: &Value) -> StatusCode {
    bench.send(Door::Tcp, request.body(body.to_string().into()).unwrap()).await.status()
}

const ASK: [(&str, &str); 17] = [
    ("GET", "/api/v1/services"),
    ("GET", "/api/v1/calls"),
    ("GET", "/api/v1/calls.csv"),
    ("GET", "/api/v1/calls/x"),
    ("GET", "/api/v1/overview"),
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/status"),
    ("PUT", "/api/v1/services/x/capture"),
    ("POST", "/api/v1/logout"),
    ("GET", "/api/v1/services/x/history"),
    ("PUT", "/api/v1/services/x/name"),
    ("GET", "/api/v1/rules"),
    ("PUT", "/api/v1/rules"),
    ("GET", "/api/v1/configuration"),
    ("PUT", "/api/v1/configuration"),
    ("POST", "/api/v1/steps"),
    ("POST", "/api/v1/steps/cancel"),
];
const OWN: [(&str, &str); 6] = [
    ("GET", "/api/v1/tokens"),
    ("POST", "/api/v1/tokens"),
    ("POST", "/api/v1/tokens/revoke"),
    ("POST", "/api/v1/login-links"),
    ("POST", "/api/v1/instances/revoke"),
    ("POST", "/api/v1/instances/readmit"),
];
const SEND: [(&str, &str); 6] = [
    ("POST", "/v1/traces"),
    ("POST", "/v1/metrics"),
    ("POST", "/v1/logs"),
    ("POST", "/api/v1/poll"),
    ("POST", "/api/v1/enrol"),
    ("POST", "/api/controller/poll"),
];

#[tokio::test]
async fn nothing_that_is_kept_is_told_without_a_token() {
    let bench = Bench::new();
    for (method, path) in ASK.into_iter().chain(OWN).chain(SEND) {
        assert_eq!(
            status(&bench, from_network(method, path), &json!({})).await,
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
        for header in ["Bearer wrong", "Bearer ", "Basic x", "sonde_api_"] {
            let request = from_network(method, path).header("authorization", header);
            assert_eq!(
                status(&bench, request, &json!({})).await,
                StatusCode::UNAUTHORIZED,
                "{path} {header}"
            );
        }
        let forged = from_network(method, path)
            .header("cookie", "sonde_session_8080=forged")
            .header("x-forwarded-for", "127.0.0.1")
            .header("x-user", "root");
        assert_eq!(status(&bench, forged, &json!({})).await, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn a_token_is_good_for_its_kind_alone() {
    let bench = Bench::new();
    for kind in [TokenKind::Api, TokenKind::Ingest, TokenKind::Join] {
        let bearer = format!("Bearer {}", bench.token(kind));
        let paths =
            ASK.into_iter().chain(OWN).chain(SEND).filter(|(_, path)| *path != "/api/v1/events");
        for (method, path) in paths {
            let good = match kind {
                TokenKind::Api => ASK.contains(&(method, path)),
                TokenKind::Ingest => path.starts_with("/v1/"),
                TokenKind::Join => SEND.contains(&(method, path)),
            };
            let request = from_network(method, path).header("authorization", &bearer);
            let status = status(&bench, request, &json!({})).await;
            assert_eq!(status != StatusCode::FORBIDDEN, good, "{kind:?} {path}: {status}");
            assert_ne!(status, StatusCode::UNAUTHORIZED, "{kind:?} {path}");
        }
    }
}

#[tokio::test]
async fn a_login_link_works_once_and_its_session_until_logout() {
    let bench = Bench::new();
    let (_, link) = bench.owner("POST", "/api/v1/login-links", &json!({})).await;
    let path = link["url"].as_str().unwrap().strip_prefix("http://localhost:8080").unwrap();
    let login = || from_network("GET", path).body(Body::empty()).unwrap();
    let response = bench.send(Door::Tcp, login()).await;
    assert_eq!(
        (response.status(), &response.headers()["location"]),
        (StatusCode::SEE_OTHER, &"/".parse().unwrap())
    );
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
    assert_eq!(bench.send(Door::Tcp, login()).await.status(), StatusCode::FORBIDDEN, "used");
    let cookie = format!("other=1; {}", cookie.split(';').next().unwrap());
    let with = |method, path| from_network(method, path).header("cookie", &cookie);
    assert_eq!(status(&bench, with("GET", "/api/v1/services"), &json!({})).await, StatusCode::OK);
    assert_eq!(status(&bench, with("GET", "/api/v1/tokens"), &json!({})).await, StatusCode::OK);
    let foreign = with("POST", "/api/v1/tokens").header("origin", "http://evil.test");
    let body = json!({ "kind": "api" });
    assert_eq!(status(&bench, foreign, &body).await, StatusCode::FORBIDDEN);
    assert_eq!(status(&bench, with("POST", "/api/v1/tokens"), &body).await, StatusCode::FORBIDDEN);
    let own = || with("POST", "/api/v1/tokens").header("origin", "http://localhost:8080");
    assert_eq!(status(&bench, own(), &body).await, StatusCode::OK);
    let logout = with("POST", "/api/v1/logout").header("sec-fetch-site", "same-origin");
    assert_eq!(status(&bench, logout, &json!({})).await, StatusCode::NO_CONTENT);
    assert_eq!(
        status(&bench, with("GET", "/api/v1/services"), &json!({})).await,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn tokens_are_made_listed_without_secrets_and_revoked() {
    let bench = Bench::new();
    let (_, made) =
        bench.owner("POST", "/api/v1/tokens", &json!({ "kind": "api", "name": "ci\u{7}" })).await;
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("sonde_api_"));
    let ask =
        || from_network("GET", "/api/v1/status").header("authorization", format!("bearer {token}"));
    assert_eq!(status(&bench, ask(), &json!({})).await, StatusCode::OK);
    // The use is written down beside the request.
    let used = async {
        loop {
            let (_, listed) = bench.get("/api/v1/tokens").await;
            if listed["tokens"][0]["last_used"].is_string() {
                return listed;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let listed = tokio::time::timeout(Duration::from_secs(60), used).await.unwrap();
    assert_eq!(listed["tokens"][0]["name"], "ci");
    assert!(!listed.to_string().contains(&token[12..]));
    let id = &listed["tokens"][0]["id"];
    assert_eq!(
        bench.owner("POST", "/api/v1/tokens/revoke", &json!({ "id": id })).await.0,
        StatusCode::OK
    );
    assert_eq!(status(&bench, ask(), &json!({})).await, StatusCode::UNAUTHORIZED);
    for id in ["", "x", "-1", "99"] {
        let (status, _) = bench.owner("POST", "/api/v1/tokens/revoke", &json!({ "id": id })).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
    let (status, _) = bench.owner("POST", "/api/v1/tokens", &json!({ "kind": "root" })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_foreign_host_name_is_refused_and_every_answer_is_strict() {
    let bench = Bench::new();
    for path in ["/", "/healthz", "/api/v1/services", "/login?code=x"] {
        let request = Request::get(path).header("host", "evil.test").body(Body::empty()).unwrap();
        let response = bench.send(Door::Tcp, request).await;
        assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST, "{path}");
        let headers = response.headers();
        assert!(
            headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'")
        );
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], "no-store");
    }
    let nameless = Request::get("/healthz").body(Body::empty()).unwrap();
    assert_eq!(bench.send(Door::Tcp, nameless).await.status(), StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let bench = Bench::new();
    let token = format!("Bearer {}", bench.token(TokenKind::Join));
    let large = json!({ "kind": "x".repeat(100_000) });
    assert_eq!(
        bench.owner("POST", "/api/v1/tokens", &large).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let mut body = report("n", "k", 0, 0);
    body["instance"]["kernel"] = "x".repeat(1_000_000).into();
    let request = from_network("POST", "/api/v1/poll").header("authorization", &token);
    assert_eq!(status(&bench, request, &body).await, StatusCode::OK, "a report may be large");
    body["instance"]["kernel"] = "x".repeat(9 << 20).into();
    let request = from_network("POST", "/api/v1/poll").header("authorization", &token);
    let response = bench.send(Door::Tcp, request.body(body.to_string().into()).unwrap()).await;
    assert_eq!(bytes(response).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let wrong = from_network("POST", "/api/v1/poll").header("authorization", &token);
    let (status, answer) = json(bench.send(Door::Tcp, wrong.body("{".into()).unwrap()).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["error"]["message"].as_str().unwrap().starts_with("cannot read the report"));
}
