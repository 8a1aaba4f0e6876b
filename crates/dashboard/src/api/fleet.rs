//! The fleet: what happened, names, rules of discovery, configuration, steps, and nodes that go.

use super::{Body, Query};
use crate::app::App;
use crate::error::{ApiError, Refusal};
use crate::guard::Caller;
use crate::hub::Event;
use crate::poll::{clean_text, is_key};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use contract::poll::Capability;
use contract::row::{Configurations, History, LayerRow, Node, Steps, Time};
use contract::rules::{Rule, Rules};
use contract::settings::Layer;
use contract::step::Change;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use storage::NewStep;
use utoipa::{IntoParams, ToSchema};

/// Entries that a history answers at most.
const MAX_ENTRIES: u32 = 500;
/// Rules of a kind.
const MAX_RULES: usize = 256;
/// Longest pattern, name or word.
const MAX_CHARS: usize = 256;
/// How long a step may be begun when nobody says, and at most.
const STEP_SECONDS: u64 = 600;
const MAX_STEP_SECONDS: u64 = 86_400;

/// What happened to a service, newest first: wishes with who made them, states with their reasons,
/// steps, names.
#[utoipa::path(get, path = "/api/v1/services/{key}/history", tag = "services",
    params(("key" = String, Path, description = "Key of the workload, percent-encoded")),
    responses((status = OK, body = History), (status = UNAUTHORIZED, body = Refusal)))]
pub(super) async fn history(
    State(state): State<App>,
    Path(key): Path<String>,
) -> Result<Json<History>, ApiError> {
    Ok(Json(state.ask(move |store| store.history(&key, MAX_ENTRIES)).await?))
}

/// A name to give.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Name {
    /// The name; absent or empty takes it away.
    #[serde(default)]
    name: Option<String>,
}

/// Gives a service a name that wins over every other, or takes it away. The key stays.
#[utoipa::path(put, path = "/api/v1/services/{key}/name", tag = "services",
    params(("key" = String, Path, description = "Key of the workload, percent-encoded")),
    request_body = Name,
    responses((status = OK, body = Object), (status = BAD_REQUEST, body = Refusal),
        (status = NOT_FOUND, body = Refusal)))]
pub(super) async fn set_name(
    State(state): State<App>,
    Extension(caller): Extension<Caller>,
    Path(key): Path<String>,
    Body(name): Body<Name>,
) -> Result<Json<Value>, ApiError> {
    let name = name.name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    if name.as_deref().is_some_and(|name| !is_word(name)) {
        return Err(ApiError::bad("cannot take this name; it is 1 to 256 printable characters"));
    }
    let now = (state.clock)();
    let nodes =
        state.ask(move |store| store.set_name(&key, name.as_deref(), caller.word(), now)).await?;
    state.hub.wake(&nodes);
    state.hub.publish(Event::Services);
    Ok(Json(json!({})))
}

/// Rules of discovery that hold on all nodes, beside each node's own.
#[utoipa::path(get, path = "/api/v1/rules", tag = "fleet",
    responses((status = OK, body = Rules), (status = UNAUTHORIZED, body = Refusal)))]
pub(super) async fn rules(State(state): State<App>) -> Result<Json<Rules>, ApiError> {
    Ok(Json(state.ask(storage::Store::rules).await?))
}

/// Sets the rules of discovery; all nodes hear of it.
#[utoipa::path(put, path = "/api/v1/rules", tag = "fleet", request_body = Rules,
    responses((status = OK, body = Object), (status = BAD_REQUEST, body = Refusal)))]
pub(super) async fn set_rules(
    State(state): State<App>,
    Extension(caller): Extension<Caller>,
    Body(rules): Body<Rules>,
) -> Result<Json<Value>, ApiError> {
    check_rules(&rules)?;
    let now = (state.clock)();
    let nodes = state.ask(move |store| store.set_rules(&rules, caller.word(), now)).await?;
    state.hub.wake(&nodes);
    Ok(Json(json!({})))
}

