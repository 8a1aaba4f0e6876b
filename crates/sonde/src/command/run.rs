//! `sonde up`, `sonde controller`, `sonde dashboard`: the commands that stay.

use crate::api;
use crate::cli::{
    AgentOptions, Controller as ControllerOptions, Dashboard as DashboardOptions, ForwardWhat,
    Keep, Listen, NodeOptions, OtlpPort, StoreOptions, Telemetry, Up,
};
use crate::failure::Failure;
use crate::place::{self, CONTROLLER_SOCKET, SOCKET};
use crate::signals::Signals;
use anyhow::Context as _;
use controller::Controller;
use dashboard::{CallsIn, ClickHouse, Dashboard, PassOn, Passed, Port};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Runs both parts in this process until a signal ends them.
pub(crate) fn up(options: Up) -> Result<(), Failure> {
    let signals = Signals::catch()?;
    let data_dir = place::prepare(options.data.data_dir.as_deref())?;
    let keep = (&options.keep, CallsIn::DataDir);
    let dashboard = start_dashboard(&data_dir, options.listen, options.telemetry, keep)?;
    let _announced = place::announce(&data_dir);
    let link = format!("unix:{}", data_dir.join(SOCKET).display());
    let mut config = controller::Config::new(controller_dir(&data_dir)?, link);
    config.socket = Some(data_dir.join(CONTROLLER_SOCKET));
    let own = (Some(dashboard.url()), Some(dashboard.agent_token().to_owned()));
    configure(&mut config, options.node, own)?;
    let controller = Controller::start(config).context("cannot start the controller")?;
    greet(&dashboard)?;
    signals.wait();
    controller.stop();
    dashboard.stop();
    Ok(())
}

/// Runs the controller until a signal ends it.
pub(crate) fn controller(options: ControllerOptions) -> Result<(), Failure> {
    let signals = Signals::catch()?;
    let way = &options.way;
    only_with("--otlp-header", !way.otlp_header.is_empty(), "--otlp-endpoint", &way.otlp_endpoint)?;
    only_with("--otlp-ca", way.otlp_ca.is_some(), "--otlp-endpoint", &way.otlp_endpoint)?;
    only_with("--client-key", way.client_key.is_some(), "--client-cert", &way.client_cert)?;
    let url = match (&options.remote.dashboard, options.way.standalone) {
        (Some(url), false) => url.clone(),
        (Some(url), true) => {
            return Err(Failure::usage(format!(
                "a controller that stands alone asks no dashboard, and `{url}` is named: leave out \
                 --standalone or --dashboard, also as a key of the configuration file"
            )));
        }
        (None, true) if options.way.otlp_endpoint.is_some() => String::new(),
        (None, true) => {
            return Err(Failure::usage(
                "a controller that stands alone needs a receiver of its calls: name one with \
                 --otlp-endpoint URL",
            ));
        }
        (None, false) => {
            return Err(Failure::usage(
                "the controller needs a dashboard: give its address with --dashboard URL, or let \
                 it work from its own configuration with --standalone; on one machine `sonde up` \
                 runs both",
            ));
        }
    };
    let data_dir = place::prepare(options.data.data_dir.as_deref())?;
    let mut config = controller::Config::new(controller_dir(&data_dir)?, url);
    // One that joined before has a credential of its own, and needs no token any more.
    config.token = api::token(&options.remote)?.map(controller::Token);
    config.token_file = options.remote.token_file.clone();
    config.socket = Some(data_dir.join(SOCKET));
    config.trust = controller::Trust {
        ca_file: options.way.ca_file,
        client_cert: options.way.client_cert,
        client_key: options.way.client_key,
    };
    let headers = options.way.otlp_header.into_iter();
    let headers: Vec<_> = headers.map(|(name, value)| (name, controller::Token(value))).collect();
    let trust = controller::Trust { ca_file: options.way.otlp_ca, ..Default::default() };
    config.otlp =
        options.way.otlp_endpoint.map(|endpoint| controller::Otlp { endpoint, headers, trust });
    let place = config.dashboard.clone();
    let own = Some(place.clone()).filter(|url| url.starts_with("http"));
    configure(&mut config, options.node, (own, None))?;
    let controller = Controller::start(config).context("cannot start the controller")?;
    let announced = place::announce(&data_dir);
    signals.wait_unless(|| controller.is_stranger());
    let is_stranger = controller.is_stranger();
    drop(announced);
    controller.stop();
    if is_stranger {
        return Err(Failure::usage(format!(
            "{place} does not let this node join: it needs a token that is good; `sonde tokens create \
             --kind join` on its machine makes one, give it with --token-file or SONDE_TOKEN"
        )));
    }
    Ok(())
}

