//! The poll: a controller says what it observed, and waits for wishes.

mod clean;

pub(crate) use clean::{clean_instance, clean_text, clean_workload, is_key};

use crate::app::App;
use crate::error::{ApiError, Refusal};
use crate::guard::{Caller, refused};
use crate::hub::Event;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::{Extension, Json};
use bytes::Bytes;
use contract::poll::{
    Enrolled, Enrolment, MAX_WAIT_SECONDS, OLDEST_PROTOCOL, PROTOCOL, Refused, Report, Wish, agreed,
};
use contract::workload::Observed;
use serde_json::Value;
use std::io::Read as _;
use std::time::Duration;
use storage::{Asked, Taken};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Body of a report; a busy node has a few hundred workloads at about a kilobyte each.
const MAX_REPORT: usize = 8 << 20;
/// Refusals that an answer lists; a node that has more of them has one trouble, not many.
const MAX_REFUSED: usize = 100;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(poll)).layer(DefaultBodyLimit::max(MAX_REPORT))
}

pub(crate) fn enrol_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(enrol))
}

/// Takes a controller's report (see the crate `contract`, `poll::Report`) and answers with what is
/// wanted of its node (`poll::Wish`). With `wait_seconds` it answers when there is news, and at the
/// latest after that time, 30 seconds at most.
#[utoipa::path(post, path = "/api/v1/poll", tag = "controllers",
    request_body(content = Object, content_type = "application/json"),
    responses((status = OK, body = Object), (status = BAD_REQUEST, body = Refusal),
        (status = UNAUTHORIZED, body = Refusal), (status = FORBIDDEN, body = Refusal)))]
async fn poll(
    State(state): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<([(HeaderName, &'static str); 1], Json<Wish>), ApiError> {
    let body = unpacked(&headers, body)?;
    let (mut report, mut left_out) = read(&body)?;
    // A poll may wait long: it holds on to nothing that it does not need.
    drop(body);
    let protocol = protocol(report.oldest_protocol, report.protocol)?;
    clean::clean(&mut report, &mut left_out)?;
    admit(&state, &caller, &report).await?;
    if caller != Caller::Socket {
        let before = left_out.len();
        clean::keep_own(&mut report, &mut left_out);
        if left_out.len() > before {
            refused(&state, "workloads of another node", &report.instance.id);
        }
    }
    let wait = Duration::from_secs(report.wait_seconds.min(MAX_WAIT_SECONDS).into());
    let (instance, asked) = (report.instance.id.clone(), Asked::of(&report));
    // Before anything is read: a wish that comes meanwhile must not be missed.
    let mut waiting = state.hub.wait_for(&instance);
    let now = (state.clock)();
    let mut taken = match state.store.glance(&report, now) {
        Some(taken) => {
            drop(report);
            taken
        }
        None => state.ask(move |store| store.report(&report, now)).await?,
    };
    left_out.append(&mut taken.refused);
    left_out.truncate(MAX_REFUSED);
    taken.refused = left_out;
    if taken.changed {
        state.hub.publish(Event::Services);
        state.hub.publish(Event::Status);
    }
    let mut stopping = state.stopping.clone();
    let over = tokio::time::sleep(wait);
    tokio::pin!(over);
    loop {
        if wait.is_zero() || taken.is_news() || has_news(&state, &instance, &asked) {
            break;
        }
        tokio::select! {
            () = waiting.changed() => {}
            () = &mut over => break,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        }
    }
    let wish = answer(&state, instance, asked, (protocol, taken)).await?;
    // RFC 9110 section 12.5.3: reports may come packed from now on.
    Ok(([(header::ACCEPT_ENCODING, "gzip")], Json(wish)))
}

/// A body as it was before it was packed, bounded as one that was not.
fn unpacked(headers: &HeaderMap, body: Bytes) -> Result<Bytes, ApiError> {
    let coding = headers.get(header::CONTENT_ENCODING).map(|coding| coding.as_bytes());
    match coding {
        None | Some(b"identity") => Ok(body),
        Some(b"gzip") => {
            let limit = u64::try_from(MAX_REPORT).unwrap_or(u64::MAX).saturating_add(1);
            let mut plain = Vec::new();
            let read = flate2::read::GzDecoder::new(&body[..]).take(limit).read_to_end(&mut plain);
            match read {
                Ok(_) if plain.len() <= MAX_REPORT => Ok(plain.into()),
                Ok(_) => Err(ApiError::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "cannot take a report of this size; it has at most 8 MiB unpacked",
                )),
                Err(_garbage) => {
                    Err(ApiError::bad("cannot read the report; it is not packed as it says"))
                }
            }
        }
        Some(_) => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "cannot read this content encoding; send gzip or nothing",
        )),
    }
}

fn has_news(state: &App, instance: &str, asked: &Asked) -> bool {
    state.store.has_news(instance, asked, (state.clock)())
}

async fn answer(
    state: &App,
    instance: String,
    asked: Asked,
    (protocol, taken): (u32, Taken),
) -> Result<Wish, ApiError> {
    let wish = if asked.has_wishes && !has_news(state, &instance, &asked) {
        Wish { generation: asked.generation, unchanged: true, ..Wish::default() }
    } else {
        let now = (state.clock)();
        state.ask(move |store| store.wish(&instance, &asked, now)).await?
    };
    Ok(Wish {
        protocol,
        refused: taken.refused,
        full: taken.full,
        ask_held: taken.ask_held,
        rotate: taken.rotate,
        credential_kept: taken.credential_kept,
        acknowledged: taken.acknowledged,
        ..wish
    })
}

