//! Who may pass: host names, tokens, sessions, and the headers that every answer carries.

use crate::app::App;
use crate::error::{ApiError, Cause};
use crate::service_account::{self, ServiceAccounts, Unjoined};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, RequestExt as _};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use storage::{Bearer, Denied, TokenKind};

/// Which way a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// The network.
    Tcp,
    /// The unix socket of the owner; whoever came through it is the owner or root.
    Socket,
}

/// What it takes to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// A session, or an API token.
    Api,
    /// A session.
    Owner,
    /// The credential of a node, or a join token.
    Poll,
    /// A join token.
    Join,
    /// The credential of a node, a join or an ingest token.
    Ingest,
}

/// Who passed; for the history of wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    Socket,
    Session,
    /// Someone with a token: its number, and what it is good for.
    Token {
        id: u64,
        kind: TokenKind,
    },
    /// The controller of this node, and of no other.
    Node(String),
}

/// The names under which this dashboard may be asked.
#[derive(Debug, Clone)]
pub(crate) enum Hosts {
    /// Any: it listens to the network, under names that only its network knows.
    Any,
    /// Any address, `localhost`, and these names: a page elsewhere cannot be under an address.
    Addresses(Vec<String>),
    /// Loopback addresses, `localhost`, and these names.
    Loopback(Vec<String>),
}

impl Caller {
    /// The word for the history.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Socket => "command line",
            Self::Session => "page",
            Self::Token { .. } => "api token",
            Self::Node(_) => "node",
        }
    }
}

impl Hosts {
    fn allow(&self, host: &str) -> bool {
        let (names, loopback) = match self {
            Self::Any => return true,
            Self::Addresses(names) => (names, false),
            Self::Loopback(names) => (names, true),
        };
        let name = host_name(host);
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        name.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.is_loopback() || !loopback)
            || names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// The host of `host:port`, the brackets of an IPv6 address included.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

/// Refuses requests under a name that is not ours: a page elsewhere that made its own name point
/// here (DNS rebinding) would else read this one with the browser's help.
pub(crate) async fn hosts(
    State(state): State<App>,
    Extension(door): Extension<Door>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    // HTTP/1.1 asks for a Host header; only the owner's socket may go without.
    if door == Door::Socket || host.is_some_and(|host| state.hosts.allow(host)) {
        return next.run(request).await;
    }
    refused(&state, "a request under another host name", "unknown");
    let message = "cannot answer under this host name; use localhost or 127.0.0.1, or start the \
                   dashboard with --allowed-host NAME";
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, message).into_response()
}

/// Lets a request pass that shows what it takes, and notes who it was.
pub(crate) async fn check(
    State((state, pass)): State<(App, Pass)>,
    mut request: Request,
    next: Next,
) -> Response {
    match caller(&state, pass, &mut request).await {
        Ok(caller) => {
            let who = caller.word();
            request.extensions_mut().insert(caller);
            let response = next.run(request).await;
            let is_of_node = matches!(pass, Pass::Poll | Pass::Join | Pass::Ingest);
            match response.status() {
                StatusCode::PAYLOAD_TOO_LARGE => refused(&state, "a body of this size", who),
                StatusCode::BAD_REQUEST if is_of_node => refused(&state, "what it sent", who),
                _ => {}
            }
            response
        }
        Err(error) => {
            let form = match pass {
                Pass::Ingest => crate::otlp::form(request.headers()),
                Pass::Api | Pass::Owner | Pass::Poll | Pass::Join => crate::error::Form::Api,
            };
            error.with_form(form).into_response()
        }
    }
}