/// Runs the dashboard until a signal ends it.
pub(crate) fn dashboard(options: DashboardOptions) -> Result<(), Failure> {
    let signals = Signals::catch()?;
    let data_dir = place::prepare(options.data.data_dir.as_deref())?;
    let calls = calls_in(&options.store)?;
    let dashboard =
        start_dashboard(&data_dir, options.listen, options.telemetry, (&options.keep, calls))?;
    let _announced = place::announce(&data_dir);
    greet(&dashboard)?;
    signals.wait();
    dashboard.stop();
    Ok(())
}

fn start_dashboard(
    data_dir: &Path,
    listen: Listen,
    telemetry: Telemetry,
    (keep, calls): (&Keep, CallsIn),
) -> Result<Dashboard, Failure> {
    let (forward, headers) = (&telemetry.forward, &telemetry.forward_header);
    only_with("--forward-header", !headers.is_empty(), "--forward", forward)?;
    only_with("--forward-ca", telemetry.forward_ca.is_some(), "--forward", forward)?;
    let is_all = telemetry.forward_what == ForwardWhat::Everything;
    only_with("--forward-what", is_all, "--forward", forward)?;
    let mut config = dashboard::Config::new(data_dir, listen.listen);
    config.calls = calls;
    config.allowed_hosts = listen.allowed_host;
    config.service_accounts = listen.join_service_account;
    config.otlp_grpc = otlp_port(telemetry.otlp_grpc, 4317);
    config.otlp_http = otlp_port(telemetry.otlp_http, 4318);
    config.forward = telemetry.forward.map(|endpoint| PassOn {
        endpoint,
        what: match telemetry.forward_what {
            ForwardWhat::Calls => Passed::Calls,
            ForwardWhat::Everything => Passed::Everything,
        },
        headers: telemetry.forward_header,
        ca: telemetry.forward_ca,
    });
    config.limits.days = keep.retention_days;
    config.limits.warn_percent = keep.disk_warn_percent;
    config.limits.drop_percent = keep.disk_drop_percent;
    Dashboard::start(config).map_err(|error| {
        // A taken port, a directory in use and a newer schema are all for the caller to mend.
        Failure::Usage(format!("{:#}", anyhow::Error::from(error)))
    })
}

/// Where calls are to be kept.
pub(crate) fn calls_in(options: &StoreOptions) -> Result<CallsIn, Failure> {
    let has_password = options.clickhouse_password_file.is_some();
    only_with("--clickhouse-password-file", has_password, "--clickhouse", &options.clickhouse)?;
    let has_cluster = options.clickhouse_cluster.is_some();
    only_with("--clickhouse-cluster", has_cluster, "--clickhouse", &options.clickhouse)?;
    let Some(url) = &options.clickhouse else { return Ok(CallsIn::DataDir) };
    let password = options.clickhouse_password_file.as_ref().map(|path| {
        std::fs::read_to_string(path).map_err(|error| {
            Failure::Usage(format!(
                "cannot read `{}`; name a file with the password by --clickhouse-password-file: \
                 {error}",
                path.display()
            ))
        })
    });
    Ok(CallsIn::ClickHouse(ClickHouse {
        user: options.clickhouse_user.clone(),
        password: password.transpose()?.map(|password| password.trim_end().to_owned()),
        database: options.clickhouse_database.clone(),
        cluster: options.clickhouse_cluster.clone(),
        ..ClickHouse::new(url)
    }))
}

