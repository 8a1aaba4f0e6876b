//! The HTTP interface of Docker and Podman over their Unix sockets: `GET /containers/json` once, then
//! `GET /events` for as long as the engine runs, and one small question for each container that is
//! made or renamed.
//!
//! Two requests need no library of their own, and here every answer has a limit: a user's engine
//! belongs to the user, who may answer anything.

use super::{Known, Shared, Source};
use crate::cgroup::Engine;
use crate::clients::{Changed, Task, fact, lock};
use contract::doctor::Standing;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// How often sockets that are not there are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// An engine that says nothing for this long is asked again later.
const PATIENCE: Duration = Duration::from_secs(20);

/// The list of 2 000 containers with many labels.
const MAX_LIST: usize = 16 << 20;

/// One event: a line with the container's labels.
const MAX_EVENT: usize = 256 << 10;

/// Containers that are remembered of one engine.
const MAX_CONTAINERS: usize = 16_384;

/// Users whose own engines are looked for.
const MAX_USERS: usize = 256;

/// Events of containers, as they come.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D";

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "Actor", default)]
    actor: Actor,
}

#[derive(Deserialize, Default)]
struct Actor {
    #[serde(rename = "ID", default)]
    id: String,
}

/// One task that finds engines, and starts another for each.
pub(super) fn tasks(
    sockets: &[PathBuf],
    run: &Option<PathBuf>,
    shared: &Arc<Shared>,
    changed: &Changed,
) -> Vec<Task> {
    if sockets.is_empty() && run.is_none() {
        return Vec::new();
    }
    let (sockets, run) = (sockets.to_vec(), run.clone());
    let (shared, changed) = (Arc::clone(shared), changed.clone());
    vec![Box::pin(async move {
        let mut asked: HashMap<PathBuf, tokio::task::JoinHandle<()>> = HashMap::new();
        loop {
            asked.retain(|_, task| !task.is_finished());
            for (socket, user) in present(&sockets, run.as_deref()) {
                shared.is_asked.store(true, Ordering::Relaxed);
                asked.entry(socket.clone()).or_insert_with(|| {
                    tokio::spawn(listen(socket, user, Arc::clone(&shared), changed.clone()))
                });
            }
            sleep(LOOK_EVERY).await;
        }
    })]
}

/// Sockets that are there, with the users whose engines they are.
fn present(sockets: &[PathBuf], run: Option<&Path>) -> Vec<(PathBuf, Option<u32>)> {
    let is_socket = |path: &Path| {
        std::fs::symlink_metadata(path).is_ok_and(|facts| facts.file_type().is_socket())
    };
    let mut found: Vec<_> = Vec::new();
    for socket in sockets {
        // The usual path may be a link to the real one.
        let Ok(real) = socket.canonicalize() else { continue };
        let Ok(facts) = std::fs::metadata(&real) else { continue };
        let user = Some(facts.uid()).filter(|user| *user != 0);
        if facts.file_type().is_socket() && !found.iter().any(|(path, _)| *path == real) {
            found.push((real, user));
        }
    }
    let users = run.and_then(|run| std::fs::read_dir(run).ok()).into_iter().flatten().flatten();
    for entry in users.take(MAX_USERS) {
        let user = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(user) = user.filter(|user| *user != 0) else { continue };
        for name in ["docker.sock", "podman/podman.sock"] {
            let socket = entry.path().join(name);
            if is_socket(&socket) && !found.iter().any(|(path, _)| *path == socket) {
                found.push((socket, Some(user)));
            }
        }
    }
    found
}

/// Listens to one engine until it goes away.
async fn listen(socket: PathBuf, user: Option<u32>, shared: Arc<Shared>, changed: Changed) {
    let shown = socket.display().to_string();
    let listener = Listener { socket, user, shared, changed };
    let failure = match listener.run(&shown).await {
        Ok(()) => "the stream of events ended".to_owned(),
        Err(failure) => failure.to_string(),
    };
    let found = format!("The container engine at {shown} does not answer: {failure}.");
    let remedy = "Names of its containers come from files where those can be read; start the \
                  engine, or let Sonde open its socket.";
    let fact = fact("container_engine", Standing::Limited, &found, remedy);
    lock(&listener.shared.facts).insert(shown, fact);
}

struct Listener {
    socket: PathBuf,
    user: Option<u32>,
    shared: Arc<Shared>,
    changed: Changed,
}

