//! `sonde run`: a program of one's own, with the SDK in it.
//!
//! The program takes the place of this process: its id, its terminal and its signals are what they
//! would be without us.

use super::agents;
use super::run::only_with;
use crate::api;
use crate::cli::Launch;
use crate::failure::Failure;
use crate::place;
use contract::attribute;
use injector::environment::{self, Injection};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use workloads::{Node, Remains};

/// Becomes the program; comes back only when that fails.
pub(crate) fn run(options: &Launch) -> Result<(), Failure> {
    let Some((name, arguments)) = options.command.split_first() else {
        return Err(Failure::usage("cannot run nothing; name a program after `--`"));
    };
    let has_header = !options.agent_header.is_empty();
    only_with("--agent-header", has_header, "--agent-endpoint", &options.agent_endpoint)?;
    let bundle = agents::bundle()?;
    let directory = agents::install(&bundle, options.place.agent_bundle.as_deref())?;
    let injection = injection(options, &directory)?;
    let mut command = Command::new(name);
    command.args(arguments);
    for change in environment::environment(&effective(), &injection) {
        command.env(change.name, change.after);
    }
    let error = command.exec();
    Err(Failure::Failed(anyhow::anyhow!(
        "cannot run `{}`: {error}; is it installed, and executable?",
        name.display()
    )))
}

#[expect(clippy::disallowed_methods, reason = "the edge at which time enters")]
fn injection(options: &Launch, directory: &Path) -> Result<Injection, Failure> {
    let (endpoint, headers) = way(options)?;
    let node = Node::open(Path::new("/"), SystemTime::now(), "");
    let mut attributes = Vec::new();
    let host = node.host();
    if !host.id.is_empty() {
        attributes.push((attribute::HOST_ID.to_owned(), host.id.clone()));
    }
    attributes.push((attribute::HOST_NAME.to_owned(), host.name.clone()));
    let found = identity(&node, &options.command);
    Ok(Injection {
        bundle: directory.display().to_string(),
        endpoint,
        headers,
        service_name: options.service_name.clone().or_else(|| Some(found.as_ref()?.1.clone())),
        workload_key: found.map(|(key, _)| key).unwrap_or_default(),
        attributes,
        capture_content: options.agent_content,
    })
}

/// Where spans go, and with which headers.
fn way(options: &Launch) -> Result<(String, Vec<(String, String)>), Failure> {
    if let Some(endpoint) = &options.agent_endpoint {
        return Ok((endpoint.clone(), options.agent_header.clone()));
    }
    let remote = &options.target.remote;
    if let Some(dashboard) = &remote.dashboard {
        let token = api::token(remote)?.ok_or_else(|| {
            Failure::usage(
                "cannot send to that dashboard without a token; make one there with `sonde tokens \
                 create --kind ingest`, and name it by --token-file",
            )
        })?;
        let header = ("authorization".to_owned(), format!("Bearer {token}"));
        return Ok((dashboard.clone(), vec![header]));
    }
    let socket = place::socket(options.target.data_dir.as_deref())?;
    if !socket.exists() {
        return Err(Failure::usage(format!(
            "cannot find a running Sonde: there is no socket `{}`; start one with `sonde up`, name \
             its --data-dir, a dashboard elsewhere with --dashboard URL, or another receiver with \
             --agent-endpoint URL",
            socket.display()
        )));
    }
    let socket = std::path::absolute(&socket).map_err(anyhow::Error::from)?;
    Ok((format!("unix:{}", socket.display()), Vec::new()))
}

/// Key and name of the workload that this process is about to become; nothing where what is named
/// is a script, which becomes another program in turn.
fn identity(node: &Node, command: &[OsString]) -> Option<(String, String)> {
    let executable = found(command.first()?)?;
    let mut head = [0; 4];
    std::fs::File::open(&executable).ok()?.read_exact(&mut head).ok()?;
    if &head != b"\x7fELF" {
        return None;
    }
    let arguments: Vec<u8> =
        command.iter().flat_map(|argument| [argument.as_bytes(), b"\0"].concat()).collect();
    let pid = std::process::id();
    let now = node.program(pid)?;
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    let directory = std::env::current_dir().ok()?;
    let program = node.remains(&Remains {
        pid,
        start_ticks: now.start_ticks,
        executable: executable.to_str(),
        arguments: Some(&arguments),
        cgroup: cgroup.or_else(|| cgroups.lines().find_map(|line| line.rsplit(':').next())),
        directory: directory.to_str(),
        ..Remains::default()
    });
    Some((program.key.0, program.name))
}

/// The file that a name runs, as the shell finds it, without links.
fn found(name: &OsStr) -> Option<PathBuf> {
    let path = if name.as_bytes().contains(&b'/') {
        PathBuf::from(name)
    } else {
        let places = crate::config::environment("PATH")?;
        std::env::split_paths(&places).map(|place| place.join(name)).find(|path| path.is_file())?
    };
    std::fs::canonicalize(path).ok()
}

/// Our environment, of which only text counts: what differs is text.
fn effective() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
