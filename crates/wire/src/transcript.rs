//! Recordings: captured chunks with their times, as text that people can read and write.
//!
//! ```text
//! # client: openai 2.9 (Python 3.11)
//! @ process 1 name=chat.py runtime=cpython/3.11 args="python3 chat.py"
//! @ connection 1 process=1 sni=api.openai.com port=443
//! >>> 1 +0.000000000
//!   |POST /v1/chat/completions HTTP/1.1\r\n
//! <<< 1 +0.250000000
//!   |HTTP/1.1 200 OK\r\n
//! ~~~ 1 < 512 +0.5
//! @ close 1 +1.234567890
//! ```
//!
//! Header lines say where a recording comes from. Chunks are sent (`>>>`) or
//! received (`<<<`), `~~~` is a gap in one direction, times are seconds since
//! the start of the recording. A chunk is its body lines put together; `\r`,
//! `\n`, `\t`, `\\` and `\xNN` are escapes.

mod mask;

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::{Direction, Moment};
use mask::Masks;

/// A recording: where it comes from, and what was seen, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recording {
    /// Keys and values of the header.
    pub header: Vec<(String, String)>,
    /// What was seen, in the order of the file.
    pub records: Vec<Record>,
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A program.
    Process {
        /// Its number in this recording.
        number: u64,
        /// What it is called.
        name: String,
        /// Its runtime, such as `cpython/3.11`.
        runtime: Option<String>,
        /// Its command line.
        arguments: Option<String>,
    },
    /// A connection of a program.
    Connection {
        /// Its number in this recording.
        number: u64,
        /// The number of its program.
        process: u64,
        /// Server name that the program asked for (TLS SNI).
        server_name: Option<String>,
        /// Port that the program connected to.
        port: Option<u16>,
    },
    /// Bytes of a connection.
    Chunk {
        /// Number of the connection.
        connection: u64,
        /// When they passed, from the start of the recording.
        at: Moment,
        /// Which way.
        direction: Direction,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Bytes of a connection that were not seen.
    Gap {
        /// Number of the connection.
        connection: u64,
        /// When they passed, from the start of the recording.
        at: Moment,
        /// Which way.
        direction: Direction,
        /// How many.
        length: u64,
    },
    /// A connection is over.
    Close {
        /// Number of the connection.
        connection: u64,
        /// When, from the start of the recording.
        at: Moment,
    },
    /// A program ended, and its open connections with it.
    Exit {
        /// Number of the program.
        process: u64,
        /// When, from the start of the recording.
        at: Moment,
    },
}

/// A recording cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read line {line} of the recording: {problem}; {remedy}")]
pub struct Error {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}

