//! A family: one way to speak to models, which many providers share.

use crate::Usage;
use crate::answer::{Answer, Counts, Question};
use crate::json::Node;

/// How a family's exchanges are recognised and read. All of it is data and pure functions.
#[derive(Debug)]
pub(crate) struct Family {
    /// Ends of paths, and the operation that a POST to them is.
    pub(crate) routes: &'static [(&'static str, &'static str)],
    /// Operation of an answer whose request was not seen.
    pub(crate) operation: &'static str,
    /// Provider where only the form is known, not the host.
    pub(crate) provider: &'static str,
    /// Where values stand in a request.
    pub(crate) request: &'static Node,
    /// Where values stand in an answer, and in an event of a stream.
    pub(crate) response: &'static Node,
    /// Whether a request has the keys that this family cannot do without.
    pub(crate) asks: fn(&Question) -> bool,
    /// Looks at a complete answer or event: what it says about the whole.
    pub(crate) event: fn(&mut Answer) -> Event,
    /// The provider's counts in the words of the semantic conventions.
    pub(crate) usage: fn(&Counts) -> Usage,
    /// A finish reason in the words of the semantic conventions, if they have one for it.
    pub(crate) finish: fn(&str) -> Option<&'static str>,
}

/// What an event of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Part of the answer.
    Chunk,
    /// Only there to keep the connection alive.
    Ping,
}
