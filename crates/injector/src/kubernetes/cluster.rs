//! Looks at workloads of a cluster, changes them, and takes that back.
//!
//! Nothing here decides; every call may be repeated, and one that was cut short is.

use super::api::{Api, Failure, Patch};
use super::health::{self, Culprit};
use super::preflight::{self, Around};
use super::{Change, SECRET, SECRET_KEY, Workload, put, template, yaml};
use crate::difference::unified;
use crate::environment::{self, Injection};
use crate::hands::{Health, Undone};
use crate::plan::{self, Plan, Refusal};
use crate::program::{self, Program};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Tries to change an object that others change at the same time: its own controllers do so often.
const TRIES: u32 = 8;
/// Lines of a log that are told, and their length.
const LOG: (usize, usize) = (8, 1_500);
/// How often it is asked for, and with which pause.
const LOG_TRIES: u32 = 6;
const LOG_PAUSE: Duration = Duration::from_millis(500);
/// What stands in place of a log that is not there.
const NO_LOG: [&str; 2] = ["failed to try resolving symlinks", "unable to retrieve container logs"];
/// Where a pod finds which namespace it is in.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// A cluster, and how it is spoken to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// File as `kubectl` has it; without it the service account of our pod is used.
    pub kubeconfig: Option<PathBuf>,
    /// Image that has this program at `/usr/bin/sonde`; without it that of our own pod is used.
    pub image: Option<String>,
    /// Name of our own pod, where we are in one.
    pub pod: Option<String>,
    /// Name of this node.
    pub node: String,
}

impl Cluster {
    pub(crate) async fn open(&self) -> Result<Api, Failure> {
        Api::open(self.kubeconfig.as_deref()).await
    }

    fn own_namespace(&self) -> Option<String> {
        fs::read_to_string(OWN_NAMESPACE).ok().map(|text| text.trim().to_owned())
    }

    /// Thinks a change through; the server is asked what would come of it, and touches nothing.
    pub(crate) async fn plan(
        &self,
        (workload, container): (&Workload, &str),
        (program, effective): (Program, BTreeMap<String, String>),
        injection: &Injection,
    ) -> Result<Plan, Refusal> {
        let api = self.open().await.map_err(|failure| refusal(workload, &failure))?;
        let around = self.around(&api, workload, (program, effective)).await;
        let around = around.map_err(|failure| refusal(workload, &failure))?;
        preflight::refuse(workload, container, (&around, injection))?;
        let image = self.image(&api).await?;
        let before = around.object.pointer(workload.kind.template()).cloned().unwrap_or_default();
        let put = put(&before, container, (&around.effective, injection, &image));
        let is_applied = !put.variables.iter().any(|it| super::is_original(&it.name));
        let secret = put.variables.iter().any(|it| it.name == environment::HEADERS);
        let mut change = Change {
            workload: workload.clone(),
            uid: text(&around.object, "/metadata/uid"),
            put,
            before,
            after: Value::Null,
            owners: owners(&around.object),
            is_applied,
            secret: secret.then(|| environment::headers(injection)),
        };
        self.rehearse(&api, &mut change, &around.object).await?;
        Ok(planned(change, &around))
    }

    /// Has the server say what becomes of the template, and whether that can be taken back to the
    /// byte; where it cannot as it is applied, the template is replaced as a whole.
    async fn rehearse(
        &self,
        api: &Api,
        change: &mut Change,
        object: &Value,
    ) -> Result<(), Refusal> {
        loop {
            let (patch, body) = change.patch(object);
            let made = api.patch(&change.workload.path(), (patch, &body, true)).await;
            let made = made.map_err(|failure| refusal(&change.workload, &failure))?;
            let after = change.template(&made);
            let is_exact =
                change.put.missing(&after).is_none() && change.put.out_of(&after) == change.before;
            if is_exact {
                change.after = after;
                return Ok(());
            }
            if !change.is_applied {
                return Err(Refusal::unsupported(
                    "not_reversible",
                    format!(
                        "Something in the cluster changes {} whenever it is changed, so it could not be put back as it is; put `sonde run --` into its image, or set it to Network.",
                        change.workload.shown()
                    ),
                ));
            }
            change.is_applied = false;
        }
    }

