//! Numbers over time, from the narrow rows of the days.

use super::day::text_id;
use crate::costs::Costs;
use crate::error::{Doing, Error};
use crate::outcome::CLASSES;
use crate::query::{Outcome, Span};
use crate::tally::{Counted, Tally};
use contract::row::{Bucket, ByModel, Overview, ServiceModel, Time};
use rusqlite::{Connection, Row};
use std::collections::HashMap;

/// Rows of a table that are answered; the rest is counted in the totals alone.
const MAX_ROWS: usize = 200;
/// Different pairs of service and model that are told apart, which bounds the memory.
const MAX_PAIRS: usize = 10_000;

/// Service, key, provider, model.
type Pair = [Option<String>; 4];
/// The same, as numbers of one day's texts.
type PairIds = [Option<i64>; 4];

/// Place of the model in a pair.
const MODEL: usize = 3;

/// The running sum of an overview.
pub(super) struct Sum<'a> {
    span: &'a Span,
    previous: Span,
    step_nanos: u64,
    first_bucket: u64,
    buckets: Vec<Tally>,
    before: Tally,
    pairs: HashMap<Pair, Tally>,
    costs: Costs<String>,
    truncated: bool,
}

/// The part of a sum that is by numbers of one day's texts.
#[derive(Default)]
struct OfDay {
    pairs: HashMap<PairIds, Tally>,
    costs: Costs<i64>,
}

/// What the sum needs of a row.
struct Seen {
    ended: u64,
    outcome: Outcome,
    class: Option<&'static str>,
    pair: PairIds,
    service: [Option<i64>; 2],
    counted: Counted<'static>,
}

impl<'a> Sum<'a> {
    pub(super) fn new(span: &'a Span) -> Self {
        let step_nanos = span.step_seconds().saturating_mul(1_000_000_000);
        let first_bucket = span.from.0 / step_nanos;
        let end = span.to.0.div_ceil(step_nanos);
        let len = usize::try_from(end.saturating_sub(first_bucket)).unwrap_or(0);
        Self {
            span,
            previous: span.previous(),
            step_nanos,
            first_bucket,
            buckets: vec![Tally::default(); len],
            before: Tally::default(),
            pairs: HashMap::new(),
            costs: Costs::default(),
            truncated: false,
        }
    }

    /// Adds the calls of a day that started at `since` or later.
    pub(super) fn add_day(&mut self, day: &Connection, since: u64) -> Result<(), Error> {
        const DOING: &str = "add calls up";
        let mut only = None;
        if let Some(service) = &self.span.service {
            only = text_id(day, service)?;
            if only.is_none() {
                return Ok(());
            }
        }
        let sql =
            "SELECT at - moved, duration, outcome, class, stream, first_chunk, embedding, cost,
                input_tokens, output_tokens, cache_read, cache_write, reasoning, service, workload,
                provider, coalesce(request_model, response_model)
            FROM call WHERE at >= ?1 AND at - moved < ?2";
        let mut statement = day.prepare_cached(sql).doing(DOING)?;
        let mut rows = statement.query([place(since), place(self.span.to.0)]).doing(DOING)?;
        let mut of_day = OfDay::default();
        while let Some(row) = rows.next().doing(DOING)? {
            let seen = read(row).doing(DOING)?;
            if only.is_none() || seen.service.contains(&only) {
                self.add(&seen, &mut of_day);
            }
        }
        for (ids, tally) in of_day.pairs {
            self.add_pair(names(day, ids)?, &tally);
        }
        for (model, buckets) in of_day.costs.into_models() {
            let [name] = names(day, [model])?;
            self.costs.add_all(name, &buckets);
        }
        Ok(())
    }

    fn add(&mut self, seen: &Seen, of_day: &mut OfDay) {
        let within = |span: &Span| (span.from.0..span.to.0).contains(&seen.ended);
        let counted = Counted { outcome: Some(seen.outcome), class: seen.class, ..seen.counted };
        if within(&self.previous) {
            self.before.add(&counted);
        }
        if !within(self.span) {
            return;
        }
        let bucket = (seen.ended / self.step_nanos).saturating_sub(self.first_bucket);
        let bucket = usize::try_from(bucket).unwrap_or(usize::MAX);
        if let Some(tally) = self.buckets.get_mut(bucket) {
            tally.add(&counted);
            if let Some(cost) = counted.cost {
                of_day.costs.add(seen.pair[MODEL], bucket, cost.into());
            }
        }
        let pairs = &mut of_day.pairs;
        if pairs.len() < MAX_PAIRS || pairs.contains_key(&seen.pair) {
            pairs.entry(seen.pair).or_default().add(&counted);
        } else {
            self.truncated = true;
        }
    }

    fn add_pair(&mut self, pair: Pair, tally: &Tally) {
        if self.pairs.len() < MAX_PAIRS || self.pairs.contains_key(&pair) {
            self.pairs.entry(pair).or_default().merge(tally);
        } else {
            self.truncated = true;
        }
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
            step_seconds: self.step_nanos / 1_000_000_000,
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

/// Calls that ended in a span, by key of the workload.
pub(super) fn counts(
    day: &Connection,
    since: u64,
    from: Time,
    to: Time,
) -> Result<Vec<(String, u64)>, Error> {
    const DOING: &str = "count calls";
    let sql = "SELECT value, n FROM text JOIN (
            SELECT workload, count(*) AS n FROM call
            WHERE at >= ?1 AND at - moved + coalesce(duration, 0) >= ?2
              AND at - moved + coalesce(duration, 0) < ?3
            GROUP BY workload) ON id = workload";
    let mut statement = day.prepare_cached(sql).doing(DOING)?;
    let values = [place(since), place(from.0), place(to.0)];
    let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?))).doing(DOING)?;
    rows.map(|row: rusqlite::Result<(String, i64)>| {
        row.map(|(key, count)| (key, u64::try_from(count).unwrap_or(0))).doing(DOING)
    })
    .collect()
}

fn place(nanos: u64) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Seen> {
    let whole = |index| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(index)?.and_then(|value| u64::try_from(value).ok()))
    };
    let duration_nanos = whole(1)?;
    let class = whole(3)?.and_then(|class| usize::try_from(class).ok());
    let outcome = match row.get::<_, i64>(2)? {
        0 => Outcome::Ok,
        2 => Outcome::Cancelled,
        _ => Outcome::Error,
    };
    let service = [row.get(13)?, row.get(14)?];
    Ok(Seen {
        ended: whole(0)?.unwrap_or(0).saturating_add(duration_nanos.unwrap_or(0)),
        outcome,
        class: class.and_then(|class| CLASSES.get(class).copied()),
        pair: [service[0], service[1], row.get(15)?, row.get(16)?],
        service,
        counted: Counted {
            embedding: row.get(6)?,
            outcome: None,
            class: None,
            duration_nanos,
            stream: row.get::<_, Option<bool>>(4)?.unwrap_or(false),
            first_chunk_nanos: whole(5)?,
            cost: whole(7)?,
            tokens: [whole(8)?, whole(9)?, whole(10)?, whole(11)?, whole(12)?],
        },
    })
}

fn names<const LEN: usize>(
    day: &Connection,
    ids: [Option<i64>; LEN],
) -> Result<[Option<String>; LEN], Error> {
    let mut names = [const { None }; LEN];
    for (name, id) in names.iter_mut().zip(ids) {
        let Some(id) = id else { continue };
        let mut statement =
            day.prepare_cached("SELECT value FROM text WHERE id = ?1").doing("look a text up")?;
        *name = Some(statement.query_row([id], |row| row.get(0)).doing("look a text up")?);
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
