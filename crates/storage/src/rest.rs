//! What only a single row shows, as every engine keeps it: JSON with short names. Pure.

use contract::row::Call;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What only a single row shows, with short names because every row repeats them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rest {
    #[serde(rename = "p", skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    #[serde(rename = "pl", skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    #[serde(rename = "mt", skip_serializing_if = "Option::is_none")]
    request_max_tokens: Option<u64>,
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    request_temperature: Option<f64>,
    #[serde(rename = "tp", skip_serializing_if = "Option::is_none")]
    request_top_p: Option<f64>,
    #[serde(rename = "n", skip_serializing_if = "Option::is_none")]
    request_choice_count: Option<u64>,
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    request_stream: Option<bool>,
    #[serde(rename = "id", skip_serializing_if = "Option::is_none")]
    response_id: Option<String>,
    #[serde(rename = "fr", skip_serializing_if = "Vec::is_empty")]
    finish_reasons: Vec<String>,
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    conversation_id: Option<String>,
    #[serde(rename = "tc", skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<String>,
    #[serde(rename = "sa", skip_serializing_if = "Option::is_none")]
    server_address: Option<String>,
    #[serde(rename = "sp", skip_serializing_if = "Option::is_none")]
    server_port: Option<u16>,
    #[serde(rename = "pt", skip_serializing_if = "Option::is_none")]
    price_table: Option<String>,
    #[serde(rename = "ra", skip_serializing_if = "Option::is_none")]
    retry_after: Option<f64>,
    #[serde(rename = "rc", skip_serializing_if = "Option::is_none")]
    resend_count: Option<u64>,
    #[serde(rename = "cc", skip_serializing_if = "Option::is_none")]
    chunk_count: Option<u64>,
    #[serde(rename = "rb", skip_serializing_if = "Option::is_none")]
    recognised_by: Option<String>,
    #[serde(rename = "i", skip_serializing_if = "Option::is_none")]
    incomplete: Option<String>,
    #[serde(rename = "qs", skip_serializing_if = "Option::is_none")]
    request_body_size: Option<u64>,
    #[serde(rename = "rs", skip_serializing_if = "Option::is_none")]
    response_body_size: Option<u64>,
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    recorded: Option<bool>,
    #[serde(rename = "m", skip_serializing_if = "BTreeMap::is_empty")]
    more: BTreeMap<String, serde_json::Value>,
}

impl Rest {
    /// Of a call.
    pub(crate) fn of(call: &Call) -> Self {
        Self {
            parent_span_id: call.parent_span_id.clone(),
            platform: call.platform.clone(),
            request_max_tokens: call.request_max_tokens,
            request_temperature: call.request_temperature,
            request_top_p: call.request_top_p,
            request_choice_count: call.request_choice_count,
            request_stream: call.request_stream.filter(|stream| !stream),
            response_id: call.response_id.clone(),
            finish_reasons: call.finish_reasons.clone(),
            conversation_id: call.conversation_id.clone(),
            tool_calls: call.tool_calls.clone(),
            server_address: call.server_address.clone(),
            server_port: call.server_port,
            price_table: call.price_table.clone(),
            retry_after: call.retry_after,
            resend_count: call.resend_count,
            chunk_count: call.chunk_count,
            recognised_by: call.recognised_by.clone(),
            incomplete: call.incomplete.clone(),
            request_body_size: call.request_body_size,
            response_body_size: call.response_body_size,
            recorded: call.recorded,
            more: call.more.clone(),
        }
    }

    /// Gives a call what it had, with the stream that a row does not say.
    pub(crate) fn give(self, call: &mut Call) {
        call.request_stream = call.request_stream.or(self.request_stream);
        call.parent_span_id = self.parent_span_id;
        call.platform = self.platform;
        call.request_max_tokens = self.request_max_tokens;
        call.request_temperature = self.request_temperature;
        call.request_top_p = self.request_top_p;
        call.request_choice_count = self.request_choice_count;
        call.response_id = self.response_id;
        call.finish_reasons = self.finish_reasons;
        call.conversation_id = self.conversation_id;
        call.tool_calls = self.tool_calls;
        call.server_address = self.server_address;
        call.server_port = self.server_port;
        call.price_table = self.price_table;
        call.retry_after = self.retry_after;
        call.resend_count = self.resend_count;
        call.chunk_count = self.chunk_count;
        call.recognised_by = self.recognised_by;
        call.incomplete = self.incomplete;
        call.request_body_size = self.request_body_size;
        call.response_body_size = self.response_body_size;
        call.recorded = self.recorded;
        call.more = self.more;
    }
}
