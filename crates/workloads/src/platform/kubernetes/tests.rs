//! Names of pods, and an API server that answers what a test says.

use super::*;
use crate::clients::{Access, Cluster, Running};
use contract::doctor::Standing;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// Longer than anything here takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The objects of a cluster, and what was asked of it.
#[derive(Default)]
struct Api {
    /// Answers by path: a status and a body.
    objects: Mutex<HashMap<String, (u16, Value)>>,
    /// Lines that the next watches send, one list a watch; a watch without any stays open.
    watches: Mutex<Vec<Vec<Value>>>,
    /// The token that is taken; any when empty.
    token: Mutex<String>,
    /// Every request as `path?query`.
    asked: Mutex<Vec<String>>,
    is_closed: AtomicBool,
}

impl Api {
    fn count(&self, part: &str) -> usize {
        lock(&self.asked).iter().filter(|path| path.contains(part)).count()
    }

    /// Lists of pods, as opposed to watches.
    fn lists(&self) -> usize {
        let is_list = |path: &&String| path.contains("/pods?") && !path.contains("watch=true");
        lock(&self.asked).iter().filter(is_list).count()
    }

    fn set(&self, path: &str, status: u16, body: Value) {
        lock(&self.objects).insert(path.to_owned(), (status, body));
    }

    fn answer(&self, stream: &mut TcpStream, path: &str, token: &str) -> std::io::Result<()> {
        lock(&self.asked).push(path.to_owned());
        let expected = lock(&self.token).clone();
        let (status, body) = if !expected.is_empty() && token != expected {
            (401, refusal(401))
        } else if path.contains("watch=true") {
            return self.watch(stream);
        } else {
            let object = path.split('?').next().unwrap_or_default();
            lock(&self.objects).get(object).cloned().unwrap_or((404, refusal(404)))
        };
        let body = body.to_string();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn watch(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let events = {
            let mut watches = lock(&self.watches);
            if watches.is_empty() { None } else { Some(watches.remove(0)) }
        };
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")?;
        for event in events.iter().flatten() {
            writeln!(stream, "{event}")?;
        }
        // The last one stays open until the test is over.
        while events.is_none() && !self.is_closed.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        stream.shutdown(std::net::Shutdown::Both)
    }
}

fn refusal(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "No", "code": code})
}

fn serve(api: &Arc<Api>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let api = Arc::clone(api);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let api = Arc::clone(&api);
            std::thread::spawn(move || drop(converse(stream, &api)));
        }
    });
    address
}

fn converse(mut stream: TcpStream, api: &Api) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut token = String::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("authorization") {
                token = value.trim_start_matches("Bearer ").to_owned();
            }
        }
        api.answer(&mut stream, &path, &token)?;
    }
}

fn owner(kind: &str, api_version: &str, name: &str, uid: &str) -> Value {
    json!({"kind": kind, "apiVersion": api_version, "name": name, "uid": uid, "controller": true})
}

fn metadata(name: &str, uid: &str, owners: &[Value]) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
           "metadata": {"name": name, "namespace": "shop", "uid": uid, "ownerReferences": owners}})
}

fn pod(name: &str, id: &str, owners: &[Value]) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": "7",
                     "labels": {"app": "web", "pod-template-hash": "7d4b9c6f5d"}, "ownerReferences": owners},
        "spec": {"nodeName": "n1", "containers": [{"name": "app"}]},
        "status": {"containerStatuses": [{
            "name": "app", "image": "web:1", "imageID": "", "ready": true, "restartCount": 0,
            "containerID": format!("containerd://{id}")}]},
    })
}

fn list(pods: &[Value]) -> Value {
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "5"}, "items": pods})
}

