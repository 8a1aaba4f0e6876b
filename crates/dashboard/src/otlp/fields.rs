//! The attributes of a span and its resource, and which of them is which field of a call.

use super::names::{AGENT, EXCEPTION, SCOPE};
use super::read::{Attributes, Value};
use contract::attribute as name;
use contract::row::Call;
use std::collections::BTreeMap;
use std::str::FromStr;

/// Makes of one list the names of ours that are read, and what reads them into a call.
macro_rules! fields {
    ($($field:ident: $how:ident $name:ident,)*) => {
        /// Names of ours that are read.
        pub(super) const OURS: &[&str] = &[$(name::$name,)* AGENT, EXCEPTION, SCOPE];

        impl Fields {
            /// What attributes say without a look at times.
            pub(super) fn facts(&mut self) -> Call {
                Call { $($field: self.$how(const { Place::of(name::$name) }),)* ..Call::default() }
            }
        }
    };
}

fields! {
    service_name: text SERVICE_NAME,
    workload_key: text WORKLOAD_KEY,
    platform: text PLATFORM,
    host_name: text HOST_NAME,
    process_pid: whole PROCESS_PID,
    operation_name: text OPERATION_NAME,
    provider_name: text PROVIDER_NAME,
    request_model: text REQUEST_MODEL,
    response_model: text RESPONSE_MODEL,
    request_stream: flag REQUEST_STREAM,
    request_max_tokens: whole REQUEST_MAX_TOKENS,
    request_temperature: real REQUEST_TEMPERATURE,
    request_top_p: real REQUEST_TOP_P,
    request_choice_count: whole REQUEST_CHOICE_COUNT,
    response_id: text RESPONSE_ID,
    finish_reasons: texts FINISH_REASONS,
    time_to_first_chunk: seconds TIME_TO_FIRST_CHUNK,
    time_to_first_token: seconds TIME_TO_FIRST_TOKEN,
    input_tokens: whole INPUT_TOKENS,
    output_tokens: whole OUTPUT_TOKENS,
    cache_read_tokens: whole CACHE_READ_TOKENS,
    cache_write_tokens: whole CACHE_WRITE_TOKENS,
    reasoning_tokens: whole REASONING_TOKENS,
    conversation_id: text CONVERSATION_ID,
    tool_calls: texts TOOL_CALLS,
    server_address: text SERVER_ADDRESS,
    server_port: whole SERVER_PORT,
    http_status: whole HTTP_STATUS,
    error_type: text ERROR_TYPE,
    duration: seconds DURATION,
    cost: parsed COST,
    price_table: text PRICE_TABLE,
    retry_after: seconds RETRY_AFTER,
    resend_count: whole RESEND_COUNT,
    chunk_count: whole CHUNK_COUNT,
    recognised_by: text RECOGNISED_BY,
    incomplete: text INCOMPLETE,
    request_body_size: whole REQUEST_BODY_SIZE,
    response_body_size: whole RESPONSE_BODY_SIZE,
    recorded: mark RECORDED,
}

/// The place of a name in [`OURS`]: names are compared when this is compiled, and not for each span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u8);

impl Place {
    /// Of a name that is in the list; any other is an error of the compiler.
    pub(super) const fn of(name: &str) -> Self {
        Self::find(name).expect("a name of the list")
    }

    /// `None` of a name that is not in the list.
    pub(super) const fn find(name: &str) -> Option<Self> {
        let mut place = 0;
        while place < OURS.len() {
            if is_same(OURS[place].as_bytes(), name.as_bytes()) {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the list has some fifty names"
                )]
                return Some(Self(place as u8));
            }
            place += 1;
        }
        None
    }
}

/// `==`, which no constant may use.
const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut place = 0;
    while place < a.len() && place < b.len() && a[place] == b[place] {
        place += 1;
    }
    a.len() == b.len() && place == a.len()
}

