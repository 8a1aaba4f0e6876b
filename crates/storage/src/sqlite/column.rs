//! One column of a block as bytes, and back. Pure; knows no SQL.
//!
//! A number is one more than the value, 0 where there is none, in as few bytes as it needs
//! (LEB128). The first byte of a column says how the rest is kept. Whatever the bytes are, reading
//! them takes no more memory than the limits say, and never fails but with `None`.

use std::cell::{Cell, RefCell};
use zstd::bulk::{Compressor, Decompressor};

/// Value of a number that is not known. No number that is kept is as large.
pub(super) const NONE: u64 = u64::MAX;

/// Largest column, unpacked: rows of a block times what a row may hold. More is damage.
const MAX_BYTES: usize = 256 << 20;

/// Memory for unpacking that a thread keeps, at most.
const MAX_HELD: usize = 4 << 20;

/// Bytes of the largest number.
const MAX_LEN: usize = 10;

/// How hard zstd tries: more makes columns smaller by a hundredth, and takes twice as long.
const LEVEL: i32 = 1;

/// Below this, packing does not pay.
const MIN_PACKED: usize = 48;

/// How a column is kept: one value for all rows, …
const SAME: u8 = 0;
/// … as it is, …
const PLAIN: u8 = 1;
/// … or its length, and then zstd.
const PACKED: u8 = 2;

thread_local! {
    /// To make one takes longer than to pack a column.
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKER: Cell<Option<Unpacker>> = const { Cell::new(None) };
}

/// Unpacks, again and again into the same memory.
struct Unpacker {
    zstd: Decompressor<'static>,
    bytes: Vec<u8>,
}

impl Unpacker {
    fn new() -> std::io::Result<Self> {
        Ok(Self { zstd: Decompressor::new()?, bytes: Vec::new() })
    }
}

/// Which rows of a column are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    /// How many the column has.
    pub(super) of: usize,
    /// Those alone, in ascending order; without it all.
    pub(super) only: Option<&'a [usize]>,
}

impl Rows<'_> {
    pub(super) fn all(of: usize) -> Self {
        Self { of, only: None }
    }

    pub(super) fn len(self) -> usize {
        self.only.map_or(self.of, <[usize]>::len)
    }

    /// The numbers of these rows, which [`put`] wrote one after the other.
    fn take(self, mut from: &[u8]) -> Option<Vec<u64>> {
        let mut numbers = Vec::with_capacity(self.len());
        let Some(only) = self.only else {
            for _ in 0..self.of {
                numbers.push(take(&mut from)?);
            }
            return from.is_empty().then_some(numbers);
        };
        let mut at = 0;
        for row in only {
            skip(&mut from, row.checked_sub(at)?)?;
            numbers.push(take(&mut from)?);
            at = row + 1;
        }
        Some(numbers)
    }

    /// What these rows have of all.
    fn pick<T: Copy>(self, all: Vec<T>) -> Option<Vec<T>> {
        let Some(only) = self.only else { return Some(all) };
        only.iter().map(|row| all.get(*row).copied()).collect()
    }
}

/// Numbers of one column, each known or [`NONE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Numbers {
    /// The same in so many rows.
    Same(u64, usize),
    Each(Vec<u64>),
}

impl Default for Numbers {
    fn default() -> Self {
        Self::Same(NONE, 0)
    }
}

impl From<Vec<u64>> for Numbers {
    fn from(each: Vec<u64>) -> Self {
        let first = each.first().copied().unwrap_or(NONE);
        let is_same = each.iter().all(|value| *value == first);
        if is_same { Self::Same(first, each.len()) } else { Self::Each(each) }
    }
}

impl Numbers {
    pub(super) fn get(&self, row: usize) -> u64 {
        match self {
            Self::Same(same, _) => *same,
            Self::Each(each) => each.get(row).copied().unwrap_or(NONE),
        }
    }

