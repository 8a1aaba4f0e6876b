//! Who may come in: login links, sessions, tokens.

use super::{Body, Query};
use crate::app::App;
use crate::error::{ApiError, Refusal};
use crate::guard;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect};
use contract::row::Time;
use serde::{Deserialize, Serialize};
use storage::TokenKind;
use utoipa::{IntoParams, ToSchema};

const MINUTE_NANOS: u64 = 60_000_000_000;
/// How long a login link is good.
pub(crate) const LINK_NANOS: u64 = 15 * MINUTE_NANOS;
/// How long a session is good: a month of not having to look for a link.
const SESSION_NANOS: u64 = 30 * 24 * 60 * MINUTE_NANOS;
/// Last moment that is kept: what a signed number of nanoseconds holds.
const END_OF_TIME: u64 = i64::MAX as u64;
/// Longest name of a token.
const MAX_NAME_CHARS: usize = 100;

/// A login link.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Link {
    /// Opens the page, once.
    url: String,
    /// Until when.
    expires: Time,
}

/// Makes a one-time login link.
#[utoipa::path(post, path = "/api/v1/login-links", tag = "access",
    responses((status = OK, body = Link), (status = FORBIDDEN, body = Refusal)))]
pub(super) async fn new_login_link(State(state): State<App>) -> Result<Json<Link>, ApiError> {
    let now = (state.clock)();
    let expires = Time(now.0 + LINK_NANOS);
    let code = state.ask(move |store| store.new_login_code(expires, now)).await?;
    Ok(Json(Link { url: format!("{}/login?code={code}", state.url), expires }))
}

/// The code of a login link.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Code {
    /// From a link; good once.
    code: String,
}

/// Uses a login link up: begins a session and goes to the page.
#[utoipa::path(get, path = "/login", tag = "access", params(Code),
    responses((status = SEE_OTHER, description = "Sets the session cookie"),
        (status = FORBIDDEN, body = Refusal)))]
pub(crate) async fn login(
    State(state): State<App>,
    Query(code): Query<Code>,
) -> Result<impl IntoResponse, ApiError> {
    let now = (state.clock)();
    let expires = Time(now.0 + SESSION_NANOS);
    let session = state.ask(move |store| store.login(&code.code, expires, now)).await?;
    let Some(session) = session else {
        let message = "cannot log in with this link; it was used, or is older than 15 minutes: \
                       `sonde login` prints another";
        return Err(ApiError::new(StatusCode::FORBIDDEN, message));
    };
    let age = SESSION_NANOS / 1_000_000_000;
    let cookie = cookie(&state.cookie, &session, age)?;
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")))
}

/// Ends the session.
#[utoipa::path(post, path = "/api/v1/logout", tag = "access", responses((status = NO_CONTENT)))]
pub(super) async fn logout(
    State(state): State<App>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    if let Some(session) = guard::session(&headers, &state.cookie) {
        let session = session.to_owned();
        state.ask(move |store| store.logout(&session)).await?;
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie(&state.cookie, "", 0)?)]))
}

fn cookie(name: &str, value: &str, age: u64) -> Result<HeaderValue, ApiError> {
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}");
    text.parse().map_err(|error: header::InvalidHeaderValue| ApiError::failed(&error))
}

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewToken {
    /// `join` (a controller), `ingest` (a sender of telemetry) or `api` (a script).
    kind: String,
    /// What it is for.
    #[serde(default)]
    name: String,
    /// How long it is good, in seconds; as long as it is not revoked when absent.
    #[serde(default)]
    expires_seconds: Option<u64>,
    /// How many nodes may join with it; any number when absent.
    #[serde(default)]
    uses: Option<u32>,
    /// Environment of the nodes that join with it.
    #[serde(default)]
    environment: Option<String>,
}

/// A token that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeToken {
    /// The secret; it is not kept and not shown again.
    token: String,
    /// What it is good for.
    kind: &'static str,
    /// Until when it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Time>,
}

