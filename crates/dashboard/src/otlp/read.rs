//! A span as a model call.

use contract::attribute as name;
use contract::row::{Call, Time};
use std::collections::BTreeMap;

/// Longest text of an attribute; what is longer is cut. No known attribute needs more.
const MAX_TEXT_CHARS: usize = 1024;
/// Attributes that are kept of a span or resource: all known ones, and some more of a resource.
const MAX_KEPT: usize = 128;
/// The oldest start that is taken: what is kept is not older.
const MAX_AGE_NANOS: u64 = 400 * DAY_NANOS;
/// How far a sender's clock may be ahead.
const MAX_AHEAD_NANOS: u64 = DAY_NANOS;
const DAY_NANOS: u64 = 86_400_000_000_000;

/// Operations that are steps around model calls. Their tokens are those of calls below them.
const NOT_CALLS: [&str; 7] = [
    "create_agent",
    "execute_tool",
    "invoke_agent",
    "invoke_workflow",
    "plan",
    "retrieval",
    "search_memory",
];

/// Attributes of other names that say the same: older conventions.
const SAME: [(&str, &str); 5] = [
    ("gen_ai.system", name::PROVIDER_NAME),
    ("gen_ai.usage.prompt_tokens", name::INPUT_TOKENS),
    ("gen_ai.usage.completion_tokens", name::OUTPUT_TOKENS),
    ("gen_ai.usage.cache_creation.input_tokens", name::CACHE_WRITE_TOKENS),
    ("net.peer.name", name::SERVER_ADDRESS),
];

/// Attributes that have a field in the row.
const KNOWN: [&str; 41] = [
    name::SERVICE_NAME,
    name::HOST_NAME,
    name::PROCESS_PID,
    name::WORKLOAD_KEY,
    name::PLATFORM,
    name::RECORDED,
    name::OPERATION_NAME,
    name::PROVIDER_NAME,
    name::REQUEST_MODEL,
    name::REQUEST_STREAM,
    name::REQUEST_MAX_TOKENS,
    name::REQUEST_TEMPERATURE,
    name::REQUEST_TOP_P,
    name::REQUEST_CHOICE_COUNT,
    name::RESPONSE_ID,
    name::RESPONSE_MODEL,
    name::FINISH_REASONS,
    name::TIME_TO_FIRST_CHUNK,
    name::TIME_TO_FIRST_TOKEN,
    name::INPUT_TOKENS,
    name::OUTPUT_TOKENS,
    name::CACHE_READ_TOKENS,
    name::CACHE_WRITE_TOKENS,
    name::REASONING_TOKENS,
    name::CONVERSATION_ID,
    name::TOOL_CALLS,
    name::SERVER_ADDRESS,
    name::SERVER_PORT,
    name::HTTP_STATUS,
    name::ERROR_TYPE,
    name::DURATION,
    name::COST,
    name::PRICE_TABLE,
    name::RETRY_AFTER,
    name::RESEND_COUNT,
    name::CHUNK_COUNT,
    name::RECOGNISED_BY,
    name::INCOMPLETE,
    name::REQUEST_BODY_SIZE,
    name::RESPONSE_BODY_SIZE,
    "gen_ai.agent.name",
];

/// Families of resource attributes that are shown as they are. No family here holds content.
const FAMILIES: [&str; 10] = [
    "cloud.",
    "container.",
    "deployment.",
    "host.id",
    "k8s.",
    "process.executable.",
    "process.owner",
    "process.runtime.",
    "service.namespace",
    "service.version",
];

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Flag(bool),
    Whole(i64),
    Real(f64),
    Texts(Vec<String>),
}

/// Attributes that are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes(BTreeMap<String, Value>);

/// The few fields of a span that matter here; ids in hexadecimal.
#[derive(Debug, Default)]
pub(crate) struct Span {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) parent_span_id: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) failed: bool,
    pub(crate) attributes: Attributes,
}

/// What a request holds.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) calls: Vec<Call>,
    /// Spans that are no calls; metrics; logs.
    pub(crate) others: u64,
    pub(crate) rejected: u64,
    /// Why the last one was rejected.
    pub(crate) reason: &'static str,
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(Self::cut(text))
    }

    /// The text without control characters, and not longer than is kept.
    pub(crate) fn cut(text: &str) -> String {
        text.chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARS).collect()
    }
}

