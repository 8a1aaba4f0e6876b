//! Pods: the template that a `Deployment`, a `StatefulSet`, a `DaemonSet` or a `CronJob` makes them from.
//!
//! An init container of Sonde's own image lays the bundle into an empty directory of the pod, the
//! chosen container sees it there, read-only, and is told of it by variables. `template` puts that
//! into a template and takes it out, `preflight` says what speaks against it, `health` how the new
//! pods are doing: pure functions of what the API server says. `cluster` asks and tells the server.

mod api;
pub(crate) mod cluster;
mod health;
pub(crate) mod lease;
mod note;
mod preflight;
mod template;
pub(crate) mod turns;
mod yaml;

use crate::difference::unified;
use crate::environment::{self, Injection};
use crate::plan::{ByHand, Refusal};
use contract::before::{Before, Was};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
pub(crate) use template::{Put, Variable};

/// Our name among those who own fields of objects.
pub(crate) const MANAGER: &str = "sonde";
/// What every annotation of ours begins with: on a template, which change it has.
pub(crate) const CHANGE: &str = "sonde/change";
/// On a workload: how its template was changed, for whoever takes that back.
pub(crate) const NOTE: &str = "sonde/note";
/// The switch: `"false"` on a workload, its pods or its namespace keeps the SDK out.
pub(crate) const SWITCH: &str = "sonde/inject";
/// Where the chosen container sees the bundle.
const MOUNT: &str = "/opt/sonde/agents";
/// Name of our init container and of our volume.
const NAME: &str = "sonde-agent";
/// The secret that holds what agents show to the receiver, one in each namespace.
pub(crate) const SECRET: &str = "sonde-agent";
/// Its one key.
const SECRET_KEY: &str = "headers";
/// The bundle has 4 MB; two of them may lie side by side.
const SIZE_LIMIT: &str = "64Mi";
/// Who the init container runs as, where the pod does not say: nobody in particular, never root.
const USER: u64 = 65_532;
/// What the name of a variable begins with that keeps what stood there before.
const ORIGINAL: &str = "SONDE_ORIGINAL_";

/// Kinds of objects with a template that can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `apps/v1`; its pods are replaced when the template changes.
    Deployment,
    /// `apps/v1`; likewise, one pod after the other.
    StatefulSet,
    /// `apps/v1`; likewise, one node after the other.
    DaemonSet,
    /// `batch/v1`; what is changed is for its next run.
    CronJob,
}

/// An object with a template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Its kind.
    pub kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One changed template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub(crate) workload: Workload,
    /// Another object of the same name is not ours to touch.
    pub(crate) uid: String,
    pub(crate) put: Put,
    /// The template as it was, and as the server made it of our change.
    pub(crate) before: Value,
    pub(crate) after: Value,
    /// Who owned which fields before.
    pub(crate) owners: Value,
    /// Whether server-side apply can say it; else the template is replaced where it has not changed.
    pub(crate) is_applied: bool,
    /// What the secret holds; nothing where the receiver wants none.
    pub(crate) secret: Option<String>,
}

/// Whether a variable keeps what stood there before.
fn is_original(name: &str) -> bool {
    name.starts_with(ORIGINAL)
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::CronJob => "CronJob",
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::CronJob => "batch/v1",
            Self::Deployment | Self::StatefulSet | Self::DaemonSet => "apps/v1",
        }
    }

    /// Whether its pods are replaced when the template changes.
    pub fn rolls(self) -> bool {
        self != Self::CronJob
    }

    /// Where the template stands, as a JSON pointer.
    fn template(self) -> &'static str {
        match self {
            Self::CronJob => "/spec/jobTemplate/spec/template",
            Self::Deployment | Self::StatefulSet | Self::DaemonSet => "/spec/template",
        }
    }
}

