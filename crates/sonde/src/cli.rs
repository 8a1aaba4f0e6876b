//! Every flag, once.
//!
//! Each flag is also an environment variable (`SONDE_…`) and a key of the configuration file, by
//! the same name: `--data-dir`, `SONDE_DATA_DIR`, `data_dir`. `config.rs` does the layering.

mod agents;
mod controller;
mod dashboard;
mod services;
mod tokens;

pub(crate) use agents::{Agents, AgentsAction, BundlePlace, Launch};
pub(crate) use controller::{
    AgentOptions, Controller, ControllerAction, ControllerStatus, ControllerUninstall, NodeOptions,
    OwnController, RuleOptions,
};
pub(crate) use dashboard::{
    Dashboard, DataDir, ForwardWhat, Keep, Listen, OtlpPort, StoreOptions, Telemetry,
};
pub(crate) use services::{
    CaptureLevel, Services, ServicesAction, ServicesDisable, ServicesEnable, ServicesExplain,
    ServicesList, ServicesSet, TestRules,
};
pub(crate) use tokens::{Tokens, TokensAction, TokensCreate};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Shows every call that the programs on this machine make to a language model.
#[derive(Debug, Parser)]
#[command(name = "sonde", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Configuration file (TOML); without it, /etc/sonde/sonde.toml is read where it exists
    #[arg(long, global = true, env = "SONDE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What to log on standard error: error, warn, info, debug, trace, or a filter of them
    #[arg(long, global = true, env = "SONDE_LOG", value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 64 usage or configuration, 77 missing \
                          privilege or kernel feature.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the controller and the dashboard on this machine, and print the address of the page
    Up(Up),
    /// Run the controller alone: find and watch the programs of this node for a dashboard
    Controller(Controller),
    /// Run the dashboard alone: keep and show what controllers report
    Dashboard(Dashboard),
    /// List the programs that talk to a model, or change how much of one is captured
    Services(Services),
    /// List model calls, newest last
    Calls(Calls),
    /// Say what this kernel and this user allow, and what each missing piece costs
    Doctor(Doctor),
    /// Play a recording through the real pipeline into a running dashboard
    Replay(Replay),
    /// Run a Python program with an SDK in it that shows its agents and tools; nothing of it changes
    Run(Launch),
    /// Say which SDK this program brings, lay it down, and check it
    Agents(Agents),
    /// Print a new one-time link to the page
    Login(Login),
    /// Make, list and revoke the tokens of controllers, senders and scripts
    Tokens(Tokens),
    /// Say what is kept, copy it, or make a data directory of a copy
    Storage(Storage),
    /// Print the version
    Version,
    /// Print completions for a shell
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether the command runs until it is stopped.
    pub(crate) fn stays(&self) -> bool {
        match self {
            Self::Controller(controller) => controller.action.is_none(),
            other => matches!(other, Self::Up(_) | Self::Dashboard(_)),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) data: DataDir,
    #[command(flatten)]
    pub(crate) listen: Listen,
    #[command(flatten)]
    pub(crate) telemetry: Telemetry,
    #[command(flatten)]
    pub(crate) keep: Keep,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
}

/// A dashboard on another machine.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remote {
    /// Address of the dashboard, such as `https://sonde.example.com`
    #[arg(long, env = "SONDE_DASHBOARD", value_name = "URL")]
    pub(crate) dashboard: Option<String>,
    /// Token for that dashboard; better in a file or in the environment
    #[arg(long, env = "SONDE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// File that holds the token
    #[arg(long, env = "SONDE_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
}

/// Where a command finds the running Sonde: here, through its socket, or elsewhere.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Data directory of the Sonde to ask, where several run on this machine
    #[arg(long, env = "SONDE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns for people
    Table,
    /// One JSON object a line, for scripts
    Json,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Format {
    /// Form of the output
    #[arg(long, short, env = "SONDE_OUTPUT", value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Calls {
    /// Go on printing calls as they end
    #[arg(long, short, env = "SONDE_FOLLOW")]
    pub(crate) follow: bool,
    /// Only calls that are like this, such as `model:gpt-4o* status:error duration:>5s -tool:search`
    #[arg(long, env = "SONDE_FILTER", value_name = "WORDS")]
    pub(crate) filter: Option<String>,
    /// Only calls of this service (name or key)
    #[arg(long, env = "SONDE_SERVICE", value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Number of calls to print first
    #[arg(long, env = "SONDE_LIMIT", value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Recording to play
    pub(crate) file: PathBuf,
    /// Play again from the start when it ends, until stopped
    #[arg(long, env = "SONDE_LOOP")]
    pub(crate) r#loop: bool,
    /// How many times faster than it was recorded; durations stay as recorded
    #[arg(long, env = "SONDE_SPEED", value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    pub(crate) speed: f64,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct Storage {
    #[command(subcommand)]
    pub(crate) action: StorageAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StorageAction {
    /// Say how much is kept, for how long, and how full the disk is
    Status(Target),
    /// Copy the data directory of this machine, or the control state in a ClickHouse, while it is
    /// used, into a new directory
    Backup {
        /// New or empty directory for the copy; it holds secrets, as the data directory does
        to: PathBuf,
        #[command(flatten)]
        data: DataDir,
        #[command(flatten)]
        store: StoreOptions,
    },
    /// Make the data directory, which must be new or empty, of a copy, or the control state of a
    /// ClickHouse that no dashboard used yet
    Restore {
        /// Directory that `sonde storage backup` wrote
        from: PathBuf,
        #[command(flatten)]
        data: DataDir,
        #[command(flatten)]
        store: StoreOptions,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Data directory of the Sonde to ask, where several run on this machine
    #[arg(long, env = "SONDE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.01..=1000.0).contains(&number) => Ok(number),
        _ => Err("must be a number from 0.01 to 1000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// What a person wants once, with this one command, must come from no file and no environment.
    const ONCE: [&str; 3] = ["full", "dry_run", "restore"];

    #[test]
    fn every_flag_but_what_is_wanted_once_has_its_environment_variable() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                if argument.get_long().is_none() || matches!(id, "help" | "version") {
                    continue;
                }
                if ONCE.contains(&id) {
                    assert_eq!(argument.get_env(), None, "--{id}");
                    continue;
                }
                let wanted = format!("SONDE_{}", id.to_uppercase());
                let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
                assert_eq!(variable.as_deref(), Some(wanted.as_str()), "--{id}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
