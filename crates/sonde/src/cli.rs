//! Every flag, once.
//!
//! Each flag is also an environment variable (`SONDE_…`) and a key of the configuration file, by
//! the same name: `--data-dir`, `SONDE_DATA_DIR`, `data_dir`. `config.rs` does the layering.

mod agents;

pub(crate) use agents::{Agents, AgentsAction, BundlePlace, Launch};
use clap::{Args, Parser, Subcommand, ValueEnum};
use contract::capture::Level;
use contract::rules::{Provider, Rule, Rules};
use std::net::SocketAddr;
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

#[derive(Debug, Args)]
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
    /// Take out what was put into programs, and restart those that run with it
    #[arg(long)]
    pub(crate) restore: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ControllerStatus {
    /// Data directory of the controller to ask, where several run on this machine
    #[arg(long, env = "SONDE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// How to the dashboard, and where calls go.
#[derive(Debug, Args)]
pub(crate) struct Way {
    /// Work from this node's own configuration alone, without a dashboard; needs --otlp-endpoint
    #[arg(long, env = "SONDE_STANDALONE", conflicts_with = "dashboard")]
    pub(crate) standalone: bool,
    /// File with certificates (PEM) to trust for the dashboard beside the usual ones
    #[arg(long, env = "SONDE_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// File with a certificate (PEM) to show to the dashboard
    #[arg(long, env = "SONDE_CLIENT_CERT", value_name = "FILE")]
    pub(crate) client_cert: Option<PathBuf>,
    /// File with the key (PEM) of that certificate, where it is not in the same file
    #[arg(long, env = "SONDE_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
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
    #[arg(long, env = "SONDE_MAX_CAPTURE", value_enum, default_value_t = CaptureLevel::Full)]
    pub(crate) max_capture: CaptureLevel,
    /// Only find and show programs: attach nothing, change nothing
    #[arg(long, env = "SONDE_OBSERVE_ONLY")]
    pub(crate) observe_only: bool,
    /// Whether an SDK may be put into programs of this node
    #[arg(long, env = "SONDE_INJECTION", value_name = "BOOL", default_value = "on",
          action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
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
pub(crate) struct Dashboard {
    #[command(flatten)]
    pub(crate) data: DataDir,
    #[command(flatten)]
    pub(crate) listen: Listen,
    #[command(flatten)]
    pub(crate) telemetry: Telemetry,
    #[command(flatten)]
    pub(crate) keep: Keep,
    #[command(flatten)]
    pub(crate) store: StoreOptions,
}

/// A database that dashboards share.
#[derive(Debug, Args)]
pub(crate) struct StoreOptions {
    /// Keep everything in this ClickHouse, which several dashboards may share, such as
    /// `http://127.0.0.1:8123`
    #[arg(long, env = "SONDE_CLICKHOUSE", value_name = "URL")]
    pub(crate) clickhouse: Option<String>,
    /// User of ClickHouse
    #[arg(long, env = "SONDE_CLICKHOUSE_USER", value_name = "NAME", default_value = "default")]
    pub(crate) clickhouse_user: String,
    /// File with the password of that user
    #[arg(long, env = "SONDE_CLICKHOUSE_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) clickhouse_password_file: Option<PathBuf>,
    /// Database in ClickHouse; made when missing
    #[arg(long, env = "SONDE_CLICKHOUSE_DATABASE", value_name = "NAME", default_value = "sonde")]
    pub(crate) clickhouse_database: String,
    /// Cluster of ClickHouse's configuration to replicate tables over
    #[arg(long, env = "SONDE_CLICKHOUSE_CLUSTER", value_name = "NAME")]
    pub(crate) clickhouse_cluster: Option<String>,
}

/// Where state is kept.
#[derive(Debug, Args)]
pub(crate) struct DataDir {
    /// Directory for everything that is kept; made when missing [default: /var/lib/sonde for root,
    /// else ~/.local/state/sonde]
    #[arg(long, env = "SONDE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// How long calls are kept.
#[derive(Debug, Args)]
pub(crate) struct Keep {
    /// Days for which calls are kept, today not counted; sums of hours stay for 13 months
    #[arg(long, env = "SONDE_RETENTION_DAYS", value_name = "DAYS", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=400))]
    pub(crate) retention_days: u32,
    /// Share of the disk in use, in percent, from which on a warning is shown
    #[arg(long, env = "SONDE_DISK_WARN_PERCENT", value_name = "PERCENT", default_value_t = 85,
          value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) disk_warn_percent: u8,
    /// Share of the disk in use, in percent, from which on the oldest day of calls is dropped, one
    /// a minute
    #[arg(long, env = "SONDE_DISK_DROP_PERCENT", value_name = "PERCENT", default_value_t = 90,
          value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) disk_drop_percent: u8,
}

#[derive(Debug, Args)]
pub(crate) struct Listen {
    /// Address and port of the page, the API and OTLP/HTTP
    #[arg(long, env = "SONDE_LISTEN", value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Further host names that browsers may use for the page, beside the address that is listened
    /// on; all others are refused (DNS rebinding)
    #[arg(long, env = "SONDE_ALLOWED_HOST", value_name = "NAME", value_delimiter = ',')]
    pub(crate) allowed_host: Vec<String>,
    /// Service accounts of this cluster whose pods may join with a projected token for the audience
    /// `sonde`; the dashboard's own has to be allowed to create tokenreviews
    #[arg(long, env = "SONDE_JOIN_SERVICE_ACCOUNT", value_name = "NAMESPACE/NAME",
          value_delimiter = ',', value_parser = service_account)]
    pub(crate) join_service_account: Vec<String>,
}

