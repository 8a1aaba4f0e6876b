//! One model call as one span, in the names of the semantic conventions.

use super::{Finished, Sender};
use contract::attribute;
use contract::row::Money;
use genai::{Incomplete, ModelCall, RecognisedBy, Usage};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use std::sync::Arc;
use workloads::Program;

/// Version of the names, for receivers that translate between versions.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.41.0";

/// Longest text in an attribute; names of models and errors are shorter.
const MAX_TEXT: usize = 512;

/// Makes the ids of spans.
pub(crate) struct Ids(Box<dyn FnMut() -> u128>);

impl Ids {
    /// Random ids.
    pub(crate) fn random() -> Self {
        Self(Box::new(|| {
            let mut bytes = [0; 16];
            // Without randomness from the kernel ids would collide; no such kernel runs this.
            if getrandom::fill(&mut bytes).is_err() {
                tracing::error!("cannot read random numbers; spans may replace each other");
            }
            u128::from_ne_bytes(bytes)
        }))
    }

    /// Ids that count up, for tests.
    #[cfg(test)]
    pub(crate) fn counting() -> Self {
        let mut last = 0;
        Self(Box::new(move || {
            last += 1;
            last
        }))
    }

    fn trace(&mut self) -> Vec<u8> {
        // All zero means "none" in the protocol.
        (self.0)().max(1).to_be_bytes().to_vec()
    }

    fn span(&mut self) -> Vec<u8> {
        let [.., a, b, c, d, e, f, g, h] = (self.0)().max(1).to_be_bytes();
        [a, b, c, d, e, f, g, h.max(1)].to_vec()
    }
}

