//! A sum as parts that ClickHouse can add: counts by number, and a few wide numbers. Pure.
//!
//! The number of a count is its kind times [`WIDTH`] plus its place; tables keep them, so that
//! kinds are only ever added.

use crate::tally::Tally;

/// Places of a kind: more than a sketch has slots.
const WIDTH: u16 = 2304;
/// The kinds: plain counts, classes of failures, reasons why answers ended; sketches follow.
const PLAIN: u16 = 0;
const CLASSES: u16 = 1;
const FINISHES: u16 = 2;
const SKETCHES: u16 = 3;

/// Counts from this number on are of distributions, …
pub(super) const DISTRIBUTIONS: u16 = SKETCHES * WIDTH;
/// … and from this one on of others than [`Distributions::Main`](crate::engine::Distributions) has.
pub(super) const BEYOND_MAIN: u16 = (SKETCHES + 2) * WIDTH;

/// All counts of a sum, by number.
pub(super) fn counts(tally: &Tally) -> Vec<(u16, u64)> {
    let plain = [
        tally.calls,
        tally.embeddings,
        tally.errors,
        tally.cancelled,
        tally.retries,
        tally.unpriced,
    ];
    let plain = plain.into_iter().enumerate().filter(|(_, count)| *count > 0);
    let mut counts: Vec<_> = plain.map(|(place, count)| (number(PLAIN, place), count)).collect();
    for (kind, places) in [(CLASSES, &tally.classes[..]), (FINISHES, &tally.finishes)] {
        let places = places.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.extend(places.map(|(place, count)| (number(kind, place), *count)));
    }
    for (kind, sketch) in (SKETCHES..).zip(tally.sketches.all()) {
        counts.extend(sketch.slots().map(|(slot, count)| (number(kind, slot), count)));
    }
    counts
}

/// Adds a count to a sum; one of a newer version is left out.
pub(super) fn add(tally: &mut Tally, number: u16, count: u64) {
    let (kind, place) = (number / WIDTH, usize::from(number % WIDTH));
    match kind {
        PLAIN => {
            let plain = [
                &mut tally.calls,
                &mut tally.embeddings,
                &mut tally.errors,
                &mut tally.cancelled,
                &mut tally.retries,
                &mut tally.unpriced,
            ];
            if let Some(sum) = plain.into_iter().nth(place) {
                *sum = sum.saturating_add(count);
            }
        }
        CLASSES | FINISHES => {
            let places = if kind == CLASSES { &mut tally.classes[..] } else { &mut tally.finishes };
            if let Some(sum) = places.get_mut(place) {
                *sum = sum.saturating_add(count);
            }
        }
        _ => {
            let sketches = tally.sketches.all_mut().into_iter();
            if let Some(sketch) = sketches.into_iter().nth(usize::from(kind - SKETCHES)) {
                // A slot that cannot be is of a damaged table: it hides itself.
                let _added = sketch.add_slot(place, count);
            }
        }
    }
}

fn number(kind: u16, place: usize) -> u16 {
    kind * WIDTH + u16::try_from(place).unwrap_or(WIDTH - 1).min(WIDTH - 1)
}

#[cfg(test)]
mod tests {
    use super::{BEYOND_MAIN, DISTRIBUTIONS, add, counts};
    use crate::query::Outcome;
    use crate::tally::{Counted, Tally};
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn a_sum_is_made_anew_of_its_counts(
            calls in vec((any::<[Option<u64>; 4]>(), any::<Option<u64>>(), 0..3_usize, any::<bool>()), 0..40),
        ) {
            let mut sum = Tally::default();
            for ([duration_nanos, first_chunk_nanos, retry_after_nanos, output], input, how, flag) in calls {
                sum.add(&Counted {
                    embedding: flag && how == 0,
                    outcome: Some([Outcome::Ok, Outcome::Error, Outcome::Cancelled][how]),
                    class: Some("quota"),
                    duration_nanos,
                    stream: flag,
                    first_chunk_nanos,
                    retry_after_nanos,
                    finish: Some(how),
                    retried: flag,
                    tokens: [input, output, None, None, None],
                    ..Counted::default()
                });
            }
            let mut again = Tally { tokens: sum.tokens, cost: sum.cost, wasted: sum.wasted, ..Tally::default() };
            counts(&sum).into_iter().for_each(|(number, count)| add(&mut again, number, count));
            prop_assert_eq!(again, sum);
        }

        #[test]
        fn distributions_of_tables_have_the_lowest_numbers(
            durations in vec(1..1_u64 << 40, 1..9), first_chunk in 1..1_u64 << 40, tokens in 10..900_u64,
        ) {
            let mut sum = Tally::default();
            for nanos in durations {
                let call = Counted {
                    duration_nanos: Some(nanos),
                    stream: true,
                    first_chunk_nanos: Some(first_chunk),
                    tokens: [Some(tokens); 5],
                    ..Counted::default()
                };
                sum.add(&call);
            }
            let (mut main, mut none) = (Tally::default(), Tally::default());
            for (number, count) in counts(&sum) {
                if number < BEYOND_MAIN {
                    add(&mut main, number, count);
                }
                if number < DISTRIBUTIONS {
                    add(&mut none, number, count);
                }
            }
            let numbers = |tally: Tally| {
                Tally { cost: sum.cost, tokens: sum.tokens, ..tally }.main_stats()
            };
            prop_assert_eq!(numbers(main), sum.main_stats());
            prop_assert_eq!(none.sketches, crate::tally::Sketches::default());
            prop_assert_eq!(none.calls, sum.calls);
        }

        #[test]
        fn no_number_makes_it_panic(number in any::<u16>(), count in any::<u64>()) {
            add(&mut Tally::default(), number, count);
        }
    }
}
