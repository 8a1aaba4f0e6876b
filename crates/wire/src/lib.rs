//! Captured bytes to HTTP exchanges.
//!
//! Start at [`Connection`]: it takes the chunks of one connection, in the order
//! of each direction, and hands on the heads and body pieces of its exchanges
//! as they pass. It keeps no body, does no I/O, reads no clock and never fails.
//! [`sse`] splits an event stream, [`transcript`] reads and writes recordings.
//!
//! This crate knows nothing about providers of models; `genai` does.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::string_slice)]

mod coding;
mod connection;
mod head;
mod reader;
pub mod sse;
#[cfg(test)]
mod tests;
pub mod transcript;

pub use connection::{Connection, Ending, Event, Part, Protocol, Side, Want};
pub use head::{Headers, RequestHead, ResponseHead};

/// A moment, in nanoseconds on the kernel's monotonic clock, as the probes stamp it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub u64);

/// Which way bytes went, seen from the program that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Written by the program.
    Sent,
    /// Read by the program.
    Received,
}

/// Bytes seen in one direction, or a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Bytes, in order.
    Bytes(&'a [u8]),
    /// This many bytes passed and were not seen.
    Gap(u64),
}
