//! Flags of `sonde controller`, and of the half of `sonde up` that is one.

use super::dashboard::header;
use super::{BundlePlace, CaptureLevel, DataDir, Format, Remote};
use clap::{Args, Subcommand};
use contract::capture::Level;
use contract::rules::{Provider, Rule, Rules};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Controller {
    #[command(subcommand)]
    pub(crate) action: Option<ControllerAction>,
    #[command(flatten)]
    pub(crate) data: DataDir,
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(flatten)]
    pub(crate) way: Way,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
}

/// What a controller does on its node, whoever it reports to.
#[derive(Debug, Args)]
pub(crate) struct NodeOptions {
    #[command(flatten)]
    pub(crate) capture: CaptureOptions,
    #[command(flatten)]
    pub(crate) platforms: PlatformOptions,
    #[command(flatten)]
    pub(crate) rules: RuleOptions,
    #[command(flatten)]
    pub(crate) ceilings: CeilingOptions,
    #[command(flatten)]
    pub(crate) agents: AgentOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ControllerAction {
    /// Say how the controller of this node stands with its dashboard
    Status(ControllerStatus),
    /// Say which programs of this node were changed; with --restore, put all of them back as they
    /// were. The controller must be stopped
    Uninstall(ControllerUninstall),
}

#[derive(Debug, Args)]
pub(crate) struct ControllerUninstall {
    /// Data directory of the Sonde that leaves
    #[arg(long, env = "SONDE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// File as `kubectl` has it, where the controller was given one
    #[arg(long, env = "SONDE_KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Take out what was put into programs, and restart those that run with it
    #[arg(long)]
    pub(crate) restore: bool,
}

/// The controller of this node, which alone can say some things.
#[derive(Debug, Args)]
pub(crate) struct OwnController {
    /// Data directory of the controller to ask, where several run on this machine
    #[arg(long, env = "SONDE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ControllerStatus {
    #[command(flatten)]
    pub(crate) node: OwnController,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// How to the dashboard, and where calls go.
#[derive(Debug, Args)]
pub(crate) struct Way {
    /// Work from this node's own configuration alone, without a dashboard; needs --otlp-endpoint
    #[arg(long, env = "SONDE_STANDALONE")]
    pub(crate) standalone: bool,
    /// File with certificates (PEM) to trust for the dashboard beside the usual ones
    #[arg(long, env = "SONDE_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// File with a certificate (PEM) to show to the dashboard
    #[arg(long, env = "SONDE_CLIENT_CERT", value_name = "FILE")]
    pub(crate) client_cert: Option<PathBuf>,
    /// File with the key (PEM) of that certificate, where it is not in the same file
    #[arg(long, env = "SONDE_CLIENT_KEY", value_name = "FILE")]
    pub(crate) client_key: Option<PathBuf>,
    /// Send calls to this receiver of OTLP over HTTP in place of the dashboard, such as
    /// `https://otel.example.com:4318`
    #[arg(long, env = "SONDE_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
    /// Header for that receiver, such as `authorization=Bearer …`; better in the environment
    #[arg(long, env = "SONDE_OTLP_HEADER", value_name = "NAME=VALUE", value_delimiter = ',',
          value_parser = header, hide_env_values = true)]
    pub(crate) otlp_header: Vec<(String, String)>,
    /// File with certificates (PEM) to trust for that receiver beside the usual ones
    #[arg(long, env = "SONDE_OTLP_CA", value_name = "FILE")]
    pub(crate) otlp_ca: Option<PathBuf>,
}

/// What this node wishes itself, and what no dashboard can lift. In a pattern `*` stands for any run
/// of characters.
#[derive(Debug, Clone, Args)]
pub(crate) struct CeilingOptions {
    /// Capture what matches this rule, as long as nobody wishes anything else of it on a dashboard:
    /// namespace, label, name, user, path, such as `name=chat*`
    #[arg(long, env = "SONDE_WISH", value_name = "RULE", value_delimiter = '\n',
          value_parser = controller::rules::rule)]
    pub(crate) wish: Vec<Rule>,
    /// Highest capture level on this node
    #[arg(long, env = "SONDE_MAX_CAPTURE", value_name = "LEVEL", value_enum, default_value_t = CaptureLevel::Full)]
    pub(crate) max_capture: CaptureLevel,
    /// Only find and show programs: attach nothing, change nothing
    #[arg(long, env = "SONDE_OBSERVE_ONLY")]
    pub(crate) observe_only: bool,
    /// Whether an SDK may be put into programs of this node, `on` or `off`
    #[arg(long, env = "SONDE_INJECTION", value_name = "BOOL", default_value = "on",
          hide_possible_values = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) injection: bool,
    /// Pattern of the Kubernetes namespaces in which calls may be captured; all when none is given
    #[arg(long, env = "SONDE_ALLOW_NAMESPACE", value_name = "PATTERN", value_delimiter = ',')]
    pub(crate) allow_namespace: Vec<String>,
    /// Pattern of Kubernetes namespaces in which nothing may be captured
    #[arg(long, env = "SONDE_DENY_NAMESPACE", value_name = "PATTERN", value_delimiter = ',')]
    pub(crate) deny_namespace: Vec<String>,
    /// Pattern of the systemd units of which calls may be captured; all when none is given
    #[arg(long, env = "SONDE_ALLOW_UNIT", value_name = "PATTERN", value_delimiter = ',')]
    pub(crate) allow_unit: Vec<String>,
    /// Pattern of systemd units of which nothing may be captured
    #[arg(long, env = "SONDE_DENY_UNIT", value_name = "PATTERN", value_delimiter = ',')]
    pub(crate) deny_unit: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CaptureOptions {
    /// Size of the buffer between kernel and controller, in MiB; a power of two from 1 to 1024
    #[arg(long, env = "SONDE_RING_MIB", value_name = "MIB", default_value_t = 32,
          value_parser = power_of_two)]
    pub(crate) ring_mib: u32,
    /// Use eBPF; without it programs are found by their open connections and by what listens, and
    /// no call is captured
    #[arg(long, env = "SONDE_EBPF", value_name = "BOOL", default_value_t = true,
          action = clap::ArgAction::Set)]
    pub(crate) ebpf: bool,
    /// Write what is captured to a new file that `sonde replay` plays. It holds prompts and
    /// answers; keys and cookies are left out
    #[arg(long, env = "SONDE_RECORD", value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
}

