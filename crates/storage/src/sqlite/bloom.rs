//! Which ids may be in a set: says no for sure, and yes with few mistakes (Bloom, 1970). Pure.

/// Bits for each id that is expected, and how many of them an id sets.
#[derive(Debug, Clone, Copy)]
struct Density {
    bits: usize,
    set: usize,
}

/// Beside a block, where each bit is one on disk: about one mistake in 100.
const KEPT: Density = Density { bits: 12, set: 6 };

/// In memory: one in some 100,000. A mistake there costs a look at every block of the day.
const HELD: Density = Density { bits: 32, set: 12 };

/// All bits of an id are in one stretch of so many bytes: a line of the processor's cache.
const LINE: usize = 64;

/// A set of ids of a size that is known before, as kept beside a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bloom {
    bits: Vec<u8>,
}

/// A set of ids that grows. At the size of a day of ten million it takes 70 MB.
#[derive(Debug)]
pub(super) struct Growing {
    parts: Vec<Vec<u8>>,
    /// Ids that the last part was made for, and how many more of them it takes.
    room: usize,
    left: usize,
}

impl Bloom {
    pub(super) fn new(room: usize) -> Self {
        Self { bits: KEPT.empty(room) }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    pub(super) fn add(&mut self, hash: u64) {
        KEPT.add(&mut self.bits, hash);
    }
}

/// Whether an id may be in the set that [`Bloom::as_bytes`] is of.
pub(super) fn may_have(bits: &[u8], hash: u64) -> bool {
    KEPT.may_have(bits, hash)
}

impl Growing {
    pub(super) fn new(room: usize) -> Self {
        let room = room.max(1 << 16);
        Self { parts: vec![HELD.empty(room)], room, left: room }
    }

    pub(super) fn add(&mut self, hash: u64) {
        if self.left == 0 {
            self.room *= 2;
            self.left = self.room;
            self.parts.push(HELD.empty(self.room));
        }
        self.left -= 1;
        if let Some(last) = self.parts.last_mut() {
            HELD.add(last, hash);
        }
    }

    pub(super) fn may_have(&self, hash: u64) -> bool {
        self.parts.iter().rev().any(|part| HELD.may_have(part, hash))
    }
}

/// Ids may be counted up or chosen: this spreads them (the finaliser of `SplitMix64`).
pub(super) fn hash(trace: u128, span: u64) -> u64 {
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    #[expect(clippy::cast_possible_truncation, reason = "both halves, one after the other")]
    let (low, high) = (trace as u64, (trace >> 64) as u64);
    mix(mix(mix(low.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ high) ^ span)
}

impl Density {
    fn empty(self, room: usize) -> Vec<u8> {
        vec![0; (room * self.bits).div_ceil(8 * LINE).max(1) * LINE]
    }

    fn add(self, bits: &mut [u8], hash: u64) {
        for (byte, bit) in self.places(hash, bits.len()) {
            if let Some(byte) = bits.get_mut(byte) {
                *byte |= bit;
            }
        }
    }

    fn may_have(self, bits: &[u8], hash: u64) -> bool {
        let mut places = self.places(hash, bits.len());
        places.all(|(byte, bit)| bits.get(byte).is_none_or(|byte| byte & bit != 0))
    }

    fn places(self, hash: u64, len: usize) -> impl Iterator<Item = (usize, u8)> {
        let lines = len / LINE;
        // The upper bits choose the line, the lower the places in it.
        #[expect(clippy::cast_possible_truncation, reason = "less than the number of lines")]
        let line = ((u128::from(hash) * lines as u128) >> 64) as usize;
        let mut rest = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..self.set).map(move |_| {
            let bit = (rest >> 55) as usize;
            rest = rest.wrapping_mul(0xd129_0d3b_f4a1_2c75).wrapping_add(hash | 1);
            (line * LINE + bit / 8, 1 << (bit % 8))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Bloom, Growing, hash, may_have};

    #[test]
    fn what_was_added_is_found_and_little_else_is() {
        let mut small = Bloom::new(4096);
        let mut grown = Growing::new(0);
        for id in 0..300_000_u64 {
            if id < 4096 {
                small.add(hash(id.into(), 0));
            }
            grown.add(hash(id.into(), 1));
        }
        let small = small.as_bytes();
        assert!((0..4096).all(|id| may_have(small, hash(id, 0))));
        assert!((0..300_000).all(|id| grown.may_have(hash(id, 1))));
        let others = 1 << 40..(1 << 40) + 100_000_u128;
        let wrong = others.clone().filter(|id| may_have(small, hash(*id, 0))).count();
        assert!(wrong < 3000, "{wrong} of 100,000");
        let wrong = others.filter(|id| grown.may_have(hash(*id, 1))).count();
        assert!(wrong < 10, "{wrong} of 100,000");
    }
}
