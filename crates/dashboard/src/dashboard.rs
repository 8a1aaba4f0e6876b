//! [`Dashboard`]: starts everything, and stops it.

use crate::app::{App, Shared, app, telemetry};
use crate::clock;
use crate::config::{Config, Port};
use crate::forward::{self, Forward};
use crate::guard::{Door, Hosts};
use crate::otlp;
use crate::serve::{Protocol, raise_open_files, serve};
use crate::service_account::ServiceAccounts;
use crate::socket::{self, SocketFile};
use crate::upkeep;
use contract::row::Time;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use storage::{Bearer, NewToken, Place, Store, TokenKind};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the end of the runtime may take once nothing is served any more.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// How often a taken port is tried again, and the pause between two tries: a second in all.
const PORT_TRIES: u32 = 20;
const PORT_PAUSE: Duration = Duration::from_millis(50);

/// Why a dashboard does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory, or something in it, cannot be used.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The address is taken.
    #[error(
        "cannot listen on {address}; another program uses the port: stop it, or name another with --listen"
    )]
    Taken {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; name an address of this machine with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the data directory cannot be made.
    #[error(
        "cannot make `{}`; give the directory to the user that runs sonde, or name another with --data-dir",
        path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A port of OTLP cannot be listened on.
    #[error("cannot listen on {address} for OTLP; name a free address of this machine with {flag}")]
    Otlp {
        /// The address.
        address: SocketAddr,
        /// The flag that names another.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The receiver to forward to cannot be used.
    #[error("{0}")]
    Forward(String),
    /// The runtime of the server cannot start.
    #[error("cannot start the threads of the server")]
    Runtime(#[source] io::Error),
}

/// A running dashboard. It listens until [`stop`](Self::stop), or until it is dropped.
#[derive(Debug)]
pub struct Dashboard {
    state: App,
    address: SocketAddr,
    agent_token: String,
    stopping: watch::Sender<bool>,
    doors: Vec<JoinHandle<()>>,
    otlp: [Option<SocketAddr>; 2],
    runtime: Option<Runtime>,
    _socket: SocketFile,
}

impl Dashboard {
    /// Opens the data directory and listens. When this returns, requests are answered.
    ///
    /// # Errors
    ///
    /// Everything that can be wrong with the configuration, each with what to do.
    pub fn start(config: Config) -> Result<Self, Error> {
        // The port first: it is what is most often wrong, and nothing was touched yet.
        let listener = listen(config.listen)?;
        let address = listener
            .local_addr()
            .map_err(|source| Error::Listen { address: config.listen, source })?;
        let grpc = listen_otlp(config.otlp_grpc, "--otlp-grpc")?;
        let http = listen_otlp(config.otlp_http, "--otlp-http")?;
        let ports = [&grpc, &http]
            .map(|port| port.as_ref().and_then(|listener| listener.local_addr().ok()));
        let service_accounts = ServiceAccounts::of(config.service_accounts.clone());
        let (forward, sending) = match &config.forward {
            Some(to) => {
                let (forward, sending) = Forward::new(to).map_err(cannot_forward)?;
                (Some(forward), Some(sending))
            }
            None => (None, None),
        };
        raise_open_files();
        let place = Place { data_dir: config.data_dir.clone(), calls: config.calls };
        let store = Store::open_with(&place)?;
        kept_token(&store, &config.data_dir, TokenKind::Join)?;
        let agent_token = kept_token(&store, &config.data_dir, TokenKind::Ingest)?;
        let (socket, socket_file) = socket::bind(&config.data_dir)
            .map_err(|source| Error::File { path: config.data_dir.join("sonde.sock"), source })?;
        let (stopping, stopped) = watch::channel(false);
        let hosts = if address.ip().is_loopback() {
            Hosts::Loopback(config.allowed_hosts)
        } else if config.allowed_hosts.is_empty() {
            Hosts::Any
        } else {
            Hosts::Addresses(config.allowed_hosts)
        };
        // Cookies of a host are shared by all its ports; the name keeps two dashboards apart.
        let cookie = format!("sonde_session_{}", address.port());
        let shared = Shared::new(store, hosts, url(address), cookie, stopped.clone());
        let state = Arc::new(Shared { forward, service_accounts, ..shared });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("dashboard")
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        let main = (listener, socket);
        let mut doors = open_doors(&runtime, &state, main, [grpc, http], &stopped)?;
        doors.push(runtime.spawn(upkeep::run(Arc::clone(&state), config.limits, stopped.clone())));
        doors.push(runtime.spawn(upkeep::follow(Arc::clone(&state), stopped.clone())));
        doors.extend(sending.map(|sending| runtime.spawn(sending.run(stopped))));
        let runtime = Some(runtime);
        Ok(Self {
            state,
            address,
            agent_token,
            stopping,
            doors,
            otlp: ports,
            runtime,
            _socket: socket_file,
        })
    }

    /// Address that it listens on, with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Address of OTLP over gRPC, where it listens for that.
    pub fn otlp_grpc(&self) -> Option<SocketAddr> {
        self.otlp[0]
    }

    /// Address of OTLP over HTTP alone, where it listens for that beside its own port.
    pub fn otlp_http(&self) -> Option<SocketAddr> {
        self.otlp[1]
    }

    /// URL of the page.
    pub fn url(&self) -> String {
        self.state.url.clone()
    }

    /// A new link that logs one browser in, once, within 15 minutes. When the store fails it is
    /// the plain URL, and the log says why.
    pub fn login_link(&self) -> String {
        let now = (self.state.clock)();
        let expires = Time(now.0 + crate::api::LINK_NANOS);
        match self.state.store.new_login_code(expires, now) {
            Ok(code) => format!("{}/login?code={code}", self.state.url),
            Err(error) => {
                tracing::error!(%error, "cannot make a login link; `sonde login` makes one when the store answers");
                self.url()
            }
        }
    }

    /// The token of SDKs in programs of this machine: for telemetry alone. It is the same after a
    /// restart, and in `agent.token` of the data directory.
    pub fn agent_token(&self) -> &str {
        &self.agent_token
    }

    /// Stops: waiting polls and listeners are answered at once, other answers may finish for a
    /// moment, what was received is written. Takes less than two seconds.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.stopping.send_replace(true);
        let Some(runtime) = self.runtime.take() else { return };
        for door in self.doors.drain(..) {
            if let Err(error) = runtime.block_on(door) {
                tracing::error!(%error, "the server ended early");
            }
        }
        runtime.shutdown_timeout(LAST_WAIT);
    }
}

/// Listens, with a little patience: a process that was killed keeps its port until it is all gone.
fn listen(address: SocketAddr) -> Result<std::net::TcpListener, Error> {
    let mut tries = 0;
    let listener = loop {
        match std::net::TcpListener::bind(address) {
            Ok(listener) => break listener,
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                return Err(Error::Listen { address, source: error });
            }
            Err(_) if tries == PORT_TRIES => return Err(Error::Taken { address }),
            Err(_) => tries += 1,
        }
        std::thread::sleep(PORT_PAUSE);
    };
    listener.set_nonblocking(true).map_err(|source| Error::Listen { address, source })?;
    Ok(listener)
}