/// Spans of a batch, grouped by the program that made the calls.
pub(crate) fn request(
    batch: &[Finished],
    sender: &Sender,
    ids: &mut Ids,
) -> ExportTraceServiceRequest {
    let mut groups: Vec<(&Arc<Program>, Vec<Span>)> = Vec::new();
    for finished in batch {
        let span = span(finished, ids);
        match groups.iter_mut().find(|(program, _)| Arc::ptr_eq(program, &finished.program)) {
            Some((_, spans)) => spans.push(span),
            None => groups.push((&finished.program, vec![span])),
        }
    }
    let resource_spans = groups.into_iter().map(|(program, spans)| ResourceSpans {
        resource: Some(Resource { attributes: resource(program, sender), ..Resource::default() }),
        scope_spans: vec![ScopeSpans {
            scope: Some(scope()),
            spans,
            schema_url: SCHEMA_URL.to_owned(),
        }],
        schema_url: SCHEMA_URL.to_owned(),
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

/// Who sends.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "sonde".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// The program, its place and its node.
pub(crate) fn resource(program: &Program, sender: &Sender) -> Vec<KeyValue> {
    let instance = &program.instance;
    let mut all = Attributes(workload(program, sender));
    for (name, value) in &instance.attributes {
        all.set(name, value.as_str());
    }
    all.set(attribute::SERVICE_INSTANCE_ID, instance_id(program, sender).as_str());
    all.set(attribute::PROCESS_PID, i64::from(instance.pid));
    all.set(attribute::PROCESS_EXECUTABLE_PATH, instance.executable.as_str());
    all.set(attribute::PROCESS_COMMAND_ARGS, instance.arguments.as_slice());
    all.set(attribute::PROCESS_OWNER, instance.user.as_str());
    all.set(attribute::PROCESS_WORKING_DIRECTORY, instance.directory.as_str());
    if instance.parent != 0 {
        all.set(attribute::PROCESS_PARENT_PID, i64::from(instance.parent));
    }
    if let Some(runtime) = &instance.runtime {
        all.set(attribute::PROCESS_RUNTIME_NAME, runtime.name.as_str());
        all.set_some(attribute::PROCESS_RUNTIME_VERSION, runtime.version.as_deref());
    }
    all.0
}

/// What tells one instance from the others of its service, everywhere and for good: the container
/// that it runs in, else the process on its node.
pub(crate) fn instance_id(program: &Program, sender: &Sender) -> String {
    let instance = &program.instance;
    match instance.attributes.get(attribute::CONTAINER_ID) {
        Some(container) => format!("{container}-{}", instance.pid),
        None => format!("{}-{}-{}", sender.host_id, instance.pid, program.start_ticks),
    }
}

/// The workload and its node, without what differs from process to process.
pub(crate) fn workload(program: &Program, sender: &Sender) -> Vec<KeyValue> {
    let mut all = Attributes(Vec::new());
    all.set(attribute::SERVICE_NAME, sender.given.name(&program.key, &program.name).as_str());
    all.set(attribute::WORKLOAD_KEY, program.key.0.as_str());
    all.set(attribute::PLATFORM, program.platform.word());
    all.set(attribute::HOST_NAME, sender.host_name.as_str());
    all.set(attribute::HOST_ID, sender.host_id.as_str());
    for (name, value) in &program.attributes {
        all.set(name, value.as_str());
    }
    if sender.recorded {
        all.set(attribute::RECORDED, true);
    }
    all.0
}

fn span(finished: &Finished, ids: &mut Ids) -> Span {
    let Finished { call, now, .. } = finished;
    let parent = call.traceparent.as_deref().and_then(traceparent);
    let status = call
        .error
        .as_ref()
        .map(|_| Status { code: StatusCode::Error.into(), message: String::new() });
    let (trace_id, parent_span_id, flags) = parent.unwrap_or_else(|| (ids.trace(), Vec::new(), 0));
    Span {
        trace_id,
        span_id: ids.span(),
        parent_span_id,
        // The lowest byte holds the flags of the trace; the next bits say that the parent is remote.
        flags,
        name: name(call),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: now.wall(call.started),
        end_time_unix_nano: now.wall(call.ended.max(call.started)),
        attributes: attributes(call),
        status,
        ..Span::default()
    }
}

fn name(call: &ModelCall) -> String {
    match &call.request_model {
        Some(model) => format!("{} {}", call.operation, cut(model)),
        None => call.operation.to_owned(),
    }
}

fn attributes(call: &ModelCall) -> Vec<KeyValue> {
    let mut all = Attributes(Vec::new());
    request_attributes(&mut all, call);
    response_attributes(&mut all, call);
    usage_attributes(&mut all, &call.usage);
    if let Some(cost) = call.cost {
        all.set(
            attribute::COST,
            Money { pico_usd: u128::from(cost.pico_usd) }.to_string().as_str(),
        );
        all.set(attribute::PRICE_TABLE, genai::PRICE_TABLE);
    }
    all.0
}

fn request_attributes(all: &mut Attributes, call: &ModelCall) {
    all.set(attribute::OPERATION_NAME, call.operation);
    all.set(attribute::PROVIDER_NAME, call.provider.as_str());
    all.set_some(attribute::REQUEST_MODEL, call.request_model.as_deref());
    if call.stream {
        all.set(attribute::REQUEST_STREAM, true);
    }
    all.set_some(attribute::REQUEST_MAX_TOKENS, call.max_tokens);
    all.set_some(attribute::REQUEST_TEMPERATURE, call.temperature);
    all.set_some(attribute::REQUEST_TOP_P, call.top_p);
    all.set_some(attribute::REQUEST_CHOICE_COUNT, call.choice_count.filter(|count| *count != 1));
    all.set_some(attribute::RESEND_COUNT, call.resend_count);
    all.set_some(attribute::SERVER_ADDRESS, call.server_address.as_deref());
    all.set_some(attribute::SERVER_PORT, call.server_port.map(i64::from));
    all.set(attribute::REQUEST_BODY_SIZE, call.request_bytes);
    all.set(
        attribute::RECOGNISED_BY,
        match call.recognised_by {
            RecognisedBy::Host => "host",
            RecognisedBy::Shape => "shape",
        },
    );
}

fn response_attributes(all: &mut Attributes, call: &ModelCall) {
    let seconds = |moment: wire::Moment| seconds(moment.0.saturating_sub(call.started.0));
    all.set_some(attribute::HTTP_STATUS, call.status.map(i64::from));
    all.set_some(attribute::RESPONSE_ID, call.response_id.as_deref());
    all.set_some(attribute::RESPONSE_MODEL, call.response_model.as_deref());
    all.set(attribute::FINISH_REASONS, call.finish_reasons.as_slice());
    all.set(attribute::TOOL_CALLS, call.tool_calls.as_slice());
    all.set_some(attribute::ERROR_TYPE, call.error.as_deref());
    all.set_some(attribute::RETRY_AFTER, call.retry_after_seconds);
    all.set_some(attribute::TIME_TO_FIRST_CHUNK, call.first_chunk.map(seconds));
    all.set_some(attribute::TIME_TO_FIRST_TOKEN, call.first_token.map(seconds));
    all.set(attribute::DURATION, seconds(call.ended));
    if call.chunk_count > 0 {
        all.set(attribute::CHUNK_COUNT, call.chunk_count);
    }
    if call.status.is_some() {
        all.set(attribute::RESPONSE_BODY_SIZE, call.response_bytes);
    }
    all.set_some(
        attribute::INCOMPLETE,
        call.incomplete.map(|incomplete| match incomplete {
            Incomplete::Gap => "gap",
            Incomplete::Cut => "cut",
            Incomplete::LateStart => "late_start",
            Incomplete::Limit => "limit",
        }),
    );
}

fn usage_attributes(all: &mut Attributes, usage: &Usage) {
    all.set_some(attribute::INPUT_TOKENS, usage.input);
    all.set_some(attribute::OUTPUT_TOKENS, usage.output);
    all.set_some(attribute::CACHE_READ_TOKENS, usage.cache_read);
    all.set_some(attribute::CACHE_WRITE_TOKENS, usage.cache_write);
    all.set_some(attribute::REASONING_TOKENS, usage.reasoning);
}

/// Seconds of a duration in nanoseconds.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 ns, more than 100 days")]
pub(crate) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// Trace id, parent span id and flags of a W3C `traceparent`; `None` when it is not valid.
fn traceparent(header: &str) -> Option<(Vec<u8>, Vec<u8>, u32)> {
    const REMOTE_PARENT: u32 = 0x300;
    let mut parts = header.trim().split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // Versions above 00 may add fields behind; ff is forbidden.
    let is_known =
        version.len() == 2 && version != "ff" && (version != "00" || parts.next().is_none());
    let (trace, parent) = (bytes(trace, 16)?, bytes(parent, 8)?);
    let [flags] = bytes(flags, 1)?.try_into().ok()?;
    let has_ids = trace.iter().any(|byte| *byte != 0) && parent.iter().any(|byte| *byte != 0);
    (is_known && has_ids).then_some((trace, parent, REMOTE_PARENT | u32::from(flags)))
}

fn bytes(hex: &str, length: usize) -> Option<Vec<u8>> {
    let is_hex = hex.len() == 2 * length
        && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let byte = |index: usize| u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok();
    is_hex.then(|| (0..length).map(byte).collect())?
}

fn cut(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_TEXT).collect()
}

/// Attributes in the order in which they were set; what is empty is not set.
pub(crate) struct Attributes(pub(crate) Vec<KeyValue>);

impl Attributes {
    /// Sets an attribute, unless the value is an empty text or list.
    pub(crate) fn set(&mut self, name: &str, value: impl IntoValue) {
        if let Some(value) = value.into_value() {
            self.0.push(KeyValue {
                key: name.to_owned(),
                value: Some(AnyValue { value: Some(value) }),
                ..KeyValue::default()
            });
        }
    }

    fn set_some(&mut self, name: &str, value: Option<impl IntoValue>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }
}

/// What an attribute can hold.
pub(crate) trait IntoValue {
    /// The value, unless it is empty.
    fn into_value(self) -> Option<Value>;
}

impl IntoValue for &str {
    fn into_value(self) -> Option<Value> {
        Some(cut(self)).filter(|text| !text.is_empty()).map(Value::StringValue)
    }
}

impl IntoValue for bool {
    fn into_value(self) -> Option<Value> {
        Some(Value::BoolValue(self))
    }
}

impl IntoValue for i64 {
    fn into_value(self) -> Option<Value> {
        Some(Value::IntValue(self))
    }
}

impl IntoValue for u64 {
    fn into_value(self) -> Option<Value> {
        i64::try_from(self).ok().map(Value::IntValue)
    }
}

impl IntoValue for f64 {
    fn into_value(self) -> Option<Value> {
        self.is_finite().then_some(Value::DoubleValue(self))
    }
}

impl IntoValue for &[String] {
    fn into_value(self) -> Option<Value> {
        let text = |text: &String| AnyValue { value: Some(Value::StringValue(cut(text))) };
        (!self.is_empty())
            .then(|| Value::ArrayValue(ArrayValue { values: self.iter().map(text).collect() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_traceparent_is_taken_over() {
        let (trace, parent, flags) =
            traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        assert_eq!((trace.len(), parent.len(), flags), (16, 8, 0x301));
        assert_eq!((trace[0], parent[0]), (0x0a, 0xb7));
    }

    #[test]
    fn an_invalid_traceparent_is_none() {
        for header in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-éé-b7ad6b7169203331-01",
        ] {
            assert_eq!(traceparent(header), None, "{header}");
        }
    }
}
