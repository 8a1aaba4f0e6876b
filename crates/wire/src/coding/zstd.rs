//! zstd (RFC 8878).

use std::io::Read;

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{Decoded, Sink, scratch};

/// Largest window accepted; what RFC 9659 allows for the content coding.
const MAX_WINDOW: u64 = 8 << 20;

/// Length of a block header.
const BLOCK_HEADER: usize = 3;

/// A zstd body: one frame after another.
///
/// The decoder needs whole blocks, so up to 128 KiB of a block are held, and it
/// keeps back up to one window of output until the frame ends.
pub(super) struct Zstd {
    decoder: FrameDecoder,
    held: Vec<u8>,
    /// A frame has begun, and whether a checksum ends it.
    inside: bool,
    checksum: bool,
    scratch: Box<[u8]>,
}

impl Default for Zstd {
    fn default() -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self { decoder, held: Vec::new(), inside: false, checksum: false, scratch: scratch() }
    }
}

impl Zstd {
    pub(super) fn feed(&mut self, mut bytes: &[u8], sink: Sink<'_>) -> Decoded {
        loop {
            // How many bytes the next unit has is known from its first few.
            let Some(needed) = self.needed() else { return Decoded::Unreadable };
            let (front, rest) = bytes
                .split_at_checked(needed.saturating_sub(self.held.len()))
                .unwrap_or((bytes, &[]));
            self.held.extend_from_slice(front);
            bytes = rest;
            if self.held.len() < needed {
                return Decoded::Readable;
            }
            if self.needed() == Some(needed) && self.unit(sink) == Decoded::Unreadable {
                return Decoded::Unreadable;
            }
        }
    }

    /// Length of the frame header or block that is being held, as far as it can be told.
    fn needed(&self) -> Option<usize> {
        if !self.inside {
            return match self.held.as_slice() {
                [magic @ .., _]
                    if magic.len() >= 4 && !self.held.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) =>
                {
                    None
                }
                [_, _, _, _, descriptor, ..] => {
                    let single = descriptor & 0x20 != 0;
                    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3))?;
                    let size = match descriptor >> 6 {
                        0 => usize::from(single),
                        1 => 2,
                        2 => 4,
                        _ => 8,
                    };
                    5usize
                        .checked_add(usize::from(!single))?
                        .checked_add(*dictionary)?
                        .checked_add(size)
                }
                _ => Some(5),
            };
        }
        let [first, second, third, ..] = self.held.as_slice() else { return Some(BLOCK_HEADER) };
        let header = u32::from_le_bytes([*first, *second, *third, 0]);
        let run_length = (header >> 1) & 3 == 1;
        let size = if run_length { 1 } else { usize::try_from(header >> 3).ok()? };
        // A checksum follows the last block; the decoder reads the two together.
        let checksum = if header & 1 == 1 && self.checksum { 4 } else { 0 };
        (size <= 128 << 10).then(|| BLOCK_HEADER.saturating_add(size).saturating_add(checksum))
    }

    fn unit(&mut self, sink: Sink<'_>) -> Decoded {
        let held = std::mem::take(&mut self.held);
        if !self.inside {
            self.checksum = held.get(4).is_some_and(|descriptor| descriptor & 4 != 0);
            self.inside = self.decoder.reset(held.as_slice()).is_ok();
            return if self.inside { Decoded::Readable } else { Decoded::Unreadable };
        }
        let finished =
            self.decoder.decode_blocks(&mut held.as_slice(), BlockDecodingStrategy::UptoBlocks(1));
        let Ok(finished) = finished else { return Decoded::Unreadable };
        self.inside = !finished;
        while let Ok(length @ 1..) = self.decoder.read(&mut self.scratch) {
            let Some(piece) = self.scratch.get(..length) else { break };
            if sink(piece) == Decoded::Unreadable {
                return Decoded::Unreadable;
            }
        }
        Decoded::Readable
    }
}