    /// What the server says around a workload.
    async fn around(
        &self,
        api: &Api,
        workload: &Workload,
        (program, effective): (Program, BTreeMap<String, String>),
    ) -> Result<Around, Failure> {
        let object = api.get(&workload.path()).await?;
        let namespace = &workload.namespace;
        // What may not be read is not known, and stops nothing.
        let some = async |path: String| api.list(&path).await.unwrap_or_default();
        let below =
            |group: &str, plural: &str| format!("/apis/{group}/namespaces/{namespace}/{plural}");
        Ok(Around {
            pods: pods(api, workload, &object).await?,
            namespace: api.get(&format!("/api/v1/namespaces/{namespace}")).await?,
            budgets: some(below("policy/v1", "poddisruptionbudgets")).await,
            scalers: some(below("autoscaling/v2", "horizontalpodautoscalers")).await,
            object,
            program,
            effective,
            own_namespace: self.own_namespace(),
        })
    }

    /// The image that the bundle comes from.
    async fn image(&self, api: &Api) -> Result<String, Refusal> {
        if let Some(image) = &self.image {
            return Ok(image.clone());
        }
        let unknown = || {
            Refusal::blocked(
                "no_image",
                "This controller does not know which image the SDK comes from; start it with --agent-image IMAGE, an image of Sonde that the nodes can pull.",
            )
        };
        let (Some(namespace), Some(pod)) = (self.own_namespace(), &self.pod) else {
            return Err(unknown());
        };
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
        let own = api.get(&path).await.ok().ok_or_else(unknown)?;
        let containers = own["spec"]["containers"].as_array().cloned().unwrap_or_default();
        let ours = containers.iter().find(|container| container["name"] == "controller");
        let image = ours.or(containers.first()).and_then(|container| container["image"].as_str());
        image.map(str::to_owned).ok_or_else(unknown)
    }

    /// Makes a change; the workload rolls out by itself.
    pub(crate) async fn make(&self, change: &Change) -> Result<(), String> {
        let failed =
            |failure: Failure| format!("Cannot change {}: {failure}.", change.workload.shown());
        let api = self.open().await.map_err(failed)?;
        if let Some(headers) = &change.secret {
            keep_secret(&api, change, headers).await.map_err(failed)?;
        }
        for _ in 0..TRIES {
            let object = api.get(&change.workload.path()).await.map_err(failed)?;
            let template = change.template(&object);
            if change.put.missing(&template).is_none() {
                return Ok(());
            }
            if template != change.before || text(&object, "/metadata/uid") != change.uid {
                return Err(failed(Failure::Conflict));
            }
            let (patch, body) = change.patch(&object);
            match api.patch(&change.workload.path(), (patch, &body, false)).await {
                Err(Failure::Conflict) => {}
                Err(failure) => return Err(failed(failure)),
                Ok(_) => return Ok(()),
            }
        }
        Err(failed(Failure::Conflict))
    }

    /// How a changed workload is doing.
    pub(crate) async fn health(&self, change: &Change) -> Result<Health, String> {
        let failed =
            |failure: Failure| format!("Cannot look at {}: {failure}.", change.workload.shown());
        let api = self.open().await.map_err(failed)?;
        let object = match api.get(&change.workload.path()).await {
            Err(Failure::Missing) => return Ok(Health::Reverted("it was deleted".to_owned())),
            other => other.map_err(failed)?,
        };
        let pods = pods(&api, &change.workload, &object).await.map_err(failed)?;
        Ok(match health::health(change, &object, &pods) {
            (Health::Bad(reason), Some(culprit)) => {
                let log = log(&api, &change.workload, &culprit).await;
                Health::Bad(format!("{reason}{log}"))
            }
            (health, _) => health,
        })
    }

    /// Takes a change back; the workload rolls out by itself.
    pub(crate) async fn undo(&self, change: &Change) -> Result<Undone, String> {
        let failed =
            |failure: Failure| format!("Cannot put {} back: {failure}.", change.workload.shown());
        let api = self.open().await.map_err(failed)?;
        let path = change.workload.path();
        for _ in 0..TRIES {
            let object = match api.get(&path).await {
                Err(Failure::Missing) => json!({}),
                other => other.map_err(failed)?,
            };
            if text(&object, "/metadata/uid") != change.uid {
                release_secret(&api, change).await.map_err(failed)?;
                return Ok(Undone::Exactly);
            }
            let template = change.template(&object);
            let id = &template["metadata"]["annotations"][super::CHANGE];
            if !id.is_null() && id != change.put.id.as_str() {
                // Another controller has put it in anew since.
                return Ok(Undone::Exactly);
            }
            let restored = change.put.out_of(&template);
            let mut now = object;
            let mut operations = vec![version(&now)];
            if restored != template {
                let place = change.workload.kind.template();
                operations.push(json!({"op": "replace", "path": place, "value": restored}));
            }
            operations.extend(change.without_note(&now));
            if operations.len() > 1 {
                let body = Value::Array(operations);
                match api.patch(&path, (Patch::Operations, &body, false)).await {
                    Err(Failure::Conflict) => continue,
                    other => now = other.map_err(failed)?,
                }
            }
            give_back(&api, change, now).await;
            release_secret(&api, change).await.map_err(failed)?;
            return Ok(kept(change, &restored));
        }
        Err(failed(Failure::Conflict))
    }
}

