//! The router: which path is answered by whom, and who may ask.

use crate::clock::Clock;
use crate::error::ApiError;
use crate::forward::Forward;
use crate::guard::{self, Door, Hosts};
use crate::hub::Hub;
use crate::otlp::Crowds;
use crate::prometheus::{self, Numbers};
use crate::service_account::ServiceAccounts;
use crate::{api, openlit, otlp, page, poll};
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::{Extension, Json, Router};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use storage::Store;
use tokio::sync::{Semaphore, watch};
use utoipa::ToSchema;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Questions about calls at a time. More would only wait for the same cores and disk.
const MAX_QUESTIONS: usize = 8;
/// Telemetry requests that are decoded at a time; each may hold its decompressed body.
const MAX_DECODING: usize = 4;
/// Pages that listen for events at a time.
const MAX_LISTENERS: usize = 256;
/// Body of an API request. The largest is a wish: a few bytes.
const MAX_API_BODY: usize = 64 << 10;

/// What all handlers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) clock: Clock,
    pub(crate) hosts: Hosts,
    /// URL of the page, without a slash at the end.
    pub(crate) url: String,
    /// Name of the session cookie.
    pub(crate) cookie: String,
    /// True once the dashboard stops.
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) received: Received,
    pub(crate) numbers: Numbers,
    /// The names that senders brought.
    pub(crate) crowds: Crowds,
    /// Who may join without a token that a person made.
    pub(crate) service_accounts: Option<ServiceAccounts>,
    /// Where calls are passed on to.
    pub(crate) forward: Option<Forward>,
    /// Requests refused since the log last said so, and the second in which it did.
    pub(crate) refused: AtomicU64,
    pub(crate) refused_logged: AtomicU64,
    /// What upkeep found when it last looked.
    pub(crate) storage: Mutex<Option<contract::row::Storage>>,
    pub(crate) questions: Semaphore,
    pub(crate) decoding: Semaphore,
    pub(crate) listeners: Arc<Semaphore>,
}

/// The state of the router.
pub(crate) type App = Arc<Shared>;

/// Telemetry received since the start, by what became of it.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) call: AtomicU64,
    pub(crate) duplicate: AtomicU64,
    pub(crate) run: AtomicU64,
    pub(crate) not_a_call: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) metric: AtomicU64,
    pub(crate) log: AtomicU64,
}

/// Version of this build.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Shared {
    pub(crate) fn new(
        store: Store,
        hosts: Hosts,
        url: String,
        cookie: String,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            store,
            hub: Hub::new(),
            clock: crate::clock::system,
            hosts,
            url,
            cookie,
            stopping,
            received: Received::default(),
            numbers: Numbers::default(),
            crowds: Crowds::default(),
            service_accounts: None,
            forward: None,
            refused: AtomicU64::new(0),
            refused_logged: AtomicU64::new(0),
            storage: Mutex::default(),
            questions: Semaphore::new(MAX_QUESTIONS),
            decoding: Semaphore::new(MAX_DECODING),
            listeners: Arc::new(Semaphore::new(MAX_LISTENERS)),
        }
    }

    /// Whether a request was passed on by this dashboard itself, over whatever detour.
    pub(crate) fn is_own(&self, headers: &HeaderMap) -> bool {
        self.forward.as_ref().is_some_and(|forward| forward.is_mark(headers))
    }

    /// Asks something of control state, on a thread that may block. It is never behind a long
    /// question about calls, so that polls and tokens are answered whatever pages ask.
    pub(crate) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Store) -> Result<T, storage::Error> + Send + 'static,
    ) -> Result<T, ApiError> {
        let shared = Arc::clone(self);
        let answer = tokio::task::spawn_blocking(move || ask(&shared.store)).await;
        Ok(answer.map_err(|error| ApiError::failed(&error))??)
    }

    /// Asks something about calls, when it is its turn.
    pub(crate) async fn ask_calls<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Store) -> Result<T, storage::Error> + Send + 'static,
    ) -> Result<T, ApiError> {
        let _turn = self.questions.acquire().await.map_err(|error| ApiError::failed(&error))?;
        self.ask(ask).await
    }
}

impl Received {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        [
            ("call", &self.call),
            ("duplicate", &self.duplicate),
            ("run", &self.run),
            ("not_a_call", &self.not_a_call),
            ("rejected", &self.rejected),
            ("metric", &self.metric),
            ("log", &self.log),
        ]
        .into_iter()
        .map(|(name, counter)| (name.to_owned(), counter.load(Ordering::Relaxed)))
        .collect()
    }
}