/// A cluster with the pods given, `kube-system`, and a Deployment `web` with its replica set.
fn cluster(pods: &[Value]) -> Arc<Api> {
    let api = Arc::new(Api::default());
    api.set("/api/v1/pods", 200, list(pods));
    let system = metadata("kube-system", "0a7c2d10-3b1c-4f7a-9d55-8c1f1f2f3a4b", &[]);
    api.set("/api/v1/namespaces/kube-system", 200, system);
    let apps = "/apis/apps/v1/namespaces/shop";
    let above = owner("Deployment", "apps/v1", "web", "d1");
    api.set(
        &format!("{apps}/replicasets/web-7d4b9c6f5d"),
        200,
        metadata("web-7d4b9c6f5d", "r1", &[above]),
    );
    api.set(&format!("{apps}/deployments/web"), 200, metadata("web", "d1", &[]));
    api
}

fn replica_set() -> Value {
    owner("ReplicaSet", "apps/v1", "web-7d4b9c6f5d", "r1")
}

struct Watched {
    platform: Kubernetes,
    told: Receiver<String>,
    account: tempfile::TempDir,
    api: Arc<Api>,
    _running: Running,
}

impl Watched {
    fn start(api: Arc<Api>) -> Self {
        let account = tempfile::tempdir().unwrap();
        std::fs::write(account.path().join("token"), "one").unwrap();
        let directory = account.path().to_owned();
        let access = Access::ServiceAccount { server: serve(&api), directory };
        Self::start_by(access, account, api)
    }

    fn start_by(access: Access, account: tempfile::TempDir, api: Arc<Api>) -> Self {
        let cluster = Cluster { access, node: Some("n1".to_owned()), host: "n1".to_owned() };
        let clients = Clients { cluster: Some(cluster), ..Clients::default() };
        let platform = Kubernetes::default();
        let (tell, told) = mpsc::channel();
        let changed = Changed::new(move |id: &str| drop(tell.send(id.to_owned())));
        let running = Running::start(platform.tasks(&clients, &changed)).unwrap();
        Self { platform, told, account, api, _running: running }
    }

    /// The place of a process in a container, once the watch has told of it.
    fn place(&self, id: &str) -> Place {
        while self.told.recv_timeout(PATIENCE).unwrap() != id {}
        self.now(id)
    }

    fn now(&self, id: &str) -> Place {
        let path = format!("/kubepods/pod0a7c2d10-3b1c-4f7a-9d55-8c1f1f2f3a4b/{id}");
        let process = Process { cgroup: crate::cgroup::read(&[path]), ..Process::default() };
        let root = std::path::Path::new("/nowhere");
        self.platform.place(&process, Around { root, own: &[] }).unwrap()
    }