    /// Rows of columns, by number of the column and of the row, in this order.
    pub(super) fn of_rows(columns: &[&Self], rows: &[(usize, usize)]) -> Self {
        let same = |column: &Self| match column {
            Self::Same(same, _) => Some(*same),
            Self::Each(_) => None,
        };
        // Most columns hold one value, or none.
        if let Some(first) = columns.first().and_then(|column| same(column))
            && columns.iter().all(|column| same(column) == Some(first))
        {
            return Self::Same(first, rows.len());
        }
        let each: Vec<_> = rows.iter().map(|(column, row)| columns[*column].get(*row)).collect();
        each.into()
    }

    /// No bytes at all when none is known.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Same(NONE, _) => Vec::new(),
            Self::Same(same, _) => {
                let mut bytes = vec![SAME];
                put(&mut bytes, same.wrapping_add(1));
                bytes
            }
            Self::Each(each) => pack(&put_all(each.iter().map(|value| value.wrapping_add(1)))),
        }
    }

    /// Reads rows of what [`to_bytes`](Self::to_bytes) made.
    pub(super) fn from_bytes(bytes: &[u8], rows: Rows<'_>) -> Option<Self> {
        match bytes.split_first() {
            None => Some(Self::Same(NONE, rows.len())),
            Some((&SAME, mut rest)) => {
                Some(Self::Same(take(&mut rest)?.wrapping_sub(1), rows.len()))
            }
            Some(_) => {
                let mut each = unpacked(bytes, |from| rows.take(from)).flatten()?;
                each.iter_mut().for_each(|number| *number = number.wrapping_sub(1));
                Some(Self::Each(each))
            }
        }
    }
}

/// Numbers that lie close to the one before.
pub(super) fn put_close(values: &[u64]) -> Vec<u8> {
    let mut before = 0_u64;
    let differences = values.iter().map(|value| {
        let difference = value.wrapping_sub(before);
        before = *value;
        // Zigzag: small in both directions.
        (difference << 1) ^ (difference >> 63).wrapping_neg()
    });
    pack(&put_all(differences))
}

/// Reads rows of what [`put_close`] made.
pub(super) fn take_close(bytes: &[u8], rows: Rows<'_>) -> Option<Vec<u64>> {
    let values = unpacked(bytes, |mut from| {
        let mut before = 0_u64;
        let mut values = Vec::with_capacity(rows.of);
        for _ in 0..rows.of {
            let zigzag = take(&mut from)?;
            before = before.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg());
            values.push(before);
        }
        from.is_empty().then_some(values)
    });
    rows.pick(values.flatten()?)
}

/// Ids of `N` bytes.
pub(super) fn put_ids<const N: usize>(ids: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    pack(&ids.flatten().collect::<Vec<u8>>())
}

/// Reads rows of what [`put_ids`] made.
pub(super) fn take_ids<const N: usize>(bytes: &[u8], rows: Rows<'_>) -> Option<Vec<[u8; N]>> {
    let ids = unpacked(bytes, |bytes| {
        let (ids, rest) = bytes.as_chunks::<N>();
        if !rest.is_empty() || ids.len() != rows.of {
            return None;
        }
        let Some(only) = rows.only else { return Some(ids.to_vec()) };
        only.iter().map(|row| ids.get(*row).copied()).collect()
    });
    ids.flatten()
}

/// Texts of one column, end to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    /// Where each ends, and whether there is one.
    ends: Vec<(u32, bool)>,
}

impl Texts {
    /// None yet, with room for so many rows.
    pub(super) fn with_room(rows: usize) -> Self {
        Self { bytes: Vec::new(), ends: Vec::with_capacity(rows) }
    }

    pub(super) fn push(&mut self, text: Option<&str>) {
        self.push_bytes(text.map(str::as_bytes));
    }

    pub(super) fn get(&self, row: usize) -> Option<&str> {
        std::str::from_utf8(self.bytes_of(row)?).ok()
    }

