//! Why a command did not do what was asked, and the exit code that says so.

use std::fmt::Display;

/// A failed command.
///
/// Exit codes: 1 failed, 64 usage or configuration, 77 missing privilege or kernel feature.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The flags, the environment, the configuration file or the place named in them is wrong.
    Usage(String),
    /// The machine or the user lacks what the command needs.
    Missing(String),
    /// Everything else.
    Failed(anyhow::Error),
    /// Said already; only the code is left.
    Said(u8),
}

impl Failure {
    /// A mistake in flags, environment or configuration.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::Usage(message.to_string())
    }

    /// Clap's own answer: help and version are no failure, all else is bad usage.
    pub(crate) fn from_clap(error: &clap::Error) -> Self {
        // Standard output may be gone; there is nobody to tell then.
        drop(error.print());
        Self::Said(if error.use_stderr() { 64 } else { 0 })
    }

    /// What to print on standard error.
    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Self::Usage(message) | Self::Missing(message) => Some(message.clone()),
            Self::Failed(error) => Some(format!("{error:#}")),
            Self::Said(_) => None,
        }
    }

    /// Exit code of the process.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Missing(_) => 77,
            Self::Failed(_) => 1,
            Self::Said(code) => *code,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<std::io::Error> for Failure {
    /// A reader that went away (`sonde calls | head`) ends the command quietly.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::Said(0)
        } else {
            Self::Failed(error.into())
        }
    }
}
