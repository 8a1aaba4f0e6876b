//! The values in OTLP's JSON, in every form that senders write them in: the mapping of protobuf to
//! JSON is often taken lightly.

use crate::otlp::read::{Attributes, MAX_ATTRIBUTES, MAX_ITEMS, Value};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// A text. Half of a character, which senders leave that cut texts by their length in UTF-16, and
/// bytes of other encodings are replaced: they spoil one text, and not all spans beside it.
#[derive(Default)]
pub(super) struct Text(pub(super) String);

/// A 64-bit number: a string by the specification, a number from some senders, with an exponent
/// from a few. One that is no such number is not known.
#[derive(Default)]
pub(super) struct Number(Option<i128>);

/// Attributes, of which only the wanted ones were kept while reading.
#[derive(Default)]
pub(super) struct Kept(pub(super) Attributes);

#[derive(Deserialize)]
struct KeyValue {
    key: Option<Text>,
    value: Option<Any>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Any {
    string_value: Option<Text>,
    bool_value: Option<bool>,
    int_value: Option<Number>,
    double_value: Option<Real>,
    array_value: Option<Array>,
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
    string_value: Option<Text>,
}

/// The first items of a list; the others are read over.
pub(super) struct Bounded<T, const MAX: usize>(pub(super) Vec<T>);

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

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Number;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a number")
            }

            fn visit_str<E>(self, text: &str) -> Result<Number, E> {
                Ok(Number(text.parse().ok()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(Some(number.into())))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(Number(Some(number.into())))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                let is_whole = number.fract() == 0.0 && number.abs() < 1e20;
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "it is whole, and not that large"
                )]
                Ok(Number(is_whole.then_some(number as i128)))
            }
        }
        from.deserialize_any(Digits)
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
                    let key = key.unwrap_or_default().0;
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
        let text = self.string_value.map(|text| Value::text(&text.0));
        let flag = self.bool_value.map(Value::Flag);
        let whole = self.int_value.and_then(|number| i64::try_from(number.0?).ok());
        let whole = whole.map(Value::Whole);
        let real = self.double_value.and_then(|number| match number {
            Real::Real(number) => Some(Value::Real(number)),
            Real::Text(text) => text.parse().ok().map(Value::Real),
        });
        let texts = self.array_value.map(|array| {
            let items = array.values.0.into_iter().filter_map(|item| item.string_value);
            Value::Texts(items.map(|text| Value::item(&text.0)).collect())
        });
        text.or(flag).or(whole).or(real).or(texts)
    }
}

impl Number {
    /// As a moment; zero where it is none, which no span may start at.
    pub(super) fn moment(self) -> u64 {
        self.0.and_then(|number| number.try_into().ok()).unwrap_or(0)
    }
}