impl Attributes {
    /// Whether to read the value of this key at all.
    pub(crate) fn wants(&self, key: &str) -> bool {
        let named = KNOWN.contains(&key) || SAME.iter().any(|(same, _)| *same == key);
        let family = || FAMILIES.iter().any(|family| key.starts_with(family));
        self.0.len() < MAX_KEPT && key.len() <= 128 && (named || family())
    }

    pub(crate) fn add(&mut self, key: &str, value: Value) {
        match SAME.iter().find(|(same, _)| *same == key) {
            Some((_, name)) => {
                self.0.entry((*name).to_owned()).or_insert(value);
            }
            None => {
                self.0.insert(key.to_owned(), value);
            }
        }
    }
}

impl Batch {
    /// Reads a span, and keeps it when it is a call.
    pub(crate) fn add(&mut self, resource: &Attributes, span: Span, now: Time) {
        if !is_call(&span.attributes) {
            self.others += 1;
        } else if let Some(reason) = wrong(&span, now) {
            self.rejected += 1;
            self.reason = reason;
        } else {
            self.calls.push(call(resource, span));
        }
    }
}

/// A span is a call when it names an operation that is one, or a model.
fn is_call(attributes: &Attributes) -> bool {
    match attributes.0.get(name::OPERATION_NAME) {
        Some(Value::Text(operation)) => !NOT_CALLS.contains(&operation.as_str()),
        _ => [name::REQUEST_MODEL, name::RESPONSE_MODEL]
            .iter()
            .any(|m| attributes.0.contains_key(*m)),
    }
}

/// Why a span cannot be kept.
fn wrong(span: &Span, now: Time) -> Option<&'static str> {
    let valid = |id: &str, len| {
        id.len() == len
            && id.bytes().all(|b| b.is_ascii_hexdigit())
            && id.bytes().any(|b| b != b'0')
    };
    if !valid(&span.trace_id, 32) || !valid(&span.span_id, 16) {
        return Some("a span has no valid trace id or span id");
    }
    let latest = now.0.saturating_add(MAX_AHEAD_NANOS);
    if span.start > latest || span.end > latest {
        return Some("a span is more than a day in the future; check the clock of the sender");
    }
    if span.start < now.0.saturating_sub(MAX_AGE_NANOS) {
        return Some("a span is older than what is kept (400 days), or has no start");
    }
    None
}

fn call(resource: &Attributes, span: Span) -> Call {
    let mut from = Fields { resource: resource.0.clone(), span: span.attributes.0 };
    let mut call = Call {
        time: Time(span.start),
        id: String::new(),
        trace_id: span.trace_id,
        span_id: span.span_id,
        parent_span_id: Some(span.parent_span_id).filter(|id| id.bytes().any(|b| b != b'0')),
        service_name: from.text(name::SERVICE_NAME),
        workload_key: from.text(name::WORKLOAD_KEY),
        platform: from.text(name::PLATFORM),
        host_name: from.text(name::HOST_NAME),
        process_pid: from.whole(name::PROCESS_PID),
        operation_name: from.text(name::OPERATION_NAME),
        provider_name: from.text(name::PROVIDER_NAME),
        request_model: from.text(name::REQUEST_MODEL),
        response_model: from.text(name::RESPONSE_MODEL),
        request_stream: from.flag(name::REQUEST_STREAM),
        request_max_tokens: from.whole(name::REQUEST_MAX_TOKENS),
        request_temperature: from.real(name::REQUEST_TEMPERATURE),
        request_top_p: from.real(name::REQUEST_TOP_P),
        request_choice_count: from.whole(name::REQUEST_CHOICE_COUNT),
        response_id: from.text(name::RESPONSE_ID),
        finish_reasons: from.texts(name::FINISH_REASONS),
        time_to_first_chunk: from.seconds(name::TIME_TO_FIRST_CHUNK),
        time_to_first_token: from.seconds(name::TIME_TO_FIRST_TOKEN),
        input_tokens: from.whole(name::INPUT_TOKENS),
        output_tokens: from.whole(name::OUTPUT_TOKENS),
        cache_read_tokens: from.whole(name::CACHE_READ_TOKENS),
        cache_write_tokens: from.whole(name::CACHE_WRITE_TOKENS),
        reasoning_tokens: from.whole(name::REASONING_TOKENS),
        conversation_id: from.text(name::CONVERSATION_ID),
        tool_calls: from.texts(name::TOOL_CALLS),
        server_address: from.text(name::SERVER_ADDRESS),
        server_port: from.whole(name::SERVER_PORT),
        http_status: from.whole(name::HTTP_STATUS),
        error_type: from.text(name::ERROR_TYPE),
        duration: from.seconds(name::DURATION).or_else(|| duration(span.start, span.end)),
        cost: from.text(name::COST).and_then(|cost| cost.parse().ok()),
        price_table: from.text(name::PRICE_TABLE),
        retry_after: from.seconds(name::RETRY_AFTER),
        resend_count: from.whole(name::RESEND_COUNT),
        chunk_count: from.whole(name::CHUNK_COUNT),
        recognised_by: from.text(name::RECOGNISED_BY),
        incomplete: from.text(name::INCOMPLETE),
        request_body_size: from.whole(name::REQUEST_BODY_SIZE),
        response_body_size: from.whole(name::RESPONSE_BODY_SIZE),
        recorded: from.flag(name::RECORDED).filter(|recorded| *recorded),
        more: BTreeMap::new(),
    };
    if span.failed && call.error_type.is_none() {
        // The word of the semantic conventions for a failure of no known class.
        call.error_type = Some("_OTHER".into());
    }
    call.more = from.more();
    call
}

