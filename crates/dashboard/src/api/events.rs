//! Server-sent events: what happens, as it happens.

use super::{Query, read_filter};
use crate::app::App;
use crate::error::{ApiError, Refusal};
use crate::hub::Event;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse;
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;

/// How often a comment shows that the stream lives, so that proxies do not close it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What of all that happens.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Tail {
    /// Only calls that are like this, as `filter` of the list of calls; other events come all.
    filter: Option<String>,
}

/// A stream of events: `call` with a row of the list of calls; `services` and `status` when what
/// those paths answer has changed; `missed` when this listener was too slow and should fetch all
/// anew.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(Tail),
    responses((status = OK, body = String, content_type = "text/event-stream"),
        (status = SERVICE_UNAVAILABLE, body = Refusal)))]
pub(super) async fn events(
    State(state): State<App>,
    Query(asked): Query<Tail>,
) -> Result<sse::Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, ApiError> {
    let filter = read_filter(asked.filter.as_deref())?;
    let place = Arc::clone(&state.listeners).try_acquire_owned().map_err(|error| {
        let message = format!("cannot serve more listeners ({error}); close a page");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
    })?;
    let events = state.hub.subscribe();
    let stopping = state.stopping.clone();
    // A comment at once: the listener knows that from now on nothing is missed.
    let first: VecDeque<_> = [sse::Event::default().comment("listening")].into();
    let start = (first, events, stopping, (place, filter));
    let stream = stream::unfold(start, |(mut ready, mut events, mut stopping, kept)| async move {
        while ready.is_empty() {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(Event::Call(call, _)) if !kept.1.matches(&call) => {}
                    Ok(event) => ready.push_back(line(event)),
                    Err(RecvError::Lagged(_)) => ready.extend(missed()),
                    Err(RecvError::Closed) => return None,
                },
                _ = stopping.wait_for(|stopping| *stopping) => return None,
            }
        }
        let event = ready.pop_front()?;
        Some((Ok(event), (ready, events, stopping, kept)))
    });
    Ok(sse::Sse::new(stream).keep_alive(sse::KeepAlive::new().interval(KEEP_ALIVE)))
}

fn line(event: Event) -> sse::Event {
    match event {
        Event::Call(_, row) => sse::Event::default().event("call").data(row),
        Event::Services => sse::Event::default().event("services").data("{}"),
        Event::Status => sse::Event::default().event("status").data("{}"),
    }
}

fn missed() -> [sse::Event; 3] {
    [sse::Event::default().event("missed").data("{}"), line(Event::Services), line(Event::Status)]
}
