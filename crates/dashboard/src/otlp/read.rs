//! What is taken from a request: spans with the attributes that are known by name, and few others.
//!
//! Content never gets further than this file. Attributes that hold prompts, answers, arguments or
//! documents are not in the table of names, and what is kept beside the table are numbers, flags
//! and short labels under keys that end like a label's.

use super::call;
use super::fields::{Known, Place};
use super::names::{self, How};
use super::words::Step;
use contract::attribute as name;
use contract::row::{Call, Run, Time};
use std::collections::BTreeMap;

/// Attributes of one span, resource or event that are looked at; the others are read over.
pub(super) const MAX_ATTRIBUTES: usize = 10_000;
/// Calls and steps of one request that are kept. The largest request of real ones has fewer; of the
/// smallest that there can be it has a million, at a kilobyte of memory each.
const MAX_KEPT: usize = 50_000;
/// Items of an array attribute that are kept.
pub(super) const MAX_ITEMS: usize = 64;
/// Events of one span that are looked at: streams have one a chunk.
pub(super) const MAX_EVENTS: usize = 1_000;
/// Events that mark the first chunk of an answer: of `OpenInference`, `OpenLLMetry`, Vercel.
pub(super) const FIRST_CHUNK: [&str; 3] =
    ["First Token Stream Event", "gen_ai.content.completion.chunk", "ai.stream.firstChunk"];
/// Longest text of an attribute; what is longer is cut. No known attribute needs more.
const MAX_TEXT_CHARS: usize = 1024;
/// Longest JSON text that is looked into for parameters and counts.
const MAX_JSON_CHARS: usize = 16 << 10;
/// Longest key that is kept.
const MAX_KEY: usize = 128;
/// Longest text that is kept under a key that is not known.
const MAX_LABEL: usize = 128;
/// Attributes without a field in the row that are kept of a span, and of a resource.
const MAX_BESIDE: usize = 64;
/// Places of numbered attributes that are kept of a span.
const MAX_NUMBERED: usize = 128;

/// Families of attributes that are shown as they are. No family here holds content.
const FAMILIES: [&str; 11] = [
    "cloud.",
    "container.",
    "deployment.",
    "faas.",
    "host.id",
    "k8s.",
    "process.executable.",
    "process.owner",
    "process.runtime.",
    "service.namespace",
    "service.version",
];

/// Families of attributes that say nothing about a call, and would be in every row.
const NOISE: [&str; 4] = ["sonde.", "telemetry.", "thread.", "code."];

/// Last words of keys whose text is a label.
const LABELS: [&str; 14] = [
    "environment",
    "fingerprint",
    "id",
    "kind",
    "language",
    "level",
    "mode",
    "name",
    "region",
    "role",
    "status",
    "tier",
    "type",
    "version",
];

/// Words of keys whose text may be what people wrote, or a secret, whatever the last word says.
const PRIVATE: [&str; 42] = [
    "answer",
    "answers",
    "arguments",
    "authorization",
    "body",
    "completion",
    "completions",
    "content",
    "cookie",
    "description",
    "document",
    "documents",
    "email",
    "exception",
    "file",
    "header",
    "headers",
    "input",
    "inputs",
    "instruction",
    "instructions",
    "key",
    "message",
    "messages",
    "metadata",
    "output",
    "outputs",
    "parameters",
    "password",
    "path",
    "phone",
    "prompt",
    "prompts",
    "query",
    "result",
    "results",
    "secret",
    "statement",
    "text",
    "token",
    "url",
    "value",
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

/// Attributes that are wanted, by our names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    /// The value of the name that stands first in the table, with its rank.
    pub(super) known: Known<(u16, Value)>,
    pub(super) beside: BTreeMap<String, Value>,
    /// What the sender calls the span, in all its conventions.
    pub(super) steps: Vec<Step>,
    numbered: BTreeMap<(&'static str, usize), String>,
}

/// The few fields of a span that matter here; ids in hexadecimal.
#[derive(Debug, Default)]
pub(crate) struct Span {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) parent_span_id: String,
    pub(crate) name: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) failed: bool,
    pub(crate) attributes: Attributes,
    /// When the first chunk of the answer was here, where an event says so.
    pub(crate) first_chunk: Option<u64>,
}

/// What a request holds.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) calls: Vec<Call>,
    /// What stands around them.
    pub(crate) runs: Vec<Run>,
    /// Spans that are neither; metrics; logs.
    pub(crate) others: u64,
    /// Points of the metrics.
    pub(crate) points: u64,
    pub(crate) rejected: u64,
    /// Why the last one was rejected.
    pub(crate) reason: &'static str,
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(Self::cut(text, MAX_JSON_CHARS))
    }

    pub(super) fn item(text: &str) -> String {
        Self::cut(text, MAX_TEXT_CHARS)
    }

    /// The text without control characters, and not longer than is kept.
    fn cut(text: &str, most: usize) -> String {
        text.chars().filter(|c| !c.is_control()).take(most).collect()
    }
}