/// Further ways in and out for telemetry.
#[derive(Debug, Args)]
pub(crate) struct Telemetry {
    /// Address and port of OTLP over gRPC, or `off`; without it 127.0.0.1:4317 where it is free
    #[arg(long, env = "SONDE_OTLP_GRPC", value_name = "ADDR:PORT")]
    pub(crate) otlp_grpc: Option<OtlpPort>,
    /// Address and port of OTLP over HTTP beside the page's, or `off`; without it 127.0.0.1:4318
    /// where it is free
    #[arg(long, env = "SONDE_OTLP_HTTP", value_name = "ADDR:PORT")]
    pub(crate) otlp_http: Option<OtlpPort>,
    /// Pass telemetry on to this receiver of OTLP over HTTP, such as `https://otel.example.com`
    #[arg(long, env = "SONDE_FORWARD", value_name = "URL")]
    pub(crate) forward: Option<String>,
    /// What to pass on: model calls without content, or everything as it came
    #[arg(long, env = "SONDE_FORWARD_WHAT", value_enum, default_value_t = ForwardWhat::Calls)]
    pub(crate) forward_what: ForwardWhat,
    /// Header of what is passed on, such as `authorization=Bearer …`; better in the environment
    #[arg(long, env = "SONDE_FORWARD_HEADER", value_name = "NAME=VALUE", value_delimiter = ',',
          value_parser = header, hide_env_values = true)]
    pub(crate) forward_header: Vec<(String, String)>,
    /// File with certificates (PEM) to trust for that receiver beside the usual ones
    #[arg(long, env = "SONDE_FORWARD_CA", value_name = "FILE")]
    pub(crate) forward_ca: Option<PathBuf>,
}

/// A port of OTLP that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OtlpPort {
    Off,
    At(SocketAddr),
}

impl std::str::FromStr for OtlpPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let wrong = |_wrong| "write it as ADDRESS:PORT, such as 0.0.0.0:4317, or `off`".to_owned();
        text.parse().map(Self::At).map_err(wrong)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ForwardWhat {
    /// Model calls, each once, without content
    Calls,
    /// Traces, metrics and logs as they came, content included
    Everything,
}

fn header(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.trim().is_empty());
    let (name, value) = pair.ok_or("write it as NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[derive(Debug, Args)]
pub(crate) struct CaptureOptions {
    /// Size of the buffer between kernel and controller, in MiB; a power of two from 1 to 1024
    #[arg(long, env = "SONDE_RING_MIB", value_name = "MIB", default_value_t = 32,
          value_parser = power_of_two)]
    pub(crate) ring_mib: u32,
    /// Use eBPF; without it programs are found by /proc alone, and nothing is captured
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
    /// OTLP endpoint that they send to, as programs and containers reach it; without it that of the
    /// dashboard
    #[arg(long, env = "SONDE_AGENT_ENDPOINT", value_name = "URL")]
    pub(crate) agent_endpoint: Option<String>,
    /// File with the token that they show there: of kind `ingest`. `sonde up` makes one by itself
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

/// A dashboard on another machine.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remote {
    /// Address of the dashboard, such as `https://sonde.example.com`
    #[arg(long, global = true, env = "SONDE_DASHBOARD", value_name = "URL")]
    pub(crate) dashboard: Option<String>,
    /// Token for that dashboard; better in a file or in the environment
    #[arg(long, global = true, env = "SONDE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// File that holds the token
    #[arg(
        long,
        global = true,
        env = "SONDE_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "token"
    )]
    pub(crate) token_file: Option<PathBuf>,
}

