//! Who asks whom: from what the kernel saw of connections and name answers to the names that programs
//! ask for. A value without I/O.
//!
//! What a program says itself counts most: the server name of its `ClientHello`, the Host or CONNECT
//! of a plain-text request. Only where it says nothing of use, the name that a resolver gave for the
//! address is taken: a connection whose first words do not come within [`SILENCE_NANOS`], or hide the
//! name (ECH, RFC 9849).

use crate::names::{Names, Source};
use capture::ProcessId;
use contract::workload::By;
use genai::Providers;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use wire::Moment;

/// How long a connection may be silent before the name of its address is taken for it.
const SILENCE_NANOS: u64 = 3 * 1_000_000_000;

/// Connections that have not said anything yet.
const MAX_SILENT: usize = 4_096;

/// A process asked for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) process: ProcessId,
    pub(crate) name: String,
    /// The provider behind the name; `None` where none is known.
    pub(crate) provider: Option<String>,
    pub(crate) by: By,
    pub(crate) peer: SocketAddr,
    /// What tells its hello from every other.
    pub(crate) random: Option<u64>,
    /// Whether the hello may hide another name.
    pub(crate) is_hidden: bool,
    pub(crate) at: Moment,
}

/// A connection, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) process: ProcessId,
    pub(crate) peer: SocketAddr,
    pub(crate) at: Moment,
}

/// What was learned about names, and the connections that have not said theirs.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    names: Names,
    providers: Providers,
    silent: VecDeque<Contact>,
    /// Addresses of providers that were learned and not yet told.
    learned: Vec<IpAddr>,
}

impl Asks {
    /// Nothing was learned yet.
    pub(crate) fn of(providers: Providers) -> Self {
        Self { providers, ..Self::default() }
    }

    /// Takes over who serves models.
    pub(crate) fn set_providers(&mut self, providers: Providers) {
        self.providers = providers;
    }

    /// A process sent a `ClientHello`.
    pub(crate) fn hello(
        &mut self,
        contact: Contact,
        server_name: Option<String>,
        random: u64,
        is_hidden: bool,
    ) -> Option<Ask> {
        self.spoke(contact);
        let Some(name) = server_name else { return self.by_address(contact) };
        let provider = self.provider(&name, Some(contact.peer.port()));
        if provider.is_none() && is_hidden {
            // The name may be that of a front, which says nothing about the address.
            if let Some(ask) = self.by_address(contact).filter(|ask| ask.by == By::Dns) {
                return Some(Ask { is_hidden, random: Some(random), ..ask });
            }
        } else {
            self.names.learn(&name, contact.peer.ip(), Source::Sni, contact.at);
        }
        Some(Ask { is_hidden, random: Some(random), ..ask(contact, name, provider, By::Sni) })
    }

    /// A process sent a request in plain text: to a server that it names (Host), or to a proxy that
    /// is to connect it to one (CONNECT).
    pub(crate) fn request(&mut self, contact: Contact, name: &str, by: By) -> Ask {
        self.spoke(contact);
        let port = (by == By::Host).then_some(contact.peer.port());
        let provider = self.provider(name, port);
        ask(contact, name.to_owned(), provider, by)
    }

    /// A resolver gave addresses for a name.
    pub(crate) fn resolved(
        &mut self,
        name: &str,
        addresses: &[IpAddr],
        source: Source,
        at: Moment,
    ) {
        let is_provider = self.provider(name, None).is_some();
        for address in addresses {
            self.names.learn(name, *address, source, at);
            if is_provider {
                self.learned.push(address.to_canonical());
            }
        }
    }

    /// A process connected to an address that is of interest; what it says comes later, if at all.
    pub(crate) fn connected(&mut self, contact: Contact) {
        if self.silent.len() >= MAX_SILENT {
            self.silent.pop_front();
        }
        self.silent.push_back(contact);
    }

    /// Connections that were silent for too long, by the names of their addresses.
    pub(crate) fn due(&mut self, now: Moment) -> Vec<Ask> {
        let mut due = Vec::new();
        while let Some(contact) = self.silent.front().copied() {
            if now.0.saturating_sub(contact.at.0) < SILENCE_NANOS {
                break;
            }
            self.silent.pop_front();
            due.extend(self.by_address(contact));
        }
        due
    }

    /// Whether a connection has yet to say its name.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.silent.is_empty()
    }

    /// Addresses of providers that were learned since the last time.
    pub(crate) fn take_learned(&mut self) -> Vec<IpAddr> {
        std::mem::take(&mut self.learned)
    }

    /// Names of an address, for those who want to know why.
    pub(crate) fn names_of(&self, address: IpAddr) -> Vec<String> {
        self.names.of(address).into_iter().map(str::to_owned).collect()
    }

    /// Who is probably behind a connection that is open.
    pub(crate) fn by_address(&self, contact: Contact) -> Option<Ask> {
        let port = contact.peer.port();
        let provider = |name: &str| self.providers.of_address(name, port).map(str::to_owned);
        let guess = self.names.guess(contact.peer.ip(), provider, contact.at)?;
        let provider = provider(&guess.name);
        Some(ask(contact, guess.name, provider, guess.by))
    }

    fn provider(&self, name: &str, port: Option<u16>) -> Option<String> {
        self.providers.of_host(name, port).map(str::to_owned)
    }

    /// A connection said something: its address does not matter any more.
    fn spoke(&mut self, contact: Contact) {
        let is_same =
            |silent: &Contact| silent.process == contact.process && silent.peer == contact.peer;
        if let Some(index) = self.silent.iter().position(is_same) {
            self.silent.remove(index);
        }
    }
}

