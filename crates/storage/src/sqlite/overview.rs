//! Numbers over time, from the sums of the days, and from calls at the edges that no sum fits.

use super::cover::{Piece, cover};
use super::day::text_id;
use super::ended::{self, Ended, Ids};
use super::sums::{self, By, Summed};
use crate::costs::Costs;
use crate::error::{Doing, Error};
use crate::query::Span;
use crate::tally::Tally;
use contract::row::{Bucket, ByModel, Overview, ServiceModel, Time};
use rusqlite::Connection;
use std::collections::HashMap;

/// Rows of a table that are answered; the rest is counted in the totals alone.
const MAX_ROWS: usize = 200;
/// Different pairs of service and model that are told apart, which bounds the memory.
const MAX_PAIRS: usize = 10_000;

/// Service, key, provider, model.
type Pair = [Option<String>; 4];

/// The running sum of an overview.
pub(super) struct Sum<'a> {
    span: &'a Span,
    previous: Span,
    step_seconds: u64,
    step_nanos: u64,
    first_bucket: u64,
    buckets: Vec<Tally>,
    before: Tally,
    pairs: HashMap<Pair, Tally>,
    costs: Costs<String>,
    truncated: bool,
}

/// Start and end of a span, nanoseconds since 1970.
type Ends = (u64, u64);

/// A file that is being added: which of its calls, and from what.
struct Source<'a> {
    file: &'a Connection,
    only: Option<i64>,
    levels: Vec<u64>,
    /// Where there are no calls any more, the width of the narrowest sums, in seconds.
    narrowest: Option<u64>,
}

