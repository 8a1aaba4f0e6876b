//! Calls by the time at which they ended, as far as sums need them.

use super::block::{Block, Column, Name, Number, START};
use super::column::NONE;
use super::reading::{Place, load, places};
use super::scan::Names;
use crate::error::Error;
use crate::hashing::Keyed;
use crate::outcome::CLASSES;
use crate::query::Outcome;
use crate::tally::{Counted, finish};
use crate::units::nanos;
use rusqlite::Connection;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Whose call it is, and of which model, in numbers of one file's texts; 0 where not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Ids {
    pub(super) service: i64,
    pub(super) workload: i64,
    pub(super) provider: i64,
    /// As asked for, or else as answered.
    pub(super) model: i64,
    pub(super) operation: i64,
}

impl Ids {
    /// Of a row of a block that has [`COLUMNS`].
    pub(super) fn of(block: &Block, row: usize) -> Self {
        let name = |column| {
            let name = block.name(column, row);
            if name == NONE { 0 } else { i64::try_from(name).unwrap_or(0) }
        };
        Self {
            service: name(Name::Service),
            workload: name(Name::Workload),
            provider: name(Name::Provider),
            model: match name(Name::RequestModel) {
                0 => name(Name::ResponseModel),
                model => model,
            },
            operation: name(Name::Operation),
        }
    }
}

/// What sums need of a call.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) at: u64,
    pub(super) ids: Ids,
    pub(super) counted: Counted<'static>,
}

/// The columns that [`Ended::of`] reads.
pub(super) const COLUMNS: [Column; 23] = [
    START,
    Number::Duration.column(),
    Number::FirstChunk.column(),
    Number::FirstToken.column(),
    Number::Outcome.column(),
    Number::Class.column(),
    Number::Stream.column(),
    Number::Embedding.column(),
    Number::Input.column(),
    Number::Output.column(),
    Number::CacheRead.column(),
    Number::CacheWrite.column(),
    Number::Reasoning.column(),
    Number::Cost.column(),
    Number::RetryAfter.column(),
    Number::Resend.column(),
    Name::Service.column(),
    Name::Workload.column(),
    Name::Provider.column(),
    Name::Operation.column(),
    Name::RequestModel.column(),
    Name::ResponseModel.column(),
    Name::Finish.column(),
];

/// What the reasons of a file stand for, remembered as they are asked for.
#[derive(Debug)]
pub(super) struct Finishes<'a> {
    names: &'a Names<'a>,
    known: RefCell<HashMap<u64, Option<usize>, Keyed>>,
}

impl<'a> Finishes<'a> {
    pub(super) fn new(names: &'a Names<'a>) -> Self {
        Self { names, known: RefCell::default() }
    }

    /// The place of the first reason.
    fn of(&self, name: u64) -> Option<usize> {
        if name == NONE {
            return None;
        }
        *self.known.borrow_mut().entry(name).or_insert_with(|| {
            let text = self.names.text(name)?;
            text.split(super::block::BETWEEN).next().map(finish)
        })
    }
}

impl Ended {
    /// Of a row of a block that has [`COLUMNS`].
    pub(super) fn of(block: &Block, row: usize, finishes: &Finishes<'_>) -> Self {
        let number = |column| block.known(column, row);
        let class = number(Number::Class).and_then(|class| usize::try_from(class).ok());
        let how = number(Number::Outcome).and_then(|how| i64::try_from(how).ok()).unwrap_or(0);
        Self {
            at: block.end(row),
            ids: Ids::of(block, row),
            counted: Counted {
                embedding: number(Number::Embedding) == Some(1),
                outcome: Some(Outcome::of_number(how)),
                class: class.and_then(|class| CLASSES.get(class).copied()),
                duration_nanos: number(Number::Duration),
                stream: number(Number::Stream) == Some(1),
                first_chunk_nanos: number(Number::FirstChunk),
                first_token_nanos: number(Number::FirstToken),
                retry_after_nanos: number(Number::RetryAfter)
                    .and_then(|bits| nanos(Some(f64::from_bits(bits)))),
                finish: finishes.of(block.name(Name::Finish, row)),
                retried: number(Number::Resend).is_some_and(|count| count > 0),
                cost: number(Number::Cost),
                tokens: [
                    number(Number::Input),
                    number(Number::Output),
                    number(Number::CacheRead),
                    number(Number::CacheWrite),
                    number(Number::Reasoning),
                ],
            },
        }
    }
}

/// A day that is asked several questions.
pub(super) struct Day<'a> {
    pub(super) file: &'a Connection,
    pub(super) places: Vec<Place>,
    pub(super) names: Names<'a>,
    /// [`COLUMNS`] of the places that were looked into: the log, and those at the ends of spans.
    blocks: RefCell<HashMap<(bool, i64), Rc<Block>>>,
}

impl<'a> Day<'a> {
    pub(super) fn open(file: &'a Connection) -> Result<Self, Error> {
        let (places, names) = (places(file)?, Names::new(file));
        Ok(Self { file, places, names, blocks: RefCell::default() })
    }

    /// Hands over each row of a place, with its block, that ended in a span (nanoseconds, end excluded).
    pub(super) fn each(
        &self,
        place: &Place,
        (from, to): (u64, u64),
        mut take: impl FnMut(&Block, usize),
    ) -> Result<(), Error> {
        if !overlaps(place, from, to) {
            return Ok(());
        }
        let block = self.block(place)?;
        let rows = (0..block.len()).filter(|row| (from..to).contains(&block.end(*row)));
        rows.for_each(|row| take(&block, row));
        Ok(())
    }

    fn block(&self, place: &Place) -> Result<Rc<Block>, Error> {
        let key = (place.sealed, place.id);
        if let Some(block) = self.blocks.borrow().get(&key) {
            return Ok(Rc::clone(block));
        }
        let block = Rc::new(load(self.file, place, Some(&COLUMNS))?);
        self.blocks.borrow_mut().insert(key, Rc::clone(&block));
        Ok(block)
    }
}

/// Whether a call of the place may have ended in the span.
pub(super) fn overlaps(place: &Place, from: u64, to: u64) -> bool {
    place.extent.last_end >= from && place.extent.first_end < to
}
