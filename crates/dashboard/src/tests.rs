//! The API as its callers see it: handlers through the router, and the listeners for real.

mod access;
mod fleet;
mod forward;
mod grpc;
mod hostile;
mod live;
mod requests;
mod senders;
mod telemetry;
mod upkeep;

use crate::app::{App, Shared, app};
use crate::guard::{Door, Hosts};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use contract::row::Time;
use http_body_util::BodyExt;
use serde_json::Value;
use std::sync::Arc;
use storage::{Store, TokenKind};
use tokio::sync::watch;
use tower::ServiceExt;

/// The time of every test: 2026-11-23T12:00:00Z.
const NOW: Time = Time(1_795_435_200_000_000_000);

/// A dashboard without listeners, in a directory of its own.
struct Bench {
    state: App,
    stop: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::at(|| NOW)
    }

    fn at(clock: crate::clock::Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (stop, stopping) = watch::channel(false);
        let hosts = Hosts::Loopback(Vec::new());
        let url = "http://localhost:8080".to_owned();
        let shared = Shared::new(store, hosts, url, "sonde_session_8080".into(), stopping);
        let state = Arc::new(Shared { clock, ..shared });
        Self { state, stop, _dir: dir }
    }

    fn router(&self, door: Door) -> Router {
        app(&self.state, door)
    }

    /// Sends a request through a door.
    async fn send(&self, door: Door, request: Request<Body>) -> Response {
        self.router(door).oneshot(request).await.unwrap()
    }

    /// Asks as the owner, through the socket.
    async fn owner(&self, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(if body.is_null() { Body::empty() } else { body.to_string().into() })
            .unwrap();
        json(self.send(Door::Socket, request).await).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.owner("GET", path, &Value::Null).await
    }

    fn token(&self, kind: TokenKind) -> String {
        self.state.store.make_token(&storage::NewToken::new(kind, "test"), NOW).unwrap()
    }
}

async fn bytes(response: Response) -> (StatusCode, Vec<u8>) {
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

async fn json(response: Response) -> (StatusCode, Value) {
    let (status, body) = bytes(response).await;
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// A report of one node with one workload.
fn report(node: &str, key: &str, generation: u64, wait_seconds: u32) -> Value {
    serde_json::json!({
        "protocol": 1, "generation": generation, "wait_seconds": wait_seconds,
        "instance": { "id": node, "host_name": "h", "version": "0.1.0", "kernel": "6.1", "started_unix_nanos": 1 },
        "workloads": [{
            "key": key, "name": "agent", "platform": "process", "instances": [], "evidence": [],
            "level": "off", "state": "discovered", "reason": "seen",
            "first_seen_unix_nanos": 1, "last_seen_unix_nanos": 0,
        }],
    })
}
