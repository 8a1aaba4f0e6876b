//! gzip (RFC 1952) and deflate (RFC 1950, RFC 1951).

use flate2::{Decompress, FlushDecompress, Status};

use super::{Decoded, Sink, scratch};

/// A gzip body: one member after another. A body without the magic bytes is passed on as it is,
/// because some servers name a coding and send none.
pub(super) struct Gzip {
    state: State,
    flags: u8,
    inflate: Inflate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Magic bytes seen so far of a member; `first` is the first member.
    Magic {
        seen: u8,
        first: bool,
    },
    /// Fixed bytes of the header still to come, of which the second is the flags.
    Fixed(u8),
    /// Length of the extra field, low byte if known.
    ExtraLength(Option<u8>),
    Extra(u16),
    Name,
    Comment,
    Checksum(u8),
    Body,
    Trailer(u8),
    Identity,
    /// What follows the last member is not gzip and is ignored, as gzip itself does.
    Rest,
}

const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const CHECKSUM: u8 = 2;

impl Default for Gzip {
    fn default() -> Self {
        Self {
            state: State::Magic { seen: 0, first: true },
            flags: 0,
            inflate: Inflate::new(false),
        }
    }
}

impl Gzip {
    pub(super) fn feed(&mut self, mut bytes: &[u8], sink: Sink<'_>) -> Decoded {
        while let Some((byte, rest)) = bytes.split_first() {
            match self.state {
                State::Identity => return sink(bytes),
                State::Rest => return Decoded::Readable,
                State::Body => {
                    let Some((consumed, ended)) = self.inflate.run(bytes, sink) else {
                        return Decoded::Unreadable;
                    };
                    bytes = bytes.get(consumed..).unwrap_or_default();
                    if !ended {
                        return Decoded::Readable;
                    }
                    self.state = State::Trailer(8);
                }
                State::Magic { seen: 1, first: true } if *byte != 0x8b => {
                    self.state = State::Identity;
                    if sink(&[0x1f]) == Decoded::Unreadable {
                        return Decoded::Unreadable;
                    }
                }
                State::Magic { seen: 0, first: true } if *byte != 0x1f => {
                    self.state = State::Identity;
                }
                _ => {
                    self.header(*byte);
                    bytes = rest;
                }
            }
        }
        Decoded::Readable
    }

    fn header(&mut self, byte: u8) {
        self.state = match self.state {
            State::Magic { seen: 0, first } if byte == 0x1f => State::Magic { seen: 1, first },
            State::Magic { seen: 1, .. } if byte == 0x8b => State::Fixed(8),
            State::Magic { .. } => State::Rest,
            State::Fixed(left) => {
                if left == 7 {
                    self.flags = byte;
                }
                match left.saturating_sub(1) {
                    0 => self.after(0),
                    left => State::Fixed(left),
                }
            }
            State::ExtraLength(None) => State::ExtraLength(Some(byte)),
            State::ExtraLength(Some(low)) => match u16::from_le_bytes([low, byte]) {
                0 => self.after(EXTRA),
                length => State::Extra(length),
            },
            State::Extra(1) => self.after(EXTRA),
            State::Extra(left) => State::Extra(left.saturating_sub(1)),
            State::Name if byte == 0 => self.after(NAME),
            State::Comment if byte == 0 => self.after(COMMENT),
            State::Checksum(1) => self.after(CHECKSUM),
            State::Checksum(left) => State::Checksum(left.saturating_sub(1)),
            State::Trailer(1) => {
                self.inflate.reset();
                State::Magic { seen: 0, first: false }
            }
            State::Trailer(left) => State::Trailer(left.saturating_sub(1)),
            state => state,
        };
    }

    /// The state after an optional field; the fields come in this order.
    fn after(&self, field: u8) -> State {
        let order = [EXTRA, NAME, COMMENT, CHECKSUM];
        let done =
            order.iter().position(|each| *each == field).map_or(0, |index| index.saturating_add(1));
        match order.iter().skip(done).find(|each| self.flags & **each != 0) {
            Some(&EXTRA) => State::ExtraLength(None),
            Some(&NAME) => State::Name,
            Some(&COMMENT) => State::Comment,
            Some(_) => State::Checksum(2),
            None => State::Body,
        }
    }
}

/// A deflate body, with the zlib header that the standard asks for or, as some servers send it, without.
#[derive(Default)]
pub(super) struct Deflate {
    first: Option<u8>,
    inflate: Option<Inflate>,
    ended: bool,
}

impl Deflate {
    pub(super) fn feed(&mut self, bytes: &[u8], sink: Sink<'_>) -> Decoded {
        let mut rest = bytes;
        if self.inflate.is_none() {
            let Some((byte, after)) = rest.split_first() else { return Decoded::Readable };
            let Some(first) = self.first else {
                self.first = Some(*byte);
                return self.feed(after, sink);
            };
            // RFC 1950: method 8, and the two bytes are a multiple of 31.
            let zlib = first & 0x0f == 8 && u16::from_be_bytes([first, *byte]) % 31 == 0;
            self.inflate = Some(Inflate::new(zlib));
            if self.run(&[first], sink) == Decoded::Unreadable {
                return Decoded::Unreadable;
            }
            rest = bytes;
        }
        self.run(rest, sink)
    }

    fn run(&mut self, bytes: &[u8], sink: Sink<'_>) -> Decoded {
        let Some(inflate) = self.inflate.as_mut().filter(|_| !self.ended) else {
            return Decoded::Readable;
        };
        match inflate.run(bytes, sink) {
            Some((_, ended)) => {
                self.ended = ended;
                Decoded::Readable
            }
            None => Decoded::Unreadable,
        }
    }
}

struct Inflate {
    state: Decompress,
    scratch: Box<[u8]>,
}

impl Inflate {
    fn new(zlib: bool) -> Self {
        Self { state: Decompress::new(zlib), scratch: scratch() }
    }

    fn reset(&mut self) {
        self.state.reset(false);
    }

    /// Inflates `bytes`: how many were used, and whether the stream ended. `None` when it is broken.
    fn run(&mut self, mut bytes: &[u8], sink: Sink<'_>) -> Option<(usize, bool)> {
        let mut consumed: usize = 0;
        loop {
            let (read, wrote) = (self.state.total_in(), self.state.total_out());
            let status =
                self.state.decompress(bytes, &mut self.scratch, FlushDecompress::None).ok()?;
            let read = usize::try_from(self.state.total_in().saturating_sub(read)).ok()?;
            let wrote = usize::try_from(self.state.total_out().saturating_sub(wrote)).ok()?;
            consumed = consumed.saturating_add(read);
            bytes = bytes.get(read..)?;
            if wrote > 0 && sink(self.scratch.get(..wrote)?) == Decoded::Unreadable {
                return None;
            }
            if status == Status::StreamEnd {
                return Some((consumed, true));
            }
            // A full buffer may hide more output that needs no more input.
            if wrote < self.scratch.len() && (bytes.is_empty() || (read == 0 && wrote == 0)) {
                return bytes.is_empty().then_some((consumed, false));
            }
        }
    }
}
