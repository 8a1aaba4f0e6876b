//! Questions about calls, as values.

use crate::filter::Filter;
use crate::units::{span_id, trace_id};
use contract::row::{Call, Time};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Which calls to list. Calls are listed newest first, by start, then trace id, then span id.
#[derive(Debug, Clone, Default)]
pub struct CallsQuery {
    /// Most rows to answer; at least one is answered for.
    pub limit: usize,
    /// Only calls before this one, as [`contract::row::Calls::next`] said.
    pub before: Option<Cursor>,
    /// Only calls that are like this.
    pub filter: Filter,
    /// Only calls that started at this moment or later.
    pub from: Option<Time>,
    /// Only calls that started before this moment.
    pub to: Option<Time>,
    /// How long to look for.
    pub budget: Budget,
}

/// How long an answer may take. When it is over, the answer is what was found so far, and says
/// that it is partial. Without an end it takes what it takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget(Option<(Duration, fn() -> Duration)>);

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It went well.
    Ok,
    /// It failed.
    Error,
    /// The client ended it.
    Cancelled,
}

/// A span of time, and whose calls to count in it.
#[derive(Debug, Clone, Default)]
pub struct Span {
    /// Start, included.
    pub from: Time,
    /// End, excluded.
    pub to: Time,
    /// Only calls that are like this.
    pub filter: Filter,
    /// How long to add up for.
    pub budget: Budget,
}

/// What calls are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// Shown name of the workload.
    Service,
    /// Key of the workload.
    Workload,
    /// Who serves the model.
    Provider,
    /// Model as asked for, or else as answered.
    Model,
    /// `chat`, `embeddings`, ….
    Operation,
    /// `ok`, `error`, `cancelled`.
    Outcome,
    /// Class of the failure.
    Class,
    /// Name of the node.
    Host,
    /// Where the program is deployed.
    Environment,
    /// Whom the program called for.
    User,
    /// Agent that called.
    Agent,
    /// Conversation.
    Conversation,
    /// First reason why the answer ended.
    Finish,
}

/// Place in the list of calls: that of a call, or just before a moment. Its text is opaque to
/// everyone else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Start of the call.
    pub(crate) time: Time,
    /// Its trace and span; zeros stand before all calls of the moment.
    pub(crate) trace: u128,
    pub(crate) span: u64,
}

/// A text that is not a [`Cursor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadCursor;

impl Budget {
    /// Until `clock` (any that only goes forward) shows `end`.
    pub fn until(end: Duration, clock: fn() -> Duration) -> Self {
        Self(Some((end, clock)))
    }

    /// What is left; `None` without an end.
    pub(crate) fn left(self) -> Option<Duration> {
        self.0.map(|(end, clock)| end.saturating_sub(clock()))
    }

    pub(crate) fn is_over(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }
}

impl By {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Service,
        Self::Workload,
        Self::Provider,
        Self::Model,
        Self::Operation,
        Self::Outcome,
        Self::Class,
        Self::Host,
        Self::Environment,
        Self::User,
        Self::Agent,
        Self::Conversation,
        Self::Finish,
    ];

    /// Those by which numbers of all calls are added up as calls come in, by each of them alone.
    pub(crate) const ALONE: [Self; 6] =
        [Self::Service, Self::Model, Self::Host, Self::Environment, Self::User, Self::Agent];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Workload => "workload",
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Operation => "operation",
            Self::Outcome => "status",
            Self::Class => "class",
            Self::Host => "host",
            Self::Environment => "environment",
            Self::User => "user",
            Self::Agent => "agent",
            Self::Conversation => "conversation",
            Self::Finish => "finish",
        }
    }

    /// What a word stands for.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.word() == word)
    }

    /// Whether sums that are made as calls come in are told apart by it.
    pub(crate) fn is_summed(self) -> bool {
        matches!(
            self,
            Self::Service
                | Self::Workload
                | Self::Provider
                | Self::Model
                | Self::Operation
                | Self::Outcome
        )
    }
}

impl Outcome {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }

    /// What a word stands for.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Ok, Self::Error, Self::Cancelled].into_iter().find(|outcome| outcome.word() == word)
    }

    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::Cancelled => 2,
        }
    }

    pub(crate) fn of_number(number: i64) -> Self {
        match number {
            0 => Self::Ok,
            2 => Self::Cancelled,
            _ => Self::Error,
        }
    }
}

impl Span {
    const STEPS: [u64; 7] = [10, 60, 300, 900, 3600, 6 * 3600, 86_400];
    const MOST_BUCKETS: u64 = 180;

    /// Width of a bucket in seconds: the finest of a few round ones that gives at most 180
    /// buckets, and beyond half a year a whole number of days.
    pub fn step_seconds(&self) -> u64 {
        let length = self.to.0.saturating_sub(self.from.0).div_ceil(1_000_000_000);
        let fits = |step: &u64| length.div_ceil(*step) <= Self::MOST_BUCKETS;
        Self::STEPS.into_iter().find(fits).unwrap_or_else(|| {
            let days = length.div_ceil(86_400 * Self::MOST_BUCKETS);
            days.max(1) * 86_400
        })
    }

    /// The span of equal length just before this one.
    pub(crate) fn previous(&self) -> Self {
        let length = self.to.0.saturating_sub(self.from.0);
        let from = Time(self.from.0.saturating_sub(length));
        Self { from, to: self.from, filter: self.filter.clone(), budget: self.budget }
    }
}

impl Cursor {
    /// The place of a call.
    pub(crate) fn of(call: &Call) -> Self {
        let (trace, span) = (trace_id(&call.trace_id), span_id(&call.span_id));
        Self { time: call.time, trace: trace.unwrap_or(0), span: span.unwrap_or(0) }
    }

    /// Just before a moment: of the calls that started earlier.
    pub(crate) fn before(time: Time) -> Self {
        Self { time, trace: 0, span: 0 }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:x}-{:x}-{:x}", self.time.0, self.trace, self.span)
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let read = || {
            let mut parts = text.split('-');
            let mut hex = |len| {
                let part = parts.next()?;
                let plain = part.len() <= len && part.bytes().all(|b| b.is_ascii_hexdigit());
                plain.then(|| u128::from_str_radix(part, 16).ok()).flatten()
            };
            let (time, trace, span) = (hex(16)?, hex(32)?, hex(16)?);
            let (time, span) = (u64::try_from(time).ok()?, u64::try_from(span).ok()?);
            parts.next().is_none().then_some(Self { time: Time(time), trace, span })
        };
        read().ok_or(BadCursor)
    }
}

impl fmt::Display for BadCursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("not a place in the list; hand back `next` of the page before as it was")
    }
}

impl std::error::Error for BadCursor {}

#[cfg(test)]
mod tests {
    use super::{Cursor, Span};
    use contract::row::Time;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(
            time in any::<u64>(), trace in any::<u128>(), span in any::<u64>(),
        ) {
            let cursor = Cursor { time: Time(time), trace, span };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn no_text_makes_a_cursor_panic(text in any::<String>()) {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }

        #[test]
        fn a_span_has_at_most_180_steps(from in any::<u64>(), to in any::<u64>()) {
            let span = Span { from: Time(from), to: Time(to), ..Span::default() };
            let length = to.saturating_sub(from).div_ceil(1_000_000_000);
            prop_assert!(length.div_ceil(span.step_seconds()) <= 180);
        }
    }
}
