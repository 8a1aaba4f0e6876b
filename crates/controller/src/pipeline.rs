//! Events to model calls: finds the connection of each chunk, turns holes into gaps, and feeds the
//! decoder. A function of its events; the thread around it, which also hands on who asks whom, stands
//! at the end.

use crate::asks::{Asks, Contact};
use crate::clock::Now;
use crate::event_loop::{Notice, Notices, Sighting};
use crate::export::{Finished, Queue};
use crate::limits::{Loss, Losses};
use crate::names::Source;
use crate::programs::Programs;
use crate::progress::{Fresh, Progress};
use crate::record::Recorder;
use crate::registry::Presence;
use crate::watcher::{Events, Input};
use crate::witness::Witness;
use capture::{ConnectionId, Event, Plaintext, ProcessId};
use contract::workload::By;
use genai::{Connection, Hints, ModelCall, Providers, RecognisedBy, Verdict};
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use wire::{Chunk, Moment, Protocol, RequestHead};

/// Connections that are decoded at once; each holds at most a few megabytes, most a few kilobytes.
const MAX_CONNECTIONS: usize = 8_192;

/// A stream may be silent while a model thinks; ten minutes were seen.
const MAX_SILENCE_NANOS: u64 = 20 * 60 * 1_000_000_000;

/// How often silent connections are looked for.
const SWEEP_EVERY_NANOS: u64 = 30 * 1_000_000_000;

/// What an event meant.
#[derive(Debug)]
pub(crate) enum Output {
    /// A model call is complete.
    Called { process: ProcessId, call: Box<ModelCall> },
    /// A connection surely carries no model calls that can be read: nothing more of it is needed.
    Ignored(ConnectionId),
    /// A connection to a known provider speaks what cannot be read.
    Unreadable { process: ProcessId, why: &'static str },
}

/// The connections that are being read.
#[derive(Debug)]
pub(crate) struct Pipeline {
    connections: BTreeMap<ConnectionId, Reading>,
    swept: Moment,
    /// Processes that were watched: what still comes of them is a rest.
    unwatched: HashSet<u32>,
    providers: Providers,
    losses: Arc<Losses>,
}

#[derive(Debug)]
struct Reading {
    /// `None` when the connection is ignored: what is left is a place that says so.
    decoder: Option<Box<Connection>>,
    /// Whether the program named a known provider as the server.
    is_to_provider: bool,
    progress: Progress,
    last: Moment,
}

impl Pipeline {
    pub(crate) fn new(losses: Arc<Losses>, providers: Providers) -> Self {
        Self {
            connections: BTreeMap::new(),
            swept: Moment::default(),
            unwatched: HashSet::new(),
            providers,
            losses,
        }
    }

    /// Takes the next event, and returns what it led to.
    pub(crate) fn take(&mut self, event: Event) -> Vec<Output> {
        match event {
            Event::Data(Plaintext { connection, .. }) | Event::Named { connection, .. }
                if self.unwatched.contains(&connection.process.pid) =>
            {
                Vec::new()
            }
            Event::Data(data) => self.data(&data),
            Event::Named { connection, at, server_name } => {
                self.named(connection, Moment(at), server_name)
            }
            Event::Closed { connection, at } => self.closed(connection, Moment(at)),
            Event::Exited { process, at } => {
                self.unwatched.remove(&process.pid);
                self.exited(process, Moment(at))
            }
            _ => Vec::new(),
        }
    }

    /// A program says whom it asks before the first byte; later it is too late to matter.
    fn named(&mut self, id: ConnectionId, at: Moment, server_name: String) -> Vec<Output> {
        let outputs = self.make_room(id, at);
        let server_name = Some(server_name);
        let hints = Hints { server_name, ..self.hints() };
        self.connections.entry(id).or_insert_with(|| Reading::new(hints, at));
        outputs
    }

