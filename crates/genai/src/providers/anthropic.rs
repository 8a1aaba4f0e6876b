//! Anthropic messages, and the APIs that speak it.
//!
//! <https://docs.anthropic.com/en/api/messages>

use crate::Usage;
use crate::answer::{Answer, Counts, Question};
use crate::family::{Event, Family};
use crate::field::Field;
use crate::json::Node;

pub(super) const FAMILY: Family = Family {
    routes: &[("/messages", "chat")],
    operation: "chat",
    provider: "anthropic",
    request: &REQUEST,
    response: &RESPONSE,
    asks,
    event,
    usage,
    finish,
};

static REQUEST: Node = Node::inside(
    "",
    &[
        Node::value("model", Field::Model),
        Node::value("messages", Field::Messages),
        Node::value("stream", Field::Stream),
        Node::value("max_tokens", Field::MaxTokens),
        Node::value("temperature", Field::Temperature),
        Node::value("top_p", Field::TopP),
    ],
);

static RESPONSE: Node = Node::inside(
    "",
    &[
        Node::value("type", Field::Kind),
        // A plain answer.
        Node::value("id", Field::Id),
        Node::value("model", Field::Model),
        Node::value("stop_reason", Field::FinishReason),
        Node::inside("content", &[Node::both("[]", Field::Block, BLOCK)]),
        // Also of `message_delta`.
        Node::inside("usage", USAGE),
        Node::both("error", Field::Error, &[Node::value("type", Field::ErrorType)]),
        // Events of a stream.
        Node::inside("message", MESSAGE),
        Node::both("content_block", Field::Block, BLOCK),
        Node::inside("delta", DELTA),
    ],
);

const MESSAGE: &[Node] = &[
    Node::value("id", Field::Id),
    Node::value("model", Field::Model),
    // The output count of `message_start` is a placeholder, and not read.
    Node::inside("usage", INPUT),
];

const DELTA: &[Node] = &[
    Node::value("stop_reason", Field::FinishReason),
    Node::value("text", Field::Token),
    Node::value("thinking", Field::Token),
    Node::value("partial_json", Field::Token),
];

const BLOCK: &[Node] = &[
    Node::value("type", Field::BlockKind),
    Node::value("name", Field::BlockName),
    Node::value("text", Field::Token),
    Node::value("thinking", Field::Token),
];

const INPUT: &[Node] = &[
    Node::value("input_tokens", Field::Input),
    Node::value("cache_read_input_tokens", Field::CacheRead),
    Node::value("cache_creation_input_tokens", Field::CacheWrite),
    Node::inside(
        "cache_creation",
        &[Node::value("ephemeral_1h_input_tokens", Field::CacheWrite1h)],
    ),
    Node::value("service_tier", Field::Tier),
    Node::value("speed", Field::Tier),
    Node::value("inference_geo", Field::Tier),
    Node::inside("server_tool_use", &[Node::value("web_search_requests", Field::Charged)]),
];

const USAGE: &[Node] = &[
    Node::value("input_tokens", Field::Input),
    Node::value("output_tokens", Field::Output),
    Node::value("cache_read_input_tokens", Field::CacheRead),
    Node::value("cache_creation_input_tokens", Field::CacheWrite),
    Node::inside(
        "cache_creation",
        &[Node::value("ephemeral_1h_input_tokens", Field::CacheWrite1h)],
    ),
    Node::inside("output_tokens_details", &[Node::value("thinking_tokens", Field::Reasoning)]),
    Node::value("service_tier", Field::Tier),
    Node::value("speed", Field::Tier),
    Node::value("inference_geo", Field::Tier),
    Node::inside("server_tool_use", &[Node::value("web_search_requests", Field::Charged)]),
];

fn asks(question: &Question) -> bool {
    question.model.is_some() && question.has_messages && question.max_tokens.is_some()
}

fn event(answer: &mut Answer) -> Event {
    match answer.kind.as_deref().unwrap_or_default() {
        "ping" => return Event::Ping,
        "message" => answer.confirmed = true,
        "message_start" => {
            answer.confirmed = true;
            answer.begin_choice();
        }
        "message_stop" => answer.terminated = true,
        "error" => answer.error.seen = true,
        _ => {}
    }
    Event::Chunk
}

/// Cached tokens are counted beside the input, and belong to it.
fn usage(counts: &Counts) -> Usage {
    let beside = |count: Option<u64>| count.unwrap_or_default();
    let input = counts.input.and_then(|input| {
        input.checked_add(beside(counts.cache_read))?.checked_add(beside(counts.cache_write))
    });
    Usage {
        input,
        output: counts.output,
        cache_read: counts.cache_read,
        cache_write: counts.cache_write,
        cache_write_1h: counts.cache_write_1h,
        reasoning: counts.reasoning,
    }
}

fn finish(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "end_turn" | "stop_sequence" => "stop",
        "max_tokens" => "length",
        "tool_use" => "tool_call",
        _ => return None,
    })
}
