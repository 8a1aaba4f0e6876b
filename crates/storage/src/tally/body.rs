//! A sum as bytes, to be kept: a mask of what there is, then each number in as few bytes as it
//! needs (LEB128, seven bits a byte, low ones first).

use super::{FINISH, Tally};
use crate::outcome::CLASSES;
use crate::sketch::Sketch;
use std::collections::BTreeMap;

/// Numbers of a body of the first version, whose lists follow: classes, durations, first chunks.
/// What came later stands behind them, so that older bodies are read as they are.
const FIRST_NUMBERS: usize = 11;
const FIRST_LISTS: usize = 3;
const LATER_NUMBERS: usize = 2;
const LATER_LISTS: usize = 8;

impl Tally {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let count = |count: u64| (count > 0).then_some(u128::from(count));
        let [calls, embeddings, errors, cancelled, unpriced] =
            [self.calls, self.embeddings, self.errors, self.cancelled, self.unpriced].map(count);
        let [t0, t1, t2, t3, t4] = self.tokens.map(|tokens| tokens.map(u128::from));
        let numbers =
            [calls, embeddings, errors, cancelled, unpriced, self.cost, t0, t1, t2, t3, t4];
        let later = [self.wasted, count(self.retries)];
        let counts = |counts: &BTreeMap<usize, u64>| -> List {
            counts.iter().map(|(place, count)| (*place, *count)).collect()
        };
        let mut sketches = self.sketches.all().into_iter().map(|sketch| sketch.slots().collect());
        let mut lists = vec![counts(&self.classes)];
        lists.extend(sketches.by_ref().take(FIRST_LISTS - 1));
        lists.push(counts(&self.finishes));
        lists.extend(sketches);
        let (first, last) = lists.split_at(FIRST_LISTS);
        let has = numbers.iter().map(Option::is_some).chain(first.iter().map(|l| !l.is_empty()));
        let has = has.chain(later.iter().map(Option::is_some));
        let has = has.chain(last.iter().map(|l| !l.is_empty()));
        let mask = (0..).zip(has).fold(0, |mask, (bit, has)| mask | (u128::from(has) << bit));
        let mut bytes = Vec::with_capacity(64);
        put(&mut bytes, mask);
        for (numbers, lists) in [(&numbers[..], first), (&later[..], last)] {
            numbers.iter().flatten().for_each(|number| put(&mut bytes, *number));
            lists.iter().filter(|list| !list.is_empty()).for_each(|l| put_list(&mut bytes, l));
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` for anything else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut from = bytes;
        let mask = take(&mut from)?;
        let bits = FIRST_NUMBERS + FIRST_LISTS + LATER_NUMBERS + LATER_LISTS;
        if mask >> bits != 0 {
            return None;
        }
        let mut parts = Parts { mask, bit: 0, from: &mut from };
        let numbers = parts.numbers::<FIRST_NUMBERS>()?;
        let first = parts.lists::<FIRST_LISTS>()?;
        let later = parts.numbers::<LATER_NUMBERS>()?;
        let last = parts.lists::<LATER_LISTS>()?;
        let small = |number: Option<u128>| number.map(u64::try_from).transpose().ok();
        let [calls, embeddings, errors, cancelled, unpriced, cost, t0, t1, t2, t3, t4] = numbers;
        let mut sum = Self {
            calls: small(calls)?.unwrap_or(0),
            embeddings: small(embeddings)?.unwrap_or(0),
            errors: small(errors)?.unwrap_or(0),
            cancelled: small(cancelled)?.unwrap_or(0),
            unpriced: small(unpriced)?.unwrap_or(0),
            retries: small(later[1])?.unwrap_or(0),
            cost,
            wasted: later[0],
            tokens: [small(t0)?, small(t1)?, small(t2)?, small(t3)?, small(t4)?],
            ..Self::default()
        };
        let mut lists = first.into_iter().chain(last);
        sum.classes = counts(lists.next()?, CLASSES.len())?;
        let mut sketches = sum.sketches.all_mut().into_iter();
        // In this order: the lists that are asked for end before a sketch is taken for nothing.
        for (list, sketch) in lists.by_ref().take(FIRST_LISTS - 1).zip(sketches.by_ref()) {
            fill(sketch, list)?;
        }
        sum.finishes = counts(lists.next()?, FINISH.len())?;
        for (sketch, list) in sketches.zip(lists) {
            fill(sketch, list)?;
        }
        from.is_empty().then_some(sum)
    }
}

/// Places and counts, in order of places.
type List = Vec<(usize, u64)>;

/// The parts of a body that is being read.
struct Parts<'a, 'b> {
    mask: u128,
    bit: usize,
    from: &'a mut &'b [u8],
}

impl Parts<'_, '_> {
    fn has_next(&mut self) -> bool {
        let has = self.mask >> self.bit & 1 == 1;
        self.bit += 1;
        has
    }

    fn numbers<const LEN: usize>(&mut self) -> Option<[Option<u128>; LEN]> {
        let mut numbers = [None; LEN];
        let has = [(); LEN].map(|()| self.has_next());
        for (number, _) in numbers.iter_mut().zip(has).filter(|(_, has)| *has) {
            *number = Some(take(self.from)?);
        }
        Some(numbers)
    }

    fn lists<const LEN: usize>(&mut self) -> Option<[List; LEN]> {
        let mut lists = [const { List::new() }; LEN];
        let has = [(); LEN].map(|()| self.has_next());
        for (to, _) in lists.iter_mut().zip(has).filter(|(_, has)| *has) {
            *to = list(self.from)?;
        }
        Some(lists)
    }
}

fn counts(list: List, places: usize) -> Option<BTreeMap<usize, u64>> {
    list.iter().all(|(place, _)| *place < places).then(|| list.into_iter().collect())
}

fn fill(sketch: &mut Sketch, slots: List) -> Option<()> {
    slots.into_iter().all(|(slot, count)| sketch.add_slot(slot, count)).then_some(())
}

fn put_list(to: &mut Vec<u8>, list: &[(usize, u64)]) {
    put(to, list.len() as u128);
    let mut before = 0;
    for (place, count) in list {
        // Places grow, so that their differences are small.
        put(to, (place - before) as u128);
        put(to, u128::from(*count));
        before = *place;
    }
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
fn list(from: &mut &[u8]) -> Option<List> {
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
    use super::{FINISH, Tally};
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
                    first_token_nanos: first_chunk_nanos.map(|nanos| nanos / 2),
                    retry_after_nanos: tokens[4],
                    finish: class.map(|class| class as usize % FINISH.len()),
                    retried: flag,
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

    /// Written by the first version: mask, calls, unpriced, tokens, durations.
    #[test]
    fn a_sum_of_the_first_version_is_read_as_it_is() {
        let bytes = [0x91, 0x20, 2, 1, 1, 0xcc, 0x08, 2];
        let sum = Tally::from_bytes(&bytes).unwrap();
        assert_eq!((sum.calls, sum.unpriced, sum.tokens[0]), (2, 1, None));
        assert_eq!(sum.sketches.duration.count(), 2);
        assert_eq!(sum.sketches.first_token.count(), 0);
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
        assert!(sum.to_bytes().len() <= 44, "{}", sum.to_bytes().len());
    }
}