    fn data(&mut self, data: &Plaintext) -> Vec<Output> {
        let (id, at) = (data.connection, Moment(data.at));
        let mut outputs = self.make_room(id, at);
        let hints = self.hints();
        let reading = self.connections.entry(id).or_insert_with(|| Reading::new(hints, at));
        reading.last = at;
        let calls = reading.feed(data);
        outputs.extend(called(id, calls));
        if let Some(decoder) =
            reading.decoder.take_if(|decoder| decoder.verdict() == Verdict::Ignored)
        {
            outputs.push(Output::Ignored(id));
            if reading.is_to_provider {
                outputs.push(Output::Unreadable {
                    process: id.process,
                    why: unreadable(decoder.protocol()),
                });
            }
        }
        outputs
    }

    fn closed(&mut self, id: ConnectionId, at: Moment) -> Vec<Output> {
        let decoder = self.connections.remove(&id).and_then(|reading| reading.decoder);
        decoder.map_or_else(Vec::new, |mut decoder| called(id, decoder.close(at)))
    }

    /// A process that ended closed its connections without saying so.
    fn exited(&mut self, process: ProcessId, at: Moment) -> Vec<Output> {
        let first = ConnectionId { process, object: 0, generation: 0 };
        let of_process = self
            .connections
            .range(first..)
            .map(|(id, _)| *id)
            .take_while(|id| id.process == process);
        let ids: Vec<ConnectionId> = of_process.collect();
        let ended = |id: ConnectionId| {
            let decoder = self.connections.remove(&id).and_then(|reading| reading.decoder);
            decoder.map_or_else(Vec::new, |mut decoder| called(id, decoder.process_ended(at)))
        };
        ids.into_iter().flat_map(ended).collect()
    }

    /// Who serves models, from here on.
    pub(crate) fn set_providers(&mut self, providers: Providers) {
        self.providers = providers;
    }

    fn hints(&self) -> Hints {
        Hints { providers: self.providers.clone(), ..Hints::default() }
    }

    /// A process is watched from here on.
    pub(crate) fn watched(&mut self, pid: u32) {
        self.unwatched.remove(&pid);
    }

    /// A process is not watched any more: its calls go on unseen, so nothing is said about them.
    pub(crate) fn unwatched(&mut self, pid: u32) {
        if self.unwatched.len() >= MAX_CONNECTIONS {
            self.unwatched.clear();
        }
        self.unwatched.insert(pid);
        self.connections.retain(|id, _| id.process.pid != pid);
    }

    /// Ends silent connections now and then, and the most silent one when there are too many.
    fn make_room(&mut self, id: ConnectionId, now: Moment) -> Vec<Output> {
        let mut outputs = self.sweep(now);
        if self.connections.len() >= MAX_CONNECTIONS && !self.connections.contains_key(&id) {
            outputs.extend(self.give_up_one(now));
        }
        outputs
    }

    fn sweep(&mut self, now: Moment) -> Vec<Output> {
        if now.0.saturating_sub(self.swept.0) < SWEEP_EVERY_NANOS {
            return Vec::new();
        }
        self.swept = now;
        let is_silent =
            |reading: &Reading| now.0.saturating_sub(reading.last.0) > MAX_SILENCE_NANOS;
        let ids: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, reading)| is_silent(reading))
            .map(|(id, _)| *id)
            .collect();
        ids.into_iter().flat_map(|id| self.closed(id, now)).collect()
    }

    /// Gives up the connection that was silent for longest.
    fn give_up_one(&mut self, now: Moment) -> Vec<Output> {
        self.losses.add(Loss::ConnectionLimit, 1);
        let oldest =
            self.connections.iter().min_by_key(|(_, reading)| reading.last).map(|(id, _)| *id);
        oldest.map_or_else(Vec::new, |id| self.closed(id, now))
    }
}

