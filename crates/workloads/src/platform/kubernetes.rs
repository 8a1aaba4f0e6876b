//! Containers of pods, recognised by their cgroups, and named by the API server.
//!
//! One watch of the pods of this node fills a table from container ids to names (`watch`), the chain
//! of owners leads from a pod to what a person deployed (`owners`). Until the API server has told of a
//! container, or where it tells nothing, what the kubelet told the runtime (`bundle`) has to do, with
//! the workload guessed from the pod's name.
//!
//! The key is `k8s:<namespace>:<workload>:<container>` of the cluster. The workload is the bare name for
//! a Deployment; every other kind stands before it (`statefulset/db`, `rollout.argoproj.io/web`), so
//! that two objects of one name are two workloads.

mod owners;
mod watch;

use super::{Around, Place, Platform, bundle};
use crate::clients::{Changed, Clients, Task, lock};
use crate::declared::Declared;
use crate::process::{Process, clean};
use contract::doctor::Fact;
use contract::{attribute, workload};
use owners::Owner;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

/// Labels of pods that differ between the pods of one workload.
const PASSING_LABELS: [&str; 10] = [
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/job-name",
    "controller-revision-hash",
    "controller-uid",
    "job-name",
    "pod-template-generation",
    "pod-template-hash",
    "rollouts-pod-template-hash",
];

/// The label of the one pod of a stateful set.
const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";

/// What the API server told of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    pod: Arc<Pod>,
    /// Name in the specification of the pod.
    name: String,
    image: String,
}

/// What the API server told of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pod {
    namespace: String,
    name: String,
    uid: String,
    node: String,
    labels: BTreeMap<String, String>,
    declared: Declared,
    /// Containers beside those that only prepare it.
    containers: usize,
    owner: Owner,
}

/// Which cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    /// Twelve digits for the keys.
    scope: String,
    /// UID of `kube-system`; `None` where it may not be read.
    uid: Option<String>,
}

impl Identity {
    fn in_keys(&self) -> String {
        format!("cluster-{}", self.scope)
    }
}

#[derive(Debug, Default)]
struct Table {
    cluster: Option<Identity>,
    containers: HashMap<String, Known>,
    /// Containers of each pod, by the pod's uid.
    pods: HashMap<String, Vec<String>>,
    /// Containers that their pods have no more, oldest first: a process may outlive its pod in the
    /// API by a grace period, and keeps its name.
    gone: VecDeque<String>,
    facts: BTreeMap<&'static str, Fact>,
}

/// Containers that are remembered after their pods: more than end on a node within a grace period.
const MAX_GONE: usize = 1_024;

/// The cluster that the node belongs to.
#[derive(Debug, Default)]
pub(super) struct Kubernetes {
    table: Arc<Mutex<Table>>,
    is_asked: Arc<std::sync::atomic::AtomicBool>,
}

impl Platform for Kubernetes {
    fn place(&self, process: &Process, around: Around<'_>) -> Option<Place> {
        // Below a user's slice the path is of the user's making.
        let cgroup = Some(&process.cgroup).filter(|cgroup| cgroup.user.is_none())?;
        let containers = super::docker::beyond(&cgroup.containers, around.own);
        let innermost = containers.last().map(|container| container.id.as_str());
        // A container within a container is the API server's only where the controller stands beside it.
        let known = match containers {
            [container] => {
                let table = lock(&self.table);
                let known = table.containers.get(&container.id).cloned();
                known.map(|known| (known, table.cluster.clone()))
            }
            _ => None,
        };
        let mut place = match known {
            Some((known, cluster)) => of_known(&known, cluster.as_ref()),
            None => {
                // Not a container of a pod: its siblings in Docker have no pod in their path.
                let uid = cgroup.pod.as_ref()?;
                let keeper = bundle::Keeper::of(process, around.root);
                let told = keeper.and_then(|keeper| keeper.told(around.root, innermost));
                let mut place = of_told(uid, told.unwrap_or_default());
                // The same key as the API server's answer will give, where its owner is as guessed.
                place.scope = lock(&self.table).cluster.as_ref().map(Identity::in_keys);
                place.is_provisional = self.is_asked.load(std::sync::atomic::Ordering::Relaxed);
                place
            }
        };
        if let Some(id) = innermost {
            place.note_instance(attribute::CONTAINER_ID, id);
        }
        if let Some(engine) = cgroup.containers.last().and_then(|container| container.engine) {
            place.note(attribute::CONTAINER_RUNTIME_NAME, engine.name());
        }
        Some(place)
    }

    fn tasks(&self, clients: &Clients, changed: &Changed) -> Vec<Task> {
        let Some(cluster) = clients.cluster.clone() else { return Vec::new() };
        self.is_asked.store(true, std::sync::atomic::Ordering::Relaxed);
        vec![Box::pin(watch::run(cluster, Arc::clone(&self.table), changed.clone()))]
    }

