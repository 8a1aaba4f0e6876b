//! A capture and all that it has told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use capture::{Capture, Config, ConnectionId, Direction, Event, Start};

/// Collects events until a test has what it waits for.
pub(crate) struct Watcher {
    pub(crate) capture: Capture,
    pub(crate) events: Vec<Event>,
}

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

impl Watcher {
    pub(crate) fn start(config: &Config) -> Self {
        let mut capture = Capture::start(config).expect("capture starts");
        // As a controller does as long as it has a wish to watch somebody.
        capture.make_ready(true);
        Self { capture, events: Vec::new() }
    }

    /// Reads on until `enough` is content with what was seen, or fails.
    pub(crate) fn until(&mut self, what: &str, enough: impl Fn(&[Event]) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !enough(&self.events) {
            assert!(Instant::now() < end, "no {what} within {PATIENCE:?}: {:?}", self.tail());
            self.events.extend(self.capture.next(Duration::from_millis(20)));
        }
    }

    /// Watches a process as soon as it is seen to execute its program.
    pub(crate) fn follow_exec(&mut self, pid: u32) {
        self.until("exec", |events| {
            events.iter().any(|event| {
                matches!(event, Event::Started { process, how: Start::Executed, .. }
                    if process.pid == pid)
            })
        });
        self.capture.watch(pid).expect("it runs");
    }

    /// Reads until nothing comes for a while.
    pub(crate) fn settle(&mut self, quiet: Duration) {
        // Other programs of the machine may never be quiet.
        let end = Instant::now() + 10 * quiet;
        while Instant::now() < end
            && let Some(event) = self.capture.next(quiet)
        {
            self.events.push(event);
        }
    }

    /// Waits for this many bytes of a process's only connection in one direction.
    pub(crate) fn stream(&mut self, pid: u32, direction: Direction, len: usize) -> Vec<u8> {
        self.until("stream", |events| {
            streams(events, pid, direction).values().any(|bytes| bytes.len() >= len)
        });
        streams(&self.events, pid, direction).into_values().next().unwrap_or_default()
    }

    fn tail(&self) -> &[Event] {
        &self.events[self.events.len().saturating_sub(12)..]
    }
}

/// The bytes of every connection of a process in one direction, without gaps.
pub(crate) fn streams(
    events: &[Event],
    pid: u32,
    wanted: Direction,
) -> BTreeMap<ConnectionId, Vec<u8>> {
    let mut streams: BTreeMap<ConnectionId, Vec<u8>> = BTreeMap::new();
    for event in events {
        if let Event::Data(data) = event
            && data.connection.process.pid == pid
            && data.direction == wanted
        {
            let stream = streams.entry(data.connection).or_default();
            assert_eq!(data.offset, stream.len() as u64, "a gap or a repetition");
            stream.extend_from_slice(data.bytes.as_bytes());
        }
    }
    streams
}

/// All bytes seen of a process.
pub(crate) fn bytes_of(events: &[Event], pid: u32) -> usize {
    events
        .iter()
        .map(|event| match event {
            Event::Data(data) if data.connection.process.pid == pid => data.bytes.len(),
            _ => 0,
        })
        .sum()
}
