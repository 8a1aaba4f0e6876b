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

/// Percentiles of non-negative whole numbers. Every `u64` has one of about 2,200 bins, which
/// bounds the memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sketch {
    bins: BTreeMap<u16, u64>,
    zeros: u64,
    count: u64,
}

impl Sketch {
    pub(crate) fn add(&mut self, value: u64) {
        self.count += 1;
        if value == 0 {
            self.zeros += 1;
        } else {
            *self.bins.entry(bin(value)).or_default() += 1;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.zeros += other.zeros;
        for (bin, count) in &other.bins {
            *self.bins.entry(*bin).or_default() += count;
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
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
        for (bin, count) in &self.bins {
            seen += count;
            if rank <= seen {
                return Some(2.0 * GAMMA.powi(i32::from(*bin)) / (GAMMA + 1.0));
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
fn bin(value: u64) -> u16 {
    ((value as f64).ln() / GAMMA.ln()).ceil() as u16
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
    fn nothing_has_no_percentile() {
        assert_eq!(Sketch::default().percentile(0.5), None);
    }
}
