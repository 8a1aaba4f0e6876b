//! `DDSketch`: percentiles of any number of values within 1 %, in bounded memory; two sketches
//! can be added, which no two percentiles can.
//!
//! Masson, Rim, Lee: "`DDSketch`: a fast and fully-mergeable quantile sketch with relative-error
//! guarantees" (VLDB 2019).

use std::collections::BTreeMap;

/// Largest relative error of a percentile.
const ALPHA: f64 = 0.01;
/// Ratio of the ends of a bin.
const GAMMA: f64 = (1.0 + ALPHA) / (1.0 - ALPHA);
/// No value has a bin beyond: the logarithm of the largest `u64`.
const MAX_BIN: usize = 2218;

/// Slots of a sketch above which all slots between the first and the last are held.
const FEW: usize = 24;

/// Percentiles of non-negative whole numbers. Every `u64` has one of about 2,200 slots, which
/// bounds the memory. Slot 0 is the zeros, slot `n + 1` is bin `n`.
#[derive(Debug, Clone)]
pub(crate) struct Sketch(Slots);

/// Most sums are of a few calls, and hold little; a sum of many is added to in its place.
#[derive(Debug, Clone)]
enum Slots {
    /// Slot and count, in order of slots; no count is zero.
    Few(Vec<(u16, u64)>),
    /// The first slot, and the counts from it on.
    Many(usize, Vec<u64>),
}

impl Default for Sketch {
    fn default() -> Self {
        Self(Slots::Few(Vec::new()))
    }
}

impl PartialEq for Sketch {
    fn eq(&self, other: &Self) -> bool {
        self.slots().eq(other.slots())
    }
}

