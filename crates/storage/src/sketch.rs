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

/// Percentiles of non-negative whole numbers. Every `u64` has one of about 2,200 bins, which
/// bounds the memory; only the stretch from the lowest to the highest used bin is held.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sketch {
    /// Number of the first of `bins`. The first and the last of them are never zero.
    first: usize,
    bins: Vec<u64>,
    zeros: u64,
    count: u64,
}

impl Sketch {
    pub(crate) fn add(&mut self, value: u64) {
        self.count += 1;
        if value == 0 {
            self.zeros += 1;
        } else {
            self.reach(bin(value), bin(value))[0] += 1;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.zeros += other.zeros;
        if let Some(last) = other.bins.len().checked_sub(1) {
            let sums = self.reach(other.first, other.first + last);
            sums.iter_mut().zip(&other.bins).for_each(|(sum, count)| *sum += count);
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// What is needed to make the sketch anew: slot and count, in order of slots. Slot 0 is the
    /// zeros, slot `n + 1` is bin `n`.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (usize, u64)> {
        let bins = (self.first + 1..).zip(self.bins.iter().copied());
        std::iter::once((0, self.zeros)).chain(bins).filter(|(_, count)| *count > 0)
    }

    /// Adds a slot; false, and nothing added, when there is no such slot.
    #[must_use]
    pub(crate) fn add_slot(&mut self, slot: usize, count: u64) -> bool {
        if slot > MAX_BIN + 1 || count == 0 {
            return false;
        }
        match slot.checked_sub(1) {
            None => self.zeros = self.zeros.saturating_add(count),
            Some(bin) => {
                let sum = &mut self.reach(bin, bin)[0];
                *sum = sum.saturating_add(count);
            }
        }
        self.count = self.count.saturating_add(count);
        true
    }

    /// The middle of each bin with the values in it, from the lowest.
    pub(crate) fn values(&self) -> impl Iterator<Item = (f64, u64)> {
        self.slots().map(|(slot, count)| (middle(slot), count))
    }

    /// The value of nearest rank: at least this share (0 to 1) of the values are not above it.
    /// `None` without values.
    pub(crate) fn percentile(&self, share: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts stay below 2^53, and the share is within 0 and 1"
        )]
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count);
        let mut seen = self.zeros;
        if rank <= seen {
            return Some(0.0);
        }
        for (bin, count) in (self.first..).zip(&self.bins) {
            seen += count;
            if rank <= seen {
                return Some(middle(bin + 1));
            }
        }
        None
    }

    /// The bins from one to another, held from now on.
    fn reach(&mut self, from: usize, to: usize) -> &mut [u64] {
        if self.bins.is_empty() {
            self.first = from;
        }
        if let Some(more) = self.first.checked_sub(from).filter(|more| *more > 0) {
            self.bins.splice(0..0, std::iter::repeat_n(0, more));
            self.first = from;
        }
        if self.bins.len() <= to - self.first {
            self.bins.resize(to - self.first + 1, 0);
        }
        &mut self.bins[from - self.first..=to - self.first]
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
