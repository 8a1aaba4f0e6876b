//! Brings the SDK into programs, and takes it out again.
//!
//! [`environment`] says what a program is started with, [`report`] reads what its agent says of
//! itself. What the agent is stands in `agents/python/README.md`.
#![forbid(unsafe_code)]

pub mod environment;
pub mod report;
