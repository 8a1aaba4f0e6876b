//! `DDSketch`: percentiles of any number of values within 1 %, in bounded memory; two sketches
//! can be added, which no two percentiles can.
//!
//! Masson, Rim, Lee: "`DDSketch`: a fast and fully-mergeable quantile sketch with relative-error
//! guarantees" (VLDB 2019).

/// Largest relative error of a percentile.
const ALPHA: f64 = 0.01;
/// Ratio of the ends of a bin.
const GAMMA: f64 = (1.0 + ALPHA) / (1.0 - ALPHA);
/// No value has a bin beyond: the logarithm of the largest `u64`.
const MAX_BIN: usize = 2218;

/// Percentiles of non-negative whole numbers. Every `u64` has one of about 2,200 slots, which
/// bounds the memory; only slots that are used are held, because most sums are of a few calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sketch {
    /// Slot and count, in order of slots; no count is zero. Slot 0 is the zeros, slot `n + 1` is
    /// bin `n`.
    slots: Vec<(u16, u64)>,
}

impl Sketch {
    pub(crate) fn add(&mut self, value: u64) {
        let slot = if value == 0 { 0 } else { bin(value) + 1 };
        let _is_a_slot = self.add_slot(slot, 1);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if self.slots.is_empty() {
            self.slots.clone_from(&other.slots);
        } else if other.slots.len() <= 4 {
            for (slot, count) in &other.slots {
                let _is_a_slot = self.add_slot(usize::from(*slot), *count);
            }
        } else {
            let mut mine = std::mem::take(&mut self.slots).into_iter().peekable();
            for (slot, count) in &other.slots {
                while let Some(before) = mine.next_if(|(own, _)| own < slot) {
                    self.slots.push(before);
                }
                let same = mine.next_if(|(own, _)| own == slot).map_or(0, |(_, count)| count);
                self.slots.push((*slot, count.saturating_add(same)));
            }
            self.slots.extend(mine);
        }
    }

    /// Takes away what was added before.
    pub(crate) fn subtract(&mut self, other: &Self) {
        for (slot, count) in &other.slots {
            if let Ok(at) = self.slots.binary_search_by_key(slot, |(slot, _)| *slot) {
                self.slots[at].1 = self.slots[at].1.saturating_sub(*count);
            }
        }
        self.slots.retain(|(_, count)| *count > 0);
    }

    pub(crate) fn count(&self) -> u64 {
        self.slots.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// What is needed to make the sketch anew: slot and count, in order of slots.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (usize, u64)> {
        self.slots.iter().map(|(slot, count)| (usize::from(*slot), *count))
    }

    /// Adds to a slot; false, and nothing added, when there is no such slot.
    #[must_use]
    pub(crate) fn add_slot(&mut self, slot: usize, count: u64) -> bool {
        let Some(slot) = u16::try_from(slot).ok().filter(|slot| usize::from(*slot) <= MAX_BIN + 1)
        else {
            return false;
        };
        if count == 0 {
            return false;
        }
        match self.slots.last_mut() {
            // A sketch that is read comes in order.
            None => self.slots.push((slot, count)),
            Some((last, _)) if *last < slot => self.slots.push((slot, count)),
            Some(_) => match self.slots.binary_search_by_key(&slot, |(slot, _)| *slot) {
                Ok(at) => self.slots[at].1 = self.slots[at].1.saturating_add(count),
                Err(at) => self.slots.insert(at, (slot, count)),
            },
        }
        true
    }

    /// As [`add_slot`](Self::add_slot), for slots that come in order: `near` is where the one before
    /// is, at first 0.
    #[must_use]
    pub(crate) fn add_slot_after(&mut self, near: &mut usize, slot: usize, count: u64) -> bool {
        let Some(slot) = u16::try_from(slot).ok().filter(|slot| usize::from(*slot) <= MAX_BIN + 1)
        else {
            return false;
        };
        if count == 0 {
            return false;
        }
        // Slots of two sums of one kind lie close together: the next few first.
        let few = self.slots.len().min(*near + 4);
        while *near < few && self.slots[*near].0 < slot {
            *near += 1;
        }
        if *near == few {
            let behind = self.slots.get(few..).unwrap_or_default();
            *near += behind.partition_point(|(before, _)| *before < slot);
        }
        match self.slots.get_mut(*near) {
            Some((same, sum)) if *same == slot => *sum = sum.saturating_add(count),
            _ => self.slots.insert(*near, (slot, count)),
        }
        true
    }

    /// The middle of each slot with the values in it, from the lowest.
    pub(crate) fn values(&self) -> impl Iterator<Item = (f64, u64)> {
        self.slots().map(|(slot, count)| (middle(slot), count))
    }

    /// The value of nearest rank: at least this share (0 to 1) of the values are not above it.
    /// `None` without values.
    pub(crate) fn percentile(&self, share: f64) -> Option<f64> {
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
        let rank = ((share * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0_u64;
        for (value, count) in self.values() {
            seen = seen.saturating_add(count);
            if rank <= seen {
                return Some(value);
            }
        }
        None
    }
}

/// The bin of a value above zero: bin `i` holds what is above `GAMMA^(i-1)`, up to `GAMMA^i`.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the logarithm of a u64 to this base is between 0 and 2,218"
)]
fn bin(value: u64) -> usize {
    ((value as f64).ln() / GAMMA.ln()).ceil() as usize
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
            let found = sketch_of(&values).percentile(share).unwrap();
            values.sort_unstable();
            let rank = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1] as f64;
            prop_assert!((found - exact).abs() <= 0.010_001 * exact, "{found} for {exact}");
        }

        #[test]
        fn adding_sketches_is_adding_their_values(
            a in proptest::collection::vec(any::<u64>(), 0..50),
            b in proptest::collection::vec(any::<u64>(), 0..50),
        ) {
            let mut sum = sketch_of(&a);
            sum.merge(&sketch_of(&b));
            let both: Vec<u64> = a.into_iter().chain(b).collect();
            prop_assert_eq!(sum, sketch_of(&both));
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

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(Sketch::default().percentile(0.5), None);
    }
}