/// Whom to ask about containers and pods, where it is not found in its usual place.
#[derive(Debug, Args)]
pub(crate) struct PlatformOptions {
    /// Socket of Docker or Podman to ask, beside the usual ones; may be given more than once
    #[arg(long, env = "SONDE_CONTAINER_SOCKET", value_name = "PATH", value_delimiter = '\n')]
    pub(crate) container_socket: Vec<PathBuf>,
    /// File that says where the API server of Kubernetes is and how to log in, as kubectl has it; a
    /// controller in a pod needs none
    #[arg(long, env = "SONDE_KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// What Kubernetes calls this node; by default the node of the controller's own pod, or the
    /// host's name
    #[arg(long, env = "SONDE_NODE_NAME", value_name = "NAME")]
    pub(crate) node_name: Option<String>,
}

impl PlatformOptions {
    /// The same, for the controller.
    pub(crate) fn platforms(self) -> controller::Platforms {
        let Self { container_socket, kubeconfig, node_name } = self;
        controller::Platforms { container_socket, kubeconfig, node_name }
    }
}

/// Rules of discovery. Each is `key=pattern,key=pattern`, or the same as a JSON object; in a pattern
/// `*` stands for any run of characters. Variables hold one a line.
#[derive(Debug, Clone, Args)]
pub(crate) struct RuleOptions {
    /// Only programs that match one of these count: namespace, label, name, user, path, such as
    /// `namespace=prod,label=team=search`
    #[arg(long, env = "SONDE_INCLUDE", value_name = "RULE", value_delimiter = '\n',
          value_parser = controller::rules::rule)]
    pub(crate) include: Vec<Rule>,
    /// Programs that match one of these never count, such as `user=postgres` or `path=/opt/ci/*`
    #[arg(long, env = "SONDE_EXCLUDE", value_name = "RULE", value_delimiter = '\n',
          value_parser = controller::rules::rule)]
    pub(crate) exclude: Vec<Rule>,
    /// A host that serves models and is not known: name, host, port, path, family, such as
    /// `name=our-gateway,host=llm.*.example,family=openai`
    #[arg(long, env = "SONDE_PROVIDER", value_name = "PROVIDER", value_delimiter = '\n',
          value_parser = controller::rules::provider)]
    pub(crate) provider: Vec<Provider>,
}

impl CeilingOptions {
    /// What no dashboard can lift.
    pub(crate) fn ceilings(&self) -> controller::Ceilings {
        controller::Ceilings {
            max_capture: match self.max_capture {
                CaptureLevel::Off => Level::Off,
                CaptureLevel::Network => Level::Network,
                CaptureLevel::Full => Level::Full,
            },
            observe_only: self.observe_only,
            injection: self.injection,
            allow_namespace: self.allow_namespace.clone(),
            deny_namespace: self.deny_namespace.clone(),
            allow_unit: self.allow_unit.clone(),
            deny_unit: self.deny_unit.clone(),
        }
    }
}

impl RuleOptions {
    /// All of them.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            providers: self.provider.clone(),
        }
    }
}

/// SDKs that are put into programs at the level `full`, and what they are told.
#[derive(Debug, Clone, Args)]
pub(crate) struct AgentOptions {
    #[command(flatten)]
    pub(crate) place: BundlePlace,
    /// OTLP endpoint that programs with the SDK send to, as they and containers reach it; without
    /// it that of the dashboard
    #[arg(long, env = "SONDE_AGENT_ENDPOINT", value_name = "URL")]
    pub(crate) agent_endpoint: Option<String>,
    /// File with the token that programs with the SDK show there, of kind `ingest`; `sonde up` makes
    /// one by itself
    #[arg(long, env = "SONDE_AGENT_TOKEN_FILE", value_name = "FILE")]
    pub(crate) agent_token_file: Option<PathBuf>,
    /// Environment that programs are deployed in, where they do not say
    #[arg(long, env = "SONDE_AGENT_ENVIRONMENT", value_name = "NAME")]
    pub(crate) agent_environment: Option<String>,
    /// How long a program is watched after its restart, in seconds: if it does not stay healthy, it
    /// is put back as it was
    #[arg(long, env = "SONDE_AGENT_WINDOW", value_name = "SECONDS", default_value_t = 60)]
    pub(crate) agent_window: u32,
    /// Image that pods get the SDK from: one of Sonde, that every node can pull [default: that of the
    /// controller's own pod]
    #[arg(long, env = "SONDE_AGENT_IMAGE", value_name = "IMAGE")]
    pub(crate) agent_image: Option<String>,
}

fn power_of_two(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(number) if number.is_power_of_two() && number <= 1024 => Ok(number),
        _ => Err("must be a power of two from 1 to 1024".to_owned()),
    }
}
