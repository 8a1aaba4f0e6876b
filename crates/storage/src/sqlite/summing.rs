//! Answers [`Engine::sums`](crate::engine::Engine::sums): from the sums of the days, and from
//! calls at the edges that no sum fits, or where sums do not tell apart what is asked.

use super::block::{BETWEEN, Block, Column, Name, Number, Text};
use super::column::NONE;
use super::ended::{self, Day, Ended, Finishes, Ids};
use super::reading::{Place, load};
use super::scan::{Compiled, Names};
use super::sums::{self, By as Table, Parts};
use crate::cover::{Piece, Share, cover};
use crate::engine::{Distributions, MAX_GROUPS, Sum, Sums, SumsQuery};
use crate::error::Error;
use crate::filter::{AGENT, ENVIRONMENT, USER, text_of};
use crate::hashing::Keyed;
use crate::outcome::{CLASSES, outcome};
use crate::query::{By, Outcome};
use crate::tally::{Sketches, Tally};
use contract::row::Call;
use rusqlite::Connection;
use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// A running answer.
pub(super) struct Adding<'a> {
    query: &'a SumsQuery<'a>,
    groups: HashMap<Vec<Option<String>>, usize>,
    tallies: HashMap<(u64, usize), Tally, Keyed>,
    /// Of buckets, where they are asked for together.
    distributions: HashMap<u64, Sketches, Keyed>,
    truncated: bool,
    partial: bool,
}

/// What stands for a value of a group within one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Number(u64),
    Text(u64),
}

/// A file that is being added, or of which the sums are.
struct Source<'a> {
    names: &'a Names<'a>,
    /// Groups of what its sums are told apart by; `None` for what the filter leaves out.
    known: HashMap<(Ids, i64), Option<usize>, Keyed>,
    /// The same, by numbers of series or models.
    summed: HashMap<(Table, i64), Option<usize>, Keyed>,
    /// Where those are that the filter leaves in, once a filter asked.
    wanted: Option<Parts>,
}

impl<'a> Adding<'a> {
    pub(super) fn new(query: &'a SumsQuery<'a>) -> Self {
        Self {
            query,
            groups: HashMap::new(),
            tallies: HashMap::default(),
            distributions: HashMap::default(),
            truncated: false,
            partial: false,
        }
    }

    /// True when the budget is over; then the answer is partial.
    pub(super) fn is_over(&mut self) -> bool {
        self.partial |= self.query.budget.is_over();
        self.partial
    }

    /// Adds a share of the calls of a day.
    pub(super) fn add_day(&mut self, day: &Day<'_>, share: Share) -> Result<(), Error> {
        if !self.query.is_summed() {
            return self.add_calls(day, share);
        }
        let mut source = Source::new(&day.names);
        for piece in share.of_pieces(self.pieces(day.file, None)?) {
            if self.is_over() {
                break;
            }
            if piece.level.is_some() {
                self.add_sums(&mut source, day.file, &piece)?;
            } else {
                let places = day.places.iter().filter(|place| place.sealed);
                self.add_ended(&mut source, day, places, (piece.from, piece.to))?;
            }
        }
        // What is not sealed is in no sum yet.
        let log = day.places.iter().filter(|place| !place.sealed).enumerate();
        let log = log.filter(|(number, _)| share.has(*number)).map(|(_, place)| place);
        self.add_ended(&mut source, day, log, (self.query.from, self.query.to))
    }

    /// Adds what another one added.
    pub(super) fn merge(&mut self, other: Self) {
        let mut numbers = vec![0; other.groups.len()];
        for (group, number) in other.groups {
            numbers[number] = self.group_of(group);
        }
        for ((time, group), tally) in other.tallies {
            match self.tallies.entry((time, numbers[group])) {
                Entry::Vacant(free) => {
                    free.insert(tally);
                }
                Entry::Occupied(mut sum) => sum.get_mut().merge(&tally),
            }
        }
        for (time, sketches) in other.distributions {
            self.distributions.entry(time).or_default().merge(&sketches);
        }
        self.partial |= other.partial;
        self.truncated |= other.truncated;
    }

    /// Adds sums of which the calls are gone. A sum counts where it begins.
    pub(super) fn add_history(&mut self, file: &Connection, narrowest: u64) -> Result<(), Error> {
        if !self.query.is_summed() {
            return Ok(());
        }
        let names = Names::new(file);
        let mut source = Source::new(&names);
        for piece in self.pieces(file, Some(narrowest))? {
            if self.is_over() {
                break;
            }
            self.add_sums(&mut source, file, &piece)?;
        }
        Ok(())
    }

