//! The row of a model call.

use super::value::{Money, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One model call. Totals of tokens include their parts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Call {
    /// Start of the call.
    #[serde(rename = "time")]
    pub time: Time,
    /// Id of the call: the day, the trace and the span. The dashboard makes it.
    #[serde(rename = "sonde.call.id", default)]
    pub id: String,
    /// Id of the trace, 32 hexadecimal digits.
    pub trace_id: String,
    /// Id of the span, 16 hexadecimal digits.
    pub span_id: String,
    /// Id of the span above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<String>,
    /// Shown name of the workload.
    #[serde(rename = "service.name", default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Key of the workload.
    #[serde(rename = "sonde.workload.key", default, skip_serializing_if = "Option::is_none")]
    pub workload_key: Option<String>,
    /// Where the workload runs.
    #[serde(rename = "sonde.platform", default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Name of the node.
    #[serde(rename = "host.name", default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// Process id on the node.
    #[serde(rename = "process.pid", default, skip_serializing_if = "Option::is_none")]
    pub process_pid: Option<u32>,
    /// `chat`, `embeddings`, ….
    #[serde(rename = "gen_ai.operation.name", default, skip_serializing_if = "Option::is_none")]
    pub operation_name: Option<String>,
    /// Who serves the model.
    #[serde(rename = "gen_ai.provider.name", default, skip_serializing_if = "Option::is_none")]
    pub provider_name: Option<String>,
    /// Model as asked for.
    #[serde(rename = "gen_ai.request.model", default, skip_serializing_if = "Option::is_none")]
    pub request_model: Option<String>,
    /// Model as answered.
    #[serde(rename = "gen_ai.response.model", default, skip_serializing_if = "Option::is_none")]
    pub response_model: Option<String>,
    /// True when the answer was asked for as a stream.
    #[serde(rename = "gen_ai.request.stream", default, skip_serializing_if = "Option::is_none")]
    pub request_stream: Option<bool>,
    /// Upper limit of output tokens asked for.
    #[serde(
        rename = "gen_ai.request.max_tokens",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub request_max_tokens: Option<u64>,
    /// Temperature asked for.
    #[serde(
        rename = "gen_ai.request.temperature",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub request_temperature: Option<f64>,
    /// `top_p` asked for.
    #[serde(rename = "gen_ai.request.top_p", default, skip_serializing_if = "Option::is_none")]
    pub request_top_p: Option<f64>,
    /// Choices asked for, when not one.
    #[serde(
        rename = "gen_ai.request.choice.count",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub request_choice_count: Option<u64>,
    /// Id that the provider gave its answer.
    #[serde(rename = "gen_ai.response.id", default, skip_serializing_if = "Option::is_none")]
    pub response_id: Option<String>,
    /// One reason a choice, in index order.
    #[serde(
        rename = "gen_ai.response.finish_reasons",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub finish_reasons: Vec<String>,
    /// Seconds to the first stream event that is not a comment or ping.
    #[serde(
        rename = "gen_ai.response.time_to_first_chunk",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub time_to_first_chunk: Option<f64>,
    /// Seconds to the first event that carries content, reasoning or a tool call.
    #[serde(
        rename = "sonde.time_to_first_token",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub time_to_first_token: Option<f64>,
    /// All input tokens, cached ones included.
    #[serde(
        rename = "gen_ai.usage.input_tokens",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub input_tokens: Option<u64>,
    /// All output tokens, reasoning included.
    #[serde(
        rename = "gen_ai.usage.output_tokens",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub output_tokens: Option<u64>,
    /// Part of the input read from the provider's cache.
    #[serde(
        rename = "gen_ai.usage.cache_read.input_tokens",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub cache_read_tokens: Option<u64>,
    /// Part of the input written to the provider's cache.
    #[serde(
        rename = "gen_ai.usage.cache_write.input_tokens",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub cache_write_tokens: Option<u64>,
    /// Part of the output that was reasoning.
    #[serde(
        rename = "gen_ai.usage.reasoning.output_tokens",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub reasoning_tokens: Option<u64>,
    /// Id of the conversation, where the API carries a real one.
    #[serde(rename = "gen_ai.conversation.id", default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// Names of the tools that the model asked to call.
    #[serde(rename = "sonde.tool_calls", default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<String>,
    /// Host that was asked.
    #[serde(rename = "server.address", default, skip_serializing_if = "Option::is_none")]
    pub server_address: Option<String>,
    /// Port that was asked.
    #[serde(rename = "server.port", default, skip_serializing_if = "Option::is_none")]
    pub server_port: Option<u16>,
    /// HTTP status.
    #[serde(
        rename = "http.response.status_code",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub http_status: Option<u16>,
    /// Class of the failure; absent on success.
    #[serde(rename = "error.type", default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// Seconds from the first request byte to the end of the answer.
    #[serde(rename = "sonde.duration", default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    /// Price; absent when unknown.
    #[serde(rename = "sonde.cost", default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// Version of the price table that the cost was made with.
    #[serde(rename = "sonde.price_table", default, skip_serializing_if = "Option::is_none")]
    pub price_table: Option<String>,
    /// Seconds that the provider asked to wait.
    #[serde(rename = "sonde.retry_after", default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<f64>,
    /// Number of this attempt; 0 is the first.
    #[serde(
        rename = "http.request.resend_count",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub resend_count: Option<u64>,
    /// Events in the answer's stream.
    #[serde(rename = "sonde.chunk_count", default, skip_serializing_if = "Option::is_none")]
    pub chunk_count: Option<u64>,
    /// How the provider was recognised: `host` or `shape`.
    #[serde(rename = "sonde.recognised_by", default, skip_serializing_if = "Option::is_none")]
    pub recognised_by: Option<String>,
    /// Why part of the call was not seen.
    #[serde(rename = "sonde.incomplete", default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// Size of the request body as sent, in bytes.
    #[serde(rename = "http.request.body.size", default, skip_serializing_if = "Option::is_none")]
    pub request_body_size: Option<u64>,
    /// Size of the response body as received, in bytes.
    #[serde(rename = "http.response.body.size", default, skip_serializing_if = "Option::is_none")]
    pub response_body_size: Option<u64>,
    /// True when it came from `sonde replay`.
    #[serde(rename = "sonde.recorded", default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<bool>,
    /// Further attributes of the resource (namespace, container, image, …), by name.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

/// A page of calls, newest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Calls {
    /// The rows.
    pub calls: Vec<Call>,
    /// Where the next, older page begins: hand it back as `before`. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// True when the search was ended before the page was full, because it took too long; `next`
    /// goes on where it stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}
