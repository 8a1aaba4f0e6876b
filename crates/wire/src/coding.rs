//! Content codings, decoded as they pass.
//!
//! A decoder hands on what can be decoded so far with every piece it gets, so a
//! compressed event stream is read event by event. It holds the window of its
//! coding and one scratch buffer, whatever the body's size.

mod brotli;
mod gzip;
mod zstd;

use brotli::Brotli;
use gzip::{Deflate, Gzip};
use zstd::Zstd;

/// Codings on top of each other that are undone; more than anyone sends.
const MAX_STAGES: usize = 3;

/// Decoded bytes after which a body is not decoded further: a bomb costs this much time at most.
const MAX_DECODED: u64 = 1 << 30;

/// Size of the buffer that decoded bytes pass through.
const SCRATCH: usize = 16 << 10;

/// What became of a piece that was fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// All that could be decoded was handed on.
    Readable,
    /// The body cannot be decoded any further.
    Unreadable,
}

/// Undoes the codings of one body.
pub(crate) struct Decoder {
    /// In the order in which they are undone. Empty for an identity body.
    stages: Vec<Stage>,
    /// Set for good when a stage cannot go on.
    unreadable: bool,
    decoded: u64,
}

enum Stage {
    Gzip(Box<Gzip>),
    Deflate(Box<Deflate>),
    Brotli(Box<Brotli>),
    Zstd(Box<Zstd>),
}

impl Decoder {
    /// A decoder for the codings of a body, in the order in which they were applied.
    pub(crate) fn new(codings: impl Iterator<Item = String>) -> Self {
        let mut decoder = Self { stages: Vec::new(), unreadable: false, decoded: 0 };
        for coding in codings {
            let stage = match coding.as_str() {
                "identity" | "chunked" | "utf-8" => continue,
                "gzip" | "x-gzip" => Stage::Gzip(Box::default()),
                "deflate" => Stage::Deflate(Box::default()),
                "br" => Stage::Brotli(Box::default()),
                "zstd" => Stage::Zstd(Box::default()),
                _ => {
                    decoder.unreadable = true;
                    continue;
                }
            };
            decoder.stages.insert(0, stage);
        }
        decoder.unreadable |= decoder.stages.len() > MAX_STAGES;
        decoder
    }

    /// Decodes a piece and hands what comes out to `sink`, in pieces.
    pub(crate) fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) -> Decoded {
        if self.unreadable {
            return Decoded::Unreadable;
        }
        if self.stages.is_empty() {
            sink(bytes);
            return Decoded::Readable;
        }
        let decoded = &mut self.decoded;
        let outcome = run(&mut self.stages, bytes, &mut |piece| {
            *decoded = decoded.saturating_add(piece.len() as u64);
            if *decoded > MAX_DECODED {
                return Decoded::Unreadable;
            }
            sink(piece);
            Decoded::Readable
        });
        self.unreadable = outcome == Decoded::Unreadable;
        outcome
    }

    /// Tells the decoder that bytes are missing: a coded body cannot be read beyond.
    pub(crate) fn gap(&mut self) {
        self.unreadable |= !self.stages.is_empty();
    }
}

/// Where a stage puts what it decoded; it stops when told that nobody can read on.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Decoded;

fn run(stages: &mut [Stage], bytes: &[u8], sink: Sink<'_>) -> Decoded {
    let Some((first, rest)) = stages.split_first_mut() else { return sink(bytes) };
    let mut next = |piece: &[u8]| run(rest, piece, &mut *sink);
    match first {
        Stage::Gzip(stage) => stage.feed(bytes, &mut next),
        Stage::Deflate(stage) => stage.feed(bytes, &mut next),
        Stage::Brotli(stage) => stage.feed(bytes, &mut next),
        Stage::Zstd(stage) => stage.feed(bytes, &mut next),
    }
}

/// A scratch buffer for decoded bytes.
fn scratch() -> Box<[u8]> {
    vec![0; SCRATCH].into_boxed_slice()
}
