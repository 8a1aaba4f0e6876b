//! A recording of what is captured, for `sonde replay`: made on request alone, in a new file that
//! only its owner can read.
//!
//! The file holds prompts and answers. Keys and cookies are replaced where it is written, by
//! `wire::transcript`.

use crate::limits::{Loss, Losses};
use crate::programs::Programs;
use crate::progress::{Fresh, Progress};
use anyhow::Context as _;
use capture::{ConnectionId, Event, Plaintext, ProcessId};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use wire::Moment;
use wire::transcript::{Record, Recording};

/// Bytes of one recording; half an hour of a busy agent.
const MAX_BYTES: usize = 64 << 20;

/// Records of one recording.
const MAX_RECORDS: usize = 1 << 20;

/// How often what is new is written.
const SAVE_EVERY_NANOS: u64 = 2_000_000_000;

/// Collects what is captured, and writes it.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: File,
    recording: Recording,
    /// Moment of the first record; all times count from it.
    began: Option<Moment>,
    processes: HashMap<ProcessId, u64>,
    connections: HashMap<ConnectionId, Open>,
    bytes: usize,
    last_number: u64,
    saved_at: Moment,
    losses: Arc<Losses>,
}

/// A connection that is being recorded.
#[derive(Debug)]
struct Open {
    number: u64,
    progress: Progress,
}

impl Recorder {
    /// Makes the file.
    ///
    /// # Errors
    ///
    /// When it exists, or cannot be made.
    pub(crate) fn create(file: &Path, losses: Arc<Losses>) -> anyhow::Result<Self> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        let opened = opened.with_context(|| {
            format!("cannot make the recording `{}`; name a new file", file.display())
        })?;
        let header = vec![
            ("made by".to_owned(), concat!("sonde ", env!("CARGO_PKG_VERSION")).to_owned()),
            (
                "redactions".to_owned(),
                "keys and cookies; prompts and answers are as they were".to_owned(),
            ),
        ];
        Ok(Self {
            file: opened,
            recording: Recording { header, records: Vec::new() },
            began: None,
            processes: HashMap::new(),
            connections: HashMap::new(),
            bytes: 0,
            last_number: 0,
            saved_at: Moment(0),
            losses,
        })
    }

    /// Notes an event of a watched connection.
    pub(crate) fn take(&mut self, event: &Event, programs: &Programs) {
        match event {
            Event::Named { connection, server_name, .. } => {
                self.open(*connection, Some(server_name), programs);
            }
            Event::Data(data) => {
                if self.bytes.saturating_add(data.bytes.len()) > MAX_BYTES
                    || self.recording.records.len() >= MAX_RECORDS
                {
                    self.losses.add(Loss::RecordingLimit, 1);
                    return;
                }
                self.open(data.connection, None, programs);
                self.data(data);
                self.save_if_due(Moment(data.at));
            }
            Event::Closed { connection, at } => {
                if let Some(open) = self.connections.remove(connection) {
                    let at = self.since(*at);
                    self.recording.records.push(Record::Close { connection: open.number, at });
                }
            }
            Event::Exited { process, at } => {
                if let Some(number) = self.processes.remove(process) {
                    self.connections.retain(|id, _| id.process != *process);
                    let at = self.since(*at);
                    self.recording.records.push(Record::Exit { process: number, at });
                }
            }
            _ => {}
        }
    }

    fn since(&self, at: u64) -> Moment {
        Moment(at.saturating_sub(self.began.unwrap_or(Moment(at)).0))
    }

    /// Declares a connection, and its process, when they are new.
    fn open(&mut self, id: ConnectionId, server_name: Option<&str>, programs: &Programs) {
        if self.connections.contains_key(&id) {
            return;
        }
        let process = match self.processes.get(&id.process) {
            Some(number) => *number,
            None => self.declare_process(id.process, programs),
        };
        let number = self.number();
        self.connections.insert(id, Open { number, progress: Progress::default() });
        let server_name = server_name.map(str::to_owned);
        self.recording.records.push(Record::Connection {
            number,
            process,
            server_name,
            port: None,
        });
    }

    fn declare_process(&mut self, id: ProcessId, programs: &Programs) -> u64 {
        let number = self.number();
        self.processes.insert(id, number);
        let program = programs.of(id);
        let runtime = program.as_ref().and_then(|program| program.instance.runtime.clone());
        self.recording.records.push(Record::Process {
            number,
            name: program
                .as_ref()
                .map_or_else(|| "unknown".to_owned(), |program| program.name.clone()),
            runtime: runtime.map(|runtime| match runtime.version {
                Some(version) => format!("{}/{version}", runtime.name),
                None => runtime.name,
            }),
            arguments: program.map(|program| program.instance.arguments.join(" ")),
        });
        number
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn data(&mut self, data: &Plaintext) {
        let at = self.since(data.at);
        let Some(open) = self.connections.get_mut(&data.connection) else { return };
        let Fresh { direction, hole, bytes } = open.progress.take(data);
        let connection = open.number;
        if hole > 0 {
            self.recording.records.push(Record::Gap { connection, at, direction, length: hole });
        }
        self.bytes += bytes.len();
        self.recording.records.push(Record::Chunk {
            connection,
            at,
            direction,
            bytes: bytes.to_vec(),
        });
    }

    fn save_if_due(&mut self, at: Moment) {
        self.began.get_or_insert(at);
        if at.0.saturating_sub(self.saved_at.0) >= SAVE_EVERY_NANOS {
            self.saved_at = at;
            self.save();
        }
    }

    /// Writes the whole recording: what replaces keys has to see all of it.
    pub(crate) fn save(&mut self) {
        let text = wire::transcript::write(&self.recording);
        let written = self.file.rewind().and_then(|()| self.file.write_all(text.as_bytes()));
        if let Err(error) =
            written.and_then(|()| self.file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX)))
        {
            tracing::error!(%error, "cannot write the recording; make room in its directory, then record again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capture::{Direction, Payload};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_recording_is_new_private_and_without_keys() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("r.transcript");
        let programs = Programs::recorded(Vec::new());
        let mut recorder = Recorder::create(&file, Arc::default()).unwrap();
        assert!(Recorder::create(&file, Arc::default()).is_err(), "nothing is overwritten");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        let process = ProcessId::new(7, 0);
        let connection = ConnectionId { process, object: 1, generation: 1 };
        let text = b"POST / HTTP/1.1\r\nauthorization: Bearer sk-secretsecret\r\n\r\n";
        let data = |at, offset, bytes: &[u8]| {
            let bytes = Payload::from(bytes);
            Event::Data(Plaintext { connection, at, direction: Direction::Sent, offset, bytes })
        };
        recorder.take(
            &Event::Named { connection, at: 5, server_name: "api.openai.com".to_owned() },
            &programs,
        );
        recorder.take(&data(1_000_000_000, 0, text), &programs);
        recorder.take(&data(1_500_000_000, 1_000, b"rest"), &programs);
        recorder.take(&Event::Exited { process, at: 2_000_000_000 }, &programs);
        recorder.save();
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(!written.contains("secret"), "{written}");
        let recording = wire::transcript::parse(&written).unwrap();
        assert_eq!(recording.records.len(), 6, "{written}");
        assert!(
            matches!(
                recording.records[3],
                Record::Gap { length: 942, at: Moment(500_000_000), .. }
            ),
            "{written}"
        );
        assert!(
            matches!(recording.records[5], Record::Exit { at: Moment(1_000_000_000), .. }),
            "{written}"
        );
    }
}
