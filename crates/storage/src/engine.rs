//! [`Engine`]: what keeps model calls, behind [`Store`](crate::Store). One file, or module, an
//! engine: `sqlite.rs` is the embedded one.

use crate::error::Error;
use crate::filter::Filter;
use crate::query::{Budget, By, CallsQuery};
use crate::retention::{Limits, ReadDisk, Retained};
use crate::store::{Kept, Telemetry};
use crate::tally::Tally;
use contract::row::{Call, Calls, Run, Time};
use std::collections::BTreeSet;
use std::fmt;

/// Hears, once, what became of a submission.
pub(crate) type Done = Box<dyn FnOnce(Result<Kept, Error>) + Send>;

/// Groups that are told apart in one answer of [`Engine::sums`], which bounds its memory.
pub(crate) const MAX_GROUPS: usize = 10_000;

/// Calls of one trace that are answered, oldest first.
pub(crate) const MAX_TRACE: usize = 10_000;

/// Keeps model calls and answers questions about them.
///
/// # Contract
///
/// Methods block, take `&self`, and may be called from many threads at once. No clock: `now` and
/// the [`Budget`] are arguments. `conformance.rs` holds every engine to all of this:
///
/// - **Once, and for good.** When `done` hears [`Kept`], every call in it is on disk and seen by
///   the next question. A call is known by trace and span id (W3C, lower-case hexadecimal; anything
///   else is counted in [`Kept::refused`]). Sent again, it is counted in [`Kept::duplicates`] and
///   changes nothing, also when its start is then up to a day away, and also within one
///   submission. Calls of a day that is no longer kept are counted in [`Kept::too_old`].
/// - **What stands around calls** (agents, tools) is on disk too when `done` hears [`Kept`]. It is
///   known by trace and span id, kept once, goes with its day, and counts in nothing.
/// - **Backpressure, not loss.** When too much waits, `submit` is refused with [`Error::Busy`];
///   when the disk is full, with [`Error::Full`]. Then nothing is kept and `done` is never called.
/// - **A filter means what [`Filter::matches`] says**, whatever the engine compiles it to. Values
///   are bound, never pasted into a statement.
/// - **A number that is not known is absent, never zero.** Counts beyond 63 bits are not known
///   (`units::kept`). Times are whole nanoseconds (`units::nanos`), money whole 10^-12 USD.
/// - **Percentiles come from merged sketches** ([`crate::sketch`]), never from percentiles.
/// - **Partial is said.** When the budget is over, what was found so far is answered and marked.
pub(crate) trait Engine: fmt::Debug + Send + Sync {
    /// Queues calls and runs for writing and returns at once. `done` runs once, on the engine's thread,
    /// when they are on disk or could not be written, and does not block.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Full`] or [`Error::Closed`].
    fn submit(&self, telemetry: Telemetry, done: Done) -> Result<(), Error>;

    /// A page of calls, newest first: by start, then trace id, then span id, all descending.
    /// [`Calls::next`] is the [`Cursor`](crate::Cursor) of the last row while there are more, and
    /// of a partial page where the search stopped, so that the next page goes on from there.
    ///
    /// # Errors
    ///
    /// The database failed.
    fn list(&self, query: &CallsQuery) -> Result<Calls, Error>;

    /// The call of an id that `units::id_of` made; `None` when there is none.
    ///
    /// # Errors
    ///
    /// The database failed.
    fn one(&self, id: &str) -> Result<Option<Call>, Error>;

    /// Calls of a trace, oldest first, at most [`MAX_TRACE`]. A trace is looked for on one day and
    /// the days beside it.
    ///
    /// # Errors
    ///
    /// The database failed.
    fn trace(&self, trace_id: &str) -> Result<Vec<Call>, Error>;

    /// What stands around the calls of a trace, as [`trace`](Self::trace).
    ///
    /// # Errors
    ///
    /// The database failed.
    fn runs(&self, trace_id: &str) -> Result<Vec<Run>, Error>;

    /// Adds calls up, for some questions that belong together; the answers are in their order. A
    /// call counts when it **ended** (start plus duration). From sums where they can answer
    /// ([`SumsQuery::is_summed`]), else from the calls. Where the calls are no longer kept, sums of
    /// an hour answer, each counted where it begins.
    ///
    /// # Errors
    ///
    /// The database failed.
    fn sums(&self, queries: &[SumsQuery<'_>]) -> Result<Vec<Sums>, Error>;

    /// Forgets what is older than it may be, and the oldest day when the disk fills up.
    ///
    /// # Errors
    ///
    /// The database failed, or a file could not be removed.
    fn retain(&self, limits: &Limits, disk: &ReadDisk, now: Time) -> Result<Retained, Error>;

    /// Bytes that are kept elsewhere than in the data directory.
    ///
    /// # Errors
    ///
    /// The database failed.
    fn bytes_elsewhere(&self) -> Result<u64, Error>;

    /// The word for the engine: `sqlite`, `clickhouse`.
    fn name(&self) -> &'static str;
}

/// What a group has of each of [`SumsQuery::by`], `None` for calls without it; empty for several groups
/// that are not told apart.
pub(crate) type GroupName = Vec<Option<String>>;

/// What to add up.
#[derive(Debug, Clone)]
pub(crate) struct SumsQuery<'a> {
    /// Start, included; nanoseconds since 1970.
    pub(crate) from: u64,
    /// End, excluded.
    pub(crate) to: u64,
    /// Width of the buckets in seconds, which begin at whole multiples of it; all in one without.
    pub(crate) step_seconds: Option<u64>,
    /// What groups are told apart by.
    pub(crate) by: &'a [By],
    /// Groups that have to be told apart, where it is not all of them: others may be one.
    pub(crate) named: Option<&'a BTreeSet<GroupName>>,
    /// Only calls that are like this.
    pub(crate) filter: &'a Filter,
    /// Which distributions are wanted.
    pub(crate) distributions: Distributions,
    /// How long to add up for.
    pub(crate) budget: Budget,
}

/// Which distributions a sum has; what it has of others is not to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distributions {
    All,
    /// All, of a bucket as a whole: any sums of the bucket have them, in any shares.
    Together,
    /// Durations and times to the first chunk, for tables.
    Main,
    /// None: numbers alone.
    None,
}

/// Sums, in no order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums {
    pub(crate) rows: Vec<Sum>,
    /// True when the budget was over before all was added.
    pub(crate) partial: bool,
    /// True when there were more than [`MAX_GROUPS`] groups: those beyond are one.
    pub(crate) truncated: bool,
}

/// The sum of one group in one bucket.
#[derive(Debug, Clone)]
pub(crate) struct Sum {
    /// Start of the bucket, nanoseconds since 1970; without buckets, of the span.
    pub(crate) time: u64,
    pub(crate) group: GroupName,
    pub(crate) tally: Tally,
}

impl SumsQuery<'_> {
    /// Whether sums that are made as calls come in can answer this.
    pub(crate) fn is_summed(&self) -> bool {
        let is_told_apart = self.by.iter().all(|by| by.is_summed()) && self.filter.is_summed();
        is_told_apart || self.alone().is_some()
    }

    /// What it is that numbers of all calls are asked for by, where there are sums by it alone.
    pub(crate) fn alone(&self) -> Option<By> {
        let [by] = self.by else { return None };
        let is_alone = By::ALONE.contains(by)
            && self.filter.is_empty()
            && self.distributions == Distributions::None;
        is_alone.then_some(*by)
    }
}
