//! Numbers over a span of time.

use super::{Query, moment, read_filter};
use crate::app::App;
use crate::clock;
use crate::error::{ApiError, Refusal};
use axum::Json;
use axum::extract::State;
use contract::row::{Overview, Time};
use serde::Deserialize;
use storage::{Filter, Span};
use utoipa::IntoParams;

/// The span when the query names none.
const DEFAULT_NANOS: u64 = 3600 * 1_000_000_000;
/// The longest span: what is kept is not older.
const MAX_NANOS: u64 = 400 * 86_400 * 1_000_000_000;

/// Which span.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Start, included (RFC 3339); an hour before the end when absent.
    from: Option<String>,
    /// End, excluded (RFC 3339); now when absent.
    to: Option<String>,
    /// Only calls of this service: its name or its key.
    service: Option<String>,
    /// Only calls that are like this, as in the list of calls.
    filter: Option<String>,
}

/// Totals, the span before, a series, and tables by model and by service.
#[utoipa::path(get, path = "/api/v1/overview", tag = "overview", params(Asked),
    responses((status = OK, body = Overview), (status = BAD_REQUEST, body = Refusal)))]
pub(super) async fn overview(
    State(state): State<App>,
    Query(asked): Query<Asked>,
) -> Result<Json<Overview>, ApiError> {
    let mut filter = read_filter(asked.filter.as_deref())?;
    if let Some(service) = asked.service.filter(|service| !service.is_empty()) {
        filter = filter.and(Filter::service(&service));
    }
    let span = read_span(&state, asked.from.as_deref(), asked.to.as_deref(), filter)?;
    Ok(Json(state.ask_calls(move |store| store.overview(&span)).await?))
}

/// A span of the query: the last hour when nothing is said.
pub(super) fn read_span(
    state: &App,
    from: Option<&str>,
    to: Option<&str>,
    filter: Filter,
) -> Result<Span, ApiError> {
    let to = moment("to", to)?.unwrap_or_else(|| (state.clock)());
    let from = moment("from", from)?.unwrap_or(Time(to.0.saturating_sub(DEFAULT_NANOS)));
    if from >= to || to.0 - from.0 > MAX_NANOS {
        let message =
            "cannot add up this span; `from` must be before `to` and at most 400 days away";
        return Err(ApiError::bad(message));
    }
    Ok(Span { from, to, filter, budget: clock::budget() })
}
