//! Numbers over time, by group.

use super::overview::read_span;
use super::{Query, read_filter};
use crate::app::App;
use crate::error::{ApiError, Refusal};
use axum::Json;
use axum::extract::State;
use contract::row::Series;
use serde::Deserialize;
use storage::{By, SeriesQuery, Weight};
use utoipa::IntoParams;

/// Which span, shared out how.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Start, included (RFC 3339); an hour before the end when absent.
    from: Option<String>,
    /// End, excluded (RFC 3339); now when absent.
    to: Option<String>,
    /// Only calls that are like this, as in the list of calls.
    filter: Option<String>,
    /// What groups are told apart by: `service`, `workload`, `provider`, `model`, `operation`,
    /// `status`, `class`, `host`, `environment`, `user`, `agent`, `conversation`, `finish`. One
    /// group when absent.
    by: Option<String>,
    /// Which groups are named, the eight that weigh most: `calls` (when absent), `cost`, `tokens`,
    /// `errors`. The rest is one.
    weight: Option<String>,
    /// Whether to count durations by powers of two, for a heatmap.
    #[serde(default)]
    durations: bool,
    /// Whether to answer with percentiles; `true` when absent. Without them, numbers of all calls by
    /// `service`, `model`, `host`, `environment`, `user` and `agent` come from sums that are kept,
    /// which is faster, and are there when the calls are gone.
    #[serde(default = "yes")]
    percentiles: bool,
}

/// Numbers over time, by group: the eight that weigh most, and the rest as one.
#[utoipa::path(get, path = "/api/v1/series", tag = "overview", params(Asked),
    responses((status = OK, body = Series), (status = BAD_REQUEST, body = Refusal)))]
pub(super) async fn series(
    State(state): State<App>,
    Query(asked): Query<Asked>,
) -> Result<Json<Series>, ApiError> {
    let filter = read_filter(asked.filter.as_deref())?;
    let span = read_span(&state, asked.from.as_deref(), asked.to.as_deref(), filter)?;
    let word = |text: Option<String>| text.filter(|text| !text.is_empty());
    let by = word(asked.by).map(|word| By::of_word(&word).ok_or_else(bad_group)).transpose()?;
    let weight = word(asked.weight).map(|word| {
        Weight::of_word(&word).ok_or_else(|| {
            ApiError::bad("cannot read `weight`; it is one of `calls`, `cost`, `tokens`, `errors`")
        })
    });
    let weight = weight.transpose()?.unwrap_or_default();
    let Asked { durations, percentiles, .. } = asked;
    let query = SeriesQuery { span, by, weight, percentiles, durations };
    Ok(Json(state.ask_calls(move |store| store.series(&query)).await?))
}

fn yes() -> bool {
    true
}

fn bad_group() -> ApiError {
    let words: Vec<String> = By::ALL.iter().map(|by| format!("`{}`", by.word())).collect();
    ApiError::bad(format!("cannot read `by`; it is one of {}", words.join(", ")))
}
