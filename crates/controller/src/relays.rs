//! Which processes only pass on what other programs ask: proxies and sidecars. A value without I/O.
//!
//! Two things give a relay away. It sends the very `ClientHello` that another process of this node
//! sent before: the random in it (RFC 8446 section 4.1.2) is never the same twice. Or it
//! asks for a name right after another process asked the relay itself for the same name. A gateway
//! that asks models on its own behalf does neither, and stays a program.

use capture::ProcessId;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use wire::Moment;

/// Hellos that are remembered: those of some seconds on a very busy node.
const MAX_HELLOS: usize = 8_192;

/// How long after the first a copy of a hello can come; a proxy passes it on at once.
const COPY_NANOS: u64 = 30 * 1_000_000_000;

/// Questions that are remembered.
const MAX_QUESTIONS: usize = 1_024;

/// How long after the question a relay asks on: it may wait for a connection, not for long.
const ASK_ON_NANOS: u64 = 30 * 1_000_000_000;

/// Relays that are remembered, each for one name.
const MAX_RELAYS: usize = 1_024;

/// What is remembered of who asked for what.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    hellos: HashMap<u64, (ProcessId, Moment)>,
    hello_order: VecDeque<u64>,
    questions: VecDeque<Question>,
    /// Processes that are known to pass on a name, and for whom.
    known: VecDeque<Relay>,
}

/// Somebody asked an address for a name.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) process: ProcessId,
    pub(crate) name: String,
    /// Whom it connected to.
    pub(crate) peer: SocketAddr,
    pub(crate) at: Moment,
}

/// A process that passes a name on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relay {
    pub(crate) process: ProcessId,
    pub(crate) name: String,
    /// For whom.
    pub(crate) asker: ProcessId,
    pub(crate) how: How,
}

/// How a relay was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// It sent another's hello.
    SameHello,
    /// It was asked for the same name just before.
    SameName,
}

impl Relays {
    /// Notes a hello; tells when another process sent the same one before.
    pub(crate) fn hello(
        &mut self,
        process: ProcessId,
        name: &str,
        random: u64,
        at: Moment,
    ) -> Option<Relay> {
        if let Some((first, then)) = self.hellos.get(&random) {
            let is_copy = *first != process && at.0.saturating_sub(then.0) <= COPY_NANOS;
            let relay =
                Relay { process, name: name.to_owned(), asker: *first, how: How::SameHello };
            return is_copy.then_some(relay);
        }
        if self.hellos.len() >= MAX_HELLOS
            && let Some(oldest) = self.hello_order.pop_front()
        {
            self.hellos.remove(&oldest);
        }
        self.hellos.insert(random, (process, at));
        self.hello_order.push_back(random);
        None
    }

    /// Tells whether a process that asks for a name passes it on for another; `serves` says whether
    /// it is the process behind the address that was asked.
    ///
    /// What it finds is remembered as long as the process lives.
    pub(crate) fn asks(
        &mut self,
        process: ProcessId,
        name: &str,
        at: Moment,
        serves: impl Fn(&Question) -> bool,
    ) -> Option<Relay> {
        let is_known = |relay: &&Relay| relay.process == process && relay.name == name;
        if let Some(known) = self.known.iter().find(is_known) {
            return Some(known.clone());
        }
        let is_before = |question: &&Question| {
            question.name == name
                && question.process != process
                && at.0.saturating_sub(question.at.0) <= ASK_ON_NANOS
        };
        let question = self.questions.iter().rev().filter(is_before).find(|it| serves(it))?;
        let (name, asker) = (name.to_owned(), question.process);
        let relay = Relay { process, name, asker, how: How::SameName };
        if self.known.len() >= MAX_RELAYS {
            self.known.pop_front();
        }
        self.known.push_back(relay.clone());
        Some(relay)
    }

