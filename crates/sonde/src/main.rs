//! The `sonde` command: flags in, exit code out.
#![forbid(unsafe_code)]

mod api;
mod cli;
mod command;
mod config;
mod failure;
mod place;
mod signals;
mod table;

use clap::FromArgMatches as _;
use failure::Failure;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let outcome = start(&arguments);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                // Nothing is left to tell it to when standard error is gone.
                drop(writeln!(std::io::stderr(), "sonde: {message}"));
            }
            ExitCode::from(failure.code())
        }
    }
}

fn start(arguments: &[std::ffi::OsString]) -> Result<(), Failure> {
    let command = config::layered(arguments)?;
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return Err(Failure::from_clap(&error)),
    };
    let cli = cli::Cli::from_arg_matches(&matches).map_err(|error| Failure::from_clap(&error))?;
    start_log(&cli.log, cli.command.stays())?;
    // One TLS provider for the whole program; a second installation would be a bug of ours.
    drop(rustls::crypto::ring::default_provider().install_default());
    command::run(cli.command)
}

/// Sends logs to standard error: JSON where a service's log is collected, text for people.
fn start_log(filter: &str, is_service: bool) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!(
            "cannot read the log filter `{filter}`: {error}; use a level such as `info` or `debug`"
        ))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    if is_service && !is_terminal {
        builder.json().init();
    } else if is_service {
        builder.with_target(false).init();
    } else {
        builder.with_target(false).without_time().with_ansi(is_terminal).init();
    }
    Ok(())
}
