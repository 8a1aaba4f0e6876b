//! What senders call things: one table from the names of every generation of conventions to ours.
//!
//! A row is one name. Where a span has several names for the same thing, the row that stands first
//! wins, and our own name wins over all rows. To read another sender is to add rows.
//!
//! Sources: the `GenAI` conventions of OpenTelemetry and their list of deprecated names; the
//! attributes that `OpenInference`, `OpenLLMetry` (Traceloop), `OpenLIT`, the Vercel AI SDK, vLLM,
//! Langfuse and `LangSmith` send in 2026.

use super::fields::{OURS, Place};
use super::words::{self, Step};
use contract::attribute as name;
use std::collections::HashMap;
use std::sync::LazyLock;

/// How the value of another name becomes the value of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// As it is.
    Same,
    /// Milliseconds; ours are seconds.
    Millis,
    /// A number of dollars; ours is a decimal text. Zero stands for "no price known".
    Dollars,
    /// What kind of step the span is, in the words of the sender; see [`words::step`].
    Kind,
    /// The operation of the Vercel AI SDK, such as `ai.streamText.doStream`.
    Vercel,
    /// A JSON object of parameters of the request.
    Parameters,
    /// A JSON object of counted tokens.
    Usage,
    /// A JSON object of costs.
    Costs,
}

/// One name.
#[derive(Debug)]
pub(super) struct Name {
    /// Place in the order of precedence; smaller wins.
    pub(super) rank: u16,
    /// Our name.
    pub(super) ours: &'static str,
    /// Where it has a field of a call.
    pub(super) place: Option<Place>,
    pub(super) how: How,
}

/// The class of an exception; names the failure where nothing else does.
pub(super) const EXCEPTION: &str = "exception.type";
/// The name of the library that made the span.
pub(super) const SCOPE: &str = "otel.scope.name";
/// Name of the agent.
pub(super) const AGENT: &str = "gen_ai.agent.name";
/// The stand-in of our names for what kind of step a span is; no attribute has it.
const KIND: &str = "kind";

