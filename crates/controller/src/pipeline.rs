//! Events to sightings and model calls: finds the connection of each chunk, turns holes into gaps,
//! and feeds the decoder. A function of its events; the thread around it stands at the end.

use crate::clock::Now;
use crate::event_loop::{Notice, Notices, Sighting};
use crate::export::{Finished, Queue};
use crate::limits::{Loss, Losses};
use crate::programs::Programs;
use crate::record::Recorder;
use crate::watcher::{Events, Input};
use capture::{ConnectionId, Event, ProcessId};
use contract::workload::By;
use genai::{Connection, Hints, ModelCall, RecognisedBy, Verdict};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use wire::{Chunk, Direction, Moment, Protocol};

/// Connections that are decoded at once; each holds at most a few megabytes, most a few kilobytes.
const MAX_CONNECTIONS: usize = 8_192;

/// A stream may be silent while a model thinks; ten minutes were seen.
const MAX_SILENCE_NANOS: u64 = 20 * 60 * 1_000_000_000;

/// How often silent connections are looked for.
const SWEEP_EVERY_NANOS: u64 = 30 * 1_000_000_000;

/// What an event meant.
#[derive(Debug)]
pub(crate) enum Output {
    /// A process asked a known provider by name.
    Sighted { process: ProcessId, provider: &'static str, server_name: String, at: Moment },
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
    losses: Arc<Losses>,
}

#[derive(Debug)]
struct Reading {
    /// `None` when the connection is ignored: what is left is a place that says so.
    decoder: Option<Box<Connection>>,
    /// Whether the program named a known provider as the server.
    is_to_provider: bool,
    /// Position of the next byte that was written and read.
    sent: u64,
    received: u64,
    last: Moment,
}

impl Pipeline {
    pub(crate) fn new(losses: Arc<Losses>) -> Self {
        Self {
            connections: BTreeMap::new(),
            swept: Moment::default(),
            unwatched: HashSet::new(),
            losses,
        }
    }

    /// Takes the next event, and returns what it led to.
    pub(crate) fn take(&mut self, event: Event) -> Vec<Output> {
        match event {
            Event::Hello { process, at, server_name: Some(server_name), .. } => {
                let provider = genai::provider_of_host(&server_name);
                let sighted = provider.map(|provider| Output::Sighted {
                    process,
                    provider,
                    server_name,
                    at: Moment(at),
                });
                sighted.into_iter().collect()
            }
            Event::Data { connection, .. } | Event::Named { connection, .. }
                if self.unwatched.contains(&connection.process.pid) =>
            {
                Vec::new()
            }
            Event::Data { connection, at, direction, offset, bytes } => {
                self.data(connection, Moment(at), (direction, offset, bytes.as_bytes()))
            }
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
        let hints = Hints { server_name: Some(server_name), ..Hints::default() };
        self.connections.entry(id).or_insert_with(|| Reading::new(hints, at));
        outputs
    }

    fn data(
        &mut self,
        id: ConnectionId,
        at: Moment,
        (direction, offset, bytes): (capture::Direction, u64, &[u8]),
    ) -> Vec<Output> {
        let mut outputs = self.make_room(id, at);
        let reading =
            self.connections.entry(id).or_insert_with(|| Reading::new(Hints::default(), at));
        reading.last = at;
        let calls = reading.feed(at, (direction, offset, bytes));
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
        self.losses.add(Loss::ConnectionIdle, u64::try_from(ids.len()).unwrap_or_default());
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
        let is_to_provider =
            hints.server_name.as_deref().and_then(genai::provider_of_host).is_some();
        Self {
            decoder: Some(Box::new(Connection::new(hints))),
            is_to_provider,
            sent: 0,
            received: 0,
            last: at,
        }
    }

    /// Feeds the part of a chunk that is new, after the hole before it.
    fn feed(
        &mut self,
        at: Moment,
        (direction, offset, bytes): (capture::Direction, u64, &[u8]),
    ) -> Vec<ModelCall> {
        let (expected, direction) = match direction {
            capture::Direction::Sent => (&mut self.sent, Direction::Sent),
            capture::Direction::Received => (&mut self.received, Direction::Received),
        };
        let Some(decoder) = &mut self.decoder else { return Vec::new() };
        let mut calls = Vec::new();
        if let Some(hole) = offset.checked_sub(*expected).filter(|hole| *hole > 0) {
            calls = decoder.feed(at, direction, Chunk::Gap(hole));
        }
        let old = usize::try_from(expected.saturating_sub(offset)).unwrap_or(usize::MAX);
        let new = bytes.get(old..).unwrap_or_default();
        *expected =
            (*expected).max(offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX)));
        if !new.is_empty() {
            calls.extend(decoder.feed(at, direction, Chunk::Bytes(new)));
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
    pub(crate) programs: Arc<Programs>,
    pub(crate) notices: Notices,
    pub(crate) queue: Queue,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) ignore: Box<dyn Fn(ConnectionId) + Send>,
    pub(crate) losses: Arc<Losses>,
}

impl Loop {
    /// Runs until the other end of `events` is gone.
    pub(crate) fn run(mut self, events: &Events) {
        while let Ok(event) = events.next(Duration::from_secs(30)) {
            match event {
                Some(Input::Event(event)) => self.take(event),
                Some(Input::Watched(pid)) => self.pipeline.watched(pid),
                Some(Input::Unwatched(pid)) => self.pipeline.unwatched(pid),
                None => {
                    let outputs = self.pipeline.sweep(Now::read().monotonic);
                    self.carry_out(outputs);
                }
            }
        }
        // What is under way at a stop neither failed nor ended: nothing is said about it.
        if let Some(recorder) = &mut self.recorder {
            recorder.save();
        }
    }

    fn take(&mut self, event: Event) {
        if let Some(recorder) = &mut self.recorder {
            recorder.take(&event, &self.programs);
        }
        if let Event::Data { connection, offset: 0, .. } | Event::Named { connection, .. } = &event
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
        let outputs = self.pipeline.take(event);
        self.carry_out(outputs);
        if let Some(Notice::Started { process, .. } | Notice::Exited(process)) = &notice {
            self.programs.forget(process.pid);
        }
        if let Some(notice) = notice {
            self.notices.send(notice);
        }
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        let now = Now::read();
        for output in outputs {
            match output {
                Output::Sighted { process, provider, server_name, at } => {
                    self.sighted(process, (provider, By::Sni, server_name), now.wall(at));
                }
                Output::Called { process, call } => self.called(process, *call, now),
                Output::Ignored(connection) => (self.ignore)(connection),
                Output::Unreadable { process, why } => {
                    self.notices.send(Notice::Unreadable { process, why });
                }
            }
        }
    }

    fn sighted(
        &self,
        process: ProcessId,
        (provider, by, seen): (&str, By, String),
        at_unix_nanos: u64,
    ) {
        let known = self.programs.of(process);
        // A process that speaks TLS has its library by now, if it has one.
        let program = match known {
            Some(program) if program.instance.tls.is_none() => {
                self.programs.read(process.pid).or(Some(program))
            }
            known => known,
        };
        match program {
            Some(program) => self.notices.send(Notice::Sighted(Sighting {
                program,
                provider: provider.to_owned(),
                by,
                seen,
                at_unix_nanos,
            })),
            None => self.losses.add(Loss::ProgramGone, 1),
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
            provider: call.provider.clone(),
            by: By::Call,
            seen,
            at_unix_nanos: now.wall(call.ended),
        }));
        self.queue.push(Finished { program, call, now });
    }
}

#[cfg(test)]
mod tests;
