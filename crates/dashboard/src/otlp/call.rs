//! A span as a model call: which spans are calls, and what a row says of them.

use super::fields::{Fields, Place};
use super::names::{AGENT, EXCEPTION, SCOPE};
use super::price;
use super::read::{Attributes, Span, Value};
use super::words::{self, Step};
use contract::attribute as name;
use contract::row::{Call, Run, Time};

/// The oldest start that is taken: what is kept is not older.
const MAX_AGE_NANOS: u64 = 400 * DAY_NANOS;
/// How far a sender's clock may be ahead.
const MAX_AHEAD_NANOS: u64 = DAY_NANOS;
const DAY_NANOS: u64 = 86_400_000_000_000;

/// The operation of a span that is a call: empty when it names none; `None` for other spans.
///
/// A span that calls itself an agent, a tool or a chain in any convention is none, whatever else
/// it says: such spans carry the model and the sum of tokens of the calls below them.
pub(super) fn step(attributes: &Attributes) -> Option<&'static str> {
    if around(attributes).is_some() {
        return None;
    }
    if let Some(Step::Call(operation)) = operation(attributes) {
        return Some(operation);
    }
    if let Some(Step::Call(operation)) = attributes.steps.first() {
        return Some(operation);
    }
    // An operation that is new to us, or none at all: a call has a model, or was seen by us.
    const MARKS: [Place; 3] = [
        Place::of(name::REQUEST_MODEL),
        Place::of(name::RESPONSE_MODEL),
        Place::of(name::RECOGNISED_BY),
    ];
    MARKS.iter().any(|mark| attributes.get(*mark).is_some()).then_some("")
}

/// The kind of a span that is a step around calls; `None` for other spans.
pub(super) fn around(attributes: &Attributes) -> Option<&'static str> {
    let steps = operation(attributes).into_iter().chain(attributes.steps.iter().copied());
    let mut kinds = steps.filter_map(|step| match step {
        Step::Around(kind) => Some(kind),
        Step::Call(_) => None,
    });
    // The one that says most: some senders call everything a span, too.
    let first = kinds.next()?;
    Some(if first == "step" { kinds.find(|kind| *kind != "step").unwrap_or(first) } else { first })
}

fn operation(attributes: &Attributes) -> Option<Step> {
    match attributes.get(const { Place::of(name::OPERATION_NAME) }) {
        Some(Value::Text(word)) if !word.is_empty() => words::operation(word),
        _ => None,
    }
}

/// Why a span cannot be kept.
pub(super) fn wrong(span: &Span, now: Time) -> Option<&'static str> {
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

/// The row of a span that [`step`] says is a call.
pub(super) fn call(resource: &Attributes, span: Span) -> Call {
    let operation = step(&span.attributes).unwrap_or_default();
    let lists = [name::FINISH_REASONS, name::TOOL_CALLS].map(|list| span.attributes.list(list));
    let [numbered_reasons, numbered_tools] = lists;
    let first_chunk = span.first_chunk.and_then(|at| seconds_between(span.start, at));
    let (start, end, failed) = (span.start, span.end, span.failed);
    let mut from = Fields::new(resource, span.attributes);
    let mut call = Call {
        time: Time(start),
        trace_id: span.trace_id,
        span_id: span.span_id,
        parent_span_id: Some(span.parent_span_id).filter(|id| id.bytes().any(|b| b != b'0')),
        ..from.facts()
    };
    if call.finish_reasons.is_empty() {
        call.finish_reasons = numbered_reasons;
    }
    if call.tool_calls.is_empty() {
        call.tool_calls = numbered_tools;
    }
    call.duration = call.duration.or_else(|| seconds_between(start, end));
    call.time_to_first_chunk = call.time_to_first_chunk.or(first_chunk);
    let exception = from.text(const { Place::of(EXCEPTION) });
    if failed && call.error_type.is_none() {
        // The word of the semantic conventions for a failure of no known class.
        call.error_type = Some(exception.unwrap_or_else(|| "_OTHER".into()));
    }
    normalise(&mut call, operation);
    call.more = from.more(call.recognised_by.is_some());
    price::give(&mut call);
    call
}