/// Other names for the same, by sender and generation.
const THEIRS: [(&str, &str, How); 100] = [
    // OpenTelemetry: names of earlier generations.
    ("gen_ai.system", name::PROVIDER_NAME, How::Same),
    ("gen_ai.usage.prompt_tokens", name::INPUT_TOKENS, How::Same),
    ("gen_ai.usage.completion_tokens", name::OUTPUT_TOKENS, How::Same),
    ("gen_ai.usage.cache_creation.input_tokens", name::CACHE_WRITE_TOKENS, How::Same),
    ("gen_ai.response.finish_reason", name::FINISH_REASONS, How::Same),
    ("gen_ai.server.time_to_first_token", name::TIME_TO_FIRST_CHUNK, How::Same),
    ("gen_ai.thread.id", name::CONVERSATION_ID, How::Same),
    ("gen_ai.session.id", name::CONVERSATION_ID, How::Same),
    ("gen_ai.openai.request.service_tier", "openai.request.service_tier", How::Same),
    ("gen_ai.openai.response.service_tier", "openai.response.service_tier", How::Same),
    ("net.peer.name", name::SERVER_ADDRESS, How::Same),
    ("net.peer.port", name::SERVER_PORT, How::Same),
    ("http.status_code", name::HTTP_STATUS, How::Same),
    // vLLM's own spans.
    ("gen_ai.latency.time_to_first_token", name::TIME_TO_FIRST_CHUNK, How::Same),
    ("gen_ai.latency.e2e", name::DURATION, How::Same),
    ("gen_ai.request.n", name::REQUEST_CHOICE_COUNT, How::Same),
    // OpenLIT.
    ("gen_ai.usage.cost", name::COST, How::Dollars),
    ("gen_ai.request.is_stream", name::REQUEST_STREAM, How::Same),
    ("gen_ai.usage.reasoning_tokens", name::REASONING_TOKENS, How::Same),
    ("gen_ai.usage.completion_tokens_details.reasoning", name::REASONING_TOKENS, How::Same),
    ("gen_ai.usage.prompt_tokens_details.cache_read", name::CACHE_READ_TOKENS, How::Same),
    ("gen_ai.usage.prompt_tokens_details.cache_write", name::CACHE_WRITE_TOKENS, How::Same),
    // OpenLLMetry.
    ("traceloop.span.kind", KIND, How::Kind),
    ("llm.request.type", KIND, How::Kind),
    ("gen_ai.is_streaming", name::REQUEST_STREAM, How::Same),
    ("llm.is_streaming", name::REQUEST_STREAM, How::Same),
    ("gen_ai.usage.cache_read_input_tokens", name::CACHE_READ_TOKENS, How::Same),
    ("gen_ai.usage.cache_creation_input_tokens", name::CACHE_WRITE_TOKENS, How::Same),
    ("llm.response.finish_reason", name::FINISH_REASONS, How::Same),
    ("llm.response.stop_reason", name::FINISH_REASONS, How::Same),
    ("llm.vendor", name::PROVIDER_NAME, How::Same),
    ("llm.request.model", name::REQUEST_MODEL, How::Same),
    ("llm.response.model", name::RESPONSE_MODEL, How::Same),
    ("llm.request.max_tokens", name::REQUEST_MAX_TOKENS, How::Same),
    ("llm.request.temperature", name::REQUEST_TEMPERATURE, How::Same),
    ("llm.temperature", name::REQUEST_TEMPERATURE, How::Same),
    ("llm.top_p", name::REQUEST_TOP_P, How::Same),
    ("llm.usage.prompt_tokens", name::INPUT_TOKENS, How::Same),
    ("llm.usage.completion_tokens", name::OUTPUT_TOKENS, How::Same),
    ("traceloop.association.properties.session_id", name::CONVERSATION_ID, How::Same),
    ("traceloop.association.properties.thread_id", name::CONVERSATION_ID, How::Same),
    // OpenInference.
    ("openinference.span.kind", KIND, How::Kind),
    ("llm.provider", name::PROVIDER_NAME, How::Same),
    ("llm.system", name::PROVIDER_NAME, How::Same),
    ("llm.model_name", name::RESPONSE_MODEL, How::Same),
    ("embedding.model_name", name::RESPONSE_MODEL, How::Same),
    ("llm.invocation_parameters", name::REQUEST_MODEL, How::Parameters),
    ("embedding.invocation_parameters", name::REQUEST_MODEL, How::Parameters),
    ("llm.token_count.prompt", name::INPUT_TOKENS, How::Same),
    ("llm.token_count.completion", name::OUTPUT_TOKENS, How::Same),
    ("llm.token_count.prompt_details.cache_read", name::CACHE_READ_TOKENS, How::Same),
    ("llm.token_count.prompt_details.cache_write", name::CACHE_WRITE_TOKENS, How::Same),
    ("llm.token_count.completion_details.reasoning", name::REASONING_TOKENS, How::Same),
    ("llm.finish_reason", name::FINISH_REASONS, How::Same),
    ("llm.cost.total", name::COST, How::Dollars),
    ("session.id", name::CONVERSATION_ID, How::Same),
    ("agent.name", AGENT, How::Same),
    // The Vercel AI SDK.
    ("ai.operationId", KIND, How::Vercel),
    ("ai.model.provider", name::PROVIDER_NAME, How::Same),
    ("ai.model.id", name::REQUEST_MODEL, How::Same),
    ("ai.response.id", name::RESPONSE_ID, How::Same),
    ("ai.response.model", name::RESPONSE_MODEL, How::Same),
    ("ai.response.finishReason", name::FINISH_REASONS, How::Same),
    ("ai.finishReason", name::FINISH_REASONS, How::Same),
    ("ai.response.msToFirstChunk", name::TIME_TO_FIRST_CHUNK, How::Millis),
    ("ai.stream.msToFirstChunk", name::TIME_TO_FIRST_CHUNK, How::Millis),
    ("ai.usage.promptTokens", name::INPUT_TOKENS, How::Same),
    ("ai.usage.completionTokens", name::OUTPUT_TOKENS, How::Same),
    ("ai.usage.inputTokens", name::INPUT_TOKENS, How::Same),
    ("ai.usage.outputTokens", name::OUTPUT_TOKENS, How::Same),
    ("ai.usage.tokens", name::INPUT_TOKENS, How::Same),
    ("ai.usage.cachedInputTokens", name::CACHE_READ_TOKENS, How::Same),
    ("ai.usage.inputTokenDetails.cacheReadTokens", name::CACHE_READ_TOKENS, How::Same),
    ("ai.usage.inputTokenDetails.cacheWriteTokens", name::CACHE_WRITE_TOKENS, How::Same),
    ("ai.usage.reasoningTokens", name::REASONING_TOKENS, How::Same),
    ("ai.usage.outputTokenDetails.reasoningTokens", name::REASONING_TOKENS, How::Same),
    ("ai.settings.maxOutputTokens", name::REQUEST_MAX_TOKENS, How::Same),
    ("ai.settings.maxTokens", name::REQUEST_MAX_TOKENS, How::Same),
    ("ai.settings.temperature", name::REQUEST_TEMPERATURE, How::Same),
    ("ai.settings.topP", name::REQUEST_TOP_P, How::Same),
    ("ai.telemetry.metadata.sessionId", name::CONVERSATION_ID, How::Same),
    // Langfuse.
    ("langfuse.observation.type", KIND, How::Kind),
    ("langfuse.observation.model.name", name::REQUEST_MODEL, How::Same),
    ("langfuse.observation.model.parameters", name::REQUEST_MAX_TOKENS, How::Parameters),
    ("langfuse.observation.usage_details", name::INPUT_TOKENS, How::Usage),
    ("langfuse.observation.cost_details", name::COST, How::Costs),
    ("langfuse.session.id", name::CONVERSATION_ID, How::Same),
    // LangSmith, MLflow, Arize and LiveKit.
    ("langsmith.span.kind", KIND, How::Kind),
    ("langsmith.trace.session_id", name::CONVERSATION_ID, How::Same),
    ("mlflow.spanType", KIND, How::Kind),
    ("gen_ai.span.kind", KIND, How::Kind),
    ("lk.span.kind", KIND, How::Kind),
    // Spellings that were seen in the wild.
    ("gen_ai.response_id", name::RESPONSE_ID, How::Same),
    ("gen_ai.usage.total_cost", name::COST, How::Dollars),
    ("gen_ai.usage.cached_input_tokens", name::CACHE_READ_TOKENS, How::Same),
    ("gen_ai.usage.input_tokens.cached", name::CACHE_READ_TOKENS, How::Same),
    ("gen_ai.usage.output_tokens.reasoning", name::REASONING_TOKENS, How::Same),
    ("gen_ai.usage.details.reasoning_tokens", name::REASONING_TOKENS, How::Same),
    ("gen_ai.usage.details.cache_read_tokens", name::CACHE_READ_TOKENS, How::Same),
    ("gen_ai.usage.details.cache_write_tokens", name::CACHE_WRITE_TOKENS, How::Same),
];

