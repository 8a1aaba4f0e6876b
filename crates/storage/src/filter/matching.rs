//! What a filter means: whether one call is like it.

use super::{FREE, Filter, NumberField, Pattern, Range, Term, Test, TextField};
use crate::outcome::outcome;
use crate::units::nanos;
use contract::row::Call;
use serde_json::Value;
use std::borrow::Cow;

impl Filter {
    /// Whether the call is like this.
    pub fn matches(&self, call: &Call) -> bool {
        self.terms.iter().all(|term| term.matches(call))
    }
}

impl Term {
    pub(crate) fn matches(&self, call: &Call) -> bool {
        let like = match &self.test {
            Test::Text { field, any } => {
                field.any(call, |text| any.iter().any(|pattern| pattern.matches(text)))
            }
            Test::Number { field, any } => {
                field.of(call).is_some_and(|number| any.iter().any(|range| range.contains(number)))
            }
            Test::Outcome(any) => any.contains(&outcome(call).0),
            Test::Stream(stream) => (call.request_stream == Some(true)) == *stream,
            Test::Free(text) => FREE
                .iter()
                .any(|field| field.any(call, |found| contains_ignoring_case(found, text))),
        };
        like != self.negated
    }
}

impl TextField {
    /// Whether any of the field's texts is so.
    fn any(&self, call: &Call, mut is: impl FnMut(&str) -> bool) -> bool {
        let mut one = |text: &Option<String>| text.as_deref().is_some_and(&mut is);
        match self {
            Self::Service => one(&call.service_name) || one(&call.workload_key),
            Self::Model => one(&call.request_model) || one(&call.response_model),
            Self::Provider => one(&call.provider_name),
            Self::Operation => one(&call.operation_name),
            Self::Class => outcome(call).1.is_some_and(is),
            Self::ErrorType => one(&call.error_type),
            Self::Finish => call.finish_reasons.iter().any(|text| is(text)),
            Self::Tool => call.tool_calls.iter().any(|text| is(text)),
            Self::Conversation => one(&call.conversation_id),
            Self::Trace => is(&call.trace_id),
            Self::Response => one(&call.response_id),
            Self::Host => one(&call.host_name),
            Self::Platform => one(&call.platform),
            Self::Server => one(&call.server_address),
            Self::Incomplete => one(&call.incomplete),
            Self::More(names) => names
                .iter()
                .filter_map(|name| call.more.get(name))
                .any(|value| text_of(value).is_some_and(|text| is(&text))),
        }
    }
}

/// How an attribute's value is written in a filter, and named in a group.
pub(crate) fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Cow::Borrowed(text)),
        other => Some(Cow::Owned(other.to_string())),
    }
}

impl NumberField {
    fn of(self, call: &Call) -> Option<u128> {
        let time = |seconds| nanos(seconds).map(u128::from);
        match self {
            Self::Duration => time(call.duration),
            Self::FirstChunk => time(call.time_to_first_chunk),
            Self::FirstToken => time(call.time_to_first_token),
            Self::RetryAfter => time(call.retry_after),
            Self::Cost => call.cost.map(|cost| cost.pico_usd),
            Self::InputTokens => call.input_tokens.map(u128::from),
            Self::OutputTokens => call.output_tokens.map(u128::from),
            Self::Tokens => match (call.input_tokens, call.output_tokens) {
                (None, None) => None,
                (input, output) => {
                    Some(u128::from(input.unwrap_or(0)) + u128::from(output.unwrap_or(0)))
                }
            },
            Self::CacheRead => call.cache_read_tokens.map(u128::from),
            Self::CacheWrite => call.cache_write_tokens.map(u128::from),
            Self::Reasoning => call.reasoning_tokens.map(u128::from),
            Self::HttpStatus => call.http_status.map(u128::from),
            Self::Pid => call.process_pid.map(u128::from),
        }
    }
}

impl Range {
    pub(crate) fn contains(&self, number: u128) -> bool {
        (self.from..=self.to).contains(&number)
    }
}

impl Pattern {
    /// Whether a text is like the pattern, without regard to case (ASCII). Each piece is looked
    /// for once, from left to right, so that no pattern takes long.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text = text.as_bytes();
        let [first, rest @ ..] = self.pieces.as_slice() else { return true };
        let Some((last, middle)) = rest.split_last() else {
            return text.eq_ignore_ascii_case(first.as_bytes());
        };
        let (first, last) = (first.as_bytes(), last.as_bytes());
        let Some(len) = text.len().checked_sub(first.len() + last.len()) else { return false };
        let (start, body) = text.split_at(first.len());
        let (mut body, end) = body.split_at(len);
        if !start.eq_ignore_ascii_case(first) || !end.eq_ignore_ascii_case(last) {
            return false;
        }
        for piece in middle {
            let Some(at) = find_ignoring_case(body, piece.as_bytes()) else { return false };
            body = body.get(at + piece.len()..).unwrap_or_default();
        }
        true
    }
}

/// Whether a part, in lower case, is in a text, without regard to case (ASCII).
pub(crate) fn contains_ignoring_case(text: &str, part: &str) -> bool {
    find_ignoring_case(text.as_bytes(), part.as_bytes()).is_some()
}

fn find_ignoring_case(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    text.windows(part.len()).position(|window| window.eq_ignore_ascii_case(part))
}
