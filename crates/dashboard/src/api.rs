//! What the page and the command line ask. One file a noun.

#[expect(unused_qualifications, reason = "in what `utoipa::path` makes of `params`")]
mod access;
#[expect(unused_qualifications, reason = "in what `utoipa::path` makes of `params`")]
mod calls;
#[expect(unused_qualifications, reason = "in what `utoipa::path` makes of `params`")]
mod events;
#[expect(unused_qualifications, reason = "in what `utoipa::path` makes of `params`")]
mod fleet;
#[expect(unused_qualifications, reason = "in what `utoipa::path` makes of `params`")]
mod overview;
#[expect(unused_qualifications, reason = "in what `utoipa::path` makes of `params`")]
mod series;
mod services;
mod status;

pub(crate) use access::{__path_login, LINK_NANOS, login};

use crate::app::App;
use crate::error::ApiError;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts};
use contract::row::Time;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Paths for people and scripts.
pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(services::list))
        .routes(routes!(services::set_capture))
        .routes(routes!(services::preview))
        .routes(routes!(fleet::history))
        .routes(routes!(fleet::set_name))
        .routes(routes!(fleet::rules, fleet::set_rules))
        .routes(routes!(fleet::configuration, fleet::set_configuration))
        .routes(routes!(fleet::steps, fleet::new_step))
        .routes(routes!(fleet::cancel_step))
        .routes(routes!(calls::list))
        .routes(routes!(calls::csv))
        .routes(routes!(calls::json_lines))
        .routes(routes!(calls::otlp))
        .routes(routes!(calls::trace))
        .routes(routes!(calls::one))
        .routes(routes!(overview::overview))
        .routes(routes!(series::series))
        .routes(routes!(events::events))
        .routes(routes!(status::status))
        .routes(routes!(access::logout))
}

/// Paths that make or end access: for who is logged in, not for tokens.
pub(crate) fn owner_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(access::new_login_link))
        .routes(routes!(access::tokens, access::new_token))
        .routes(routes!(access::revoke_token))
        .routes(routes!(fleet::revoke_node))
        .routes(routes!(fleet::readmit_node))
}

/// `axum`'s query, refused in our form.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub(crate) struct Query<T>(T);

/// `axum`'s JSON body, refused in our form.
#[derive(Debug, FromRequest)]
#[from_request(via(axum::Json), rejection(ApiError))]
struct Body<T>(T);

impl From<QueryRejection> for ApiError {
    fn from(error: QueryRejection) -> Self {
        Self::bad(format!("cannot read the query; {}", error.body_text()))
    }
}

impl From<axum::extract::rejection::JsonRejection> for ApiError {
    fn from(error: axum::extract::rejection::JsonRejection) -> Self {
        Self::new(error.status(), format!("cannot read the body; {}", error.body_text()))
    }
}

/// A moment of the query.
fn moment(key: &str, text: Option<&str>) -> Result<Option<Time>, ApiError> {
    // An empty field of a form means that nothing was asked.
    let text = text.filter(|text| !text.is_empty());
    let parsed = text.map(str::parse).transpose();
    parsed.map_err(|error: contract::row::NotATime| {
        ApiError::bad(format!("cannot read `{key}`; it is {error}"))
    })
}

/// A filter of the query.
fn read_filter(text: Option<&str>) -> Result<storage::Filter, ApiError> {
    let parsed = text.unwrap_or_default().parse();
    parsed.map_err(|error: storage::BadFilter| ApiError::bad(error.to_string()))
}
