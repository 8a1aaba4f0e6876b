//! The JSON form of OTLP: ids in hexadecimal, 64-bit numbers as strings, unknown keys ignored.

mod values;

use super::Malformed;
use super::read::{Batch, FIRST_CHUNK, MAX_EVENTS, Span, Value};
use contract::row::Time;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;
use values::{Bounded, Kept, Number, Text};

/// A list of which only what holds calls is kept while it is read: a body of a million empty spans,
/// or of as many empty resources, costs no memory.
struct Gathered<T> {
    kept: Vec<T>,
    count: Count,
}

/// What was read over: spans, metrics or logs, and the points of metrics.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    others: u64,
    points: u64,
}

/// An item of a [`Gathered`].
trait Part {
    /// What of it is only counted.
    fn count(&self) -> Count;

    /// Whether it holds anything that is kept.
    fn is_kept(&self) -> bool;
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Request {
    resource_spans: Gathered<ResourceSpans>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ResourceSpans {
    resource: Option<Resource>,
    scope_spans: Gathered<ScopeSpans>,
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
    spans: Gathered<WholeSpan>,
}

/// A span, put into our words as soon as it was read.
struct WholeSpan(Span);

#[derive(Deserialize, Default)]
#[serde(default)]
struct Scope {
    name: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct EventJson {
    name: Option<Text>,
    time_unix_nano: Option<Number>,
    attributes: Kept,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct SpanJson {
    trace_id: Option<Text>,
    span_id: Option<Text>,
    parent_span_id: Option<Text>,
    name: Option<Text>,
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

impl<T> Default for Gathered<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), count: Count::default() }
    }
}

impl Count {
    fn add(&mut self, other: Self) {
        self.others = self.others.saturating_add(other.others);
        self.points = self.points.saturating_add(other.points);
    }
}

impl<'de, T: Deserialize<'de> + Part> Deserialize<'de> for Gathered<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Part> Visitor<'de> for List<T> {
            type Value = Gathered<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Gathered::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut gathered = Gathered::default();
                while let Some(part) = list.next_element::<T>()? {
                    gathered.count.add(part.count());
                    if part.is_kept() {
                        gathered.kept.push(part);
                    }
                }
                Ok(gathered)
            }
        }
        from.deserialize_any(List(PhantomData))
    }
}

impl Part for ResourceSpans {
    fn count(&self) -> Count {
        self.scope_spans.count
    }

    fn is_kept(&self) -> bool {
        !self.scope_spans.kept.is_empty()
    }
}

impl Part for ScopeSpans {
    fn count(&self) -> Count {
        self.spans.count
    }

    fn is_kept(&self) -> bool {
        !self.spans.kept.is_empty()
    }
}

impl Part for WholeSpan {
    fn count(&self) -> Count {
        Count { others: u64::from(!self.is_kept()), points: 0 }
    }

    fn is_kept(&self) -> bool {
        Batch::takes(&self.0)
    }
}

impl<'de> Deserialize<'de> for WholeSpan {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        SpanJson::deserialize(from).map(|span| Self(span.span()))
    }
}

impl SpanJson {
    fn span(self) -> Span {
        let id = |id: Option<Text>| id.unwrap_or_default().0.to_ascii_lowercase();
        let code = self.status.and_then(|status| status.code);
        let mut attributes = self.attributes.0;
        let mut first_chunk = None;
        for event in self.events.0 {
            let name = event.name.unwrap_or_default().0;
            if name == "exception" {
                attributes.add_exception(&event.attributes.0);
            } else if first_chunk.is_none() && FIRST_CHUNK.contains(&name.as_str()) {
                first_chunk = event.time_unix_nano.map(Number::moment);
            }
        }
        Span {
            trace_id: id(self.trace_id),
            span_id: id(self.span_id),
            parent_span_id: id(self.parent_span_id),
            name: Value::item(&self.name.unwrap_or_default().0),
            start: self.start_time_unix_nano.map_or(0, Number::moment),
            end: self.end_time_unix_nano.map_or(0, Number::moment),
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
    let mut batch = Batch { others: request.resource_spans.count.others, ..Batch::default() };
    for resource_spans in request.resource_spans.kept {
        let resource = resource_spans.resource.unwrap_or_default().attributes.0;
        for scope_spans in resource_spans.scope_spans.kept {
            let scope = scope_spans.scope.and_then(|scope| scope.name).unwrap_or_default().0;
            for WholeSpan(mut span) in scope_spans.spans.kept {
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
    resources: Gathered<OtherScopes>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OtherScopes {
    #[serde(alias = "scopeMetrics", alias = "scopeLogs")]
    scopes: Gathered<OtherItems>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OtherItems {
    #[serde(alias = "metrics", alias = "logRecords")]
    items: Gathered<OtherItem>,
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

impl Part for OtherScopes {
    fn count(&self) -> Count {
        self.scopes.count
    }

    fn is_kept(&self) -> bool {
        false
    }
}

impl Part for OtherItems {
    fn count(&self) -> Count {
        self.items.count
    }

    fn is_kept(&self) -> bool {
        false
    }
}

impl Part for OtherItem {
    fn count(&self) -> Count {
        let points = self.gauge.as_ref().and_then(|gauge| gauge.data_points.as_ref());
        let points = points.map_or(0, |points| u64::try_from(points.len()).unwrap_or(u64::MAX));
        Count { others: 1, points }
    }

    fn is_kept(&self) -> bool {
        false
    }
}

/// Counts the metrics or logs of a request, and the points of metrics.
pub(super) fn others(body: &[u8]) -> Result<Batch, Malformed> {
    let Count { others, points } = parse::<Others>(body)?.resources.count;
    Ok(Batch { others, points, ..Batch::default() })
}

fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Malformed> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let body = body.strip_prefix(MARK).unwrap_or(body);
    // Else a list would be read as the fields of a message in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Malformed("it is not OTLP in JSON"));
    }
    // The parser's own words would quote the body.
    serde_json::from_slice(body).map_err(|_why| Malformed("it is not OTLP in JSON"))
}

#[cfg(test)]
mod tests {
    use super::{Others, Request, parse};

    #[test]
    fn what_is_only_counted_takes_no_memory() {
        let many = |item: &str| vec![item; 1000].join(",");
        let of_scope = format!("{{\"spans\":[{}]}}", many("{\"name\":\"x\"}"));
        let body = format!(
            "{{\"resourceSpans\":[{},{{\"scopeSpans\":[{},{of_scope}]}}]}}",
            many("{}"),
            many("{\"scope\":{}}")
        );
        let request: Request = parse(body.as_bytes()).unwrap();
        assert_eq!(
            (request.resource_spans.kept.len(), request.resource_spans.count.others),
            (0, 1000)
        );
        let metric = "{\"gauge\":{\"dataPoints\":[{},{}]}}";
        let body = format!(
            "{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{}]}}]}}]}}",
            many(metric)
        );
        let others: Others = parse(body.as_bytes()).unwrap();
        let count = others.resources.count;
        assert_eq!((others.resources.kept.len(), count.others, count.points), (0, 1000, 2000));
    }
}
