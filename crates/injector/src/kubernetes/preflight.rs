//! What is looked at before a template is changed.

use super::{CHANGE, Kind, MOUNT, NAME, SWITCH, Workload, health, template};
use crate::environment::Injection;
use crate::plan::{ByHand, Finding, Refusal};
use crate::program::Program;
use serde_json::Value;
use std::collections::BTreeMap;

/// Namespaces of Kubernetes itself.
const SYSTEM: [&str; 3] = ["kube-node-lease", "kube-public", "kube-system"];
/// The init container starts Sonde's program; with less it may be killed for want of memory.
const MIN_MEMORY: f64 = 48.0 * 1024.0 * 1024.0;

/// What the API server and the kernel say around a workload.
#[derive(Debug, Clone, Default)]
pub(crate) struct Around {
    pub(crate) object: Value,
    pub(crate) namespace: Value,
    /// Its pods.
    pub(crate) pods: Vec<Value>,
    /// Disruption budgets and autoscalers of the namespace.
    pub(crate) budgets: Vec<Value>,
    pub(crate) scalers: Vec<Value>,
    /// The program on this node that the agent is for.
    pub(crate) program: Program,
    /// What its container was started with.
    pub(crate) effective: BTreeMap<String, String>,
    /// The namespace that Sonde itself is in.
    pub(crate) own_namespace: Option<String>,
}

/// What speaks against the change.
pub(crate) fn refuse(
    workload: &Workload,
    container: &str,
    (around, injection): (&Around, &Injection),
) -> Result<(), Refusal> {
    let null = Value::Null;
    let template = around.object.pointer(workload.kind.template()).unwrap_or(&null);
    said_no(workload, template, around)?;
    crate::program::check(&around.program)?;
    let Some(spec) = template::container(template, container) else {
        return Err(Refusal::unsupported(
            "no_container",
            format!(
                "{} has no container {container} in its template: something else puts it into its pods; set it to Network.",
                workload.shown()
            ),
        ));
    };
    in_the_way(workload, template, spec)?;
    let host = injection.endpoint.split_once("://").map_or("", |(_, rest)| rest);
    let is_loopback = ["127.", "localhost", "[::1]"].iter().any(|start| host.starts_with(start));
    if is_loopback && template["spec"]["hostNetwork"] != true {
        return Err(Refusal::unsupported(
            "unreachable_endpoint",
            format!(
                "Within a pod {} is the pod itself; start Sonde with --agent-endpoint URL, an address that pods reach.",
                injection.endpoint
            ),
        ));
    }
    restarts_not(workload, &around.object)?;
    not_now(workload, around)
}

/// The switches of people.
fn said_no(workload: &Workload, template: &Value, around: &Around) -> Result<(), Refusal> {
    let namespace = workload.namespace.as_str();
    if SYSTEM.contains(&namespace) || around.own_namespace.as_deref() == Some(namespace) {
        return Err(Refusal::blocked(
            "namespace_excluded",
            format!(
                "Nothing in the namespace {namespace} is changed: it is the cluster's or Sonde's own."
            ),
        ));
    }
    let says_no = |object: &Value| {
        ["annotations", "labels"].iter().any(|list| object["metadata"][list][SWITCH] == "false")
    };
    let places = [
        (&around.namespace, "the namespace"),
        (&around.object, "it"),
        (template, "the template of its pods"),
    ];
    let Some((_, place)) = places.into_iter().find(|(object, _)| says_no(object)) else {
        return Ok(());
    };
    Err(Refusal::blocked(
        "switched_off",
        format!("{SWITCH}: \"false\" stands on {place}; remove that to have the SDK put in."),
    ))
}

/// What has our names or our place, and what leaves no room.
fn in_the_way(workload: &Workload, template: &Value, spec: &Value) -> Result<(), Refusal> {
    let named = |list: &Value| list.as_array().into_iter().flatten().any(|it| it["name"] == NAME);
    let pod = &template["spec"];
    let mounts = spec["volumeMounts"].as_array().into_iter().flatten();
    let mut paths = mounts.filter_map(|mount| mount["mountPath"].as_str());
    let is_taken = paths.any(|path| path.trim_end_matches('/').starts_with(MOUNT));
    if !template["metadata"]["annotations"][CHANGE].is_null() {
        return Err(Refusal::conflict(
            "changed_already",
            format!(
                "The template of {} has the SDK of another Sonde, or of one whose notes are lost; remove {NAME} and {CHANGE} from it, then set the dial again.",
                workload.shown()
            ),
        ));
    }
    if is_taken
        || [&pod["initContainers"], &pod["containers"], &pod["volumes"]].into_iter().any(named)
    {
        return Err(Refusal::conflict(
            "name_taken",
            format!(
                "{} has something else that is called {NAME} or stands at {MOUNT}; call that something else.",
                workload.shown()
            ),
        ));
    }
    let limit = spec["resources"]["limits"]["memory"].as_str();
    if let Some(limit) = limit.filter(|limit| bytes(limit).is_some_and(|it| it < MIN_MEMORY)) {
        return Err(Refusal::unsupported(
            "too_little_memory",
            format!(
                "Its memory is limited to {limit}, which is too little for an SDK beside the program; raise the limit to 128Mi or more."
            ),
        ));
    }
    Ok(())
}

