//! Settings of the controller. Reading flags, environment and files is the command line's part.

use contract::capture::Level;
use contract::rules::{Rule, Rules};
use contract::settings::LogLevel;
use std::fmt;
use std::path::PathBuf;

/// What the controller is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory for what has to survive a restart; made by the caller.
    pub data_dir: PathBuf,
    /// The dashboard: `http://HOST:PORT`, `https://HOST`, or `unix:PATH` for its socket. Empty for
    /// none: the controller then works from this configuration alone.
    pub dashboard: String,
    /// Token to join the dashboard with; none where its socket is used, or where the node joined
    /// before.
    pub token: Option<Token>,
    /// File that the token was read from, where it stands in one; it is read again when the token is
    /// refused.
    pub token_file: Option<PathBuf>,
    /// Certificates for the way to the dashboard.
    pub trust: Trust,
    /// Where calls are sent; `None` for the dashboard.
    pub otlp: Option<Otlp>,
    /// What is captured of workloads that nobody wished anything of: each that matches one of these.
    pub wishes: Vec<Rule>,
    /// What no dashboard can lift.
    pub ceilings: Ceilings,
    /// How SDKs get into programs; `None` where none do.
    pub agents: Option<Agents>,
    /// Unix socket to answer the command line on; none where the dashboard runs beside us.
    pub socket: Option<PathBuf>,
    /// Whether to use eBPF; off leaves discovery by `/proc` alone.
    pub ebpf: bool,
    /// Size of the buffer between kernel and controller, in bytes: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Rules of discovery of this node; those of the dashboard come on top.
    pub rules: Rules,
    /// Whom to ask about containers and pods, beside what is found.
    pub platforms: Platforms,
    /// New file to record what is captured in. It holds prompts and answers.
    pub record: Option<PathBuf>,
    /// Root directory of the node, where it is not our own.
    pub root: PathBuf,
    /// Changes how much is logged while the controller runs; without it that is not possible.
    pub set_log: Option<fn(LogLevel)>,
}

/// Certificates of one's own, as files in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    /// Certificates to trust beside the usual ones.
    pub ca_file: Option<PathBuf>,
    /// Certificate to show to the other side, with what leads to its root.
    pub client_cert: Option<PathBuf>,
    /// Key of it, where it is not in the same file.
    pub client_key: Option<PathBuf>,
}

/// A receiver of OTLP over HTTP.
#[derive(Debug, Clone)]
pub struct Otlp {
    /// Its base, such as `https://otel.example.com:4318`; `/v1/traces` and `/v1/metrics` follow.
    pub endpoint: String,
    /// Headers of every request.
    pub headers: Vec<(String, Token)>,
    /// Certificates for the way there.
    pub trust: Trust,
}

/// SDKs for programs, and what those are told.
#[derive(Debug, Clone)]
pub struct Agents {
    /// Where the bundle for Python is laid down; every program has to be able to read it.
    pub bundle: String,
    /// Base of the OTLP endpoint, as programs reach it.
    pub endpoint: String,
    /// Headers of what they send there.
    pub headers: Vec<(String, Token)>,
    /// Environment that programs are deployed in, where they do not say.
    pub environment: Option<String>,
    /// How long a program is watched after it was restarted, in seconds.
    pub window_seconds: u32,
    /// Image that the SDK of pods comes from; without it that of our own pod.
    pub image: Option<String>,
}

/// Whom to ask about containers and pods, where that is not found in its usual places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Platforms {
    /// Sockets of Docker or Podman, beside the usual ones.
    pub container_socket: Vec<PathBuf>,
    /// The way to the API server, as `kubectl` has it; in place of a pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// What the cluster calls this node.
    pub node_name: Option<String>,
}

/// What this node allows at most, whatever anybody wishes. In patterns `*` stands for any run of
/// characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceilings {
    /// Highest capture level.
    pub max_capture: Level,
    /// Nothing is changed on this node, and no probe is attached: programs are found, and shown.
    pub observe_only: bool,
    /// Whether an SDK may be put into programs.
    pub injection: bool,
    /// Patterns of the Kubernetes namespaces in which something may be captured; empty for all.
    pub allow_namespace: Vec<String>,
    /// Patterns of those in which nothing may be; they win.
    pub deny_namespace: Vec<String>,
    /// Patterns of the systemd units of which something may be captured; empty for all.
    pub allow_unit: Vec<String>,
    /// Patterns of those of which nothing may be; they win.
    pub deny_unit: Vec<String>,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self {
            max_capture: Level::Full,
            observe_only: false,
            injection: true,
            allow_namespace: Vec::new(),
            deny_namespace: Vec::new(),
            allow_unit: Vec::new(),
            deny_unit: Vec::new(),
        }
    }
}

/// A secret; its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl Config {
    /// A controller that keeps what it has to there and has this dashboard, with eBPF, a buffer of
    /// 32 MiB, no ceilings, and no SDK for programs.
    pub fn new(data_dir: impl Into<PathBuf>, dashboard: impl Into<String>) -> Self {
        Self {
            data_dir: data_dir.into(),
            dashboard: dashboard.into(),
            token: None,
            token_file: None,
            socket: None,
            trust: Trust::default(),
            otlp: None,
            wishes: Vec::new(),
            ceilings: Ceilings::default(),
            agents: None,
            ebpf: true,
            ring_bytes: 32 << 20,
            rules: Rules::default(),
            platforms: Platforms::default(),
            record: None,
            root: PathBuf::from("/"),
            set_log: None,
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_not_printed() {
        let mut config = Config::new("/d", "http://h");
        config.token = Some(Token("secret".to_owned()));
        assert!(!format!("{config:?}").contains("secret"));
    }
}