impl Reading {
    fn new(hints: Hints, at: Moment) -> Self {
        let name = hints.server_name.as_deref();
        let is_to_provider = name.is_some_and(|name| hints.providers.of_host(name, None).is_some());
        Self {
            decoder: Some(Box::new(Connection::new(hints))),
            is_to_provider,
            progress: Progress::default(),
            last: at,
        }
    }

    /// Feeds the part of a chunk that is new, after the hole before it.
    fn feed(&mut self, data: &Plaintext) -> Vec<ModelCall> {
        let Some(decoder) = &mut self.decoder else { return Vec::new() };
        let Fresh { direction, hole, bytes } = self.progress.take(data);
        let mut calls = Vec::new();
        if hole > 0 {
            calls = decoder.feed(Moment(data.at), direction, Chunk::Gap(hole));
        }
        if !bytes.is_empty() {
            calls.extend(decoder.feed(Moment(data.at), direction, Chunk::Bytes(bytes)));
        }
        calls
    }
}

fn unreadable(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http2 => {
            "A connection of it speaks HTTP/2, which cannot be read yet; HTTP/1.1 can."
        }
        _ => "A connection of it speaks something other than HTTP/1.1, which cannot be read yet.",
    }
}

fn called(id: ConnectionId, calls: Vec<ModelCall>) -> Vec<Output> {
    calls
        .into_iter()
        .map(|call| Output::Called { process: id.process, call: Box::new(call) })
        .collect()
}

/// The pipeline with the ends that its outputs go to; to be run on a thread of its own.
pub(crate) struct Loop {
    pub(crate) pipeline: Pipeline,
    pub(crate) asks: Asks,
    pub(crate) witness: Witness,
    pub(crate) programs: Arc<Programs>,
    pub(crate) notices: Notices,
    pub(crate) queue: Queue,
    pub(crate) recorder: Option<Recorder>,
    /// Asks for connections to these addresses to be told.
    pub(crate) interest: Box<dyn Fn(Vec<IpAddr>) + Send>,
    pub(crate) ignore: Box<dyn Fn(ConnectionId) + Send>,
    pub(crate) losses: Arc<Losses>,
}

impl Loop {
    /// Runs until the other end of `events` is gone.
    pub(crate) fn run(mut self, events: &Events) {
        while let Ok(input) = events.next(self.patience()) {
            match input {
                Some(Input::Stop) => break,
                Some(input) => self.accept(input),
                None => {
                    let outputs = self.pipeline.sweep(Now::read().monotonic);
                    self.carry_out(outputs);
                }
            }
            self.look_at_the_silent();
        }
        // What is under way at a stop neither failed nor ended: nothing is said about it.
        if let Some(recorder) = &mut self.recorder {
            recorder.save();
        }
    }

    /// How long nothing is due.
    fn patience(&self) -> Duration {
        Duration::from_secs(if self.asks.is_waiting() { 1 } else { 30 })
    }

    fn accept(&mut self, input: Input) {
        match input {
            Input::Event(event) => self.take(event),
            Input::Watched(pid) => self.pipeline.watched(pid),
            Input::Unwatched(pid) => self.pipeline.unwatched(pid),
            Input::Providers(providers) => {
                self.pipeline.set_providers(providers.clone());
                self.asks.set_providers(providers);
            }
            Input::Learned { name, addresses, source, at } => {
                self.asks.resolved(&name, &addresses, source, at);
                self.tell_interest();
            }
            Input::Open(contact) => {
                if let Some(ask) = self.asks.by_address(contact) {
                    self.witness.take(ask, None, Now::read());
                }
            }
            Input::NamesOf(addresses, reply) => {
                let names = addresses.into_iter().map(|it| self.asks.names_of(it)).collect();
                // Whoever asked may be gone.
                drop(reply.try_send(names));
            }
            Input::Stop => {}
        }
    }

    /// Connections that have not said a name by now are taken by their addresses.
    fn look_at_the_silent(&mut self) {
        if self.asks.is_waiting() {
            let now = Now::read();
            for ask in self.asks.due(now.monotonic) {
                self.witness.take(ask, None, now);
            }
        }
    }