    pub(super) fn answer(mut self) -> Sums {
        let mut names = vec![Vec::new(); self.groups.len()];
        for (group, number) in self.groups {
            names[number] = group;
        }
        let rows = self.tallies.into_iter().map(|((time, group), mut tally)| {
            if let Some(distributions) = self.distributions.remove(&time) {
                tally.sketches.merge(&distributions);
            }
            Sum { time, group: names[group].clone(), tally }
        });
        Sums { rows: rows.collect(), partial: self.partial, truncated: self.truncated }
    }

    /// The sums that tell apart what is asked, and as little else as can be.
    fn table(&self) -> Table {
        let by_model =
            self.query.filter.is_empty() && self.query.by.iter().all(|b| *b == By::Model);
        if by_model { Table::Model } else { Table::Series }
    }

    /// What the span is put together from. Where only sums are left, each is a piece of sums, the
    /// ends moved to where sums of the narrowest width begin.
    fn pieces(&self, file: &Connection, narrowest: Option<u64>) -> Result<Vec<Piece>, Error> {
        let widest = self.query.step_seconds.map(|step| step.max(narrowest.unwrap_or(0)));
        let kept = &sums::LEVELS[self.table().levels()];
        let mut levels = sums::levels(file)?;
        levels.retain(|level| {
            kept.contains(&level.seconds) && widest.is_none_or(|widest| level.seconds <= widest)
        });
        let width = narrowest.unwrap_or(0).saturating_mul(1_000_000_000);
        let end = |time: u64| match width {
            0 => time,
            width => time.div_ceil(width).saturating_mul(width),
        };
        Ok(cover(end(self.query.from), end(self.query.to), &levels))
    }

    fn add_sums(
        &mut self,
        source: &mut Source<'_>,
        file: &Connection,
        piece: &Piece,
    ) -> Result<(), Error> {
        let table = self.table();
        if table == Table::Series && !self.query.filter.is_empty() && source.wanted.is_none() {
            source.wanted = Some(self.wanted(source, file)?);
        }
        let wanted = source.wanted.take();
        let added = sums::each_of(file, table, piece, wanted.as_ref(), |sum| {
            if let Some(group) = self.group_of_sum(source, file, table, sum.id)? {
                let bucket = self.bucket(sum.time);
                let tally = self.tallies.entry((bucket, group)).or_default();
                if self.query.distributions == Distributions::Together {
                    let together = self.distributions.entry(bucket).or_default();
                    std::mem::swap(&mut tally.sketches, together);
                    let added = sum.add_to(tally, Distributions::All);
                    std::mem::swap(&mut tally.sketches, together);
                    return added;
                }
                sum.add_to(tally, self.query.distributions)?;
            }
            Ok(())
        });
        source.wanted = wanted;
        added
    }

    /// The rows of sums that have a series that the filter leaves in.
    fn wanted(&mut self, source: &mut Source<'_>, file: &Connection) -> Result<Parts, Error> {
        let mut wanted = Parts::default();
        for (id, (ids, outcome)) in sums::all_series(file)? {
            let group = self.group(source, ids, outcome);
            source.summed.insert((Table::Series, id), group);
            group.into_iter().for_each(|_group| wanted.add(id));
        }
        Ok(wanted)
    }

