//! A filter, compiled for the blocks of one file: which columns it reads, and which rows match.
//! It means what [`Filter::matches`](crate::Filter::matches) says.

use super::block::{BETWEEN, Block, Column, Name, Number, TRACE, Text};
use super::column::NONE;
use super::reading::{Place, load};
use crate::error::{Doing, Error};
use crate::filter::{
    FREE, Filter, NumberField, Pattern, Range, Test, TextField, contains_ignoring_case, text_of,
};
use crate::hashing::Keyed;
use crate::outcome::CLASSES;
use crate::units::nanos;
use rusqlite::Connection;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The texts of a file, remembered as they are asked for.
#[derive(Debug)]
pub(super) struct Names<'a> {
    file: &'a Connection,
    known: RefCell<HashMap<u64, Option<String>, Keyed>>,
}

/// Numbers of texts, and of what else has few values.
type Numbered = HashSet<u64, Keyed>;

/// A filter for one file.
#[derive(Debug)]
pub(super) struct Compiled {
    terms: Vec<(bool, Vec<Check>)>,
    columns: Vec<Column>,
}

/// One way for a term to hold.
#[derive(Debug)]
enum Check {
    /// The number is one of these.
    Name(Name, Numbered),
    Number(Vec<Number>, Vec<Range>),
    /// As the bits of seconds.
    Seconds(Number, Vec<Range>),
    Outcome(Numbered),
    Stream(bool),
    Class(Numbered),
    Text(Text, Like),
    Trace(Like),
    More(Vec<String>, Like),
}

/// What a text is like.
#[derive(Debug, Clone)]
enum Like {
    Any(Vec<Pattern>),
    Has(String),
}

impl Like {
    fn is(&self, text: &str) -> bool {
        match self {
            Self::Any(any) => any.iter().any(|pattern| pattern.matches(text)),
            Self::Has(part) => contains_ignoring_case(text, part),
        }
    }
}

impl<'a> Names<'a> {
    pub(super) fn new(file: &'a Connection) -> Self {
        Self { file, known: RefCell::default() }
    }

    /// The text of a number; `None` for [`NONE`], and for one that is not in the file.
    pub(super) fn text(&self, number: u64) -> Option<String> {
        if number == NONE {
            return None;
        }
        if let Some(text) = self.known.borrow().get(&number) {
            return text.clone();
        }
        let mut statement =
            self.file.prepare_cached("SELECT value FROM text WHERE id = ?1").ok()?;
        let number_in_file = i64::try_from(number).ok()?;
        let text: Option<String> = statement.query_row([number_in_file], |row| row.get(0)).ok();
        self.known.borrow_mut().insert(number, text.clone());
        text
    }

    /// The numbers of all texts that are so.
    fn like(&self, is: impl Fn(&str) -> bool) -> Result<Numbered, Error> {
        const DOING: &str = "look texts up";
        let mut statement = self.file.prepare_cached("SELECT id, value FROM text").doing(DOING)?;
        let mut rows = statement.query([]).doing(DOING)?;
        let mut like = Numbered::default();
        while let Some(row) = rows.next().doing(DOING)? {
            let value = row.get_ref(1).doing(DOING)?;
            if is(value.as_str().unwrap_or_default()) {
                like.insert(row.get::<_, i64>(0).doing(DOING)?.unsigned_abs());
            }
        }
        Ok(like)
    }
}

impl Compiled {
    pub(super) fn new(filter: &Filter, names: &Names<'_>) -> Result<Self, Error> {
        let mut terms = Vec::new();
        let mut columns = Vec::new();
        for term in &filter.terms {
            let mut checks = Vec::new();
            match &term.test {
                Test::Text { field, any } => {
                    text_checks(field, &Like::Any(any.clone()), names, &mut checks)?;
                }
                Test::Free(part) => {
                    for field in &FREE {
                        text_checks(field, &Like::Has(part.clone()), names, &mut checks)?;
                    }
                }
                Test::Number { field, any } => checks.push(number_check(*field, any)),
                Test::Outcome(any) => {
                    let numbers = any.iter().map(|outcome| outcome.number().unsigned_abs());
                    checks.push(Check::Outcome(numbers.collect()));
                }
                Test::Stream(stream) => checks.push(Check::Stream(*stream)),
            }
            checks.iter().for_each(|check| check.columns(&mut columns));
            terms.push((term.negated, checks));
        }
        columns.sort_unstable();
        columns.dedup();
        Ok(Self { terms, columns })
    }

    /// The columns that it reads.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The rows of a place that match.
    pub(super) fn rows(&self, file: &Connection, place: &Place) -> Result<Vec<usize>, Error> {
        if self.terms.is_empty() {
            return Ok((0..place.extent.rows).collect());
        }
        let block = load(file, place, Some(&self.columns))?;
        Ok(self.matching(&block))
    }

    /// The rows of a block, which has the columns, that match.
    pub(super) fn matching(&self, block: &Block) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..block.len()).collect();
        for (negated, checks) in &self.terms {
            // Further attributes repeat from row to row: what was found of a text is remembered.
            let mut remembered = HashMap::default();
            rows.retain(|row| {
                let like = checks.iter().any(|check| check.holds(block, *row, &mut remembered));
                like != *negated
            });
        }
        rows
    }
}

