//! The language in which people filter calls, as values. Pure; every engine compiles it for
//! itself, and [`Filter::matches`] says what it means.
//!
//! ```text
//! service:checkout model:gpt-4o*,o3 status:error duration:>5s cost:>0.10 -tool:search "free text"
//! ```
//!
//! A filter is words that all have to hold. A word is `field:value`, or a text that is looked for
//! in what the row shows. `-` or `!` before a word negates it: `-model:x` holds for a call without
//! a model, too. Commas are *or*; `"…"` keeps spaces and commas, with `\"` and `\\` in it; `*` in
//! a text stands for anything. Texts are compared without regard to case (ASCII). Numbers take
//! `>5`, `>=5`, `<5`, `<=5`, `5` and `5..9`; times have a unit (`ns`, `us`, `ms`, `s`, `m`, `h`;
//! seconds without), counts may end in `k` or `m`. A number that is not known matches no
//! comparison.

mod matching;
mod parse;

pub(crate) use matching::{contains_ignoring_case, text_of};

use crate::query::Outcome;
use std::fmt;

/// Longest text of a filter, in bytes: more than anyone types, and it bounds every engine's work.
pub const MAX_FILTER_LEN: usize = 4096;
/// Most words of a filter, and most values of a word.
const MAX_WORDS: usize = 64;

/// What calls have to be like. Without terms, every call matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    pub(crate) terms: Vec<Term>,
}

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    /// True when calls must not be like the test.
    pub(crate) negated: bool,
    pub(crate) test: Test,
}

/// What is asked of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Test {
    /// One of the field's values is like one of the patterns.
    Text { field: TextField, any: Vec<Pattern> },
    /// The field's number is known and in one of the ranges.
    Number { field: NumberField, any: Vec<Range> },
    /// How it ended.
    Outcome(Vec<Outcome>),
    /// Whether a stream was asked for.
    Stream(bool),
    /// A text, in lower case, is in one of [`FREE`], without regard to case.
    Free(String),
}

/// Fields that are texts. One with several columns matches when any of them does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TextField {
    /// Shown name or key of the workload.
    Service,
    /// Model as asked for or as answered.
    Model,
    Provider,
    Operation,
    /// Class of the failure, see [`crate::outcome::CLASSES`].
    Class,
    ErrorType,
    /// Any of the reasons.
    Finish,
    /// Any of the tools.
    Tool,
    Conversation,
    Trace,
    Response,
    Host,
    Platform,
    Server,
    Incomplete,
    /// Further attributes of the resource: any of these names.
    More(Vec<String>),
}

/// Fields that are numbers, in the units in which they are kept: nanoseconds, 10^-12 USD, counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberField {
    Duration,
    FirstChunk,
    FirstToken,
    Cost,
    InputTokens,
    OutputTokens,
    /// Input and output together.
    Tokens,
    CacheRead,
    CacheWrite,
    Reasoning,
    HttpStatus,
    RetryAfter,
    Pid,
}

/// A text with `*` for anything, in lower case (ASCII): the pieces between the stars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// At least one; a text without a star is one piece.
    pub(crate) pieces: Vec<String>,
}

/// Numbers from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: u128,
    pub(crate) to: u128,
}

/// Fields in which free text is looked for.
pub(crate) const FREE: [TextField; 11] = [
    TextField::Service,
    TextField::Model,
    TextField::Provider,
    TextField::Operation,
    TextField::ErrorType,
    TextField::Finish,
    TextField::Tool,
    TextField::Conversation,
    TextField::Trace,
    TextField::Response,
    TextField::Host,
];

/// Attributes of the resource that say for whom a program calls, which agent it is, and where it
/// is deployed; the first that there is counts.
pub(crate) const USER: [&str; 3] = ["user.id", "enduser.id", "user.name"];
pub(crate) const AGENT: [&str; 2] = ["gen_ai.agent.name", "gen_ai.agent.id"];
pub(crate) const ENVIRONMENT: [&str; 1] = [contract::attribute::DEPLOYMENT_ENVIRONMENT_NAME];

/// Why a text is no filter, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFilter {
    /// Character of the text, from 0, at which the word begins that cannot be read.
    pub position: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Filter {
    /// True when every call matches.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Both have to hold.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.terms.extend(other.terms);
        self
    }

    /// Only calls of one service: its shown name or its key.
    #[must_use]
    pub fn service(name: &str) -> Self {
        Self::text(TextField::Service, name)
    }

    /// Only calls of one model: as asked for or as answered.
    #[must_use]
    pub fn model(name: &str) -> Self {
        Self::text(TextField::Model, name)
    }

    /// Only calls of one provider.
    #[must_use]
    pub fn provider(name: &str) -> Self {
        Self::text(TextField::Provider, name)
    }

    /// Only calls that ended so.
    #[must_use]
    pub fn outcome(outcome: Outcome) -> Self {
        Self { terms: vec![Term { negated: false, test: Test::Outcome(vec![outcome]) }] }
    }

    /// Whether sums that are made as calls come in are told apart by all that is asked. They know
    /// the model as asked for, or else as answered, so that a question for either reads calls.
    pub(crate) fn is_summed(&self) -> bool {
        self.terms.iter().all(|term| match &term.test {
            Test::Text { field, .. } => {
                matches!(field, TextField::Service | TextField::Provider | TextField::Operation)
            }
            Test::Outcome(_) => true,
            Test::Number { .. } | Test::Stream(_) | Test::Free(_) => false,
        })
    }

    fn text(field: TextField, value: &str) -> Self {
        let any = vec![Pattern { pieces: vec![value.to_ascii_lowercase()] }];
        Self { terms: vec![Term { negated: false, test: Test::Text { field, any } }] }
    }
}

impl fmt::Display for BadFilter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot read the filter at character {}; {}", self.position + 1, self.message)
    }
}

impl std::error::Error for BadFilter {}

#[cfg(test)]
mod tests;