/// What is wrong with a line, and what to do.
type Problem = (String, &'static str);

const RECORDS: &str =
    "a record begins with `#`, `@`, `>>>`, `<<<` or `~~~`, and a body line with two spaces and `|`";
const CHUNK: &str = "write `>>> CONNECTION +SECONDS` or `<<< CONNECTION +SECONDS`";
const GAP: &str = "write `~~~ CONNECTION > BYTES +SECONDS` or `~~~ CONNECTION < BYTES +SECONDS`";
const DECLARE: &str = "declare it before with an `@ process` or `@ connection` line";
const PROCESS: &str = "write `@ process NUMBER name=NAME runtime=RUNTIME args=\"COMMAND LINE\"`";
const CONNECTION: &str = "write `@ connection NUMBER process=NUMBER sni=NAME port=NUMBER`";
const CLOSE: &str = "write `@ close CONNECTION +SECONDS` or `@ exit PROCESS +SECONDS`";
const ESCAPES: &str = "escapes are `\\r`, `\\n`, `\\t`, `\\\\` and `\\xNN`";

/// Reads a recording.
///
/// # Errors
///
/// The first line that is not understood, with what is wrong and what to do.
pub fn parse(text: &str) -> Result<Recording, Error> {
    let mut recording = Recording::default();
    let mut declared = Declared::default();
    for (index, line) in text.lines().enumerate() {
        let outcome = parse_line(&mut recording, &mut declared, line);
        outcome.map_err(|(problem, remedy)| Error {
            line: index.saturating_add(1),
            problem,
            remedy,
        })?;
    }
    Ok(recording)
}

/// Writes a recording. Values of headers that carry credentials, and strings that look like keys,
/// are replaced by `x`, as many as there were bytes.
pub fn write(recording: &Recording) -> String {
    let mut text = String::new();
    let mut masks = Masks::default();
    for (key, value) in &recording.header {
        put(&mut text, format_args!("# {}: {}\n", one_line(key), one_line(value)));
    }
    for record in &recording.records {
        write_record(&mut text, record, &mut masks);
    }
    text
}

fn parse_line(
    recording: &mut Recording,
    declared: &mut Declared,
    line: &str,
) -> Result<(), Problem> {
    if let Some(body) = line.strip_prefix("  |") {
        let Some(Record::Chunk { bytes, .. }) = recording.records.last_mut() else {
            return Err(("a body line belongs to no chunk".to_owned(), CHUNK));
        };
        return unescape(body, bytes);
    }
    if line.trim().is_empty() {
        return Ok(());
    }
    let (sign, rest) = line.split_once(' ').unwrap_or((line, ""));
    let record = match sign {
        "#" => {
            let (key, value) = rest.split_once(':').unwrap_or((rest, ""));
            recording.header.push((key.trim().to_owned(), value.trim().to_owned()));
            return Ok(());
        }
        "@" => parse_declaration(rest)?,
        ">>>" | "<<<" => {
            let [connection, at] =
                words(rest).ok_or((format!("`{}` is no chunk", shown(line)), CHUNK))?;
            let direction = if sign == ">>>" { Direction::Sent } else { Direction::Received };
            Record::Chunk {
                connection: integer(connection)?,
                at: moment(at)?,
                direction,
                bytes: Vec::new(),
            }
        }
        "~~~" => {
            let wrong = || (format!("`{}` is no gap", shown(line)), GAP);
            let [connection, direction, length, at] = words(rest).ok_or_else(wrong)?;
            let direction = match direction {
                ">" => Direction::Sent,
                "<" => Direction::Received,
                _ => return Err(wrong()),
            };
            let (connection, length) = (integer(connection)?, integer(length)?);
            Record::Gap { connection, at: moment(at)?, direction, length }
        }
        _ => return Err((format!("`{}` is no record", shown(line)), RECORDS)),
    };
    declared.check(&record)?;
    recording.records.push(record);
    Ok(())
}

fn parse_declaration(rest: &str) -> Result<Record, Problem> {
    let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    match kind {
        "process" => {
            let mut pairs = pairs(rest, &["name", "runtime", "args"], PROCESS)?.into_iter();
            let name =
                pairs.next().flatten().ok_or(("a process has no name".to_owned(), PROCESS))?;
            let (runtime, arguments) = (pairs.next().flatten(), pairs.next().flatten());
            Ok(Record::Process { number: integer(number)?, name, runtime, arguments })
        }
        "connection" => {
            let mut pairs = pairs(rest, &["process", "sni", "port"], CONNECTION)?.into_iter();
            let process = pairs
                .next()
                .flatten()
                .ok_or(("a connection has no process".to_owned(), CONNECTION))?;
            let server_name = pairs.next().flatten();
            let port = pairs.next().flatten().map(|port| integer(&port)).transpose()?;
            let port = port.map(u16::try_from).transpose();
            let port = port.map_err(|error| (format!("a port is wrong: {error}"), CONNECTION))?;
            Ok(Record::Connection {
                number: integer(number)?,
                process: integer(&process)?,
                server_name,
                port,
            })
        }
        "close" | "exit" if number.is_empty() || rest.is_empty() => {
            Err((format!("`@ {kind}` lacks a number or a time"), CLOSE))
        }
        "close" => Ok(Record::Close { connection: integer(number)?, at: moment(rest)? }),
        "exit" => Ok(Record::Exit { process: integer(number)?, at: moment(rest)? }),
        _ => Err((
            format!("`@ {}` is no declaration", shown(kind)),
            "known are process, connection, close and exit",
        )),
    }
}

/// Numbers of the programs and connections that were declared so far.
#[derive(Debug, Default)]
struct Declared {
    processes: HashSet<u64>,
    connections: HashSet<u64>,
}

impl Declared {
    /// Refuses what was not declared before, and what was declared twice.
    fn check(&mut self, record: &Record) -> Result<(), Problem> {
        let unknown =
            |what: &str, number: &u64| Err((format!("there is no {what} {number}"), DECLARE));
        match record {
            Record::Process { number, .. } if !self.processes.insert(*number) => {
                Err((format!("process {number} is declared twice"), PROCESS))
            }
            Record::Connection { process, .. } | Record::Exit { process, .. }
                if !self.processes.contains(process) =>
            {
                unknown("process", process)
            }
            Record::Connection { number, .. } if !self.connections.insert(*number) => {
                Err((format!("connection {number} is declared twice"), CONNECTION))
            }
            Record::Chunk { connection, .. }
            | Record::Gap { connection, .. }
            | Record::Close { connection, .. }
                if !self.connections.contains(connection) =>
            {
                unknown("connection", connection)
            }
            _ => Ok(()),
        }
    }
}

/// The words of a line, if there are exactly as many.
fn words<const N: usize>(text: &str) -> Option<[&str; N]> {
    text.split_ascii_whitespace().collect::<Vec<_>>().try_into().ok()
}

/// Values of `key=value` pairs in the order of `keys`; a value may be in double quotes.
fn pairs(text: &str, keys: &[&str], remedy: &'static str) -> Result<Vec<Option<String>>, Problem> {
    let mut values = vec![None; keys.len()];
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) =
            rest.split_once('=').ok_or((format!("`{}` has no value", shown(rest)), remedy))?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                quoted.split_once('"').ok_or(("a quote is not closed".to_owned(), remedy))?
            }
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        let slot = keys.iter().position(|each| *each == key).and_then(|slot| values.get_mut(slot));
        let slot = slot.ok_or((format!("`{}` is no key", shown(key)), remedy))?;
        let mut unescaped = Vec::new();
        unescape(value, &mut unescaped)?;
        *slot = Some(String::from_utf8_lossy(&unescaped).into_owned());
        rest = after.trim_start();
    }
    Ok(values)
}

