//! From a pod to what a person deployed: the chain of controlling owners, up to its top.
//!
//! Each owner is asked for once, and only for its metadata. Kinds that nobody told us of are found by
//! the discovery of their API group. Where an answer is refused the chain ends with what is known, and
//! that kind is not asked for again.

use super::shown;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::time::timeout;

/// Owners above a pod; Knative has four.
const MAX_DEPTH: usize = 8;

/// Owners that are remembered; then they are asked for again.
const MAX_OWNERS: usize = 16_384;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The characters of the random ends that Kubernetes puts behind names
/// (`k8s.io/apimachinery/pkg/util/rand`): no vowels, no 0, 1 and 3.
const RANDOM: &str = "bcdfghjklmnpqrstvwxz2456789";

/// The object at the top of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Owner {
    pub(super) kind: String,
    /// API group; empty for those of Kubernetes itself.
    pub(super) group: String,
    pub(super) name: String,
    /// What stands right below the top and lasts as long: one of several parts of an operator's object.
    pub(super) part: Option<String>,
}

/// What is remembered of an owner.
#[derive(Debug, Clone)]
struct Met {
    /// Name without a random end, where its maker asked for one.
    name: String,
    above: Option<OwnerReference>,
}

/// Owners met so far.
#[derive(Debug, Default)]
pub(super) struct Owners {
    met: HashMap<String, Met>,
    resources: HashMap<(String, String), Option<(ApiResource, Scope)>>,
    /// Kinds that may not be read, `Kind.group`.
    pub(super) refused: BTreeSet<String>,
}

/// An owner could not be asked for now: try again.
#[derive(Debug)]
pub(super) struct Unanswered;

enum Answer {
    Met(Met),
    /// Refused, or gone: the chain ends here.
    End,
}

impl Owner {
    /// How the key calls it.
    pub(super) fn in_key(&self) -> String {
        let kind = self.kind.to_ascii_lowercase();
        let name = match (kind.as_str(), self.group.as_str()) {
            ("deployment", "") => self.name.clone(),
            (_, "") => format!("{kind}/{}", self.name),
            (_, group) => format!("{kind}.{group}/{}", self.name),
        };
        match &self.part {
            Some(part) => format!("{name}/{part}"),
            None => name,
        }
    }

    /// How people call it.
    pub(super) fn shown(&self) -> &str {
        self.part.as_deref().unwrap_or(&self.name)
    }
}

impl Owners {
    /// The top owner of a pod.
    pub(super) async fn top(
        &mut self,
        client: &kube::Client,
        pod: &Pod,
    ) -> Result<Owner, Unanswered> {
        let metadata = &pod.metadata;
        let namespace = metadata.namespace.as_deref().unwrap_or("default");
        let mut above = match controller(metadata) {
            // A static pod: its node is no workload.
            Some(node) if node.kind == "Node" => None,
            above => above.cloned(),
        };
        let mut chain: Vec<Owner> = Vec::new();
        while let Some(reference) = above.take().filter(|_| chain.len() < MAX_DEPTH) {
            let mut owner = Owner {
                kind: shown(&reference.kind),
                group: group(&reference.api_version).to_owned(),
                name: shown(&reference.name),
                part: None,
            };
            if matches!(owner.group.as_str(), "apps" | "batch") {
                owner.group = String::new();
            }
            match self.ask(client, namespace, &reference).await? {
                Answer::Met(met) => {
                    owner.name = met.name;
                    chain.push(owner);
                    above = met.above;
                }
                Answer::End => {
                    chain.push(owner.clone());
                    chain.extend(guessed_above(&owner, metadata));
                }
            }
        }
        Ok(top_of(chain).unwrap_or_else(|| of_pod(metadata, pod)))
    }

