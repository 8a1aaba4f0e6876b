//! HTTP exchanges to model calls.
//!
//! Start at [`Connection`]: it takes the chunks of one connection and returns
//! the [`ModelCall`]s on it as they end. Bodies are scanned as they pass, never
//! collected. [`Providers`] is the list that discovery goes by.
//!
//! This crate does no I/O, reads no clock, keeps no text that a person typed
//! and never fails: what could not be read is absent from the call.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::string_slice)]

mod answer;
mod call;
mod connection;
mod exchange;
mod family;
mod field;
mod json;
mod pattern;
mod prices;
mod providers;
#[cfg(test)]
mod tests;

pub use call::{Cost, Incomplete, ModelCall, RecognisedBy, Usage};
pub use connection::{Connection, Hints, Verdict};
pub use pattern::Pattern;
pub use prices::{PRICE_TABLE, cost};
pub use providers::{Provider, Providers, families, names as provider_names};
