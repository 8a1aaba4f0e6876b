//! Puts together what the kernel saw of the first bytes of connections.
//!
//! The pieces of a connection are put in order by their place in the stream, within fixed
//! bounds; what they are is told by [`hello`](crate::hello), or by an empty line.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::event::Payload;
use crate::hello::{self, Hello, MAX_HELLO, Reading};
use crate::record::Piece;

/// Openings that are not complete yet; the oldest gives way. Together with `MAX_HELLO` it
/// bounds the memory to 8 MiB.
const MAX_OPEN: usize = 256;
/// Bytes of a request that are taken, as the kernel side does (`MAX_REQUEST` in
/// `bpf/opening.bpf.c`).
const MAX_REQUEST: usize = 2048;

/// Openings that are not complete yet.
#[derive(Debug, Default)]
pub(crate) struct Openings {
    /// By socket, and what is looked for: a tunnel has a request and then a hello.
    open: HashMap<(u64, Kind), BTreeMap<u32, Payload>>,
    /// In order of their first piece.
    order: VecDeque<(u64, Kind)>,
    /// Those that gave way.
    pub(crate) evicted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Hello,
    Request,
}

impl Openings {
    /// Adds a piece and returns the hello that it completes.
    pub(crate) fn hello(&mut self, piece: Piece) -> Option<Hello> {
        let key = (piece.socket, Kind::Hello);
        let reading = hello::read(&self.add(key, piece, MAX_HELLO));
        if reading != Reading::Incomplete {
            self.forget(key);
        }
        match reading {
            Reading::Hello(hello) => Some(hello),
            Reading::Incomplete | Reading::Other => None,
        }
    }

    /// Adds a piece and returns the head of the request that it completes, or as much of it as
    /// is ever taken.
    pub(crate) fn request(&mut self, piece: Piece) -> Option<Payload> {
        let key = (piece.socket, Kind::Request);
        // Bytes go out in order: what comes later is the body of a request that is complete.
        if piece.offset != 0 && !self.open.contains_key(&key) {
            return None;
        }
        let bytes = self.add(key, piece, MAX_REQUEST);
        let end = head_len(&bytes).or((bytes.len() >= MAX_REQUEST).then_some(MAX_REQUEST))?;
        self.forget(key);
        bytes.get(..end).map(Payload::from)
    }

    /// Keeps a piece, and returns all bytes from the first on that are known.
    fn add(&mut self, key: (u64, Kind), piece: Piece, limit: usize) -> Vec<u8> {
        if !self.open.contains_key(&key) {
            if self.order.len() >= MAX_OPEN
                && let Some(oldest) = self.order.pop_front()
            {
                self.open.remove(&oldest);
                self.evicted += 1;
            }
            self.order.push_back(key);
        }
        let pieces = self.open.entry(key).or_default();
        let held: usize = pieces.values().map(Payload::len).sum();
        let longest = pieces.get(&piece.offset).map_or(0, Payload::len);
        // A part that is sent again may be shorter than what is there.
        if piece.bytes.len() > longest && held < 2 * limit {
            pieces.insert(piece.offset, piece.bytes);
        }
        join(pieces, limit)
    }

    fn forget(&mut self, key: (u64, Kind)) {
        self.open.remove(&key);
        self.order.retain(|known| *known != key);
    }
}

/// Length of the head of a request, its empty line included.
fn head_len(bytes: &[u8]) -> Option<usize> {
    let ends = |end: &[u8]| bytes.windows(end.len()).position(|window| window == end);
    let crlf = ends(b"\r\n\r\n").map(|at| at + 4);
    let lf = ends(b"\n\n").map(|at| at + 2);
    crlf.into_iter().chain(lf).min()
}

/// The bytes from the first on, as far as they follow each other.
fn join(pieces: &BTreeMap<u32, Payload>, limit: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (offset, piece) in pieces {
        let Ok(offset) = usize::try_from(*offset) else { break };
        // A retransmission may cover what is there already.
        let Some(known) = bytes.len().checked_sub(offset) else { break };
        bytes.extend_from_slice(piece.as_bytes().get(known..).unwrap_or_default());
    }
    bytes.truncate(limit);
    bytes
}

#[cfg(test)]
mod tests;