/// Attributes that name what a step is, the one that says most first.
const NAMES_OF_RUNS: [&str; 6] = [
    "gen_ai.tool.name",
    "tool.name",
    "gen_ai.workflow.name",
    "gen_ai.task.name",
    "traceloop.entity.name",
    "graph.node.id",
];
/// Longest name of a span that is shown; a longer one may be what people wrote.
const MAX_NAME: usize = 64;

/// The row of a span that [`around`] says is a step around calls, of this kind.
pub(super) fn run(resource: &Attributes, kind: &str, span: Span) -> Run {
    let (start, end, failed) = (span.start, span.end, span.failed);
    let mut from = Fields::new(resource, span.attributes);
    let exception = from.text(const { Place::of(EXCEPTION) });
    let error_type = from.text(const { Place::of(name::ERROR_TYPE) }).or(exception);
    let agent = from.text(const { Place::of(AGENT) });
    let mut beside = NAMES_OF_RUNS.iter().filter_map(|key| from.beside(key));
    let named = beside.next();
    let named = if kind == "tool" { named.or(agent) } else { agent.or(named) };
    // The names of libraries are words with points and underscores between.
    let is_name = |text: &String| {
        text.len() <= MAX_NAME
            && text.split(' ').count() <= 4
            && text.chars().all(|c| c.is_alphanumeric() || " ._-:/@+[]()".contains(c))
    };
    Run {
        time: Time(start),
        trace_id: span.trace_id,
        span_id: span.span_id,
        parent_span_id: Some(span.parent_span_id).filter(|id| id.bytes().any(|b| b != b'0')),
        kind: kind.to_owned(),
        name: named.or(Some(span.name)).filter(|name| !name.is_empty() && is_name(name)),
        operation_name: from.text(const { Place::of(name::OPERATION_NAME) }),
        scope_name: from.text(const { Place::of(SCOPE) }),
        service_name: from.text(const { Place::of(name::SERVICE_NAME) }),
        workload_key: from.text(const { Place::of(name::WORKLOAD_KEY) }),
        host_name: from.text(const { Place::of(name::HOST_NAME) }),
        process_pid: from.whole(const { Place::of(name::PROCESS_PID) }),
        conversation_id: from.text(const { Place::of(name::CONVERSATION_ID) }),
        error_type: error_type.or_else(|| failed.then(|| "_OTHER".into())),
        duration: seconds_between(start, end),
    }
}

/// One word for one thing, and wholes that include their parts.
fn normalise(call: &mut Call, operation: &str) {
    if !operation.is_empty() {
        call.operation_name = Some(operation.to_owned());
    }
    call.provider_name = call.provider_name.take().map(|word| words::provider(&word));
    for reason in &mut call.finish_reasons {
        *reason = words::finish_reason(reason);
    }
    if call.recognised_by.is_some() {
        // Our own controller's numbers are as the conventions have them.
        return;
    }
    call.request_stream = call.request_stream.filter(|stream| *stream);
    if call.request_stream.is_none() {
        // Some senders say the whole duration where there was no stream.
        call.time_to_first_chunk = None;
    }
    let none_is_none = |count: Option<u64>| count.filter(|count| *count > 0);
    call.cache_read_tokens = none_is_none(call.cache_read_tokens);
    call.cache_write_tokens = none_is_none(call.cache_write_tokens);
    call.reasoning_tokens = none_is_none(call.reasoning_tokens);
    let whole = |whole: Option<u64>, parts: [Option<u64>; 2]| {
        let parts = parts.into_iter().flatten().fold(0, u64::saturating_add);
        // A part larger than its whole shows that the sender counts them apart.
        whole.map(|whole| if parts > whole { whole.saturating_add(parts) } else { whole })
    };
    call.input_tokens = whole(call.input_tokens, [call.cache_read_tokens, call.cache_write_tokens]);
    call.output_tokens = whole(call.output_tokens, [call.reasoning_tokens, None]);
}

/// Seconds from one time to a later one; there are none to an earlier one.
fn seconds_between(start: u64, end: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "below 104 days a nanosecond is exact")]
    end.checked_sub(start).map(|nanos| nanos as f64 / 1e9)
}
