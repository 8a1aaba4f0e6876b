//! Numbers over a span of time.
//!
//! A call counts in the bucket in which it ended, because its tokens, cost and outcome exist
//! only then. Percentiles are taken over all calls of a span, never averaged.

use super::value::{Money, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that the first screen shows of a span of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Overview {
    /// Start of the span, included.
    pub from: Time,
    /// End of the span, excluded.
    pub to: Time,
    /// Width of a bucket of `series`, in seconds. Buckets begin at whole multiples of it.
    pub step_seconds: u64,
    /// The whole span.
    pub totals: Stats,
    /// The span of equal length just before it. Of distributions it has those of duration and of
    /// time to first chunk alone, as have `by_model` and `services`.
    pub previous: Stats,
    /// One entry a bucket, oldest first, buckets without calls included. The first and the last
    /// may be only partly inside the span.
    pub series: Vec<Bucket>,
    /// By provider and model, most calls first.
    pub by_model: Vec<ByModel>,
    /// By service and model, most calls first.
    pub services: Vec<ServiceModel>,
    /// True when rows were left out of `by_model` or `services` because there were too many.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// True when adding up was ended before all was added, because it took too long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Numbers over time, by group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Series {
    /// Start of the span, included.
    pub from: Time,
    /// End of the span, excluded.
    pub to: Time,
    /// Width of a bucket, in seconds. Buckets begin at whole multiples of it.
    pub step_seconds: u64,
    /// Start of each bucket, oldest first.
    pub times: Vec<Time>,
    /// The groups that weigh most, heaviest first, then `other`, which is all the rest.
    pub groups: Vec<Group>,
    /// True when there were more groups than can be told apart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// True when adding up was ended before all was added, because it took too long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Numbers of one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Group {
    /// What the calls have in common; absent for calls without it, and for `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// True for the rest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other: bool,
    /// The whole span.
    pub totals: Stats,
    /// One for each of `times`.
    pub series: Vec<Stats>,
    /// Durations of inference calls that went well, one for each of `times`: how many took at
    /// least 2^n milliseconds and less than 2^(n+1), by n. Absent when not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub durations: Vec<BTreeMap<i16, u64>>,
}

/// Numbers of a set of calls. A count is zero when there were none; any other value that is not
/// known is absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stats {
    /// Inference calls: chat, text completion, content generation.
    pub calls: u64,
    /// Embedding calls; they count in cost and tokens, and nowhere else.
    pub embeddings: u64,
    /// Inference calls that failed. The error rate is `errors / (calls - cancelled)`.
    pub errors: u64,
    /// Inference calls that the client ended; they are not errors.
    pub cancelled: u64,
    /// Failed inference calls by class: `rate_limit`, `quota`, `overloaded`, `server`, `timeout`,
    /// `auth`, `context_overflow`, `invalid_request`, `model_not_found`, `content_filter`,
    /// `stream_broken`, `network`, `other`.
    pub error_classes: BTreeMap<String, u64>,
    /// Inference calls that went well by why the answer ended, where that was said: `stop`,
    /// `length`, `tool_calls`, `content_filter`, `other`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub finish_reasons: BTreeMap<String, u64>,
    /// Calls that were a further attempt, where the client numbers them.
    #[serde(default)]
    pub retries: u64,
    /// Duration of the inference calls that went well, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Distribution>,
    /// Time to first chunk of the streams that went well, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_first_chunk: Option<Distribution>,
    /// Time to first token of the streams that went well, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_first_token: Option<Distribution>,
    /// Seconds from one output token to the next: (duration - time to first chunk) /
    /// (output tokens - 1), of streams that went well with two tokens or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_per_output_token: Option<Distribution>,
    /// Output tokens a second after the first chunk, of streams that went well with ten or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_speed: Option<Distribution>,
    /// Output tokens a second over the whole call, of other calls that went well with ten or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_speed_end_to_end: Option<Distribution>,
    /// Share of the duration before the first chunk, 0 to 1, of streams that went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_share: Option<Distribution>,
    /// Input tokens of an inference call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens_per_call: Option<Distribution>,
    /// Seconds that providers asked to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Distribution>,
    /// Sum of the prices that are known, in USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// The part of the cost of calls that failed, that the client ended, or whose answer was cut
    /// at the limit of tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasted_cost: Option<Money>,
    /// Calls that went well and have no price; with any, the cost is a lower bound.
    pub unpriced_calls: u64,
    /// Input tokens, cached ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Output tokens, reasoning included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Part of the input read from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    /// Part of the input written to a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// Part of the output that was reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
}

/// Percentiles of a set of values, each within 1 % of an exact one (nearest rank).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Distribution {
    /// Number of values; below 20 the percentiles say little.
    pub count: u64,
    /// Half of the values are not above it.
    pub p50: f64,
    /// 95 % of the values are not above it.
    pub p95: f64,
    /// 99 % of the values are not above it.
    pub p99: f64,
}

/// Numbers of one bucket of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Bucket {
    /// Start of the bucket.
    pub time: Time,
    /// Its cost by model, as asked for or else as answered, in USD. The eight models of the span
    /// that cost most are named; `other` is all the rest, calls without a model included. Models
    /// without a known price are absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cost_by_model: BTreeMap<String, Money>,
    /// Its numbers.
    #[serde(flatten)]
    pub stats: Stats,
}

/// Numbers of one model of one provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ByModel {
    /// Provider, where known.
    #[serde(rename = "gen_ai.provider.name", default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Model as asked for, or else as answered.
    #[serde(rename = "gen_ai.request.model", default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its numbers.
    #[serde(flatten)]
    pub stats: Stats,
}

/// Numbers of one model as one service uses it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceModel {
    /// Shown name, where known.
    #[serde(rename = "service.name", default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Key of the workload, where known.
    #[serde(rename = "sonde.workload.key", default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Provider, where known.
    #[serde(rename = "gen_ai.provider.name", default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Model as asked for, or else as answered.
    #[serde(rename = "gen_ai.request.model", default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its numbers.
    #[serde(flatten)]
    pub stats: Stats,
}