    /// Adds the calls of some places of a day that ended in a span.
    fn add_ended<'p>(
        &mut self,
        source: &mut Source<'_>,
        day: &Day<'_>,
        places: impl Iterator<Item = &'p Place>,
        span: (u64, u64),
    ) -> Result<(), Error> {
        let finishes = Finishes::new(&day.names);
        for place in places {
            day.each(place, span, |block, row| {
                let ids = Ids::of(block, row);
                let outcome = block.known(Number::Outcome, row).unwrap_or(0);
                let outcome = i64::try_from(outcome).unwrap_or(0);
                if let Some(group) = self.group(source, ids, outcome) {
                    let bucket = self.bucket(block.end(row));
                    let call = Ended::of(block, row, &finishes);
                    let tally = self.tallies.entry((bucket, group)).or_default();
                    tally.add_to(&call.counted, self.query.distributions);
                }
            })?;
        }
        Ok(())
    }

    /// Adds a share of the calls of a day where sums do not tell apart what is asked.
    fn add_calls(&mut self, day: &Day<'_>, share: Share) -> Result<(), Error> {
        let Day { file, places, names, .. } = day;
        let filter = Compiled::new(self.query.filter, names)?;
        let finishes = Finishes::new(names);
        let mut wanted = ended::COLUMNS.to_vec();
        wanted.extend(filter.columns());
        wanted.extend(self.query.by.iter().flat_map(|by| by.columns()));
        let (from, to) = (self.query.from, self.query.to);
        let mut known: HashMap<Vec<Key>, usize, Keyed> = HashMap::default();
        let mut texts: HashMap<String, u64, Keyed> = HashMap::default();
        let mut key = Vec::new();
        let places = places.iter().filter(|place| ended::overlaps(place, from, to)).enumerate();
        for (_, place) in places.filter(|(number, _)| share.has(*number)) {
            if self.is_over() {
                break;
            }
            let block = load(file, place, Some(&wanted))?;
            for row in filter.matching(&block) {
                if !(from..to).contains(&block.end(row)) {
                    continue;
                }
                key.clear();
                key.extend(self.query.by.iter().map(|by| by.key(&block, row, &mut texts)));
                let group = match known.get(&key) {
                    Some(group) => *group,
                    None => {
                        let group = self.query.by.iter().map(|by| by.of_row(&block, row, names));
                        let group = self.group_of(group.collect());
                        known.insert(key.clone(), group);
                        group
                    }
                };
                let ended = Ended::of(&block, row, &finishes);
                let bucket = self.bucket(ended.at);
                let tally = self.tallies.entry((bucket, group)).or_default();
                tally.add_to(&ended.counted, self.query.distributions);
            }
        }
        Ok(())
    }

    /// The group of a series, or of a model; `None` when the filter leaves it out.
    fn group_of_sum(
        &mut self,
        source: &mut Source<'_>,
        file: &Connection,
        table: Table,
        id: i64,
    ) -> Result<Option<usize>, Error> {
        if let Some(group) = source.summed.get(&(table, id)) {
            return Ok(*group);
        }
        let (ids, outcome) = match table {
            Table::Series => sums::series(file, id)?,
            Table::Model => (Ids { model: id, ..Ids::default() }, Outcome::Ok.number()),
        };
        let group = self.group(source, ids, outcome);
        source.summed.insert((table, id), group);
        Ok(group)
    }

    /// The group of what sums are told apart by; `None` when the filter leaves it out.
    fn group(&mut self, source: &mut Source<'_>, ids: Ids, outcome: i64) -> Option<usize> {
        if let Some(group) = source.known.get(&(ids, outcome)) {
            return *group;
        }
        let word = match Outcome::of_number(outcome) {
            Outcome::Ok => None,
            Outcome::Error => Some("_OTHER"),
            Outcome::Cancelled => Some("cancelled"),
        };
        // As much of a call as the filter and the groups ask for.
        let call = Call {
            service_name: source.name(ids.service),
            workload_key: source.name(ids.workload),
            provider_name: source.name(ids.provider),
            request_model: source.name(ids.model),
            operation_name: source.name(ids.operation),
            error_type: word.map(str::to_owned),
            ..Call::default()
        };
        let group =
            self.query.filter.matches(&call).then(|| {
                self.group_of(self.query.by.iter().map(|by| by.of_summed(&call)).collect())
            });
        source.known.insert((ids, outcome), group);
        group
    }

    /// The number of a group; makes one for a new group.
    fn group_of(&mut self, group: Vec<Option<String>>) -> usize {
        let next = self.groups.len();
        if let Some(number) = self.groups.get(&group) {
            return *number;
        }
        if next < MAX_GROUPS {
            self.groups.insert(group, next);
            return next;
        }
        self.truncated = true;
        *self.groups.entry(vec![None; self.query.by.len()]).or_insert(next)
    }

    fn bucket(&self, time: u64) -> u64 {
        let Some(step) = self.query.step_seconds else { return self.query.from };
        let step = step.saturating_mul(1_000_000_000);
        time / step * step
    }
}

impl<'a> Source<'a> {
    fn new(names: &'a Names<'a>) -> Self {
        Self { names, known: HashMap::default(), summed: HashMap::default(), wanted: None }
    }

    fn name(&self, id: i64) -> Option<String> {
        if id == 0 { None } else { self.names.text(id.unsigned_abs()) }
    }
}

impl By {
    /// What a call has of it, where sums are told apart by it.
    fn of_summed(self, call: &Call) -> Option<String> {
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
        let more = |keys: &[&str]| {
            let more: BTreeMap<String, serde_json::Value> =
                serde_json::from_str(block.text(Text::More, row)?).ok()?;
            let value = keys.iter().find_map(|key| more.get(*key))?;
            text_of(value).map(Cow::into_owned)
        };
        match self {
            Self::Outcome => {
                let number = i64::try_from(block.number(Number::Outcome, row)).ok()?;
                Some(Outcome::of_number(number).word().to_owned())
            }
            Self::Class => {
                let place = usize::try_from(block.known(Number::Class, row)?).ok()?;
                CLASSES.get(place).map(|class| (*class).to_owned())
            }
            Self::Environment => more(&ENVIRONMENT),
            Self::User => more(&USER),
            Self::Agent => more(&AGENT),
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
