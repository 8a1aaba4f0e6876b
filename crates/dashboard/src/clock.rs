//! The one place that reads the clock.

use contract::row::Time;
use std::time::{SystemTime, UNIX_EPOCH};

/// Reads the time; tests hand in their own.
pub(crate) type Clock = fn() -> Time;

/// The system's clock. A clock before 1970 reads as 1970.
#[expect(clippy::disallowed_methods, reason = "the edge at which time enters")]
pub(crate) fn system() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