fn ask(contact: Contact, name: String, provider: Option<String>, by: By) -> Ask {
    let Contact { process, peer, at } = contact;
    Ask { process, name, provider, by, peer, random: None, is_hidden: false, at }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: ProcessId = ProcessId { pid: 7, start_time: 10_000_000 };
    const OPENAI: &str = "api.openai.com";

    fn contact(peer: &str, at: u64) -> Contact {
        Contact { process: PROCESS, peer: peer.parse().unwrap(), at: Moment(at) }
    }

    fn resolved(asks: &mut Asks, name: &str, address: &str) {
        asks.resolved(name, &[address.parse().unwrap()], Source::Answer, Moment(1));
    }

    fn found(ask: Option<Ask>) -> Option<(String, By)> {
        ask.filter(|ask| ask.provider.is_some()).map(|ask| (ask.name, ask.by))
    }

    #[test]
    fn the_server_name_says_who_is_asked_over_either_family() {
        let mut asks = Asks::default();
        let mut hello =
            |name: &str, peer| found(asks.hello(contact(peer, 1), Some(name.to_owned()), 5, false));
        let sni = Some((OPENAI.to_owned(), By::Sni));
        assert_eq!(hello(OPENAI, "203.0.113.7:443"), sni);
        assert_eq!(hello(OPENAI, "[2001:db8::7]:443"), sni);
        assert_eq!(hello("example.com", "203.0.113.7:443"), None);
    }

    #[test]
    fn an_address_of_a_provider_says_nothing_once_the_program_names_another() {
        let mut asks = Asks::default();
        resolved(&mut asks, OPENAI, "203.0.113.7");
        asks.connected(contact("203.0.113.7:443", 2));
        let other = Some("www.example.com".to_owned());
        assert_eq!(found(asks.hello(contact("203.0.113.7:443", 3), other, 5, false)), None);
        assert_eq!(asks.due(Moment(SILENCE_NANOS * 2)), []);
        asks.connected(contact("203.0.113.7:443", 4));
        let ask = asks.due(Moment(SILENCE_NANOS * 2)).pop();
        assert_eq!(ask.unwrap().by, By::Address, "now it is known to be shared");
    }

    #[test]
    fn a_silent_connection_is_named_by_the_answer_that_its_resolver_got() {
        let mut asks = Asks::default();
        resolved(&mut asks, OPENAI, "203.0.113.7");
        assert_eq!(asks.take_learned(), ["203.0.113.7".parse::<IpAddr>().unwrap()]);
        resolved(&mut asks, "example.com", "203.0.113.8");
        assert!(asks.take_learned().is_empty(), "only providers are of interest");
        asks.connected(contact("203.0.113.7:443", 2));
        assert!(asks.due(Moment(SILENCE_NANOS)).is_empty() && asks.is_waiting());
        let due = asks.due(Moment(SILENCE_NANOS + 2)).pop();
        assert_eq!(found(due), Some((OPENAI.to_owned(), By::Dns)));
        assert!(!asks.is_waiting());
    }

    #[test]
    fn a_hello_that_hides_its_name_is_read_by_its_address() {
        let mut asks = Asks::default();
        resolved(&mut asks, OPENAI, "203.0.113.7");
        let front = || Some("cloudflare-ech.com".to_owned());
        let mut hello = |name| asks.hello(contact("203.0.113.7:443", 2), name, 5, true);
        assert_eq!(found(hello(front())), Some((OPENAI.to_owned(), By::Dns)));
        let known = Some(OPENAI.to_owned());
        assert_eq!(found(hello(known)), Some((OPENAI.to_owned(), By::Sni)), "grease hides nothing");
        resolved(&mut asks, "www.example.com", "203.0.113.7");
        let other = Some("www.example.com".to_owned());
        assert_eq!(found(asks.hello(contact("203.0.113.7:443", 3), other, 5, true)), None);
    }

    #[test]
    fn a_request_in_plain_text_names_its_server_or_the_one_behind_the_proxy() {
        let mut asks = Asks::default();
        let host = asks.request(contact("10.0.0.1:80", 1), OPENAI, By::Host);
        assert_eq!(found(Some(host)), Some((OPENAI.to_owned(), By::Host)));
        let proxy = asks.request(contact("10.0.0.2:3128", 1), "api.openai.com:443", By::Connect);
        assert_eq!(found(Some(proxy)).unwrap().1, By::Connect);
        let other = asks.request(contact("10.0.0.1:80", 1), "example.com", By::Host);
        assert_eq!(found(Some(other)), None);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut asks = Asks::default();
        for at in 0..10_000 {
            asks.connected(contact("203.0.113.7:443", at));
        }
        assert_eq!(asks.silent.len(), MAX_SILENT);
    }
}
