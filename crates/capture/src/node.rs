//! What is seen of every process of the node, watched or not: how its connections open, and
//! which names it looks up.
//!
//! Each of the two has an object of its own, so that where the kernel refuses one the other
//! goes on.

use std::net::IpAddr;
use std::os::fd::RawFd;

use crate::answer;
use crate::callers::Callers;
use crate::cgroup::{self, Root};
use crate::event::Event;
use crate::kernel::{Fact, Standing};
use crate::opening::Openings;
use crate::programs::{self, Programs};
use crate::record::{self, OpeningKind, Process};

/// The objects, and what is half read.
#[derive(Debug)]
pub(crate) struct Node {
    openings: Option<Programs<record::Opening>>,
    answers: Option<Programs<record::Answer>>,
    pending: Openings,
    callers: Callers,
}

/// A record, not read yet.
#[derive(Debug)]
pub(crate) enum Seen {
    Opening(record::Opening),
    Answer(record::Answer),
}

/// What was not seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost {
    pub(crate) openings: u64,
    pub(crate) unfinished: u64,
    pub(crate) answers: u64,
    pub(crate) strangers: u64,
}

impl Node {
    /// Loads and attaches what this kernel allows, and says how it went.
    pub(crate) fn start(facts: &mut Vec<Fact>) -> Self {
        let root = cgroup::open().map_err(|error| format!("cgroup v2 cannot be reached: {error}"));
        let root = || root.as_ref().map_err(Clone::clone);
        let openings = Tier {
            name: "hello",
            good: "the first bytes of every connection are seen",
            lost: "the servers that programs ask for are not seen, and programs are found more \
                   slowly, through /proc",
        }
        .attach(root(), programs::openings, facts);
        let answers = Tier {
            name: "names",
            good: "the answers of name servers on port 53 are seen (names asked for over TLS or \
                   HTTPS are not)",
            lost: "names are not learned from what programs look up, so that a connection without \
                   a server name stays without one",
        }
        .attach(root(), programs::answers, facts);
        Self { openings, answers, pending: Openings::default(), callers: Callers::default() }
    }

    /// Whether the first bytes of connections are seen.
    pub(crate) fn sees_openings(&self) -> bool {
        self.openings.is_some()
    }

    /// Descriptors that become readable when there is something to [`take`](Self::take).
    pub(crate) fn fds(&self) -> impl Iterator<Item = RawFd> {
        let openings = self.openings.as_ref().map(Programs::fd);
        openings.into_iter().chain(self.answers.as_ref().map(Programs::fd))
    }

    /// Takes what the kernel has, in order of time.
    pub(crate) fn take(&self) -> Vec<Seen> {
        let openings = self.openings.iter().flat_map(|openings| openings.read(usize::MAX));
        let answers = self.answers.iter().flat_map(|answers| answers.read(usize::MAX));
        let mut seen: Vec<Seen> =
            openings.map(Seen::Opening).chain(answers.map(Seen::Answer)).collect();
        seen.sort_by_key(Seen::at);
        seen
    }

    /// Learns from a process that came or went. To be called with every record that is older
    /// than what is [told](Self::tell) next.
    pub(crate) fn learn(&mut self, record: &Process) {
        match (&record.program, record.kind) {
            (Some(program), _) => {
                self.callers.executed(record.process, record.parent, program);
            }
            (None, record::ProcessKind::Forked) => {
                self.callers.forked(record.process, record.parent);
            }
            (None, _) => {}
        }
    }

    /// Reads a record, and returns what it completes.
    pub(crate) fn tell(&mut self, seen: Seen) -> Option<Event> {
        match seen {
            Seen::Opening(opening) => self.opening(opening),
            Seen::Answer(record::Answer { at, caller, message }) => {
                let answer::Answer { name, addresses } = answer::read(message.as_bytes())?;
                Some(Event::Resolved { process: caller.process, at, name, addresses })
            }
        }
    }

    fn opening(&mut self, opening: record::Opening) -> Option<Event> {
        let record::Opening { at, caller, peer, kind } = opening;
        let process = caller.process?;
        match kind {
            OpeningKind::Hello(piece) => {
                let hello = self.pending.hello(piece)?;
                Some(Event::Hello {
                    process,
                    caller: self.callers.of(process, caller),
                    at,
                    server_name: hello.server_name,
                    ech: hello.ech,
                    random: hello.random,
                    peer,
                })
            }
            OpeningKind::Request(piece) => {
                let bytes = self.pending.request(piece)?;
                let caller = self.callers.of(process, caller);
                Some(Event::Opening { process, caller, at, peer, bytes })
            }
            OpeningKind::Connected => {
                let caller = self.callers.of(process, caller);
                Some(Event::Connected { process, caller, at, peer })
            }
        }
    }

    /// Adds addresses to those whose connections are told.
    pub(crate) fn interest(&self, addresses: &[IpAddr]) {
        let Some(openings) = &self.openings else { return };
        for address in addresses {
            let key = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            if let Err(error) = openings.set("interest", &key, &1_u32.to_ne_bytes()) {
                tracing::debug!(%error, "cannot add an address of interest");
            }
        }
    }

    /// What was not seen so far.
    pub(crate) fn lost(&self) -> Lost {
        Lost {
            openings: self.openings.as_ref().map_or(0, |object| object.lost(5) + object.lost(6)),
            unfinished: self.pending.evicted,
            strangers: self.openings.as_ref().map_or(0, |object| object.lost(7)),
            answers: self.answers.as_ref().map_or(0, |object| object.lost(5) + object.lost(6)),
        }
    }
}

impl Seen {
    /// When it was seen.
    pub(crate) fn at(&self) -> u64 {
        match self {
            Self::Opening(opening) => opening.at,
            Self::Answer(answer) => answer.at,
        }
    }
}

/// One of the objects, before it is loaded, with the words for how that goes.
struct Tier {
    name: &'static str,
    /// What works with it.
    good: &'static str,
    /// What is lost without it.
    lost: &'static str,
}

impl Tier {
    fn attach<T>(
        self,
        root: Result<&Root, String>,
        load: impl FnOnce(&Root) -> Result<Programs<T>, libbpf_rs::Error>,
        facts: &mut Vec<Fact>,
    ) -> Option<Programs<T>> {
        let Self { name, good, lost } = self;
        let loaded = root.and_then(|root| match load(root) {
            Ok(programs) => Ok((programs, root)),
            Err(error) => Err(format!("the kernel refused: {error:#}")),
        });
        let (programs, fact) = match loaded {
            Ok((programs, root)) if root.is_whole => (Some(programs), {
                let found = format!("{good}; {}", root.found);
                Fact { name, standing: Standing::Good, found, remedy: String::new() }
            }),
            Ok((programs, root)) => (Some(programs), {
                let found = format!("{}, and its root is not that of the node", root.found);
                let remedy = "only programs in this container are seen; give the controller the \
                              host's cgroup namespace, or the host's /sys/fs/cgroup"
                    .to_owned();
                Fact { name, standing: Standing::Limited, found, remedy }
            }),
            Err(found) => (None, {
                let remedy = format!(
                    "{lost}; run as root, or grant CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and in a \
                     container mount the host's /sys/fs/cgroup"
                );
                Fact { name, standing: Standing::Limited, found, remedy }
            }),
        };
        facts.push(fact);
        programs
    }
}
