//! The whole controller, with a real process, a real server and a scripted kernel.

mod discovery;

use super::*;
use crate::clock::Now;
use crate::config::Token;
use crate::reconcile::Action;
use crate::stand_in::{Request, Response, StandIn, Stopwatch};
use crate::watcher::{Kernel, Wake};
use capture::{ConnectionId, Direction, Event, Library, Payload, Plaintext, ProcessId, Watched};
use contract::capture::{Level, State};
use contract::poll::{Desired, OLDEST_PROTOCOL, Report, Wish};
use contract::workload::{By, Key, Observed};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, Sender as Say, channel};
use std::time::SystemTime;
use workloads::Node;

/// A kernel that says what the test tells it to, and notes what it is asked for.
struct Script {
    events: Receiver<Event>,
    asked: Say<(Action, u32)>,
}

impl Kernel for Script {
    fn watch(&mut self, pid: u32) -> Result<Watched, String> {
        self.asked.send((Action::Watch, pid)).map_err(|error| error.to_string())?;
        let path = Arc::new(PathBuf::from("/usr/lib/libssl.so.3"));
        let ticks = Node::open(Path::new("/"), SystemTime::UNIX_EPOCH, "")
            .start_ticks(pid)
            .ok_or("gone")?;
        let libraries = vec![Library { path, functions: vec!["SSL_read"] }];
        Ok(Watched { process: ProcessId::from_ticks(pid, ticks), libraries, refused: Vec::new() })
    }

    fn unwatch(&mut self, pid: u32) {
        self.asked.send((Action::Unwatch, pid)).unwrap_or_default();
    }

    fn make_ready(&mut self, _: bool) {}

    fn ignore(&mut self, _: ConnectionId) {}

    fn interest(&mut self, _: &[IpAddr]) {}

    fn next(&mut self, wait: Duration) -> Option<Event> {
        self.events.recv_timeout(wait.min(Duration::from_millis(5))).ok()
    }

    fn lost(&self) -> BTreeMap<String, u64> {
        BTreeMap::from([("ring_full".to_owned(), 3)])
    }

    fn wake(&self) -> Wake {
        Box::new(|| {})
    }
}

/// A dashboard whose wishes a test sets. It takes no deltas, so that each report that says anything
/// of workloads says all.
struct Wisher {
    server: StandIn,
    wish: Arc<Mutex<Wish>>,
}