    /// Notes a question, so that who passes it on is recognised.
    pub(crate) fn asked(&mut self, question: Question) {
        let is_same = |known: &Question| {
            known.process == question.process
                && known.name == question.name
                && known.peer == question.peer
        };
        self.questions.retain(|known| !is_same(known));
        if self.questions.len() >= MAX_QUESTIONS {
            self.questions.pop_front();
        }
        self.questions.push_back(question);
    }

    /// Forgets a process that ended or runs another program now.
    pub(crate) fn ended(&mut self, process: ProcessId) {
        self.known.retain(|relay| relay.process != process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: ProcessId = ProcessId { pid: 7, start_time: 1 };
    const PROXY: ProcessId = ProcessId { pid: 8, start_time: 1 };
    const NAME: &str = "api.openai.com";

    fn question(process: ProcessId, peer: &str, at: u64) -> Question {
        Question { process, name: NAME.to_owned(), peer: peer.parse().unwrap(), at: Moment(at) }
    }

    #[test]
    fn the_later_of_two_that_send_one_hello_passes_it_on() {
        let mut relays = Relays::default();
        assert_eq!(relays.hello(APP, NAME, 1, Moment(5)), None);
        assert_eq!(relays.hello(APP, NAME, 1, Moment(6)), None, "a hello seen twice");
        let relay = relays.hello(PROXY, NAME, 1, Moment(7)).unwrap();
        assert_eq!((relay.process, relay.asker, relay.how), (PROXY, APP, How::SameHello));
        assert_eq!(relays.hello(PROXY, NAME, 2, Moment(8)), None, "its own call");
        assert_eq!(relays.hello(PROXY, NAME, 1, Moment(5 + COPY_NANOS + 1)), None);
    }

    #[test]
    fn who_is_asked_for_a_name_and_asks_for_it_passes_it_on() {
        let mut relays = Relays::default();
        let serves = |question: &Question| question.peer.port() == 3128;
        relays.asked(question(APP, "127.0.0.1:3128", 5));
        let relay = relays.asks(PROXY, NAME, Moment(6), serves).unwrap();
        assert_eq!((relay.asker, relay.how), (APP, How::SameName));
        let again = relays.asks(PROXY, NAME, Moment(ASK_ON_NANOS * 9), |_| false);
        assert_eq!(again, Some(relay), "remembered while it lives");
        relays.ended(PROXY);
        assert_eq!(relays.asks(PROXY, NAME, Moment(ASK_ON_NANOS * 9), serves), None);
    }

    #[test]
    fn a_gateway_that_asks_on_its_own_behalf_is_a_program() {
        let mut relays = Relays::default();
        let serves = |_: &Question| true;
        assert_eq!(relays.asks(PROXY, NAME, Moment(1), serves), None, "nobody asked it");
        let other = Question { name: "localhost".to_owned(), ..question(APP, "127.0.0.1:4000", 2) };
        relays.asked(other);
        assert_eq!(relays.asks(PROXY, NAME, Moment(3), serves), None, "another name");
        relays.asked(question(APP, "127.0.0.1:4000", 4));
        assert_eq!(relays.asks(PROXY, NAME, Moment(5), |_| false), None, "another was asked");
        assert_eq!(relays.asks(APP, NAME, Moment(5), serves), None, "nobody relays for itself");
        assert_eq!(relays.asks(PROXY, NAME, Moment(5 + ASK_ON_NANOS), serves), None, "too late");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut relays = Relays::default();
        for number in 0..20_000_u32 {
            let one = ProcessId { pid: number, start_time: 1 };
            relays.hello(one, NAME, u64::from(number), Moment(1));
            let asker = ProcessId { pid: number, start_time: 2 };
            relays.asked(question(asker, "127.0.0.1:1", 1));
            relays.asks(ProcessId { pid: number, start_time: 3 }, NAME, Moment(1), |_| true);
        }
        assert_eq!((relays.hellos.len(), relays.hello_order.len()), (MAX_HELLOS, MAX_HELLOS));
        assert_eq!((relays.questions.len(), relays.known.len()), (MAX_QUESTIONS, MAX_RELAYS));
    }
}
