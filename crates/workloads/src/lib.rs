//! Placeholder until the first real piece lands.
#![forbid(unsafe_code)]
