//! Keeps what was seen and what is wanted, and answers questions about it.
//!
//! [`Store`] is the whole interface. It keeps control state (nodes, workloads, wishes, who may
//! come in) in `control.db`, and model calls in one file a day, `calls-2026-11-23.db`, so that
//! forgetting a day is deleting a file. A call is in the file of the day on which it **started**
//! (UTC); numbers over time count it when it **ended**.
//!
//! With [`CallsIn::ClickHouse`] all of that is in a ClickHouse database, which any number of
//! dashboards may share; a data directory then holds a lock and little else.
//!
//! # Promises
//!
//! The conformance suite (`conformance.rs`) holds every engine to these:
//! - What [`Store::submit`] reported as kept is on disk, whatever happens next.
//! - A call is known by its trace and span id; sent again, it is kept and counted once, also when
//!   its start is then up to a day away.
//! - On the embedded engine a call that the kernel and an SDK saw is one row and counted once, whichever
//!   comes first, also after a restart (`same.rs` says which sightings are of one call).
//! - A disk is never filled: old days go first, then calls are refused. The sums of hours of days
//!   that went stay for 13 months.
//! - Money is added exactly. Percentiles are within 1 % and never averaged.
//! - Wishes have no expiry; their history is only ever added to.
//!
//! No HTTP here, and no clock: `now` is an argument. Methods block; call them from a thread that
//! may.
#![forbid(unsafe_code)]

mod fleet;
mod store;

mod clickhouse;
mod costs;
mod cover;
mod engine;
mod error;
mod filter;
mod further;
mod guarded;
mod hashing;
mod outcome;
mod overview;
mod query;
mod rest;
mod retention;
mod same;
mod secret;
mod sketch;
mod sqlite;
mod tally;
mod units;

#[cfg(test)]
mod conformance;

pub use clickhouse::ClickHouse;
pub use error::Error;
pub use filter::{BadFilter, Filter, MAX_FILTER_LEN};
pub use fleet::{Asked, Bearer, Denied, NewStep, NewToken, NewWish, Taken};
pub use overview::{SeriesQuery, Weight};
pub use query::{BadCursor, Budget, By, CallsQuery, Cursor, Outcome, Span};
pub use retention::{Disk, Limits, ReadDisk, Retained, Standing};
pub use sqlite::backup::Copied;
pub use store::{CallsIn, Kept, Place, Store, Telemetry, Token, TokenKind, Wanted};