impl Check {
    fn columns(&self, columns: &mut Vec<Column>) {
        match self {
            Self::Name(name, _) => columns.push(name.column()),
            Self::Number(numbers, _) => columns.extend(numbers.iter().map(|n| n.column())),
            Self::Seconds(number, _) => columns.push(number.column()),
            Self::Outcome(_) => columns.push(Number::Outcome.column()),
            Self::Stream(_) => columns.push(Number::Stream.column()),
            Self::Class(_) => columns.push(Number::Class.column()),
            Self::Text(text, _) => columns.push(text.column()),
            Self::Trace(_) => columns.push(TRACE),
            Self::More(..) => columns.push(Text::More.column()),
        }
    }

    fn holds<'b>(
        &self,
        block: &'b Block,
        row: usize,
        remembered: &mut HashMap<&'b str, bool, Keyed>,
    ) -> bool {
        let in_ranges = |number: u128, any: &[Range]| any.iter().any(|r| r.contains(number));
        match self {
            Self::Name(name, numbers) => numbers.contains(&block.name(*name, row)),
            Self::Number(columns, any) => {
                let known = columns.iter().filter_map(|column| block.known(*column, row));
                let sum = known.map(u128::from).reduce(|sum, number| sum + number);
                sum.is_some_and(|sum| in_ranges(sum, any))
            }
            Self::Seconds(column, any) => block
                .known(*column, row)
                .and_then(|bits| nanos(Some(f64::from_bits(bits))))
                .is_some_and(|nanos| in_ranges(nanos.into(), any)),
            Self::Outcome(numbers) => numbers.contains(&block.number(Number::Outcome, row)),
            Self::Stream(stream) => (block.number(Number::Stream, row) == 1) == *stream,
            Self::Class(numbers) => numbers.contains(&block.number(Number::Class, row)),
            Self::Text(text, like) => block.text(*text, row).is_some_and(|found| match text {
                Text::Tools => found.split(BETWEEN).any(|one| like.is(one)),
                Text::Response | Text::Conversation | Text::More | Text::Parent => like.is(found),
            }),
            Self::Trace(like) => like.is(&format!("{:032x}", block.trace[row])),
            Self::More(keys, like) => block.text(Text::More, row).is_some_and(|json| {
                *remembered.entry(json).or_insert_with(|| more_is(json, keys, like))
            }),
        }
    }
}

fn more_is(json: &str, keys: &[String], like: &Like) -> bool {
    let more: BTreeMap<String, serde_json::Value> = serde_json::from_str(json).unwrap_or_default();
    let mut values = keys.iter().filter_map(|key| more.get(key));
    values.any(|value| text_of(value).is_some_and(|text| like.is(&text)))
}

fn text_checks(
    field: &TextField,
    like: &Like,
    names: &Names<'_>,
    to: &mut Vec<Check>,
) -> Result<(), Error> {
    let columns: &[Name] = match field {
        TextField::Service => &[Name::Service, Name::Workload],
        TextField::Model => &[Name::RequestModel, Name::ResponseModel],
        TextField::Provider => &[Name::Provider],
        TextField::Operation => &[Name::Operation],
        TextField::ErrorType => &[Name::ErrorType],
        TextField::Host => &[Name::Host],
        TextField::Platform => &[Name::Platform],
        TextField::Server => &[Name::Server],
        TextField::Incomplete => &[Name::Incomplete],
        TextField::Finish => {
            let any = names.like(|text| text.split(BETWEEN).any(|one| like.is(one)))?;
            to.push(Check::Name(Name::Finish, any));
            return Ok(());
        }
        TextField::Class => {
            let places = (0..).zip(CLASSES).filter(|(_, class)| like.is(class));
            to.push(Check::Class(places.map(|(place, _)| place).collect()));
            return Ok(());
        }
        TextField::Tool => {
            to.push(Check::Text(Text::Tools, like.clone()));
            return Ok(());
        }
        TextField::Conversation => {
            to.push(Check::Text(Text::Conversation, like.clone()));
            return Ok(());
        }
        TextField::Response => {
            to.push(Check::Text(Text::Response, like.clone()));
            return Ok(());
        }
        TextField::Trace => {
            to.push(Check::Trace(like.clone()));
            return Ok(());
        }
        TextField::More(keys) => {
            to.push(Check::More(keys.clone(), like.clone()));
            return Ok(());
        }
    };
    let numbers = names.like(|text| like.is(text))?;
    to.extend(columns.iter().map(|name| Check::Name(*name, numbers.clone())));
    Ok(())
}

fn number_check(field: NumberField, any: &[Range]) -> Check {
    let columns: &[Number] = match field {
        NumberField::Duration => &[Number::Duration],
        NumberField::FirstChunk => &[Number::FirstChunk],
        NumberField::FirstToken => &[Number::FirstToken],
        NumberField::Cost => &[Number::Cost],
        NumberField::InputTokens => &[Number::Input],
        NumberField::OutputTokens => &[Number::Output],
        NumberField::Tokens => &[Number::Input, Number::Output],
        NumberField::CacheRead => &[Number::CacheRead],
        NumberField::CacheWrite => &[Number::CacheWrite],
        NumberField::Reasoning => &[Number::Reasoning],
        NumberField::HttpStatus => &[Number::HttpStatus],
        NumberField::Pid => &[Number::Pid],
        NumberField::RetryAfter => return Check::Seconds(Number::RetryAfter, any.to_vec()),
    };
    Check::Number(columns.to_vec(), any.to_vec())
}
