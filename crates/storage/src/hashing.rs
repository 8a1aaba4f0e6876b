//! Hashes for tables in memory that are asked many times for each call: keyed anew at each start,
//! so that no sender can choose what collides, and a multiplication for eight bytes. Pure.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashes that differ from those of every other one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keyed {
    start: u64,
    factor: u64,
}

impl Default for Keyed {
    fn default() -> Self {
        let random = RandomState::new();
        // Odd, so that it takes no bit away.
        Self { start: random.hash_one(0), factor: random.hash_one(1) | 1 }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding { sum: self.start, factor: self.factor }
    }
}

/// A running hash.
#[derive(Debug)]
pub(crate) struct Folding {
    sum: u64,
    factor: u64,
}

impl Hasher for Folding {
    fn finish(&self) -> u64 {
        self.sum
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.write_u64(u64::from_le_bytes(*word)));
        // What is left: the last eight bytes, some of them once more, or all of fewer.
        let rest = match (bytes.last_chunk(), bytes.first_chunk(), bytes.last_chunk()) {
            _ if rest.is_empty() => 0,
            (Some(last), _, _) => u64::from_le_bytes(*last),
            (None, Some(first), Some(last)) => {
                u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
            }
            _ => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        self.write_u64(rest);
        // Otherwise bytes that are there twice would be as if they were there once.
        self.write_usize(bytes.len());
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.sum ^ word) * u128::from(self.factor);
        let [low, high] = [product & u128::from(u64::MAX), product >> 64];
        // Both halves, each of which fits.
        self.sum = u64::try_from(low ^ high).unwrap_or(0).rotate_left(23);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u128(&mut self, word: u128) {
        let [low, high] = [word & u128::from(u64::MAX), word >> 64];
        [low, high].into_iter().for_each(|half| self.write_u64(u64::try_from(half).unwrap_or(0)));
    }

    fn write_i64(&mut self, word: i64) {
        self.write_u64(word.cast_unsigned());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::Keyed;
    use std::collections::HashSet;
    use std::hash::{BuildHasher, Hash};

    fn hashes<T: Hash>(of: impl Iterator<Item = T>) -> Vec<u64> {
        let keyed = Keyed::default();
        of.map(|value| keyed.hash_one(value)).collect()
    }

    #[test]
    fn what_differs_a_little_has_another_hash_in_all_its_bits() {
        let all = [
            hashes(0..100_000_u64),
            hashes((0..100_000_u64).map(|number| number << 40)),
            hashes((0..100_000_u128).map(|number| (number << 64, number as u64))),
            hashes((0..100_000).map(|number| format!("service-{number}"))),
            hashes((0..1000).map(|len| "\0".repeat(len))),
            hashes((0..1000_i64).map(|number| ("model", -number, 1))),
        ];
        for hashes in all {
            let different: HashSet<u64> = hashes.iter().copied().collect();
            assert_eq!(different.len(), hashes.len());
            // A table looks at the lowest bits and at the highest.
            for shift in [0, 56] {
                let mut counts = [0_usize; 256];
                hashes.iter().for_each(|hash| counts[(hash >> shift & 0xff) as usize] += 1);
                let most = counts.iter().max().copied().unwrap_or(0);
                let mean = hashes.len() / 256;
                assert!(most < 3 * mean + 30, "{most} of {mean}");
            }
        }
    }

    #[test]
    fn two_tables_hash_differently() {
        let (one, other) = (Keyed::default(), Keyed::default());
        assert!((0..64_u64).any(|value| one.hash_one(value) != other.hash_one(value)));
        assert_eq!(one.hash_one("a"), one.hash_one("a"));
    }
}