impl Workload {
    /// The object and the container that a key names: `k8s:NAMESPACE:WORKLOAD:CONTAINER`, without
    /// the cluster.
    ///
    /// # Errors
    ///
    /// When that is nothing with a template of its own, and what to do.
    pub fn of_place(place: &str) -> Result<(Self, String), Refusal> {
        let mut parts = place.strip_prefix("k8s:").unwrap_or_default().split(':');
        let (Some(namespace), Some(workload), Some(container), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::not_now(
                "unknown_owner",
                "The API server has not said which object this pod belongs to; let the controller \
                 read pods and their owners, as deploy/kubernetes/controller.yaml does.",
            ));
        };
        let (kind, name) = workload.split_once('/').unwrap_or(("deployment", workload));
        let kind = match kind {
            "deployment" => Kind::Deployment,
            "statefulset" => Kind::StatefulSet,
            "daemonset" => Kind::DaemonSet,
            "cronjob" => Kind::CronJob,
            other => return Err(without_template(other, name)),
        };
        let workload = Self { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        Ok((workload, container.to_owned()))
    }

    /// How people call it.
    pub(crate) fn shown(&self) -> String {
        format!("{} {}/{}", self.kind.word(), self.namespace, self.name)
    }

    fn path(&self) -> String {
        let plural = format!("{}s", self.kind.word().to_ascii_lowercase());
        let Self { namespace, name, .. } = self;
        format!("/apis/{}/namespaces/{namespace}/{plural}/{name}", self.kind.version())
    }
}

/// What cannot be changed, because nothing makes it anew from a template.
fn without_template(kind: &str, name: &str) -> Refusal {
    match kind {
        "pod" => Refusal::unsupported(
            "naked_pod",
            format!(
                "{name} is a pod by itself, made by hand or by a kubelet from a file, and nobody would make it anew; give it a Deployment, or set it to Network."
            ),
        ),
        "job" => Refusal::unsupported(
            "job",
            format!(
                "{name} is a Job, whose template can never be changed; put `sonde run --` before its command, or set it to Network."
            ),
        ),
        "replicaset" | "replicationcontroller" => Refusal::unsupported(
            "no_rollout",
            format!(
                "{name} is a {kind} by itself, which does not replace its pods when its template changes; give it a Deployment, or set it to Network."
            ),
        ),
        other => Refusal::unsupported(
            "unknown_owner",
            format!(
                "{name} belongs to an object of the kind {other}, whose operator makes the pods and would undo a change; put `sonde run --` into its image, or set it to Network."
            ),
        ),
    }
}

/// What the agent in a pod is told.
pub(crate) fn told(injection: &Injection) -> Injection {
    Injection {
        bundle: format!("{MOUNT}/python"),
        // The node is not the pod's name, and the next pod runs on another one.
        attributes: injection
            .attributes
            .iter()
            .filter(|(name, _)| name != "host.name")
            .cloned()
            .collect(),
        ..injection.clone()
    }
}

/// What is put into the template for a container that has `effective` in its environment.
pub(crate) fn put(
    template: &Value,
    container: &str,
    (effective, injection, image): (&BTreeMap<String, String>, &Injection, &str),
) -> Put {
    let told = told(injection);
    let spec = template::container(template, container);
    let stands = |name: &str| {
        let all = spec.and_then(|spec| spec["env"].as_array());
        all.into_iter().flatten().find(|entry| entry["name"] == name).cloned()
    };
    // What the template says by reference is kept as a reference; the rest as it is in effect.
    let mut texts = effective.clone();
    for (name, text) in &mut texts {
        *text = match stands(name) {
            Some(entry) if entry.get("valueFrom").is_some() => format!("$({ORIGINAL}{name})"),
            Some(entry) => entry["value"].as_str().unwrap_or_default().to_owned(),
            None => text.replace("$(", "$$("),
        };
    }
    let missing = |(name, _): &&(String, String)| {
        let own = effective.get(environment::RESOURCE_ATTRIBUTES).map_or("", String::as_str);
        !own.split(',').any(|pair| pair.split('=').next().is_some_and(|it| it.trim() == name))
    };
    let attributes = told.attributes.iter().filter(missing).cloned().collect();
    let injection = Injection { attributes, ..told };
    let mut variables = Vec::new();
    for change in environment::environment(&texts, &injection) {
        let before = stands(change.name);
        if let Some(from) = before.as_ref().and_then(|entry| entry.get("valueFrom")) {
            let name = format!("{ORIGINAL}{}", change.name);
            let entry = json!({"name": name, "valueFrom": from});
            variables.push(Variable { name, entry, before: None });
        }
        let entry = if change.secret {
            let key = json!({"name": SECRET, "key": SECRET_KEY, "optional": true});
            json!({"name": change.name, "valueFrom": {"secretKeyRef": key}})
        } else {
            json!({"name": change.name, "value": change.after})
        };
        variables.push(Variable { name: change.name.to_owned(), entry, before });
    }
    let init = init(template, spec.unwrap_or(&Value::Null), image);
    let text = json!([variables, init, container]).to_string();
    let id = Sha256::digest(text).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Put { id, container: container.to_owned(), variables, init }
}

