//! How a changed workload is doing, from what the API server says of it and of its pods.

use super::{CHANGE, Change, Kind};
use crate::hands::Health;
use serde_json::Value;

/// How long a rollout may stand still where the workload does not say: what Deployments wait.
const PATIENCE_SECONDS: u64 = 600;

/// Reasons for which a container waits and that do not pass by themselves.
const STUCK: [&str; 7] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// A container whose log says more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Culprit {
    pub(crate) pod: String,
    pub(crate) container: String,
    /// The log of the run before the present one.
    pub(crate) is_previous: bool,
}

/// How a workload is doing, and whose log says why it is not well.
pub(crate) fn health(change: &Change, object: &Value, pods: &[Value]) -> (Health, Option<Culprit>) {
    let null = Value::Null;
    let template = object.pointer(change.workload.kind.template()).unwrap_or(&null);
    if object["metadata"]["uid"] != change.uid.as_str() {
        return (Health::Reverted("it was deleted, or made anew".to_owned()), None);
    }
    if let Some(missing) = change.put.missing(template) {
        let by = last_manager(object).map(|by| format!(", by {by}")).unwrap_or_default();
        return (Health::Reverted(format!("{missing} is not in its template{by}")), None);
    }
    let with_it = |pod: &&Value| {
        pod["metadata"]["annotations"][CHANGE] == change.put.id.as_str()
            && pod["metadata"]["deletionTimestamp"].is_null()
    };
    let new: Vec<&Value> = pods.iter().filter(with_it).collect();
    if let Some((reason, culprit)) = new.iter().find_map(|pod| trouble(pod)) {
        return (Health::Bad(reason), culprit);
    }
    if let Some(reason) = condition(object) {
        return (Health::Bad(reason), new.iter().find_map(|pod| unready(pod)));
    }
    match progress(change.workload.kind, object, &new) {
        None => (Health::Good, None),
        Some(progress) => {
            let deadline = object["spec"]["progressDeadlineSeconds"].as_u64();
            let patience_seconds = match change.workload.kind.rolls() {
                true => deadline.unwrap_or(PATIENCE_SECONDS),
                // Its next run may be that of the next year.
                false => u64::MAX,
            };
            (Health::Rolling { progress, patience_seconds }, None)
        }
    }
}

/// What is wrong with a pod.
pub(super) fn trouble(pod: &Value) -> Option<(String, Option<Culprit>)> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let statuses = ["initContainerStatuses", "containerStatuses"]
        .iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
    for status in statuses {
        let container = status["name"].as_str().unwrap_or_default();
        let culprit = |is_previous| {
            let (pod, container) = (name.to_owned(), container.to_owned());
            Some(Culprit { pod, container, is_previous })
        };
        let last = &status["lastState"]["terminated"];
        let waits = status["state"]["waiting"]["reason"].as_str().unwrap_or_default();
        if let Some(ended) = ended(last).filter(|_| status["restartCount"].as_u64() > Some(0)) {
            let text = format!("container {container} of pod {name} was started anew: {ended}");
            return Some((text, culprit(true)));
        }
        if STUCK.contains(&waits) {
            let said = status["state"]["waiting"]["message"].as_str().unwrap_or_default();
            let text = format!("container {container} of pod {name}: {waits} {}", line(said));
            return Some((text.trim().to_owned(), culprit(status["restartCount"] != 0)));
        }
        let now = &status["state"]["terminated"];
        if let Some(ended) = ended(now).filter(|_| now["exitCode"] != 0) {
            let text = format!("container {container} of pod {name} ended: {ended}");
            return Some((text, culprit(false)));
        }
    }
    // One that its node had no room for says nothing about us.
    let passing = ["Evicted", "NodeLost", "Preempting", "NodeShutdown", "Terminated"];
    let reason = pod["status"]["reason"].as_str().unwrap_or_default();
    if pod["status"]["phase"] == "Failed" && !passing.contains(&reason) {
        let said = pod["status"]["message"].as_str().unwrap_or_default();
        return Some((format!("pod {name} failed: {reason} {}", line(said)), None));
    }
    None
}

/// How a container ended.
fn ended(state: &Value) -> Option<String> {
    let code = state["exitCode"].as_i64()?;
    let reason = state["reason"].as_str().unwrap_or("Error");
    Some(format!("{reason}, exit status {code}"))
}

/// The container of a pod that is not ready.
fn unready(pod: &Value) -> Option<Culprit> {
    let statuses = pod["status"]["containerStatuses"].as_array()?;
    let status = statuses.iter().find(|status| status["ready"] == false)?;
    Some(Culprit {
        pod: pod["metadata"]["name"].as_str()?.to_owned(),
        container: status["name"].as_str()?.to_owned(),
        is_previous: false,
    })
}

/// What the workload says of itself that stands in the way.
fn condition(object: &Value) -> Option<String> {
    if !is_observed(object) {
        return None;
    }
    let all = object["status"]["conditions"].as_array()?;
    let bad = |it: &&Value| {
        (it["type"] == "Progressing" && it["status"] == "False")
            || (it["type"] == "ReplicaFailure" && it["status"] == "True")
    };
    let one = all.iter().find(bad)?;
    let said = one["message"].as_str().unwrap_or_default();
    Some(format!("{}: {}", one["reason"].as_str().unwrap_or_default(), line(said)))
}

fn is_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"].as_i64() >= object["metadata"]["generation"].as_i64()
}

/// How far a rollout is; nothing when it is over.
pub(super) fn progress(kind: Kind, object: &Value, new: &[&Value]) -> Option<String> {
    let status = |name: &str| object["status"][name].as_u64().unwrap_or(0);
    if kind == Kind::CronJob {
        let runs = new.iter().any(|pod| pod["status"]["phase"] != "Pending");
        return (!runs).then(|| "it waits for its next run".to_owned());
    }
    let (wanted, all, updated, available) = match kind {
        Kind::DaemonSet => (
            status("desiredNumberScheduled"),
            status("currentNumberScheduled"),
            status("updatedNumberScheduled"),
            status("numberAvailable"),
        ),
        Kind::Deployment | Kind::StatefulSet | Kind::CronJob => (
            object["spec"]["replicas"].as_u64().unwrap_or(1),
            status("replicas"),
            status("updatedReplicas"),
            status("availableReplicas"),
        ),
    };
    let is_over = [all, updated, available] == [wanted; 3] && is_observed(object);
    let ready = new.iter().filter(|pod| is_ready(pod)).count();
    (!is_over).then(|| format!("{ready} of {wanted} new pods are ready"))
}

pub(super) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

/// Who changed an object last, beside its own controllers.
pub(super) fn last_manager(object: &Value) -> Option<&str> {
    let all = object["metadata"]["managedFields"].as_array()?;
    let hands = all.iter().filter(|it| {
        it["subresource"].is_null()
            && !it["manager"].as_str().unwrap_or_default().starts_with("kube-c")
    });
    hands.max_by_key(|it| it["time"].as_str())?["manager"].as_str()
}

/// What others said, as one line of a bounded length.
pub(super) fn line(text: &str) -> String {
    let text: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    text.trim().chars().take(300).collect()
}

/// Whether a container that waits for this reason waits in vain.
pub(super) fn is_stuck(reason: &str) -> bool {
    STUCK.contains(&reason)
}
