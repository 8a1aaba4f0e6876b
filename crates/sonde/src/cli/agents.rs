//! Flags of `sonde run` and `sonde agents`.

use super::dashboard::header;
use super::{Format, Target};
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// A program that is run with the SDK.
#[derive(Debug, Args)]
pub(crate) struct Launch {
    /// Name of the service, where the program says none [default: as it is discovered]
    #[arg(long, env = "SONDE_SERVICE_NAME", value_name = "NAME")]
    pub(crate) service_name: Option<String>,
    /// Send to this receiver of OTLP over HTTP in place of a dashboard
    #[arg(long, env = "SONDE_AGENT_ENDPOINT", value_name = "URL")]
    pub(crate) agent_endpoint: Option<String>,
    /// Header for that receiver, such as `authorization=Bearer …`; better in the environment
    #[arg(long, env = "SONDE_AGENT_HEADER", value_name = "NAME=VALUE", value_delimiter = ',',
          value_parser = header, hide_env_values = true)]
    pub(crate) agent_header: Vec<(String, String)>,
    /// Send prompts and answers too
    #[arg(long, env = "SONDE_AGENT_CONTENT")]
    pub(crate) agent_content: bool,
    #[command(flatten)]
    pub(crate) place: BundlePlace,
    #[command(flatten)]
    pub(crate) target: Target,
    /// The program, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Where the bundle lies.
#[derive(Debug, Clone, Args)]
pub(crate) struct BundlePlace {
    /// Where the SDK for Python is laid down; every program has to be able to read it [default:
    /// /usr/lib/sonde/agents/python for root, else ~/.local/share/sonde/agents/python]
    #[arg(long, env = "SONDE_AGENT_BUNDLE", value_name = "DIR")]
    pub(crate) agent_bundle: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Agents {
    #[command(subcommand)]
    pub(crate) action: AgentsAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentsAction {
    /// Lay the SDK down from this program; asks no network. The same program gives the same files
    Build(AgentsBuild),
    /// List the packages of the SDK, with versions and licences
    List(AgentsList),
    /// Compare what is laid down with what this program brings, file by file
    Verify(AgentsVerify),
}

#[derive(Debug, Args)]
pub(crate) struct AgentsBuild {
    #[command(flatten)]
    pub(crate) place: BundlePlace,
}

#[derive(Debug, Args)]
pub(crate) struct AgentsList {
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct AgentsVerify {
    #[command(flatten)]
    pub(crate) place: BundlePlace,
}
