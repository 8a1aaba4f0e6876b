//! What calls are told apart by, read from their rows.

use super::block::{BETWEEN, Block, Column, Name, Number, Text};
use super::column::NONE;
use super::scan::Names;
use crate::further::Further;
use crate::hashing::Keyed;
use crate::outcome::{CLASSES, outcome};
use crate::query::{By, Outcome};
use contract::row::Call;
use std::collections::HashMap;

/// What stands for a value of a group within one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Number(u64),
    Text(u64),
}

/// Tells the rows of one file apart.
pub(super) struct Grouping<'a> {
    by: &'a [By],
    names: &'a Names<'a>,
    /// Numbers of groups, by what stands for them.
    known: HashMap<Vec<Key>, usize, Keyed>,
    texts: HashMap<String, u64, Keyed>,
    key: Vec<Key>,
}

impl<'a> Grouping<'a> {
    pub(super) fn new(by: &'a [By], names: &'a Names<'a>) -> Self {
        let (known, texts) = (HashMap::default(), HashMap::default());
        Self { by, names, known, texts, key: Vec::new() }
    }

    /// The columns that rows must have.
    pub(super) fn columns(&self) -> impl Iterator<Item = Column> {
        self.by.iter().flat_map(|by| by.columns())
    }

    /// The number of the group of a row. `number` gives a group that is new here its number.
    pub(super) fn of(
        &mut self,
        block: &Block,
        row: usize,
        number: impl FnOnce(Vec<Option<String>>) -> usize,
    ) -> usize {
        self.key.clear();
        self.key.extend(self.by.iter().map(|by| by.key(block, row, &mut self.texts)));
        if let Some(group) = self.known.get(&self.key) {
            return *group;
        }
        let group = self.by.iter().map(|by| by.of_row(block, row, self.names));
        let group = number(group.collect());
        self.known.insert(self.key.clone(), group);
        group
    }
}

impl By {
    /// What a call has of it, where sums are told apart by it.
    pub(super) fn of_summed(self, call: &Call) -> Option<String> {
        match self {
            Self::Service => call.service_name.clone(),
            Self::Workload => call.workload_key.clone(),
            Self::Provider => call.provider_name.clone(),
            Self::Model => call.request_model.clone(),
            Self::Operation => call.operation_name.clone(),
            Self::Outcome => Some(outcome(call).0.word().to_owned()),
            Self::Class
            | Self::Host
            | Self::Environment
            | Self::User
            | Self::Agent
            | Self::Conversation
            | Self::Finish => None,
        }
    }

    /// The column of names that it is, the second where the first is not known.
    fn names(self) -> &'static [Name] {
        match self {
            Self::Service => &[Name::Service],
            Self::Workload => &[Name::Workload],
            Self::Provider => &[Name::Provider],
            Self::Model => &[Name::RequestModel, Name::ResponseModel],
            Self::Operation => &[Name::Operation],
            Self::Host => &[Name::Host],
            Self::Finish => &[Name::Finish],
            Self::Outcome
            | Self::Class
            | Self::Environment
            | Self::User
            | Self::Agent
            | Self::Conversation => &[],
        }
    }

    /// The columns that it is read from.
    fn columns(self) -> Vec<Column> {
        match self {
            Self::Outcome => vec![Number::Outcome.column()],
            Self::Class => vec![Number::Class.column()],
            Self::Environment | Self::User | Self::Agent => vec![Text::More.column()],
            Self::Conversation => vec![Text::Conversation.column()],
            named => named.names().iter().map(|name| name.column()).collect(),
        }
    }

    /// What stands for a row within one file: equal keys are of one group.
    fn key(self, block: &Block, row: usize, texts: &mut HashMap<String, u64, Keyed>) -> Key {
        let text = match self {
            Self::Outcome => return Key::Number(block.number(Number::Outcome, row)),
            Self::Class => return Key::Number(block.number(Number::Class, row)),
            Self::Environment | Self::User | Self::Agent => block.text(Text::More, row),
            Self::Conversation => block.text(Text::Conversation, row),
            named => {
                let mut names = named.names().iter().map(|name| block.name(*name, row));
                return Key::Number(names.find(|name| *name != NONE).unwrap_or(NONE));
            }
        };
        let Some(text) = text else { return Key::Number(NONE) };
        if let Some(number) = texts.get(text) {
            return Key::Text(*number);
        }
        let number = texts.len() as u64;
        texts.insert(text.to_owned(), number);
        Key::Text(number)
    }

    /// What a row has of it.
    fn of_row(self, block: &Block, row: usize, names: &Names<'_>) -> Option<String> {
        let further = || block.text(Text::More, row).map(Further::of).unwrap_or_default();
        match self {
            Self::Outcome => {
                let number = i64::try_from(block.number(Number::Outcome, row)).ok()?;
                Some(Outcome::of_number(number).word().to_owned())
            }
            Self::Class => {
                let place = usize::try_from(block.known(Number::Class, row)?).ok()?;
                CLASSES.get(place).map(|class| (*class).to_owned())
            }
            Self::Environment => further().environment,
            Self::User => further().user,
            Self::Agent => further().agent,
            Self::Conversation => block.text(Text::Conversation, row).map(str::to_owned),
            named => {
                let mut found = named.names().iter().map(|name| block.name(*name, row));
                let text = names.text(found.find(|name| *name != NONE)?)?;
                // Of several reasons, the first.
                Some(text.split(BETWEEN).next().unwrap_or_default().to_owned())
            }
        }
    }
}
