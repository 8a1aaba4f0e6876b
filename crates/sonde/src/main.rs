//! The `sonde` command.
#![forbid(unsafe_code)]

fn main() {}