fn check_rules(rules: &Rules) -> Result<(), ApiError> {
    let lists = [rules.include.len(), rules.exclude.len(), rules.providers.len()];
    if lists.into_iter().any(|length| length > MAX_RULES) {
        return Err(ApiError::bad("cannot take more than 256 rules of a kind; use `*` in one"));
    }
    for rule in rules.include.iter().chain(&rules.exclude) {
        if *rule == Rule::default() {
            return Err(ApiError::bad("cannot take a rule that gives nothing; it would match all"));
        }
        let given = [&rule.namespace, &rule.label, &rule.name, &rule.user, &rule.path];
        if given.into_iter().flatten().any(|pattern| !is_word(pattern)) {
            return Err(ApiError::bad(
                "cannot take a rule with a pattern that is not 1 to 256 printable characters",
            ));
        }
    }
    for provider in &rules.providers {
        let more = [&provider.path, &provider.family].into_iter().flatten();
        let all = [&provider.name, &provider.host].into_iter().chain(more);
        if all.into_iter().any(|text| !is_word(text)) || provider.port == Some(0) {
            return Err(ApiError::bad(
                "cannot take this provider; name, host, path and family are 1 to 256 printable \
                 characters, and a port is 1 to 65535",
            ));
        }
    }
    Ok(())
}

/// Configuration in layers, and what comes of it on each node: effective values with their origin,
/// and which of them the node applied.
#[utoipa::path(get, path = "/api/v1/configuration", tag = "fleet",
    responses((status = OK, body = Configurations), (status = UNAUTHORIZED, body = Refusal)))]
pub(super) async fn configuration(
    State(state): State<App>,
) -> Result<Json<Configurations>, ApiError> {
    Ok(Json(state.ask(storage::Store::configurations).await?))
}

/// Sets one layer; settings without any value take it away. Nodes hear of it at once.
#[utoipa::path(put, path = "/api/v1/configuration", tag = "fleet", request_body = LayerRow,
    responses((status = OK, body = Object), (status = BAD_REQUEST, body = Refusal)))]
pub(super) async fn set_configuration(
    State(state): State<App>,
    Extension(caller): Extension<Caller>,
    Body(row): Body<LayerRow>,
) -> Result<Json<Value>, ApiError> {
    if row.layer == Layer::Fleet && !row.name.is_empty() {
        return Err(ApiError::bad("cannot name the layer of the fleet; there is one"));
    }
    if row.layer != Layer::Fleet && !is_key(&row.name) {
        return Err(ApiError::bad(
            "cannot set this layer without a name; name the environment, cluster or node",
        ));
    }
    if let Some(complaint) = row.settings.complaint() {
        return Err(ApiError::bad(complaint));
    }
    let now = (state.clock)();
    let nodes = state.ask(move |store| store.set_layer(&row, caller.word(), now)).await?;
    state.hub.wake(&nodes);
    state.hub.publish(Event::Status);
    Ok(Json(json!({})))
}

/// Which steps.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfNode {
    /// Node; all when absent.
    instance: Option<String>,
}

/// Steps, newest first, at most 500.
#[utoipa::path(get, path = "/api/v1/steps", tag = "fleet", params(OfNode),
    responses((status = OK, body = Steps), (status = UNAUTHORIZED, body = Refusal)))]
pub(super) async fn steps(
    State(state): State<App>,
    Query(of): Query<OfNode>,
) -> Result<Json<Steps>, ApiError> {
    let steps = state.ask(move |store| store.steps(of.instance.as_deref(), MAX_ENTRIES)).await?;
    Ok(Json(Steps { steps }))
}

/// A step to ask for.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct StepWish {
    /// Node that shall take it.
    instance: String,
    /// Workload that it is about; absent for the node itself.
    #[serde(default)]
    key: Option<String>,
    /// `refresh`, `retry`, `restart` or `undo`.
    change: String,
    /// Why, for the history.
    #[serde(default)]
    reason: String,
    /// How long it may be begun; ten minutes when absent, a day at most.
    #[serde(default)]
    deadline_seconds: Option<u64>,
}

/// A step that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeStep {
    /// Its id.
    id: String,
}

/// Asks a node for a single change. It is on disk when this answers, and on its way to the node.
#[utoipa::path(post, path = "/api/v1/steps", tag = "fleet", request_body = StepWish,
    responses((status = OK, body = MadeStep), (status = BAD_REQUEST, body = Refusal),
        (status = NOT_FOUND, body = Refusal), (status = CONFLICT, body = Refusal)))]
