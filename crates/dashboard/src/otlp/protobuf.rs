//! The protobuf form of OTLP, read by hand: only the few fields that are needed, one span at a
//! time, without a copy of anything else. A body of a million empty spans costs no memory.
//!
//! Field numbers are those of `opentelemetry-proto` 1.x.

use super::Malformed;
use super::read::{
    Attributes, Batch, FIRST_CHUNK, MAX_ATTRIBUTES, MAX_EVENTS, MAX_ITEMS, Span, Value,
};
use contract::attribute as name;
use contract::row::{Call, Time};

/// A field of a message.
enum Field<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// Reads the fields of a message one by one.
struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed(self.fixed::<8>().map(u64::from_le_bytes)?),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_too_long| CUT)?;
                let (bytes, rest) = self.0.split_at_checked(len).ok_or(CUT)?;
                self.0 = rest;
                Field::Bytes(bytes)
            }
            5 => Field::Fixed(self.fixed::<4>().map(u32::from_le_bytes)?.into()),
            // Groups were never used by OTLP.
            _ => return Err(Malformed("it is not protobuf")),
        };
        match key >> 3 {
            0 => Err(Malformed("it is not protobuf")),
            number => Ok(Some((number, field))),
        }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (index, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Ok(value);
            }
        }
        Err(CUT)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = rest;
        Ok(*bytes)
    }

    /// Hands every sub-message of this number over, and ignores all other fields.
    fn each(
        mut self,
        wanted: u64,
        mut take: impl FnMut(Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        while let Some((number, field)) = self.next()? {
            if let (true, Field::Bytes(bytes)) = (number == wanted, field) {
                take(Message(bytes))?;
            }
        }
        Ok(())
    }
}

const CUT: Malformed = Malformed("it is cut short or not protobuf");

/// Reads an `ExportTraceServiceRequest`.
pub(super) fn traces(body: &[u8], now: Time) -> Result<Batch, Malformed> {
    let mut batch = Batch::default();
    Message(body).each(1, |resource_spans| {
        let mut resource = Attributes::default();
        let mut seen = 0;
        Message(resource_spans.0).each(1, |message| {
            message.each(1, |attribute| key_value(attribute, &mut resource, &mut seen))
        })?;
        resource_spans.each(2, |scope_spans| {
            let mut scope = String::new();
            Message(scope_spans.0).each(1, |message| {
                scope = text_field(message, 1)?;
                Ok(())
            })?;
            scope_spans.each(2, |message| {
                let mut span = span(message)?;
                span.attributes.add_scope(&scope);
                batch.add(&resource, span, now);
                Ok(())
            })
        })
    })?;
    Ok(batch)
}

/// Counts the metrics or logs of a request: both have theirs in the same place as spans. Of a
/// metric its points are counted, too.
pub(super) fn others(body: &[u8]) -> Result<Batch, Malformed> {
    let mut batch = Batch::default();
    Message(body).each(1, |resource| {
        resource.each(2, |scope| {
            scope.each(2, |mut item| {
                while let Some((number, field)) = item.next()? {
                    // Gauge, sum, histogram, exponential histogram, summary; a log has no message
                    // at these numbers but its body and attributes, whose points nobody asks for.
                    if let (5 | 7 | 9 | 10 | 11, Field::Bytes(points)) = (number, field) {
                        batch.points += points_of(Message(points));
                    }
                }
                batch.others += 1;
                Ok(())
            })
        })
    })?;
    Ok(batch)
}

/// The points of one metric; what cannot be read has none.
fn points_of(mut points: Message<'_>) -> u64 {
    let mut count = 0;
    while let Ok(Some((number, field))) = points.next() {
        count += u64::from(matches!((number, field), (1, Field::Bytes(_))));
    }
    count
}

fn span(mut message: Message<'_>) -> Result<Span, Malformed> {
    let mut span = Span::default();
    let (mut seen, mut events) = (0, 0);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes(id)) => span.trace_id = hex(id),
            (2, Field::Bytes(id)) => span.span_id = hex(id),
            (4, Field::Bytes(id)) => span.parent_span_id = hex(id),
            (5, Field::Bytes(name)) => span.name = Value::item(&String::from_utf8_lossy(name)),
            (7, Field::Fixed(nanos)) => span.start = nanos,
            (8, Field::Fixed(nanos)) => span.end = nanos,
            (9, Field::Bytes(attribute)) => {
                key_value(Message(attribute), &mut span.attributes, &mut seen)?;
            }
            (11, Field::Bytes(bytes)) => {
                events += 1;
                if events <= MAX_EVENTS {
                    event(Message(bytes), &mut span)?;
                }
            }
            (15, Field::Bytes(status)) => span.failed = is_error(Message(status))?,
            _ => {}
        }
    }
    Ok(span)
}