    async fn ask(
        &mut self,
        client: &kube::Client,
        namespace: &str,
        reference: &OwnerReference,
    ) -> Result<Answer, Unanswered> {
        if let Some(met) = self.met.get(&reference.uid) {
            return Ok(Answer::Met(met.clone()));
        }
        let kind = format!("{}.{}", reference.kind, group(&reference.api_version));
        if self.refused.contains(&kind) {
            return Ok(Answer::End);
        }
        let Some((resource, scope)) = self.resource(client, reference).await? else {
            return Ok(Answer::End);
        };
        let api: Api<DynamicObject> = match scope {
            Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
            Scope::Cluster => Api::all_with(client.clone(), &resource),
        };
        let answer = timeout(PATIENCE, api.get_metadata(&reference.name)).await;
        let metadata = match answer.map_err(|_elapsed| Unanswered)? {
            Ok(object) => object.metadata,
            Err(kube::Error::Api(status)) if status.code == 403 => {
                self.refused.insert(kind);
                return Ok(Answer::End);
            }
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Answer::End),
            Err(_) => return Err(Unanswered),
        };
        // Another object that took the name since.
        if metadata.uid.as_deref() != Some(reference.uid.as_str()) {
            return Ok(Answer::End);
        }
        let above = controller(&metadata).cloned();
        let met = Met { name: lasting(&metadata, above.is_none()), above };
        if self.met.len() >= MAX_OWNERS {
            self.met.clear();
        }
        self.met.insert(reference.uid.clone(), met.clone());
        Ok(Answer::Met(met))
    }

    /// The place of a kind in the API; `None` where there is none, or none that we may know.
    async fn resource(
        &mut self,
        client: &kube::Client,
        reference: &OwnerReference,
    ) -> Result<Option<(ApiResource, Scope)>, Unanswered> {
        let (group, version) = match reference.api_version.split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", reference.api_version.as_str()),
        };
        let kind = GroupVersionKind::gvk(group, version, &reference.kind);
        if matches!(group, "apps" | "batch" | "") {
            return Ok(Some((ApiResource::from_gvk(&kind), Scope::Namespaced)));
        }
        let key = (reference.api_version.clone(), reference.kind.clone());
        if let Some(found) = self.resources.get(&key) {
            return Ok(found.clone());
        }
        let answer = timeout(PATIENCE, discovery::pinned_kind(client, &kind)).await;
        let found = match answer.map_err(|_elapsed| Unanswered)? {
            Ok((resource, capabilities)) => Some((resource, capabilities.scope)),
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => None,
            Err(kube::Error::Discovery(_)) => None,
            Err(_) => return Err(Unanswered),
        };
        self.resources.insert(key, found.clone());
        Ok(found)
    }
}

/// The owner that controls an object.
fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The name of the object at the end of a chain without the random end that its maker asked for: the
/// next one is the same workload.
fn lasting(metadata: &ObjectMeta, is_top: bool) -> String {
    let name = metadata.name.as_deref().unwrap_or_default();
    let generated = metadata.generate_name.as_deref().filter(|_| is_top);
    let base = generated
        .filter(|base| name.starts_with(base))
        .map(|base| base.trim_end_matches(['-', '.']));
    shown(base.filter(|base| !base.is_empty()).unwrap_or(name))
}