impl Wisher {
    fn start() -> Self {
        let wish = Arc::new(Mutex::new(Wish { protocol: OLDEST_PROTOCOL, ..Wish::default() }));
        let shared = Arc::clone(&wish);
        let server = StandIn::start(move |request| match request.path.as_str() {
            "/api/v1/poll" => {
                // Holds a long poll for a moment, as a dashboard does.
                let report: Report = serde_json::from_slice(&request.body).unwrap();
                let generation = || shared.lock().unwrap().generation;
                for _ in 0..20 {
                    if report.wait_seconds == 0 || generation() > report.generation {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                Response::of(200, serde_json::to_vec(&*shared.lock().unwrap()).unwrap())
            }
            _ => Response::of(200, ""),
        });
        Self { server, wish }
    }

    fn want(&self, key: &Key, level: Level) {
        let mut wish = self.wish.lock().unwrap();
        wish.generation += 1;
        wish.desired = vec![Desired { key: key.clone(), level, agent: None, generation: 0 }];
    }

    /// The first report of workloads that is as it should be.
    fn reported(&self, is_right: impl Fn(&Observed) -> bool) -> Observed {
        loop {
            let request = self.server.next("/api/v1/poll");
            let report: Report = serde_json::from_slice(&request.body).unwrap();
            if let Some(observed) = report.workloads.unwrap_or_default().into_iter().find(&is_right)
            {
                return observed;
            }
        }
    }
}

/// A process whose arguments no other test has, so that it is a workload of its own.
struct Client {
    process: Child,
    seconds: String,
}

impl Client {
    fn start() -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        Self::sleeping(format!("60.{}{number:03}", std::process::id()))
    }

    /// Another process of the same workload.
    fn another(&self) -> Self {
        Self::sleeping(self.seconds.clone())
    }

    fn sleeping(seconds: String) -> Self {
        let process = Command::new("sleep").arg(&seconds).stdin(Stdio::null()).spawn().unwrap();
        Self { process, seconds }
    }

    fn id(&self) -> ProcessId {
        let node = Node::open(Path::new("/"), SystemTime::UNIX_EPOCH, "");
        ProcessId::from_ticks(self.process.id(), node.start_ticks(self.process.id()).unwrap())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn config(data_dir: &Path, url: &str) -> Config {
    Config {
        token: Some(Token("t".to_owned())),
        socket: Some(data_dir.join("c.sock")),
        ..Config::new(data_dir, url)
    }
}

fn start(config: Config) -> (Controller, Say<Event>, Receiver<(Action, u32)>) {
    let (say, events) = channel();
    let (asked, asks) = channel();
    let controller = Controller::assemble(config, move |_, watcher, threads| {
        threads.spawn("capture", move || watcher.run(&mut Script { events, asked }))?;
        Ok(Grant::default())
    });
    (controller.unwrap(), say, asks)
}

fn hello(process: ProcessId) -> Event {
    hello_of(process, "api.openai.com", u64::from(process.pid), "127.0.0.1:443")
}

/// A hello for a name, with a random, to a place.
fn hello_of(process: ProcessId, name: &str, random: u64, peer: &str) -> Event {
    Event::Hello {
        process,
        caller: Box::default(),
        at: Now::read().monotonic.0,
        server_name: Some(name.to_owned()),
        ech: false,
        random,
        peer: peer.parse().unwrap(),
    }
}

/// A request in plain text.
fn opening(process: ProcessId, head: &str, peer: SocketAddr) -> Event {
    Event::Opening {
        process,
        caller: Box::default(),
        at: Now::read().monotonic.0,
        peer,
        bytes: Payload::from(head.as_bytes()),
    }
}

fn data(connection: ConnectionId, direction: Direction, offset: u64, text: &str) -> Event {
    let (at, bytes) = (Now::read().monotonic.0, Payload::from(text.as_bytes()));
    Event::Data(Plaintext { connection, at, direction, offset, bytes })
}

/// One chat completion on a connection.
fn exchange(connection: ConnectionId) -> [Event; 2] {
    let question =
        r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"CANARY-PROMPT"}]}"#;
    let answer = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":"CANARY-ANSWER"},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":7,"total_tokens":27}}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nAuthorization: Bearer sk-CANARY-KEY\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{question}",
        question.len()
    );
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    );
    [
        data(connection, Direction::Sent, 0, &request),
        data(connection, Direction::Received, 0, &response),
    ]
}

fn asked(asks: &Receiver<(Action, u32)>) -> (Action, u32) {
    asks.recv_timeout(Duration::from_secs(30)).unwrap()
}

