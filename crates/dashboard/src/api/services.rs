//! Services, and the dial of each.

use super::Body;
use crate::app::App;
use crate::error::{ApiError, Refusal};
use crate::guard::Caller;
use crate::hub::Event;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use contract::capture::Level;
use contract::row::Services;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