/// How SDKs get into programs; nothing where it is not known where they are to send.
fn agents(
    options: AgentOptions,
    (own_endpoint, own_token): (Option<String>, Option<String>),
) -> Result<Option<controller::Agents>, Failure> {
    let token = options.agent_token_file.map(|path| {
        std::fs::read_to_string(&path).map_err(|error| {
            Failure::Usage(format!(
                "cannot read `{}`; name a file with a token by --agent-token-file: {error}",
                path.display()
            ))
        })
    });
    let token = token.transpose()?.map(|token| token.trim().to_owned());
    let (endpoint, token) = match (options.agent_endpoint, token) {
        // A receiver of one's own may need no token.
        (Some(endpoint), token) => (endpoint, token.or(own_token)),
        (None, token) => match (own_endpoint, token.or(own_token)) {
            (Some(endpoint), Some(token)) => (endpoint, Some(token)),
            _ => return Ok(None),
        },
    };
    let bundle = super::agents::place(options.place.agent_bundle.as_deref())?;
    let bundle = std::path::absolute(bundle).map_err(anyhow::Error::from)?;
    let bearer = |token| ("authorization".to_owned(), controller::Token(format!("Bearer {token}")));
    Ok(Some(controller::Agents {
        bundle: bundle.display().to_string(),
        endpoint,
        headers: token.map(bearer).into_iter().collect(),
        environment: options.agent_environment,
        window_seconds: options.agent_window,
        image: options.agent_image,
    }))
}

/// Refuses a setting that only says more of another one, where that is not given: the one that was
/// forgotten is told, in place of a setting without effect.
///
/// # Errors
///
/// [`Failure::Usage`] with both names.
pub(super) fn only_with<T>(
    flag: &str,
    is_given: bool,
    other: &str,
    given: &Option<T>,
) -> Result<(), Failure> {
    if is_given && given.is_none() {
        return Err(Failure::usage(format!(
            "cannot use {flag} without {other}, of which it only says more; give both, or neither"
        )));
    }
    Ok(())
}

/// The port that was asked for, or else the usual one where it is free.
fn otlp_port(asked: Option<OtlpPort>, usual: u16) -> Option<Port> {
    match asked {
        None => Some(Port::usual(usual)),
        Some(OtlpPort::Off) => None,
        Some(OtlpPort::At(address)) => Some(Port::at(address)),
    }
}

fn controller_dir(data_dir: &Path) -> Result<PathBuf, Failure> {
    place::prepare(Some(&data_dir.join("controller")))
}

/// What is the same whoever the controller reports to; `own` is where agents in programs send, and
/// what they show there, where nothing else was said.
fn configure(
    config: &mut controller::Config,
    options: NodeOptions,
    own: (Option<String>, Option<String>),
) -> Result<(), Failure> {
    config.ring_bytes = options.capture.ring_mib << 20;
    config.record = options.capture.record;
    config.ebpf = options.capture.ebpf;
    config.rules = options.rules.rules();
    config.platforms = options.platforms.platforms();
    config.ceilings = options.ceilings.ceilings();
    config.wishes = options.ceilings.wish;
    config.set_log = Some(crate::set_log);
    config.agents = agents(options.agents, own)?;
    Ok(())
}

/// Prints where the page is, and a link that logs one browser in.
fn greet(dashboard: &Dashboard) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Sonde is running at {}", dashboard.url())?;
    writeln!(out, "Log in once with    {}", dashboard.login_link())?;
    writeln!(out, "Another link: sonde login · stop: Ctrl-C")?;
    out.flush()?;
    Ok(())
}
