//! Answers [`Engine::sums`](crate::engine::Engine::sums): from the sums of the days, and from
//! calls at the edges that no sum fits, or where sums do not tell apart what is asked.

use super::ended::{self, Ids};
use super::sums::{self, By as Table};
use crate::cover::{Piece, cover};
use crate::engine::{MAX_GROUPS, Sum, Sums, SumsQuery};
use crate::error::{Doing, Error};
use crate::outcome::outcome;
use crate::query::{By, Outcome};
use crate::tally::Tally;
use contract::row::Call;
use rusqlite::Connection;
use std::collections::HashMap;

/// A running answer.
pub(super) struct Adding<'a> {
    query: &'a SumsQuery<'a>,
    groups: HashMap<Vec<Option<String>>, usize>,
    tallies: HashMap<(u64, usize), Tally>,
    truncated: bool,
    partial: bool,
}

/// A file that is being added.
struct Source<'a> {
    file: &'a Connection,
    /// Groups of what its sums are told apart by; `None` for what the filter leaves out.
    known: HashMap<(Ids, i64), Option<usize>>,
}

impl<'a> Adding<'a> {
    pub(super) fn new(query: &'a SumsQuery<'a>) -> Self {
        Self {
            query,
            groups: HashMap::new(),
            tallies: HashMap::new(),
            truncated: false,
            partial: false,
        }
    }

    /// True when the budget is over; then the answer is partial.
    pub(super) fn is_over(&mut self) -> bool {
        self.partial |= self.query.budget.is_over();
        self.partial
    }

    /// Adds the calls of a day.
    pub(super) fn add_day(&mut self, file: &Connection) -> Result<(), Error> {
        if self.query.is_summed() {
            self.add_sums(file, None)
        } else {
            super::day::each(file, |call| {
                self.add_call(call);
                Ok(())
            })
        }
    }

    /// Adds sums of which the calls are gone. A sum counts where it begins.
    pub(super) fn add_history(&mut self, file: &Connection, narrowest: u64) -> Result<(), Error> {
        if self.query.is_summed() { self.add_sums(file, Some(narrowest)) } else { Ok(()) }
    }

    pub(super) fn answer(self) -> Sums {
        let mut names = vec![Vec::new(); self.groups.len()];
        for (group, number) in self.groups {
            names[number] = group;
        }
        let rows = self.tallies.into_iter().map(|((time, group), tally)| Sum {
            time,
            group: names[group].clone(),
            tally,
        });
        Sums { rows: rows.collect(), partial: self.partial, truncated: self.truncated }
    }

    fn add_sums(&mut self, file: &Connection, narrowest: Option<u64>) -> Result<(), Error> {
        let widest = self.query.step_seconds.map(|step| step.max(narrowest.unwrap_or(0)));
        let mut levels = sums::levels(file)?;
        levels.retain(|level| widest.is_none_or(|widest| *level <= widest));
        let width = narrowest.unwrap_or(0).saturating_mul(1_000_000_000);
        // Moved to where sums begin when nothing finer is left.
        let end = |time: u64| match width {
            0 => time,
            width => time.div_ceil(width).saturating_mul(width),
        };
        let by_model =
            self.query.filter.is_empty() && self.query.by.iter().all(|b| *b == By::Model);
        let table = if by_model { Table::Model } else { Table::Series };
        let mut source = Source { file, known: HashMap::new() };
        for piece in cover(end(self.query.from), end(self.query.to), &levels) {
            if self.is_over() {
                break;
            }
            self.add_piece(&mut source, table, &piece)?;
        }
        Ok(())
    }

    fn add_piece(
        &mut self,
        source: &mut Source<'_>,
        table: Table,
        piece: &Piece,
    ) -> Result<(), Error> {
        let file = source.file;
        if piece.level.is_some() {
            return sums::each(file, table, piece, None, |sum| {
                if let Some(group) = self.group(source, sum.ids, sum.outcome)? {
                    let bucket = self.bucket(sum.time);
                    self.tallies.entry((bucket, group)).or_default().merge(&sum.tally);
                }
                Ok(())
            });
        }
        ended::each(file, piece.from, piece.to, None, |call| {
            let outcome = call.counted.outcome.unwrap_or(Outcome::Ok).number();
            if let Some(group) = self.group(source, call.ids, outcome)? {
                let bucket = self.bucket(call.at);
                self.tallies.entry((bucket, group)).or_default().add(&call.counted);
            }
            Ok(())
        })
    }

    /// The group of what sums are told apart by; `None` when the filter leaves it out.
    fn group(
        &mut self,
        source: &mut Source<'_>,
        ids: Ids,
        outcome: i64,
    ) -> Result<Option<usize>, Error> {
        if let Some(group) = source.known.get(&(ids, outcome)) {
            return Ok(*group);
        }
        let word = match Outcome::of_number(outcome) {
            Outcome::Ok => None,
            Outcome::Error => Some("_OTHER"),
            Outcome::Cancelled => Some("cancelled"),
        };
        // As much of a call as the filter and the groups ask for.
        let call = Call {
            service_name: source.name(ids.service)?,
            workload_key: source.name(ids.workload)?,
            provider_name: source.name(ids.provider)?,
            request_model: source.name(ids.model)?,
            operation_name: source.name(ids.operation)?,
            error_type: word.map(str::to_owned),
            ..Call::default()
        };
        let group = self.query.filter.matches(&call).then(|| self.group_of(&call));
        source.known.insert((ids, outcome), group);
        Ok(group)
    }

    fn add_call(&mut self, call: &Call) {
        let ended = ended::Ended::of(call, Ids::default());
        let is_in = (self.query.from..self.query.to).contains(&ended.at);
        if is_in && self.query.filter.matches(call) {
            let group = self.group_of(call);
            let bucket = self.bucket(ended.at);
            self.tallies.entry((bucket, group)).or_default().add(&ended.counted);
        }
    }

    fn group_of(&mut self, call: &Call) -> usize {
        let group: Vec<_> = self.query.by.iter().map(|by| by.of(call)).collect();
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

impl Source<'_> {
    fn name(&self, id: i64) -> Result<Option<String>, Error> {
        const DOING: &str = "look a text up";
        if id == 0 {
            return Ok(None);
        }
        let mut statement =
            self.file.prepare_cached("SELECT value FROM text WHERE id = ?1").doing(DOING)?;
        statement.query_row([id], |row| row.get(0)).map(Some).doing(DOING)
    }
}

impl By {
    /// What a call has of it.
    pub(super) fn of(self, call: &Call) -> Option<String> {
        let more = |names: &[&str]| {
            let value = names.iter().find_map(|name| call.more.get(*name))?;
            crate::filter::text_of(value).map(std::borrow::Cow::into_owned)
        };
        match self {
            Self::Service => call.service_name.clone(),
            Self::Workload => call.workload_key.clone(),
            Self::Provider => call.provider_name.clone(),
            Self::Model => call.request_model.clone().or_else(|| call.response_model.clone()),
            Self::Operation => call.operation_name.clone(),
            Self::Outcome => Some(outcome(call).0.word().to_owned()),
            Self::Class => outcome(call).1.map(str::to_owned),
            Self::Host => call.host_name.clone(),
            Self::Environment => more(&crate::filter::ENVIRONMENT),
            Self::User => more(&crate::filter::USER),
            Self::Agent => more(&crate::filter::AGENT),
            Self::Conversation => call.conversation_id.clone(),
            Self::Finish => call.finish_reasons.first().cloned(),
        }
    }
}
