//! Those who are asked over a socket: engines of containers, the API server.
//!
//! Their libraries are asynchronous. All of it runs on one thread with one runtime, which belongs to
//! the node and ends with it; everybody else reads tables in memory.

use contract::doctor::Fact;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Where the API server finds a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Whom to ask, and whom to tell.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    /// Sockets of Docker and Podman. One that is not there yet is waited for.
    pub sockets: Vec<PathBuf>,
    /// Directory with a directory for each user, in which engines of their own have sockets:
    /// `/run/user`; none to leave those alone.
    pub run: Option<PathBuf>,
    /// The API server; none where the node belongs to no cluster.
    pub cluster: Option<Cluster>,
}

/// An API server, and how to speak to it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The way in.
    pub access: Access,
    /// Name of this node, where it is known; else it is found out.
    pub node: Option<String>,
    /// Name of this machine: what the node is called where nothing else says it.
    pub host: String,
}

/// The way in to an API server.
#[derive(Debug, Clone)]
pub enum Access {
    /// As the service account of a pod. The token is read again when it has changed.
    ServiceAccount {
        /// `https://HOST:PORT`.
        server: String,
        /// Directory with the files `token`, `ca.crt` and `namespace`.
        directory: PathBuf,
    },
    /// By a file as `kubectl` has it.
    Kubeconfig(PathBuf),
}

/// Called with the id of a container, on the thread of the clients, when it became known or is called
/// something else now: programs in it are to be read again. It must not block.
#[derive(Clone)]
pub(crate) struct Changed(Arc<dyn Fn(&str) + Send + Sync>);

/// Something that runs for as long as the node is open.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The thread; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Clients {
    /// What there is to ask on this machine, by the places where it usually is and by the variables
    /// that its own tools follow: `DOCKER_HOST`, `CONTAINER_HOST`, `KUBERNETES_SERVICE_HOST` and
    /// `_PORT`, `NODE_NAME`. `root` is the root directory of the node, `host` its name.
    pub fn found(root: &Path, host: &str, variable: impl Fn(&str) -> Option<String>) -> Self {
        let named = |name: &str| Some(PathBuf::from(variable(name)?.strip_prefix("unix://")?));
        let usual = ["run/docker.sock", "run/podman/podman.sock"].map(|path| root.join(path));
        let mut sockets = Vec::new();
        for socket in usual.into_iter().chain(named("DOCKER_HOST")).chain(named("CONTAINER_HOST")) {
            if !sockets.contains(&socket) {
                sockets.push(socket);
            }
        }
        let server = |host: String| {
            let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
            // An IPv6 address stands in brackets (RFC 3986 section 3.2.2).
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            Access::ServiceAccount {
                server: format!("https://{host}:{port}"),
                directory: PathBuf::from(SERVICE_ACCOUNT),
            }
        };
        let cluster = variable("KUBERNETES_SERVICE_HOST").map(|address| Cluster {
            access: server(address),
            node: variable("NODE_NAME").or_else(|| variable("K8S_NODE_NAME")),
            host: host.to_owned(),
        });
        Self { sockets, run: Some(root.join("run/user")), cluster }
    }
}

impl Changed {
    pub(crate) fn new(call: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }

    /// Says that a container is called something else now.
    pub(crate) fn tell(&self, container: &str) {
        (self.0)(container);
    }
}

impl fmt::Debug for Changed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Changed")
    }
}

impl Running {
    /// Runs the tasks on a thread called `platforms`.
    pub(crate) fn start(tasks: Vec<Task>) -> io::Result<Self> {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            runtime.block_on(async {
                for task in tasks {
                    drop(tokio::spawn(task));
                }
                // Dropping the sender is as good as a word.
                drop(stopped.await);
            });
            // A question that is in the air is not waited for.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("platforms".to_owned()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Locks; nothing that waits is ever done behind a lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change of a table is whole in itself, so that a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fact about a connection; what others sent is cut to a line.
pub(crate) fn fact(
    name: &str,
    standing: contract::doctor::Standing,
    found: &str,
    remedy: &str,
) -> Fact {
    Fact {
        name: name.to_owned(),
        standing,
        found: crate::process::clean(found, 400),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_to_ask_is_found_by_the_usual_variables() {
        let none = Clients::found(Path::new("/host"), "n1", |_| None);
        assert!(none.cluster.is_none());
        assert_eq!(none.sockets[0], Path::new("/host/run/docker.sock"));
        let variables = |name: &str| {
            let value = match name {
                "DOCKER_HOST" => "unix:///srv/d.sock",
                "CONTAINER_HOST" => "tcp://10.0.0.1:2375",
                "KUBERNETES_SERVICE_HOST" => "fd00::1",
                "KUBERNETES_SERVICE_PORT" => "6443",
                "NODE_NAME" => "worker-3",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let found = Clients::found(Path::new("/"), "n1", variables);
        assert_eq!(found.sockets.last().unwrap(), Path::new("/srv/d.sock"));
        let cluster = found.cluster.unwrap();
        assert_eq!(cluster.node.as_deref(), Some("worker-3"));
        let Access::ServiceAccount { server, .. } = cluster.access else { panic!("no account") };
        assert_eq!(server, "https://[fd00::1]:6443");
    }

    #[test]
    fn the_thread_ends_with_its_owner() {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let task: Task = Box::pin(async move {
            std::future::pending::<()>().await;
            drop(tell);
        });
        drop(Running::start(vec![task]).unwrap());
        assert!(told.recv().is_err(), "the task was dropped");
    }
}
