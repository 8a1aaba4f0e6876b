//! Exchanges to model calls.
#![forbid(unsafe_code)]

mod call;

pub use call::{Cost, Incomplete, ModelCall, RecognisedBy, Usage};