/// Seconds from start to end; a span that ends before it starts has none.
fn duration(start: u64, end: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "below 104 days a nanosecond is exact")]
    end.checked_sub(start).map(|nanos| nanos as f64 / 1e9)
}

/// Attributes of a span and its resource; the span's come first. What is taken is gone.
struct Fields {
    resource: BTreeMap<String, Value>,
    span: BTreeMap<String, Value>,
}

impl Fields {
    fn take(&mut self, key: &str) -> Option<Value> {
        let below = self.resource.remove(key);
        self.span.remove(key).or(below)
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.take(key)? {
            Value::Text(text) if !text.is_empty() => Some(text),
            Value::Whole(number) => Some(number.to_string()),
            Value::Text(_) | Value::Flag(_) | Value::Real(_) | Value::Texts(_) => None,
        }
    }

    fn texts(&mut self, key: &str) -> Vec<String> {
        match self.take(key) {
            Some(Value::Texts(texts)) => texts,
            Some(Value::Text(text)) if !text.is_empty() => vec![text],
            _ => Vec::new(),
        }
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        match self.take(key)? {
            Value::Flag(flag) => Some(flag),
            Value::Text(text) => text.parse().ok(),
            Value::Whole(_) | Value::Real(_) | Value::Texts(_) => None,
        }
    }

    /// A number that is not negative and fits.
    fn whole<T: TryFrom<i64>>(&mut self, key: &str) -> Option<T> {
        match self.take(key)? {
            Value::Whole(number) if number >= 0 => T::try_from(number).ok(),
            Value::Text(text) => text.parse::<i64>().ok().filter(|n| *n >= 0)?.try_into().ok(),
            // Some languages know no whole numbers.
            #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
            Value::Real(real) if real.fract() == 0.0 && (0.0..9e15).contains(&real) => {
                T::try_from(real as i64).ok()
            }
            Value::Whole(_) | Value::Real(_) | Value::Flag(_) | Value::Texts(_) => None,
        }
    }

    fn real(&mut self, key: &str) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "shown as it is")]
        let real = match self.take(key)? {
            Value::Real(real) => real,
            Value::Whole(number) => number as f64,
            Value::Text(text) => text.parse().ok()?,
            Value::Flag(_) | Value::Texts(_) => return None,
        };
        // JSON has no words for the others.
        real.is_finite().then_some(real)
    }

    /// Seconds: not negative, and shorter than what is kept.
    fn seconds(&mut self, key: &str) -> Option<f64> {
        self.real(key).filter(|seconds| (0.0..4e7).contains(seconds))
    }

    /// What is left of the resource, without what only looks like a field of the row.
    fn more(self) -> BTreeMap<String, serde_json::Value> {
        let left = self.resource.into_iter().filter(|(key, _)| !KNOWN.contains(&key.as_str()));
        left.filter_map(|(key, value)| {
            let value = match value {
                Value::Text(text) => text.into(),
                Value::Flag(flag) => flag.into(),
                Value::Whole(number) => number.into(),
                Value::Real(real) => serde_json::Number::from_f64(real)?.into(),
                Value::Texts(texts) => texts.into(),
            };
            Some((key, value))
        })
        .collect()
    }
}
