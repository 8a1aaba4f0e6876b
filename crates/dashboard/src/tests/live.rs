//! The listeners for real: polls that wait, events, the socket, start and stop.

use super::report;
use crate::{Config, Dashboard, Error};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "these tests measure how long something took")]
fn now() -> Instant {
    Instant::now()
}

fn start(dir: &Path) -> Dashboard {
    Dashboard::start(Config::new(dir, "127.0.0.1:0".parse().unwrap())).unwrap()
}

/// The token that a controller of this machine joins with, as it finds it.
fn controller_token(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("controller.token")).unwrap().trim().to_owned()
}

/// Sends one request and reads the whole answer: the status line and the body.
fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    token: &str,
    body: &Value,
) -> (u16, Value) {
    let body = body.to_string();
    // In one piece: the dashboard may answer before it has read a body that it does not need.
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

fn tcp(dashboard: &Dashboard) -> TcpStream {
    TcpStream::connect(dashboard.address()).unwrap()
}

fn socket(dir: &Path) -> UnixStream {
    UnixStream::connect(dir.join("sonde.sock")).unwrap()
}

/// The server-sent events of a stream, from now on.
fn listen(dir: &Path) -> impl Iterator<Item = String> + use<> {
    tail(dir, "")
}

/// As [`listen`], of calls that are like this alone.
fn tail(dir: &Path, query: &str) -> impl Iterator<Item = String> + use<> {
    let mut stream = socket(dir);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET /api/v1/events{query} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(": listening")), "the stream begins");
    lines.filter(|line| line.starts_with("event: ") || line.starts_with("data: "))
}

#[test]
fn a_wish_reaches_a_waiting_poll_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dashboard = start(dir.path());
    let token = controller_token(dir.path());
    let first =
        exchange(tcp(&dashboard), "POST", "/api/v1/poll", &token, &report("n", "n/k", 0, 0));
    assert_eq!(first, (200, json!({ "protocol": 1, "generation": 0, "desired": [] })));
    let stream = tcp(&dashboard);
    let poll = std::thread::spawn({
        let token = token.clone();
        move || {
            (exchange(stream, "POST", "/api/v1/poll", &token, &report("n", "n/k", 0, 30)), now())
        }
    });
    while exchange(socket(dir.path()), "GET", "/api/v1/status", "", &Value::Null).1["instances"][0]
        ["connected"]
        != true
    {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(100));
    let wished = now();
    let level = json!({ "level": "network" });
    let wish = exchange(socket(dir.path()), "PUT", "/api/v1/services/n%2Fk/capture", "", &level);
    assert_eq!(wish, (200, json!({ "generation": 1 })));
    let ((status, answer), answered) = poll.join().unwrap();
    assert_eq!(status, 200);
    assert_eq!(
        answer["desired"],
        json!([{ "key": "n/k", "level": "network", "agent": false, "generation": 1 }])
    );
    assert!(answered > wished, "it waited");
    assert!(answered - wished < Duration::from_secs(2), "{:?}", answered - wished);
    let old = exchange(tcp(&dashboard), "POST", "/api/v1/poll", &token, &report("n", "n/k", 0, 30));
    assert_eq!(old.1["generation"], 1, "a poll that is behind is answered at once");
    let begun = now();
    let same = exchange(tcp(&dashboard), "POST", "/api/v1/poll", &token, &report("n", "n/k", 1, 1));
    assert_eq!(same.1["generation"], 1);
    assert!(begun.elapsed() >= Duration::from_secs(1), "one that is not waits its time");
}