/// Amounts of memory as Kubernetes writes them.
fn bytes(amount: &str) -> Option<f64> {
    let digits = amount.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(amount.len());
    let (number, unit) = amount.split_at(digits);
    let scale = match unit {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}

/// Workloads whose pods are not all made anew when the template changes.
fn restarts_not(workload: &Workload, object: &Value) -> Result<(), Refusal> {
    let strategy = &object["spec"]["updateStrategy"];
    let name = workload.shown();
    if strategy["type"] == "OnDelete" {
        return Err(Refusal::unsupported(
            "on_delete",
            format!(
                "{name} has the strategy OnDelete: it gives its pods a changed template only when a person deletes them (`kubectl delete pod`), now and again to take it out; set RollingUpdate, or set it to Network."
            ),
        ));
    }
    if strategy["rollingUpdate"]["partition"].as_u64() > Some(0) {
        return Err(Refusal::unsupported(
            "partition",
            format!(
                "{name} has a partition, so only some of its pods would change; set the partition to 0, or set it to Network."
            ),
        ));
    }
    Ok(())
}

/// What passes, or is to be mended first.
fn not_now(workload: &Workload, around: &Around) -> Result<(), Refusal> {
    let object = &around.object;
    let name = workload.shown();
    if object["spec"]["paused"] == true {
        return Err(Refusal::not_now(
            "paused",
            format!("{name} is paused; resume it (`kubectl rollout resume`) first."),
        ));
    }
    if workload.kind == Kind::CronJob {
        return Ok(());
    }
    let stuck = around.pods.iter().find_map(|pod| {
        let statuses = pod["status"]["containerStatuses"].as_array()?;
        statuses.iter().find_map(|status| status["state"]["waiting"]["reason"].as_str())
    });
    if let Some(reason) = stuck.filter(|reason| health::is_stuck(reason)) {
        return Err(Refusal::not_now(
            "unhealthy",
            format!("{name} is not well even now ({reason}); mend it first."),
        ));
    }
    if let Some(progress) = health::progress(workload.kind, object, &[]) {
        let ready = around.pods.iter().filter(|pod| health::is_ready(pod)).count();
        return Err(Refusal::not_now(
            "rolling",
            format!(
                "{name} is rolling out or is not well even now ({ready} of its {} pods are ready); let that end first.",
                progress.split_whitespace().nth(2).unwrap_or("")
            ),
        ));
    }
    Ok(())
}

/// What somebody should know.
pub(crate) fn findings(workload: &Workload, around: &Around) -> Vec<Finding> {
    let object = &around.object;
    let mut findings = vec![Finding::good(format!("{} is well as it is.", workload.shown()))];
    if workload.kind == Kind::CronJob {
        findings.push(Finding::good("The SDK is there from its next run on."));
    }
    let replicas = object["spec"]["replicas"].as_u64().unwrap_or(1);
    let is_one = matches!(workload.kind, Kind::Deployment | Kind::StatefulSet) && replicas == 1;
    let surges = workload.kind == Kind::Deployment
        && object["spec"]["strategy"]["type"] != "Recreate"
        && object["spec"]["strategy"]["rollingUpdate"]["maxSurge"] != 0;
    if is_one && !surges {
        findings.push(Finding::warn(
            "It has one pod, which ends before the next one starts: nobody answers meanwhile.",
        ));
    } else if is_one {
        findings.push(Finding::good("It has one pod; the next one is ready before that ends."));
    }
    let labels = &object["spec"]["selector"]["matchLabels"];
    for budget in &around.budgets {
        let selector = budget["spec"]["selector"]["matchLabels"].as_object();
        let is_ours = selector
            .is_some_and(|all| all.iter().all(|(name, value)| labels.get(name) == Some(value)));
        if is_ours && budget["status"]["disruptionsAllowed"] == 0 {
            findings.push(Finding::warn(format!(
                "The disruption budget {} allows no disruption now; a rollout does not ask it.",
                budget["metadata"]["name"].as_str().unwrap_or_default()
            )));
        }
    }
    for scaler in &around.scalers {
        let target = &scaler["spec"]["scaleTargetRef"];
        let is_ours =
            target["kind"] == workload.kind.word() && target["name"] == workload.name.as_str();
        let most = scaler["spec"]["maxReplicas"].as_u64().unwrap_or(u64::MAX);
        if is_ours && scaler["status"]["currentReplicas"].as_u64() >= Some(most) {
            findings.push(Finding::warn(
                format!("Its autoscaler is at its limit of {most} pods: there is no room for more load while it rolls out."),
            ));
        }
    }
    findings.extend(keeper(object).map(|(keeper, _)| {
        Finding::warn(
            format!("{keeper} keeps it as it is written down elsewhere, and may take the change out; that would be respected."),
        )
    }));
    findings
}

/// Who keeps the object as it is written down elsewhere, and how it is told to leave our part alone.
pub(crate) fn keeper(object: &Value) -> Option<(&'static str, Option<ByHand>)> {
    let metadata = &object["metadata"];
    let has =
        |name: &str| ["annotations", "labels"].iter().any(|list| !metadata[list][name].is_null());
    let managed = metadata["labels"]["app.kubernetes.io/managed-by"].as_str().unwrap_or_default();
    if has("argocd.argoproj.io/tracking-id") || has("argocd.argoproj.io/instance") {
        let text = format!(
            "# in the Application\nspec:\n  ignoreDifferences:\n  - group: apps\n    kind: {}\n    name: {}\n    managedFieldsManagers: [{}]\n",
            object["kind"].as_str().unwrap_or_default(),
            metadata["name"].as_str().unwrap_or_default(),
            super::MANAGER
        );
        return Some(("Argo CD", Some(ByHand { tool: "Argo CD".to_owned(), text })));
    }
    if has("kustomize.toolkit.fluxcd.io/name") || has("helm.toolkit.fluxcd.io/name") {
        return Some(("Flux", None));
    }
    if has("meta.helm.sh/release-name") || managed.eq_ignore_ascii_case("helm") {
        return Some(("Helm", None));
    }
    let by_kustomize = has("config.kubernetes.io/origin") || managed.starts_with("kustomize");
    by_kustomize.then_some(("Kustomize", None))
}
