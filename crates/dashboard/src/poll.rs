//! The poll: a controller says what it observed, and waits for wishes.

use crate::app::App;
use crate::error::{ApiError, Refusal};
use crate::hub::Event;
use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use bytes::Bytes;
use contract::poll::{MAX_WAIT_SECONDS, OLDEST_PROTOCOL, PROTOCOL, Report, Wish, agreed};
use contract::workload::{Instance, Observed};
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Body of a report; a busy node has a few hundred workloads at about a kilobyte each.
const MAX_REPORT: usize = 8 << 20;
/// Workloads of a node; those beyond are left out.
const MAX_WORKLOADS: usize = 10_000;
/// Longest key; a longer one is not cut, because it would then be another one.
const MAX_KEY_BYTES: usize = 1024;
/// Longest text of a report; what is longer is cut.
const MAX_TEXT_CHARS: usize = 1024;
/// Longest list within a workload; what is beyond is left out.
const MAX_LIST: usize = 256;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(poll)).layer(DefaultBodyLimit::max(MAX_REPORT))
}

/// Takes a controller's report (see the crate `contract`, `poll::Report`) and answers with all
/// wishes for its node (`poll::Wish`). With `wait_seconds` it answers when the generation is above
/// the report's, and at the latest after that time, 30 seconds at most.
#[utoipa::path(post, path = "/api/v1/poll", tag = "controllers",
    request_body(content = Object, content_type = "application/json"),
    responses((status = OK, body = Object), (status = BAD_REQUEST, body = Refusal),
        (status = UNAUTHORIZED, body = Refusal)))]
async fn poll(State(state): State<App>, body: Bytes) -> Result<Json<Wish>, ApiError> {
    let mut report: Report = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad(format!("cannot read the report; {error}")))?;
    let protocol = agreed(report.oldest_protocol, report.protocol).ok_or_else(|| {
        ApiError::bad(format!(
            "cannot speak with a controller of protocol {} to {}, this dashboard speaks \
             {OLDEST_PROTOCOL} to {PROTOCOL}; install the same version of sonde on both",
            report.oldest_protocol, report.protocol
        ))
    })?;
    clean(&mut report)?;
    let wait = Duration::from_secs(report.wait_seconds.min(MAX_WAIT_SECONDS).into());
    let (instance, generation) = (report.instance.id.clone(), report.generation);
    // Before anything is read: a wish that comes meanwhile must not be missed.
    let mut waiting = state.hub.wait_for(&instance);
    let now = (state.clock)();
    let known = !report.instance.recorded;
    if state.ask(move |store| store.report(&report, now)).await? {
        state.hub.publish(Event::Services);
        state.hub.publish(Event::Status);
    }
    let mut stopping = state.stopping.clone();
    let over = tokio::time::sleep(wait);
    tokio::pin!(over);
    loop {
        let asked = instance.clone();
        let wish = state.ask(move |store| store.wish(&asked)).await?;
        let wish = Wish { protocol, ..wish };
        if wait.is_zero() || (known && wish.generation > generation) {
            return Ok(Json(wish));
        }
        tokio::select! {
            () = waiting.changed() => {}
            () = &mut over => return Ok(Json(wish)),
            _ = stopping.wait_for(|stopping| *stopping) => return Ok(Json(wish)),
        }
    }
}

/// Everything in a report came from programs on the node: cut it to size, and take out what could
/// move a terminal's cursor.
fn clean(report: &mut Report) -> Result<(), ApiError> {
    if !is_key(&report.instance.id) {
        let message = "cannot take a report without an instance id of 1 to 1024 printable bytes";
        return Err(ApiError::bad(message));
    }
    let instance = &mut report.instance;
    for text in [&mut instance.host_name, &mut instance.version, &mut instance.kernel] {
        clean_text(text);
    }
    if let Some(doctor) = &mut report.doctor {
        doctor.truncate(MAX_LIST);
        for fact in doctor {
            [&mut fact.name, &mut fact.found, &mut fact.remedy].into_iter().for_each(clean_text);
        }
    }
    while report.lost.len() > MAX_LIST {
        report.lost.pop_last();
    }
    if let Some(workloads) = &mut report.workloads {
        workloads.retain(|workload| is_key(&workload.key.0));
        workloads.truncate(MAX_WORKLOADS);
        workloads.iter_mut().for_each(clean_workload);
    }
    Ok(())
}

fn clean_workload(workload: &mut Observed) {
    clean_text(&mut workload.name);
    clean_text(&mut workload.reason);
    workload.instances.truncate(MAX_LIST);
    workload.instances.iter_mut().for_each(clean_instance);
    workload.evidence.truncate(MAX_LIST);
    for evidence in &mut workload.evidence {
        clean_text(&mut evidence.provider);
        clean_text(&mut evidence.seen);
    }
    workload.attributes.retain(|key, _| is_key(key) && !is_taken(key));
    while workload.attributes.len() > MAX_LIST {
        workload.attributes.pop_last();
    }
    workload.attributes.values_mut().for_each(clean_text);
}

fn clean_instance(instance: &mut Instance) {
    clean_text(&mut instance.executable);
    clean_text(&mut instance.user);
    instance.arguments.truncate(MAX_LIST);
    instance.arguments.iter_mut().for_each(clean_text);
    if let Some(runtime) = &mut instance.runtime {
        clean_text(&mut runtime.name);
        runtime.version.iter_mut().for_each(clean_text);
    }
    instance.tls.iter_mut().for_each(clean_text);
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= MAX_KEY_BYTES && !key.chars().any(char::is_control)
}

/// A further attribute must not appear twice in the row of a service.
fn is_taken(key: &str) -> bool {
    use contract::attribute;
    key.starts_with("sonde.")
        || [
            attribute::SERVICE_NAME,
            attribute::HOST_NAME,
            attribute::PROCESS_PID,
            attribute::PROCESS_COMMAND_ARGS,
            attribute::PROCESS_RUNTIME_NAME,
            attribute::PROCESS_RUNTIME_VERSION,
        ]
        .contains(&key)
}

fn clean_text(text: &mut String) {
    if text.chars().any(char::is_control) {
        text.retain(|c| !c.is_control());
    }
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT_CHARS) {
        text.truncate(end);
    }
}
