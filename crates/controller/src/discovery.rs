//! Discovery without the kernel's help: connections that are open now, to addresses that have a
//! known name. A hint, and shown as one; connections that open and close between two looks are missed.

use crate::clock::Now;
use crate::event_loop::{Notice, Notices, Sighting};
use crate::programs::Programs;
use crate::standing::Standings;
use contract::workload::By;
use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use workloads::{Connection, hosts_file};

/// How often open connections are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks between two lookups of the known names: their addresses change within minutes.
const LOOKS_PER_LOOKUP: u32 = 12;

/// Addresses of known names that are remembered; they rotate.
const MAX_ADDRESSES: usize = 4_096;

/// Port of the known providers.
const HTTPS: u16 = 443;

/// Names that are worth a question to the resolver. Which provider is behind each is not said here,
/// but by `genai`, which knows many more.
const LOOKED_UP: [&str; 12] = [
    "api.anthropic.com",
    "api.cohere.com",
    "api.deepseek.com",
    "api.groq.com",
    "api.mistral.ai",
    "api.openai.com",
    "api.perplexity.ai",
    "api.together.xyz",
    "api.x.ai",
    "generativelanguage.googleapis.com",
    "integrate.api.nvidia.com",
    "openrouter.ai",
];

/// Addresses with the names that they were seen under.
type Names = HashMap<IpAddr, String>;

/// The loop; to be run on a thread of its own, since the resolver may take its time.
pub(crate) struct Discovery {
    pub(crate) programs: Arc<Programs>,
    pub(crate) notices: Notices,
    pub(crate) standings: Standings,
    pub(crate) root: PathBuf,
    /// Whether the kernel tells of new connections, so that one look at the start is enough.
    pub(crate) once: bool,
}

impl Discovery {
    /// Looks once, or until the stop.
    pub(crate) fn run(self) {
        let mut names = Names::new();
        let mut looks = 0;
        loop {
            if looks % LOOKS_PER_LOOKUP == 0 {
                self.look_up(&mut names);
            }
            looks = looks.wrapping_add(1);
            self.look(&names);
            if self.once || !self.standings.sleep(LOOK_EVERY) {
                return;
            }
        }
    }

    /// Asks the node's own resolver, and its file of hosts, for the known names.
    fn look_up(&self, names: &mut Names) {
        if names.len() > MAX_ADDRESSES {
            names.clear();
        }
        for host in LOOKED_UP {
            // A name that cannot be resolved here is not asked here either.
            let addresses = (host, HTTPS).to_socket_addrs();
            names.extend(
                addresses
                    .into_iter()
                    .flatten()
                    .map(|address| (address.ip().to_canonical(), host.to_owned())),
            );
            if !self.standings.sleep(Duration::ZERO) {
                return;
            }
        }
        let listed = hosts_file(&self.root)
            .into_iter()
            .filter(|(name, _)| genai::provider_of_host(name).is_some());
        names.extend(listed.map(|(name, address)| (address.to_canonical(), name)));
    }

    fn look(&self, names: &Names) {
        let connections = self.programs.node(workloads::Node::connections).unwrap_or_default();
        let at_unix_nanos = Now::read().unix_nanos;
        for (connection, name, provider) in hints(&connections, names) {
            let Some(program) = self.programs.read(connection.pid) else { continue };
            self.notices.send(Notice::Sighted(Sighting {
                program,
                provider: provider.to_owned(),
                by: By::Address,
                seen: format!("{name} ({})", connection.peer.ip()),
                at_unix_nanos,
            }));
        }
    }
}

/// Connections to addresses of known providers, one a process and name.
fn hints<'a>(
    connections: &'a [Connection],
    names: &'a Names,
) -> Vec<(&'a Connection, &'a str, &'static str)> {
    let hint = |connection: &'a Connection| {
        let name = names.get(&connection.peer.ip()).filter(|_| connection.peer.port() == HTTPS)?;
        Some((connection, name.as_str(), genai::provider_of_host(name)?))
    };
    let mut hints: Vec<_> = connections.iter().filter_map(hint).collect();
    hints.dedup_by_key(|(connection, name, _)| (connection.pid, *name));
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_looked_up_is_known() {
        assert!(LOOKED_UP.iter().all(|host| genai::provider_of_host(host).is_some()));
    }

    #[test]
    fn only_known_names_on_their_port_are_hints() {
        let names = Names::from([
            ("203.0.113.7".parse().unwrap(), "api.openai.com".to_owned()),
            ("203.0.113.8".parse().unwrap(), "www.example.com".to_owned()),
        ]);
        let connection = |pid, peer: &str| Connection { pid, peer: peer.parse().unwrap() };
        let connections = [
            connection(1, "203.0.113.7:443"),
            connection(1, "203.0.113.7:443"),
            connection(2, "203.0.113.7:80"),
            connection(3, "203.0.113.8:443"),
            connection(4, "203.0.113.9:443"),
        ];
        let hints: Vec<_> = hints(&connections, &names)
            .into_iter()
            .map(|(c, name, provider)| (c.pid, name, provider))
            .collect();
        assert_eq!(hints, [(1, "api.openai.com", "openai")]);
    }
}
