//! What a dashboard can be told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// How to run a dashboard.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything is kept. One dashboard at a time.
    pub data_dir: PathBuf,
    /// Where calls and control state are kept.
    pub calls: storage::CallsIn,
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names under which it may be asked, beside `localhost` and addresses; against DNS rebinding.
    /// When it listens on a loopback address, only loopback addresses and these are answered; on
    /// another address, an empty list means any name.
    pub allowed_hosts: Vec<String>,
    /// Service accounts of this cluster, each as `namespace/name`, whose pods may join with the token
    /// that the kubelet gives them; none where the dashboard stands outside of a cluster.
    pub service_accounts: Vec<String>,
    /// How long calls are kept, and what happens before the disk is full.
    pub limits: storage::Limits,
    /// Port of OTLP over gRPC; `None` listens on none. A token is needed there as everywhere.
    pub otlp_grpc: Option<Port>,
    /// Port of OTLP over HTTP, beside the paths `/v1/*` of `listen`.
    pub otlp_http: Option<Port>,
    /// Where telemetry is passed on to.
    pub forward: Option<PassOn>,
}

/// A port to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether the dashboard does without when the port is taken, as it does with the usual ports
    /// that nobody asked for: another collector may be there.
    pub is_optional: bool,
}

/// A receiver of OTLP over HTTP that telemetry is passed on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassOn {
    /// URL that `/v1/traces` and the like are appended to.
    pub endpoint: String,
    /// What is passed on.
    pub what: Passed,
    /// Headers of every request, such as a key.
    pub headers: Vec<(String, String)>,
    /// Certificates to trust beside the usual ones, in PEM.
    pub ca: Option<PathBuf>,
}

/// What is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// Model calls, under the names of the conventions and without content, each once.
    Calls,
    /// Traces, metrics and logs as they came, content included.
    Everything,
}

impl Config {
    /// A dashboard that keeps its data there and listens here, and on no further port.
    pub fn new(data_dir: &Path, listen: SocketAddr) -> Self {
        Self {
            data_dir: data_dir.into(),
            calls: storage::CallsIn::DataDir,
            listen,
            allowed_hosts: Vec::new(),
            service_accounts: Vec::new(),
            limits: storage::Limits::default(),
            otlp_grpc: None,
            otlp_http: None,
            forward: None,
        }
    }
}

impl Port {
    /// A port that must be had.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, is_optional: false }
    }

    /// A port of this machine alone that is taken where it is free.
    pub fn usual(port: u16) -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, port).into(), is_optional: true }
    }
}
