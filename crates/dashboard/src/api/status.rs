//! How the dashboard and its controllers are.

use crate::app::{App, VERSION};
use crate::error::{ApiError, Refusal};
use axum::Json;
use axum::extract::State;
use contract::row::Status;
use std::sync::PoisonError;

/// A controller between two polls counts as connected for so long.
const BETWEEN_POLLS_NANOS: u64 = 10 * 1_000_000_000;

/// The dashboard, its controllers, and what their nodes allow.
#[utoipa::path(get, path = "/api/v1/status", tag = "status",
    responses((status = OK, body = Status), (status = UNAUTHORIZED, body = Refusal)))]
pub(super) async fn status(State(state): State<App>) -> Result<Json<Status>, ApiError> {
    let (mut instances, storage_bytes) =
        state.ask(|store| Ok((store.nodes()?, store.bytes()))).await?;
    let time = (state.clock)();
    for node in &mut instances {
        let recent = time.0.saturating_sub(node.last_poll.0) < BETWEEN_POLLS_NANOS;
        node.connected = recent || state.hub.is_waiting(&node.id);
    }
    Ok(Json(Status {
        version: VERSION.into(),
        time,
        recorded: instances.iter().any(|node| node.recorded),
        instances,
        received: state.received.counts(),
        storage_bytes,
        storage: state.storage.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    }))
}
