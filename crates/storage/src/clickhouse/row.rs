//! How a call becomes a row, and a row a call. Pure.

use super::parts;
use crate::further::Further;
use crate::outcome::outcome;
use crate::query::Cursor;
use crate::rest::Rest;
use crate::same::Ids;
use crate::tally::{Counted, Tally};
use crate::units::{DAY_NANOS, id_of, seconds, span_id, trace_id};
use clickhouse::Row;
use contract::row::{Call, Money, Time};
use serde::{Deserialize, Serialize};

/// A row of `call`, in the order of its columns.
#[derive(Debug, Clone, Row, Serialize, Deserialize)]
pub(super) struct CallRow {
    time: i64,
    pub(super) ended: i64,
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    duration: Option<u64>,
    first_chunk: Option<u64>,
    first_token: Option<u64>,
    pub(super) outcome: String,
    class: String,
    stream: bool,
    error_type: Option<String>,
    http_status: Option<u16>,
    pub(super) service: Option<String>,
    pub(super) workload: Option<String>,
    pub(super) host: Option<String>,
    pid: Option<u32>,
    pub(super) provider: Option<String>,
    pub(super) operation: Option<String>,
    pub(super) request_model: Option<String>,
    pub(super) response_model: Option<String>,
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    pub(super) cache_read: Option<u64>,
    pub(super) cache_write: Option<u64>,
    pub(super) reasoning: Option<u64>,
    pub(super) cost: Option<u64>,
    pub(super) wasted: bool,
    pub(super) counts: Vec<u16>,
    rest: String,
    batch: u64,
    writer: u64,
    /// The ids of the call that this is a further sighting of; zeros of the first.
    of_trace: u128,
    of_span: u64,
    /// -1 and 1 of what a further sighting made of a call; zero of a sighting.
    amends: i8,
}

/// The condition that a row is the first sighting of a call.
pub(super) const FIRST: &str = "of_trace = 0 AND of_span = 0";

/// The condition that a row counts, and how often: a first sighting, and what was made of it since.
pub(super) const COUNTS: &str = "(amends != 0 OR of_trace = 0 AND of_span = 0)";
pub(super) const TIMES: &str = "if(amends = 0, 1, amends)";

/// The columns of [`CallRow`].
pub(super) const COLUMNS: &str = "time, ended, trace_id, span_id, duration, first_chunk,
    first_token, outcome, class, stream, error_type, http_status, service, workload, host, pid,
    provider, operation, request_model, response_model, input_tokens, output_tokens, cache_read,
    cache_write, reasoning, cost, wasted, counts, rest, batch, writer, of_trace, of_span, amends";

impl CallRow {
    /// The row of a call; `None` without valid ids, or when it starts after the year 2262, which
    /// no column holds.
    pub(super) fn of(call: &Call) -> Option<Self> {
        let counted = Counted::of(call);
        let mut tally = Tally::default();
        tally.add(&counted);
        let (how, class) = outcome(call);
        let duration = counted.duration_nanos;
        let ended = call.time.0.saturating_add(duration.unwrap_or(0));
        let [input_tokens, output_tokens, cache_read, cache_write, reasoning] = counted.tokens;
        Some(Self {
            time: i64::try_from(call.time.0).ok()?,
            ended: i64::try_from(ended).unwrap_or(i64::MAX),
            trace_id: trace_id(&call.trace_id)?,
            span_id: span_id(&call.span_id)?,
            duration,
            first_chunk: counted.first_chunk_nanos,
            first_token: counted.first_token_nanos,
            outcome: how.word().to_owned(),
            class: class.unwrap_or_default().to_owned(),
            stream: counted.stream,
            error_type: call.error_type.clone(),
            http_status: call.http_status,
            service: call.service_name.clone(),
            workload: call.workload_key.clone(),
            host: call.host_name.clone(),
            pid: call.process_pid,
            provider: call.provider_name.clone(),
            operation: call.operation_name.clone(),
            request_model: call.request_model.clone(),
            response_model: call.response_model.clone(),
            input_tokens,
            output_tokens,
            cache_read,
            cache_write,
            reasoning,
            cost: counted.cost,
            wasted: tally.wasted.is_some(),
            counts: parts::counts(&tally).into_iter().map(|(number, _one)| number).collect(),
            rest: serde_json::to_string(&Rest::of(call)).unwrap_or_default(),
            batch: 0,
            writer: 0,
            of_trace: 0,
            of_span: 0,
            amends: 0,
        })
    }

