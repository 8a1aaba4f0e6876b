//! Tidy checks: what this repository promises about itself, as tests (`cargo test -p xtask`).
#![forbid(unsafe_code)]

#[cfg(test)]
mod tidy;

fn main() -> std::process::ExitCode {
    use std::io::Write as _;
    // Nobody is left to tell when standard error is gone.
    drop(writeln!(std::io::stderr(), "xtask holds the tidy checks: cargo test -p xtask"));
    std::process::ExitCode::from(64)
}