fn integer(text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|error| {
        (format!("`{}` is no number: {error}", shown(text)), "numbers are decimal and not negative")
    })
}

/// `+1.25` as a moment.
fn moment(text: &str) -> Result<Moment, Problem> {
    let wrong = || {
        (format!("`{}` is no time", shown(text)), "times are `+SECONDS`, with up to nine decimals")
    };
    let (seconds, decimals) = text
        .strip_prefix('+')
        .ok_or_else(wrong)?
        .split_once('.')
        .unwrap_or((text.strip_prefix('+').unwrap_or_default(), "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if decimals.len() > 9 || !digits(decimals) || !digits(seconds) {
        return Err(wrong());
    }
    let nanos = format!("{decimals:0<9}").parse::<u64>().ok().ok_or_else(wrong)?;
    let seconds = seconds.parse::<u64>().ok().ok_or_else(wrong)?;
    let moment = seconds.checked_mul(1_000_000_000).and_then(|seconds| seconds.checked_add(nanos));
    moment.map(Moment).ok_or_else(wrong)
}

fn unescape(text: &str, into: &mut Vec<u8>) -> Result<(), Problem> {
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            into.push(byte);
            continue;
        }
        into.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let value = digit(rest.next()).zip(digit(rest.next()));
                let value = value.map(|(high, low)| high.saturating_mul(16).saturating_add(low));
                let value = value.and_then(|value| u8::try_from(value).ok());
                value.ok_or(("an escape `\\x` lacks its two digits".to_owned(), ESCAPES))?
            }
            _ => return Err(("an escape is unknown".to_owned(), ESCAPES)),
        });
    }
    Ok(())
}

fn write_record(text: &mut String, record: &Record, masks: &mut Masks) {
    match record {
        Record::Process { number, name, runtime, arguments } => {
            put(text, format_args!("@ process {number}"));
            let pairs =
                [("name", Some(name)), ("runtime", runtime.as_ref()), ("args", arguments.as_ref())];
            pairs
                .into_iter()
                .for_each(|(key, value)| put_pair(text, key, value.map(String::as_str)));
            text.push('\n');
        }
        Record::Connection { number, process, server_name, port } => {
            put(text, format_args!("@ connection {number} process={process}"));
            put_pair(text, "sni", server_name.as_deref());
            put_pair(text, "port", port.map(|port| port.to_string()).as_deref());
            text.push('\n');
        }
        Record::Chunk { connection, at, direction, bytes } => {
            let sign = if *direction == Direction::Sent { ">>>" } else { "<<<" };
            put(text, format_args!("{sign} {connection} {}\n", Seconds(*at)));
            put_body(text, &masks.mask(*connection, *direction, bytes));
        }
        Record::Gap { connection, at, direction, length } => {
            let sign = if *direction == Direction::Sent { '>' } else { '<' };
            put(text, format_args!("~~~ {connection} {sign} {length} {}\n", Seconds(*at)));
        }
        Record::Close { connection, at } => {
            put(text, format_args!("@ close {connection} {}\n", Seconds(*at)));
        }
        Record::Exit { process, at } => {
            put(text, format_args!("@ exit {process} {}\n", Seconds(*at)));
        }
    }
}

/// Longest body line that is written, before its escapes.
const LINE: usize = 100;

fn put_body(text: &mut String, bytes: &[u8]) {
    for line in bytes.split_inclusive(|byte| *byte == b'\n').flat_map(|line| line.chunks(LINE)) {
        text.push_str("  |");
        escape(text, line);
        text.push('\n');
    }
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => put(text, format_args!("\\x{byte:02x}")),
        }
    }
}

fn put_pair(text: &mut String, key: &str, value: Option<&str>) {
    let Some(value) = value else { return };
    let mut escaped = String::new();
    escape(&mut escaped, value.as_bytes());
    let escaped = escaped.replace('"', "\\x22");
    let quote = if escaped.contains(' ') || escaped.is_empty() { "\"" } else { "" };
    put(text, format_args!(" {key}={quote}{escaped}{quote}"));
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string cannot fail");
}

struct Seconds(Moment);

impl std::fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nanos = std::time::Duration::from_nanos(self.0.0);
        write!(formatter, "+{}.{:09}", nanos.as_secs(), nanos.subsec_nanos())
    }
}

/// The beginning of a text, for a message.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests;
