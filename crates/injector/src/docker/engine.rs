//! Speaks to a container engine over its Unix socket, in values.

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a container has to end where it does not say so, as the engine has it.
const STOP_SECONDS: u64 = 10;

/// The list of 2 000 containers with many labels.
const MAX_ANSWER: usize = 16 << 20;

/// Lines of a log that are told, and their length.
const LOG: (usize, usize) = (8, 1_500);

/// An engine.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    socket: PathBuf,
}

/// Why the engine did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no such thing.
    Missing,
    /// Anything else, as a sentence without an end.
    Other(String),
}

type Answer<T> = Result<T, Failure>;

impl Engine {
    pub(crate) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Whether it is Podman, which speaks to Docker's clients as Docker does.
    pub(crate) async fn is_podman(&self) -> Answer<bool> {
        let version = self.get("/version").await?;
        let parts = version["Components"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(parts.iter().any(|part| part["Name"] == "Podman Engine"))
    }

    /// All that the engine says of a container, by its id or name.
    pub(crate) async fn inspect(&self, container: &str) -> Answer<Value> {
        self.get(&format!("/containers/{container}/json")).await
    }

    /// The same; nothing where there is none.
    pub(crate) async fn find(&self, container: &str) -> Answer<Option<Value>> {
        match self.inspect(container).await {
            Err(Failure::Missing) => Ok(None),
            other => other.map(Some),
        }
    }

    /// All containers with a label, or all, in short form.
    pub(crate) async fn list(&self, label: Option<&str>) -> Answer<Vec<Value>> {
        let filters = match label {
            Some(label) => format!("&filters={}", escaped(&json!({"label": [label]}).to_string())),
            None => String::new(),
        };
        let list = self.get(&format!("/containers/json?all=true{filters}")).await?;
        Ok(list.as_array().cloned().unwrap_or_default())
    }

    /// What was written into the layer of a container.
    pub(crate) async fn changes(&self, id: &str) -> Answer<Value> {
        self.get(&format!("/containers/{id}/changes")).await
    }

    /// The id of an image that a name leads to; nothing where it leads nowhere.
    pub(crate) async fn image(&self, name: &str) -> Answer<Option<String>> {
        match self.get(&format!("/images/{}/json", escaped(name))).await {
            Err(Failure::Missing) => Ok(None),
            other => Ok(other?["Id"].as_str().map(str::to_owned)),
        }
    }

    /// Makes a container, which is not started; gives its id.
    pub(crate) async fn create(&self, name: &str, body: &Value) -> Answer<String> {
        let made = self.post(&format!("/containers/create?name={name}"), Some(body)).await?;
        Ok(made["Id"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) async fn connect(&self, network: &str, body: &Value) -> Answer<()> {
        let path = format!("/networks/{}/connect", escaped(network));
        self.post(&path, Some(body)).await.map(drop)
    }

    /// Gives a container a name that it may have already.
    pub(crate) async fn rename_to(&self, container: &Value, name: &str) -> Answer<()> {
        let id = container["Id"].as_str().unwrap_or_default();
        if container["Name"].as_str().is_some_and(|it| it.trim_start_matches('/') == name) {
            return Ok(());
        }
        self.post(&format!("/containers/{id}/rename?name={name}"), None).await.map(drop)
    }

    /// Sets when a container is started anew by its engine.
    pub(crate) async fn restart_policy(&self, id: &str, policy: &Value) -> Answer<()> {
        let body = json!({"RestartPolicy": policy});
        self.post(&format!("/containers/{id}/update"), Some(&body)).await.map(drop)
    }

    pub(crate) async fn start(&self, id: &str) -> Answer<()> {
        self.post(&format!("/containers/{id}/start"), None).await.map(drop)
    }

    /// Stops a container, with its own signal and the time that it has for it.
    pub(crate) async fn stop(&self, inspect: &Value) -> Answer<()> {
        let id = inspect["Id"].as_str().unwrap_or_default();
        let seconds = inspect["Config"]["StopTimeout"].as_u64().unwrap_or(STOP_SECONDS);
        let patience = PATIENCE + Duration::from_secs(seconds);
        self.ask("POST", &format!("/containers/{id}/stop"), None, patience).await.map(drop)
    }

    /// Removes a container that does not run; its volumes stay.
    pub(crate) async fn remove(&self, id: &str) -> Answer<()> {
        match self.ask("DELETE", &format!("/containers/{id}"), None, PATIENCE).await {
            Err(Failure::Missing) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Whether somebody stopped a container, as far back as the engine remembers.
    pub(crate) async fn was_stopped(&self, id: &str) -> bool {
        let filters = json!({"container": [id], "event": ["stop", "kill"]}).to_string();
        let until = clock_gettime(ClockId::Realtime).tv_sec;
        let path = format!("/events?since=1&until={until}&filters={}", escaped(&filters));
        self.ask("GET", &path, None, PATIENCE).await.is_ok_and(|events| !events.is_empty())
    }

    /// The last lines that a container logged, as the end of a sentence; empty where there are none.
    pub(crate) async fn log(&self, inspect: &Value) -> String {
        let id = inspect["Id"].as_str().unwrap_or_default();
        let path = format!("/containers/{id}/logs?stdout=true&stderr=true&tail={}", LOG.0);
        let said = self.ask("GET", &path, None, PATIENCE).await.unwrap_or_default();
        let said = if inspect["Config"]["Tty"] == true { said.to_vec() } else { unframed(&said) };
        let said = String::from_utf8_lossy(&said);
        let said = said.trim_end();
        if said.is_empty() {
            String::new()
        } else {
            format!("; the end of its log:\n{}\n", end(said))
        }
    }

    async fn get(&self, path: &str) -> Answer<Value> {
        value(&self.ask("GET", path, None, PATIENCE).await?)
    }

    async fn post(&self, path: &str, body: Option<&Value>) -> Answer<Value> {
        let answer = self.ask("POST", path, body, PATIENCE).await?;
        if answer.is_empty() { Ok(Value::Null) } else { value(&answer) }
    }

    /// One request on a connection of its own.
    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Answer<Bytes> {
        match timeout(patience, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(Failure::Other("the engine does not answer in time".to_owned())),
        }
    }

    async fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> Answer<Bytes> {
        let shown = self.socket.display();
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| Failure::Other(format!("the engine at {shown} is away ({error})")))?;
        let other = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
        let connected = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = connected.map_err(|error| other(&error))?;
        drop(tokio::spawn(async move { drop(connection.await) }));
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "localhost");
        if body.is_some() {
            request = request.header(hyper::header::CONTENT_TYPE, "application/json");
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(text))).map_err(|error| other(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| other(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| other(&error))?.to_bytes();
        match status.as_u16() {
            // What is so already is not done again.
            200..=304 => Ok(body),
            404 => Err(Failure::Missing),
            _ => {
                let said: Value = serde_json::from_slice(&body).unwrap_or_default();
                let said = said["message"].as_str().map(str::to_owned);
                Err(Failure::Other(said.unwrap_or_else(|| format!("the engine says {status}"))))
            }
        }
    }
}

fn value(text: &[u8]) -> Answer<Value> {
    serde_json::from_slice(text)
        .map_err(|error| Failure::Other(format!("the engine's answer is no JSON ({error})")))
}

/// What a container wrote, out of the frames that engines send it in: one byte for the stream, three
/// that are nothing, four for the length, big end first.
fn unframed(mut frames: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some((head, rest)) = frames.split_first_chunk::<8>() {
        let [_, _, _, _, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let length = length.min(rest.len());
        text.extend_from_slice(&rest[..length]);
        frames = &rest[length..];
    }
    text
}

/// The end of a text of a bounded length, without what controls a terminal.
fn end(text: &str) -> String {
    let all = text.chars().count();
    text.chars()
        .skip(all.saturating_sub(LOG.1))
        .map(|it| if it.is_control() && it != '\n' { ' ' } else { it })
        .collect()
}

/// Percent-encodes a part of a path or of a query.
fn escaped(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            all.push(char::from(byte));
        } else {
            all.push_str(&format!("%{byte:02X}"));
        }
    }
    all
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => out.write_str("it is gone"),
            Self::Other(why) => out.write_str(why.trim_end_matches('.')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_out_of_its_frames_even_when_it_is_cut() {
        let mut frames = vec![1, 0, 0, 0, 0, 0, 0, 3];
        frames.extend(b"abc");
        frames.extend([2, 0, 0, 0, 0, 0, 0, 9]);
        frames.extend(b"de");
        assert_eq!(unframed(&frames), b"abcde");
        assert_eq!(unframed(&[1, 0]), b"");
    }

    #[test]
    fn what_is_told_of_a_log_is_its_end_without_control() {
        let long = format!("{}\x1b[31mlast\nline", "x".repeat(3_000));
        let told = end(&long);
        assert_eq!(told.chars().count(), LOG.1);
        assert!(told.ends_with(" [31mlast\nline"), "{told}");
    }
}