impl Attributes {
    /// Whether to read the value of this key at all.
    pub(crate) fn wants(&self, key: &str) -> bool {
        let room = self.beside.len() < MAX_BESIDE;
        names::find(key).is_some()
            || (self.numbered.len() < MAX_NUMBERED && names::indexed(key).is_some())
            || (room
                && !NOISE.iter().any(|family| key.starts_with(family))
                && key.len() <= MAX_KEY
                && key.contains('.'))
    }

    /// Takes an attribute that is wanted.
    pub(crate) fn add(&mut self, key: &str, value: Value) {
        let found = names::find(key);
        let has_field = |found: &&names::Name| found.place.is_some() || found.how != How::Same;
        let key = found.map_or(key, |found| found.ours);
        if let Some(found) = found.filter(has_field) {
            self.add_known(found, value);
        } else if let Some(place) = names::indexed(key) {
            if let Value::Text(text) = value {
                self.numbered.insert(place, Value::item(&text));
            }
        } else if is_kept_beside(key, &value) {
            let value = match value {
                Value::Text(text) => Value::Text(Value::item(&text)),
                other => other,
            };
            // Our own name wins over others for the same.
            if found.is_none() || !self.beside.contains_key(key) {
                self.beside.insert(key.to_owned(), value);
            }
        }
    }

    /// The name of the library that made the spans.
    pub(crate) fn add_scope(&mut self, scope: &str) {
        if !scope.is_empty() {
            self.set(
                0,
                const { Place::of(names::SCOPE) },
                Value::Text(Value::cut(scope, MAX_LABEL)),
            );
        }
    }

    /// Takes the class of an exception out of its event.
    pub(crate) fn add_exception(&mut self, event: &Self) {
        const CLASS: Place = Place::of(names::EXCEPTION);
        if let Some((rank, class)) = event.known.get(CLASS) {
            self.set(*rank, CLASS, class.clone());
        }
    }

    pub(super) fn get(&self, place: Place) -> Option<&Value> {
        self.known.get(place).map(|(_, value)| value)
    }

    /// The items of a list that came one by one, in order.
    pub(super) fn list(&self, ours: &str) -> Vec<String> {
        let items = self.numbered.iter().filter(|((name, _), _)| *name == ours);
        items.map(|(_, text)| text.clone()).collect()
    }

    fn set(&mut self, rank: u16, place: Place, value: Value) {
        match self.known.get(place) {
            Some((before, _)) if *before < rank => {}
            _ => self.known.insert(place, (rank, value)),
        }
    }

    fn add_known(&mut self, found: &names::Name, value: Value) {
        let mut set = |value| {
            if let Some(place) = found.place {
                self.set(found.rank, place, value);
            }
        };
        match (found.how, value) {
            (How::Kind | How::Vercel, Value::Text(word)) => {
                let (step, stream) = names::step_of(found.how, &word);
                // Duplicate keys must not make this grow.
                self.steps.extend(step.filter(|step| !self.steps.contains(step)));
                if stream {
                    self.set(
                        found.rank,
                        const { Place::of(name::REQUEST_STREAM) },
                        Value::Flag(true),
                    );
                }
            }
            (How::Parameters | How::Usage | How::Costs, Value::Text(json)) => {
                self.add_json(found, &json);
            }
            (How::Kind | How::Vercel | How::Parameters | How::Usage | How::Costs, _) => {}
            (How::Millis, value) => {
                if let Some(millis) = number(&value) {
                    set(Value::Real(millis / 1e3));
                }
            }
            (How::Dollars, value) => {
                // Senders that do not know a price say zero.
                if let Some(dollars) = number(&value).filter(|dollars| *dollars > 0.0) {
                    set(dollars_text(dollars));
                }
            }
            (How::Same, Value::Text(text)) => {
                set(Value::Text(Value::item(&text)));
            }
            (How::Same, value) => set(value),
        }
    }

