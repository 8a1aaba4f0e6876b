//! The API of a running Sonde, for the commands: through its socket here, or by URL and token.

use crate::cli::{OwnController, Remote, Target};
use crate::failure::Failure;
use crate::place;
use anyhow::Context as _;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest time for one answer; lists of many calls on a busy machine take a second or two.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A token is one line of text; more is a wrong file.
const MAX_TOKEN_BYTES: u64 = 4096;

/// A running Sonde.
#[derive(Debug)]
pub(crate) struct Api {
    client: Client,
    base: String,
    token: Option<String>,
    /// For messages: the URL or the socket.
    place: String,
    socket: Option<PathBuf>,
}

impl Api {
    /// The Sonde that the flags name.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when flags contradict each other or no socket is there.
    pub(crate) fn open(target: &Target) -> Result<Self, Failure> {
        match &target.remote.dashboard {
            Some(url) => Self::remote(url, token(&target.remote)?),
            None => Self::local(target.data_dir.as_deref()),
        }
    }

    /// The Sonde of this machine.
    pub(crate) fn local(data_dir: Option<&Path>) -> Result<Self, Failure> {
        Self::at(place::socket(data_dir)?)
    }

    /// The controller of this machine.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when no controller runs here.
    pub(crate) fn controller(node: &OwnController) -> Result<Self, Failure> {
        let api = Self::at(place::controller_socket(node.data_dir.as_deref())?)?;
        // A dashboard that runs alone answers on the socket, too, and knows no processes.
        let is_controller = api.request(Method::GET, "/api/v1/rules/test").send();
        if is_controller.is_ok_and(|response| response.status() == StatusCode::NOT_FOUND) {
            return Err(Failure::usage(format!(
                "no controller runs here: {} is that of a dashboard alone; run the command on the \
                 node of the program, where `sonde controller` or `sonde up` runs",
                api.place
            )));
        }
        Ok(api)
    }

    fn at(socket: PathBuf) -> Result<Self, Failure> {
        if !socket.exists() {
            return Err(Failure::usage(format!(
                "cannot find a running Sonde: there is no socket `{}`; start one with `sonde up`, \
                 name its --data-dir, or a dashboard elsewhere with --dashboard URL",
                socket.display()
            )));
        }
        let client =
            builder().unix_socket(&*socket).build().context("cannot make an HTTP client")?;
        Ok(Self {
            client,
            base: "http://localhost".to_owned(),
            token: None,
            place: socket.display().to_string(),
            socket: Some(socket),
        })
    }

    fn remote(url: &str, token: Option<String>) -> Result<Self, Failure> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Failure::usage(format!(
                "cannot use `{url}` as a dashboard; write it as https://HOST or http://HOST:PORT"
            )));
        }
        let token = token.ok_or_else(|| {
            Failure::usage(
                "a dashboard elsewhere needs a token: `sonde tokens create --kind api` there makes \
                 one; give it with --token-file or SONDE_TOKEN",
            )
        })?;
        Ok(Self {
            client: builder().build().context("cannot make an HTTP client")?,
            base: url.trim_end_matches('/').to_owned(),
            token: Some(token),
            place: url.to_owned(),
            socket: None,
        })
    }

    /// Answer to a GET, as JSON.
    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Failure> {
        let response = self.send(self.request(Method::GET, path).query(query).timeout(TIMEOUT))?;
        self.json(response)
    }

    /// Answer to a request with a JSON body, as JSON.
    pub(crate) fn send_json(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        let response = self.send(self.request(method, path).json(body).timeout(TIMEOUT))?;
        self.json(response)
    }

    /// Server-sent events, until the server or the reader ends them.
    pub(crate) fn events(&self) -> Result<Response, Failure> {
        self.send(self.request(Method::GET, "/api/v1/events"))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let said = response.json::<Value>().ok().and_then(|body| {
            body.pointer("/error/message").and_then(Value::as_str).map(str::to_owned)
        });
        Err(self.refused(status, said))
    }

    fn json(&self, response: Response) -> Result<Value, Failure> {
        response
            .json()
            .with_context(|| {
                format!("cannot read the answer of {}; is it a Sonde of this version?", self.place)
            })
            .map_err(Failure::from)
    }

    fn unreachable(&self, error: reqwest::Error) -> Failure {
        let denied = self.socket.as_deref().is_some_and(is_denied);
        if denied {
            return Failure::Missing(format!(
                "cannot open `{}`: it belongs to another user; run the command as that user (root, \
                 mostly), or use --dashboard and a token",
                self.place
            ));
        }
        let next = match &self.socket {
            Some(_) => "is it still running? start it with `sonde up`",
            None => "check the address, and that the dashboard runs",
        };
        let reason = anyhow::Error::from(error.without_url());
        Failure::Failed(anyhow::anyhow!("cannot reach Sonde at {}: {reason:#}; {next}", self.place))
    }

    fn refused(&self, status: StatusCode, said: Option<String>) -> Failure {
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Failure::usage(format!(
                "{} does not accept this token; make one there with `sonde tokens create --kind \
                 api`, and give it with --token-file or SONDE_TOKEN",
                self.place
            ));
        }
        let message = said.unwrap_or_else(|| format!("{} answered {status}", self.place));
        if status.is_client_error() {
            Failure::usage(message)
        } else {
            Failure::Failed(anyhow::anyhow!(message))
        }
    }
}

fn builder() -> reqwest::blocking::ClientBuilder {
    Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .timeout(None)
        .user_agent(concat!("sonde/", env!("CARGO_PKG_VERSION")))
}

fn is_denied(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The token of the flags: as it stands, or the first line of its file.
///
/// # Errors
///
/// [`Failure::Usage`] that names the file.
pub(crate) fn token(remote: &Remote) -> Result<Option<String>, Failure> {
    if let Some(token) = &remote.token {
        return Ok(Some(token.trim().to_owned()));
    }
    let Some(file) = &remote.token_file else { return Ok(None) };
    let cannot = |reason: String| {
        Failure::usage(format!("cannot read the token file `{}`: {reason}", file.display()))
    };
    let length = std::fs::metadata(file).map_err(|error| cannot(error.to_string()))?.len();
    if length > MAX_TOKEN_BYTES {
        return Err(cannot(format!("it has {length} bytes; a token is one short line")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| cannot(error.to_string()))?;
    match text.lines().next().map(str::trim) {
        Some(token) if !token.is_empty() => Ok(Some(token.to_owned())),
        _ => Err(cannot("it is empty".to_owned())),
    }
}