async fn caller(state: &App, pass: Pass, request: &mut Request) -> Result<Caller, ApiError> {
    let door = request.extract_parts::<Extension<Door>>().await.map(|Extension(door)| door);
    if matches!(door, Ok(Door::Socket)) {
        return Ok(Caller::Socket);
    }
    if let Some(token) = bearer(request.headers()) {
        return by_token(state, pass, token).await;
    }
    if matches!(pass, Pass::Api | Pass::Owner)
        && let Some(session) = session(request.headers(), &state.cookie)
    {
        let session = session.to_owned();
        let now = (state.clock)();
        if state.ask(move |store| store.session(&session, now)).await? {
            same_origin(request.method(), request.headers())?;
            return Ok(Caller::Session);
        }
    }
    // A page that asks before a login is nothing to log.
    if matches!(pass, Pass::Poll | Pass::Join | Pass::Ingest) {
        refused(state, "what came without a token", "unknown");
    }
    let message = match pass {
        Pass::Api | Pass::Owner => {
            "cannot answer without a login; open the link that `sonde login` prints, or send a \
             token of `sonde tokens create --kind api`"
        }
        Pass::Poll | Pass::Join | Pass::Ingest => {
            "cannot take this without a token; send `Authorization: Bearer` with a token of \
             `sonde tokens create`"
        }
    };
    Err(ApiError::new(StatusCode::UNAUTHORIZED, message))
}

/// A pod of the cluster that shows what the kubelet gave it.
async fn by_service_account(
    state: &App,
    accounts: &ServiceAccounts,
    token: &str,
) -> Result<Caller, ApiError> {
    let refuse = |status: StatusCode, why: &str, next: &str| {
        refused(state, "a token of a service account", why);
        ApiError::new(status, format!("cannot let this node join: {why}; {next}"))
    };
    let account = accounts.review(token).await.map_err(|unjoined| match unjoined {
        Unjoined::Unknown(why) => {
            let next = "give the pod a projected token for the audience `sonde`";
            refuse(StatusCode::UNAUTHORIZED, &why, next)
        }
        Unjoined::Forbidden(why) => {
            let next = "start the dashboard with --join-service-account NAMESPACE/NAME";
            refuse(StatusCode::FORBIDDEN, &why, next)
        }
        Unjoined::Unanswered(why) => {
            let why = format!("the API server was asked whose token it is, and {why}");
            let next = "let the dashboard's own service account create tokenreviews";
            refuse(StatusCode::SERVICE_UNAVAILABLE, &why, next)
        }
    })?;
    let now = (state.clock)();
    let id = state.ask(move |store| service_account::token_of(store, &account, now)).await?;
    Ok(Caller::Token { id, kind: TokenKind::Join })
}

/// Has the use of a token written down. The request does not wait for it, nor fail with it.
fn note_use(state: &App, token: u64) {
    let (state, now) = (App::clone(state), (state.clock)());
    tokio::spawn(async move {
        if let Err(error) = state.ask(move |store| store.token_used(token, now)).await {
            tracing::debug!(?error, token, "cannot note the use of a token");
        }
    });
}

async fn by_token(state: &App, pass: Pass, secret: &str) -> Result<Caller, ApiError> {
    let now = (state.clock)();
    let known = state.store.bearer(secret, now);
    if let (Err(Denied::Unknown), Pass::Join, Some(accounts)) =
        (&known, pass, &state.service_accounts)
        && ServiceAccounts::is_token(secret)
    {
        return by_service_account(state, accounts, secret).await;
    }
    let bearer = known.map_err(|denied| {
        refused(state, "a token", denied_word(denied));
        let message = match denied {
            Denied::Unknown => {
                "cannot accept this token; it is unknown or revoked, make another with `sonde \
                 tokens create`"
            }
            Denied::Expired => {
                "cannot accept this token; its time is over, make another with `sonde tokens create`"
            }
        };
        ApiError::new(StatusCode::UNAUTHORIZED, message)
    })?;
    let (caller, word, good) = match bearer {
        Bearer::Node { id, is_next } => {
            if is_next {
                let (id, secret) = (id.clone(), secret.to_owned());
                state.ask(move |store| store.promote(&id, &secret, now)).await?;
            }
            (Caller::Node(id), "node", matches!(pass, Pass::Poll | Pass::Ingest))
        }
        Bearer::Token { id, kind, is_noted } => {
            let good = match pass {
                Pass::Api => kind == TokenKind::Api,
                Pass::Owner => false,
                Pass::Poll | Pass::Join => kind == TokenKind::Join,
                Pass::Ingest => matches!(kind, TokenKind::Join | TokenKind::Ingest),
            };
            if good && !is_noted {
                note_use(state, id);
            }
            (Caller::Token { id, kind }, kind.word(), good)
        }
    };
    if good {
        return Ok(caller);
    }
    let wanted = match pass {
        Pass::Api => "an `api` token is needed",
        Pass::Owner => "a login is needed, or the command line on the dashboard's machine",
        Pass::Poll | Pass::Join => "a `join` token is needed",
        Pass::Ingest => "an `ingest` or `join` token is needed",
    };
    refused(state, "a token of another kind", word);
    let message = format!("cannot do this with a token of kind `{word}`; {wanted}");
    Err(ApiError::new(StatusCode::FORBIDDEN, message))
}