    fn facts(&self) -> Vec<Fact> {
        lock(&self.table).facts.values().cloned().collect()
    }

    fn cluster(&self) -> Option<String> {
        lock(&self.table).cluster.as_ref().map(|cluster| match &cluster.uid {
            Some(uid) => uid.clone(),
            None => cluster.scope.clone(),
        })
    }
}

fn of_known(known: &Known, cluster: Option<&Identity>) -> Place {
    let pod = &known.pod;
    let mut place = place(&pod.namespace, &pod.owner, &known.name, pod.containers);
    place.scope = cluster.map(Identity::in_keys);
    // Without the cluster's name the key would be this host's alone.
    place.is_provisional = cluster.is_none();
    place.declared = pod.declared.clone();
    place.declared.namespace.get_or_insert_with(|| pod.namespace.clone());
    place.note(attribute::CONTAINER_IMAGE_NAME, &known.image);
    place.note_instance(attribute::K8S_POD_NAME, &pod.name);
    place.note_instance(attribute::K8S_POD_UID, &pod.uid);
    place.note_instance(attribute::K8S_NODE_NAME, &pod.node);
    if let Some(uid) = cluster.and_then(|cluster| cluster.uid.as_ref()) {
        place.note(attribute::K8S_CLUSTER_UID, uid);
    }
    for (name, value) in pod.labels.iter().take(super::MAX_LABELS) {
        let attribute = format!("{}{name}", attribute::K8S_POD_LABEL);
        if name == POD_NAME_LABEL || PASSING_LABELS.contains(&name.as_str()) {
            place.note_instance(&attribute, value);
        } else {
            place.note(&attribute, value);
        }
    }
    place
}

/// A container that only its runtime told of, or nobody.
fn of_told(uid: &str, told: bundle::Told) -> Place {
    let Some(pod) = told.pod else {
        // A container that is restarted gets a new id: its program tells it from its neighbours.
        let mut place = Place {
            platform: Some(workload::Platform::Kubernetes),
            manager: "k8s",
            within: Some(format!("pod-{uid}")),
            ..Place::default()
        };
        place.note_instance(attribute::K8S_POD_UID, uid);
        return place;
    };
    let owner = owners::guessed(&pod.name);
    let mut place = place(&pod.namespace, &owner, &pod.container, 1);
    place.declared.namespace = Some(pod.namespace);
    place.note_instance(attribute::K8S_POD_NAME, &pod.name);
    place.note_instance(attribute::K8S_POD_UID, &pod.uid);
    if let Some(image) = &told.image {
        place.note(attribute::CONTAINER_IMAGE_NAME, image);
    }
    place
}

fn place(namespace: &str, owner: &Owner, container: &str, containers: usize) -> Place {
    let mut place = Place {
        platform: Some(workload::Platform::Kubernetes),
        manager: "k8s",
        place: Some(format!("{namespace}:{}:{container}", owner.in_key())),
        name: Some(match containers {
            0 | 1 => owner.shown().to_owned(),
            _ => format!("{}/{container}", owner.shown()),
        }),
        ..Place::default()
    };
    place.note(attribute::K8S_NAMESPACE_NAME, namespace);
    place.note(attribute::K8S_CONTAINER_NAME, container);
    place.note(attribute::WORKLOAD_KIND, &owner.kind);
    place.note(attribute::WORKLOAD_NAME, &owner.name);
    place
}

impl Table {
    /// Takes the containers of a pod; returns those that are new or called something else now.
    fn keep(&mut self, pod: &Arc<Pod>, containers: Vec<(String, String, String)>) -> Vec<String> {
        let mut news = Vec::new();
        let ids: Vec<String> = containers.iter().map(|(id, ..)| id.clone()).collect();
        self.gone.retain(|id| !ids.contains(id));
        for (id, name, image) in containers {
            let known = Known { pod: Arc::clone(pod), name, image };
            if self.containers.get(&id) != Some(&known) {
                self.containers.insert(id.clone(), known);
                news.push(id);
            }
        }
        // A container that was started again has another id.
        let before = self.pods.insert(pod.uid.clone(), ids.clone()).unwrap_or_default();
        self.leave(before.into_iter().filter(|id| !ids.contains(id)));
        news
    }

    fn forget(&mut self, uid: &str) {
        let ids = self.pods.remove(uid).unwrap_or_default();
        self.leave(ids.into_iter());
    }

    fn leave(&mut self, ids: impl Iterator<Item = String>) {
        self.gone.extend(ids);
        while self.gone.len() > MAX_GONE
            && let Some(oldest) = self.gone.pop_front()
        {
            self.containers.remove(&oldest);
        }
    }
}

/// A name of the API server's, which keeps to limits of its own, as it may be shown.
fn shown(name: &str) -> String {
    clean(name, 253)
}

#[cfg(test)]
mod tests;
