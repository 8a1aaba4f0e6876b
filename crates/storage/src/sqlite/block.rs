//! Calls as columns, some thousand in a block. Pure; knows no SQL.
//!
//! Texts that repeat over a day are numbers into the file's table of texts; all other texts, and
//! what only a few calls have, are in columns of their own, packed. A column that no call of a
//! block has takes nothing.

mod row;

use super::column::{
    NONE, Numbers, Rows, Texts, put, put_close, put_ids, take, take_close, take_ids,
};
use contract::row::Call;
use row::{joined, more_of, names_of, numbers_of};
use std::collections::BTreeMap;
use std::convert::Infallible;

/// Calls of a sealed block, at most.
pub(super) const MAX_ROWS: usize = 4096;

/// Rows of a block or an entry of the log that is read, at most. An entry has as many as were written
/// at once, and no request of telemetry brings as many as this. More is damage.
pub(super) const MOST_ROWS: usize = 1 << 22;

/// What a call is known by: trace and span.
pub(super) type Id = (u128, u64);

/// A column of a block. Files keep the numbers: columns are only ever added, at the end of a kind.
pub(super) type Column = u8;
pub(super) const START: Column = 0;
pub(super) const TRACE: Column = 1;
pub(super) const SPAN: Column = 2;
const FIRST_NUMBER: Column = 8;
const FIRST_NAME: Column = 64;
const FIRST_TEXT: Column = 96;

/// Columns of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Number {
    Duration,
    FirstChunk,
    FirstToken,
    /// 0 ok, 1 error, 2 cancelled.
    Outcome,
    /// Place in [`CLASSES`](crate::outcome::CLASSES).
    Class,
    Stream,
    Embedding,
    HttpStatus,
    Pid,
    Input,
    Output,
    CacheRead,
    CacheWrite,
    Reasoning,
    /// 10^-12 USD.
    Cost,
    MaxTokens,
    /// The bits of a float, as are [`TopP`](Self::TopP) and [`RetryAfter`](Self::RetryAfter).
    Temperature,
    TopP,
    Choices,
    Port,
    RetryAfter,
    Resend,
    Chunks,
    RequestSize,
    ResponseSize,
    Recorded,
    /// Where it is an id as W3C has it; else it is in [`Text::Parent`].
    Parent,
}
const NUMBERS: usize = 27;

/// Columns of texts that repeat, as numbers of texts of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Name {
    ErrorType,
    Service,
    Workload,
    Host,
    Provider,
    Operation,
    RequestModel,
    ResponseModel,
    Platform,
    Server,
    PriceTable,
    RecognisedBy,
    Incomplete,
    /// All of them, with [`BETWEEN`] between.
    Finish,
}
const NAMES: usize = 14;

/// Columns of other texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Text {
    Response,
    Conversation,
    /// All of them, with [`BETWEEN`] between.
    Tools,
    /// JSON of the further attributes.
    More,
    Parent,
}
const TEXTS: usize = 5;

/// Stands between texts of a list (ASCII's unit separator).
pub(super) const BETWEEN: char = '\u{1f}';

impl Number {
    pub(super) const fn column(self) -> Column {
        FIRST_NUMBER + self as Column
    }
}

impl Name {
    pub(super) const fn column(self) -> Column {
        FIRST_NAME + self as Column
    }
}

impl Text {
    pub(super) const fn column(self) -> Column {
        FIRST_TEXT + self as Column
    }
}

/// Calls of a day, as columns in memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Block {
    pub(super) start: Vec<u64>,
    pub(super) trace: Vec<u128>,
    pub(super) span: Vec<u64>,
    numbers: [Numbers; NUMBERS],
    names: [Numbers; NAMES],
    texts: [Texts; TEXTS],
}

/// What a block holds, to know whether to look into it. Times in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Extent {
    pub(super) rows: usize,
    pub(super) first_start: u64,
    pub(super) last_start: u64,
    pub(super) first_end: u64,
    pub(super) last_end: u64,
}

impl Block {
    pub(super) fn len(&self) -> usize {
        self.start.len()
    }

    /// The number of a row, or [`NONE`].
    pub(super) fn number(&self, column: Number, row: usize) -> u64 {
        self.numbers[column as usize].get(row)
    }

    /// The number of a row, where it is known.
    pub(super) fn known(&self, column: Number, row: usize) -> Option<u64> {
        Some(self.number(column, row)).filter(|number| *number != NONE)
    }

    /// The number of the text of a row, or [`NONE`].
    pub(super) fn name(&self, column: Name, row: usize) -> u64 {
        self.names[column as usize].get(row)
    }

    pub(super) fn text(&self, column: Text, row: usize) -> Option<&str> {
        self.texts[column as usize].get(row)
    }