#[test]
fn pages_hear_of_calls_and_services() {
    let dir = tempfile::tempdir().unwrap();
    let dashboard = start(dir.path());
    let mut events = listen(dir.path());
    let mut others = tail(dir.path(), "?filter=-model:m");
    let token = &controller_token(dir.path());
    exchange(tcp(&dashboard), "POST", "/api/v1/poll", token, &report("n", "n/k", 0, 0));
    assert_eq!(events.next().unwrap(), "event: services");
    assert_eq!(events.next().unwrap(), "data: {}");
    assert_eq!(events.nth(1).unwrap(), "data: {}", "status");
    let start = crate::clock::system().0.to_string();
    let spans = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [{
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174",
        "startTimeUnixNano": start, "endTimeUnixNano": start,
        "attributes": [{ "key": "gen_ai.request.model", "value": { "stringValue": "m" } }],
    }] }] }] });
    let (status, _) = exchange(tcp(&dashboard), "POST", "/v1/traces", token, &spans);
    assert_eq!((status, events.next().unwrap().as_str()), (200, "event: call"));
    let row: Value =
        serde_json::from_str(events.next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(row["gen_ai.request.model"], "m");
    let mut spans = spans;
    let span = &mut spans["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    span["spanId"] = "eee19b7ec3c1b175".into();
    span["attributes"][0]["value"]["stringValue"] = "other".into();
    exchange(tcp(&dashboard), "POST", "/v1/traces", token, &spans);
    let tailed = others.find(|line| line.starts_with("data: {\"time")).unwrap();
    assert!(tailed.contains("other"), "the first that the filter lets through: {tailed}");
    let id = row["sonde.call.id"].as_str().unwrap();
    let found =
        exchange(socket(dir.path()), "GET", &format!("/api/v1/calls/{id}"), "", &Value::Null);
    assert_eq!(found, (200, row));
}

#[test]
fn stopping_is_prompt_with_polls_and_listeners_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let dashboard = start(dir.path());
    let events = listen(dir.path());
    let (stream, token) = (tcp(&dashboard), controller_token(dir.path()));
    let poll = std::thread::spawn(move || {
        exchange(stream, "POST", "/api/v1/poll", &token, &report("n", "n/k", 0, 30))
    });
    while exchange(socket(dir.path()), "GET", "/api/v1/status", "", &Value::Null).1["instances"][0]
        ["id"]
        != "n"
    {
        std::thread::yield_now();
    }
    let idle = tcp(&dashboard);
    let begun = now();
    dashboard.stop();
    // Far below the thirty seconds that the poll may wait, far above what a busy machine takes.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(poll.join().unwrap().0, 200, "the poll was answered");
    events.for_each(drop);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "the stream ended, not its reader's patience"
    );
    drop(idle);
    assert!(!dir.path().join("sonde.sock").exists());
    start(dir.path());
}

#[test]
fn the_token_of_the_controller_stays_and_a_revoked_one_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(start(dir.path()));
    let token = controller_token(dir.path());
    let again = start(dir.path());
    assert_eq!(controller_token(dir.path()), token);
    let revoked =
        exchange(socket(dir.path()), "POST", "/api/v1/tokens/revoke", "", &json!({ "id": "1" }));
    assert_eq!(revoked.0, 200);
    let refused = exchange(tcp(&again), "POST", "/api/v1/poll", &token, &report("n", "n/k", 0, 0));
    assert_eq!(refused.0, 401);
    drop(again);
    drop(start(dir.path()));
    assert_ne!(controller_token(dir.path()), token);
}

#[test]
fn what_is_wrong_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(dir.path());
    let other = tempfile::tempdir().unwrap();
    let taken = Dashboard::start(Config::new(other.path(), first.address())).unwrap_err();
    assert!(matches!(taken, Error::Taken { .. }));
    assert!(taken.to_string().contains(&first.address().port().to_string()), "{taken}");
    let in_use =
        Dashboard::start(Config::new(dir.path(), "127.0.0.1:0".parse().unwrap())).unwrap_err();
    assert!(matches!(in_use, Error::Storage(storage::Error::InUse { .. })), "{in_use}");
    let (status, _) = exchange(socket(dir.path()), "GET", "/healthz", "", &Value::Null);
    assert_eq!(status, 200, "the first one still has its socket");
    let far =
        Dashboard::start(Config::new(other.path(), "192.0.2.1:1".parse().unwrap())).unwrap_err();
    assert!(matches!(far, Error::Listen { .. }), "{far}");
}

#[test]
fn a_stale_socket_and_a_long_path_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("d".repeat(120));
    std::fs::create_dir(&long).unwrap();
    std::fs::write(long.join("sonde.sock"), "left over").unwrap();
    let dashboard = start(&long);
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let file = std::fs::metadata(long.join("sonde.sock")).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let dir = std::fs::File::open(&long).unwrap();
    let short = format!("/proc/self/fd/{}/sonde.sock", std::os::fd::AsRawFd::as_raw_fd(&dir));
    let (status, _) =
        exchange(UnixStream::connect(short).unwrap(), "GET", "/api/v1/services", "", &Value::Null);
    assert_eq!(status, 200);
    drop(dashboard);
}

#[test]
fn the_login_link_opens_the_door_over_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let dashboard = start(dir.path());
    let link = dashboard.login_link();
    let path = link.strip_prefix(&dashboard.url()).unwrap().to_owned();
    assert_ne!(link, dashboard.login_link());
    let (status, _) = exchange(tcp(&dashboard), "GET", &path, "", &Value::Null);
    assert_eq!(status, 303);
    assert_eq!(exchange(tcp(&dashboard), "GET", &path, "", &Value::Null).0, 403);
}
