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
use contract::settings::LogLevel;
use failure::Failure;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// The way to change how much is logged.
static LOG: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

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
    // The controller starts it as somebody else, who may not read its configuration.
    if let [_, only] = arguments
        && only == injector::AS_USER
    {
        return injector::act_as_user().map_err(Failure::from);
    }
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
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!(
            "cannot read the log filter `{filter}`: {error}; use a level such as `info` or `debug`"
        ))
    })?;
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let (filter, handle) = reload::Layer::new(filter);
    let out = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let all = tracing_subscriber::registry().with(filter);
    if is_service && !is_terminal {
        all.with(out.json()).init();
    } else if is_service {
        all.with(out.with_target(false)).init();
    } else {
        all.with(out.with_target(false).without_time().with_ansi(is_terminal)).init();
    }
    // The log is started once.
    drop(LOG.set(handle));
    Ok(())
}

/// Changes how much is logged; what the fleet's configuration says holds until the program ends.
fn set_log(level: LogLevel) {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    if let Some(handle) = LOG.get()
        && let Err(error) = handle.reload(EnvFilter::new(level))
    {
        tracing::warn!(%error, "cannot change how much is logged; it stays as it was");
    }
}