/// A token, as far as it can be told after it was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenRow {
    /// Id, to revoke it by.
    id: String,
    /// What it is good for.
    kind: &'static str,
    /// What it is for.
    name: String,
    /// When it was made.
    created: Time,
    /// Until when it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Time>,
    /// True when its time is over.
    expired: bool,
    /// How many nodes may join with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    uses: Option<u32>,
    /// How many nodes did.
    used: u32,
    /// When it was last used, to about a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<Time>,
    /// Environment of the nodes that join with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
}

/// All tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenRows {
    /// Oldest first.
    tokens: Vec<TokenRow>,
}

/// A token to revoke.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Revoke {
    /// Id of the token.
    id: String,
}

/// All tokens, without their secrets.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "access",
    responses((status = OK, body = TokenRows), (status = FORBIDDEN, body = Refusal)))]
pub(super) async fn tokens(State(state): State<App>) -> Result<Json<TokenRows>, ApiError> {
    let now = (state.clock)();
    let tokens = state.ask(storage::Store::tokens).await?;
    let row = |token: storage::Token| TokenRow {
        id: token.id.to_string(),
        kind: token.kind.word(),
        name: token.name,
        created: token.created,
        expired: token.expires.is_some_and(|expires| expires <= now),
        expires: token.expires,
        uses: token.uses,
        used: token.used,
        last_used: token.last_used,
        environment: token.environment,
    };
    Ok(Json(TokenRows { tokens: tokens.into_iter().map(row).collect() }))
}

/// Makes a token.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "access", request_body = NewToken,
    responses((status = OK, body = MadeToken), (status = BAD_REQUEST, body = Refusal)))]
pub(super) async fn new_token(
    State(state): State<App>,
    Body(new): Body<NewToken>,
) -> Result<Json<MadeToken>, ApiError> {
    let Some(kind) = TokenKind::of_word(&new.kind) else {
        return Err(ApiError::bad(
            "cannot make a token of this kind; it is `join`, `ingest` or `api`",
        ));
    };
    let clean = |text: &str| -> String {
        text.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect()
    };
    if new.uses == Some(0) || new.expires_seconds == Some(0) {
        return Err(ApiError::bad(
            "cannot make a token that is good for nothing; ask for 1 or more",
        ));
    }
    if kind != TokenKind::Join && (new.uses.is_some() || new.environment.is_some()) {
        return Err(ApiError::bad(
            "cannot make this token: `uses` and `environment` are of tokens of the kind `join`; \
             leave them out",
        ));
    }
    let now = (state.clock)();
    let expires = new.expires_seconds.map(|seconds| {
        Time(now.0.saturating_add(seconds.saturating_mul(1_000_000_000)).min(END_OF_TIME))
    });
    let environment = new.environment.as_deref().map(clean).filter(|name| !name.is_empty());
    let name = clean(&new.name);
    let new = storage::NewToken { kind, name, expires, uses: new.uses, environment };
    let token = state.ask(move |store| store.make_token(&new, now)).await?;
    Ok(Json(MadeToken { token, kind: kind.word(), expires }))
}

/// Makes a token worthless at once.
#[utoipa::path(post, path = "/api/v1/tokens/revoke", tag = "access", request_body = Revoke,
    responses((status = OK, body = Object), (status = NOT_FOUND, body = Refusal)))]
pub(super) async fn revoke_token(
    State(state): State<App>,
    Body(revoke): Body<Revoke>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let revoked = match revoke.id.parse() {
        Ok(id) => state.ask(move |store| store.revoke(id)).await?,
        Err(_) => false,
    };
    if !revoked {
        let message = "cannot find the token; `sonde tokens list` shows the ids";
        return Err(ApiError::new(StatusCode::NOT_FOUND, message));
    }
    Ok(Json(serde_json::json!({})))
}
