//! OpenAI embeddings, and the many APIs that speak it.
//!
//! <https://platform.openai.com/docs/api-reference/embeddings>

use crate::Usage;
use crate::answer::{Answer, Counts, Question};
use crate::family::{Event, Family};
use crate::field::Field;
use crate::json::Node;

pub(super) const FAMILY: Family = Family {
    routes: &[("/embeddings", "embeddings")],
    operation: "embeddings",
    provider: "openai",
    request: &REQUEST,
    response: &RESPONSE,
    asks,
    event,
    usage,
    finish,
};

static REQUEST: Node =
    Node::inside("", &[Node::value("model", Field::Model), Node::value("input", Field::Prompt)]);

static RESPONSE: Node = Node::inside(
    "",
    &[
        Node::value("object", Field::Kind),
        Node::value("model", Field::Model),
        Node::inside("usage", &[Node::value("prompt_tokens", Field::Input)]),
        Node::both("error", Field::Error, super::openai::ERROR),
    ],
);

fn asks(question: &Question) -> bool {
    question.model.is_some() && question.has_prompt
}

fn event(_answer: &mut Answer) -> Event {
    Event::Chunk
}

/// An embedding has no output tokens.
fn usage(counts: &Counts) -> Usage {
    Usage { input: counts.input, ..Usage::default() }
}

fn finish(_reason: &str) -> Option<&'static str> {
    None
}
