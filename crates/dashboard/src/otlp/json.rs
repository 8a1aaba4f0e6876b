//! The JSON form of OTLP: ids in hexadecimal, 64-bit numbers as strings, unknown keys ignored.

use super::Malformed;
use super::read::{
    Attributes, Batch, FIRST_CHUNK, MAX_ATTRIBUTES, MAX_EVENTS, MAX_ITEMS, Span, Value,
};
use contract::row::Time;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Request {
    resource_spans: Option<Vec<ResourceSpans>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ResourceSpans {
    resource: Option<Resource>,
    scope_spans: Option<Vec<ScopeSpans>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resource {
    attributes: Kept,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ScopeSpans {
    scope: Option<Scope>,
    spans: Option<Vec<SpanJson>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Scope {
    name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct EventJson {
    name: Option<String>,
    time_unix_nano: Option<Number>,
    attributes: Kept,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct SpanJson {
    trace_id: Option<String>,
    span_id: Option<String>,
    parent_span_id: Option<String>,
    name: Option<String>,
    start_time_unix_nano: Option<Number>,
    end_time_unix_nano: Option<Number>,
    attributes: Kept,
    events: Bounded<EventJson, MAX_EVENTS>,
    status: Option<Status>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    code: Option<Code>,
}

/// The specification asks for the number; some senders write the name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Code {
    Number(i64),
    Name(String),
}

/// A 64-bit number: a string by the specification, a number from some senders.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Whole(u64),
}

/// Attributes, of which only the wanted ones were kept while reading.
#[derive(Default)]
struct Kept(Attributes);

#[derive(Deserialize)]
struct KeyValue {
    #[serde(default)]
    key: String,
    value: Option<Any>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Any {
    string_value: Option<String>,
    bool_value: Option<bool>,
    int_value: Option<Signed>,
    double_value: Option<Real>,
    array_value: Option<Array>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Signed {
    Text(String),
    Whole(i64),
}

/// `NaN` and the infinities are strings in the JSON form of protobuf.
#[derive(Deserialize)]
#[serde(untagged)]
enum Real {
    Real(f64),
    Text(String),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Array {
    values: Bounded<Item, MAX_ITEMS>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Item {
    string_value: Option<String>,
}

/// The first items of a list; the others are read over.
struct Bounded<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
            type Value = Bounded<T, MAX>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Bounded(Vec::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut kept = Vec::new();
                while kept.len() < MAX {
                    let Some(item) = list.next_element()? else { return Ok(Bounded(kept)) };
                    kept.push(item);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Bounded(kept))
            }
        }
        from.deserialize_any(List(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Kept;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list of attributes")
            }

            fn visit_unit<E>(self) -> Result<Kept, E> {
                Ok(Kept::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kept, A::Error> {
                let mut kept = Attributes::default();
                for _ in 0..MAX_ATTRIBUTES {
                    let Some(KeyValue { key, value }) = list.next_element()? else { break };
                    if let (true, Some(value)) = (kept.wants(&key), value.and_then(Any::value)) {
                        kept.add(&key, value);
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Kept(kept))
            }
        }
        from.deserialize_any(List)
    }
}

impl Any {
    fn value(self) -> Option<Value> {
        let text = self.string_value.map(|text| Value::text(&text));
        let flag = self.bool_value.map(Value::Flag);
        let whole = self.int_value.and_then(|number| match number {
            Signed::Text(text) => text.parse().ok().map(Value::Whole),
            Signed::Whole(number) => Some(Value::Whole(number)),
        });
        let real = self.double_value.and_then(|number| match number {
            Real::Real(number) => Some(Value::Real(number)),
            Real::Text(text) => text.parse().ok().map(Value::Real),
        });
        let texts = self.array_value.map(|array| {
            let items = array.values.0.into_iter().filter_map(|item| item.string_value);
            Value::Texts(items.map(|text| Value::item(&text)).collect())
        });
        text.or(flag).or(whole).or(real).or(texts)
    }
}

impl Number {
    fn value(self) -> u64 {
        match self {
            Self::Text(text) => text.parse().unwrap_or(0),
            Self::Whole(number) => number,
        }
    }
}

impl SpanJson {
    fn span(self) -> Span {
        let id = |id: Option<String>| id.unwrap_or_default().to_ascii_lowercase();
        let code = self.status.and_then(|status| status.code);
        let mut attributes = self.attributes.0;
        let mut first_chunk = None;
        for event in self.events.0 {
            let name = event.name.unwrap_or_default();
            if name == "exception" {
                attributes.add_exception(&event.attributes.0);
            } else if first_chunk.is_none() && FIRST_CHUNK.contains(&name.as_str()) {
                first_chunk = event.time_unix_nano.map(Number::value);
            }
        }
        Span {
            trace_id: id(self.trace_id),
            span_id: id(self.span_id),
            parent_span_id: id(self.parent_span_id),
            name: Value::item(&self.name.unwrap_or_default()),
            start: self.start_time_unix_nano.map_or(0, Number::value),
            end: self.end_time_unix_nano.map_or(0, Number::value),
            failed: code.is_some_and(|code| match code {
                Code::Number(code) => code == 2,
                Code::Name(name) => name == "STATUS_CODE_ERROR",
            }),
            attributes,
            first_chunk,
        }
    }
}

/// Reads an `ExportTraceServiceRequest`.
pub(super) fn traces(body: &[u8], now: Time) -> Result<Batch, Malformed> {
    let request: Request = parse(body)?;
    let mut batch = Batch::default();
    for resource_spans in request.resource_spans.unwrap_or_default() {
        let resource = resource_spans.resource.unwrap_or_default().attributes.0;
        for scope_spans in resource_spans.scope_spans.unwrap_or_default() {
            let scope = scope_spans.scope.and_then(|scope| scope.name).unwrap_or_default();
            for span in scope_spans.spans.unwrap_or_default() {
                let mut span = span.span();
                span.attributes.add_scope(&scope);
                batch.add(&resource, span, now);
            }
        }
    }
    Ok(batch)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Others {
    #[serde(alias = "resourceMetrics", alias = "resourceLogs")]
    resources: Option<Vec<OtherScopes>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OtherScopes {
    #[serde(alias = "scopeMetrics", alias = "scopeLogs")]
    scopes: Option<Vec<OtherItems>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OtherItems {
    #[serde(alias = "metrics", alias = "logRecords")]
    items: Option<Vec<OtherItem>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct OtherItem {
    #[serde(alias = "sum", alias = "histogram", alias = "exponentialHistogram", alias = "summary")]
    gauge: Option<Points>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Points {
    data_points: Option<Vec<IgnoredAny>>,
}

/// Counts the metrics or logs of a request, and the points of metrics.
pub(super) fn others(body: &[u8]) -> Result<Batch, Malformed> {
    let request: Others = parse(body)?;
    let mut batch = Batch::default();
    let scopes =
        request.resources.into_iter().flatten().flat_map(|one| one.scopes.into_iter().flatten());
    for item in scopes.flat_map(|scope| scope.items.into_iter().flatten()) {
        let points =
            item.gauge.and_then(|gauge| gauge.data_points).map_or(0, |points| points.len());
        batch.others += 1;
        batch.points += u64::try_from(points).unwrap_or(u64::MAX);
    }
    Ok(batch)
}

fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Malformed> {
    // The parser's own words would quote the body.
    serde_json::from_slice(body).map_err(|_why| Malformed("it is not OTLP in JSON"))
}