/// What stayed of others.
fn kept(change: &Change, restored: &Value) -> Undone {
    if *restored == change.before {
        return Undone::Exactly;
    }
    let [before, now] = [&change.before, restored]
        .map(|template| yaml::text(&template::shown(template, &change.put)));
    let difference = unified(&change.workload.shown(), Some(&before), Some(&now));
    Undone::Ours(format!("kept what others changed since\n{difference}"))
}

/// A plan with all that was looked at.
fn planned(change: Change, around: &Around) -> Plan {
    let mut by_hand = vec![change.by_hand()];
    by_hand.extend(preflight::keeper(&around.object).and_then(|(_, way)| way));
    let workload = &change.workload;
    let restart = match workload.kind {
        super::Kind::CronJob => {
            format!("{} is not restarted: its next run has it.", workload.shown())
        }
        _ => format!(
            "The pods of {} are replaced once, by its own rollout and its own strategy.",
            workload.shown()
        ),
    };
    let mut findings = preflight::findings(workload, around);
    findings.extend(program::findings(&around.program));
    Plan { change: plan::Change::Kubernetes(Box::new(change)), findings, restart, by_hand }
}

/// The operation that holds only for the object as it stands.
pub(super) fn version(object: &Value) -> Value {
    let version = &object["metadata"]["resourceVersion"];
    json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version})
}

/// Who owns which fields of an object, beside its status.
fn owners(object: &Value) -> Value {
    let all = object["metadata"]["managedFields"].as_array();
    all.into_iter().flatten().filter(|it| it["subresource"].is_null()).cloned().collect()
}

/// Gives the fields back to those who owned them: ours would conflict with what they apply next.
async fn give_back(api: &Api, change: &Change, mut object: Value) {
    let path = change.workload.path();
    for _ in 0..TRIES {
        let all = object["metadata"]["managedFields"].as_array().into_iter().flatten();
        let is_ours = |it: &Value| it["manager"] == super::MANAGER;
        if change.template(&object) != change.before || !all.clone().any(is_ours) {
            return;
        }
        let mut owners = change.owners.as_array().cloned().unwrap_or_default();
        owners.extend(all.filter(|it| !it["subresource"].is_null()).cloned());
        let replace = json!({"op": "replace", "path": "/metadata/managedFields", "value": owners});
        let body = json!([version(&object), replace]);
        // Its own controllers write to it at the same time. Without it everything works; the next one
        // to apply is told of a conflict at the worst.
        match api.patch(&path, (Patch::Operations, &body, false)).await {
            Err(Failure::Conflict) => {}
            Err(_) | Ok(_) => return,
        }
        let Ok(now) = api.get(&path).await else { return };
        object = now;
    }
}

/// The pods that a workload's own selector names, else those with all labels that it gives them; of a
/// cron job only those that a job made.
async fn pods(api: &Api, workload: &Workload, object: &Value) -> Result<Vec<Value>, Failure> {
    let selector = selector(workload, object);
    let namespace = &workload.namespace;
    api.list(&format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}")).await
}

fn selector(workload: &Workload, object: &Value) -> String {
    let template = object.pointer(workload.kind.template());
    let given = template.and_then(|template| template["metadata"]["labels"].as_object());
    let labels = object["spec"]["selector"]["matchLabels"].as_object().or(given);
    let pairs = labels.into_iter().flatten();
    let mut terms: Vec<String> = pairs
        .map(|(name, value)| format!("{name}%3D{}", value.as_str().unwrap_or_default()))
        .collect();
    if !workload.kind.rolls() {
        terms.push("job-name".to_owned());
    }
    terms.join("%2C").replace('/', "%2F")
}

/// The last lines that a container logged. One that is started anew just now has for a moment neither
/// a present nor a former log.
async fn log(api: &Api, workload: &Workload, culprit: &Culprit) -> String {
    let Culprit { pod, container, is_previous } = culprit;
    for turn in 0..LOG_TRIES {
        let is_previous = *is_previous == (turn % 2 == 0);
        let path = format!(
            "/api/v1/namespaces/{}/pods/{pod}/log?container={container}&tailLines={}&previous={is_previous}",
            workload.namespace, LOG.0
        );
        let text = api.text(&path).await.unwrap_or_default();
        let text = text.trim_end();
        // The kubelet says so in place of the log, as if all were well.
        if !text.is_empty() && !NO_LOG.iter().any(|start| text.starts_with(start)) {
            return format!("; the end of its log:\n{}\n", end(text));
        }
        tokio::time::sleep(LOG_PAUSE).await;
    }
    String::new()
}