    /// Rows of columns, by number of the column and of the row, in this order.
    pub(super) fn of_rows(columns: &[&Self], rows: &[(usize, usize)]) -> Self {
        let mut all = Self::with_room(rows.len());
        rows.iter().for_each(|(column, row)| all.push_bytes(columns[*column].bytes_of(*row)));
        all
    }

    fn push_bytes(&mut self, text: Option<&[u8]>) {
        self.bytes.extend_from_slice(text.unwrap_or_default());
        self.ends.push((u32::try_from(self.bytes.len()).unwrap_or(u32::MAX), text.is_some()));
    }

    fn bytes_of(&self, row: usize) -> Option<&[u8]> {
        let (end, some) = *self.ends.get(row)?;
        if !some {
            return None;
        }
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |b| b.0);
        self.bytes.get(start as usize..end as usize)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        if self.ends.iter().all(|(_, some)| !some) {
            return Vec::new();
        }
        let mut start = 0;
        let lens = self.ends.iter().map(|(end, some)| {
            let len = if *some { u64::from(end - start) + 1 } else { 0 };
            start = *end;
            len
        });
        let mut bytes = put_all(lens);
        bytes.extend_from_slice(&self.bytes);
        pack(&bytes)
    }

    /// Reads rows of what [`to_bytes`](Self::to_bytes) made.
    pub(super) fn from_bytes(bytes: &[u8], rows: Rows<'_>) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self { bytes: Vec::new(), ends: vec![(0, false); rows.len()] });
        }
        let texts = unpacked(bytes, |mut from| {
            let mut end = 0_u32;
            let mut ends = Vec::with_capacity(rows.of);
            for _ in 0..rows.of {
                let text = take(&mut from)?;
                end = end.checked_add(u32::try_from(text.saturating_sub(1)).ok()?)?;
                ends.push((end, text > 0));
            }
            if from.len() != end as usize {
                return None;
            }
            let Some(only) = rows.only else { return Some(Self { bytes: from.to_vec(), ends }) };
            let start = |row: usize| row.checked_sub(1).and_then(|before| ends.get(before));
            let mut picked = Self::with_room(only.len());
            for row in only {
                let (end, some) = *ends.get(*row)?;
                let start = start(*row).map_or(0, |(end, _)| *end);
                let text = from.get(start as usize..end as usize)?;
                picked.push_bytes(some.then_some(text));
            }
            Some(picked)
        });
        texts.flatten()
    }
}

/// Appends a number in as few bytes as it needs.
pub(super) fn put(to: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push((number & 0x7f) as u8);
}

/// Numbers as [`put`] writes them, one after the other.
fn put_all(numbers: impl ExactSizeIterator<Item = u64>) -> Vec<u8> {
    let mut bytes = vec![0; numbers.len() * MAX_LEN];
    let mut at = 0;
    for number in numbers {
        let Some(to) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) else { break };
        if number < 1 << 7 {
            to[0] = number as u8;
            at += 1;
        } else if number < 1 << 56 {
            let (word, len) = spread(number);
            *to = word.to_le_bytes();
            at += len;
        } else {
            let mut long = Vec::new();
            put(&mut long, number);
            bytes[at..at + long.len()].copy_from_slice(&long);
            at += long.len();
        }
    }
    bytes.truncate(at);
    bytes
}

/// A number of 56 bits as bytes that [`take`] reads, all at once, and how many they are.
fn spread(number: u64) -> (u64, usize) {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    let len = bits.div_ceil(7);
    // Twenty-eight bits of each four bytes, then fourteen of each two, then seven of each one.
    let word = (number & 0x0fff_ffff) | (number & 0x00ff_ffff_f000_0000) << 4;
    let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x0fff_c000_0fff_c000) << 2;
    let word = (word & 0x007f_007f_007f_007f) | (word & 0x3f80_3f80_3f80_3f80) << 1;
    // Each has the mark but the last.
    (word | 0x8080_8080_8080_8080 & !(u64::MAX << (8 * (len - 1))), len)
}