/// Calls or sums, with the moment at which they count.
enum Part<'a> {
    Call(&'a Ended),
    Sum(&'a Summed),
}

impl<'a> Sum<'a> {
    pub(super) fn new(span: &'a Span) -> Self {
        let step_seconds = span.step_seconds();
        let step_nanos = step_seconds.saturating_mul(1_000_000_000);
        let first_bucket = span.from.0 / step_nanos;
        let end = span.to.0.div_ceil(step_nanos);
        let len = usize::try_from(end.saturating_sub(first_bucket)).unwrap_or(0);
        Self {
            span,
            previous: span.previous(),
            step_seconds,
            step_nanos,
            first_bucket,
            buckets: vec![Tally::default(); len],
            before: Tally::default(),
            pairs: HashMap::new(),
            costs: Costs::default(),
            truncated: false,
        }
    }

    /// Adds the calls of a day.
    pub(super) fn add_day(&mut self, file: &Connection) -> Result<(), Error> {
        self.add_file(file, None)
    }

    /// Adds sums of which the calls are gone. A sum counts where it begins.
    pub(super) fn add_history(&mut self, file: &Connection, narrowest: u64) -> Result<(), Error> {
        self.add_file(file, Some(narrowest))
    }

    fn add_file(&mut self, file: &Connection, narrowest: Option<u64>) -> Result<(), Error> {
        let mut only = None;
        if let Some(service) = &self.span.service {
            only = text_id(file, service)?;
            if only.is_none() {
                return Ok(());
            }
        }
        let source = Source { file, only, levels: sums::levels(file)?, narrowest };
        self.add_series(&source)?;
        self.add_pairs(&source)?;
        let before = &mut self.before;
        let (from, to) = source.ends(&self.previous);
        let pieces = cover(from, to, &source.levels);
        source.each(By::Model, &pieces, |part| {
            part.add_to(before);
            Ok(())
        })
    }

    /// Adds to the buckets: from sums that are no wider than they are.
    fn add_series(&mut self, source: &Source<'_>) -> Result<(), Error> {
        let widest = self.step_seconds.max(source.narrowest.unwrap_or(0));
        let levels: Vec<u64> =
            source.levels.iter().copied().filter(|level| *level <= widest).collect();
        let (from, to) = source.ends(self.span);
        let pieces = cover(from, to, &levels);
        let mut costs: Costs<i64> = Costs::default();
        source.each(By::Model, &pieces, |part| {
            let bucket = (part.time() / self.step_nanos).saturating_sub(self.first_bucket);
            let bucket = usize::try_from(bucket).unwrap_or(usize::MAX);
            let Some(tally) = self.buckets.get_mut(bucket) else { return Ok(()) };
            part.add_to(tally);
            if let Some(cost) = part.cost() {
                costs.add(id(part.ids().model), bucket, cost);
            }
            Ok(())
        })?;
        for (model, buckets) in costs.into_models() {
            let [name] = names(source.file, [model.unwrap_or(0)])?;
            self.costs.add_all(name, &buckets);
        }
        Ok(())
    }

    /// Adds to the tables by model and by service.
    fn add_pairs(&mut self, source: &Source<'_>) -> Result<(), Error> {
        let (from, to) = source.ends(self.span);
        let pieces = cover(from, to, &source.levels);
        let mut pairs: HashMap<[i64; 4], Tally> = HashMap::new();
        let truncated = &mut self.truncated;
        source.each(By::Series, &pieces, |part| {
            let Ids { service, workload, provider, model, .. } = part.ids();
            let pair = [service, workload, provider, model];
            if pairs.len() < MAX_PAIRS || pairs.contains_key(&pair) {
                part.add_to(pairs.entry(pair).or_default());
            } else {
                *truncated = true;
            }
            Ok(())
        })?;
        for (ids, tally) in pairs {
            let pair = names(source.file, ids)?;
            if self.pairs.len() < MAX_PAIRS || self.pairs.contains_key(&pair) {
                self.pairs.entry(pair).or_default().merge(&tally);
            } else {
                self.truncated = true;
            }
        }
        Ok(())
    }

    pub(super) fn overview(self) -> Overview {
        let mut totals = Tally::default();
        self.buckets.iter().for_each(|bucket| totals.merge(bucket));
        let costs = self.costs.top(self.buckets.len());
        let series = (self.first_bucket..).zip(self.buckets.iter().zip(costs));
        let series = series.map(|(number, (tally, cost_by_model))| Bucket {
            time: Time(number.saturating_mul(self.step_nanos)),
            cost_by_model,
            stats: tally.stats(),
        });
        let series = series.collect();
        let mut models: HashMap<[Option<String>; 2], Tally> = HashMap::new();
        for ([_, _, provider, model], tally) in &self.pairs {
            models.entry([provider.clone(), model.clone()]).or_default().merge(tally);
        }
        let mut truncated = self.truncated;
        let by_model = most(models, &mut truncated);
        let services = most(self.pairs, &mut truncated);
        Overview {
            from: self.span.from,
            to: self.span.to,
            step_seconds: self.step_seconds,
            totals: totals.stats(),
            previous: self.before.stats(),
            series,
            by_model: by_model
                .into_iter()
                .map(|([provider, model], tally)| ByModel { provider, model, stats: tally.stats() })
                .collect(),
            services: services
                .into_iter()
                .map(|([service, key, provider, model], tally)| ServiceModel {
                    service,
                    key,
                    provider,
                    model,
                    stats: tally.stats(),
                })
                .collect(),
            truncated,
        }
    }
}

impl Source<'_> {
    /// The ends of a span, moved to where sums begin when nothing finer is left.
    fn ends(&self, span: &Span) -> Ends {
        let width = self.narrowest.unwrap_or(0).saturating_mul(1_000_000_000);
        let next = |time: Time| match width {
            0 => time.0,
            width => time.0.div_ceil(width).saturating_mul(width),
        };
        (next(span.from), next(span.to))
    }

    /// Hands over everything of the pieces. Sums of one service are by series in any case.
    fn each(
        &self,
        by: By,
        pieces: &[Piece],
        mut take: impl FnMut(&Part<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let by = if self.only.is_some() { By::Series } else { by };
        for piece in pieces {
            if piece.level.is_some() {
                sums::each(self.file, by, piece, self.only, |sum| take(&Part::Sum(sum)))?;
            } else {
                let (from, to) = (piece.from, piece.to);
                ended::each(self.file, from, to, self.only, |call| take(&Part::Call(call)))?;
            }
        }
        Ok(())
    }
}

impl Part<'_> {
    fn time(&self) -> u64 {
        match self {
            Self::Call(call) => call.at,
            Self::Sum(sum) => sum.time,
        }
    }

    fn ids(&self) -> Ids {
        match self {
            Self::Call(call) => call.ids,
            Self::Sum(sum) => sum.ids,
        }
    }

    fn cost(&self) -> Option<u128> {
        match self {
            Self::Call(call) => call.counted.cost.map(u128::from),
            Self::Sum(sum) => sum.tally.cost(),
        }
    }

    fn add_to(&self, tally: &mut Tally) {
        match self {
            Self::Call(call) => tally.add(&call.counted),
            Self::Sum(sum) => tally.merge(&sum.tally),
        }
    }
}

fn id(number: i64) -> Option<i64> {
    Some(number).filter(|number| *number != 0)
}

fn names<const LEN: usize>(
    file: &Connection,
    ids: [i64; LEN],
) -> Result<[Option<String>; LEN], Error> {
    const DOING: &str = "look a text up";
    let mut names = [const { None }; LEN];
    for (name, id) in names.iter_mut().zip(ids) {
        if id == 0 {
            continue;
        }
        let mut statement =
            file.prepare_cached("SELECT value FROM text WHERE id = ?1").doing(DOING)?;
        *name = Some(statement.query_row([id], |row| row.get(0)).doing(DOING)?);
    }
    Ok(names)
}

/// The entries with most calls, then by name, at most [`MAX_ROWS`].
fn most<K: Ord>(tallies: HashMap<K, Tally>, truncated: &mut bool) -> Vec<(K, Tally)> {
    let mut rows: Vec<_> = tallies.into_iter().collect();
    rows.sort_by(|(a, x), (b, y)| y.count().cmp(&x.count()).then_with(|| a.cmp(b)));
    *truncated |= rows.len() > MAX_ROWS;
    rows.truncate(MAX_ROWS);
    rows
}
