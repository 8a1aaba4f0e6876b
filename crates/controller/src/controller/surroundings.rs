//! What a controller finds around itself when it starts: its node, engines of containers, a cluster;
//! and what it says of itself to its dashboard.

use crate::clock::Now;
use crate::config::{Config, Platforms};
use anyhow::Context as _;
use contract::poll::{Capability, Instance};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::SystemTime;
use workloads::{Access, Clients, Cluster, Host, Node};

/// The node that is looked at.
#[expect(
    clippy::disallowed_methods,
    reason = "the start of the controller fixes when the node was booted"
)]
pub(super) fn node(config: &Config) -> anyhow::Result<Node> {
    let fallback = fallback_id(&config.data_dir)?;
    Ok(Node::open(&config.root, SystemTime::now(), &fallback))
}

/// Engines of containers and the cluster of this node, to be asked what runs.
pub(super) fn clients(config: &Config, host: &str) -> Clients {
    let Platforms { container_socket, kubeconfig, node_name } = &config.platforms;
    let mut clients = Clients::found(&config.root, host, variable);
    for socket in container_socket {
        if !clients.sockets.contains(socket) {
            clients.sockets.push(socket.clone());
        }
    }
    if let Some(kubeconfig) = kubeconfig {
        let access = Access::Kubeconfig(kubeconfig.clone());
        let node = variable("NODE_NAME");
        clients.cluster = Some(Cluster { access, node, host: host.to_owned() });
    }
    if let (Some(cluster), Some(name)) = (&mut clients.cluster, node_name) {
        cluster.node = Some(name.clone());
    }
    clients
}

/// The cluster whose workloads may be changed.
pub(super) fn cluster(config: &Config, host: &str) -> injector::Cluster {
    let node = config.platforms.node_name.clone().or_else(|| variable("NODE_NAME"));
    injector::Cluster {
        kubeconfig: config.platforms.kubeconfig.clone(),
        image: config.agents.as_ref().and_then(|agents| agents.image.clone()),
        pod: variable("POD_NAME"),
        node: node.unwrap_or_else(|| host.to_owned()),
    }
}

/// What this controller says of itself.
pub(super) fn instance(host: &Host, captures: bool, injects: bool) -> Instance {
    let capabilities =
        [captures.then_some(Capability::Network), injects.then_some(Capability::Sdk)];
    Instance {
        capabilities: capabilities.into_iter().flatten().collect(),
        id: host.scope(),
        host_name: host.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: host.kernel.clone(),
        started_unix_nanos: Now::read().unix_nanos,
        recorded: false,
        ..Instance::default()
    }
}

/// What somebody else's variable says; nothing where it is empty.
#[expect(
    clippy::disallowed_methods,
    reason = "what the kubelet and the engines' own tools say by variables is no setting of ours"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// An id for nodes that have none; made once, and kept.
fn fallback_id(data_dir: &Path) -> anyhow::Result<String> {
    let file = data_dir.join("node-id");
    if let Ok(id) = fs::read_to_string(&file)
        && id.trim().len() == 32
    {
        return Ok(id.trim().to_owned());
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .ok()
        .context("cannot read random numbers for the id of this node")?;
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let written =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file);
    written.and_then(|mut file| file.write_all(id.as_bytes())).with_context(|| {
        format!("cannot write `{}`; name another directory with --data-dir", file.display())
    })?;
    Ok(id)
}
