//! Weighs what programs ask for: finds the program behind a process, tells relays from programs,
//! and hands on what counts. The edge around `asks` and `relays`.

use crate::asks::Ask;
use crate::clock::Now;
use crate::event_loop::{Notice, Notices, Sighting};
use crate::limits::{Loss, Losses};
use crate::names::is_private;
use crate::programs::Programs;
use crate::registry::Presence;
use crate::relays::{How, Question, Relay, Relays};
use crate::seen::{Heard, Seen};
use capture::{Caller, ProcessId};
use contract::workload::By;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use wire::Moment;
use workloads::{Program, Sockets, State};

/// Answers of "is this process behind this address" that are remembered.
const MAX_ANSWERS: usize = 2_048;

/// How long such an answer holds: a proxy listens before it is asked, and reading sockets has a
/// price for each of them.
const ANSWER_NANOS: u64 = 20 * 1_000_000_000;

/// Processes that asked for a name before, which may turn out to be relays.
const MAX_SUSPECTS: usize = 8;

/// The part of the pipeline that knows programs.
pub(crate) struct Witness {
    pub(crate) programs: Arc<Programs>,
    pub(crate) notices: Notices,
    pub(crate) losses: Arc<Losses>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) sockets: Sockets,
    relays: Relays,
    /// Who lately asked for a name, newest last.
    askers: HashMap<String, Vec<ProcessId>>,
    answers: HashMap<(ProcessId, SocketAddr), (bool, Moment)>,
}

impl Witness {
    pub(crate) fn new(
        programs: Arc<Programs>,
        notices: Notices,
        losses: Arc<Losses>,
        seen: Arc<Seen>,
        sockets: Sockets,
    ) -> Self {
        Self {
            programs,
            notices,
            losses,
            seen,
            sockets,
            relays: Relays::default(),
            askers: HashMap::new(),
            answers: HashMap::new(),
        }
    }

    /// Takes what a process asked for.
    pub(crate) fn take(&mut self, ask: Ask, caller: Option<&Caller>, now: Now) {
        let Some(provider) = ask.provider.clone() else {
            self.note(&ask, None, now);
            return;
        };
        if let Some(relay) = self.relay(&ask) {
            self.note(&ask, Some(in_words(&relay)), now);
            if relay.how == How::SameName {
                let Relay { process, name, .. } = relay;
                self.notices.send(Notice::Relays { process, name });
            }
            return;
        }
        if ask.by != By::Dns && ask.by != By::Address {
            self.asked(&ask, now);
        }
        let but = (ask.by == By::Address)
            .then(|| "the address alone names nobody: others may share it".to_owned());
        self.note(&ask, but, now);
        let Some((program, presence)) = self.program(&ask, caller) else {
            self.losses.add(Loss::ProgramGone, 1);
            return;
        };
        let seen = match ask.by {
            By::Dns | By::Address => format!("{} ({})", ask.name, ask.peer.ip()),
            _ => ask.name.clone(),
        };
        self.notices.send(Notice::Sighted(Sighting {
            program,
            presence,
            provider,
            model: None,
            by: ask.by,
            seen,
            at_unix_nanos: now.wall(ask.at),
        }));
    }

    /// A process ended, or runs another program now.
    pub(crate) fn ended(&mut self, process: ProcessId) {
        self.relays.ended(process);
    }

    fn note(&self, ask: &Ask, but: Option<String>, now: Now) {
        let at = now.wall(ask.at);
        self.seen.note(
            ask.process,
            Heard {
                name: ask.name.clone(),
                by: ask.by,
                peer: ask.peer.to_string(),
                provider: ask.provider.clone(),
                but,
                is_hidden: ask.is_hidden,
                first_unix_nanos: at,
                last_unix_nanos: at,
                count: 1,
            },
        );
    }