impl Sketch {
    pub(crate) fn add(&mut self, value: u64) {
        let slot = if value == 0 { 0 } else { bin(value) + 1 };
        let _is_a_slot = self.add_slot(slot, 1);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            // Into the memory that is there.
            (Slots::Few(slots), Slots::Few(others)) if slots.is_empty() => {
                return slots.clone_from(others);
            }
            (Slots::Few(slots), Slots::Many(..)) if slots.is_empty() => {
                return self.0.clone_from(&other.0);
            }
            (Slots::Many(first, counts), Slots::Many(other_first, others)) => {
                widen((first, counts), *other_first, *other_first + others.len());
                let sums = counts.iter_mut().skip(*other_first - *first);
                return sums.zip(others).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
            }
            _ => {}
        }
        let mut near = 0;
        other.slots().for_each(|(slot, count)| {
            let _is_a_slot = self.add_slot_after(&mut near, slot, count);
        });
    }

    /// Takes everything away; the memory stays for what is added next.
    pub(crate) fn clear(&mut self) {
        match &mut self.0 {
            Slots::Few(slots) => slots.clear(),
            Slots::Many(..) => *self = Self::default(),
        }
    }

    /// Takes away what was added before.
    pub(crate) fn subtract(&mut self, other: &Self) {
        let mut left: BTreeMap<usize, u64> = self.slots().collect();
        for (slot, count) in other.slots() {
            left.entry(slot).and_modify(|sum| *sum = sum.saturating_sub(count));
        }
        *self = Self::default();
        for (slot, count) in left {
            let _is_a_slot = self.add_slot(slot, count);
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.slots().fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// What is needed to make the sketch anew: slot and count, in order of slots.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (usize, u64)> {
        let (few, first, many) = match &self.0 {
            Slots::Few(slots) => (slots.as_slice(), 0, &[][..]),
            Slots::Many(first, counts) => (&[][..], *first, counts.as_slice()),
        };
        let few = few.iter().map(|(slot, count)| (usize::from(*slot), *count));
        few.chain((first..).zip(many.iter().copied()).filter(|(_, count)| *count > 0))
    }

    /// Adds to a slot; false, and nothing added, when there is no such slot.
    #[must_use]
    pub(crate) fn add_slot(&mut self, slot: usize, count: u64) -> bool {
        let mut near = match &self.0 {
            Slots::Few(slots) => slots.partition_point(|(before, _)| usize::from(*before) < slot),
            Slots::Many(..) => 0,
        };
        self.add_slot_after(&mut near, slot, count)
    }

    /// As [`add_slot`](Self::add_slot), for slots that come in order: `near` is where the one before
    /// is, at first 0.
    #[must_use]
    #[inline]
    pub(crate) fn add_slot_after(&mut self, near: &mut usize, slot: usize, count: u64) -> bool {
        // Nearly all slots of nearly all sums that are added to are here.
        if let Slots::Many(first, counts) = &mut self.0
            && let Some(sum) = slot.checked_sub(*first).and_then(|at| counts.get_mut(at))
        {
            *sum = sum.saturating_add(count);
            return count > 0;
        }
        self.add_new_slot(near, slot, count)
    }

    /// Adds to so many slots from one on what `next` gives for each. `None` where it gives nothing,
    /// or there are no such slots.
    pub(crate) fn add_slots(
        &mut self,
        first: usize,
        len: usize,
        mut next: impl FnMut() -> Option<u64>,
    ) -> Option<()> {
        let end = first.checked_add(len).filter(|end| *end <= MAX_BIN + 2)?;
        if let Slots::Few(slots) = &self.0 {
            self.0 = if slots.is_empty() { Slots::Many(first, Vec::new()) } else { many(slots) };
        }
        let Slots::Many(start, counts) = &mut self.0 else { return None };
        widen((start, counts), first, end);
        for sum in counts.get_mut(first - *start..end - *start)? {
            *sum = sum.saturating_add(next()?);
        }
        Some(())
    }

    fn add_new_slot(&mut self, near: &mut usize, slot: usize, count: u64) -> bool {
        let Some(key) = u16::try_from(slot).ok().filter(|_| slot <= MAX_BIN + 1) else {
            return false;
        };
        if count == 0 {
            return false;
        }
        match &mut self.0 {
            Slots::Few(slots) => {
                // Slots of two sums of one kind lie close together: the next few first.
                let few = slots.len().min(*near + 4);
                while *near < few && slots[*near].0 < key {
                    *near += 1;
                }
                if *near == few {
                    let behind = slots.get(few..).unwrap_or_default();
                    *near += behind.partition_point(|(before, _)| *before < key);
                }
                match slots.get_mut(*near) {
                    Some((same, sum)) if *same == key => *sum = sum.saturating_add(count),
                    _ => slots.insert(*near, (key, count)),
                }
                if slots.len() > FEW {
                    self.0 = many(slots);
                }
            }
            Slots::Many(first, counts) => {
                widen((first, counts), slot, slot + 1);
                counts[slot - *first] = counts[slot - *first].saturating_add(count);
            }
        }
        true
    }

    /// The middle of each slot with the values in it, from the lowest.
    pub(crate) fn values(&self) -> impl Iterator<Item = (f64, u64)> {
        self.slots().map(|(slot, count)| (middle(slot), count))
    }

    /// The values of nearest rank, for shares in ascending order: at least this share (0 to 1) of
    /// the values are not above it. `None` without values.
    pub(crate) fn percentiles<const N: usize>(&self, shares: [f64; N]) -> Option<[f64; N]> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts stay below 2^53, and the share is within 0 and 1"
        )]
        let rank = |share: f64| ((share * total as f64).ceil() as u64).clamp(1, total);
        let (mut seen, mut slots) = (0_u64, self.slots());
        let mut last = 0;
        Some(shares.map(|share| {
            let rank = rank(share);
            while seen < rank
                && let Some((slot, count)) = slots.next()
            {
                seen = seen.saturating_add(count);
                last = slot;
            }
            middle(last)
        }))
    }
}

/// Makes room for the slots from one up to another.
fn widen((first, counts): (&mut usize, &mut Vec<u64>), low: usize, end: usize) {
    if low < *first {
        counts.splice(..0, std::iter::repeat_n(0, *first - low));
        *first = low;
    }
    if *first + counts.len() < end {
        counts.resize(end - *first, 0);
    }
}

/// The same counts, with all slots between.
fn many(slots: &[(u16, u64)]) -> Slots {
    let first = slots.first().map_or(0, |(slot, _)| usize::from(*slot));
    let last = slots.last().map_or(0, |(slot, _)| usize::from(*slot));
    let mut counts = vec![0; last - first + 1];
    for (slot, count) in slots {
        counts[usize::from(*slot) - first] = *count;
    }
    Slots::Many(first, counts)
}

/// The largest value of each bin: `GAMMA^i`, rounded down.
static LARGEST: [u64; MAX_BIN + 1] = {
    let mut largest = [0; MAX_BIN + 1];
    let mut edge = 1.0;
    let mut bin = 0;
    while bin <= MAX_BIN {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "what is larger than the largest `u64` becomes that"
        )]
        let floor = edge as u64;
        largest[bin] = floor;
        edge *= GAMMA;
        bin += 1;
    }
    largest
};