    /// The call of a row.
    pub(super) fn into_call(self) -> Call {
        let mut call = Call {
            time: Time(u64::try_from(self.time).unwrap_or(0)),
            trace_id: format!("{:032x}", self.trace_id),
            span_id: format!("{:016x}", self.span_id),
            duration: seconds(self.duration),
            time_to_first_chunk: seconds(self.first_chunk),
            time_to_first_token: seconds(self.first_token),
            request_stream: self.stream.then_some(true),
            error_type: self.error_type,
            http_status: self.http_status,
            service_name: self.service,
            workload_key: self.workload,
            host_name: self.host,
            process_pid: self.pid,
            provider_name: self.provider,
            operation_name: self.operation,
            request_model: self.request_model,
            response_model: self.response_model,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cache_read_tokens: self.cache_read,
            cache_write_tokens: self.cache_write,
            reasoning_tokens: self.reasoning,
            cost: self.cost.map(|pico| Money { pico_usd: pico.into() }),
            ..Call::default()
        };
        // A rest that cannot be read hides itself, not the call.
        serde_json::from_str::<Rest>(&self.rest).unwrap_or_default().give(&mut call);
        call.id = id_of(&call);
        call
    }

    /// What the row is known by.
    pub(super) fn ids(&self) -> Ids {
        (self.trace_id, self.span_id)
    }

    /// The call that it is a further sighting of.
    pub(super) fn first(&self) -> Option<Ids> {
        Some((self.of_trace, self.of_span)).filter(|ids| *ids != (0, 0))
    }

    /// As a further sighting of a call, or as the first of one.
    pub(super) fn of_call(self, first: Option<Ids>) -> Self {
        let (of_trace, of_span) = first.unwrap_or_default();
        Self { of_trace, of_span, ..self }
    }

    /// As what counts of a call so many times, in the insertion of a further sighting: -1 of what it
    /// was until then, 1 of what it is now.
    pub(super) fn amending(self, first: Ids, times: i8) -> Self {
        Self { amends: times, ..self.of_call(Some(first)) }
    }

    /// Whether it is added up: as [`COUNTS`].
    pub(super) fn counts(&self) -> bool {
        self.is_amendment() || self.first().is_none()
    }

    /// How often it counts: as [`TIMES`].
    pub(super) fn times(&self) -> i64 {
        if self.is_amendment() { self.amends.into() } else { 1 }
    }

    /// What its further attributes say.
    pub(super) fn further(&self) -> Further {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Named {
            #[serde(rename = "m")]
            more: Further,
        }
        serde_json::from_str::<Named>(&self.rest).unwrap_or_default().more
    }

    pub(super) fn is_amendment(&self) -> bool {
        self.amends != 0
    }

    /// On the day of another row, where it is not already: an insertion is of one day.
    pub(super) fn on_day_of(self, other: &Self) -> Self {
        let is_there = self.start() / DAY_NANOS == other.start() / DAY_NANOS;
        if is_there { self } else { Self { time: other.time, ..self } }
    }

    /// Its place in a list.
    pub(super) fn cursor(&self) -> Cursor {
        Cursor { time: Time(self.start()), trace: self.trace_id, span: self.span_id }
    }

    /// When it started, in nanoseconds.
    pub(super) fn start(&self) -> u64 {
        u64::try_from(self.time).unwrap_or(0)
    }

    /// Of which insertion it is.
    pub(super) fn of_batch(&self, batch: u64, writer: u64) -> Self {
        Self { batch, writer, ..self.clone() }
    }
}

/// Nanoseconds of a moment in an SQL text.
pub(super) fn moment(nanos: u64) -> String {
    let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
    format!("fromUnixTimestamp64Nano(toInt64({nanos}), 'UTC')")
}

/// The condition that a call started on one of the days.
pub(super) fn within(first: u64, last: u64) -> String {
    let (from, to) = (first.saturating_mul(DAY_NANOS), (last + 1).saturating_mul(DAY_NANOS));
    format!("time >= {} AND time < {}", moment(from), moment(to))
}
