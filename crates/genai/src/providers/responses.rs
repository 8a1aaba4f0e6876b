//! OpenAI responses.
//!
//! <https://platform.openai.com/docs/api-reference/responses>

use crate::Usage;
use crate::answer::{Answer, Counts, Question};
use crate::family::{Event, Family};
use crate::field::Field;
use crate::json::Node;

pub(super) const FAMILY: Family = Family {
    routes: &[("/responses", "chat")],
    operation: "chat",
    provider: "openai",
    request: &REQUEST,
    response: &ANSWER,
    asks,
    event,
    usage,
    finish,
};

static REQUEST: Node = Node::inside(
    "",
    &[
        Node::value("model", Field::Model),
        Node::value("input", Field::Prompt),
        Node::value("prompt", Field::Prompt),
        Node::value("stream", Field::Stream),
        Node::value("max_output_tokens", Field::MaxTokens),
        Node::value("temperature", Field::Temperature),
        Node::value("top_p", Field::TopP),
    ],
);

/// A plain answer and an event of a stream share one tree: an event has `type`, and the answer
/// so far as `response`.
static ANSWER: Node = Node::inside(
    "",
    &[
        Node::value("type", Field::Kind),
        Node::value("object", Field::Kind),
        Node::value("id", Field::Id),
        Node::value("model", Field::Model),
        Node::value("status", Field::Status),
        Node::value("service_tier", Field::Tier),
        Node::inside("incomplete_details", DETAILS),
        Node::both("error", Field::Error, ERROR),
        Node::inside("usage", USAGE),
        Node::inside("output", OUTPUT),
        Node::inside("response", RESPONSE),
        // Of an event that carries a piece of text, reasoning or arguments.
        Node::value("delta", Field::Token),
        // An error event has its code beside its type.
        Node::value("code", Field::ErrorCode),
    ],
);

const RESPONSE: &[Node] = &[
    Node::value("id", Field::Id),
    Node::value("model", Field::Model),
    Node::value("status", Field::Status),
    Node::value("service_tier", Field::Tier),
    Node::inside("incomplete_details", DETAILS),
    Node::both("error", Field::Error, ERROR),
    Node::inside("usage", USAGE),
    Node::inside("output", OUTPUT),
];

const DETAILS: &[Node] = &[Node::value("reason", Field::FinishReason)];

const ERROR: &[Node] =
    &[Node::value("code", Field::ErrorCode), Node::value("type", Field::ErrorType)];

const OUTPUT: &[Node] = &[Node::both(
    "[]",
    Field::Block,
    &[Node::value("type", Field::BlockKind), Node::value("name", Field::BlockName)],
)];

const USAGE: &[Node] = &[
    Node::value("input_tokens", Field::Input),
    Node::value("output_tokens", Field::Output),
    Node::value("total_tokens", Field::Total),
    Node::inside(
        "input_tokens_details",
        &[
            Node::value("cached_tokens", Field::CacheRead),
            Node::value("cache_write_tokens", Field::CacheWrite),
        ],
    ),
    Node::inside("output_tokens_details", &[Node::value("reasoning_tokens", Field::Reasoning)]),
];

fn asks(question: &Question) -> bool {
    question.model.is_some() && question.has_prompt
}

fn event(answer: &mut Answer) -> Event {
    let kind = answer.kind.clone().unwrap_or_default();
    let kind = kind.as_str();
    answer.confirmed |= matches!(kind, "response" | "response.created" | "response.in_progress");
    let ends = matches!(
        kind,
        "response" | "response.completed" | "response.incomplete" | "response.failed"
    );
    match kind {
        "error" => answer.error.seen = true,
        "response.created" => answer.begin_choice(),
        _ => {}
    }
    if ends {
        answer.terminated = kind != "response";
        match answer.status.as_deref() {
            Some("completed") if !answer.tools.is_empty() => answer.finish_first("tool_calls"),
            Some("completed") => answer.finish_first("completed"),
            Some("failed" | "cancelled") => answer.error.seen = true,
            _ => {}
        }
    }
    Event::Chunk
}

/// Cached tokens are part of the input, reasoning is part of the output.
fn usage(counts: &Counts) -> Usage {
    Usage {
        input: counts.input,
        output: counts.output,
        cache_read: counts.cache_read,
        cache_write: counts.cache_write,
        cache_write_1h: None,
        reasoning: counts.reasoning,
    }
}

fn finish(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "completed" => "stop",
        "max_output_tokens" => "length",
        "content_filter" => "content_filter",
        "tool_calls" => "tool_call",
        _ => return None,
    })
}
