//! What the kernel's rings hold becomes events, in the order of causes.

use super::{BATCH, Capture, ROLL_CALL_NANOS};
use crate::event::{Event, Plaintext, ProcessId, Start};
use crate::process;
use crate::record::{self, ProcessKind, TlsKind};
use crate::system;
use std::sync::mpsc;

impl Capture {
    /// Takes what the kernel has, in the order of causes: openings before processes, so that
    /// who connected is known by then; and what is said of processes before the bytes, to be
    /// told after those that were there by then.
    pub(super) fn read(&mut self) {
        let mut seen = self.node.take().into_iter().peekable();
        let processes =
            self.processes.as_ref().map(|processes| processes.read(usize::MAX)).unwrap_or_default();
        if processes.iter().any(|process| process.kind != ProcessKind::Exited) {
            self.tls.warm();
        }
        self.held.extend(processes);
        let more = self.read_tls();
        for record in std::mem::take(&mut self.held) {
            while let Some(before) = seen.next_if(|seen| seen.at() < record.at) {
                self.events.extend(self.node.tell(before));
            }
            // The last bytes of a process may be among those that wait in the ring.
            if more && record.kind != ProcessKind::Forked {
                self.held.push(record);
            } else {
                self.on_process(record);
            }
        }
        for seen in seen {
            self.events.extend(self.node.tell(seen));
        }
        self.read_mapped();
        if self.processes.is_none() {
            self.call_the_roll();
        }
    }

    /// Takes one batch of bytes; says whether there may be more.
    pub(super) fn read_tls(&mut self) -> bool {
        let Some(tls) = self.tls.programs() else { return false };
        let records = tls.programs.read(BATCH);
        let more = records.len() >= BATCH;
        for record in records {
            self.on_tls(record);
        }
        more
    }

    pub(super) fn on_tls(&mut self, record: record::Tls) {
        let record::Tls { watch, at, object, generation, kind } = record;
        // A watch that ended a moment ago: nobody wants its bytes.
        let Some(watch) = self.watches.by_id(watch) else { return };
        let connection = watch.connection(object, generation);
        if kind == TlsKind::Closed {
            if watch.closed(object, generation) {
                self.events.push_back(Event::Closed { connection, at });
            }
            return;
        }
        if let Some(before) = watch.seen(object, generation) {
            self.events.push_back(Event::Closed { connection: before, at });
        }
        self.events.push_back(match kind {
            TlsKind::Data { direction, offset, bytes } => {
                Event::Data(Plaintext { connection, at, direction, offset, bytes })
            }
            TlsKind::Named(server_name) => Event::Named { connection, at, server_name },
            TlsKind::Closed => return,
        });
    }

    pub(super) fn on_process(&mut self, record: record::Process) {
        self.node.learn(&record);
        let record::Process { at, process, parent, .. } = record;
        let how = match record.kind {
            ProcessKind::Forked => {
                if self.watches.of(parent.pid).is_some_and(|watch| watch.process == parent) {
                    self.inherit(process);
                }
                Start::Forked
            }
            ProcessKind::Executed => {
                // A watch that began after the exec is a watch of the new program.
                if self.watches.of(process.pid).is_some_and(|watch| watch.since < at) {
                    self.end(process.pid, at);
                }
                Start::Executed
            }
            ProcessKind::Exited => {
                if self.watches.of(process.pid).is_some_and(|watch| watch.process == process) {
                    self.end(process.pid, at);
                }
                self.events.push_back(Event::Exited { process, at });
                return;
            }
        };
        let watched = self.watches.contains(process.pid);
        self.events.push_back(Event::Started { process, parent, how, at, watched });
    }

    /// Ends the watches of processes that ended or run another program by now.
    pub(super) fn call_the_roll(&mut self) {
        let now = system::monotonic_nanos();
        if now.saturating_sub(self.last_roll_call) < ROLL_CALL_NANOS {
            return;
        }
        self.last_roll_call = now;
        for process in self.watches.processes() {
            if process::identity(process.pid) != Some(process) {
                self.end(process.pid, now);
                self.events.push_back(Event::Exited { process, at: now });
            }
        }
    }

    /// Watches a fork child. One that is gone already has nothing to read.
    pub(super) fn inherit(&mut self, process: ProcessId) {
        if self.watches.contains(process.pid) {
            return;
        }
        self.watches.begin(process, system::monotonic_nanos());
        if let Err(error) = self.attach_mapped(process.pid) {
            tracing::debug!(pid = process.pid, %error, "cannot look into a fork child");
        }
    }

    pub(super) fn end(&mut self, pid: u32, at: u64) {
        let Some(watch) = self.watches.end(pid) else { return };
        for connection in watch.open() {
            self.events.push_back(Event::Closed { connection, at });
        }
        if let Err(mpsc::SendError(watch)) = self.removals.send(watch) {
            drop(watch);
        }
    }
}
