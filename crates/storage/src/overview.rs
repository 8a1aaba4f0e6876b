//! Numbers over a span of time, made of an engine's sums. Pure but for the questions.

use crate::costs::Costs;
use crate::engine::{Distributions, Engine, GroupName, Sum, Sums, SumsQuery};
use crate::error::Error;
use crate::query::{By, Span};
use crate::sketch::Sketch;
use crate::tally::Tally;
use contract::row::{Bucket, ByModel, Group, Overview, Series, ServiceModel, Time};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Rows of a table that are answered; the rest is counted in the totals alone.
const MAX_ROWS: usize = 200;

/// Groups of a series that are named; the rest is one.
const NAMED: usize = 8;

/// How calls are shared out over a span.
#[derive(Debug, Clone)]
pub struct SeriesQuery {
    /// When, and of which calls.
    pub span: Span,
    /// What groups are told apart by; one group without.
    pub by: Option<By>,
    /// Which groups weigh most.
    pub weight: Weight,
    /// Whether to answer with distributions. Without, numbers by service, model, host, environment,
    /// user and agent come from sums, as long as all calls are asked for.
    pub percentiles: bool,
    /// Whether to answer with [`Group::durations`].
    pub durations: bool,
}

/// What makes a group weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weight {
    /// Its calls.
    #[default]
    Calls,
    /// Its cost.
    Cost,
    /// Its tokens, input and output.
    Tokens,
    /// Its errors.
    Errors,
}

/// The buckets of a span.
struct Buckets {
    step_seconds: u64,
    step_nanos: u64,
    first: u64,
    len: usize,
}

pub(crate) fn overview(engine: &dyn Engine, span: &Span) -> Result<Overview, Error> {
    let buckets = Buckets::of(span);
    let step = Some(buckets.step_seconds);
    let pairs = [By::Service, By::Workload, By::Provider, By::Model];
    let previous = span.previous();
    let questions = [
        question(span, step, &[By::Model], Distributions::Together),
        question(span, None, &pairs, Distributions::Main),
        question(&previous, None, &[], Distributions::Main),
    ];
    let mut answers = engine.sums(&questions)?.into_iter();
    let [over_time, pairs, before] = [(); 3].map(|()| answers.next().unwrap_or_default());
    let partial = over_time.partial || pairs.partial || before.partial;
    let mut truncated = over_time.truncated || pairs.truncated;

    let mut totals = Tally::default();
    let mut series = vec![Tally::default(); buckets.len];
    let mut costs: Costs<String> = Costs::default();
    for Sum { time, mut group, tally } in over_time.rows {
        let Some(bucket) = buckets.number(time) else { continue };
        series[bucket].merge(&tally);
        if let Some(cost) = tally.cost {
            costs.add(group.pop().flatten(), bucket, cost);
        }
    }
    series.iter().for_each(|tally| totals.merge(tally));
    let costs = costs.top(buckets.len);
    let series = series.iter().zip(costs).enumerate();
    let series = series.map(|(number, (tally, cost_by_model))| Bucket {
        time: buckets.time(number),
        cost_by_model,
        stats: tally.stats(),
    });
    let mut previous = Tally::default();
    before.rows.iter().for_each(|sum| previous.merge(&sum.tally));
    let (by_model, services) = tables(pairs.rows, &mut truncated);
    Ok(Overview {
        from: span.from,
        to: span.to,
        step_seconds: buckets.step_seconds,
        totals: totals.stats(),
        previous: previous.main_stats(),
        series: series.collect(),
        by_model,
        services,
        truncated,
        partial,
    })
}

