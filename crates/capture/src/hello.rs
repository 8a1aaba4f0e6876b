//! Reads the TLS `ClientHello` (RFC 8446 section 4.1.2, RFC 6066 section 3).
//!
//! Everything here is hostile input: any process of the node sends it. The pieces of a
//! connection are put in order by their place in the stream, within fixed bounds, and
//! parsed by functions that cannot fail but by saying "no hello".

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::event::{Event, ProcessId};
use crate::record::HelloPiece;

/// Connections whose hello is not complete yet; the oldest gives way.
const MAX_OPEN: usize = 256;
/// Bytes of one hello, records included; larger ones are not looked at. The kernel side
/// takes no more (`MAX_HELLO` in `bpf/hello.bpf.c`).
const MAX_HELLO: usize = 16 * 1024;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A whole `ClientHello`.
    Hello {
        /// The name asked for, lower case.
        server_name: Option<String>,
    },
    /// The start of one.
    Incomplete,
    /// Something else.
    Other,
}

/// Puts the pieces of hellos together.
#[derive(Debug, Default)]
pub(crate) struct Hellos {
    open: HashMap<u64, BTreeMap<u32, Vec<u8>>>,
    /// Sockets in order of their first piece.
    order: VecDeque<u64>,
}

impl Hellos {
    /// Adds a piece and returns the hello that it completes.
    pub(crate) fn add(&mut self, piece: HelloPiece) -> Option<Event> {
        let pieces = self.open.entry(piece.socket).or_insert_with(|| {
            self.order.push_back(piece.socket);
            BTreeMap::new()
        });
        if pieces.values().map(Vec::len).sum::<usize>() < 2 * MAX_HELLO {
            pieces.insert(piece.offset, piece.bytes);
        }
        let reading = read(&join(pieces));
        if reading != Reading::Incomplete {
            self.forget(piece.socket);
        } else if self.order.len() > MAX_OPEN
            && let Some(oldest) = self.order.front().copied()
        {
            self.forget(oldest);
        }
        let Reading::Hello { server_name } = reading else { return None };
        Some(Event::Hello {
            process: ProcessId::new(piece.pid, piece.start_time),
            at: piece.at,
            server_name,
            peer: piece.peer,
        })
    }

    fn forget(&mut self, socket: u64) {
        self.open.remove(&socket);
        self.order.retain(|known| *known != socket);
    }
}

/// The bytes from the first on, as far as they follow each other.
fn join(pieces: &BTreeMap<u32, Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (offset, piece) in pieces {
        let Ok(offset) = usize::try_from(*offset) else { break };
        // A retransmission may cover what is there already.
        let Some(known) = bytes.len().checked_sub(offset) else { break };
        bytes.extend_from_slice(piece.get(known..).unwrap_or_default());
    }
    bytes.truncate(MAX_HELLO);
    bytes
}

/// Reads the first bytes that a client sent.
pub(crate) fn read(bytes: &[u8]) -> Reading {
    let handshake = match handshake(bytes) {
        Some(handshake) => handshake,
        None => return Reading::Other,
    };
    if !matches!(handshake.first(), Some(1) | None) {
        return Reading::Other;
    }
    let mut fields = Fields(handshake.get(1..).unwrap_or_default());
    let incomplete = || {
        if bytes.len() >= MAX_HELLO { Reading::Other } else { Reading::Incomplete }
    };
    let Some(len) = fields.number(3) else { return incomplete() };
    if len > MAX_HELLO {
        return Reading::Other;
    }
    match fields.take(len) {
        None => incomplete(),
        Some(body) => match server_name(body) {
            Some(server_name) => Reading::Hello { server_name },
            None => Reading::Other,
        },
    }
}

/// The handshake bytes inside the TLS records; `None` when these are no such records.
fn handshake(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut handshake = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        // Type 22, version 3.x, length; a record that is cut short counts as far as it goes.
        if rest.first() != Some(&22) || !matches!(rest.get(1), Some(3) | None) {
            // After a whole hello anything may follow; it is judged by what came before.
            return (!handshake.is_empty()).then_some(handshake);
        }
        let Some(len) = rest.get(3..5) else { break };
        let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
        if len == 0 {
            return None;
        }
        let body = rest.get(5..).unwrap_or_default();
        handshake.extend_from_slice(body.get(..len).unwrap_or(body));
        rest = body.get(len..).unwrap_or_default();
    }
    Some(handshake)
}

/// The name in a hello's body; `None` when the body is malformed.
fn server_name(body: &[u8]) -> Option<Option<String>> {
    let mut fields = Fields(body);
    fields.take(2 + 32)?; // version, random
    fields.vector(1)?; // session id
    fields.vector(2)?; // cipher suites
    fields.vector(1)?; // compression methods
    if fields.0.is_empty() {
        return Some(None);
    }
    let mut extensions = Fields(fields.vector(2)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let content = extensions.vector(2)?;
        if kind != 0 {
            continue;
        }
        let mut names = Fields(Fields(content).vector(2)?);
        while !names.0.is_empty() {
            let kind = names.number(1)?;
            let name = names.vector(2)?;
            if kind == 0 {
                return Some(host(name));
            }
        }
    }
    Some(None)
}

/// A host name, or nothing when it is none: RFC 6066 allows ASCII only.
fn host(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let whole = (1..=253).contains(&name.len()) && name.bytes().all(allowed);
    whole.then(|| name.trim_end_matches('.').to_ascii_lowercase())
}

/// Takes fields off the front of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of up to three bytes.
    fn number(&mut self, len: usize) -> Option<usize> {
        Some(self.take(len)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Bytes preceded by their length.
    fn vector(&mut self, len: usize) -> Option<&'a [u8]> {
        let len = self.number(len)?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests;
