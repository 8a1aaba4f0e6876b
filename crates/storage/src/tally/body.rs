//! A sum as bytes, to be kept: a mask of what there is, then each number in as few bytes as it
//! needs (LEB128, seven bits a byte, low ones first).

use super::Tally;
use crate::outcome::CLASSES;
use crate::sketch::Sketch;

impl Tally {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let count = |count: u64| (count > 0).then_some(u128::from(count));
        let [calls, embeddings, errors, cancelled, unpriced] =
            [self.calls, self.embeddings, self.errors, self.cancelled, self.unpriced].map(count);
        let [t0, t1, t2, t3, t4] = self.tokens.map(|tokens| tokens.map(u128::from));
        let numbers =
            [calls, embeddings, errors, cancelled, unpriced, self.cost, t0, t1, t2, t3, t4];
        let mut classes: Vec<_> =
            self.classes.iter().map(|(class, count)| (place(class), *count)).collect();
        classes.sort_unstable();
        let lists = [classes, self.duration.slots().collect(), self.first_chunk.slots().collect()];
        let has = numbers.iter().map(Option::is_some).chain(lists.iter().map(|l| !l.is_empty()));
        let mask = (0..).zip(has).fold(0, |mask, (bit, has)| mask | (u128::from(has) << bit));
        let mut bytes = Vec::with_capacity(32);
        put(&mut bytes, mask);
        numbers.into_iter().flatten().for_each(|number| put(&mut bytes, number));
        for list in lists.iter().filter(|list| !list.is_empty()) {
            put(&mut bytes, list.len() as u128);
            let mut before = 0;
            for (place, count) in list {
                // Places grow, so that their differences are small.
                put(&mut bytes, (place - before) as u128);
                put(&mut bytes, u128::from(*count));
                before = *place;
            }
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` for anything else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut from = bytes;
        let mask = take(&mut from)?;
        if mask >> 14 != 0 {
            return None;
        }
        let mut numbers = [None; 11];
        for (bit, number) in numbers.iter_mut().enumerate() {
            if mask >> bit & 1 == 1 {
                *number = Some(take(&mut from)?);
            }
        }
        let small = |number: Option<u128>| number.map(u64::try_from).transpose().ok();
        let [calls, embeddings, errors, cancelled, unpriced, cost, t0, t1, t2, t3, t4] = numbers;
        let mut sum = Self {
            calls: small(calls)?.unwrap_or(0),
            embeddings: small(embeddings)?.unwrap_or(0),
            errors: small(errors)?.unwrap_or(0),
            cancelled: small(cancelled)?.unwrap_or(0),
            unpriced: small(unpriced)?.unwrap_or(0),
            cost,
            tokens: [small(t0)?, small(t1)?, small(t2)?, small(t3)?, small(t4)?],
            ..Self::default()
        };
        if mask >> 11 & 1 == 1 {
            for (place, count) in list(&mut from)? {
                sum.classes.insert((*CLASSES.get(place)?).to_owned(), count);
            }
        }
        for (bit, sketch) in [(12, &mut sum.duration), (13, &mut sum.first_chunk)] {
            if mask >> bit & 1 == 1 {
                fill(sketch, list(&mut from)?)?;
            }
        }
        from.is_empty().then_some(sum)
    }
}

fn place(class: &str) -> usize {
    CLASSES.iter().position(|known| *known == class).unwrap_or(0)
}

fn fill(sketch: &mut Sketch, slots: Vec<(usize, u64)>) -> Option<()> {
    slots.into_iter().all(|(slot, count)| sketch.add_slot(slot, count)).then_some(())
}

fn put(to: &mut Vec<u8>, mut number: u128) {
    while number > 0x7f {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push((number & 0x7f) as u8);
}

fn take(from: &mut &[u8]) -> Option<u128> {
    let mut number = 0;
    for shift in (0..128).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let part = u128::from(byte & 0x7f);
        if shift == 126 && part > 3 {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Places and counts; a place is written as its difference to the one before.
fn list(from: &mut &[u8]) -> Option<Vec<(usize, u64)>> {
    let len = usize::try_from(take(from)?).ok()?;
    // An entry takes two bytes at least: a length that cannot be is found before it is believed.
    if len > from.len() / 2 {
        return None;
    }
    let mut place = 0_usize;
    let mut entries = Vec::with_capacity(len);
    for _ in 0..len {
        place = place.checked_add(usize::try_from(take(from)?).ok()?)?;
        entries.push((place, u64::try_from(take(from)?).ok()?));
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use crate::outcome::CLASSES;
    use crate::query::Outcome;
    use crate::tally::Counted;
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn a_sum_survives_its_bytes(
            calls in vec((any::<[Option<u64>; 4]>(), any::<[Option<u64>; 5]>(), 0..3_usize, any::<bool>()), 0..60),
        ) {
            let mut sum = Tally::default();
            for ([duration_nanos, first_chunk_nanos, cost, class], tokens, how, flag) in calls {
                sum.add(&Counted {
                    embedding: flag && how == 0,
                    outcome: Some([Outcome::Ok, Outcome::Error, Outcome::Cancelled][how]),
                    class: class.map(|class| CLASSES[class as usize % CLASSES.len()]),
                    duration_nanos,
                    stream: flag,
                    first_chunk_nanos,
                    cost,
                    tokens,
                });
            }
            prop_assert_eq!(Tally::from_bytes(&sum.to_bytes()), Some(sum));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..80)) {
            let _any = Tally::from_bytes(&bytes);
        }
    }

    #[test]
    fn one_call_takes_few_bytes() {
        let mut sum = Tally::default();
        sum.add(&Counted {
            duration_nanos: Some(1_500_000_000),
            stream: true,
            first_chunk_nanos: Some(300_000_000),
            cost: Some(2_000_000_000),
            tokens: [Some(1000), Some(300), None, None, None],
            ..Counted::default()
        });
        assert!(sum.to_bytes().len() <= 24, "{}", sum.to_bytes().len());
    }
}
