//! Added time per TLS call, for an unwatched and for a watched process.

fn main() {}
