//! OpenAI chat completions, and the many APIs that speak it.
//!
//! <https://platform.openai.com/docs/api-reference/chat>

use crate::Usage;
use crate::answer::{Answer, Counts, Question};
use crate::family::{Event, Family};
use crate::field::Field;
use crate::json::Node;

pub(super) const FAMILY: Family = Family {
    routes: &[
        ("/chat/completions", "chat"),
        ("/agents/completions", "chat"),
        ("/completions", "text_completion"),
    ],
    operation: "chat",
    provider: "openai",
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
        Node::value("prompt", Field::Prompt),
        Node::value("stream", Field::Stream),
        Node::value("max_tokens", Field::MaxTokens),
        Node::value("max_completion_tokens", Field::MaxTokens),
        Node::value("temperature", Field::Temperature),
        Node::value("top_p", Field::TopP),
        Node::value("n", Field::ChoiceCount),
    ],
);

static RESPONSE: Node = Node::inside(
    "",
    &[
        Node::value("id", Field::Id),
        Node::value("object", Field::Kind),
        Node::value("model", Field::Model),
        Node::value("service_tier", Field::Tier),
        Node::both("choices", Field::Choices, &[Node::both("[]", Field::Choice, CHOICE)]),
        Node::inside("usage", USAGE),
        // Groq reports usage and errors of a stream here.
        Node::inside(
            "x_groq",
            &[Node::inside("usage", USAGE), Node::both("error", Field::Error, ERROR)],
        ),
        Node::both("error", Field::Error, ERROR),
    ],
);

const CHOICE: &[Node] = &[
    Node::value("index", Field::ChoiceIndex),
    Node::value("finish_reason", Field::FinishReason),
    Node::inside("message", MESSAGE),
    Node::inside("delta", MESSAGE),
    // Completions have no message.
    Node::value("text", Field::Token),
    // Moonshot reports the usage of a stream here.
    Node::inside("usage", USAGE),
];

const MESSAGE: &[Node] = &[
    Node::value("content", Field::Token),
    Node::value("reasoning_content", Field::Token),
    Node::value("reasoning", Field::Token),
    Node::value("refusal", Field::Token),
    Node::value("audio", Field::Token),
    Node::inside("tool_calls", &[Node::both("[]", Field::Tool, TOOL)]),
    Node::both("function_call", Field::Tool, &[Node::value("name", Field::ToolName)]),
];

const TOOL: &[Node] = &[
    Node::value("index", Field::ToolIndex),
    Node::value("id", Field::ToolId),
    Node::inside("function", &[Node::value("name", Field::ToolName)]),
    Node::inside("custom", &[Node::value("name", Field::ToolName)]),
];

const USAGE: &[Node] = &[
    Node::value("prompt_tokens", Field::Input),
    Node::value("completion_tokens", Field::Output),
    Node::value("total_tokens", Field::Total),
    // DeepSeek's own name, beside the details.
    Node::value("prompt_cache_hit_tokens", Field::CacheRead),
    Node::inside(
        "prompt_tokens_details",
        &[
            Node::value("cached_tokens", Field::CacheRead),
            Node::value("audio_tokens", Field::Charged),
            Node::value("cache_write_tokens", Field::CacheWrite),
        ],
    ),
    Node::inside(
        "completion_tokens_details",
        &[
            Node::value("reasoning_tokens", Field::Reasoning),
            Node::value("audio_tokens", Field::Charged),
        ],
    ),
];

pub(super) const ERROR: &[Node] =
    &[Node::value("code", Field::ErrorCode), Node::value("type", Field::ErrorType)];

fn asks(question: &Question) -> bool {
    question.model.is_some() && (question.has_messages || question.has_prompt)
}

fn event(answer: &mut Answer) -> Event {
    let kind = answer.kind.as_deref().unwrap_or_default();
    answer.confirmed |=
        matches!(kind, "chat.completion" | "chat.completion.chunk" | "text_completion");
    Event::Chunk
}

/// Cached tokens are part of the prompt, reasoning is part of the completion.
fn usage(counts: &Counts) -> Usage {
    let mut output = counts.output;
    // xAI counts reasoning beside the completion; the total tells the two apart.
    if let (Some(input), Some(visible), Some(reasoning), Some(total)) =
        (counts.input, counts.output, counts.reasoning, counts.total)
        && input.checked_add(visible).and_then(|sum| sum.checked_add(reasoning)) == Some(total)
    {
        output = visible.checked_add(reasoning);
    }
    Usage {
        input: counts.input,
        output,
        cache_read: counts.cache_read,
        cache_write: counts.cache_write,
        cache_write_1h: None,
        reasoning: counts.reasoning,
    }
}

fn finish(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "stop" | "eos" => "stop",
        "length" | "model_length" | "max_output_tokens" => "length",
        "content_filter" => "content_filter",
        "tool_calls" | "function_call" => "tool_call",
        "error" => "error",
        _ => return None,
    })
}
