//! Services, and the dial of each.

use super::Body;
use crate::app::App;
use crate::error::{ApiError, Refusal};
use crate::guard::Caller;
use crate::hub::Event;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use contract::capture::Level;
use contract::row::{Services, Time};
use contract::step::Change;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use storage::NewStep;
use utoipa::ToSchema;

/// How long a node may take to think a change through, in seconds.
const PREVIEW_SECONDS: u64 = 60;

/// How often the answer of a node is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Entries of the history in which it is looked for.
const LOOK_AT: u32 = 50;

/// All services, by name.
#[utoipa::path(get, path = "/api/v1/services", tag = "services",
    responses((status = OK, body = Services), (status = UNAUTHORIZED, body = Refusal)))]
pub(super) async fn list(State(state): State<App>) -> Result<Json<Services>, ApiError> {
    let now = (state.clock)();
    Ok(Json(state.ask_calls(move |store| store.services(now)).await?))
}

/// What is wanted of a service.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Capture {
    /// `off`, `network` or `full`.
    level: String,
    /// Why, for the history.
    #[serde(default)]
    reason: String,
}

/// A wish that was kept.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Kept {
    /// Generation of the wish; a controller that reports this one or a higher has it.
    generation: u64,
}

/// Wants a capture level of a service. It is on disk when this answers, and on its way to the
/// node.
#[utoipa::path(put, path = "/api/v1/services/{key}/capture", tag = "services",
    params(("key" = String, Path, description = "Key of the workload, percent-encoded")),
    request_body = Capture,
    responses((status = OK, body = Kept), (status = BAD_REQUEST, body = Refusal),
        (status = NOT_FOUND, body = Refusal), (status = CONFLICT, body = Refusal)))]
pub(super) async fn set_capture(
    State(state): State<App>,
    Extension(caller): Extension<Caller>,
    Path(key): Path<String>,
    Body(capture): Body<Capture>,
) -> Result<Json<Kept>, ApiError> {
    let Some(level) = Level::of_word(&capture.level) else {
        return Err(ApiError::bad("cannot set this level; it is one of `off`, `network`, `full`"));
    };
    let now = (state.clock)();
    let mut reason = capture.reason;
    crate::poll::clean_text(&mut reason);
    let wanted = state
        .ask(move |store| {
            let actor = caller.word();
            store.want(storage::NewWish { key: &key, level, actor, reason: &reason }, now)
        })
        .await?;
    state.hub.wake(&wanted.instances);
    state.hub.publish(Event::Services);
    Ok(Json(Kept { generation: wanted.generation }))
}

/// What putting an SDK into a service would change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Preview {
    /// Whether it can be done.
    possible: bool,
    /// The exact difference, what was looked at before, the restart, and how to do it by hand; where
    /// it cannot be done, how to do it by hand alone, if at all.
    text: String,
    /// Why it cannot be done, and what to do.
    reason: String,
}

/// Has the node of a service say what the level `full` would change. Nothing is changed.
#[utoipa::path(post, path = "/api/v1/services/{key}/preview", tag = "services",
    params(("key" = String, Path, description = "Key of the workload, percent-encoded")),
    responses((status = OK, body = Preview), (status = NOT_FOUND, body = Refusal),
        (status = CONFLICT, body = Refusal), (status = GATEWAY_TIMEOUT, body = Refusal)))]
pub(super) async fn preview(
    State(state): State<App>,
    Extension(caller): Extension<Caller>,
    Path(key): Path<String>,
) -> Result<Json<Preview>, ApiError> {
    let now = (state.clock)();
    let services = state.ask_calls(move |store| store.services(now)).await?.services;
    let service = services.into_iter().find(|service| service.key == key);
    let Some(service) = service else { return Err(storage::Error::UnknownWorkload.into()) };
    let nodes = state.ask(storage::Store::nodes).await?;
    let is_its = |id: &str| key.split_once('/').is_some_and(|(scope, _)| scope == id);
    let node = nodes
        .iter()
        .find(|node| is_its(&node.id))
        .or_else(|| nodes.iter().find(|node| Some(&node.host_name) == service.host_name.as_ref()));
    super::fleet::can_take(node, Change::PreviewSdk)?;
    let Some(node) = node else { return Err(storage::Error::UnknownNode.into()) };
    let instance = node.id.clone();
    let new = NewStep {
        instance: instance.clone(),
        key: Some(key.clone()),
        change: Change::PreviewSdk,
        reason: "Somebody wants to see what Full would change.".to_owned(),
        actor: caller.word().to_owned(),
        deadline: Time(now.0.saturating_add(PREVIEW_SECONDS * 1_000_000_000)),
    };
    let id = state.ask(move |store| store.new_step(&new, now)).await?;
    state.hub.wake(&[instance]);
    for _ in 0..PREVIEW_SECONDS * 1_000 / 100 {
        tokio::time::sleep(LOOK_EVERY).await;
        let about = key.clone();
        let history = state.ask(move |store| store.history(&about, LOOK_AT)).await?;
        let ended = history.entries.into_iter().find(|entry| {
            let is_end = !matches!(entry.what.as_str(), "made" | "sent" | "running");
            entry.step.as_deref() == Some(id.as_str()) && is_end
        });
        if let Some(entry) = ended {
            let possible = entry.what == "done";
            let text = entry.change;
            return Ok(Json(Preview { possible, text, reason: entry.reason }));
        }
    }
    let message = "cannot say what would be changed: the node does not answer; look at it in Fleet";
    Err(ApiError::new(axum::http::StatusCode::GATEWAY_TIMEOUT, message))
}
