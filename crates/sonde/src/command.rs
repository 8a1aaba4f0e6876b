//! The commands, one file each; this one hands over.

mod agents;
mod calls;
mod controller_status;
mod controller_uninstall;
mod doctor;
mod launch;
mod login;
mod replay;
mod run;
mod services;
mod storage;
mod tokens;

use crate::cli::{Cli, Command, ControllerAction};
use crate::failure::Failure;
use clap::CommandFactory as _;
use std::io::Write as _;

/// Runs the command that was asked for.
pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(options) => run::up(options),
        Command::Controller(options) => match options.action {
            Some(ControllerAction::Status(options)) => controller_status::run(&options),
            Some(ControllerAction::Uninstall(options)) => controller_uninstall::run(&options),
            None => run::controller(options),
        },
        Command::Dashboard(options) => run::dashboard(options),
        Command::Services(options) => services::run(&options),
        Command::Calls(options) => calls::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Run(options) => launch::run(&options),
        Command::Agents(options) => agents::run(&options),
        Command::Login(options) => login::run(&options),
        Command::Storage(options) => storage::run(&options),
        Command::Tokens(options) => tokens::run(&options),
        Command::Version => writeln!(std::io::stdout(), "sonde {}", env!("CARGO_PKG_VERSION"))
            .map_err(Failure::from),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "sonde", &mut std::io::stdout());
            Ok(())
        }
    }
}
