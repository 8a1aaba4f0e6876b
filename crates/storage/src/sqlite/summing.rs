//! Answers [`Engine::sums`](crate::engine::Engine::sums): from the sums of the days, and from
//! calls at the edges that no sum fits, or where sums do not tell apart what is asked.

use super::block::Number;
use super::ended::{self, Day, Ended, Finishes, Ids};
use super::grouping::Grouping;
use super::reading::{Place, load};
use super::scan::{Compiled, Names};
use super::sums::{self, By as Table, Member, Parts};
use crate::cover::{Piece, Share, cover};
use crate::engine::{Distributions, MAX_GROUPS, Sum, Sums, SumsQuery};
use crate::error::Error;
use crate::hashing::Keyed;
use crate::query::{By, Outcome};
use crate::tally::{Sketches, Tally};
use contract::row::Call;
use rusqlite::Connection;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

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

/// A file that is being added, or of which the sums are.
struct Source<'a> {
    names: &'a Names<'a>,
    /// Groups of what its sums are told apart by; `None` for what the filter leaves out.
    known: HashMap<(Ids, i64), Option<usize>, Keyed>,
    /// The same, by numbers of series, models or members, whichever the answer is read from.
    summed: HashMap<i64, Option<usize>, Keyed>,
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
                self.add_single(&mut source, day, places, (piece.from, piece.to))?;
            }
        }
        // What is not sealed is in no sum yet.
        let log = day.places.iter().filter(|place| !place.sealed).enumerate();
        let log = log.filter(|(number, _)| share.has(*number)).map(|(_, place)| place);
        self.add_single(&mut source, day, log, (self.query.from, self.query.to))
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
        if let Some(by) = self.query.alone() {
            return Table::of(by);
        }
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
            source.summed.insert(id, group);
            group.into_iter().for_each(|_group| wanted.add(id));
        }
        Ok(wanted)
    }

    /// Adds the single calls of some places of a day that ended in a span, where no sum fits.
    fn add_single<'p>(
        &mut self,
        source: &mut Source<'_>,
        day: &Day<'_>,
        places: impl Iterator<Item = &'p Place>,
        span: (u64, u64),
    ) -> Result<(), Error> {
        if self.query.by.iter().all(|by| by.is_summed()) {
            self.add_ended(source, day, places, span)
        } else {
            self.add_rows(day, places, span)
        }
    }

    /// As [`add_single`](Self::add_single), by what series are told apart by.
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
                    self.add_call(group, &Ended::of(block, row, &finishes));
                }
            })?;
        }
        Ok(())
    }

    /// Adds a share of the calls of a day where sums do not tell apart what is asked.
    fn add_calls(&mut self, day: &Day<'_>, share: Share) -> Result<(), Error> {
        let (from, to) = (self.query.from, self.query.to);
        let places = day.places.iter().filter(|place| ended::overlaps(place, from, to));
        let places = places.enumerate().filter(|(number, _)| share.has(*number));
        self.add_rows(day, places.map(|(_, place)| place), (from, to))
    }

    /// Adds the calls of some places of a day that ended in a span, by anything that rows have.
    fn add_rows<'p>(
        &mut self,
        day: &Day<'_>,
        places: impl Iterator<Item = &'p Place>,
        (from, to): (u64, u64),
    ) -> Result<(), Error> {
        let Day { file, names, .. } = day;
        let filter = Compiled::new(self.query.filter, names)?;
        let finishes = Finishes::new(names);
        let mut grouping = Grouping::new(self.query.by, names);
        let mut wanted = ended::COLUMNS.to_vec();
        wanted.extend(filter.columns());
        wanted.extend(grouping.columns());
        for place in places.filter(|place| ended::overlaps(place, from, to)) {
            if self.is_over() {
                break;
            }
            let block = load(file, place, Some(&wanted))?;
            for row in filter.matching(&block) {
                if !(from..to).contains(&block.end(row)) {
                    continue;
                }
                let group = grouping.of(&block, row, |group| self.group_of(group));
                self.add_call(group, &Ended::of(&block, row, &finishes));
            }
        }
        Ok(())
    }

    fn add_call(&mut self, group: usize, call: &Ended) {
        let tally = self.tallies.entry((self.bucket(call.at), group)).or_default();
        tally.add_to(&call.counted, self.query.distributions);
    }

    /// The group of a series, model or member; `None` when the filter leaves it out.
    fn group_of_sum(
        &mut self,
        source: &mut Source<'_>,
        file: &Connection,
        table: Table,
        id: i64,
    ) -> Result<Option<usize>, Error> {
        if let Some(group) = source.summed.get(&id) {
            return Ok(*group);
        }
        let group = match table {
            Table::Series => {
                let (ids, outcome) = sums::series(file, id)?;
                self.group(source, ids, outcome)
            }
            Table::Model => {
                let ids = Ids { model: id, ..Ids::default() };
                self.group(source, ids, Outcome::Ok.number())
            }
            alone => Some(match sums::member(file, alone, id)? {
                Member::One(text) => self.group_of(vec![text.and_then(|text| source.name(text))]),
                Member::Rest => {
                    self.truncated = true;
                    self.others()
                }
            }),
        };
        source.summed.insert(id, group);
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
        if self.query.named.is_some_and(|named| !named.contains(&group)) {
            return self.others();
        }
        if next < MAX_GROUPS {
            self.groups.insert(group, next);
            return next;
        }
        self.truncated = true;
        self.others()
    }

    /// The number of several groups that are not told apart.
    fn others(&mut self) -> usize {
        let next = self.groups.len();
        *self.groups.entry(Vec::new()).or_insert(next)
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