/// Listens for OTLP. A port that nobody asked for is done without when it is taken.
fn listen_otlp(
    port: Option<Port>,
    flag: &'static str,
) -> Result<Option<std::net::TcpListener>, Error> {
    let Some(Port { address, is_optional }) = port else { return Ok(None) };
    let listener = if is_optional {
        std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        })
    } else {
        return match listen(address) {
            Ok(listener) => Ok(Some(listener)),
            Err(Error::Listen { source, .. }) => Err(Error::Otlp { address, flag, source }),
            Err(_taken) => {
                let source = io::Error::from(io::ErrorKind::AddrInUse);
                Err(Error::Otlp { address, flag, source })
            }
        };
    };
    match listener {
        Ok(listener) => Ok(Some(listener)),
        Err(error) => {
            tracing::warn!(%address, %error, "does not listen for OTLP there; {flag} names another");
            Ok(None)
        }
    }
}

/// Serves all that is listened on: the page and the API on the first port, the same on the socket of
/// the owner, telemetry alone on the ports of OTLP over gRPC and over HTTP.
fn open_doors(
    runtime: &Runtime,
    state: &App,
    (port, socket): (std::net::TcpListener, std::os::unix::net::UnixListener),
    [grpc, http]: [Option<std::net::TcpListener>; 2],
    stopped: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<()>>, Error> {
    let _inside = runtime.enter();
    let tcp = tokio::net::TcpListener::from_std(port).map_err(Error::Runtime)?;
    let unix = tokio::net::UnixListener::from_std(socket).map_err(Error::Runtime)?;
    let mut doors = vec![
        runtime.spawn(serve(tcp, Protocol::Http1, app(state, Door::Tcp), stopped.clone())),
        runtime.spawn(serve(unix, Protocol::Http1, app(state, Door::Socket), stopped.clone())),
    ];
    for (listener, protocol, routes) in [
        (grpc, Protocol::Http2, otlp::grpc_routes()),
        (http, Protocol::Http1, otlp::routes().split_for_parts().0),
    ] {
        let Some(listener) = listener else { continue };
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Error::Runtime)?;
        let router = telemetry(state, routes);
        doors.push(runtime.spawn(serve(listener, protocol, router, stopped.clone())));
    }
    Ok(doors)
}