    pub(super) fn id(&self, row: usize) -> Id {
        (self.trace[row], self.span[row])
    }

    /// When a row ended.
    pub(super) fn end(&self, row: usize) -> u64 {
        self.start[row].saturating_add(self.known(Number::Duration, row).unwrap_or(0))
    }

    /// The block of some calls. `number_of` gives the number of a text.
    pub(super) fn of<E>(
        calls: &[(Id, &Call)],
        mut number_of: impl FnMut(&str) -> Result<u64, E>,
    ) -> Result<Self, E> {
        let column = || Vec::with_capacity(calls.len());
        let mut numbers: [Vec<u64>; NUMBERS] = std::array::from_fn(|_| column());
        let mut names: [Vec<u64>; NAMES] = std::array::from_fn(|_| column());
        let mut texts: [Texts; TEXTS] = std::array::from_fn(|_| Texts::with_room(calls.len()));
        for (_, call) in calls {
            let finish = joined(&call.finish_reasons);
            for (names, text) in names.iter_mut().zip(names_of(call, finish.as_deref())) {
                names.push(text.map_or(Ok(NONE), &mut number_of)?);
            }
            let parent = call.parent_span_id.as_deref();
            let parent_id = parent.and_then(crate::units::span_id);
            let row = numbers_of(call, parent_id);
            numbers.iter_mut().zip(row).for_each(|(numbers, number)| numbers.push(number));
            let [response, conversation, tools, more, other_parent] = &mut texts;
            response.push(call.response_id.as_deref());
            conversation.push(call.conversation_id.as_deref());
            tools.push(joined(&call.tool_calls).as_deref());
            more.push(more_of(&call.more).as_deref());
            other_parent.push(parent.filter(|_| parent_id.is_none()));
        }
        Ok(Self {
            start: calls.iter().map(|(_, call)| call.time.0).collect(),
            trace: calls.iter().map(|((trace, _), _)| *trace).collect(),
            span: calls.iter().map(|((_, span), _)| *span).collect(),
            numbers: numbers.map(Numbers::from),
            names: names.map(Numbers::from),
            texts,
        })
    }

    /// The block with other calls in some rows, which keep their starts.
    pub(super) fn with<E>(
        &self,
        calls: &BTreeMap<usize, (Id, &Call)>,
        number_of: impl FnMut(&str) -> Result<u64, E>,
    ) -> Result<Self, E> {
        let others: Vec<_> = calls.values().copied().collect();
        let others = Self::of(&others, number_of)?;
        let mut rows: Vec<_> = (0..self.len()).map(|row| (0, row)).collect();
        for (other, row) in calls.keys().enumerate() {
            // A row that the block has not is none of its calls.
            if let Some(place) = rows.get_mut(*row) {
                *place = (1, other);
            }
        }
        let start = self.start.clone();
        Ok(Self { start, ..Self::of_rows(&[self, &others], &rows) })
    }

    /// Rows of blocks of one file, by number of the block and of the row, in this order.
    pub(super) fn of_rows(blocks: &[&Self], rows: &[(usize, usize)]) -> Self {
        let mut all = Self {
            start: rows.iter().map(|(block, row)| blocks[*block].start[*row]).collect(),
            trace: rows.iter().map(|(block, row)| blocks[*block].trace[*row]).collect(),
            span: rows.iter().map(|(block, row)| blocks[*block].span[*row]).collect(),
            ..Self::default()
        };
        for (column, numbers) in all.numbers.iter_mut().enumerate() {
            let from: Vec<_> = blocks.iter().map(|block| &block.numbers[column]).collect();
            *numbers = Numbers::of_rows(&from, rows);
        }
        for (column, names) in all.names.iter_mut().enumerate() {
            let from: Vec<_> = blocks.iter().map(|block| &block.names[column]).collect();
            *names = Numbers::of_rows(&from, rows);
        }
        for (column, texts) in all.texts.iter_mut().enumerate() {
            let from: Vec<_> = blocks.iter().map(|block| &block.texts[column]).collect();
            *texts = Texts::of_rows(&from, rows);
        }
        all
    }

    /// What the block holds; zeros of an empty one.
    pub(super) fn extent(&self) -> Extent {
        let ends = (0..self.len()).map(|row| self.end(row));
        let (first_end, last_end) =
            ends.fold((u64::MAX, 0), |(first, last), end| (first.min(end), last.max(end)));
        Extent {
            rows: self.len(),
            first_start: self.start.iter().copied().min().unwrap_or(0),
            last_start: self.start.iter().copied().max().unwrap_or(0),
            first_end,
            last_end,
        }
    }

