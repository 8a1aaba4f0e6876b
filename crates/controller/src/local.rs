//! The unix socket of a controller that runs without a dashboard beside it: answers the command
//! line with the same rows as the dashboard's API, for the owner alone (mode 0600).
//!
//! A small HTTP/1.1 of its own: a few paths, read only, one request a connection. The controller never
//! listens on a network.

use crate::event_loop::Notice;
use crate::explain::{Account, Question, Sources};
use crate::export::Backlog;
use crate::poll::Poll;
use crate::programs::Programs;
use crate::rules::Rulebook;
use crate::seen::Seen;
use crate::steps::Steps;
use crate::watcher::{EventQueue, Input};
use anyhow::Context as _;
use contract::capture::Level;
use contract::row::{Asked, Explanation, Node, Rulings, Service, Services, Status, Time};
use contract::rules::Rules;
use contract::workload::{Key, Observed, What};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use workloads::Sockets;

/// A path, and rules to try: some hundred of them.
const MAX_REQUEST: usize = 64 << 10;

/// Longest time that one caller may take; others wait for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the socket answers from.
pub(crate) struct Desk {
    pub(crate) poll: Poll,
    /// Address of the dashboard; empty where there is none.
    pub(crate) dashboard: String,
    pub(crate) backlog: Backlog,
    pub(crate) programs: Arc<Programs>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) sockets: Sockets,
    pub(crate) events: EventQueue,
}