/// Every name that is read.
static NAMES: LazyLock<HashMap<&'static str, Name>> = LazyLock::new(|| {
    let name = |rank, ours, how| Name { rank, ours, place: Place::find(ours), how };
    let ours = OURS.iter().map(|ours| (*ours, name(0, ours, How::Same)));
    let theirs = THEIRS.iter().zip(1..);
    let theirs = theirs.map(|((key, ours, how), rank)| (*key, name(rank, ours, *how)));
    theirs.chain(ours).collect()
});

/// What a name means; `None` for one that is not known.
pub(super) fn find(key: &str) -> Option<&'static Name> {
    NAMES.get(key)
}

/// Attributes with a number inside, one for each choice or message: our name, which is a list, and
/// the place in the list.
pub(super) fn indexed(key: &str) -> Option<(&'static str, usize)> {
    const MOST: usize = 64;
    let answer = key.strip_prefix("gen_ai.completion.");
    let rest = answer.or_else(|| key.strip_prefix("llm.output_messages."))?;
    let (number, rest) = rest.split_once('.')?;
    let number: usize = number.parse().ok().filter(|number| *number < MOST)?;
    if answer.is_some() && rest == "finish_reason" {
        return Some((name::FINISH_REASONS, number));
    }
    let rest = rest.strip_prefix("message.").unwrap_or(rest).strip_prefix("tool_calls.")?;
    let (within, rest) = rest.split_once('.')?;
    let within: usize = within.parse().ok().filter(|number| *number < MOST)?;
    let named = matches!(rest, "name" | "tool_call.function.name");
    named.then_some((name::TOOL_CALLS, number * MOST + within))
}

/// What the value of a name of the kind [`How::Kind`] or [`How::Vercel`] says, and whether it also
/// says that the answer was a stream.
pub(super) fn step_of(how: How, word: &str) -> (Option<Step>, bool) {
    match how {
        How::Vercel => {
            let (step, stream) = words::vercel(word);
            (Some(step), stream)
        }
        _ => (words::step(word), false),
    }
}

#[cfg(test)]
mod tests {
    use super::{OURS, THEIRS, indexed};
    use contract::attribute as name;
    use std::collections::HashSet;

    #[test]
    fn no_name_stands_twice() {
        let mut seen: HashSet<&str> = OURS.iter().copied().collect();
        assert_eq!(seen.len(), OURS.len());
        for (theirs, ..) in THEIRS {
            assert!(seen.insert(theirs), "{theirs}");
        }
    }

    #[test]
    fn numbered_attributes_have_their_place() {
        assert_eq!(indexed("gen_ai.completion.1.finish_reason"), Some((name::FINISH_REASONS, 1)));
        assert_eq!(indexed("gen_ai.completion.0.tool_calls.2.name"), Some((name::TOOL_CALLS, 2)));
        let openinference = "llm.output_messages.1.message.tool_calls.0.tool_call.function.name";
        assert_eq!(indexed(openinference), Some((name::TOOL_CALLS, 64)));
        for key in [
            "gen_ai.completion.0.content",
            "gen_ai.prompt.0.content",
            "gen_ai.completion.99999999999999999999.finish_reason",
            "gen_ai.completion.64.finish_reason",
            "llm.output_messages.0.message.content",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments",
        ] {
            assert_eq!(indexed(key), None, "{key}");
        }
    }
}