    /// Who asks whom, as far as an event tells.
    fn asked(&mut self, event: &Event) {
        let contact = |process: &ProcessId, peer: &SocketAddr, at: &u64| Contact {
            process: *process,
            peer: *peer,
            at: Moment(*at),
        };
        let (ask, caller) = match event {
            Event::Hello { process, caller, at, server_name, ech, random, peer } => {
                let contact = contact(process, peer, at);
                let ask = self.asks.hello(contact, server_name.clone(), *random, *ech);
                (ask, Some(caller))
            }
            Event::Opening { process, caller, at, peer, bytes } => {
                let ask = RequestHead::opening(bytes.as_bytes()).and_then(|head| {
                    let by = if head.is_tunnel() { By::Connect } else { By::Host };
                    Some(self.asks.request(contact(process, peer, at), head.server()?, by))
                });
                (ask, Some(caller))
            }
            Event::Resolved { at, name, addresses, .. } => {
                self.asks.resolved(name, addresses, Source::Answer, Moment(*at));
                (None, None)
            }
            Event::Connected { process, at, peer, .. } => {
                self.asks.connected(contact(process, peer, at));
                (None, None)
            }
            _ => return,
        };
        if let Some(ask) = ask {
            self.witness.take(ask, caller.map(|caller| &**caller), Now::read());
        }
        self.tell_interest();
    }

    /// Lets the kernel tell of connections to addresses that belong to providers.
    fn tell_interest(&mut self) {
        let learned = self.asks.take_learned();
        if !learned.is_empty() {
            (self.interest)(learned);
        }
    }

    fn take(&mut self, event: Event) {
        if let Some(recorder) = &mut self.recorder {
            recorder.take(&event, &self.programs);
        }
        if let Event::Data(Plaintext { connection, offset: 0, .. })
        | Event::Named { connection, .. } = &event
        {
            // A program that makes one call may be gone when it is complete: read it now.
            self.programs.of(connection.process);
        }
        let notice = match &event {
            Event::Started { process, parent, how, watched, .. } => Some(Notice::Started {
                process: *process,
                parent: *parent,
                how: *how,
                watched: *watched,
            }),
            Event::Exited { process, .. } => Some(Notice::Exited(*process)),
            _ => None,
        };
        self.asked(&event);
        let outputs = self.pipeline.take(event);
        self.carry_out(outputs);
        if let Some(Notice::Started { process, .. } | Notice::Exited(process)) = &notice {
            self.programs.forget(process.pid);
            self.witness.ended(*process);
        }
        if let Some(notice) = notice {
            self.notices.send(notice);
        }
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        let now = Now::read();
        for output in outputs {
            match output {
                Output::Called { process, call } => self.called(process, *call, now),
                Output::Ignored(connection) => (self.ignore)(connection),
                Output::Unreadable { process, why } => {
                    self.notices.send(Notice::Unreadable { process, why });
                }
            }
        }
    }

    fn called(&self, process: ProcessId, call: ModelCall, now: Now) {
        let Some(program) = self.programs.of(process) else {
            self.losses.add(Loss::ProgramGone, 1);
            return;
        };
        let seen = call.server_address.clone().unwrap_or_else(|| match call.recognised_by {
            RecognisedBy::Host => "host".to_owned(),
            RecognisedBy::Shape => "shape".to_owned(),
        });
        self.notices.send(Notice::Sighted(Sighting {
            program: Arc::clone(&program),
            presence: Presence::Running,
            provider: call.provider.clone(),
            model: call.request_model.clone().or_else(|| call.response_model.clone()),
            by: By::Call,
            seen,
            at_unix_nanos: now.wall(call.ended),
        }));
        self.queue.push(Finished { program, call, now });
    }
}

#[cfg(test)]
mod tests;
