//! The poll of OpenLIT's controller, so that a fleet can move node by node.
//!
//! Its messages are those of OpenLIT's own dashboard (openlit/openlit, `openlit-controller`): a
//! report with `services` and `action_results` is answered with a configuration and `actions`.
//! Unlike there, nothing is taken without a token, no header says whose data it is, what cannot be
//! read is left out without failing the rest, and an action is sent again until its result came.
//!
//! Its ids are no proof of anything, so a node is known by the number of its token and the name
//! that it gives itself: a token can speak for its own nodes alone.

use crate::app::App;
use crate::error::{ApiError, Refusal};
use crate::guard::Caller;
use crate::hub::Event;
use crate::poll::{clean_instance, clean_text, clean_workload, is_key};
use axum::extract::{DefaultBodyLimit, State};
use axum::{Extension, Json};
use bytes::Bytes;
use contract::attribute;
use contract::capture::{Level, State as Standing};
use contract::poll::{Capability, Instance as Sender, Report};
use contract::reconcile::Feature;
use contract::step::{Change, Phase, Progress, Step};
use contract::workload::{Agent, By, Evidence, Instance, Key, Observed, Platform, Runtime};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use storage::Asked;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Body of a poll; its own dashboard takes 500 services.
const MAX_POLL: usize = 8 << 20;
/// Services that are taken over; those beyond are left out.
const MAX_SERVICES: usize = 10_000;
/// Results that are taken over; those beyond are left out.
const MAX_RESULTS: usize = 200;
/// Its shortest interval: there is no waiting poll, so this is how long a wish takes.
const INTERVAL_SECONDS: u32 = 5;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(poll)).layer(DefaultBodyLimit::max(MAX_POLL))
}

/// What the controller says. Unknown fields are ignored, and all but the id may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Poll {
    instance_id: String,
    version: String,
    mode: String,
    node_name: String,
    services: Vec<Value>,
    action_results: Vec<Value>,
    resource_attributes: BTreeMap<String, Value>,
    config_hash: String,
}

/// A service, in its words.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    service_name: String,
    workload_key: String,
    namespace: String,
    language_runtime: String,
    llm_providers: Vec<String>,
    pid: u32,
    exe_path: String,
    instrumentation_status: String,
    resource_attributes: BTreeMap<String, Value>,
}

/// How an action went, in its words.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ActionResult {
    action_id: String,
    status: String,
    error: String,
}

/// The answer, in its words.
#[derive(Debug, Serialize)]
struct Answer {
    config_changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Value>,
    config_hash: String,
    actions: Vec<Action>,
    /// Services and results that were left out; it ignores the field, a person does not.
    refused: usize,
}

/// Something to do, in its words.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Action {
    id: String,
    action_type: &'static str,
    service_key: String,
    /// JSON within JSON.
    payload: String,
}

/// Takes a poll of OpenLIT's controller and answers in its words.
#[utoipa::path(post, path = "/api/controller/poll", tag = "controllers",
    request_body(content = Object, content_type = "application/json"),
    responses((status = OK, body = Object), (status = BAD_REQUEST, body = Refusal),
        (status = UNAUTHORIZED, body = Refusal)))]
async fn poll(
    State(state): State<App>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let poll: Poll = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad(format!("cannot read the poll; {error}")))?;
    drop(body);
    if !is_key(&poll.instance_id) {
        return Err(ApiError::bad("cannot take a poll without an `instance_id`"));
    }
    let token = if let Caller::Token { id, .. } = caller { id } else { 0 };
    let hash = poll.config_hash.clone();
    let (report, refused) = report(poll, token)?;
    let instance = report.instance.id.clone();
    let can = |capability| report.instance.capabilities.contains(&capability);
    let features = [(Capability::Network, Feature::Network), (Capability::Sdk, Feature::Agent)];
    let features = features.into_iter().filter(|(needs, _)| can(*needs));
    let features: Vec<Feature> = features.map(|(_, feature)| feature).collect();
    let now = (state.clock)();
    if token != 0 {
        let id = instance.clone();
        state.ask(move |store| store.join(&id, token, now)).await?;
    }
    let id = instance.clone();
    let (taken, wish) = state
        .ask(move |store| {
            let taken = store.report(&report, now)?;
            store.plan_for(&id, &features, now)?;
            // It never says which wishes it has: it only gets steps.
            Ok((taken, store.wish(&id, &Asked::default(), now)?))
        })
        .await?;
    if taken.changed {
        state.hub.publish(Event::Services);
        state.hub.publish(Event::Status);
    }
    let config = json!({ "poll_interval_seconds": INTERVAL_SECONDS });
    let config_hash = config_hash(&config);
    let config_changed = hash != config_hash;
    let answer = Answer {
        config_changed,
        config: config_changed.then_some(config),
        config_hash,
        actions: wish.steps.iter().filter_map(|step| action(step, &instance)).collect(),
        refused,
    };
    serde_json::to_value(answer).map(Json).map_err(|error| ApiError::failed(&error))
}

