//! The sums of many series of one bucket as bytes, and back. Pure; knows no SQL.
//!
//! In order of their numbers: the difference to the number before, the length of the sum, and the
//! sum as [`Tally::to_bytes`](crate::tally::Tally::to_bytes) has it; all of it packed as a column
//! of calls is.

use super::super::column::{self, pack, put, take};

/// Sums by number of the series, or of the model, in ascending order.
pub(super) type Entries<'a> = Vec<(i64, &'a [u8])>;

/// Makes one body of sums in ascending order of their numbers.
pub(super) fn to_bytes<'a>(entries: impl Iterator<Item = (i64, &'a [u8])>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut before = 0;
    for (id, sum) in entries {
        put(&mut bytes, id.abs_diff(before));
        put(&mut bytes, sum.len() as u64);
        bytes.extend_from_slice(sum);
        before = id;
    }
    pack(&bytes)
}

/// Hands over the sums of a body; `None` for what is none.
pub(super) fn read<T>(bytes: &[u8], hand_over: impl FnOnce(Entries<'_>) -> T) -> Option<T> {
    column::unpacked(bytes, |bytes| entries(bytes).map(hand_over)).flatten()
}

fn entries(bytes: &[u8]) -> Option<Entries<'_>> {
    let mut entries = Vec::new();
    let mut from = bytes;
    let mut before = 0_i64;
    while !from.is_empty() {
        before = before.checked_add_unsigned(take(&mut from)?)?;
        let len = usize::try_from(take(&mut from)?).ok()?;
        let (sum, rest) = from.split_at_checked(len)?;
        entries.push((before, sum));
        from = rest;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::{entries, read, to_bytes};
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn sums_survive_their_body(sums in btree_map(0..i64::MAX, vec(any::<u8>(), 0..90), 0..50)) {
            let bytes = to_bytes(sums.iter().map(|(id, sum)| (*id, sum.as_slice())));
            let sums: Vec<_> = sums.iter().map(|(id, sum)| (*id, sum.as_slice())).collect();
            prop_assert_eq!(read(&bytes, |read| read == sums), Some(true));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _any = read(&bytes, |entries| entries.len());
            let _any = entries(&bytes);
        }
    }
}