/// Values under names of [`OURS`]. A span has some ten of them, which are looked through.
#[derive(Debug, Clone)]
pub(super) struct Known<T>(Vec<(Place, T)>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Known<T> {
    pub(super) fn get(&self, place: Place) -> Option<&T> {
        self.0.iter().find(|(at, _)| *at == place).map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, place: Place, value: T) {
        match self.0.iter_mut().find(|(at, _)| *at == place) {
            Some((_, there)) => *there = value,
            None => self.0.push((place, value)),
        }
    }

    fn take(&mut self, place: Place) -> Option<T> {
        let at = self.0.iter().position(|(at, _)| *at == place)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// Attributes that say who made a call.
const OF_RESOURCE: [Place; 5] = [
    Place::of(name::SERVICE_NAME),
    Place::of(name::HOST_NAME),
    Place::of(name::PROCESS_PID),
    Place::of(name::WORKLOAD_KEY),
    Place::of(name::PLATFORM),
];

/// True for no name, and for what SDKs write where none was given.
fn is_nobody(value: Option<&Value>) -> bool {
    match value {
        None => true,
        Some(Value::Text(text)) => text.is_empty() || text.starts_with("unknown_service"),
        Some(_) => false,
    }
}

/// Attributes of a span and its resource; the span's come first. What is taken is gone.
pub(super) struct Fields {
    known: Known<Value>,
    beside: BTreeMap<String, Value>,
}

impl Fields {
    pub(super) fn new(resource: &Attributes, span: Attributes) -> Self {
        let below = resource.known.0.iter().map(|(place, (_, value))| (*place, value.clone()));
        let mut known = Known(below.collect());
        // Who made the call is the resource's to say: some libraries write a default of their own
        // into each span.
        for (place, (_, value)) in span.known.0 {
            if !OF_RESOURCE.contains(&place) || is_nobody(known.get(place)) {
                known.insert(place, value);
            }
        }
        let mut beside = resource.beside.clone();
        beside.extend(span.beside);
        Self { known, beside }
    }

    pub(super) fn text(&mut self, place: Place) -> Option<String> {
        match self.known.take(place)? {
            Value::Text(text) if !text.is_empty() => Some(text),
            Value::Whole(number) => Some(number.to_string()),
            Value::Text(_) | Value::Flag(_) | Value::Real(_) | Value::Texts(_) => None,
        }
    }

    /// What is written as a text and is more.
    fn parsed<T: FromStr>(&mut self, place: Place) -> Option<T> {
        self.text(place)?.parse().ok()
    }

    fn texts(&mut self, place: Place) -> Vec<String> {
        match self.known.take(place) {
            Some(Value::Texts(texts)) => texts,
            Some(Value::Text(text)) if !text.is_empty() => vec![text],
            _ => Vec::new(),
        }
    }

    fn flag(&mut self, place: Place) -> Option<bool> {
        match self.known.take(place)? {
            Value::Flag(flag) => Some(flag),
            Value::Text(text) => text.to_ascii_lowercase().parse().ok(),
            Value::Whole(_) | Value::Real(_) | Value::Texts(_) => None,
        }
    }

    /// A flag that is set or absent.
    fn mark(&mut self, place: Place) -> Option<bool> {
        self.flag(place).filter(|is_set| *is_set)
    }

    /// A number that is not negative and fits.
    pub(super) fn whole<T: TryFrom<i64>>(&mut self, place: Place) -> Option<T> {
        match self.known.take(place)? {
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

    fn real(&mut self, place: Place) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "shown as it is")]
        let real = match self.known.take(place)? {
            Value::Real(real) => real,
            Value::Whole(number) => number as f64,
            Value::Text(text) => text.parse().ok()?,
            Value::Flag(_) | Value::Texts(_) => return None,
        };
        // JSON has no words for the others.
        real.is_finite().then_some(real)
    }

    /// Seconds: not negative, and shorter than what is kept.
    fn seconds(&mut self, place: Place) -> Option<f64> {
        self.real(place).filter(|seconds| (0.0..4e7).contains(seconds))
    }

    /// The text of an attribute that has no field.
    pub(super) fn beside(&self, key: &str) -> Option<String> {
        match self.beside.get(key) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// What has no field in the row. The library that made a span says who saw the call; our own
    /// controller's name would only repeat itself in every row.
    pub(super) fn more(mut self, is_ours: bool) -> BTreeMap<String, serde_json::Value> {
        let scope =
            self.text(const { Place::of(SCOPE) }).filter(|_| !is_ours).map(|text| (SCOPE, text));
        let agent = self.text(const { Place::of(AGENT) }).map(|text| (AGENT, text));
        let named = scope.into_iter().chain(agent).map(|(key, text)| (key.to_owned(), text.into()));
        let left = self.beside.into_iter().filter(|(key, _)| !OURS.contains(&key.as_str()));
        let left = left.filter_map(|(key, value)| {
            let value = match value {
                Value::Text(text) => text.into(),
                Value::Flag(flag) => flag.into(),
                Value::Whole(number) => number.into(),
                Value::Real(real) => serde_json::Number::from_f64(real)?.into(),
                Value::Texts(texts) => texts.into(),
            };
            Some((key, value))
        });
        left.chain(named).collect()
    }
}