/// Its words as a report of ours, and how much of it could not be read.
fn report(poll: Poll, token: u64) -> Result<(Report, usize), ApiError> {
    let text = |name: &str| poll.resource_attributes.get(name).and_then(Value::as_str);
    let can = text("controller.capabilities").unwrap_or_default();
    let mut instance = Sender {
        id: format!("openlit-{token}-{}", poll.instance_id),
        host_name: text("host.name").unwrap_or(&poll.node_name).to_owned(),
        version: format!("openlit {}", poll.version),
        kernel: String::new(),
        platforms: platform_of_mode(&poll.mode).into_iter().collect(),
        capabilities: capabilities(can),
        ..Sender::default()
    };
    clean_instance(&mut instance)?;
    let given = poll.services.len() + poll.action_results.len();
    let services = poll.services.into_iter().take(MAX_SERVICES);
    let workloads: Vec<Observed> = services
        .filter_map(|service| serde_json::from_value(service).ok())
        .filter_map(|service| workload(service, &instance.id))
        .collect();
    let results = poll.action_results.into_iter().take(MAX_RESULTS);
    let steps: Vec<Progress> = results
        .filter_map(|result| serde_json::from_value(result).ok())
        .filter_map(progress)
        .collect();
    let refused = given.saturating_sub(workloads.len() + steps.len());
    let report = Report {
        protocol: 1,
        oldest_protocol: 1,
        instance,
        workloads: Some(workloads),
        steps,
        ..Report::default()
    };
    Ok((report, refused))
}

fn platform_of_mode(mode: &str) -> Option<Platform> {
    match mode {
        "kubernetes" => Some(Platform::Kubernetes),
        "docker" => Some(Platform::Docker),
        "linux" => Some(Platform::Systemd),
        _ => None,
    }
}

fn capabilities(words: &str) -> BTreeSet<Capability> {
    let mut all = BTreeSet::from([Capability::Steps]);
    for word in words.split(',').map(str::trim) {
        if word == "obi_llm_observability" {
            all.insert(Capability::Network);
        } else if word.contains("sdk_injection") {
            all.insert(Capability::Sdk);
        } else if word.starts_with("lifecycle_") {
            all.insert(Capability::Restart);
        }
    }
    all
}

fn workload(service: Service, instance: &str) -> Option<Observed> {
    let (platform, place) = place(&service.workload_key)?;
    let key = format!("{instance}/{place}");
    if !is_key(&key) {
        return None;
    }
    let text = |name: &str| service.resource_attributes.get(name).and_then(Value::as_str);
    let is_on = service.instrumentation_status == "instrumented";
    let is_stopped = text("openlit.lifecycle.status") == Some("stopped");
    let runtime = Some(service.language_runtime).filter(|name| !name.is_empty());
    let process = Instance {
        pid: service.pid,
        executable: service.exe_path,
        runtime: runtime.map(|name| Runtime { name, version: None }),
        ..Instance::default()
    };
    let evidence = service.llm_providers.into_iter().map(|provider| Evidence {
        seen: provider.clone(),
        provider,
        by: By::Address,
        last_seen_unix_nanos: 0,
    });
    let agent = agent(&text);
    let has_sdk = agent.as_ref().is_some_and(|agent| agent.state == Standing::Capturing);
    let level = match (is_on, has_sdk) {
        (true, true) => Level::Full,
        (true, false) => Level::Network,
        (false, _) => Level::Off,
    };
    let (state, reason) = match (is_stopped, level) {
        (true, _) => (Standing::Stopped, "OpenLIT's controller says that it is stopped."),
        (false, Level::Full) => (
            Standing::Capturing,
            "OpenLIT's controller reads its calls, and put its SDK into the program.",
        ),
        (false, Level::Network) => (Standing::Capturing, "OpenLIT's controller reads its calls."),
        (false, Level::Off) => (Standing::Discovered, "Seen by OpenLIT's controller."),
    };
    let namespace = Some(service.namespace).filter(|namespace| !namespace.is_empty());
    let attributes = namespace.map(|name| (attribute::K8S_NAMESPACE_NAME.to_owned(), name));
    let mut observed = Observed {
        key: Key(key),
        name: service.service_name,
        platform,
        instances: if is_stopped { Vec::new() } else { vec![process] },
        asked: Vec::new(),
        replaces: Vec::new(),
        evidence: evidence.collect(),
        level,
        state,
        reason: reason.to_owned(),
        first_seen_unix_nanos: 0,
        last_seen_unix_nanos: 0,
        attributes: attributes.into_iter().collect(),
        agent,
    };
    clean_workload(&mut observed);
    Some(observed)
}