/// Takes a controller in that comes with a join token (see the crate `contract`,
/// `poll::Enrolment`): from now on its own credential speaks for its node, and nothing else does.
/// The same enrolment may be sent again.
#[utoipa::path(post, path = "/api/v1/enrol", tag = "controllers",
    request_body(content = Object, content_type = "application/json"),
    responses((status = OK, body = Enrolled), (status = BAD_REQUEST, body = Refusal),
        (status = UNAUTHORIZED, body = Refusal), (status = FORBIDDEN, body = Refusal)))]
async fn enrol(
    State(state): State<App>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Json<Enrolled>, ApiError> {
    let mut enrolment: Enrolment = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad(format!("cannot read the enrolment; {error}")))?;
    protocol(enrolment.oldest_protocol, enrolment.protocol)?;
    clean_instance(&mut enrolment.instance)?;
    if !enrolment.credential.is_credential() {
        return Err(ApiError::bad(
            "cannot take this credential; it is `sonde_node_` and 64 hexadecimal digits",
        ));
    }
    let Caller::Token { id: token, .. } = caller else {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "cannot enrol without a join token; `sonde tokens create --kind join` makes one",
        ));
    };
    let now = (state.clock)();
    let node = enrolment.instance.id.clone();
    let enrolled = state.ask(move |store| store.enrol(&enrolment, token, now)).await;
    if enrolled.is_err() {
        refused(&state, "an enrolment", &node);
    }
    Ok(Json(enrolled?))
}

fn protocol(oldest: u32, newest: u32) -> Result<u32, ApiError> {
    agreed(oldest, newest).ok_or_else(|| {
        ApiError::bad(format!(
            "cannot speak with a controller of protocol {oldest} to {newest}, this dashboard \
             speaks {OLDEST_PROTOCOL} to {PROTOCOL}; install the same version of sonde on both"
        ))
    })
}

/// Whether the caller may speak for the node that the report names. The name in the report proves
/// nothing: it only has to be the one that the credential was given to.
async fn admit(state: &App, caller: &Caller, report: &Report) -> Result<(), ApiError> {
    let instance = &report.instance;
    let forbidden = |message: &str| {
        refused(state, "a report for another node", &instance.id);
        Err(ApiError::new(StatusCode::FORBIDDEN, message))
    };
    match caller {
        Caller::Socket => Ok(()),
        Caller::Node(id) if *id != instance.id => forbidden(
            "cannot take a report for another node; each controller speaks for the node that it \
             joined as",
        ),
        Caller::Node(id) => {
            let bound = state.store.cluster_of(id);
            let named = instance.cluster.as_ref().map(|cluster| &cluster.id);
            if named.is_some_and(|named| bound.as_ref() != Some(named)) {
                return forbidden(
                    "cannot take a report for another cluster; let the node join anew on the page \
                     of the fleet",
                );
            }
            Ok(())
        }
        Caller::Token { id: token, .. } => {
            let (token, now, id) = (*token, (state.clock)(), instance.id.clone());
            let joined = state.ask(move |store| store.join(&id, token, now)).await;
            if joined.is_err() {
                refused(state, "a report for another node", &instance.id);
            }
            joined
        }
        Caller::Session => forbidden("cannot take a report from a page"),
    }
}

/// Reads a report. One workload that cannot be read is left out; it does not fail the others.
fn read(body: &[u8]) -> Result<(Report, Vec<Refused>), ApiError> {
    let unreadable =
        |error: serde_json::Error| ApiError::bad(format!("cannot read the report; {error}"));
    let error = match serde_json::from_slice(body) {
        Ok(report) => return Ok((report, Vec::new())),
        Err(error) => error,
    };
    let mut value: Value = serde_json::from_slice(body).map_err(unreadable)?;
    let mut left_out = Vec::new();
    for place in ["/workloads", "/delta/changed"] {
        if let Some(list) = value.pointer_mut(place).and_then(Value::as_array_mut) {
            list.retain(|one| is_readable(one, &mut left_out));
        }
    }
    if left_out.is_empty() {
        return Err(unreadable(error));
    }
    Ok((serde_json::from_value(value).map_err(unreadable)?, left_out))
}

fn is_readable(workload: &Value, left_out: &mut Vec<Refused>) -> bool {
    use serde::Deserialize as _;
    let Err(error) = Observed::deserialize(workload) else { return true };
    let key = workload.get("key").and_then(Value::as_str).unwrap_or_default();
    let mut refused = Refused { key: key.to_owned(), reason: format!("cannot be read: {error}") };
    clean_text(&mut refused.key);
    clean_text(&mut refused.reason);
    left_out.push(refused);
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use axum::response::IntoResponse as _;
    use std::io::Write as _;

    fn packed(body: &[u8]) -> Bytes {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(body).unwrap();
        gzip.finish().unwrap().into()
    }

    fn taken(coding: &'static str, body: Bytes) -> Result<Bytes, StatusCode> {
        let headers =
            HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(coding))]);
        unpacked(&headers, body).map_err(|error| error.into_response().status())
    }

    #[test]
    fn a_report_may_be_packed_and_a_bomb_is_refused() {
        assert_eq!(taken("gzip", packed(b"{}")).unwrap(), "{}");
        assert_eq!(unpacked(&HeaderMap::new(), "{}".into()).ok().unwrap(), "{}");
        let bomb = packed(&vec![b' '; MAX_REPORT + 1]);
        assert_eq!(taken("gzip", bomb), Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(taken("gzip", "{}".into()), Err(StatusCode::BAD_REQUEST));
        assert_eq!(taken("br", "{}".into()), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
}