impl Listener {
    async fn run(&self, shown: &str) -> Result<(), Failure> {
        // Asked before the list, so that nothing falls between the two; some engines answer only with
        // the first event.
        let mut asked = pin!(self.ask(EVENTS, None));
        let mut events = None;
        let listed = {
            let mut list = pin!(self.list("/containers/json?all=true"));
            loop {
                tokio::select! {
                    answer = &mut asked, if events.is_none() => events = Some(answer?),
                    listed = &mut list => break listed?,
                }
            }
        };
        let engine = listed.1;
        let count = listed.0.len();
        self.keep(listed.0, engine, true);
        let found = format!("The container engine at {shown} names {count} containers.");
        let fact = fact("container_engine", Standing::Good, &found, "");
        lock(&self.shared.facts).insert(shown.to_owned(), fact);
        let (mut events, _) = match events {
            Some(events) => events,
            None => asked.await?,
        };
        let mut pending = Vec::new();
        while let Some(frame) = events.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            pending.extend_from_slice(&data);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                self.take(&line, engine).await?;
            }
            if pending.len() > MAX_EVENT {
                return Err("an event is longer than any real one".into());
            }
        }
        Ok(())
    }

    /// Takes one event.
    async fn take(&self, line: &[u8], engine: Engine) -> Result<(), Failure> {
        let Ok(event) = serde_json::from_slice::<Event>(line) else { return Ok(()) };
        let id = event.actor.id;
        if event.kind != "container" || !is_id(&id) {
            return Ok(());
        }
        match event.action.as_str() {
            "create" | "start" | "init" | "rename" => {
                let path =
                    format!("/containers/json?all=true&filters=%7B%22id%22%3A%5B%22{id}%22%5D%7D");
                let (found, _) = self.list(&path).await?;
                self.keep(found, engine, false);
            }
            "destroy" | "remove" => self.forget(&id, engine),
            _ => {}
        }
        Ok(())
    }

    fn source(&self, engine: Engine) -> Source {
        Source { engine, user: self.user }
    }

    fn forget(&self, id: &str, engine: Engine) {
        let source = self.source(engine);
        let mut table = lock(&self.shared.containers);
        if table.get(id).is_some_and(|(owner, _)| *owner == source) {
            table.remove(id);
        }
    }

    /// Writes the table, then tells what is new in it.
    fn keep(&self, containers: Vec<(String, Known)>, engine: Engine, is_all: bool) {
        let source = self.source(engine);
        let mut news = Vec::new();
        {
            let mut table = lock(&self.shared.containers);
            if is_all {
                table.retain(|id, (owner, _)| {
                    *owner != source || containers.iter().any(|(listed, _)| listed == id)
                });
            }
            for (id, known) in containers {
                let entry = table.get(&id);
                let has_room = entry.is_some() || table.len() < MAX_CONTAINERS;
                let is_theirs = entry.is_none_or(|(owner, _)| *owner == source);
                let is_new = entry.is_none_or(|(_, before)| *before != known);
                if is_theirs && is_new && has_room {
                    table.insert(id.clone(), (source, known));
                    news.push(id);
                }
            }
        }
        for id in news {
            self.changed.tell(&id);
        }
    }

    async fn list(&self, path: &str) -> Result<(Vec<(String, Known)>, Engine), Failure> {
        let (body, engine) = self.ask(path, Some(PATIENCE)).await?;
        let body = timeout(PATIENCE, Limited::new(body, MAX_LIST).collect()).await??.to_bytes();
        let list: Vec<Summary> = serde_json::from_slice(&body)?;
        let known = list.into_iter().filter(|summary| is_id(&summary.id)).map(known).collect();
        Ok((known, engine))
    }

    /// One request on a connection of its own; `patience` for its answer, or all the time there is.
    async fn ask(
        &self,
        path: &str,
        patience: Option<Duration>,
    ) -> Result<(Incoming, Engine), Failure> {
        let stream = timeout(PATIENCE, UnixStream::connect(&self.socket)).await??;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        drop(tokio::spawn(async move { drop(connection.await) }));
        let request = hyper::Request::get(path)
            .header(hyper::header::HOST, "localhost")
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request);
        let response = match patience {
            Some(patience) => timeout(patience, answer).await??,
            None => answer.await?,
        };
        if !response.status().is_success() {
            return Err(format!("it answers {}", response.status()).into());
        }
        let server = response.headers().get(hyper::header::SERVER);
        let server = server.and_then(|server| server.to_str().ok()).unwrap_or_default();
        let engine = if server.starts_with("Libpod") { Engine::Podman } else { Engine::Docker };
        // The connection lives in its task; the sender is not needed for the rest of the body.
        Ok((response.into_body(), engine))
    }
}

fn known(summary: Summary) -> (String, Known) {
    let name = summary.names.and_then(|names| {
        // A link of old Docker is another container's word for this one: `/other/alias`.
        names
            .into_iter()
            .map(|name| name.trim_start_matches('/').to_owned())
            .find(|name| !name.contains('/'))
    });
    let labels = summary.labels.unwrap_or_default().into_iter().take(super::super::MAX_LABELS);
    let known =
        Known { name: name.unwrap_or_default(), image: summary.image, labels: labels.collect() };
    (summary.id, known)
}

fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