    /// The columns that hold something, packed.
    pub(super) fn columns(&self) -> impl Iterator<Item = (Column, Vec<u8>)> + '_ {
        let ids = [
            (START, put_close(&self.start)),
            (TRACE, put_ids(self.trace.iter().map(|id| id.to_be_bytes()))),
            (SPAN, put_ids(self.span.iter().map(|id| id.to_be_bytes()))),
        ];
        let numbers = (FIRST_NUMBER..).zip(&self.numbers);
        let names = (FIRST_NAME..).zip(&self.names);
        let numbers = numbers.chain(names).map(move |(column, n)| (column, n.to_bytes()));
        let texts = (FIRST_TEXT..).zip(&self.texts);
        let texts = texts.map(move |(column, t)| (column, t.to_bytes()));
        ids.into_iter().chain(numbers).chain(texts).filter(|(_, bytes)| !bytes.is_empty())
    }

    /// Makes a block of rows of the columns that `read` hands over; a column of which it hands
    /// nothing over is one that no call has. With `wanted`, all other columns are so too, starts
    /// are zero, and there are no ids. `None` when a column is damaged.
    pub(super) fn read<E>(
        rows: Rows<'_>,
        wanted: Option<&[Column]>,
        mut read: impl FnMut(Column, &mut dyn FnMut(&[u8])) -> Result<(), E>,
    ) -> Result<Option<Self>, E> {
        let is_wanted = |column: Column| wanted.is_none_or(|wanted| wanted.contains(&column));
        let mut block = Self { start: Vec::new(), ..Self::default() };
        for numbers in block.numbers.iter_mut().chain(&mut block.names) {
            *numbers = Numbers::Same(NONE, rows.len());
        }
        let all = [START, TRACE, SPAN].into_iter();
        let all = all.chain((FIRST_NUMBER..).take(NUMBERS)).chain((FIRST_NAME..).take(NAMES));
        for column in all.chain((FIRST_TEXT..).take(TEXTS)).filter(|column| is_wanted(*column)) {
            let mut is_whole = true;
            read(column, &mut |bytes| is_whole = block.set(column, bytes, rows).is_some())?;
            if !is_whole {
                return Ok(None);
            }
        }
        if block.start.is_empty() {
            block.start = vec![0; rows.len()];
        }
        let mut ids = [(TRACE, block.trace.len()), (SPAN, block.span.len())].into_iter();
        let is_whole = ids.all(|(column, found)| !is_wanted(column) || found == rows.len());
        Ok(is_whole.then_some(block))
    }

    /// Takes a column over, of bytes that are not none.
    fn set(&mut self, column: Column, bytes: &[u8], rows: Rows<'_>) -> Option<()> {
        let place = |first: Column| usize::from(column.wrapping_sub(first));
        match column {
            START => self.start = take_close(bytes, rows)?,
            TRACE => {
                self.trace = take_ids(bytes, rows)?.into_iter().map(u128::from_be_bytes).collect();
            }
            SPAN => {
                self.span = take_ids(bytes, rows)?.into_iter().map(u64::from_be_bytes).collect();
            }
            FIRST_TEXT.. => {
                *self.texts.get_mut(place(FIRST_TEXT))? = Texts::from_bytes(bytes, rows)?;
            }
            FIRST_NAME.. => {
                *self.names.get_mut(place(FIRST_NAME))? = Numbers::from_bytes(bytes, rows)?;
            }
            _ => *self.numbers.get_mut(place(FIRST_NUMBER))? = Numbers::from_bytes(bytes, rows)?,
        }
        Some(())
    }

    /// All columns in one piece, for the log of a day.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for (column, bytes) in self.columns() {
            all.push(column);
            put(&mut all, bytes.len() as u64);
            all.extend(bytes);
        }
        all
    }

    /// Reads rows of what [`to_bytes`](Self::to_bytes) wrote, as [`read`](Self::read) does.
    pub(super) fn from_bytes(
        bytes: &[u8],
        rows: Rows<'_>,
        wanted: Option<&[Column]>,
    ) -> Option<Self> {
        let mut columns = BTreeMap::new();
        let mut from = bytes;
        while let Some((column, rest)) = from.split_first() {
            from = rest;
            let len = usize::try_from(take(&mut from)?).ok()?;
            let (body, rest) = from.split_at_checked(len)?;
            from = rest;
            columns.insert(*column, body);
        }
        let read = |column, hand_over: &mut dyn FnMut(&[u8])| {
            columns.get(&column).into_iter().for_each(|bytes| hand_over(bytes));
            Ok::<_, Infallible>(())
        };
        match Self::read(rows, wanted, read) {
            Ok(block) => block,
        }
    }
}

#[cfg(test)]
mod tests;