/// Takes a number that [`put`] wrote off the front.
#[inline]
pub(super) fn take(from: &mut &[u8]) -> Option<u64> {
    // Most numbers are of few bytes, and most are not at the very end: all of their bytes at once.
    if let Some(word) = from.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) {
        let ends = !word & 0x8080_8080_8080_8080;
        if ends != 0 {
            let bits = ends.trailing_zeros() + 1;
            *from = &from[bits as usize / 8..];
            let word = word & (u64::MAX >> (64 - bits));
            // Seven bits of each byte, then fourteen of each two, then twenty-eight of each four.
            let word = (word & 0x007f_007f_007f_007f) | (word & 0x7f00_7f00_7f00_7f00) >> 1;
            let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x3fff_0000_3fff_0000) >> 2;
            return Some((word & 0x0fff_ffff) | (word & 0x0fff_ffff_0000_0000) >> 4);
        }
    }
    take_slowly(from)
}

/// Passes over so many numbers that [`put`] wrote.
fn skip(from: &mut &[u8], count: usize) -> Option<()> {
    let mut left = count;
    // The last byte of each has no mark: the numbers of eight bytes at once.
    while left >= 8
        && let Some((word, rest)) = from.split_first_chunk::<8>()
    {
        let ends = !u64::from_le_bytes(*word) & 0x8080_8080_8080_8080;
        left -= ends.count_ones() as usize;
        *from = rest;
    }
    while left > 0 {
        let (byte, rest) = from.split_first()?;
        left -= usize::from(byte & 0x80 == 0);
        *from = rest;
    }
    Some(())
}

fn take_slowly(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        if shift == 63 && *byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    PACKER.with_borrow_mut(|packer| {
        let packer = match packer {
            Some(packer) => packer,
            None => packer.insert(Compressor::new(LEVEL)?),
        };
        packer.compress(bytes)
    })
}

/// Hands over what was compressed, in memory that the next call uses again.
fn decompressed<T>(bytes: &[u8], len: usize, take: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let mut unpacker = UNPACKER.take().or_else(|| Unpacker::new().ok())?;
    unpacker.bytes.clear();
    unpacker.bytes.reserve(len);
    let done = unpacker.zstd.decompress_to_buffer(bytes, &mut unpacker.bytes);
    let answer = done.is_ok_and(|done| done == len).then(|| take(&unpacker.bytes));
    if len <= MAX_HELD {
        UNPACKER.set(Some(unpacker));
    }
    answer
}

/// Bytes as they are, or smaller.
pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    if bytes.len() >= MIN_PACKED
        && let Ok(packed) = compress(bytes)
        // A little gain is not worth the unpacking.
        && packed.len() + 8 < bytes.len() / 16 * 15
    {
        all.reserve_exact(packed.len() + 8);
        all.push(PACKED);
        put(&mut all, bytes.len() as u64);
        all.extend(packed);
    } else {
        all.reserve_exact(bytes.len() + 1);
        all.push(PLAIN);
        all.extend(bytes);
    }
    all
}

