//! brotli (RFC 7932).

use brotli_decompressor::{
    BrotliDecompressStream, BrotliResult, BrotliState, HuffmanCode, StandardAlloc,
};

use super::{Decoded, Sink, scratch};

/// A brotli body. Its window is at most 16 MiB, by the format.
pub(super) struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    scratch: Box<[u8]>,
    total: usize,
    ended: bool,
}

// The allocator serves all three kinds of memory that the decoder asks for.
const _: fn() = || {
    fn serves<T: brotli_decompressor::Allocator<HuffmanCode>>() {}
    serves::<StandardAlloc>();
};

impl Default for Brotli {
    fn default() -> Self {
        let state = BrotliState::new(
            StandardAlloc::default(),
            StandardAlloc::default(),
            StandardAlloc::default(),
        );
        Self { state, scratch: scratch(), total: 0, ended: false }
    }
}

impl Brotli {
    pub(super) fn feed(&mut self, bytes: &[u8], sink: Sink<'_>) -> Decoded {
        let (mut left, mut read) = (bytes.len(), 0);
        while !self.ended {
            let (mut room, mut wrote) = (self.scratch.len(), 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut read,
                bytes,
                &mut room,
                &mut wrote,
                &mut self.scratch,
                &mut self.total,
                &mut self.state,
            );
            let Some(piece) = self.scratch.get(..wrote) else { return Decoded::Unreadable };
            if wrote > 0 && sink(piece) == Decoded::Unreadable {
                return Decoded::Unreadable;
            }
            match result {
                BrotliResult::ResultSuccess => self.ended = true,
                BrotliResult::NeedsMoreInput => return Decoded::Readable,
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::ResultFailure => return Decoded::Unreadable,
            }
        }
        Decoded::Readable
    }
}