fn cannot_forward(error: forward::Error) -> Error {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        text = format!("{text}: {source}");
    }
    Error::Forward(text)
}

/// The URL that a browser on this machine opens.
fn url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("http://localhost:{}", address.port())
    } else {
        format!("http://{address}")
    }
}

fn is_good(store: &Store, token: &str, wanted: TokenKind) -> bool {
    let bearer = store.bearer(token, clock::system());
    matches!(bearer, Ok(Bearer::Token { kind, .. }) if kind == wanted)
}

/// The token that a file of the data directory holds, if it is still good; else a new one in a new
/// file: `controller.token` for controllers of this machine, `agent.token` for SDKs.
fn kept_token(store: &Store, data_dir: &Path, kind: TokenKind) -> Result<String, Error> {
    let (file, name) = match kind {
        TokenKind::Ingest => ("agent.token", "of SDKs in programs of the dashboard's machine"),
        _ => ("controller.token", "made at the first start"),
    };
    let path = data_dir.join(file);
    let failed = |source| Error::File { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(token) if is_good(store, token.trim(), kind) => {
            return Ok(token.trim().to_owned());
        }
        Ok(_) => std::fs::remove_file(&path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let new = NewToken::new(kind, name);
    let token = store.make_token(&new, clock::system())?;
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    writeln!(file, "{token}").and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(token)
}

#[cfg(test)]
impl Dashboard {
    /// All calls that it keeps, for tests.
    pub(crate) fn rows(&self) -> Vec<contract::row::Call> {
        let query = storage::CallsQuery { limit: 1_000, ..storage::CallsQuery::default() };
        self.state.store.calls(&query).unwrap().calls
    }

    /// What it received, for tests.
    pub(crate) fn counts(&self) -> std::collections::BTreeMap<String, u64> {
        self.state.received.counts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_given_back_in_a_moment_is_waited_for_and_a_taken_one_is_named() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        assert!(
            matches!(listen(address), Err(Error::Taken { address: named }) if named == address)
        );
        let giving_back = std::thread::spawn(move || {
            std::thread::sleep(PORT_PAUSE * 4);
            drop(holder);
        });
        listen(address).unwrap();
        giving_back.join().unwrap();
    }
}