#[test]
fn discovered_then_watched_on_a_wish_then_read_then_left_alone() {
    let (directory, dashboard, client) =
        (tempfile::tempdir().unwrap(), Wisher::start(), Client::start());
    let (controller, say, asks) = start(config(directory.path(), &dashboard.server.url));
    let process = client.id();

    say.send(hello(process)).unwrap();
    let observed = dashboard.reported(|observed| !observed.instances.is_empty());
    assert_eq!((observed.state, observed.level), (State::Discovered, Level::Off));
    assert_eq!(
        (observed.evidence[0].by, observed.evidence[0].seen.as_str()),
        (By::Sni, "api.openai.com")
    );
    assert_eq!(observed.instances[0].arguments, ["sleep", client.seconds.as_str()]);
    assert!(asks.try_recv().is_err(), "nothing is attached before it is wanted");

    dashboard.want(&observed.key, Level::Network);
    assert_eq!(asked(&asks), (Action::Watch, process.pid));
    dashboard.reported(|observed| {
        observed.state == State::Capturing && observed.level == Level::Network
    });

    let connection = ConnectionId { process, object: 7, generation: 1 };
    for event in exchange(connection) {
        say.send(event).unwrap();
    }
    let request = dashboard.server.next("/v1/traces");
    let sent = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
    let span = &sent.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(span.name, "chat gpt-4o-mini");
    assert!(Now::read().unix_nanos.abs_diff(span.end_time_unix_nano) < 10_000_000_000);
    let all = format!("{request:?} {sent:?}");
    assert!(!all.contains("CANARY"), "no content and no key leaves the node");
    dashboard.reported(|observed| observed.evidence.iter().any(|evidence| evidence.by == By::Call));

    dashboard.want(&observed.key, Level::Off);
    assert_eq!(asked(&asks), (Action::Unwatch, process.pid));
    dashboard
        .reported(|observed| observed.state == State::Discovered && observed.level == Level::Off);
    controller.stop();
}

#[test]
fn a_wish_survives_a_restart_and_needs_no_dashboard() {
    let (directory, dashboard, client) =
        (tempfile::tempdir().unwrap(), Wisher::start(), Client::start());
    let process = client.id();
    let (controller, say, asks) = start(config(directory.path(), &dashboard.server.url));
    say.send(hello(process)).unwrap();
    let key = dashboard.reported(|_| true).key;
    dashboard.want(&key, Level::Network);
    assert_eq!(asked(&asks), (Action::Watch, process.pid));
    controller.stop();

    let (controller, _say, asks) = start(config(directory.path(), "http://127.0.0.1:1"));
    assert_eq!(asked(&asks), (Action::Watch, process.pid), "found again, and watched as it was");
    controller.stop();
}

#[test]
fn a_new_process_of_a_watched_workload_is_watched_at_once() {
    let (directory, dashboard, client) =
        (tempfile::tempdir().unwrap(), Wisher::start(), Client::start());
    let (controller, say, asks) = start(config(directory.path(), &dashboard.server.url));
    let process = client.id();
    say.send(hello(process)).unwrap();
    let key = dashboard.reported(|_| true).key;
    dashboard.want(&key, Level::Network);
    assert_eq!(asked(&asks), (Action::Watch, process.pid));

    let other = client.another();
    let is_running = |client: &Client| {
        fs::read_link(format!("/proc/{}/exe", client.process.id())).unwrap().ends_with("sleep")
    };
    while !is_running(&other) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let started = other.id();
    let before = Stopwatch::start();
    let how = capture::Start::Executed;
    say.send(Event::Started { process: started, parent: process, how, at: 1, watched: false })
        .unwrap();
    assert_eq!(asked(&asks), (Action::Watch, started.pid));
    assert!(before.elapsed() < SCAN_ALONE, "{:?}", before.elapsed());

    drop(client);
    say.send(Event::Exited { process, at: 2 }).unwrap();
    assert_eq!(asked(&asks), (Action::Unwatch, process.pid));
    let observed = dashboard.reported(|observed| observed.instances.len() == 1);
    assert_eq!(observed.instances[0].pid, started.pid);
    drop(other);
    say.send(Event::Exited { process: started, at: 3 }).unwrap();
    dashboard
        .reported(|observed| observed.state == State::Stopped && observed.instances.is_empty());
    controller.stop();
}

#[test]
fn a_call_of_a_client_that_is_killed_comes_out() {
    let (directory, dashboard, client) =
        (tempfile::tempdir().unwrap(), Wisher::start(), Client::start());
    let (controller, say, _asks) = start(config(directory.path(), &dashboard.server.url));
    let process = client.id();
    say.send(hello(process)).unwrap();
    dashboard.reported(|_| true);
    let [request, _] = exchange(ConnectionId { process, object: 7, generation: 1 });
    say.send(request).unwrap();
    drop(client);
    say.send(Event::Exited { process, at: Now::read().monotonic.0 }).unwrap();
    let sent =
        ExportTraceServiceRequest::decode(dashboard.server.next("/v1/traces").body.as_slice())
            .unwrap();
    let span = &sent.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(span.status.as_ref().unwrap().code, 2, "{span:?}");
    controller.stop();
}