    /// Whether the process asks for another one.
    fn relay(&mut self, ask: &Ask) -> Option<Relay> {
        let name = host(&ask.name);
        let copy =
            ask.random.and_then(|random| self.relays.hello(ask.process, name, random, ask.at));
        if copy.is_some() {
            return copy;
        }
        let Self { relays, answers, sockets, .. } = self;
        // The answers are remembered behind the back of a question that only reads.
        let answers = std::cell::RefCell::new(answers);
        relays.asks(ask.process, name, ask.at, |question| {
            serves(sockets, &mut answers.borrow_mut(), ask.process, question)
        })
    }

    /// Remembers the question, and finds those that asked on before it was seen: a proxy may keep
    /// connections ready.
    fn asked(&mut self, ask: &Ask, now: Now) {
        let name = host(&ask.name).to_owned();
        let question =
            Question { process: ask.process, name: name.clone(), peer: ask.peer, at: ask.at };
        let suspects = self.askers.entry(name.clone()).or_default();
        let before: Vec<ProcessId> =
            suspects.iter().copied().filter(|it| *it != ask.process).collect();
        suspects.retain(|known| *known != ask.process);
        suspects.push(ask.process);
        if suspects.len() > MAX_SUSPECTS {
            suspects.remove(0);
        }
        if self.askers.len() > MAX_ANSWERS {
            self.askers.clear();
        }
        self.relays.asked(question.clone());
        for suspect in before {
            if serves(&self.sockets, &mut self.answers, suspect, &question)
                && let Some(relay) = self.relays.asks(suspect, &name, ask.at, |it| {
                    it.process == question.process && it.peer == question.peer
                })
            {
                let late = Ask { process: suspect, random: None, ..ask.clone() };
                self.note(&late, Some(in_words(&relay)), now);
                self.notices.send(Notice::Relays { process: suspect, name: name.clone() });
            }
        }
    }

    /// The program of a process; one that ended before it was read is known by what the kernel said.
    fn program(&self, ask: &Ask, caller: Option<&Caller>) -> Option<(Arc<Program>, Presence)> {
        let known = self.programs.of(ask.process);
        // A process that speaks TLS has its library by now, if it has one.
        let program = match known {
            Some(program) if program.instance.tls.is_none() => {
                self.programs.read(ask.process.pid).or(Some(program))
            }
            known => known,
        };
        if let Some(program) = program {
            return Some((program, Presence::Running));
        }
        let program = self.programs.unread(ask.process, caller?)?;
        Some((program, Presence::Gone))
    }
}

/// Whether a process is the one behind an address that another asked: it holds the other end of the
/// connection, or listens there.
fn serves(
    sockets: &Sockets,
    answers: &mut HashMap<(ProcessId, SocketAddr), (bool, Moment)>,
    process: ProcessId,
    question: &Question,
) -> bool {
    // Who is far away is not a process of this node.
    if !is_private(question.peer.ip()) {
        return false;
    }
    let asked = (process, question.peer);
    if let Some((answer, at)) = answers.get(&asked)
        && question.at.0.abs_diff(at.0) < ANSWER_NANOS
    {
        return *answer;
    }
    let is_there = |socket: workloads::Socket| match socket.state {
        State::Established => socket.local == question.peer,
        State::Listening => {
            socket.local == question.peer
                || (socket.local.port() == question.peer.port()
                    && socket.local.ip().is_unspecified()
                    && sockets.namespace_of(process.pid)
                        == sockets.namespace_of(question.process.pid))
        }
    };
    let answer = sockets.of_process(process.pid).into_iter().any(is_there);
    if answers.len() >= MAX_ANSWERS {
        answers.clear();
    }
    answers.insert(asked, (answer, question.at));
    answer
}

/// A name without its port, which CONNECT has and the server name has not.
fn host(name: &str) -> &str {
    name.rsplit_once(':')
        .filter(|(_, port)| port.parse::<u16>().is_ok())
        .map_or(name, |(host, _)| host)
}

fn in_words(relay: &Relay) -> String {
    let asker = relay.asker.pid;
    match relay.how {
        How::SameHello => {
            format!("passes on the connection of process {asker}: the same ClientHello")
        }
        How::SameName => format!("passes on what process {asker} asks it for: the same name"),
    }
}
