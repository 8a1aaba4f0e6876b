//! `/metrics`: numbers of the dashboard and of the calls since its start, in the text form of
//! Prometheus. It takes what the API takes: a login, or an `api` token.

use crate::app::{App, VERSION};
use crate::error::ApiError;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use contract::row::{Call, Node};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Different combinations of labels; all beyond are counted under `other`.
const MAX_SERIES: usize = 2_000;
/// Upper ends of the buckets of durations, in seconds: those of the `GenAI` conventions.
const BUCKETS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Kinds of tokens, in the order of [`Series::tokens`].
const TOKENS: [&str; 5] = ["input", "output", "cache_read", "cache_write", "reasoning"];

/// Service, provider, model, operation, outcome.
type Labels = [String; 5];

/// What was counted of calls.
#[derive(Debug, Default)]
pub(crate) struct Numbers(Mutex<BTreeMap<Labels, Series>>);

#[derive(Debug, Default)]
struct Series {
    calls: u64,
    tokens: [u64; 5],
    /// In 10^-12 USD.
    cost: u128,
    unpriced: u64,
    /// Calls by bucket of duration; the last has no upper end.
    durations: [u64; BUCKETS.len() + 1],
    seconds: f64,
}

impl Numbers {
    /// Counts calls that were not known before.
    pub(crate) fn add(&self, calls: &[Call]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for call in calls {
            let labels = labels(call);
            let known = all.contains_key(&labels) || all.len() < MAX_SERIES;
            let labels = if known { labels } else { std::array::from_fn(|_| "other".into()) };
            all.entry(labels).or_default().add(call);
        }
    }
}

impl Series {
    fn add(&mut self, call: &Call) {
        self.calls += 1;
        let tokens = [
            call.input_tokens,
            call.output_tokens,
            call.cache_read_tokens,
            call.cache_write_tokens,
            call.reasoning_tokens,
        ];
        for (sum, tokens) in self.tokens.iter_mut().zip(tokens) {
            *sum = sum.saturating_add(tokens.unwrap_or(0));
        }
        match call.cost {
            Some(cost) => self.cost = self.cost.saturating_add(cost.pico_usd),
            None => self.unpriced += 1,
        }
        if let Some(seconds) = call.duration {
            let bucket = BUCKETS.iter().position(|end| seconds <= *end).unwrap_or(BUCKETS.len());
            self.durations[bucket] += 1;
            self.seconds += seconds;
        }
    }
}

fn labels(call: &Call) -> Labels {
    let model = call.request_model.as_ref().or(call.response_model.as_ref());
    let failed = call.error_type.is_some() || call.http_status.is_some_and(|status| status >= 400);
    let cancelled = call.error_type.as_deref() == Some("client_cancelled");
    let outcome = match (cancelled, failed) {
        (true, _) => "cancelled",
        (_, true) => "error",
        _ => "ok",
    };
    let [service, provider, model, operation] = [
        call.service_name.as_ref(),
        call.provider_name.as_ref(),
        model,
        call.operation_name.as_ref(),
    ]
    .map(|label| label.cloned().unwrap_or_default());
    [service, provider, model, operation, outcome.into()]
}

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Numbers of the dashboard and of the calls since its start, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = OK, body = String, content_type = "text/plain"), (status = UNAUTHORIZED)))]
async fn metrics(State(state): State<App>) -> Result<impl IntoResponse, ApiError> {
    let (nodes, bytes) = state.ask(|store| Ok((store.nodes()?, store.bytes()))).await?;
    let mut text = String::new();
    let mut page = Page(&mut text);
    page.family("sonde_build_info", "gauge", "The version that runs.");
    page.line("sonde_build_info", &[("version", VERSION)], 1);
    page.family("sonde_received_total", "counter", "Telemetry received, by what became of it.");
    for (what, count) in state.received.counts() {
        page.line("sonde_received_total", &[("result", &what)], count);
    }
    page.family("sonde_controllers", "gauge", "Controllers that ever reported.");
    page.line("sonde_controllers", &[], nodes.len());
    page.losses(&nodes);
    page.family("sonde_storage_bytes", "gauge", "Size of the data directory.");
    page.line("sonde_storage_bytes", &[], bytes);
    if let Some(forward) = &state.forward {
        page.family("sonde_forward_requests_total", "counter", "Requests passed on, by result.");
        let mut counts = forward.counts();
        let waiting = counts.remove("waiting_bytes").unwrap_or(0);
        for (result, count) in counts {
            page.line("sonde_forward_requests_total", &[("result", result)], count);
        }
        page.family("sonde_forward_waiting_bytes", "gauge", "What waits to be passed on.");
        page.line("sonde_forward_waiting_bytes", &[], waiting);
    }
    page.calls(&state.numbers.0.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

/// The text so far. Writing to a string cannot fail.
struct Page<'a>(&'a mut String);

impl Page<'_> {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let _infallible = match labels.is_empty() {
            true => writeln!(self.0, "{name} {value}"),
            false => writeln!(self.0, "{name}{{{}}} {value}", labels.join(",")),
        };
    }

    /// What controllers counted as lost since their start; a new reason needs no line here.
    fn losses(&mut self, nodes: &[Node]) {
        let family = "sonde_controller_lost_total";
        self.family(family, "counter", "What a controller could not keep, by reason.");
        for node in nodes {
            for (reason, number) in &node.lost {
                let labels = [("id", &*node.id), ("node", &*node.host_name), ("reason", reason)];
                self.line(family, &labels, number);
            }
        }
    }

    fn calls(&mut self, all: &BTreeMap<Labels, Series>) {
        let named = |labels| -> [(&'static str, &str); 5] {
            let [service, provider, model, operation, outcome]: &Labels = labels;
            [
                ("service", service),
                ("provider", provider),
                ("model", model),
                ("operation", operation),
                ("outcome", outcome),
            ]
        };
        self.family("sonde_calls_total", "counter", "Model calls.");
        for (labels, series) in all {
            self.line("sonde_calls_total", &named(labels), series.calls);
        }
        self.family("sonde_call_tokens_total", "counter", "Tokens of model calls, parts included.");
        for (labels, series) in all {
            for (kind, tokens) in TOKENS.into_iter().zip(series.tokens) {
                if tokens > 0 {
                    let labels = [&named(labels)[..], &[("type", kind)]].concat();
                    self.line("sonde_call_tokens_total", &labels, tokens);
                }
            }
        }
        self.family("sonde_call_cost_usd_total", "counter", "Known cost of model calls.");
        for (labels, series) in all {
            let cost = contract::row::Money { pico_usd: series.cost };
            self.line("sonde_call_cost_usd_total", &named(labels), cost);
        }
        self.family("sonde_unpriced_calls_total", "counter", "Model calls without a known cost.");
        for (labels, series) in all {
            self.line("sonde_unpriced_calls_total", &named(labels), series.unpriced);
        }
        self.family("sonde_call_duration_seconds", "histogram", "Duration of model calls.");
        for (labels, series) in all {
            let mut sum = 0;
            let ends = BUCKETS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
            for (end, count) in ends.zip(series.durations) {
                sum += count;
                let labels = [&named(labels)[..], &[("le", end.as_str())]].concat();
                self.line("sonde_call_duration_seconds_bucket", &labels, sum);
            }
            self.line("sonde_call_duration_seconds_sum", &named(labels), series.seconds);
            self.line("sonde_call_duration_seconds_count", &named(labels), sum);
        }
    }
}

/// A label's value, as the text form has it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