/// The socket, until it is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Makes the socket; one that a dead controller left behind is replaced.
    ///
    /// # Errors
    ///
    /// When another controller answers on it, or the directory cannot be written.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        if UnixStream::connect(path).is_ok() {
            anyhow::bail!(
                "cannot use the socket `{}`: another controller answers on it; stop it, or give this one its own data directory",
                path.display()
            );
        }
        if path.exists() {
            fs::remove_file(path)
                .with_context(|| format!("cannot replace the socket `{}`", path.display()))?;
        }
        // Nobody may connect between making it and closing it to others: it is made under another name.
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let listener = UnixListener::bind(&fresh)
            .with_context(|| format!("cannot make the socket `{}`", fresh.display()))?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&fresh, path))
            .with_context(|| format!("cannot make the socket `{}`", path.display()))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers until the stop; [`wake`] ends the waiting for the last caller.
    pub(crate) fn serve(self, desk: &Desk, stop: &Arc<AtomicBool>) {
        for caller in self.listener.incoming() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = caller.and_then(|caller| answer(caller, desk)) {
                tracing::debug!(%error, "cannot answer on the socket");
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

/// Ends the waiting of [`Socket::serve`].
pub(crate) fn wake(path: &Path) {
    drop(UnixStream::connect(path));
}

fn answer(mut caller: UnixStream, desk: &Desk) -> std::io::Result<()> {
    caller.set_read_timeout(Some(PATIENCE))?;
    caller.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") && request.len() < MAX_REQUEST {
        let length = caller.read(&mut piece)?;
        if length == 0 {
            break;
        }
        request.extend_from_slice(piece.get(..length).unwrap_or_default());
    }
    let line = String::from_utf8_lossy(&request);
    let mut words = line.split_whitespace();
    let target = words.nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let poll = &desk.poll;
    let (status, body) = match (line.split_whitespace().next(), path) {
        (Some("GET"), "/api/v1/services") => ("200 OK", serde_json::to_vec(&services(poll))?),
        (Some("GET"), "/api/v1/status") => ("200 OK", serde_json::to_vec(&status(poll))?),
        (Some("GET"), "/api/v1/controller") => ("200 OK", serde_json::to_vec(&desk.standing())?),
        (Some("GET"), "/api/v1/explain") => reply(desk.explain(&value(query, "about")))?,
        (Some("GET"), "/api/v1/rules/test") => match rules(&value(query, "rules")) {
            Ok(rules) => reply(desk.test_rules(&value(query, "about"), rules.as_ref()))?,
            Err(mistake) => ("400 Bad Request", error(&mistake)),
        },
        (Some("GET"), _) => (
            "404 Not Found",
            error(
                "this is a controller, which knows services and status; ask the dashboard for the rest",
            ),
        ),
        _ => (
            "405 Method Not Allowed",
            error("cannot change anything on a controller; do it on the dashboard"),
        ),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    caller.write_all(head.as_bytes())?;
    caller.write_all(&body)
}

fn reply<T: serde::Serialize>(answer: Option<T>) -> std::io::Result<(&'static str, Vec<u8>)> {
    Ok(match answer {
        Some(answer) => ("200 OK", serde_json::to_vec(&answer)?),
        None => ("503 Service Unavailable", error("the controller is busy or stops; ask again")),
    })
}

/// Rules to try; none when none are given.
fn rules(text: &str) -> Result<Option<Rules>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(text).map(Some).map_err(|error| format!("cannot read the rules: {error}"))
}

/// The value of a key in a query, decoded (RFC 3986 section 2.1); empty when it is not there.
fn value(query: &str, key: &str) -> String {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let text = pairs.filter(|(name, _)| *name == key).map(|(_, text)| text).next();
    let mut bytes = text.unwrap_or_default().bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => u8::try_from(high * 16 + low).unwrap_or_default(),
                _ => b'?',
            },
            byte => byte,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

impl Desk {
    /// How this controller stands with its dashboard.
    fn standing(&self) -> serde_json::Value {
        let poll = &self.poll;
        let generation = poll.standings.generation();
        let (waiting, untold) = poll.steps.as_ref().map(Steps::lengths).unwrap_or_default();
        let dashboard = Some(&self.dashboard).filter(|dashboard| !dashboard.is_empty());
        serde_json::json!({
            "id": poll.instance.id,
            "host_name": poll.instance.host_name,
            "version": poll.instance.version,
            "dashboard": dashboard,
            "identity": poll.identity(),
            "poll": poll.agreed.standing(generation, crate::clock::Now::read().monotonic),
            "configuration": poll.tuning.applied(),
            "calls_waiting": self.backlog.length.load(Ordering::Relaxed),
            "steps_waiting": waiting,
            "steps": poll.steps.as_ref().map(Steps::untold).unwrap_or_default(),
            "step_results_waiting": untold,
            "lost": poll.report(0, false).lost,
        })
    }

    fn explain(&self, about: &str) -> Option<Explanation> {
        let account = self.account(about)?;
        let names_of = |addresses: Vec<IpAddr>| {
            let (reply, answer) = sync_channel(1);
            self.events.push(Input::NamesOf(addresses, reply));
            answer.recv_timeout(PATIENCE).unwrap_or_default()
        };
        let report = self.poll.report(0, true);
        let sources = Sources {
            programs: &self.programs,
            seen: &self.seen,
            sockets: &self.sockets,
            names_of: &names_of,
            doctor: report.doctor.as_deref().unwrap_or_default(),
            started_unix_nanos: report.instance.started_unix_nanos,
        };
        Some(account.explain(about, &sources))
    }

    /// What rules say: these, in place of the node's own, or those that hold.
    fn test_rules(&self, about: &str, rules: Option<&Rules>) -> Option<Rulings> {
        let account = self.account(about)?;
        let own = rules.unwrap_or(&account.own_rules);
        let sources = [("this node's", own), ("the dashboard's", &account.their_rules)];
        let book = Rulebook::new(&sources, |id| self.programs.user(id));
        Some(account.rulings(about, &book, &self.programs))
    }

    /// What the event loop knows.
    fn account(&self, about: &str) -> Option<Account> {
        let (reply, answer) = sync_channel(1);
        self.poll.notices.send(Notice::Asked(Question { about: about.to_owned(), reply }));
        answer.recv_timeout(PATIENCE).ok()
    }
}

fn error(message: &str) -> Vec<u8> {
    serde_json::json!({ "error": { "message": message } }).to_string().into_bytes()
}

fn services(poll: &Poll) -> Services {
    let (_, published) = poll.standings.latest();
    let mut services: Vec<Service> = published
        .workloads
        .iter()
        .map(|observed| service(observed, &published.desired, poll))
        .collect();
    services.sort_by(|a, b| (&a.name, &a.key).cmp(&(&b.name, &b.key)));
    Services { services }
}

fn service(observed: &Observed, desired: &BTreeMap<Key, Level>, poll: &Poll) -> Service {
    let first = observed.instances.first();
    let runtime = first.and_then(|instance| instance.runtime.clone());
    Service {
        name: observed.name.clone(),
        key: observed.key.0.clone(),
        platform: observed.platform,
        host_name: Some(poll.instance.host_name.clone()),
        process_pid: first.map(|instance| instance.pid),
        command_args: first.map(|instance| instance.arguments.clone()).unwrap_or_default(),
        runtime_name: runtime.as_ref().map(|runtime| runtime.name.clone()),
        runtime_version: runtime.and_then(|runtime| runtime.version),
        instances: observed.instances.iter().cloned().map(Into::into).collect(),
        providers: Asked::names(&observed.asked, What::Provider),
        models: Asked::names(&observed.asked, What::Model),
        asked: observed.asked.iter().cloned().map(Into::into).collect(),
        evidence: observed.evidence.iter().cloned().map(Into::into).collect(),
        tls: observed.instances.iter().find_map(|instance| instance.tls.clone()),
        desired: desired.get(&observed.key).copied().unwrap_or_default(),
        observed: observed.level,
        state: observed.state,
        reason: observed.reason.clone(),
        // Calls are counted by the dashboard, which keeps them.
        calls_per_minute: 0.0,
        first_seen: Time(observed.first_seen_unix_nanos),
        last_seen: Some(Time(observed.last_seen_unix_nanos)),
        recorded: poll.instance.recorded.then_some(true),
        agent: observed.agent.clone(),
        more: observed
            .attributes
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect(),
    }
}

fn status(poll: &Poll) -> Status {
    let report = poll.report(0, true);
    let now = Time(crate::clock::Now::read().unix_nanos);
    let node = Node {
        id: report.instance.id,
        host_name: report.instance.host_name,
        version: report.instance.version.clone(),
        kernel: report.instance.kernel,
        started: Time(report.instance.started_unix_nanos),
        recorded: report.instance.recorded,
        last_poll: now,
        connected: true,
        generation: report.generation,
        desired_generation: report.generation,
        doctor: report.doctor.unwrap_or_default(),
        lost: report.lost,
        ..Node::default()
    };
    Status {
        version: report.instance.version,
        time: now,
        recorded: node.recorded,
        instances: vec![node],
        received: BTreeMap::new(),
        storage_bytes: 0,
        storage: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_query_are_decoded() {
        let query = "about=a%2Fb+c%C3%A4&rules=%7B%7D&x";
        assert_eq!(value(query, "about"), "a/b cä");
        assert_eq!(value(query, "rules"), "{}");
        assert_eq!((value(query, "x"), value("a=%zz%", "a")), (String::new(), "??".to_owned()));
    }
}