pub(crate) fn series(engine: &dyn Engine, query: &SeriesQuery) -> Result<Series, Error> {
    let buckets = Buckets::of(&query.span);
    let by: Vec<By> = query.by.into_iter().collect();
    let step = Some(buckets.step_seconds);
    let wanted =
        if query.percentiles || query.durations { Distributions::All } else { Distributions::None };
    let mut question = question(&query.span, step, &by, wanted);
    // Where sums answer, it is quick to know first which groups will be named.
    let heaviest = match question.alone() {
        Some(_) => Some(heaviest(engine, &question, query.weight)?),
        None => None,
    };
    question.named = heaviest.as_ref().map(|(named, _)| named);
    let sums = engine.sums(&[question])?.pop().unwrap_or_default();
    let truncated = sums.truncated || heaviest.as_ref().is_some_and(|(_, truncated)| *truncated);
    let mut groups: HashMap<GroupName, Vec<Sum>> = HashMap::new();
    for mut sum in sums.rows {
        groups.entry(std::mem::take(&mut sum.group)).or_default().push(sum);
    }
    // Several that are not told apart, where there are any.
    let several = if by.is_empty() { None } else { groups.remove(&Vec::new()) };
    let mut groups: Vec<_> = groups
        .into_iter()
        .map(|(name, sums)| {
            let mut total = Tally::default();
            sums.iter().for_each(|sum| total.merge(&sum.tally));
            (name, sums, total)
        })
        .collect();
    groups.sort_by(|(a, _, x), (b, _, y)| query.weight.order((a, x), (b, y)));
    let rest = groups.split_off(groups.len().min(NAMED));
    let mut answer: Vec<Group> = Vec::new();
    for (name, sums, total) in groups {
        let name = name.into_iter().next().flatten();
        answer.push(group(name, &sums, &total, &buckets, query.durations));
    }
    let rest: Vec<Sum> = rest
        .into_iter()
        .flat_map(|(_, sums, _)| sums)
        .chain(several.into_iter().flatten())
        .collect();
    if !rest.is_empty() {
        let mut total = Tally::default();
        rest.iter().for_each(|sum| total.merge(&sum.tally));
        let other = group(None, &rest, &total, &buckets, query.durations);
        answer.push(Group { other: true, ..other });
    }
    Ok(Series {
        from: query.span.from,
        to: query.span.to,
        step_seconds: buckets.step_seconds,
        times: (0..buckets.len).map(|number| buckets.time(number)).collect(),
        groups: answer,
        truncated,
        partial: sums.partial,
    })
}

/// The groups that weigh most, and whether there were too many to tell all apart.
fn heaviest(
    engine: &dyn Engine,
    question: &SumsQuery<'_>,
    weight: Weight,
) -> Result<(BTreeSet<GroupName>, bool), Error> {
    let whole = SumsQuery { step_seconds: None, ..question.clone() };
    let Sums { rows: mut groups, truncated, .. } = engine.sums(&[whole])?.pop().unwrap_or_default();
    groups.sort_by(|a, b| weight.order((&a.group, &a.tally), (&b.group, &b.tally)));
    Ok((groups.into_iter().map(|sum| sum.group).take(NAMED).collect(), truncated))
}

fn question<'a>(
    span: &'a Span,
    step_seconds: Option<u64>,
    by: &'a [By],
    distributions: Distributions,
) -> SumsQuery<'a> {
    let Span { from, to, filter, budget } = span;
    let (from, to, named) = (from.0, to.0, None);
    SumsQuery { from, to, step_seconds, by, named, filter, distributions, budget: *budget }
}

fn group(
    name: Option<String>,
    sums: &[Sum],
    total: &Tally,
    buckets: &Buckets,
    durations: bool,
) -> Group {
    let mut series = vec![Tally::default(); buckets.len];
    for sum in sums {
        if let Some(bucket) = buckets.number(sum.time) {
            series[bucket].merge(&sum.tally);
        }
    }
    let shares = |tally: &Tally| by_powers(&tally.sketches.duration);
    Group {
        name,
        other: false,
        totals: total.stats(),
        durations: if durations { series.iter().map(shares).collect() } else { Vec::new() },
        series: series.iter().map(Tally::stats).collect(),
    }
}

