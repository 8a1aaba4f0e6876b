//! How a call becomes a row of a block, and a row a call.

use super::{BETWEEN, Block, NAMES, NUMBERS, Name, Number, Text};
use crate::outcome::{CLASSES, outcome};
use crate::sqlite::column::NONE;
use crate::units::{id_of, kept, nanos, seconds};
use contract::row::{Call, Money, Time};
use std::borrow::Cow;
use std::collections::BTreeMap;

impl Block {
    /// The call of a row. `text_of` gives the text of a number. Long, with a line for each field.
    pub(in crate::sqlite) fn call(
        &self,
        row: usize,
        text_of: impl Fn(u64) -> Option<String>,
    ) -> Call {
        let number = |column: Number| self.known(column, row);
        let small = |column| number(column).and_then(|n| u16::try_from(n).ok());
        let name = |column: Name| {
            Some(self.name(column, row)).filter(|name| *name != NONE).and_then(&text_of)
        };
        let text = |column: Text| self.text(column, row).map(str::to_owned);
        let list = |text: Option<String>| {
            text.map_or_else(Vec::new, |t| t.split(BETWEEN).map(str::to_owned).collect())
        };
        let parent = number(Number::Parent).map(|id| format!("{id:016x}"));
        // Attributes that cannot be read hide themselves, not the call.
        let more = text(Text::More).and_then(|json| serde_json::from_str(&json).ok());
        let mut call = Call {
            time: Time(self.start[row]),
            id: String::new(),
            trace_id: format!("{:032x}", self.trace[row]),
            span_id: format!("{:016x}", self.span[row]),
            parent_span_id: parent.or_else(|| text(Text::Parent)),
            service_name: name(Name::Service),
            workload_key: name(Name::Workload),
            platform: name(Name::Platform),
            host_name: name(Name::Host),
            process_pid: number(Number::Pid).and_then(|n| u32::try_from(n).ok()),
            operation_name: name(Name::Operation),
            provider_name: name(Name::Provider),
            request_model: name(Name::RequestModel),
            response_model: name(Name::ResponseModel),
            request_stream: number(Number::Stream).map(|n| n == 1),
            request_max_tokens: number(Number::MaxTokens),
            request_temperature: number(Number::Temperature).map(f64::from_bits),
            request_top_p: number(Number::TopP).map(f64::from_bits),
            request_choice_count: number(Number::Choices),
            response_id: text(Text::Response),
            finish_reasons: list(name(Name::Finish)),
            time_to_first_chunk: seconds(number(Number::FirstChunk)),
            time_to_first_token: seconds(number(Number::FirstToken)),
            input_tokens: number(Number::Input),
            output_tokens: number(Number::Output),
            cache_read_tokens: number(Number::CacheRead),
            cache_write_tokens: number(Number::CacheWrite),
            reasoning_tokens: number(Number::Reasoning),
            conversation_id: text(Text::Conversation),
            tool_calls: list(text(Text::Tools)),
            server_address: name(Name::Server),
            server_port: small(Number::Port),
            http_status: small(Number::HttpStatus),
            error_type: name(Name::ErrorType),
            duration: seconds(number(Number::Duration)),
            cost: number(Number::Cost).map(|pico| Money { pico_usd: pico.into() }),
            price_table: name(Name::PriceTable),
            retry_after: number(Number::RetryAfter).map(f64::from_bits),
            resend_count: number(Number::Resend),
            chunk_count: number(Number::Chunks),
            recognised_by: name(Name::RecognisedBy),
            incomplete: name(Name::Incomplete),
            request_body_size: number(Number::RequestSize),
            response_body_size: number(Number::ResponseSize),
            recorded: number(Number::Recorded).map(|n| n == 1),
            more: more.unwrap_or_default(),
        };
        call.id = id_of(&call);
        call
    }
}

/// The texts of [`Name`], in its order.
pub(super) fn names_of<'a>(call: &'a Call, finish: Option<&'a str>) -> [Option<&'a str>; NAMES] {
    [
        call.error_type.as_deref(),
        call.service_name.as_deref(),
        call.workload_key.as_deref(),
        call.host_name.as_deref(),
        call.provider_name.as_deref(),
        call.operation_name.as_deref(),
        call.request_model.as_deref(),
        call.response_model.as_deref(),
        call.platform.as_deref(),
        call.server_address.as_deref(),
        call.price_table.as_deref(),
        call.recognised_by.as_deref(),
        call.incomplete.as_deref(),
        finish,
    ]
}

/// The numbers of [`Number`], in its order.
pub(super) fn numbers_of(call: &Call, parent: Option<u64>) -> [u64; NUMBERS] {
    let (how, class) = outcome(call);
    let class = class.and_then(|class| CLASSES.iter().position(|known| *known == class));
    let float = |value: Option<f64>| value.filter(|value| value.is_finite()).map(f64::to_bits);
    [
        nanos(call.duration),
        nanos(call.time_to_first_chunk),
        nanos(call.time_to_first_token),
        Some(how.number().unsigned_abs()),
        class.and_then(|class| u64::try_from(class).ok()),
        call.request_stream.map(u64::from),
        Some(u64::from(call.operation_name.as_deref() == Some("embeddings"))),
        call.http_status.map(u64::from),
        call.process_pid.map(u64::from),
        kept(call.input_tokens),
        kept(call.output_tokens),
        kept(call.cache_read_tokens),
        kept(call.cache_write_tokens),
        kept(call.reasoning_tokens),
        kept(call.cost.and_then(|cost| u64::try_from(cost.pico_usd).ok())),
        kept(call.request_max_tokens),
        float(call.request_temperature),
        float(call.request_top_p),
        kept(call.request_choice_count),
        call.server_port.map(u64::from),
        float(call.retry_after),
        kept(call.resend_count),
        kept(call.chunk_count),
        kept(call.request_body_size),
        kept(call.response_body_size),
        call.recorded.map(u64::from),
        parent,
    ]
    .map(|number| number.unwrap_or(NONE))
}

/// The further attributes as JSON; `None` of none.
pub(super) fn more_of(more: &BTreeMap<String, serde_json::Value>) -> Option<String> {
    if more.is_empty() { None } else { serde_json::to_string(more).ok() }
}

/// Texts of a list as one; `None` of none.
pub(super) fn joined(texts: &[String]) -> Option<Cow<'_, str>> {
    match texts {
        [] => None,
        [one] => Some(one.into()),
        _ => Some(texts.join(BETWEEN.encode_utf8(&mut [0; 4])).into()),
    }
}