/// The top of a chain, and which part of it: a Deployment right below an operator's object is one of
/// several, and keeps its name as long as that. Below something that is itself owned it may not
/// (Knative makes a new one for each revision).
fn top_of(mut chain: Vec<Owner>) -> Option<Owner> {
    let mut top = chain.pop()?;
    let below = chain.pop();
    top.part = below
        .filter(|below| matches!(below.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet"))
        .map(|below| below.name)
        .filter(|_| !top.group.is_empty());
    Some(top)
}

/// A pod that nothing controls.
fn of_pod(metadata: &ObjectMeta, pod: &Pod) -> Owner {
    let name = lasting(metadata, true);
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let is_static = controller(metadata).is_some();
    // The kubelet puts its node behind the name of a static pod.
    let base = node.filter(|_| is_static).and_then(|node| name.strip_suffix(&format!("-{node}")));
    Owner { kind: "Pod".to_owned(), name: base.unwrap_or(&name).to_owned(), ..Owner::default() }
}

/// What is above an owner that may not be read, by the labels that controllers put on pods.
fn guessed_above(owner: &Owner, pod: &ObjectMeta) -> Option<Owner> {
    let label = |name: &str| pod.labels.as_ref()?.get(name).map(String::as_str);
    let without = |hash: &str| owner.name.strip_suffix(hash)?.strip_suffix('-');
    let made = |kind: &str, group: &str, name: &str| Owner {
        kind: kind.to_owned(),
        group: group.to_owned(),
        name: name.to_owned(),
        part: None,
    };
    match owner.kind.as_str() {
        "ReplicaSet" => label("rollouts-pod-template-hash")
            .and_then(without)
            .map(|name| made("Rollout", "argoproj.io", name))
            .or_else(|| {
                let name = label("pod-template-hash").and_then(without)?;
                Some(made("Deployment", "", name))
            }),
        // A CronJob puts the minute behind the name.
        "Job" => {
            let (name, minute) = owner.name.rsplit_once('-')?;
            let is_minute = minute.len() == 8 && minute.bytes().all(|byte| byte.is_ascii_digit());
            is_minute.then(|| made("CronJob", "", name))
        }
        _ => None,
    }
}

/// The owner by the name of a pod alone: `web-7d4b9c6f5d-x2x4z`, `db-0`, `agent-x2x4z`.
pub(super) fn guessed(pod: &str) -> Owner {
    let is_random = |text: &str, least: usize, most: usize| {
        (least..=most).contains(&text.len()) && text.chars().all(|letter| RANDOM.contains(letter))
    };
    let made = |kind: &str, name: &str| Owner {
        kind: kind.to_owned(),
        name: shown(name),
        ..Owner::default()
    };
    let Some((before, last)) = pod.rsplit_once('-').filter(|(before, _)| !before.is_empty()) else {
        return made("Pod", pod);
    };
    if is_random(last, 5, 5) {
        return match before.rsplit_once('-') {
            Some((name, hash)) if !name.is_empty() && is_random(hash, 6, 10) => {
                made("Deployment", name)
            }
            Some((name, minute))
                if minute.len() == 8 && minute.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                made("CronJob", name)
            }
            _ => made("DaemonSet", before),
        };
    }
    let is_number = last.len() <= 4 && last.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { made("StatefulSet", before) } else { made("Pod", pod) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(kind: &str, group: &str, name: &str) -> Owner {
        let part = None;
        Owner { kind: kind.to_owned(), group: group.to_owned(), name: name.to_owned(), part }
    }

    #[test]
    fn two_kinds_of_one_name_are_two_workloads() {
        assert_eq!(owner("Deployment", "", "api").in_key(), "api");
        assert_eq!(owner("StatefulSet", "", "api").in_key(), "statefulset/api");
        assert_eq!(owner("Rollout", "argoproj.io", "api").in_key(), "rollout.argoproj.io/api");
        assert_eq!(
            owner("Deployment", "example.com", "api").in_key(),
            "deployment.example.com/api"
        );
    }

    #[test]
    fn the_parts_of_an_operators_object_are_told_apart_and_revisions_are_not() {
        let chain = vec![
            owner("ReplicaSet", "", "web-1"),
            owner("Deployment", "", "web"),
            owner("Stack", "example.com", "shop"),
        ];
        let top = top_of(chain).unwrap();
        assert_eq!((top.in_key().as_str(), top.shown()), ("stack.example.com/shop/web", "web"));
        let knative = vec![
            owner("Deployment", "", "bot-00001-deployment"),
            owner("Revision", "serving.knative.dev", "bot-00001"),
            owner("Configuration", "serving.knative.dev", "bot"),
            owner("Service", "serving.knative.dev", "bot"),
        ];
        assert_eq!(top_of(knative).unwrap().in_key(), "service.serving.knative.dev/bot");
        let cron = vec![owner("Job", "", "tick-1"), owner("CronJob", "", "tick")];
        assert_eq!(top_of(cron).unwrap().in_key(), "cronjob/tick");
        assert_eq!(top_of(Vec::new()), None);
    }

    #[test]
    fn refused_owners_are_guessed_by_what_controllers_write_on_pods() {
        let pod = |label: &str| ObjectMeta {
            labels: Some([(label.to_owned(), "7d4b9c6f5d".to_owned())].into()),
            ..ObjectMeta::default()
        };
        let set = owner("ReplicaSet", "", "web-7d4b9c6f5d");
        let above = |label| guessed_above(&set, &pod(label)).map(|owner| owner.in_key());
        assert_eq!(above("pod-template-hash").as_deref(), Some("web"));
        assert_eq!(above("rollouts-pod-template-hash").as_deref(), Some("rollout.argoproj.io/web"));
        assert_eq!(above("other"), None);
        let job = owner("Job", "", "tick-29402105");
        let above = guessed_above(&job, &ObjectMeta::default()).unwrap();
        assert_eq!(above.in_key(), "cronjob/tick");
    }

    #[test]
    fn names_of_pods_say_what_made_them() {
        assert_eq!(guessed("web-7d4b9c6f5d-x2x4z").in_key(), "web");
        assert_eq!(guessed("my-web-app-7d4b9c6f5d-x2x4z").in_key(), "my-web-app");
        assert_eq!(guessed("db-0").in_key(), "statefulset/db");
        assert_eq!(guessed("agent-x2x4z").in_key(), "daemonset/agent");
        assert_eq!(guessed("tick-29402105-x2x4z").in_key(), "cronjob/tick");
        assert_eq!(guessed("one-off").in_key(), "pod/one-off");
        assert_eq!(guessed("-").in_key(), "pod/-");
    }

    #[test]
    fn a_generated_name_is_the_same_workload_next_time() {
        let metadata = ObjectMeta {
            name: Some("hello-x2x4z".to_owned()),
            generate_name: Some("hello-".to_owned()),
            ..ObjectMeta::default()
        };
        assert_eq!(lasting(&metadata, true), "hello");
        assert_eq!(lasting(&metadata, false), "hello-x2x4z");
    }
}