/// The end of a text of a bounded length, without what controls a terminal.
fn end(text: &str) -> String {
    let from = text.char_indices().rev().nth(LOG.1).map_or(0, |(at, _)| at);
    text.chars()
        .skip(text[..from].chars().count())
        .map(|it| if it.is_control() && it != '\n' { ' ' } else { it })
        .collect()
}

fn secret_path(change: &Change) -> String {
    format!("/api/v1/namespaces/{}/secrets/{SECRET}", change.workload.namespace)
}

/// The reference that keeps the secret while a workload is there.
fn owner(change: &Change) -> Value {
    let Workload { kind, name, .. } = &change.workload;
    json!({"apiVersion": kind.version(), "kind": kind.word(), "name": name, "uid": change.uid})
}

/// Sees to it that the namespace has the secret, for this workload too.
async fn keep_secret(api: &Api, change: &Change, headers: &str) -> Result<(), Failure> {
    let path = secret_path(change);
    for _ in 0..TRIES {
        let made = match api.get(&path).await {
            Err(Failure::Missing) => {
                let secret = json!({
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": SECRET, "ownerReferences": [owner(change)]},
                    "stringData": {SECRET_KEY: headers},
                });
                api.patch(&path, (Patch::Apply, &secret, false)).await
            }
            Err(other) => return Err(other),
            Ok(secret) => {
                let mut owners = owners_of(&secret, "");
                if !owners.iter().any(|it| it["uid"] == change.uid.as_str()) {
                    owners.push(owner(change));
                }
                let body = json!([
                    version(&secret),
                    {"op": "add", "path": "/metadata/ownerReferences", "value": owners},
                    {"op": "add", "path": "/stringData", "value": {SECRET_KEY: headers}},
                ]);
                api.patch(&path, (Patch::Operations, &body, false)).await
            }
        };
        match made {
            Err(Failure::Conflict) => {}
            other => return other.map(drop),
        }
    }
    Err(Failure::Conflict)
}

/// Takes the secret away when no other workload of the namespace needs it.
async fn release_secret(api: &Api, change: &Change) -> Result<(), Failure> {
    if change.secret.is_none() {
        return Ok(());
    }
    let path = secret_path(change);
    for _ in 0..TRIES {
        let secret = match api.get(&path).await {
            Err(Failure::Missing) => return Ok(()),
            other => other?,
        };
        let owners = owners_of(&secret, &change.uid);
        let done = if owners.is_empty() {
            api.delete(&path, &text(&secret, "/metadata/resourceVersion")).await
        } else {
            let replace =
                json!({"op": "add", "path": "/metadata/ownerReferences", "value": owners});
            let body = json!([version(&secret), replace]);
            api.patch(&path, (Patch::Operations, &body, false)).await.map(drop)
        };
        match done {
            Err(Failure::Conflict) => {}
            Err(Failure::Missing) => return Ok(()),
            other => return other,
        }
    }
    Err(Failure::Conflict)
}

fn owners_of(secret: &Value, but: &str) -> Vec<Value> {
    let all = secret["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    all.filter(|owner| owner["uid"] != but).cloned().collect()
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Why the server's answer keeps us from planning.
fn refusal(workload: &Workload, failure: &Failure) -> Refusal {
    let name = workload.shown();
    match failure {
        Failure::Forbidden(_) => Refusal::blocked(
            "forbidden",
            format!("This controller may not change {name}: {failure}."),
        ),
        _ => Refusal::not_now("no_answer", format!("Cannot plan a change of {name}: {failure}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    #[test]
    fn the_pods_of_a_workload_are_asked_for_by_its_labels() {
        let of = |kind, object: Value| {
            let workload = Workload { kind, namespace: "n".to_owned(), name: "w".to_owned() };
            selector(&workload, &object)
        };
        let chosen = json!({"spec": {"selector": {"matchLabels": {"app.io/name": "a", "b": "c"}}}});
        assert_eq!(of(Kind::Deployment, chosen), "app.io%2Fname%3Da%2Cb%3Dc");
        let template = json!({"metadata": {"labels": {"app": "a"}}});
        let by_expressions = json!({"spec": {"template": template}});
        assert_eq!(of(Kind::StatefulSet, by_expressions), "app%3Da");
        let runs = |template| json!({"spec": {"jobTemplate": {"spec": {"template": template}}}});
        assert_eq!(of(Kind::CronJob, runs(template)), "app%3Da%2Cjob-name");
        assert_eq!(of(Kind::CronJob, runs(json!({}))), "job-name", "never all of the namespace");
    }
}
