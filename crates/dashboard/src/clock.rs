//! The one place that reads the clock.

use contract::row::Time;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads the time; tests hand in their own.
pub(crate) type Clock = fn() -> Time;

/// The system's clock. A clock before 1970 reads as 1970.
#[expect(clippy::disallowed_methods, reason = "the edge at which time enters")]
pub(crate) fn system() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// How long a question about calls may take before it is answered with what was found so far.
/// Pages ask for a week in less than a tenth of it; a person waits no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The budget of a question that is asked now.
pub(crate) fn budget() -> storage::Budget {
    storage::Budget::until(running().saturating_add(PATIENCE), running)
}

/// Time since the first question: a clock that only goes forward.
#[expect(clippy::disallowed_methods, reason = "the edge at which time enters")]
fn running() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
