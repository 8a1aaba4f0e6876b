//! Replaces credentials in what a recording keeps.

use std::collections::HashMap;

use crate::Direction;
use crate::head::is_secret;

/// Longest header name that can name a credential.
const MAX_NAME: usize = 32;

/// Beginnings of the keys that providers hand out, and how long such a key is at least.
const KEYS: [(&[u8], usize); 6] =
    [(b"sk-", 16), (b"AIza", 20), (b"gsk_", 16), (b"xai-", 16), (b"hf_", 16), (b"AKIA", 16)];

/// One mask for each direction of each connection, because a header may be split over chunks.
#[derive(Debug, Default)]
pub(super) struct Masks(HashMap<(u64, Direction), Mask>);

#[derive(Debug, Default)]
struct Mask {
    /// Name of the header, as far as the line was seen; empty from the colon on.
    name: Vec<u8>,
    place: Place,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Name,
    Value,
    Secret,
    /// At the start of the line after a secret; it may be continued there.
    AfterSecret,
}

impl Masks {
    pub(super) fn mask(&mut self, connection: u64, direction: Direction, bytes: &[u8]) -> Vec<u8> {
        let mask = self.0.entry((connection, direction)).or_default();
        let mut masked: Vec<u8> = bytes.iter().map(|byte| mask.byte(*byte)).collect();
        mask_keys(&mut masked);
        masked
    }
}

impl Mask {
    fn byte(&mut self, byte: u8) -> u8 {
        if byte == b'\n' {
            self.place = if self.place == Place::Secret { Place::AfterSecret } else { Place::Name };
            self.name.clear();
            return byte;
        }
        if self.place == Place::AfterSecret {
            self.place = if matches!(byte, b' ' | b'\t') { Place::Secret } else { Place::Name };
        }
        match self.place {
            Place::Secret if !matches!(byte, b'\r' | b' ') => return b'x',
            Place::Name if byte == b':' => {
                let name = String::from_utf8_lossy(self.name.trim_ascii()).to_ascii_lowercase();
                self.place = if is_secret(&name) { Place::Secret } else { Place::Value };
            }
            Place::Name if self.name.len() < MAX_NAME => self.name.push(byte),
            Place::Name => self.place = Place::Value,
            Place::Value | Place::Secret | Place::AfterSecret => {}
        }
        byte
    }
}

fn mask_keys(bytes: &mut [u8]) {
    for (prefix, least) in KEYS {
        let mut from = 0;
        while let Some(found) =
            bytes.get(from..).and_then(|rest| memchr::memmem::find(rest, prefix))
        {
            let start = from.saturating_add(found);
            let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let Some(rest) = bytes.get_mut(start..) else { return };
            let length = rest.iter().take_while(|byte| is_key(byte)).count();
            if length >= least {
                rest.iter_mut().take(length).skip(prefix.len()).for_each(|byte| *byte = b'x');
            }
            from = start.saturating_add(length.max(1));
        }
    }
}
