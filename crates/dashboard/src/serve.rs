//! The accept loops. They are ours, because a slow or silent client must not hold a connection
//! for ever.

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// How long a client may take for the head of a request; also how long a connection may idle.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Connections of a door at a time; each controller holds one or two, each page a few.
const MAX_CONNECTIONS: usize = 16_384;
/// How long answers that are under way may take once the dashboard stops.
const DRAIN_TIME: Duration = Duration::from_millis(700);
/// A pause when the system gives no more connections, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Calls that a connection of HTTP/2 may make at a time.
const MAX_STREAMS: u32 = 64;
/// How often a silent connection of HTTP/2 is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Largest sum of headers of a call over HTTP/2.
const MAX_HEADERS: u32 = 64 << 10;

/// The version of HTTP that a door speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    /// HTTP/2 without TLS and without an upgrade, as gRPC speaks it.
    Http2,
}

/// Files beside the connections: databases, the page's listeners, the binary itself.
const OTHER_FILES: u64 = 512;

/// Raises the number of files that this process may open, as far as the system lets it, so that
/// every controller of a large fleet can hold a poll open; says so where that is too few.
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = u64::try_from(MAX_CONNECTIONS).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        tracing::debug!(%error, "cannot raise the number of open files");
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if allowed < wanted {
        tracing::warn!(
            allowed,
            wanted,
            "the system lets this process open few files; with more controllers than that, raise \
             LimitNOFILE of its unit, or `ulimit -n`"
        );
    }
}

/// Something that connections come in by.
pub(crate) trait Listen {
    /// A connection.
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next one; `None` is one that was turned away.
    fn accept(&self) -> impl Future<Output = io::Result<Option<Self::Connection>>> + Send;
}

impl Listen for TcpListener {
    type Connection = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<Option<Self::Connection>> {
        let (connection, _peer) = Self::accept(self).await?;
        // Small answers are all that is sent; waiting for more would only delay them.
        connection.set_nodelay(true)?;
        Ok(Some(connection))
    }
}

impl Listen for UnixListener {
    type Connection = tokio::net::UnixStream;

    /// Only the owner and root come in. The file's mode says the same; this also holds where a
    /// file system ignores modes.
    async fn accept(&self) -> io::Result<Option<Self::Connection>> {
        let (connection, _peer) = Self::accept(self).await?;
        let uid = connection.peer_cred()?.uid();
        let trusted = uid == 0 || uid == rustix::process::geteuid().as_raw();
        Ok(trusted.then_some(connection))
    }
}

/// Serves until `stopping` is true, then lets answers that are under way finish for a moment.
pub(crate) async fn serve(
    listener: impl Listen,
    protocol: Protocol,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        let connection = match accepted {
            Ok(Some(connection)) => connection,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let service = TowerToHyperService::new(router.clone());
        let io = TokioIo::new(connection);
        match protocol {
            Protocol::Http1 => {
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIME)
                    .max_buf_size(64 << 10)
                    .serve_connection(io, service);
                tokio::spawn(until_its_end(graceful.watch(connection), place));
            }
            Protocol::Http2 => {
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .keep_alive_interval(PING_EVERY)
                    .max_concurrent_streams(MAX_STREAMS)
                    .max_header_list_size(MAX_HEADERS)
                    .serve_connection(io, service);
                tokio::spawn(until_its_end(graceful.watch(connection), place));
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIME, graceful.shutdown()).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
}

/// Serves one connection, and gives its place back.
async fn until_its_end(
    connection: impl Future<Output = Result<(), hyper::Error>>,
    place: OwnedSemaphorePermit,
) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended");
    }
    drop(place);
}