/// Takes the little that is wanted of an event: when the first chunk came, and which exception.
fn event(message: Message<'_>, span: &mut Span) -> Result<(), Malformed> {
    let name = text_field(Message(message.0), 2)?;
    if name == "exception" {
        let mut seen = 0;
        return message.each(3, |attribute| {
            // Only the class: the other attributes of an exception may quote a prompt.
            let mut found = Attributes::default();
            key_value(attribute, &mut found, &mut seen)?;
            span.attributes.add_exception(&found);
            Ok(())
        });
    }
    if span.first_chunk.is_none() && FIRST_CHUNK.contains(&name.as_str()) {
        let mut fields = message;
        while let Some((number, field)) = fields.next()? {
            if let (1, Field::Fixed(nanos)) = (number, field) {
                span.first_chunk = Some(nanos);
            }
        }
    }
    Ok(())
}

/// A text of a message, cut to what is kept; empty when there is none.
fn text_field(mut message: Message<'_>, wanted: u64) -> Result<String, Malformed> {
    let mut text = String::new();
    while let Some((number, field)) = message.next()? {
        if let (true, Field::Bytes(bytes)) = (number == wanted, field) {
            text = Value::item(&String::from_utf8_lossy(bytes));
        }
    }
    Ok(text)
}

/// True for the code `STATUS_CODE_ERROR`.
fn is_error(mut status: Message<'_>) -> Result<bool, Malformed> {
    let mut error = false;
    while let Some((number, field)) = status.next()? {
        if let (3, Field::Varint(code)) = (number, field) {
            error = code == 2;
        }
    }
    Ok(error)
}

/// Takes an attribute, if it is wanted and not one too many.
fn key_value(
    mut message: Message<'_>,
    to: &mut Attributes,
    seen: &mut usize,
) -> Result<(), Malformed> {
    *seen += 1;
    let (mut key, mut value) = (&[][..], None);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => key = bytes,
            (2, Field::Bytes(bytes)) => value = Some(Message(bytes)),
            _ => {}
        }
    }
    let key = std::str::from_utf8(key).map_err(|_not_text| Malformed("a key is not UTF-8"))?;
    if let (true, Some(value)) = (*seen <= MAX_ATTRIBUTES && to.wants(key), value)
        && let Some(value) = any(value)?
    {
        to.add(key, value);
    }
    Ok(())
}

/// An `AnyValue`; `None` for kinds that no known attribute has.
fn any(mut message: Message<'_>) -> Result<Option<Value>, Malformed> {
    let mut value = None;
    while let Some((number, field)) = message.next()? {
        value = match (number, field) {
            (1, Field::Bytes(text)) => Some(Value::text(&String::from_utf8_lossy(text))),
            (2, Field::Varint(flag)) => Some(Value::Flag(flag != 0)),
            (3, Field::Varint(number)) => Some(Value::Whole(number.cast_signed())),
            (4, Field::Fixed(bits)) => Some(Value::Real(f64::from_bits(bits))),
            (5, Field::Bytes(array)) => Some(Value::Texts(texts(Message(array))?)),
            _ => value,
        };
    }
    Ok(value)
}

fn texts(array: Message<'_>) -> Result<Vec<String>, Malformed> {
    let mut texts = Vec::new();
    array.each(1, |mut item| {
        while let Some((number, field)) = item.next()? {
            if let (1, Field::Bytes(text), true) = (number, field, texts.len() < MAX_ITEMS) {
                texts.push(Value::item(&String::from_utf8_lossy(text)));
            }
        }
        Ok(())
    })?;
    Ok(texts)
}

fn hex(id: &[u8]) -> String {
    // Longer than any valid id, so that it stays an invalid one.
    id.iter().take(17).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// An `Export…ServiceResponse`; empty when there is nothing to say.
pub(super) fn partial_success(rejected: u64, reason: Option<&str>) -> Vec<u8> {
    let Some(reason) = reason else { return Vec::new() };
    let mut inner = Vec::new();
    if rejected > 0 {
        inner.push(1 << 3);
        put_varint(&mut inner, rejected);
    }
    put_bytes(&mut inner, 2, reason.as_bytes());
    let mut body = Vec::new();
    put_bytes(&mut body, 1, &inner);
    body
}

pub(super) fn status(code: u64, message: &str) -> Vec<u8> {
    let mut body = vec![1 << 3];
    put_varint(&mut body, code);
    put_bytes(&mut body, 2, message.as_bytes());
    body
}

/// Appends a field of bytes, text or a message.
pub(super) fn put_bytes(to: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    to.push(number << 3 | 2);
    put_varint(to, u64::try_from(bytes.len()).unwrap_or(0));
    to.extend_from_slice(bytes);
}

/// Appends a number in the form of protobuf.
pub(super) fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    to.push(u8::try_from(value).unwrap_or(0));
}