/// Hands over what [`pack`] was given; `None` for anything else, and for what is too large.
pub(super) fn unpacked<T>(bytes: &[u8], hand_over: impl FnOnce(&[u8]) -> T) -> Option<T> {
    match bytes.split_first() {
        None => Some(hand_over(&[])),
        Some((&PLAIN, rest)) => Some(hand_over(rest)),
        Some((&PACKED, mut rest)) => {
            let len = usize::try_from(take(&mut rest)?).ok().filter(|len| *len <= MAX_BYTES)?;
            decompressed(rest, len, hand_over)
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        NONE, Numbers, Rows, Texts, put, put_all, put_close, put_ids, take, take_close, take_ids,
    };
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn columns_survive_their_bytes(
            numbers in vec(option::of(0..u64::MAX), 0..300), close in vec(any::<u64>(), 0..300),
            ids in vec(any::<[u8; 16]>(), 0..100), texts in vec(option::of("[a-zé]{0,20}"), 0..100),
        ) {
            let each: Vec<_> = numbers.iter().map(|number| number.unwrap_or(NONE)).collect();
            let column = Numbers::from(each);
            let read = Numbers::from_bytes(&column.to_bytes(), Rows::all(numbers.len())).unwrap();
            for (row, number) in numbers.iter().enumerate() {
                prop_assert_eq!(read.get(row), number.unwrap_or(NONE));
            }
            prop_assert_eq!(take_close(&put_close(&close), Rows::all(close.len())), Some(close));
            prop_assert_eq!(take_ids(&put_ids(ids.iter().copied()), Rows::all(ids.len())), Some(ids));
            let mut column = Texts::default();
            texts.iter().for_each(|text| column.push(text.as_deref()));
            let read = Texts::from_bytes(&column.to_bytes(), Rows::all(texts.len())).unwrap();
            for (row, text) in texts.iter().enumerate() {
                prop_assert_eq!(read.get(row), text.as_deref());
            }
        }

        #[test]
        fn some_rows_are_those_of_all(
            numbers in vec(option::of(0..u64::MAX), 1..300), small in vec(0..200_u64, 1..300),
            ids in vec(any::<[u8; 16]>(), 1..100), texts in vec(option::of("[a-zé]{0,20}"), 1..100),
            wanted in vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let of = |len: usize| {
                let rows: BTreeSet<usize> = wanted.iter().map(|index| index.index(len)).collect();
                rows.into_iter().collect::<Vec<_>>()
            };
            let each: Vec<_> = numbers.iter().map(|number| number.unwrap_or(NONE)).collect();
            for each in [each, small] {
                let only = of(each.len());
                let rows = Rows { of: each.len(), only: Some(&only) };
                let close = take_close(&put_close(&each), rows).unwrap();
                let read = Numbers::from_bytes(&Numbers::from(each.clone()).to_bytes(), rows).unwrap();
                for (at, row) in only.iter().enumerate() {
                    prop_assert_eq!((read.get(at), close[at]), (each[*row], each[*row]));
                }
            }
            let only = of(ids.len());
            let rows = Rows { of: ids.len(), only: Some(&only) };
            let read: Vec<[u8; 16]> = take_ids(&put_ids(ids.iter().copied()), rows).unwrap();
            prop_assert_eq!(read, only.iter().map(|row| ids[*row]).collect::<Vec<_>>());
            let only = of(texts.len());
            let rows = Rows { of: texts.len(), only: Some(&only) };
            let mut column = Texts::default();
            texts.iter().for_each(|text| column.push(text.as_deref()));
            let read = Texts::from_bytes(&column.to_bytes(), rows).unwrap();
            for (at, row) in only.iter().enumerate() {
                prop_assert_eq!(read.get(at), texts[*row].as_deref());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(
            bytes in vec(any::<u8>(), 0..80), len in 0..100_usize, only in vec(0..100_usize, 0..9),
        ) {
            for rows in [Rows::all(len), Rows { of: len, only: Some(&only) }] {
                let _any = (Numbers::from_bytes(&bytes, rows), take_close(&bytes, rows));
                let _any = (take_ids::<8>(&bytes, rows), Texts::from_bytes(&bytes, rows));
            }
        }
    }

    #[test]
    fn numbers_put_together_are_those_put_one_by_one() {
        let edges = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let numbers: Vec<_> = edges.chain([0, u64::MAX]).collect();
        let mut bytes = Vec::new();
        numbers.iter().for_each(|number| put(&mut bytes, *number));
        assert_eq!(put_all(numbers.iter().copied()), bytes);
        let mut from = bytes.as_slice();
        let read: Vec<_> = std::iter::from_fn(|| take(&mut from)).collect();
        assert_eq!(read, numbers);
    }

    #[test]
    fn what_is_the_same_in_all_rows_takes_a_few_bytes() {
        let bytes = |value| Numbers::from(vec![value; 4096]).to_bytes();
        assert_eq!(bytes(NONE).len(), 0);
        assert!(bytes(200).len() <= 4);
    }
}