/// Where a command finds the running Sonde: here, through its socket, or elsewhere.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Data directory of the `sonde up` to ask, where several run on this machine
    #[arg(long, global = true, env = "SONDE_DATA_DIR", value_name = "DIR")]
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
    #[arg(long, short, global = true, env = "SONDE_OUTPUT", value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Services {
    #[command(subcommand)]
    pub(crate) action: Option<ServicesAction>,
    /// Only services that run there: kubernetes, docker, systemd, process
    #[arg(long, env = "SONDE_PLATFORM", value_name = "PLATFORM")]
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
    Disable {
        /// Name or key of the service
        name: String,
    },
    /// Say step by step why a program of this node is discovered, or is not
    Explain {
        /// Process id, name or key
        about: String,
    },
    /// Say which rule decides about the programs of this node; the rules are those that are given,
    /// and those of the configuration file as it is now, with those of the dashboard
    TestRules(TestRules),
}

#[derive(Debug, Args)]
pub(crate) struct TestRules {
    /// Only this program: process id, name or key
    pub(crate) about: Option<String>,
    #[command(flatten)]
    pub(crate) rules: RuleOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ServicesSet {
    /// Name or key of the service, as `sonde services` shows it
    pub(crate) name: String,
    /// How much to capture
    #[arg(long, env = "SONDE_CAPTURE", value_enum)]
    pub(crate) capture: CaptureLevel,
    /// Longest time to wait until it is in effect, in seconds; 0 does not wait
    #[arg(long, env = "SONDE_WAIT", value_name = "SECONDS", default_value_t = 10)]
    pub(crate) wait: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ServicesEnable {
    /// Names or keys of services
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// With an SDK in each program, for its agents and tools; it is restarted once
    #[arg(long)]
    pub(crate) full: bool,
    /// Print exactly what `--full` would change, what was looked at before, and the restart that it
    /// needs; change nothing
    #[arg(long, requires = "full")]
    pub(crate) dry_run: bool,
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
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StorageAction {
    /// Say how much is kept, for how long, and how full the disk is
    Status,
    /// Copy the data directory of this machine, while it is used, into a new directory
    Backup {
        /// New or empty directory for the copy; it holds secrets, as the data directory does
        to: PathBuf,
    },
    /// Make the data directory, which must be new or empty, of a copy
    Restore {
        /// Directory that `sonde storage backup` wrote
        from: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Data directory of the running Sonde, where several run on this machine
    #[command(flatten)]
    pub(crate) data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct Tokens {
    #[command(subcommand)]
    pub(crate) action: TokensAction,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokensAction {
    /// Make a token and print it; it is shown this once
    Create(TokensCreate),
    /// List tokens, without their secrets
    List,
    /// Make a token useless at once
    Revoke {
        /// Id of the token, as `sonde tokens list` shows it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokensCreate {
    /// What the token is for
    #[arg(long, env = "SONDE_KIND", value_enum)]
    pub(crate) kind: TokenKind,
    /// How long the token is good, such as 30d, 12h or 45m; until it is revoked when not given
    #[arg(long, env = "SONDE_EXPIRES", value_name = "TIME", value_parser = duration)]
    pub(crate) expires: Option<u64>,
    /// How many nodes may join with the token; any number when not given
    #[arg(long, env = "SONDE_USES", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) uses: Option<u32>,
    /// Environment of the nodes that join with the token, such as production
    #[arg(long, env = "SONDE_ENVIRONMENT", value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// What to call the token in the list
    #[arg(long, env = "SONDE_NAME", value_name = "NAME", default_value = "")]
    pub(crate) name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenKind {
    /// A controller: reports, and fetches what is wanted
    Join,
    /// A sender of OTLP
    Ingest,
    /// A script or a command line on another machine
    Api,
}

impl TokenKind {
    /// The word of the API.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Ingest => "ingest",
            Self::Api => "api",
        }
    }
}

/// Seconds of `30d`, `12h`, `45m` or `90s`.
fn duration(text: &str) -> Result<u64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('w', 604_800)];
    let seconds = units.into_iter().find_map(|(unit, seconds)| {
        text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(seconds)
    });
    match seconds {
        Some(seconds) if seconds > 0 => Ok(seconds),
        _ => Err("must be a number and a unit of s, m, h, d or w, such as 30d".to_owned()),
    }
}

fn service_account(text: &str) -> Result<String, String> {
    let is_name = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte)
            })
    };
    match text.split_once('/') {
        Some((namespace, name)) if is_name(namespace) && is_name(name) => Ok(text.to_owned()),
        _ => Err("must be a namespace and a name, such as sonde/sonde-controller".to_owned()),
    }
}

fn power_of_two(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(number) if number.is_power_of_two() && number <= 1024 => Ok(number),
        _ => Err("must be a power of two from 1 to 1024".to_owned()),
    }
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

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("30d"), Ok(2_592_000));
        assert_eq!(duration("90s"), Ok(90));
        for bad in ["", "d", "30", "0d", "-1h", "1y", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
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
