//! Names of addresses, as they were learned, and how much each is worth. A value without I/O.
//!
//! An address alone never names a provider: many names share the addresses of a CDN. What was learned
//! is therefore weighed. A name that a program's resolver was answered with, or that the node's own
//! file of hosts gives, counts while the address has no other name; everything else is a hint.

use contract::workload::By;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use wire::Moment;

/// Addresses that are remembered; providers rotate through some hundreds.
const MAX_ADDRESSES: usize = 4_096;

/// Names of one address; one with more is shared by strangers, which is all that matters.
const MAX_NAMES: usize = 8;

/// How long an answer of the resolver counts: programs keep connections and answers for longer than
/// the answer itself allows, and addresses change hands over hours.
const TRUST_NANOS: u64 = 60 * 60 * 1_000_000_000;

/// Where a name came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A server name that a program sent to the address.
    Sni,
    /// We asked the resolver of this node ourselves.
    Asked,
    /// An answer of a resolver that passed on this node.
    Answer,
    /// The node's file of hosts; it holds until it is read again.
    HostsFile,
}

/// Addresses with the names that they were seen under.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashMap<IpAddr, Vec<Learned>>,
    order: VecDeque<IpAddr>,
}

#[derive(Debug)]
struct Learned {
    name: String,
    source: Source,
    at: Moment,
}

/// Who is probably behind an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guess {
    /// The name, one that belongs to a provider.
    pub(crate) name: String,
    /// What it is worth: [`By::Dns`] or [`By::Address`].
    pub(crate) by: By,
}

impl Names {
    /// Notes that an address was seen under a name.
    pub(crate) fn learn(&mut self, name: &str, address: IpAddr, source: Source, at: Moment) {
        let address = address.to_canonical();
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if !self.known.contains_key(&address) {
            if self.known.len() >= MAX_ADDRESSES
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
            self.order.push_back(address);
        }
        let names = self.known.entry(address).or_default();
        if let Some(known) = names.iter_mut().find(|known| known.name == name) {
            known.source = known.source.max(source);
            known.at = known.at.max(at);
        } else if names.len() < MAX_NAMES {
            names.push(Learned { name, source, at });
        }
    }

    /// The names of an address.
    pub(crate) fn of(&self, address: IpAddr) -> Vec<&str> {
        let names = self.known.get(&address.to_canonical()).into_iter().flatten();
        names.map(|learned| learned.name.as_str()).collect()
    }

    /// Who is behind an address, when one of its names is a provider's.
    pub(crate) fn guess(
        &self,
        address: IpAddr,
        provider: impl Fn(&str) -> Option<String>,
        now: Moment,
    ) -> Option<Guess> {
        let names = self.known.get(&address.to_canonical())?;
        let of_provider = |learned: &&Learned| provider(&learned.name).is_some();
        let best = names.iter().filter(of_provider).max_by_key(|known| (known.source, known.at))?;
        let who = provider(&best.name);
        let is_shared = names.iter().any(|other| provider(&other.name) != who);
        let is_fresh = now.0.saturating_sub(best.at.0) <= TRUST_NANOS;
        let is_trusted = match best.source {
            Source::HostsFile => true,
            Source::Answer => is_fresh,
            // Nobody shares an address that is not routed: it stands for this name here.
            Source::Asked => is_private(address),
            Source::Sni => false,
        };
        let by = if is_trusted && !is_shared { By::Dns } else { By::Address };
        Some(Guess { name: best.name.clone(), by })
    }
}

/// Whether an address is of a private network or of this machine (RFC 1918, RFC 4193, RFC 6890).
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_private() || address.is_loopback() || address.is_link_local()
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENAI: &str = "api.openai.com";

    fn provider(name: &str) -> Option<String> {
        genai::Providers::default().of_host(name, None).map(str::to_owned)
    }

    fn guess(names: &[(&str, &str, Source)], address: &str, now: u64) -> Option<(String, By)> {
        let mut known = Names::default();
        for (name, address, source) in names {
            known.learn(name, address.parse().unwrap(), *source, Moment(1));
        }
        let guess = known.guess(address.parse().unwrap(), provider, Moment(now))?;
        Some((guess.name, guess.by))
    }

    #[test]
    fn an_answer_that_was_seen_names_an_address_while_nobody_shares_it() {
        let seen = [(OPENAI, "203.0.113.7", Source::Answer)];
        assert_eq!(guess(&seen, "203.0.113.7", 2), Some((OPENAI.to_owned(), By::Dns)));
        assert_eq!(guess(&seen, "::ffff:203.0.113.7", 2), Some((OPENAI.to_owned(), By::Dns)));
        assert_eq!(guess(&seen, "203.0.113.8", 2), None);
        let later = TRUST_NANOS + 2;
        assert_eq!(guess(&seen, "203.0.113.7", later), Some((OPENAI.to_owned(), By::Address)));
    }

    #[test]
    fn an_address_that_strangers_share_is_a_hint_and_no_more() {
        let shared = [
            (OPENAI, "203.0.113.7", Source::Answer),
            ("www.example.com", "203.0.113.7", Source::Sni),
        ];
        assert_eq!(guess(&shared, "203.0.113.7", 2), Some((OPENAI.to_owned(), By::Address)));
        let two = [
            ("generativelanguage.googleapis.com", "203.0.113.7", Source::Answer),
            ("storage.googleapis.com", "203.0.113.7", Source::Answer),
        ];
        assert_eq!(guess(&two, "203.0.113.7", 2).unwrap().1, By::Address);
        let ours = [
            (OPENAI, "203.0.113.7", Source::Answer),
            ("eu.api.openai.com", "203.0.113.7", Source::Answer),
        ];
        assert_eq!(guess(&ours, "203.0.113.7", 2).unwrap().1, By::Dns);
    }

    #[test]
    fn what_we_asked_ourselves_is_a_hint_where_the_address_is_public() {
        let asked = |address| guess(&[(OPENAI, address, Source::Asked)], address, 2).unwrap().1;
        assert_eq!((asked("203.0.113.7"), asked("10.1.2.3")), (By::Address, By::Dns));
        assert_eq!((asked("2001:db8::1"), asked("fd00::1")), (By::Address, By::Dns));
        let listed = |address| guess(&[(OPENAI, address, Source::HostsFile)], address, u64::MAX);
        assert_eq!(listed("203.0.113.7").unwrap().1, By::Dns);
        let sent = guess(&[(OPENAI, "10.1.2.3", Source::Sni)], "10.1.2.3", 2).unwrap();
        assert_eq!(sent.1, By::Address);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes() {
        let mut names = Names::default();
        let shared = "203.0.113.7".parse().unwrap();
        for number in 0..10_000_u32 {
            names.learn(OPENAI, IpAddr::from(number.to_be_bytes()), Source::Answer, Moment(1));
            names.learn(&format!("{number}.example"), shared, Source::Sni, Moment(1));
        }
        assert!(names.known.len() <= MAX_ADDRESSES && names.order.len() <= MAX_ADDRESSES);
        assert!(names.of(IpAddr::from(3_u32.to_be_bytes())).is_empty());
        assert_eq!(names.of(IpAddr::from(9_999_u32.to_be_bytes())), [OPENAI]);
        assert!(names.of(shared).len() <= MAX_NAMES);
    }
}