/// Bits below the highest one of a value that [`FIRST_BIN`] looks at.
const LOOKED_AT: u32 = 5;

/// The bin of the smallest value of those with the same highest bits.
static FIRST_BIN: [u16; 64 << LOOKED_AT] = {
    let mut first = [0; 64 << LOOKED_AT];
    let mut bin = 0;
    let mut cell = 0;
    while cell < first.len() {
        let (power, below) = (cell >> LOOKED_AT, (cell & ((1 << LOOKED_AT) - 1)) as u64);
        let smallest = (((1 << LOOKED_AT) + below) as u128) << power >> LOOKED_AT;
        while (LARGEST[bin] as u128) < smallest {
            bin += 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "no bin is above `MAX_BIN`")]
        let found = bin as u16;
        first[cell] = found;
        cell += 1;
    }
    first
};

/// The bin of a value above zero: bin `i` holds what is above `GAMMA^(i-1)`, up to `GAMMA^i`.
/// Looked up, because a logarithm takes longer than all else that is done with a value.
fn bin(value: u64) -> usize {
    let power = 63 - (value | 1).leading_zeros();
    let below = (value << (63 - power) << 1) >> (64 - LOOKED_AT);
    let cell = (power << LOOKED_AT) as usize | below as usize;
    let mut bin = usize::from(FIRST_BIN[cell]);
    // Some three bins have the same highest bits. The last bin holds the largest `u64`.
    while bin < MAX_BIN && LARGEST[bin] < value {
        bin += 1;
    }
    bin
}

/// The value that stands for a slot: within 1 % of all that are in it.
fn middle(slot: usize) -> f64 {
    let Some(bin) = slot.checked_sub(1) else { return 0.0 };
    let bin = i32::try_from(bin).unwrap_or(i32::MAX);
    2.0 * GAMMA.powi(bin) / (GAMMA + 1.0)
}

#[cfg(test)]
mod tests {
    use super::Sketch;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn sketch_of(values: &[u64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(*value));
        sketch
    }

    proptest! {
        #[test]
        fn percentiles_are_within_one_percent_of_nearest_rank(
            mut values in proptest::collection::vec(any::<u64>(), 1..400), share in 0.001..=1.0_f64,
        ) {
            let found = sketch_of(&values).percentiles([share]).unwrap()[0];
            values.sort_unstable();
            let rank = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1] as f64;
            prop_assert!((found - exact).abs() <= 0.010_001 * exact, "{found} for {exact}");
        }

        #[test]
        fn adding_sketches_is_adding_their_values(
            a in proptest::collection::vec(any::<u64>(), 0..150),
            b in proptest::collection::vec(0..9_000_u64, 0..200),
        ) {
            let mut sum = sketch_of(&a);
            sum.merge(&sketch_of(&b));
            let both: Vec<u64> = a.into_iter().chain(b).collect();
            prop_assert_eq!(&sum, &sketch_of(&both));
            let mut again = Sketch::default();
            prop_assert!(sum.slots().all(|(slot, count)| again.add_slot(slot, count)));
            prop_assert_eq!(&again, &sum);
            sum.subtract(&sketch_of(&both));
            prop_assert_eq!(sum, Sketch::default());
        }
    }

    #[test]
    fn every_value_has_a_slot() {
        for value in [0, 1, 2, u64::MAX - 1, u64::MAX] {
            let sketch = sketch_of(&[value]);
            let mut again = Sketch::default();
            assert!(sketch.slots().all(|(slot, count)| again.add_slot(slot, count)), "{value}");
            assert_eq!(again, sketch);
        }
        assert!(!Sketch::default().add_slot(usize::MAX, 1));
    }

    proptest! {
        /// As the paper has it, but for what rounding does at an edge.
        #[test]
        fn the_bin_of_a_value_is_its_logarithm(value in 1..u64::MAX, bits in 0..63_u32) {
            let value = (value >> bits).max(1);
            let exact = (value as f64).ln() / super::GAMMA.ln();
            prop_assert!((exact - 1e-9..exact + 1.0 + 1e-9).contains(&(super::bin(value) as f64)));
        }
    }

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(Sketch::default().percentiles([0.5]), None);
    }
}
