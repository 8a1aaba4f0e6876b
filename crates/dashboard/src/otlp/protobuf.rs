//! The protobuf form of OTLP, read by hand: only the few fields that are needed, one span at a
//! time, without a copy of anything else. A body of a million empty spans costs no memory.
//!
//! Field numbers are those of `opentelemetry-proto` 1.x.

use super::Malformed;
use super::read::{Attributes, Batch, Span, Value};
use contract::row::Time;

/// Items of an array attribute that are kept.
const MAX_ITEMS: usize = 64;

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
        Message(resource_spans.0)
            .each(1, |message| message.each(1, |attribute| key_value(attribute, &mut resource)))?;
        resource_spans.each(2, |scope_spans| {
            scope_spans.each(2, |message| {
                batch.add(&resource, span(message)?, now);
                Ok(())
            })
        })
    })?;
    Ok(batch)
}

/// Counts the metrics or logs of a request: both have theirs in the same place as spans.
pub(super) fn others(body: &[u8]) -> Result<Batch, Malformed> {
    let mut batch = Batch::default();
    Message(body).each(1, |resource| {
        resource.each(2, |scope| {
            scope.each(2, |mut item| {
                while item.next()?.is_some() {}
                batch.others += 1;
                Ok(())
            })
        })
    })?;
    Ok(batch)
}

fn span(mut message: Message<'_>) -> Result<Span, Malformed> {
    let mut span = Span::default();
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes(id)) => span.trace_id = hex(id),
            (2, Field::Bytes(id)) => span.span_id = hex(id),
            (4, Field::Bytes(id)) => span.parent_span_id = hex(id),
            (7, Field::Fixed(nanos)) => span.start = nanos,
            (8, Field::Fixed(nanos)) => span.end = nanos,
            (9, Field::Bytes(attribute)) => {
                key_value(Message(attribute), &mut span.attributes)?;
            }
            (15, Field::Bytes(status)) => span.failed = is_error(Message(status))?,
            _ => {}
        }
    }
    Ok(span)
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

fn key_value(mut message: Message<'_>, to: &mut Attributes) -> Result<(), Malformed> {
    let (mut key, mut value) = (&[][..], None);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => key = bytes,
            (2, Field::Bytes(bytes)) => value = Some(Message(bytes)),
            _ => {}
        }
    }
    let key = std::str::from_utf8(key).map_err(|_not_text| Malformed("a key is not UTF-8"))?;
    if let (true, Some(value)) = (to.wants(key), value)
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
            if let (1, Field::Bytes(text), true) = (number, field, texts.len() < MAX_ITEMS)
                && let Value::Text(text) = Value::text(&String::from_utf8_lossy(text))
            {
                texts.push(text);
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

/// An `Export…ServiceResponse`; empty when nothing was refused.
pub(super) fn partial_success(rejected: u64, reason: &str) -> Vec<u8> {
    if rejected == 0 {
        return Vec::new();
    }
    let mut inner = vec![1 << 3];
    put_varint(&mut inner, rejected);
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

fn put_bytes(to: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    to.push(number << 3 | 2);
    put_varint(to, u64::try_from(bytes.len()).unwrap_or(0));
    to.extend_from_slice(bytes);
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    to.push(u8::try_from(value).unwrap_or(0));
}
