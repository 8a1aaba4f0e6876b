//! The one watch: pods of this node, as they come and go.
//!
//! One list at the start, then changes alone; a watch that breaks goes on where it stopped, and lists
//! anew only when the API server says that too much has happened since. What was known stays known
//! while the server is away.

use super::owners::Owners;
use super::{Identity, Pod, Table, shown};
use crate::clients::{Access, Changed, Cluster, fact, lock};
use crate::node::hex;
use contract::doctor::Standing;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{self, Namespace};
use kube::api::Api;
use kube::config::{
    AuthInfo, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// First and longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tries to read the cluster's name before another is made up: roles are often bound a moment after
/// the pods that need them have started.
const TRIES: u32 = 5;

/// Pods that are remembered; a node runs some hundred.
const MAX_PODS: usize = 4_096;

/// What is lost without the API server.
const REMEDY: &str = "Pods go by what the container runtime says of them. Let the service account get, list and \
                      watch pods, get the namespace kube-system, and get the owners of pods.";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why a watch was given up.
enum End {
    /// The token is not taken any more: there may be a new one.
    Unauthorized,
    Failed(Failure),
}

struct Watch {
    table: Arc<Mutex<Table>>,
    changed: Changed,
    owners: Owners,
    client: kube::Client,
    node: String,
    /// Pods whose owners did not answer, by uid: to be tried again.
    waiting: HashMap<String, v1::Pod>,
    /// Pods that the list in progress has named.
    listed: Option<Vec<String>>,
}

/// Watches for ever.
pub(super) async fn run(cluster: Cluster, table: Arc<Mutex<Table>>, changed: Changed) {
    let mut pause = PAUSES.0;
    let mut was_unauthorized = false;
    loop {
        let (end, did_work) = session(&cluster, &table, &changed).await;
        if did_work {
            (pause, was_unauthorized) = (PAUSES.0, false);
        }
        let reason = match end {
            // A token that was replaced is read again at once, and then with patience.
            End::Unauthorized if !was_unauthorized => {
                was_unauthorized = true;
                continue;
            }
            End::Unauthorized => "it does not take our token".to_owned(),
            End::Failed(failure) => failure.to_string(),
        };
        let found = format!("The API server cannot be asked: {reason}.");
        tell(&table, "kubernetes", Standing::Limited, &found, REMEDY);
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// One client's life; also whether it got as far as a watch.
async fn session(cluster: &Cluster, table: &Arc<Mutex<Table>>, changed: &Changed) -> (End, bool) {
    match begin(cluster, table, changed).await {
        Ok(mut watch) => {
            let mut did_work = false;
            let end = watch.follow(&mut did_work).await;
            (end, did_work)
        }
        Err(end) => (end, false),
    }
}

async fn begin(
    cluster: &Cluster,
    table: &Arc<Mutex<Table>>,
    changed: &Changed,
) -> Result<Watch, End> {
    let (client, authority) = client(&cluster.access).await.map_err(End::Failed)?;
    let identity = identity(&client, &authority, table).await?;
    let node = match &cluster.node {
        Some(node) => node.clone(),
        None => own_node(&client, cluster).await.unwrap_or_else(|| cluster.host.clone()),
    };
    let before = lock(table).cluster.replace(identity.clone());
    if before.as_ref() != Some(&identity) {
        // Every key stands behind the cluster's name.
        let all: Vec<String> = lock(table).containers.keys().cloned().collect();
        all.iter().for_each(|id| changed.tell(id));
    }
    Ok(Watch {
        table: Arc::clone(table),
        changed: changed.clone(),
        owners: Owners::default(),
        client,
        node,
        waiting: HashMap::new(),
        listed: None,
    })
}

/// A client, and what the cluster can be told by where it may not be asked for its name.
async fn client(access: &Access) -> Result<(kube::Client, Vec<u8>), Failure> {
    let file = match access {
        Access::ServiceAccount { server, directory } => account(server, directory),
        Access::Kubeconfig(path) => Kubeconfig::read_from(path)?,
    };
    let mut config =
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    if let Access::ServiceAccount { directory, .. } = access {
        // Read again by the library when the authority is replaced.
        let authority = directory.join("ca.crt");
        config.root_cert_file = Some(authority).filter(|authority| authority.exists());
        // The way to a cluster's own API server leads through no proxy.
        config.proxy_url = None;
    }
    let authority = match &config.root_cert {
        Some(certificates) => certificates.concat(),
        None => config.cluster_url.to_string().into_bytes(),
    };
    Ok((kube::Client::try_from(config)?, authority))
}

/// What a pod knows of its API server, as a file of `kubectl` would say it. The library reads the
/// token again each minute.
fn account(server: &str, directory: &Path) -> Kubeconfig {
    let path = |name: &str| Some(directory.join(name)).filter(|path| path.exists());
    let text = |path: PathBuf| path.to_str().map(str::to_owned);
    let name = "sonde".to_owned();
    let cluster = kube::config::Cluster {
        server: Some(server.to_owned()),
        certificate_authority: path("ca.crt").and_then(text),
        ..kube::config::Cluster::default()
    };
    let user = AuthInfo { token_file: path("token").and_then(text), ..AuthInfo::default() };
    let context = Context { cluster: name.clone(), user: Some(name.clone()), ..Context::default() };
    Kubeconfig {
        clusters: vec![NamedCluster {
            name: name.clone(),
            cluster: Some(cluster),
            ..Default::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: name.clone(),
            auth_info: Some(user),
            ..Default::default()
        }],
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Some(context),
            ..Default::default()
        }],
        current_context: Some(name),
        ..Kubeconfig::default()
    }
}

/// The name of the cluster: the UID of its namespace `kube-system`, which nobody can change.
async fn identity(
    client: &kube::Client,
    authority: &[u8],
    table: &Mutex<Table>,
) -> Result<Identity, End> {
    let api: Api<Namespace> = Api::all(client.clone());
    for _ in 0..TRIES {
        match timeout(PATIENCE, api.get_metadata("kube-system")).await {
            Ok(Ok(namespace)) => {
                let uid = namespace.metadata.uid.unwrap_or_default();
                let scope = uid.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
                lock(table).facts.remove("kubernetes_cluster");
                return Ok(Identity { scope, uid: Some(shown(&uid)) });
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 401 => {
                return Err(End::Unauthorized);
            }
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => {}
            Ok(Err(error)) => return Err(End::Failed(error.into())),
            Err(elapsed) => return Err(End::Failed(elapsed.into())),
        }
        sleep(PAUSES.0).await;
    }
    // A name that is once given stays: keys must not change while we run.
    if let Some(known) = lock(table).cluster.clone() {
        return Ok(known);
    }
    tell(
        table,
        "kubernetes_cluster",
        Standing::Limited,
        "The namespace kube-system may not be read; the cluster goes by its certificate authority.",
        "Let the service account get the namespace kube-system: a new authority makes new services.",
    );
    Ok(Identity { scope: hex(&Sha256::digest(authority), 6), uid: None })
}

/// The node of the pod that we run in, by its name, which is our host's unless the pod uses the
/// network of its node: then the host's name is mostly the node's.
async fn own_node(client: &kube::Client, cluster: &Cluster) -> Option<String> {
    let Access::ServiceAccount { directory, .. } = &cluster.access else { return None };
    let namespace = std::fs::read_to_string(directory.join("namespace")).ok()?;
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let api: Api<v1::Pod> = Api::namespaced(client.clone(), namespace.trim());
    let pod = timeout(PATIENCE, api.get_opt(own.trim())).await.ok()?.ok()??;
    pod.spec?.node_name
}

impl Watch {
    async fn follow(&mut self, did_work: &mut bool) -> End {
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.node));
        let pods: Api<v1::Pod> = Api::all(self.client.clone());
        let mut events = pin!(watcher(pods, config).default_backoff());
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = sleep(PATIENCE), if !self.waiting.is_empty() => {
                    self.try_again().await;
                    continue;
                }
            };
            match event {
                Some(Ok(event)) => {
                    *did_work = true;
                    self.take(event).await;
                }
                Some(Err(error)) => match code(&error) {
                    Some(401) => return End::Unauthorized,
                    // The watch goes on by itself; it is the server's way to say "list again".
                    Some(410) => {}
                    _ => {
                        let found = format!("The API server cannot be asked: {}.", cause(&error));
                        tell(&self.table, "kubernetes", Standing::Limited, &found, REMEDY);
                    }
                },
                None => return End::Failed("the watch ended".into()),
            }
        }
    }

    async fn take(&mut self, event: Event<v1::Pod>) {
        match event {
            Event::Init => self.listed = Some(Vec::new()),
            Event::InitApply(pod) => {
                if let (Some(listed), Some(uid)) = (&mut self.listed, &pod.metadata.uid) {
                    listed.push(uid.clone());
                }
                self.keep(pod).await;
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let mut table = lock(&self.table);
                let gone: Vec<String> =
                    table.pods.keys().filter(|uid| !listed.contains(uid)).cloned().collect();
                gone.iter().for_each(|uid| table.forget(uid));
                drop(table);
                self.tell_good();
            }
            Event::Apply(pod) => {
                self.keep(pod).await;
                self.tell_good();
            }
            Event::Delete(pod) => {
                if let Some(uid) = &pod.metadata.uid {
                    self.waiting.remove(uid);
                    lock(&self.table).forget(uid);
                }
            }
        }
    }

    async fn try_again(&mut self) {
        for (_, pod) in std::mem::take(&mut self.waiting) {
            self.keep(pod).await;
        }
    }

    /// Notes the containers of a pod, under the name of its owner.
    async fn keep(&mut self, pod: v1::Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let containers = containers(&pod);
        let is_full = {
            let table = lock(&self.table);
            table.pods.len() >= MAX_PODS && !table.pods.contains_key(&uid)
        };
        if containers.is_empty() || is_full {
            return;
        }
        let Ok(owner) = self.owners.top(&self.client, &pod).await else {
            if self.waiting.len() < MAX_PODS {
                self.waiting.insert(uid, pod);
            }
            return;
        };
        let spec = pod.spec.as_ref();
        let metadata = pod.metadata;
        let known = Pod {
            namespace: shown(metadata.namespace.as_deref().unwrap_or("default")),
            name: shown(metadata.name.as_deref().unwrap_or_default()),
            uid: shown(&uid),
            node: shown(spec.and_then(|spec| spec.node_name.as_deref()).unwrap_or(&self.node)),
            declared: super::super::declared(metadata.annotations.iter().flatten()),
            labels: metadata.labels.unwrap_or_default(),
            containers: spec.map_or(1, |spec| spec.containers.len()),
            owner,
        };
        let news = lock(&self.table).keep(&Arc::new(known), containers);
        news.iter().for_each(|id| self.changed.tell(id));
    }

    fn tell_good(&self) {
        let pods = lock(&self.table).pods.len();
        let found = format!("The API server names {pods} pods of node {}.", self.node);
        tell(&self.table, "kubernetes", Standing::Good, &found, "");
        if !self.owners.refused.is_empty() {
            let kinds: Vec<&str> = self.owners.refused.iter().map(String::as_str).collect();
            let found = format!("Owners of these kinds may not be read: {}.", kinds.join(", "));
            tell(
                &self.table,
                "kubernetes_owners",
                Standing::Limited,
                &found,
                "Their pods go by the names of these kinds, or by what labels say; let the service \
                 account get them.",
            );
        }
    }
}

/// Id, name and image of each container that has one by now.
fn containers(pod: &v1::Pod) -> Vec<(String, String, String)> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let told = |status: &v1::ContainerStatus| {
        // `containerd://<id>`, `cri-o://<id>`, `docker://<id>`.
        let (_, id) = status.container_id.as_deref()?.split_once("://")?;
        Some((shown(id), shown(&status.name), shown(&status.image)))
    };
    all.into_iter().flatten().flatten().filter_map(told).collect()
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            kube::Error::Api(status) => Some(status.code),
            _ => None,
        },
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::NoResourceVersion => None,
    }
}

/// The end of the chain of causes: what a person can do something about.
fn cause(error: &dyn std::error::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn tell(table: &Mutex<Table>, name: &'static str, standing: Standing, found: &str, remedy: &str) {
    lock(table).facts.insert(name, fact(name, standing, found, remedy));
}