#[test]
fn it_runs_where_nothing_can_be_captured_and_says_so() {
    let (directory, dashboard) = (tempfile::tempdir().unwrap(), Wisher::start());
    let config = Config { ebpf: false, ..config(directory.path(), &dashboard.server.url) };
    let controller = Controller::start(config).unwrap();
    assert!(controller.missing.as_deref().unwrap().contains("switched off"));
    let doctor = loop {
        let report: Report =
            serde_json::from_slice(&dashboard.server.next("/api/v1/poll").body).unwrap();
        if let Some(doctor) = report.doctor {
            break doctor;
        }
    };
    assert!(doctor.iter().any(|fact| fact.name == "ebpf" && !fact.remedy.is_empty()), "{doctor:?}");
    controller.stop();
}

fn ask_socket(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_socket_answers_its_owner_alone() {
    let (directory, dashboard, client) =
        (tempfile::tempdir().unwrap(), Wisher::start(), Client::start());
    let (controller, say, _asks) = start(config(directory.path(), &dashboard.server.url));
    let path = directory.path().join("c.sock");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    say.send(hello(client.id())).unwrap();
    dashboard.reported(|_| true);

    let answer = ask_socket(&path, "GET /api/v1/services HTTP/1.1\r\nHost: x\r\n\r\n");
    let services: contract::row::Services =
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(services.services[0].process_pid, Some(client.process.id()));
    assert_eq!(services.services[0].providers, ["openai"]);
    let answer = ask_socket(&path, "GET /api/v1/status HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("doctor"), "{answer}");
    assert!(ask_socket(&path, "GET /etc/passwd HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(ask_socket(&path, "PUT /api/v1/services HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));

    let other = Controller::start(Config {
        ebpf: false,
        ..config(directory.path(), &dashboard.server.url)
    });
    assert!(format!("{:#}", other.unwrap_err()).contains("another controller"));
    controller.stop();
    assert!(!path.exists());
}

#[test]
fn losses_of_both_sides_are_reported() {
    let (directory, dashboard) = (tempfile::tempdir().unwrap(), Wisher::start());
    let (controller, _say, _asks) = start(config(directory.path(), &dashboard.server.url));
    let lost = |request: &Request| serde_json::from_slice::<Report>(&request.body).unwrap().lost;
    while lost(&dashboard.server.next("/api/v1/poll")).get("ring_full") != Some(&3) {}
    controller.stop();
}

#[test]
fn an_address_that_is_none_is_refused_with_the_next_step() {
    let directory = tempfile::tempdir().unwrap();
    drop(rustls::crypto::ring::default_provider().install_default());
    for dashboard in ["nowhere", "ftp://h", "http://"] {
        let error = Controller::start(Config::new(directory.path(), dashboard)).unwrap_err();
        assert!(format!("{error:#}").contains("write it as"), "{dashboard}: {error:#}");
    }
}

#[test]
fn a_library_that_comes_later_is_noted() {
    let (directory, dashboard, client) =
        (tempfile::tempdir().unwrap(), Wisher::start(), Client::start());
    let (controller, say, asks) = start(config(directory.path(), &dashboard.server.url));
    let process = client.id();
    say.send(hello(process)).unwrap();
    dashboard.want(&dashboard.reported(|_| true).key, Level::Network);
    asked(&asks);
    let path = Arc::new(PathBuf::from("/opt/libssl.so.3"));
    say.send(Event::Attached { process, library: Library { path, functions: vec!["SSL_read"] } })
        .unwrap();
    say.send(Event::Refused { process, path: PathBuf::from("/x"), reason: "no".to_owned() })
        .unwrap();
    dashboard.reported(|observed| observed.state == State::Capturing);
    controller.stop();
}