    /// Takes the few values out of a JSON object that have a field in the row.
    fn add_json(&mut self, found: &names::Name, json: &str) {
        const PARAMETERS: [(&str, Place); 9] = [
            ("model", Place::of(name::REQUEST_MODEL)),
            ("stream", Place::of(name::REQUEST_STREAM)),
            ("max_tokens", Place::of(name::REQUEST_MAX_TOKENS)),
            ("max_completion_tokens", Place::of(name::REQUEST_MAX_TOKENS)),
            ("max_output_tokens", Place::of(name::REQUEST_MAX_TOKENS)),
            ("maxTokens", Place::of(name::REQUEST_MAX_TOKENS)),
            ("temperature", Place::of(name::REQUEST_TEMPERATURE)),
            ("top_p", Place::of(name::REQUEST_TOP_P)),
            ("n", Place::of(name::REQUEST_CHOICE_COUNT)),
        ];
        const USAGE: [(&str, Place); 6] = [
            ("input", Place::of(name::INPUT_TOKENS)),
            ("output", Place::of(name::OUTPUT_TOKENS)),
            ("input_cached_tokens", Place::of(name::CACHE_READ_TOKENS)),
            ("cache_read_input_tokens", Place::of(name::CACHE_READ_TOKENS)),
            ("cache_creation_input_tokens", Place::of(name::CACHE_WRITE_TOKENS)),
            ("output_reasoning_tokens", Place::of(name::REASONING_TOKENS)),
        ];
        const COSTS: [(&str, Place); 1] = [("total", Place::of(name::COST))];
        let wanted: &[_] = match found.how {
            How::Usage => &USAGE,
            How::Costs => &COSTS,
            _ => &PARAMETERS,
        };
        let Ok(serde_json::Value::Object(object)) = serde_json::from_str(json) else { return };
        for (key, place) in wanted {
            let value = match object.get(*key) {
                Some(serde_json::Value::String(text)) => Value::Text(Value::item(text)),
                Some(serde_json::Value::Bool(flag)) => Value::Flag(*flag),
                Some(serde_json::Value::Number(number)) => match (number.as_i64(), number.as_f64())
                {
                    (Some(whole), _) => Value::Whole(whole),
                    (None, Some(real)) => Value::Real(real),
                    (None, None) => continue,
                },
                _ => continue,
            };
            match (found.how, number(&value)) {
                (How::Costs, Some(dollars)) if dollars > 0.0 => {
                    self.set(found.rank, *place, dollars_text(dollars));
                }
                (How::Costs, _) => {}
                _ => self.set(found.rank, *place, value),
            }
        }
    }
}

impl Batch {
    /// Whether a span is a call or stands around one; others are only counted.
    pub(super) fn takes(span: &Span) -> bool {
        call::around(&span.attributes).is_some() || call::step(&span.attributes).is_some()
    }

    /// Reads a span, and keeps it when it is a call, or an agent or a tool around calls.
    pub(crate) fn add(&mut self, resource: &Attributes, span: Span, now: Time) {
        let around = call::around(&span.attributes);
        if !Self::takes(&span) {
            self.others += 1;
        } else if self.calls.len() + self.runs.len() >= MAX_KEPT {
            self.rejected += 1;
            self.reason = "a request has more than 50000 calls and steps; send smaller batches";
        } else if let Some(reason) = call::wrong(&span, now) {
            self.rejected += 1;
            self.reason = reason;
        } else if let Some(kind) = around {
            self.runs.push(call::run(resource, kind, span));
        } else {
            self.calls.push(call::call(resource, span));
        }
    }
}

/// Whether an attribute without a field in the row is kept.
fn is_kept_beside(key: &str, value: &Value) -> bool {
    if FAMILIES.iter().any(|family| key.starts_with(family)) {
        return true;
    }
    match value {
        Value::Flag(_) | Value::Whole(_) | Value::Real(_) => true,
        Value::Texts(_) => false,
        Value::Text(text) => {
            let lower = key.to_ascii_lowercase();
            let mut words = lower.split(['.', '_', '-', ':']);
            let is_label = words.next_back().is_some_and(|last| LABELS.contains(&last));
            let is_word = |b: u8| b.is_ascii_alphanumeric() || b"._-:/@+".contains(&b);
            is_label
                && !words.any(|word| PRIVATE.contains(&word))
                && (1..=MAX_LABEL).contains(&text.len())
                && text.bytes().all(is_word)
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts and prices stay below 2^53")]
    match value {
        Value::Real(real) => Some(*real),
        Value::Whole(whole) => Some(*whole as f64),
        Value::Text(text) => text.parse().ok(),
        Value::Flag(_) | Value::Texts(_) => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// Dollars as the row has them: a decimal text, here with as many places as it can have.
fn dollars_text(dollars: f64) -> Value {
    Value::Text(format!("{dollars:.12}"))
}

#[cfg(test)]
mod tests {
    use super::{Attributes, Value};

    #[test]
    fn our_own_name_wins_over_an_earlier_one_whichever_comes_first() {
        let names = ["openai.response.service_tier", "gen_ai.openai.response.service_tier"];
        for order in [[0, 1], [1, 0]] {
            let mut attributes = Attributes::default();
            order
                .iter()
                .for_each(|at| attributes.add(names[*at], Value::text(["flex", "auto"][*at])));
            let kept: Vec<_> = attributes.beside.into_iter().collect();
            assert_eq!(kept, [(names[0].to_owned(), Value::text("flex"))]);
        }
    }
}