/// The router for one door: TCP, or the owner's socket.
pub(crate) fn app(state: &App, door: Door) -> Router {
    let guarded = |router: OpenApiRouter<App>, pass: guard::Pass| {
        router
            .layer(DefaultBodyLimit::max(MAX_API_BODY))
            .route_layer(from_fn_with_state((Arc::clone(state), pass), guard::check))
    };
    let routes = OpenApiRouter::with_openapi(described())
        .merge(guarded(api::routes(), guard::Pass::Api))
        .merge(guarded(api::owner_routes(), guard::Pass::Owner))
        .merge(guarded(prometheus::routes(), guard::Pass::Api))
        .merge(guarded(poll::routes(), guard::Pass::Poll))
        .merge(guarded(poll::enrol_routes(), guard::Pass::Join))
        .merge(guarded(openlit::routes(), guard::Pass::Join))
        .merge(guarded(otlp::routes(), guard::Pass::Ingest))
        .merge(public_routes());
    let (router, described) = routes.split_for_parts();
    let described: Arc<str> = described.to_json().unwrap_or_default().into();
    router
        .route("/api/v1/openapi.json", axum::routing::get(move || openapi(Arc::clone(&described))))
        .fallback(page::serve)
        .layer(from_fn_with_state(Arc::clone(state), guard::hosts))
        .layer(from_fn(guard::headers))
        .layer(Extension(door))
        .with_state(Arc::clone(state))
}

/// A router for telemetry alone: what listens on the ports of OTLP. A token is always needed, so
/// that the name that it is asked under does not matter.
pub(crate) fn telemetry(state: &App, routes: Router<App>) -> Router {
    let pass = (Arc::clone(state), guard::Pass::Ingest);
    routes
        .route_layer(from_fn_with_state(pass, guard::check))
        .fallback(unknown_path)
        .layer(from_fn(guard::headers))
        .layer(Extension(Door::Tcp))
        .with_state(Arc::clone(state))
}

async fn unknown_path(headers: HeaderMap) -> ApiError {
    let message = "cannot find this path; OTLP is at /v1/traces, /v1/metrics and /v1/logs, and at \
                   the three Export services of gRPC";
    let status = match otlp::form(&headers) {
        // gRPC's word for a service that is not there.
        crate::error::Form::Grpc => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::NOT_FOUND,
    };
    ApiError::new(status, message).with_form(otlp::form(&headers))
}

/// Paths that anyone may ask: they tell nothing of what is kept.
fn public_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(version))
        .routes(routes!(api::login))
}

fn described() -> OpenApi {
    let mut info = Info::new("Sonde", VERSION);
    info.description = Some(
        "Model calls, services and wishes. A script sends `Authorization: Bearer` with a token of \
         `sonde tokens create --kind api`; on the machine itself the unix socket needs none."
            .into(),
    );
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components =
        ComponentsBuilder::new().security_scheme("token", SecurityScheme::Http(bearer));
    let token: SecurityRequirement =
        SecurityRequirement::new("token", std::iter::empty::<String>());
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components.build()))
        .security(Some([token]))
        .build()
}

async fn openapi(described: Arc<str>) -> impl IntoResponse {
    let json = [(axum::http::header::CONTENT_TYPE, "application/json")];
    (json, described.to_string())
}

/// The process is alive. Looks at nothing else.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = OK, body = String)))]
async fn healthz() -> &'static str {
    "ok"
}

/// The dashboard takes requests; it says no as soon as it stops.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = OK, body = String), (status = SERVICE_UNAVAILABLE)))]
async fn readyz(state: axum::extract::State<App>) -> Result<&'static str, ApiError> {
    if *state.stopping.borrow() {
        let stopping = "the dashboard is stopping; try again when it is back";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, stopping));
    }
    state.ask(|store| store.rules().map(|_rules| ())).await?;
    Ok("ready")
}

/// A version and the protocols that it speaks.
#[derive(Debug, Serialize, ToSchema)]
struct Version {
    /// Version of the dashboard.
    version: &'static str,
    /// Newest protocol of polls.
    protocol: u32,
    /// Oldest protocol of polls.
    oldest_protocol: u32,
}

/// Which version this is.
#[utoipa::path(get, path = "/version", tag = "health", responses((status = OK, body = Version)))]
async fn version() -> Json<Version> {
    use contract::poll::{OLDEST_PROTOCOL, PROTOCOL};
    Json(Version { version: VERSION, protocol: PROTOCOL, oldest_protocol: OLDEST_PROTOCOL })
}