fn denied_word(denied: Denied) -> &'static str {
    match denied {
        Denied::Unknown => "unknown",
        Denied::Expired => "expired",
    }
}

/// Logs that something was refused, once a second at most: whoever is refused must not fill the
/// log. `who` is a node's id or a word, never a secret.
pub(crate) fn refused(state: &App, what: &str, who: &str) {
    let second = (state.clock)().0 / 1_000_000_000;
    let unlogged = state.refused.fetch_add(1, Ordering::Relaxed);
    if state.refused_logged.swap(second, Ordering::Relaxed) != second {
        state.refused.store(0, Ordering::Relaxed);
        tracing::warn!(what, who, unlogged, "refused");
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The session in the cookies of a request.
pub(crate) fn session<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs =
        cookies.flat_map(|line| line.split(';')).filter_map(|c| c.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// A change through a session must come from our own page: the browser says from which page a
/// request came, and no page can make it lie.
fn same_origin(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    let same = match origin {
        Some((_, host)) => text(header::HOST).is_some_and(|own| own.eq_ignore_ascii_case(host)),
        None => text(HeaderName::from_static("sec-fetch-site")) == Some("same-origin"),
    };
    if same {
        return Ok(());
    }
    let message = "cannot change anything for a page of another origin; use the page of this \
                   dashboard, or a token";
    Err(ApiError::new(StatusCode::FORBIDDEN, message))
}

/// Headers of every answer, and the log of those that failed.
pub(crate) async fn headers(request: Request, next: Next) -> Response {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
        font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
        form-action 'self'; frame-ancestors 'none'";
    let mut response = next.run(request).await;
    if let Some(cause) = response.extensions_mut().remove::<Cause>() {
        tracing::error!(id = %cause.id, cause = %cause.text, "a request failed");
    }
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::{Hosts, same_origin};
    use axum::http::{HeaderMap, Method};

    #[test]
    fn only_loopback_and_configured_names_are_ours() {
        let hosts = Hosts::Loopback(vec!["sonde.test".into()]);
        for good in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "[::1]",
            "sonde.test",
            "SONDE.test:99",
        ] {
            assert!(hosts.allow(good), "{good}");
        }
        for bad in [
            "",
            "evil.test",
            "localhost.evil.test",
            "127.0.0.1.evil.test:80",
            "10.0.0.1",
            "::1.evil",
            ":80",
            "[::2]:80",
        ] {
            assert!(!hosts.allow(bad), "{bad}");
        }
        assert!(Hosts::Any.allow("anything"));
        let hosts = Hosts::Addresses(vec!["sonde.test".into()]);
        assert!(
            hosts.allow("10.0.0.1:80") && hosts.allow("sonde.test") && !hosts.allow("evil.test")
        );
    }

    #[test]
    fn a_change_must_come_from_our_own_page() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
        };
        let host = ("host", "localhost:8080");
        let ask = |method, pairs: &[_]| same_origin(&method, &headers(pairs)).is_ok();
        assert!(ask(Method::GET, &[host, ("origin", "http://evil.test")]));
        assert!(ask(Method::PUT, &[host, ("origin", "http://localhost:8080")]));
        assert!(ask(Method::PUT, &[host, ("sec-fetch-site", "same-origin")]));
        assert!(!ask(Method::PUT, &[host, ("sec-fetch-site", "same-site")]));
        assert!(!ask(Method::PUT, &[host, ("origin", "http://localhost:8081")]));
        assert!(!ask(Method::PUT, &[host, ("origin", "null")]));
        assert!(!ask(Method::POST, &[host]));
    }
}
