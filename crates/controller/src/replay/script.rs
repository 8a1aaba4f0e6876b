//! What is played when: the records of a recording as events of the kernel, in their time.

use capture::{ConnectionId, Direction, Event, Payload, Plaintext, ProcessId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use wire::transcript::Record;

/// When a record is played, and which moment it is said to be of.
///
/// Durations stay as they were recorded, whatever the speed. Played faster, the recording therefore
/// lies partly in the past, and ends now; no moment is ever in the future.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    speed: f64,
    /// Moment of the start of the recording, nanoseconds on the kernel's monotonic clock.
    start: u64,
}

impl Pace {
    /// For a recording of this length, played now.
    pub(super) fn new(speed: f64, length: u64, now: u64) -> Self {
        let speed = speed.clamp(0.01, 1_000.0);
        let played = Duration::from_nanos(length).div_f64(speed);
        let ahead = Duration::from_nanos(length).saturating_sub(played);
        let ahead = u64::try_from(ahead.as_nanos()).unwrap_or(u64::MAX);
        Self { speed, start: now.saturating_sub(ahead) }
    }

    /// Time from the start of playing to what is recorded `nanos` after the start of the recording.
    pub(super) fn due(self, nanos: u64) -> Duration {
        Duration::from_nanos(nanos).div_f64(self.speed)
    }

    /// The moment that it is said to be of, on the kernel's monotonic clock.
    pub(super) fn moment(self, nanos: u64) -> u64 {
        self.start.saturating_add(nanos)
    }
}

/// Nanoseconds since the start of the recording; declarations happen when they are read.
pub(super) fn at(record: &Record) -> u64 {
    match record {
        Record::Chunk { at, .. }
        | Record::Gap { at, .. }
        | Record::Close { at, .. }
        | Record::Exit { at, .. } => at.0,
        Record::Process { .. } | Record::Connection { .. } => 0,
    }
}

/// Turns records into the events that the kernel would have told.
#[derive(Debug)]
pub(super) struct Script {
    /// Which playing this is: connections of each are others.
    round: u64,
    connections: BTreeMap<u64, Line>,
}

/// A connection that is being played.
#[derive(Debug)]
struct Line {
    id: ConnectionId,
    server_name: Option<String>,
    port: u16,
    is_open: bool,
    sent: u64,
    received: u64,
}

impl Script {
    pub(super) fn new(round: u64) -> Self {
        Self { round, connections: BTreeMap::new() }
    }

    /// What the kernel would have told at this moment.
    pub(super) fn events(&mut self, record: &Record, moment: u64) -> Vec<Event> {
        match record {
            Record::Process { .. } => Vec::new(),
            Record::Connection { number, process, server_name, port } => {
                let id = ConnectionId {
                    process: process_id(*process),
                    object: *number,
                    generation: self.round,
                };
                let port = port.unwrap_or(443);
                let line = Line {
                    id,
                    server_name: server_name.clone(),
                    port,
                    is_open: false,
                    sent: 0,
                    received: 0,
                };
                self.connections.insert(*number, line);
                Vec::new()
            }
            Record::Chunk { connection, direction, bytes, .. } => {
                let Some(line) = self.connections.get_mut(connection) else { return Vec::new() };
                let mut events = line.open(moment);
                let (direction, position) = line.position(*direction);
                let offset = *position;
                *position = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                let bytes = Payload::from(bytes.as_slice());
                events.push(Event::Data(Plaintext {
                    connection: line.id,
                    at: moment,
                    direction,
                    offset,
                    bytes,
                }));
                events
            }
            Record::Gap { connection, direction, length, .. } => {
                let Some(line) = self.connections.get_mut(connection) else { return Vec::new() };
                let (_, position) = line.position(*direction);
                *position = position.saturating_add(*length);
                Vec::new()
            }
            Record::Close { connection, .. } => {
                let line = self.connections.remove(connection);
                line.map(|line| Event::Closed { connection: line.id, at: moment })
                    .into_iter()
                    .collect()
            }
            Record::Exit { process, .. } => {
                let process = process_id(*process);
                self.connections.retain(|_, line| line.id.process != process);
                vec![Event::Exited { process, at: moment }]
            }
        }
    }

    /// Processes whose connections are open at the end.
    pub(super) fn open_processes(self) -> BTreeSet<u32> {
        self.connections.into_values().map(|line| line.id.process.pid).collect()
    }
}

impl Line {
    /// What the kernel tells before the first bytes.
    fn open(&mut self, at: u64) -> Vec<Event> {
        if std::mem::replace(&mut self.is_open, true) {
            return Vec::new();
        }
        let Some(server_name) = self.server_name.clone() else { return Vec::new() };
        let peer = SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.port));
        let hello = Event::Hello {
            process: self.id.process,
            caller: Box::default(),
            at,
            server_name: Some(server_name.clone()),
            ech: false,
            random: 0,
            peer,
        };
        vec![hello, Event::Named { connection: self.id, at, server_name }]
    }

    fn position(&mut self, direction: wire::Direction) -> (Direction, &mut u64) {
        match direction {
            wire::Direction::Sent => (Direction::Sent, &mut self.sent),
            wire::Direction::Received => (Direction::Received, &mut self.received),
        }
    }
}

/// The id that a program of the recording has in events.
pub(super) fn process_id(number: u64) -> ProcessId {
    ProcessId::new(u32::try_from(number).unwrap_or(u32::MAX), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faster_playback_keeps_durations_and_says_nothing_of_the_future() {
        let (second, now) = (1_000_000_000, 500_000_000_000);
        for speed in [0.5, 1.0, 2.0, 50.0] {
            let pace = Pace::new(speed, 100 * second, now);
            assert_eq!(pace.moment(7 * second) - pace.moment(4 * second), 3 * second);
            let played = |at: u64| now + u64::try_from(pace.due(at).as_nanos()).unwrap();
            for at in [0, 30 * second, 100 * second] {
                assert!(pace.moment(at) <= played(at), "{speed} {at}");
            }
        }
    }
}