pub(super) async fn new_step(
    State(state): State<App>,
    Extension(caller): Extension<Caller>,
    Body(mut wish): Body<StepWish>,
) -> Result<Json<MadeStep>, ApiError> {
    let asked = [Change::Refresh, Change::Retry, Change::Restart, Change::Undo];
    let change = Change::of_word(&wish.change).filter(|change| asked.contains(change));
    let Some(change) = change else {
        return Err(ApiError::bad(
            "cannot ask for this step; it is one of `refresh`, `retry`, `restart`, `undo`",
        ));
    };
    let needs_key = matches!(change, Change::Restart | Change::Undo);
    if (needs_key && wish.key.is_none()) || wish.key.as_deref().is_some_and(|key| !is_key(key)) {
        return Err(ApiError::bad("cannot ask for this step without the key of a workload"));
    }
    let node = state.ask(storage::Store::nodes).await?;
    let node = node.into_iter().find(|node| node.id == wish.instance);
    can_take(node.as_ref(), change)?;
    clean_text(&mut wish.reason);
    let now = (state.clock)();
    let seconds = wish.deadline_seconds.unwrap_or(STEP_SECONDS).clamp(1, MAX_STEP_SECONDS);
    let new = NewStep {
        instance: wish.instance.clone(),
        key: wish.key,
        change,
        reason: wish.reason,
        actor: caller.word().to_owned(),
        deadline: Time(now.0.saturating_add(seconds * 1_000_000_000)),
    };
    let id = state.ask(move |store| store.new_step(&new, now)).await?;
    state.hub.wake(&[wish.instance]);
    state.hub.publish(Event::Services);
    Ok(Json(MadeStep { id }))
}

/// A step that a node cannot take is refused here, rather than to expire.
pub(super) fn can_take(node: Option<&Node>, change: Change) -> Result<(), ApiError> {
    let Some(node) = node else { return Err(storage::Error::UnknownNode.into()) };
    let needed = match change {
        Change::Restart => Capability::Restart,
        Change::Undo => Capability::Undo,
        Change::PreviewSdk => Capability::Sdk,
        _ => Capability::Steps,
    };
    if node.capabilities.contains(&needed) {
        return Ok(());
    }
    let host = &node.host_name;
    let message = match needed {
        Capability::Sdk => format!(
            "cannot put an SDK into programs of {host}: the configuration of that node forbids it \
             (`injection`, `max_capture`, `observe_only`), or does not say where SDKs send to \
             (`agent_endpoint`, `agent_token_file`); change it there"
        ),
        _ => format!(
            "cannot ask this of {host}: its controller does not know how; bring it to the version \
             of this dashboard"
        ),
    };
    Err(ApiError::new(StatusCode::CONFLICT, message))
}

/// Something by its id.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ById {
    /// Id.
    id: String,
}

/// Takes a step back. One that the node has begun goes on.
#[utoipa::path(post, path = "/api/v1/steps/cancel", tag = "fleet", request_body = ById,
    responses((status = OK, body = Object), (status = NOT_FOUND, body = Refusal)))]
pub(super) async fn cancel_step(
    State(state): State<App>,
    Extension(caller): Extension<Caller>,
    Body(step): Body<ById>,
) -> Result<Json<Value>, ApiError> {
    let now = (state.clock)();
    let node = state.ask(move |store| store.cancel_step(&step.id, caller.word(), now)).await?;
    let Some(node) = node else {
        let message = "cannot find a step of this id that is under way; ask for the list again";
        return Err(ApiError::new(StatusCode::NOT_FOUND, message));
    };
    state.hub.wake(&[node]);
    Ok(Json(json!({})))
}

/// Ends the credential of a node at once. It cannot join again until it is let in anew.
#[utoipa::path(post, path = "/api/v1/instances/revoke", tag = "access", request_body = ById,
    responses((status = OK, body = Object), (status = NOT_FOUND, body = Refusal)))]
pub(super) async fn revoke_node(
    State(state): State<App>,
    Extension(caller): Extension<Caller>,
    Body(node): Body<ById>,
) -> Result<Json<Value>, ApiError> {
    let now = (state.clock)();
    let id = node.id.clone();
    let found = state.ask(move |store| store.revoke_node(&id, caller.word(), now)).await?;
    state.hub.publish(Event::Status);
    known(found)
}

/// Lets a node join anew with a join token, whatever credential it had.
#[utoipa::path(post, path = "/api/v1/instances/readmit", tag = "access", request_body = ById,
    responses((status = OK, body = Object), (status = NOT_FOUND, body = Refusal)))]
pub(super) async fn readmit_node(
    State(state): State<App>,
    Extension(caller): Extension<Caller>,
    Body(node): Body<ById>,
) -> Result<Json<Value>, ApiError> {
    let now = (state.clock)();
    let found = state.ask(move |store| store.readmit_node(&node.id, caller.word(), now)).await?;
    state.hub.publish(Event::Status);
    known(found)
}

fn known(found: bool) -> Result<Json<Value>, ApiError> {
    if found { Ok(Json(json!({}))) } else { Err(storage::Error::UnknownNode.into()) }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= MAX_CHARS && !text.chars().any(char::is_control)
}