/// How many of the values, in nanoseconds, are in each power of two of milliseconds. The bins of
/// the sketch are far narrower; one that lies over an edge counts where its middle is.
fn by_powers(sketch: &Sketch) -> BTreeMap<i16, u64> {
    let mut powers = BTreeMap::new();
    for (value, count) in sketch.values() {
        #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a u64")]
        let power = (value.max(1.0) / 1e6).log2().floor() as i16;
        *powers.entry(power).or_default() += count;
    }
    powers
}

/// The tables by model and by service.
fn tables(rows: Vec<Sum>, truncated: &mut bool) -> (Vec<ByModel>, Vec<ServiceModel>) {
    let mut models: HashMap<Vec<Option<String>>, Tally> = HashMap::new();
    let mut services: Vec<(Vec<Option<String>>, Tally)> = Vec::new();
    for Sum { group, tally, .. } in rows {
        models.entry(group.get(2..).unwrap_or_default().to_vec()).or_default().merge(&tally);
        services.push((group, tally));
    }
    let by_model = most(models.into_iter().collect(), truncated).into_iter();
    let by_model = by_model.map(|(group, tally)| {
        let [provider, model] = names(group);
        ByModel { provider, model, stats: tally.main_stats() }
    });
    let services = most(services, truncated).into_iter().map(|(group, tally)| {
        let [service, key, provider, model] = names(group);
        ServiceModel { service, key, provider, model, stats: tally.main_stats() }
    });
    (by_model.collect(), services.collect())
}

fn names<const LEN: usize>(group: Vec<Option<String>>) -> [Option<String>; LEN] {
    let mut group = group.into_iter();
    [(); LEN].map(|()| group.next().flatten())
}

/// The entries with most calls, then by name, at most [`MAX_ROWS`].
fn most<K: Ord>(mut rows: Vec<(K, Tally)>, truncated: &mut bool) -> Vec<(K, Tally)> {
    rows.sort_by(|(a, x), (b, y)| match y.count().cmp(&x.count()) {
        Ordering::Equal => a.cmp(b),
        order => order,
    });
    *truncated |= rows.len() > MAX_ROWS;
    rows.truncate(MAX_ROWS);
    rows
}

impl Weight {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Cost => "cost",
            Self::Tokens => "tokens",
            Self::Errors => "errors",
        }
    }

    /// What a word stands for.
    pub fn of_word(word: &str) -> Option<Self> {
        let all = [Self::Calls, Self::Cost, Self::Tokens, Self::Errors];
        all.into_iter().find(|weight| weight.word() == word)
    }

    /// Which group comes first: the one that weighs more, then by name. Several in one have none,
    /// and come last.
    fn order<'a>(
        self,
        (one, x): (&'a [Option<String>], &Tally),
        (other, y): (&'a [Option<String>], &Tally),
    ) -> Ordering {
        let by_weight = self.of(y).cmp(&self.of(x)).then_with(|| one.cmp(other));
        one.is_empty().cmp(&other.is_empty()).then(by_weight)
    }

    fn of(self, tally: &Tally) -> u128 {
        match self {
            Self::Calls => tally.count().into(),
            Self::Cost => tally.cost.unwrap_or(0),
            Self::Tokens => tally.tokens[..2].iter().flatten().map(|n| u128::from(*n)).sum(),
            Self::Errors => tally.errors.into(),
        }
    }
}

impl Buckets {
    fn of(span: &Span) -> Self {
        let step_seconds = span.step_seconds();
        let step_nanos = step_seconds.saturating_mul(1_000_000_000);
        let first = span.from.0 / step_nanos;
        let end = span.to.0.div_ceil(step_nanos);
        let len = usize::try_from(end.saturating_sub(first)).unwrap_or(0);
        let len = if span.from < span.to { len } else { 0 };
        Self { step_seconds, step_nanos, first, len }
    }

    fn number(&self, time: u64) -> Option<usize> {
        let number = (time / self.step_nanos).checked_sub(self.first)?;
        usize::try_from(number).ok().filter(|number| *number < self.len)
    }

    fn time(&self, number: usize) -> Time {
        Time((self.first + number as u64).saturating_mul(self.step_nanos))
    }
}