/// The init container: what the strictest level of Pod Security admits, and no more of the node than
/// the chosen container takes, so that the pod as a whole takes no more than before and keeps its
/// class.
fn init(template: &Value, container: &Value, image: &str) -> Value {
    let mut resources = json!({});
    for side in ["requests", "limits"] {
        for name in ["cpu", "memory", "ephemeral-storage"] {
            if let Some(amount) = container["resources"][side].get(name) {
                resources[side][name] = amount.clone();
            }
        }
    }
    let user = [&container["securityContext"], &template["spec"]["securityContext"]]
        .iter()
        .find_map(|context| context["runAsUser"].as_u64())
        .filter(|user| *user != 0)
        .unwrap_or(USER);
    json!({
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/usr/bin/sonde", "agents", "build", format!("--agent-bundle={MOUNT}/python")],
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "runAsUser": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": NAME, "mountPath": MOUNT}],
    })
}

impl Change {
    /// The difference of the templates, as people read them. Values that are not ours are hidden.
    pub(crate) fn difference(&self) -> String {
        let [before, after] = [&self.before, &self.after]
            .map(|template| yaml::text(&template::shown(template, &self.put)));
        unified(&self.workload.shown(), Some(&before), Some(&after))
    }

    /// What was there before: of the template only what was touched. All of it stands in the note.
    pub(crate) fn before(&self) -> Before {
        let mut lines = vec![format!(
            "{}, container {}: no init container, volume or mount {NAME}",
            self.workload.shown(),
            self.put.container
        )];
        let set = self.put.variables.iter().filter(|variable| !is_original(&variable.name));
        lines.extend(set.map(|Variable { name, before, .. }| {
            let value = before.as_ref().map(|before| (before.get("valueFrom"), &before["value"]));
            match value {
                None => format!("{name} was not in its env"),
                Some((Some(from), _)) => format!("{name} was from {from}"),
                Some(_) if name == environment::HEADERS => format!("{name} was in its env"),
                Some((None, value)) => format!("{name} was {}", value.as_str().unwrap_or_default()),
            }
        }));
        Before { shown: lines.join("\n"), was: Was::Template }
    }

    /// The same for `kubectl`.
    pub(crate) fn by_hand(&self) -> ByHand {
        let Workload { kind, namespace, name } = &self.workload;
        let secret = match self.secret {
            Some(_) => format!(
                "# HEADERS is authorization=Bearer%20TOKEN; `sonde tokens create --kind ingest` makes a token\n\
                 kubectl create secret generic {SECRET} -n {namespace} --from-literal={SECRET_KEY}=HEADERS\n"
            ),
            None => String::new(),
        };
        let text = if self.is_applied {
            let patch = yaml::text(&self.applied());
            format!(
                "{secret}kubectl apply --server-side --force-conflicts --field-manager={MANAGER} -f - <<'EOF'\n{patch}EOF"
            )
        } else {
            let shown = yaml::text(&template::shown(&self.after, &self.put));
            format!("{secret}kubectl edit {} {name} -n {namespace}\n{shown}", kind.word())
        };
        ByHand { tool: "kubectl".to_owned(), text }
    }

    /// The object with nothing but what is ours, as server-side apply takes it.
    pub(crate) fn applied(&self) -> Value {
        let mut object = self.nothing();
        let mut at = &mut object;
        for part in self.workload.kind.template().split('/').skip(1) {
            at = &mut at[part];
        }
        *at = self.put.alone(&self.before);
        object
    }

    /// The object with nothing of ours.
    pub(crate) fn nothing(&self) -> Value {
        let Workload { kind, namespace, name } = &self.workload;
        json!({
            "apiVersion": kind.version(),
            "kind": kind.word(),
            "metadata": {"name": name, "namespace": namespace},
        })
    }
}

#[cfg(test)]
mod tests;
