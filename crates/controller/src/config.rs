//! Settings of the controller. Reading flags, environment and files is the command line's part.

use contract::capture::Level;
use contract::rules::Rules;
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;

/// What the controller is told at its start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Directory for what has to survive a restart; made by the caller.
    pub data_dir: PathBuf,
    /// The dashboard: `http://HOST:PORT`, `https://HOST`, or `unix:PATH` for its socket.
    pub dashboard: String,
    /// Token for the dashboard; none where its socket is used.
    #[serde(default)]
    pub token: Option<Token>,
    /// Unix socket to answer the command line on; none where the dashboard runs beside us.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// Highest capture level that any dashboard may set on this node.
    #[serde(default = "default_max_capture")]
    pub max_capture: Level,
    /// Whether to use eBPF; off leaves discovery by `/proc` alone.
    #[serde(default = "default_ebpf")]
    pub ebpf: bool,
    /// Size of the buffer between kernel and controller, in bytes: a power of two.
    #[serde(default = "default_ring_bytes")]
    pub ring_bytes: u32,
    /// Rules of discovery of this node; those of the dashboard come on top.
    #[serde(default)]
    pub rules: Rules,
    /// New file to record what is captured in. It holds prompts and answers.
    #[serde(default)]
    pub record: Option<PathBuf>,
    /// Root directory of the node, where it is not our own.
    #[serde(default = "default_root")]
    pub root: PathBuf,
}

/// A secret; its `Debug` does not show it.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl Config {
    /// The defaults, with what has none.
    pub fn new(data_dir: impl Into<PathBuf>, dashboard: impl Into<String>) -> Self {
        Self {
            data_dir: data_dir.into(),
            dashboard: dashboard.into(),
            token: None,
            socket: None,
            max_capture: default_max_capture(),
            ebpf: default_ebpf(),
            ring_bytes: default_ring_bytes(),
            rules: Rules::default(),
            record: None,
            root: default_root(),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

fn default_max_capture() -> Level {
    Level::Network
}

fn default_ebpf() -> bool {
    true
}

fn default_ring_bytes() -> u32 {
    32 << 20
}

fn default_root() -> PathBuf {
    PathBuf::from("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_and_the_token_is_not_printed() {
        let text = r#"{"data_dir": "/d", "dashboard": "http://h", "token": "secret"}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.max_capture, Level::Network);
        assert!(!format!("{config:?}").contains("secret"));
        let text = r#"{"data_dir": "/d", "dashboard": "http://h", "dash": 1}"#;
        assert!(serde_json::from_str::<Config>(text).unwrap_err().to_string().contains("dash"));
    }
}