/// An `ExportTraceServiceRequest` of calls, under our own names. A row's keys are the names of its
/// attributes, so that nothing has to be listed a second time.
pub(crate) fn calls_request(calls: &[Call]) -> Vec<u8> {
    let mut request = Vec::new();
    for call in calls {
        let Ok(serde_json::Value::Object(row)) = serde_json::to_value(call) else { continue };
        let (mut resource, mut span) = (Vec::new(), Vec::new());
        put_bytes(&mut span, 1, &unhex(&call.trace_id));
        put_bytes(&mut span, 2, &unhex(&call.span_id));
        if let Some(parent) = &call.parent_span_id {
            put_bytes(&mut span, 4, &unhex(parent));
        }
        let operation = call.operation_name.as_deref().unwrap_or("call");
        let name = format!("{operation} {}", call.request_model.as_deref().unwrap_or_default());
        put_bytes(&mut span, 5, name.trim_end().as_bytes());
        // A client: who asks the model.
        span.extend([6 << 3, 3]);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a duration is not negative, and shorter than a year"
        )]
        let nanos = (call.duration.unwrap_or_default() * 1e9).round() as u64;
        put_fixed(&mut span, 7, call.time.0);
        put_fixed(&mut span, 8, call.time.0.saturating_add(nanos));
        for (key, value) in &row {
            if ["time", "trace_id", "span_id", "parent_span_id", name::CALL_ID]
                .contains(&key.as_str())
            {
                continue;
            }
            let (to, number) =
                if is_of_resource(key) { (&mut resource, 1) } else { (&mut span, 9) };
            put_attribute(to, number, key, value);
        }
        if call.error_type.is_some() {
            put_bytes(&mut span, 15, &[3 << 3, 2]);
        }
        let (mut scope_spans, mut resource_spans) = (Vec::new(), Vec::new());
        put_bytes(&mut scope_spans, 2, &span);
        put_bytes(&mut resource_spans, 1, &resource);
        put_bytes(&mut resource_spans, 2, &scope_spans);
        put_bytes(&mut request, 1, &resource_spans);
    }
    request
}

/// Attributes that say who made the call; they belong to the resource.
fn is_of_resource(key: &str) -> bool {
    const OF_RESOURCE: [&str; 8] = [
        "service.",
        "host.",
        "process.",
        "k8s.",
        "container.",
        "cloud.",
        "deployment.",
        "systemd.",
    ];
    let own = [name::WORKLOAD_KEY, name::PLATFORM, name::RECORDED];
    own.contains(&key) || OF_RESOURCE.iter().any(|family| key.starts_with(family))
}

fn put_attribute(to: &mut Vec<u8>, number: u8, key: &str, value: &serde_json::Value) {
    let mut attribute = Vec::new();
    put_bytes(&mut attribute, 1, key.as_bytes());
    put_bytes(&mut attribute, 2, &any_value(value));
    put_bytes(to, number, &attribute);
}

fn any_value(value: &serde_json::Value) -> Vec<u8> {
    let mut any = Vec::new();
    match value {
        serde_json::Value::String(text) => put_bytes(&mut any, 1, text.as_bytes()),
        serde_json::Value::Bool(flag) => any.extend([2 << 3, u8::from(*flag)]),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => {
                any.push(3 << 3);
                put_varint(&mut any, whole.cast_unsigned());
            }
            None => put_fixed(&mut any, 4, number.as_f64().unwrap_or_default().to_bits()),
        },
        serde_json::Value::Array(items) => {
            let mut array = Vec::new();
            items.iter().for_each(|item| put_bytes(&mut array, 1, &any_value(item)));
            put_bytes(&mut any, 5, &array);
        }
        serde_json::Value::Null | serde_json::Value::Object(_) => {}
    }
    any
}

fn put_fixed(to: &mut Vec<u8>, number: u8, value: u64) {
    to.push(number << 3 | 1);
    to.extend(value.to_le_bytes());
}

/// The bytes of an id; ids in rows are whole bytes in hexadecimal.
fn unhex(id: &str) -> Vec<u8> {
    let byte = |index: usize| u8::from_str_radix(id.get(index..index + 2).unwrap_or_default(), 16);
    (0..id.len()).step_by(2).map(|index| byte(index).unwrap_or(0)).collect()
}
