//! One connection, read as calls to models.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use wire::{Chunk, Direction, Event, Moment, Part, Protocol, Side, Want};

use crate::exchange::{Exchange, Over};
use crate::{ModelCall, Providers};

/// What is known about a connection before its first byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hints {
    /// Server name that the program asked for (TLS SNI).
    pub server_name: Option<String>,
    /// Port that the program connected to.
    pub server_port: Option<u16>,
    /// Who serves models.
    pub providers: Providers,
}

/// What a connection is, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Not enough was seen, or nothing so far was a call to a model.
    Undecided,
    /// It carries calls to models.
    Model,
    /// It carries nothing that will ever be read here; nothing more is stored.
    Ignored,
}

/// Reads the calls to models on one connection.
pub struct Connection {
    hints: Hints,
    wire: wire::Connection,
    /// Exchanges that are not over, `None` where the request is surely no call; `wire` bounds how
    /// many there are at a time.
    exchanges: BTreeMap<u64, Option<Exchange>>,
    is_model: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("verdict", &self.verdict())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection of which nothing was seen yet.
    pub fn new(hints: Hints) -> Self {
        Self { hints, wire: wire::Connection::new(), exchanges: BTreeMap::new(), is_model: false }
    }

    /// Adds the next chunk seen in one direction and returns the calls that end with it.
    ///
    /// Bytes may be split anywhere: feeding them one at a time gives the same
    /// calls as feeding them at once. A call that spans a gap is returned
    /// [incomplete](ModelCall::incomplete) rather than dropped. Never fails.
    pub fn feed(&mut self, at: Moment, direction: Direction, chunk: Chunk<'_>) -> Vec<ModelCall> {
        let Self { hints, wire, exchanges, is_model } = self;
        let mut calls = Vec::new();
        wire.feed(at, direction, chunk, &mut |event| {
            take(hints, exchanges, &mut calls, (at, event))
        });
        *is_model |= !calls.is_empty() || exchanges.values().flatten().any(Exchange::is_sure);
        calls
    }

    /// The connection is over: unfinished exchanges come out as what they are.
    pub fn close(&mut self, at: Moment) -> Vec<ModelCall> {
        self.end(at, Over::Closed)
    }

    /// The program ended, and the connection with it: what was unfinished has the error
    /// `process_exit`.
    pub fn process_ended(&mut self, at: Moment) -> Vec<ModelCall> {
        self.end(at, Over::ProcessExit)
    }

    /// Whether this connection carries calls to models.
    pub fn verdict(&self) -> Verdict {
        match (self.is_model, self.wire.is_opaque()) {
            (true, _) => Verdict::Model,
            (false, true) => Verdict::Ignored,
            (false, false) => Verdict::Undecided,
        }
    }

    /// What is spoken here, so that the page can say why nothing is read.
    pub fn protocol(&self) -> Protocol {
        self.wire.protocol()
    }

    fn end(&mut self, at: Moment, over: Over) -> Vec<ModelCall> {
        let Self { hints, wire, exchanges, .. } = self;
        exchanges.values_mut().flatten().for_each(|exchange| exchange.over(over));
        let mut calls = Vec::new();
        wire.close(&mut |event| take(hints, exchanges, &mut calls, (at, event)));
        exchanges.clear();
        calls
    }
}

/// Takes one part of an exchange.
fn take(
    hints: &Hints,
    exchanges: &mut BTreeMap<u64, Option<Exchange>>,
    calls: &mut Vec<ModelCall>,
    (at, event): (Moment, Event<'_>),
) -> Want {
    let number = event.exchange;
    match (event.side, event.part) {
        (_, Part::Request(head, began)) => {
            let exchange = Exchange::of_request(hints, &head, began);
            let want = if exchange.is_some() { Want::Body } else { Want::End };
            exchanges.insert(number, exchange);
            return want;
        }
        (_, Part::Response(head, began)) => {
            let exchange = match exchanges.entry(number) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unseen) => unseen.insert(Exchange::of_answer(hints, began)),
            };
            let Some(exchange) = exchange else { return Want::End };
            exchange.answered(&head);
            return Want::Body;
        }
        (Side::Response, Part::End { ending, body_bytes }) => {
            if let Some(exchange) = exchanges.remove(&number).flatten() {
                calls.extend(exchange.into_call(at, ending, body_bytes));
            }
        }
        (side, part) => {
            if let Some(Some(exchange)) = exchanges.get_mut(&number) {
                exchange.take(at, side, &part);
            }
        }
    }
    Want::End
}
