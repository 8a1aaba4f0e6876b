//! The row of what stands around model calls: an agent, a tool, a chain.

use super::call::Call;
use super::value::Time;
use serde::{Deserialize, Serialize};

/// One run of an agent, a tool or another part of a program that makes model calls, as an SDK told
/// it. It counts in no number: what it says of tokens is the sum of the calls below it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Run {
    /// When it began.
    pub time: Time,
    /// Id of the trace, 32 hexadecimal digits.
    pub trace_id: String,
    /// Id of the span, 16 hexadecimal digits.
    pub span_id: String,
    /// Id of the span above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<String>,
    /// `agent`, `tool`, `chain`, `workflow`, `task`, `retrieval`, `memory`, …; `step` where it is
    /// none of these.
    pub kind: String,
    /// Name of the agent, of the tool, or of the span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `invoke_agent`, `execute_tool`, …, in the words of the sender.
    #[serde(rename = "gen_ai.operation.name", default, skip_serializing_if = "Option::is_none")]
    pub operation_name: Option<String>,
    /// The library that told it.
    #[serde(rename = "otel.scope.name", default, skip_serializing_if = "Option::is_none")]
    pub scope_name: Option<String>,
    /// Shown name of the workload.
    #[serde(rename = "service.name", default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Key of the workload.
    #[serde(rename = "sonde.workload.key", default, skip_serializing_if = "Option::is_none")]
    pub workload_key: Option<String>,
    /// Name of the node.
    #[serde(rename = "host.name", default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// Process id on the node.
    #[serde(rename = "process.pid", default, skip_serializing_if = "Option::is_none")]
    pub process_pid: Option<u32>,
    /// Id of the conversation.
    #[serde(rename = "gen_ai.conversation.id", default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// Class of the failure; absent on success.
    #[serde(rename = "error.type", default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// Seconds that it took.
    #[serde(rename = "sonde.duration", default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
}

/// All of one trace that is kept, each list oldest first. `parent_span_id` makes a tree of both.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Trace {
    /// Model calls.
    pub calls: Vec<Call>,
    /// What stands around them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
}
