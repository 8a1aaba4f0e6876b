//! Flags of `sonde services`.

use super::{Format, OwnController, RuleOptions, Target};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};
use contract::workload::Platform;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Services {
    #[command(subcommand)]
    pub(crate) action: Option<ServicesAction>,
    #[command(flatten)]
    pub(crate) list: ServicesList,
}

#[derive(Debug, Args)]
pub(crate) struct ServicesList {
    /// Only services of this platform; `docker` stands for Podman and containerd, too
    #[arg(long, env = "SONDE_PLATFORM", value_name = "PLATFORM", value_parser = platforms())]
    pub(crate) platform: Option<String>,
    /// Only services of this Kubernetes namespace
    #[arg(long, env = "SONDE_NAMESPACE", value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServicesAction {
    /// Set how much of a service is captured, and wait until it is in effect
    Set(ServicesSet),
    /// Switch a service on: to `network`, or with an SDK in it
    Enable(ServicesEnable),
    /// Switch a service off: whatever was put into it is taken out again
    Disable(ServicesDisable),
    /// Say step by step why a program of this node is discovered, or is not
    Explain(ServicesExplain),
    /// Say which rule decides about the programs of this node; the rules are those that are given,
    /// and those of the configuration file as it is now, with those of the dashboard
    TestRules(TestRules),
}

#[derive(Debug, Args)]
pub(crate) struct ServicesSet {
    /// Name or key of the service, as `sonde services` shows it
    pub(crate) name: String,
    /// How much to capture
    #[arg(long, env = "SONDE_CAPTURE", value_name = "LEVEL", value_enum)]
    pub(crate) capture: CaptureLevel,
    /// Longest time to wait until it is in effect, in seconds; 0 does not wait
    #[arg(long, env = "SONDE_WAIT", value_name = "SECONDS", default_value_t = 10)]
    pub(crate) wait: u32,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ServicesEnable {
    /// Names or keys of services, as `sonde services` shows them
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// With an SDK in each program, for its agents and tools; it is restarted once
    #[arg(long)]
    pub(crate) full: bool,
    /// Print exactly what `--full` would change, what was looked at before, and the restart that it
    /// needs; change nothing
    #[arg(long, requires = "full")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ServicesDisable {
    /// Name or key of the service, as `sonde services` shows it
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ServicesExplain {
    /// Process id, name or key
    pub(crate) about: String,
    #[command(flatten)]
    pub(crate) node: OwnController,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct TestRules {
    /// Only this program: process id, name or key
    pub(crate) about: Option<String>,
    #[command(flatten)]
    pub(crate) rules: RuleOptions,
    #[command(flatten)]
    pub(crate) node: OwnController,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CaptureLevel {
    /// Nothing is attached
    Off,
    /// Model calls, read in the kernel; no restart
    Network,
    /// And an SDK within the program, for the work around the calls; one restart
    Full,
}

fn platforms() -> PossibleValuesParser {
    PossibleValuesParser::new(Platform::ALL.map(Platform::word))
}
