//! Tidy checks and developer tasks.
#![forbid(unsafe_code)]

fn main() {}
