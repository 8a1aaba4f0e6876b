//! A sum as bytes, to be kept: a mask of what there is, then each number in as few bytes as it
//! needs (LEB128, seven bits a byte, low ones first). A list is its length, then places and counts;
//! a dense one is a zero, the first place, how many there are, and all of their counts.

use super::Tally;
use crate::engine::Distributions;
use crate::sketch::Sketch;

/// Numbers of a body of the first version, whose lists follow: classes, durations, first chunks.
/// What came later stands behind them, so that older bodies are read as they are.
const FIRST_NUMBERS: usize = 11;
const FIRST_LISTS: usize = 3;
const LATER_NUMBERS: usize = 2;
const LATER_LISTS: usize = 8;
const BITS: usize = FIRST_NUMBERS + FIRST_LISTS + LATER_NUMBERS + LATER_LISTS;

/// Bit of the mask: a count of one, as most are, is a bit of its place, and not a number of its own.
const SHORT: u32 = 1 << BITS;

/// Entries of a list from which on the counts of all places between may be kept.
const DENSE: usize = 16;

impl Tally {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let count = |count: u64| (count > 0).then_some(u128::from(count));
        let mut body = Body { mask: 0, bit: 0, bytes: Vec::with_capacity(128) };
        for number in [self.calls, self.embeddings, self.errors, self.cancelled, self.unpriced] {
            body.add_number(count(number));
        }
        body.add_number(self.cost);
        self.tokens.iter().for_each(|tokens| body.add_number(tokens.map(u128::from)));
        body.add_list(|| counted(&self.classes));
        let mut sketches = self.sketches.all().into_iter();
        for sketch in sketches.by_ref().take(FIRST_LISTS - 1) {
            body.add_list(|| sketch.slots());
        }
        body.add_number(self.wasted);
        body.add_number(count(self.retries));
        body.add_list(|| counted(&self.finishes));
        sketches.for_each(|sketch| body.add_list(|| sketch.slots()));
        let mut bytes = Vec::with_capacity(body.bytes.len() + 6);
        put(&mut bytes, (body.mask | SHORT).into());
        bytes.extend(body.bytes);
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` for anything else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut sum = Self::default();
        sum.merge_bytes(bytes, Distributions::All).map(|()| sum)
    }

    /// Adds what [`to_bytes`](Self::to_bytes) wrote, without making a sum of it first. `None` for
    /// anything else; then what was added is not to be used.
    pub(crate) fn merge_bytes(&mut self, bytes: &[u8], wanted: Distributions) -> Option<()> {
        let mut from = bytes;
        let mask = u32::try_from(take_small(&mut from)?).ok()?;
        if (mask & !SHORT) >> BITS != 0 {
            return None;
        }
        let mut parts = Parts { mask, bit: 0, is_short: mask & SHORT != 0, from: &mut from };
        for sum in [
            &mut self.calls,
            &mut self.embeddings,
            &mut self.errors,
            &mut self.cancelled,
            &mut self.unpriced,
        ] {
            parts.add_count(sum)?;
        }
        parts.add_wide(&mut self.cost)?;
        for sum in &mut self.tokens {
            if let Some(tokens) = parts.number()? {
                let tokens = u64::try_from(tokens).ok()?;
                *sum = Some(sum.unwrap_or(0).saturating_add(tokens));
            }
        }
        parts.add_places(&mut self.classes)?;
        let mut sketches = self.sketches.all_mut().into_iter();
        for sketch in sketches.by_ref().take(FIRST_LISTS - 1) {
            if wanted == Distributions::None {
                parts.each_entry(|_slot, _count| Some(()))?;
            } else {
                parts.add_slots(sketch)?;
            }
        }
        parts.add_wide(&mut self.wasted)?;
        parts.add_count(&mut self.retries)?;
        parts.add_places(&mut self.finishes)?;
        if matches!(wanted, Distributions::Main | Distributions::None) {
            return Some(());
        }
        for sketch in sketches {
            parts.add_slots(sketch)?;
        }
        from.is_empty().then_some(())
    }
}

/// A body that is being written.
struct Body {
    mask: u32,
    bit: usize,
    bytes: Vec<u8>,
}

impl Body {
    fn note(&mut self, has: bool) {
        self.mask |= u32::from(has) << self.bit;
        self.bit += 1;
    }

    fn add_number(&mut self, number: Option<u128>) {
        self.note(number.is_some());
        if let Some(number) = number {
            put(&mut self.bytes, number);
        }
    }

    /// Adds a list of places and counts, in order of places, if it has any.
    fn add_list<I: Iterator<Item = (usize, u64)>>(&mut self, list: impl Fn() -> I) {
        let (mut len, mut last, mut first) = (0, 0, None);
        list().for_each(|(place, _)| {
            first.get_or_insert(place);
            (len, last) = (len + 1, place);
        });
        self.note(len > 0);
        let Some(first) = first else { return };
        let width = last - first + 1;
        if len >= DENSE && width <= 2 * len {
            // No list is of no entries: here come the counts of all places, side by side.
            put(&mut self.bytes, 0);
            put(&mut self.bytes, first as u128);
            put(&mut self.bytes, width as u128);
            let mut next = first;
            list().for_each(|(place, count)| {
                self.bytes.extend(std::iter::repeat_n(0, place - next));
                put(&mut self.bytes, u128::from(count));
                next = place + 1;
            });
            return;
        }
        put(&mut self.bytes, len as u128);
        let mut before = 0;
        list().for_each(|(place, count)| {
            // Places grow, so that their differences are small.
            let is_more = count != 1;
            put(&mut self.bytes, ((place - before) as u128) << 1 | u128::from(is_more));
            if is_more {
                put(&mut self.bytes, u128::from(count));
            }
            before = place;
        });
    }
}

/// The places of what was counted at all.
fn counted(counts: &[u64]) -> impl Iterator<Item = (usize, u64)> {
    counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
}

/// The parts of a body that is being read.
struct Parts<'a, 'b> {
    mask: u32,
    bit: usize,
    is_short: bool,
    from: &'a mut &'b [u8],
}

impl Parts<'_, '_> {
    fn has_next(&mut self) -> bool {
        let has = self.mask >> self.bit & 1 == 1;
        self.bit += 1;
        has
    }

    fn number(&mut self) -> Option<Option<u128>> {
        if self.has_next() { take(self.from).map(Some) } else { Some(None) }
    }

    fn add_count(&mut self, sum: &mut u64) -> Option<()> {
        if let Some(count) = self.number()? {
            *sum = sum.saturating_add(u64::try_from(count).ok()?);
        }
        Some(())
    }

    fn add_wide(&mut self, sum: &mut Option<u128>) -> Option<()> {
        if let Some(number) = self.number()? {
            *sum = Some(sum.unwrap_or(0).saturating_add(number));
        }
        Some(())
    }

    fn add_places(&mut self, sums: &mut [u64]) -> Option<()> {
        self.each_entry(|place, count| {
            let sum = sums.get_mut(place)?;
            *sum = sum.saturating_add(count);
            Some(())
        })
    }

    fn add_slots(&mut self, sketch: &mut Sketch) -> Option<()> {
        let mut near = 0;
        if let Some((first, width)) = self.dense()? {
            return sketch.add_slots(first, width, || take_small(self.from));
        }
        self.each_entry(|slot, count| sketch.add_slot_after(&mut near, slot, count).then_some(()))
    }

    /// The first place, and how many, where the counts of all places come next.
    fn dense(&mut self) -> Option<Option<(usize, usize)>> {
        if self.mask >> self.bit & 1 == 0 || self.from.first() != Some(&0) {
            return Some(None);
        }
        self.bit += 1;
        take_small(self.from)?;
        let first = usize::try_from(take_small(self.from)?).ok()?;
        let width = usize::try_from(take_small(self.from)?).ok()?;
        // A count takes a byte at least.
        (width <= self.from.len()).then_some(Some((first, width)))
    }

    /// Hands the entries of a list over, if there is one: places and counts, in order of places.
    /// A place is written as its difference to the one before.
    fn each_entry(&mut self, mut take_over: impl FnMut(usize, u64) -> Option<()>) -> Option<()> {
        if let Some((first, width)) = self.dense()? {
            for place in first..first.checked_add(width)? {
                let count = take_small(self.from)?;
                if count > 0 {
                    take_over(place, count)?;
                }
            }
            return Some(());
        }
        if !self.has_next() {
            return Some(());
        }
        let len = usize::try_from(take_small(self.from)?).ok()?;
        // An entry takes a byte at least: a length that cannot be is found before it is believed.
        if len > self.from.len() {
            return None;
        }
        let mut place = 0_usize;
        for _ in 0..len {
            let mut step = take_small(self.from)?;
            let mut has_count = true;
            if self.is_short {
                has_count = step & 1 == 1;
                step >>= 1;
            }
            place = place.checked_add(usize::try_from(step).ok()?)?;
            let count = if has_count { take_small(self.from)? } else { 1 };
            take_over(place, count)?;
        }
        Some(())
    }
}

fn put(to: &mut Vec<u8>, mut number: u128) {
    // Wide numbers are rare, and their arithmetic is slow.
    while number > u128::from(u64::MAX) {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    let mut number = number as u64;
    while number > 0x7f {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push((number & 0x7f) as u8);
}

/// Takes a number that is mostly one byte, and at most 64 bits.
fn take_small(from: &mut &[u8]) -> Option<u64> {
    if let [byte @ 0..0x80, rest @ ..] = *from {
        *from = rest;
        return Some((*byte).into());
    }
    u64::try_from(take(from)?).ok()
}

fn take(from: &mut &[u8]) -> Option<u128> {
    // Most numbers are small, and few are wide, whose arithmetic is slow.
    let mut low = 0_u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        low |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(low.into());
        }
    }
    let mut number = u128::from(low);
    for shift in (63..128).step_by(7) {
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

#[cfg(test)]
mod tests {
    use super::Tally;
    use crate::engine::Distributions;
    use crate::outcome::CLASSES;
    use crate::query::Outcome;
    use crate::tally::{Counted, FINISH, Sketches};
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
            let mut twice = sum.clone();
            twice.merge(&sum);
            let mut read = Tally::from_bytes(&sum.to_bytes()).unwrap();
            prop_assert_eq!(&read, &sum);
            read.merge_bytes(&sum.to_bytes(), Distributions::All).unwrap();
            prop_assert_eq!(read, twice);
            let mut main = Tally::default();
            main.merge_bytes(&sum.to_bytes(), Distributions::Main).unwrap();
            prop_assert_eq!(main.main_stats(), sum.main_stats());
            let mut numbers = Tally::default();
            numbers.merge_bytes(&sum.to_bytes(), Distributions::None).unwrap();
            prop_assert_eq!(numbers, Tally { sketches: Sketches::default(), ..sum });
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..80)) {
            let _any = Tally::from_bytes(&bytes);
        }
    }

    proptest! {
        /// As those of a long time are: many values that lie close together.
        #[test]
        fn a_dense_sum_survives_its_bytes(
            durations in vec(1_000_000_000..3_000_000_000_u64, 1..300), other in 1..u64::MAX,
        ) {
            let sum_of = |durations: &[u64]| {
                let mut sum = Tally::default();
                for duration in durations {
                    let outcome = Some(Outcome::Ok);
                    let duration_nanos = Some(*duration);
                    sum.add(&Counted { outcome, duration_nanos, ..Counted::default() });
                }
                sum
            };
            let sum = sum_of(&durations);
            let mut read = Tally::from_bytes(&sum.to_bytes()).unwrap();
            prop_assert_eq!(&read, &sum);
            // To what has little, to what has as much, and to what lies elsewhere.
            for more in [vec![other], durations.clone(), vec![1_200_000_000; 3]] {
                let mut both = sum_of(&more);
                both.merge_bytes(&sum.to_bytes(), Distributions::All).unwrap();
                let all: Vec<_> = durations.iter().chain(&more).copied().collect();
                prop_assert_eq!(both, sum_of(&all));
            }
            read.merge_bytes(&sum.to_bytes(), Distributions::All).unwrap();
            prop_assert_eq!(read.sketches.duration.count(), 2 * durations.len() as u64);
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

    /// Written by the second version, of two calls: as the first, with a number for each count.
    #[test]
    fn a_sum_of_the_second_version_is_read_as_it_is() {
        let bytes = [0x81, 0x20, 2, 2, 0xcc, 0x08, 1, 7, 1];
        let sum = Tally::from_bytes(&bytes).unwrap();
        assert_eq!((sum.calls, sum.sketches.duration.count()), (2, 2));
        let again = Tally::from_bytes(&sum.to_bytes()).unwrap();
        assert_eq!(again, sum);
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
        assert!(sum.to_bytes().len() <= 38, "{}", sum.to_bytes().len());
    }
}