    fn wait_for(&self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..1_200 {
            if is_so() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!(
            "waited in vain for {what}: {:?} {:?}",
            lock(&self.api.asked),
            self.platform.facts()
        );
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.api.is_closed.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_pod_is_named_by_the_top_of_its_owners_with_one_list_and_one_watch() {
    let api = cluster(&[pod("web-7d4b9c6f5d-x2x4z", A, &[replica_set()])]);
    let second = pod("web-7d4b9c6f5d-y2y4z", B, &[replica_set()]);
    lock(&api.watches).push(vec![json!({"type": "ADDED", "object": second})]);
    let watched = Watched::start(api);
    let first = watched.place(A);
    assert_eq!(first.place.as_deref(), Some("shop:web:app"));
    assert_eq!(first.scope.as_deref(), Some("cluster-0a7c2d103b1c"));
    assert_eq!((first.name.as_deref(), first.is_provisional), (Some("web"), false));
    assert_eq!(first.attributes["sonde.workload.kind"], "Deployment");
    assert_eq!(first.attributes["container.image.name"], "web:1");
    assert_eq!(first.attributes["k8s.pod.label.app"], "web");
    assert!(!first.attributes.contains_key("k8s.pod.label.pod-template-hash"));
    assert_eq!(first.instance["k8s.pod.name"], "web-7d4b9c6f5d-x2x4z");
    assert_eq!(first.declared.namespace.as_deref(), Some("shop"));
    // The second replica is the same workload: nothing is asked again.
    let second = watched.place(B);
    assert_eq!((second.place, second.attributes), (first.place, first.attributes));
    assert_eq!(watched.api.count("/replicasets/"), 1);
    assert_eq!(watched.api.count("/deployments/"), 1);
    assert_eq!(watched.api.lists(), 1);
    assert!(watched.api.count("fieldSelector=spec.nodeName%3Dn1") >= 2, "limited to the node");
    assert_eq!(watched.platform.facts()[0].standing, Standing::Good);
    assert_eq!(watched.platform.cluster().as_deref(), Some("0a7c2d10-3b1c-4f7a-9d55-8c1f1f2f3a4b"));
}

#[test]
fn a_controller_outside_a_pod_goes_by_a_file_as_kubectl_has_it() {
    let api = cluster(&[pod("web-7d4b9c6f5d-x2x4z", A, &[replica_set()])]);
    "of-the-file".clone_into(&mut lock(&api.token));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    let server = serve(&api);
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         clusters: [{{name: c, cluster: {{server: \"{server}\"}}}}]\n\
         users: [{{name: u, user: {{token: of-the-file}}}}]\n\
         contexts: [{{name: here, context: {{cluster: c, user: u}}}}]\n"
    );
    std::fs::write(&file, text).unwrap();
    let watched = Watched::start_by(Access::Kubeconfig(file), directory, api);
    assert_eq!(watched.place(A).place.as_deref(), Some("shop:web:app"));
}

#[test]
fn a_watch_that_breaks_goes_on_without_another_list() {
    let api = cluster(&[pod("web-7d4b9c6f5d-x2x4z", A, &[replica_set()])]);
    let late = pod("web-7d4b9c6f5d-y2y4z", B, &[replica_set()]);
    // Two watches that the server ends, and the third has news.
    *lock(&api.watches) = vec![vec![], vec![], vec![json!({"type": "ADDED", "object": late})]];
    let watched = Watched::start(api);
    assert_eq!(watched.place(B).place.as_deref(), Some("shop:web:app"));
    assert_eq!(watched.api.lists(), 1);
    assert!(watched.api.count("watch=true") >= 3);
    // What was known stays.
    assert!(!watched.now(A).is_provisional);
}

#[test]
fn owners_that_may_not_be_read_are_guessed_and_not_asked_for_again() {
    let pods = [
        pod("web-7d4b9c6f5d-x2x4z", A, &[replica_set()]),
        pod("web-7d4b9c6f5d-y2y4z", B, &[replica_set()]),
    ];
    let api = cluster(&pods);
    api.set("/apis/apps/v1/namespaces/shop/replicasets/web-7d4b9c6f5d", 403, refusal(403));
    let watched = Watched::start(api);
    assert_eq!(watched.place(B).place.as_deref(), Some("shop:web:app"));
    assert_eq!(watched.now(A).place.as_deref(), Some("shop:web:app"));
    assert_eq!(watched.api.count("/replicasets/"), 1);
    let is_told = || watched.platform.facts().iter().any(|fact| fact.name == "kubernetes_owners");
    watched.wait_for("the fact", is_told);
}

#[test]
fn kinds_that_nobody_knows_are_found_by_their_group() {
    let api = cluster(&[pod("bot-0", A, &[owner("Bot", "ai.example.com/v1", "helper", "b1")])]);
    let resources = json!({"kind": "APIResourceList", "groupVersion": "ai.example.com/v1", "resources": [
        {"name": "bots", "singularName": "bot", "namespaced": true, "kind": "Bot", "verbs": ["get"]}]});
    api.set("/apis/ai.example.com/v1", 200, resources);
    let bot = metadata("helper", "b1", &[owner("Fleet", "ai.example.com/v1", "fleet", "f1")]);
    api.set("/apis/ai.example.com/v1/namespaces/shop/bots/helper", 200, bot);
    let watched = Watched::start(api);
    let place = watched.place(A);
    // The kind above is not served: the chain ends with its name.
    assert_eq!(place.place.as_deref(), Some("shop:fleet.ai.example.com/fleet:app"));
    assert_eq!(watched.api.count("/bots/helper"), 1);
}

#[test]
fn bare_and_static_pods_are_workloads_of_their_own() {
    let mut fixed = pod("kube-proxy-n1", B, &[owner("Node", "v1", "n1", "n1")]);
    fixed["metadata"]["annotations"] =
        json!({"resource.opentelemetry.io/deployment.environment.name": "prod"});
    let watched = Watched::start(cluster(&[pod("one-off", A, &[]), fixed]));
    let fixed = watched.place(B);
    assert_eq!(fixed.place.as_deref(), Some("shop:pod/kube-proxy:app"));
    assert_eq!(fixed.declared.environment.as_deref(), Some("prod"));
    assert_eq!(watched.now(A).place.as_deref(), Some("shop:pod/one-off:app"));
    assert_eq!(watched.api.count("/nodes"), 0);
}

#[test]
fn a_token_that_was_replaced_is_read_again() {
    let api = cluster(&[pod("web-7d4b9c6f5d-x2x4z", A, &[replica_set()])]);
    *lock(&api.token) = "one".to_owned();
    // The first watch ends once the token is another.
    lock(&api.watches).push(vec![]);
    let watched = Watched::start(Arc::clone(&api));
    watched.place(A);
    api.set("/api/v1/pods", 200, list(&[pod("web-7d4b9c6f5d-y2y4z", B, &[replica_set()])]));
    std::fs::write(watched.account.path().join("token"), "two").unwrap();
    *lock(&api.token) = "two".to_owned();
    lock(&api.watches).clear();
    // Ends the watches that are open.
    api.is_closed.store(true, Ordering::Relaxed);
    assert_eq!(watched.place(B).place.as_deref(), Some("shop:web:app"));
}

#[test]
fn a_pod_is_named_provisionally_until_the_server_answers() {
    let api = Arc::new(Api::default());
    api.set("/api/v1/namespaces/kube-system", 500, refusal(500));
    let watched = Watched::start(Arc::clone(&api));
    let is_told = || watched.platform.facts().iter().any(|fact| fact.standing == Standing::Limited);
    watched.wait_for("the fact", is_told);
    let place = watched.now(A);
    assert!(place.is_provisional && place.place.is_none() && place.scope.is_none());
    let full = cluster(&[pod("web-7d4b9c6f5d-x2x4z", A, &[replica_set()])]);
    *lock(&api.objects) = lock(&full.objects).clone();
    assert!(!watched.place(A).is_provisional);
}

#[test]
fn without_the_clusters_name_another_lasting_one_is_taken_and_told() {
    let api = cluster(&[pod("one-off", A, &[])]);
    api.set("/api/v1/namespaces/kube-system", 403, refusal(403));
    let watched = Watched::start(api);
    let place = watched.place(A);
    let scope = place.scope.unwrap();
    assert_eq!(scope.len(), "cluster-".len() + 12, "{scope}");
    assert!(!place.attributes.contains_key("k8s.cluster.uid"));
    let fact = watched.platform.facts().into_iter().find(|fact| fact.name == "kubernetes_cluster");
    assert!(!fact.unwrap().remedy.is_empty());
}

#[test]
fn without_a_server_the_runtimes_own_word_has_to_do() {
    let told = bundle::Told {
        pod: Some(bundle::Pod {
            namespace: "shop".to_owned(),
            name: "web-7d4b9c6f5d-x2x4z".to_owned(),
            uid: "u".to_owned(),
            container: "app".to_owned(),
        }),
        ..bundle::Told::default()
    };
    let place = of_told("u", told);
    assert_eq!(
        (place.place.as_deref(), place.name.as_deref()),
        (Some("shop:web:app"), Some("web"))
    );
    assert_eq!(of_told("u", bundle::Told::default()).within.as_deref(), Some("pod-u"));
}
