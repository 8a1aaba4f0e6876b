//! Questions about calls, as values.

use contract::row::Time;
use std::fmt;
use std::str::FromStr;

/// Which calls to list. Calls are listed newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallsQuery {
    /// Most rows to answer; at least one is answered for.
    pub limit: usize,
    /// Only calls before this one, as [`contract::row::Calls::next`] said.
    pub before: Option<Cursor>,
    /// Only calls of this service: its shown name or its key.
    pub service: Option<String>,
    /// Only calls of this model: as asked for or as answered.
    pub model: Option<String>,
    /// Only calls of this provider.
    pub provider: Option<String>,
    /// Only calls that ended so.
    pub outcome: Option<Outcome>,
    /// Only calls that started at this moment or later.
    pub from: Option<Time>,
    /// Only calls that started before this moment.
    pub to: Option<Time>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It went well.
    Ok,
    /// It failed.
    Error,
    /// The client ended it.
    Cancelled,
}

/// A span of time, and whose calls to count in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Start, included.
    pub from: Time,
    /// End, excluded.
    pub to: Time,
    /// Only calls of this service: its shown name or its key.
    pub service: Option<String>,
}

/// Place in the list of calls. Its text is opaque to everyone else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Day file, days since 1970.
    pub(crate) day: u64,
    /// Row in the file.
    pub(crate) at: i64,
}

/// A text that is not a [`Cursor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadCursor;

impl Outcome {
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
        Self { from, to: self.from, service: self.service.clone() }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:x}-{:x}", self.day, self.at)
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let read = || {
            let (day, at) = text.split_once('-')?;
            let hex = |s: &str| {
                let plain = !s.is_empty() && s.len() <= 16 && !s.starts_with('+');
                plain.then(|| u64::from_str_radix(s, 16).ok()).flatten()
            };
            Some(Self { day: hex(day)?, at: i64::try_from(hex(at)?).ok()? })
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
        fn a_cursor_survives_its_text(day in any::<u64>(), at in 0..=i64::MAX) {
            let cursor = Cursor { day, at };
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
            let span = Span { from: Time(from), to: Time(to), service: None };
            let length = to.saturating_sub(from).div_ceil(1_000_000_000);
            prop_assert!(length.div_ceil(span.step_seconds()) <= 180);
        }
    }
}
