//! Captured bytes to HTTP exchanges.
#![forbid(unsafe_code)]

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