/// What it says of the SDK in a program; nothing where there is none and nothing stands in its way.
fn agent<'a>(text: &impl Fn(&str) -> Option<&'a str>) -> Option<Agent> {
    let source = text("openlit.agent_observability.source").unwrap_or_default();
    let (state, reason) = match text("openlit.agent_observability.status")? {
        "enabled" if source.starts_with("existing_") => (
            Standing::Conflict,
            "The program has an SDK of its own, by OpenLIT's controller; it is left alone.",
        ),
        "enabled" => (Standing::Capturing, "OpenLIT's controller put its SDK into the program."),
        "conflict" => (Standing::Conflict, "OpenLIT's controller found another SDK in it."),
        "manual" | "unsupported" => {
            (Standing::Unsupported, "OpenLIT's controller cannot put its SDK into it.")
        }
        "error" => (Standing::Failed, "OpenLIT's controller could not put its SDK into it."),
        _ => return None,
    };
    let why = text("openlit.observability.reason").unwrap_or_default();
    let reason = format!("{reason} {why}").trim().to_owned();
    Some(Agent {
        state,
        reason,
        processes: Vec::new(),
        change: String::new(),
        before: None,
        is_leaving: false,
    })
}

/// Its keys, and how we write them.
const PLACES: [(&str, &str, Platform); 4] = [
    ("k8s:", "kubernetes:", Platform::Kubernetes),
    ("docker:", "docker:", Platform::Docker),
    ("linux:systemd:", "systemd:", Platform::Systemd),
    ("linux:exe:", "process:", Platform::Process),
];

fn place(key: &str) -> Option<(Platform, String)> {
    PLACES.iter().find_map(|(theirs, ours, platform)| {
        let rest = key.strip_prefix(theirs).filter(|rest| !rest.is_empty())?;
        Some((*platform, format!("{ours}{rest}")))
    })
}

/// The key as it wrote it.
fn their_key(key: &Key, instance: &str) -> Option<String> {
    let place = key.0.strip_prefix(instance)?.strip_prefix('/')?;
    PLACES
        .iter()
        .find_map(|(theirs, ours, _)| Some(format!("{theirs}{}", place.strip_prefix(ours)?)))
}

fn progress(result: ActionResult) -> Option<Progress> {
    let phase = match result.status.as_str() {
        "completed" => Phase::Done,
        "failed" => Phase::Failed,
        _ => return None,
    };
    let mut reason = result.error;
    clean_text(&mut reason);
    is_key(&result.action_id).then(|| Progress::new(&result.action_id, phase, &reason))
}

fn action(step: &Step, instance: &str) -> Option<Action> {
    let action_type = match step.change {
        Change::Instrument => "instrument",
        Change::Uninstrument => "uninstrument",
        // Its older versions know these words alone; its newer ones take both.
        Change::EnableSdk => "enable_python_sdk",
        Change::DisableSdk => "disable_python_sdk",
        Change::Restart => "restart_workload",
        // It has no word for these.
        Change::Refresh | Change::Retry | Change::Undo | Change::PreviewSdk | Change::Unknown => {
            return None;
        }
    };
    let service_key = their_key(step.key.as_ref()?, instance)?;
    let payload = match step.change {
        // Where its spans go is in its own configuration.
        Change::EnableSdk => json!({
            "target_runtime": "python",
            "instrumentation_profile": "controller_managed",
            "duplicate_policy": "block_if_existing_otel_detected",
            "observability_scope": "agent",
            "resource_attributes": { "service.workload.key": service_key },
        }),
        _ => json!({}),
    };
    let payload = payload.to_string();
    Some(Action { id: step.id.clone(), action_type, service_key, payload })
}

/// 16 hexadecimal digits of the hash of the configuration's JSON, as its dashboard makes them.
fn config_hash(config: &Value) -> String {
    let digest = Sha256::digest(config.to_string());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
