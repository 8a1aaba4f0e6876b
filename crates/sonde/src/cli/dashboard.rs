//! Flags of `sonde dashboard`, and of the half of `sonde up` that is one.

use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

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
    /// ClickHouse in which everything is kept, and which several dashboards may share, such as
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
    /// Pass telemetry on to this receiver of OTLP, such as `https://otel.example.com`; over gRPC
    /// `grpcs://otel.example.com:4317`, or `grpc://` without TLS
    #[arg(long, env = "SONDE_FORWARD", value_name = "URL")]
    pub(crate) forward: Option<String>,
    /// What to pass on: model calls without content, or everything as it came
    #[arg(long, env = "SONDE_FORWARD_WHAT", value_name = "WHAT", value_enum, default_value_t = ForwardWhat::Calls)]
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

pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.trim().is_empty());
    let (name, value) = pair.ok_or("write it as NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
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
