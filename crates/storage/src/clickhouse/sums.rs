//! Adds calls up: from the sums that ClickHouse made as they came, from the calls themselves at the
//! edges that no sum fits, and from both in one question.
//!
//! Numbers are added up by group. Counts are added up by group and number of the count, and only those
//! that are wanted: `sumMap` would take ClickHouse several times as long. What it finds of a group is
//! put together here.

use super::filter;
use super::keep::Gone;
use super::link::Ask;
use super::schema::{self, Kind, LEVELS, Layout, NUMBERS, SumTable};
use super::{parts, row};
use crate::cover::{Level, Piece, cover};
use crate::engine::{Distributions, MAX_GROUPS, Sum, Sums, SumsQuery};
use crate::query::By;
use crate::tally::Tally;
use clickhouse::Row;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// Widths of the sums that answer where calls are no longer kept.
const HISTORY: [u64; 2] = [3600, 86_400];
const HOUR_NANOS: u64 = 3_600_000_000_000;

/// Of one group in one bucket, its numbers or its counts in one table.
#[derive(Debug, Row, Deserialize)]
pub(super) struct SumRow {
    at: i64,
    /// A hash of the names: that two of a million groups share one is a matter of one question in
    /// thirty million.
    key: u64,
    /// None in a row of counts.
    names: Vec<Option<String>>,
    /// Those of [`NUMBERS`]; none in a row of counts.
    numbers: Vec<Option<u128>>,
    counts: Counts,
}

/// Numbers of counts, and the counts.
type Counts = (Vec<u16>, Vec<u64>);

/// All that was found of one group in one bucket.
#[derive(Debug, Default)]
struct Found {
    /// None where there are counts alone.
    names: Option<Vec<Option<String>>>,
    numbers: [Option<u128>; NUMBERS.len()],
    counts: Vec<Counts>,
}

/// What is added up of a table, as SQL.
struct Source {
    /// A table, or a question.
    from: String,
    condition: String,
    /// Start of the bucket.
    at: String,
    names: Vec<String>,
    /// What is added up of a number.
    number: fn(&str) -> String,
    /// The lists of `number`, of a count, and of how many `times` it counts.
    counts: &'static str,
}

/// The question as SQL; `None` when the span is empty.
pub(super) fn question(query: &SumsQuery<'_>, gone: &Gone, layout: &Layout) -> Option<Ask> {
    let mut ask = Ask::default();
    let mut parts = Vec::new();
    for (table, pieces) in tables(query, gone) {
        let source = source(table, &pieces, query, layout, &mut ask);
        parts.extend([source.numbers(), source.counts(query.distributions)]);
    }
    ask.sql = parts.join(" UNION ALL ");
    (!parts.is_empty()).then_some(ask)
}

/// The span as pieces by the sums that answer them, or calls. Each table once: every further
/// question takes milliseconds, however little it reads.
fn tables(query: &SumsQuery<'_>, gone: &Gone) -> BTreeMap<Option<SumTable>, Vec<Piece>> {
    let SumsQuery { from, to, step_seconds, .. } = *query;
    let alone = query.alone();
    let is_told_apart = query.is_summed() && alone.is_none_or(By::is_summed);
    // Before there were sums by one thing alone, the others answer where they can.
    let begin = alone.map_or(to, |_| gone.alone_begin().clamp(from, to.max(from)));
    let before = is_told_apart.then_some(Kind::Together);
    let mut tables: BTreeMap<_, Vec<Piece>> = BTreeMap::new();
    for (kind, from, to) in [(before, from, begin), (Some(Kind::Alone), begin, to)] {
        let pieces = match kind {
            Some(kind) => pieces(kind, (from, to), step_seconds, gone),
            None => cover(from.max(gone.calls_end()), to, &[]),
        };
        for piece in pieces {
            let table = kind.zip(piece.level).map(|(kind, level)| SumTable { kind, level });
            tables.entry(table).or_default().push(piece);
        }
    }
    tables
}

/// A span as pieces that sums of a kind or calls answer.
fn pieces(
    kind: Kind,
    (from, to): (u64, u64),
    step_seconds: Option<u64>,
    gone: &Gone,
) -> Vec<Piece> {
    let fits =
        |level: &u64, narrowest: u64| step_seconds.is_none_or(|step| *level <= step.max(narrowest));
    let has = |level: &u64, moment: u64| !gone.has(SumTable { kind, level: *level }, moment);
    let begin = gone.calls_end();
    // Where the calls are gone: moved to where sums begin, as nothing finer is left.
    let up = |time: u64| time.div_ceil(HOUR_NANOS).saturating_mul(HOUR_NANOS);
    let levels = HISTORY.into_iter().filter(|level| fits(level, HISTORY[0]));
    let levels: Vec<_> = levels.map(Level::whole).collect();
    let mut pieces = cover(up(from).min(begin), up(to).min(begin), &levels);
    let mut from = from.max(begin);
    while from < to {
        let levels = LEVELS.into_iter().filter(|level| fits(level, 0) && has(level, from));
        let levels: Vec<_> = levels.map(Level::whole).collect();
        let edge = gone.next_edge(from).min(to);
        pieces.extend(cover(from, edge, &levels));
        from = edge;
    }
    pieces
}

fn source(
    table: Option<SumTable>,
    pieces: &[Piece],
    query: &SumsQuery<'_>,
    layout: &Layout,
    ask: &mut Ask,
) -> Source {
    let condition = filter::condition(query.filter, ask);
    let within = |column: &str, moment: &dyn Fn(u64) -> String| {
        let within = |piece: &Piece| {
            let (from, to) = (moment(piece.from), moment(piece.to));
            format!("{column} >= {from} AND {column} < {to}")
        };
        pieces.iter().map(within).collect::<Vec<_>>().join(" OR ")
    };
    let at = |nanos: &str| match query.step_seconds {
        None => format!("toInt64({})", i64::try_from(query.from).unwrap_or(i64::MAX)),
        Some(step) => {
            let step = i64::try_from(step.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX);
            format!("intDiv({nanos}, toInt64({step})) * toInt64({step})")
        }
    };
    if let Some(table) = table {
        let names = query.by.iter().map(|by| of_sum(*by));
        let (condition, names) = match (table.kind, query.alone()) {
            (Kind::Alone, Some(by)) => {
                (format!("thing = '{}'", by.word()), vec!["name".to_owned()])
            }
            _ => (condition, names.collect()),
        };
        let moment = |nanos: u64| format!("toDateTime64({}, 0, 'UTC')", nanos / 1_000_000_000);
        return Source {
            from: layout.name(&table.name()),
            condition: format!("({}) AND ({condition})", within("bucket", &moment)),
            at: at("toInt64(toUnixTimestamp64Nano(toDateTime64(bucket, 9, 'UTC')))"),
            names,
            number: str::to_owned,
            counts: "counts.1 AS number, counts.2 AS times",
        };
    }
    let mut columns = vec![
        "*".to_owned(),
        format!("{} AS times", row::TIMES),
        format!("{} AS at", at("toUnixTimestamp64Nano(ended)")),
    ];
    // Once for each call: a name may have to be read from JSON.
    let name = |(place, by): (usize, &By)| format!("{} AS name_{place}", of_call(*by, ask));
    columns.extend(query.by.iter().enumerate().map(name));
    Source {
        from: format!(
            "(SELECT {} FROM {} WHERE ({}) AND {} AND ({condition}))",
            columns.join(", "),
            layout.name("call"),
            within("ended", &row::moment),
            row::COUNTS,
        ),
        condition: "true".to_owned(),
        at: "at".to_owned(),
        names: (0..query.by.len()).map(|place| format!("name_{place}")).collect(),
        number: schema::counted,
        counts: "counts AS number",
    }
}

impl Source {
    /// The question for numbers, by group.
    fn numbers(&self) -> String {
        let Self { from, condition, at, names, number, .. } = self;
        let sums = NUMBERS.map(|name| format!("toUInt128(sum({}))", number(name)));
        // Texts are made of what groups are told apart by, not of each row.
        let texts = names.iter().map(|name| format!("CAST({name}, 'Nullable(String)')"));
        let groups: Vec<_> =
            std::iter::once("at").chain(names.iter().map(String::as_str)).collect();
        format!(
            "SELECT {at} AS at, {key} AS key, CAST([{texts}], 'Array(Nullable(String))') AS names,
                CAST([{sums}], 'Array(Nullable(UInt128))') AS numbers,
                (emptyArrayUInt16(), emptyArrayUInt64()) AS counts
             FROM {from} WHERE {condition} GROUP BY {groups}",
            key = self.key(),
            texts = texts.collect::<Vec<_>>().join(", "),
            sums = sums.join(", "),
            groups = groups.join(", "),
        )
    }

    /// The question for counts, by group and number. Distributions of a bucket as a whole have the
    /// key of no group.
    fn counts(&self, wanted: Distributions) -> String {
        let Self { from, condition, at, counts, .. } = self;
        let mut key = self.key();
        let mut only = String::new();
        match wanted {
            Distributions::All => {}
            Distributions::Together => {
                key = format!("if(number < {}, {key}, 0)", parts::DISTRIBUTIONS);
            }
            Distributions::None => only = format!("AND number < {}", parts::DISTRIBUTIONS),
            Distributions::Main => only = format!("AND number < {}", parts::BEYOND_MAIN),
        }
        format!(
            "SELECT at, key, CAST([], 'Array(Nullable(String))') AS names,
                CAST([], 'Array(Nullable(UInt128))') AS numbers,
                (groupArray(number), groupArray(count)) AS counts
             FROM (SELECT {at} AS at, {key} AS key, number, toUInt64(sum(times)) AS count
                FROM {from} ARRAY JOIN {counts} WHERE {condition} {only} GROUP BY at, key, number)
             GROUP BY at, key"
        )
    }

    /// The hash of the names. A text that is not known is unlike an empty one.
    fn key(&self) -> String {
        let names = self.names.iter().map(|name| format!("isNull({name}), ifNull({name}, '')"));
        let names: Vec<_> = names.collect();
        if names.is_empty() {
            "toUInt64(0)".into()
        } else {
            format!("sipHash64({})", names.join(", "))
        }
    }
}

/// What a sum has of it.
pub(super) fn of_sum(by: By) -> String {
    match by {
        By::Service => "service",
        By::Workload => "workload",
        By::Provider => "provider",
        By::Model => "model",
        By::Operation => "operation",
        By::Outcome => "outcome",
        _ => "NULL",
    }
    .to_owned()
}

/// What a call has of it.
pub(super) fn of_call(by: By, ask: &mut Ask) -> String {
    let mut first = |names: &[&str]| {
        let each: Vec<_> = names.iter().map(|name| filter::of_more(name, ask)).collect();
        format!("coalesce({})", each.join(", "))
    };
    match by {
        By::Model => "coalesce(request_model, response_model)".into(),
        By::Class => "nullIf(class, '')".into(),
        By::Host => "host".into(),
        By::Environment => first(&crate::filter::ENVIRONMENT),
        By::User => first(&crate::filter::USER),
        By::Agent => first(&crate::filter::AGENT),
        By::Conversation => "JSONExtract(rest, 'c', 'Nullable(String)')".into(),
        By::Finish => "arrayElementOrNull(JSONExtract(rest, 'fr', 'Array(String)'), 1)".into(),
        _ => of_sum(by),
    }
}

/// The rows of an answer.
pub(super) fn answer(rows: Vec<SumRow>) -> Sums {
    let mut found: HashMap<(i64, u64), Found> = HashMap::new();
    for row in rows {
        found.entry((row.at, row.key)).or_default().add(row);
    }
    let is_group = |(_, found): &(_, Found)| found.names.is_some();
    let (found, together): (Vec<_>, Vec<_>) = found.into_iter().partition(is_group);
    let mut together: HashMap<i64, Vec<Counts>> =
        together.into_iter().map(|((at, _), found)| (at, found.counts)).collect();
    let mut sums = Sums::default();
    let mut groups: HashMap<Vec<Option<String>>, usize> = HashMap::new();
    let mut rest: HashMap<i64, Tally> = HashMap::new();
    for ((at, _), mut found) in found {
        let names = found.names.take().unwrap_or_default();
        let mut tally = found.tally();
        // Where further sightings moved all of a group to another, nothing is left of it.
        if tally.count() == 0 {
            continue;
        }
        add(&mut tally, together.remove(&at).unwrap_or_default());
        let known = groups.len();
        if known >= MAX_GROUPS && !groups.contains_key(&names) {
            sums.truncated = true;
            rest.entry(at).or_default().merge(&tally);
            continue;
        }
        groups.entry(names.clone()).or_insert(known);
        sums.rows.push(Sum { time: u64::try_from(at).unwrap_or(0), tally, group: names });
    }
    sums.rows.extend(rest.into_iter().map(|(at, tally)| Sum {
        time: u64::try_from(at).unwrap_or(0),
        group: Vec::new(),
        tally,
    }));
    sums
}

impl Found {
    fn add(&mut self, row: SumRow) {
        if row.numbers.is_empty() {
            self.counts.push(row.counts);
            return;
        }
        self.names = Some(row.names);
        for (sum, more) in self.numbers.iter_mut().zip(row.numbers) {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).wrapping_add(more));
            }
        }
    }

    fn tally(self) -> Tally {
        let [cost, wasted, tokens @ ..] = self.numbers;
        let small = |sum: Option<u128>| sum.map(|sum| u64::try_from(sum).unwrap_or(u64::MAX));
        let mut tally = Tally { cost, wasted, tokens: tokens.map(small), ..Tally::default() };
        add(&mut tally, self.counts);
        tally
    }
}

/// Adds counts of some tables.
fn add(tally: &mut Tally, mut tables: Vec<Counts>) {
    let mut sums: BTreeMap<u16, u64> = BTreeMap::new();
    // Mostly there is but one.
    let one = if tables.len() == 1 { tables.pop() } else { None };
    for (number, count) in tables.iter().flat_map(each) {
        let sum = sums.entry(number).or_default();
        *sum = sum.wrapping_add(count);
    }
    for (number, count) in one.iter().flat_map(each).chain(sums) {
        // Below zero: what was made of a call that itself went with the day before.
        let count = i64::try_from(count).map_or(0, i64::unsigned_abs);
        if count > 0 {
            parts::add(tally, number, count);
        }
    }
}

fn each((numbers, counts): &Counts) -> impl Iterator<Item = (u16, u64)> {
    numbers.iter().copied().zip(counts.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::{pieces, tables};
    use crate::clickhouse::keep::Gone;
    use crate::clickhouse::schema::{Kind, LEVELS, SumTable};
    use crate::cover::Piece;
    use crate::engine::{Distributions, SumsQuery};
    use crate::filter::Filter;
    use crate::query::{Budget, By};
    use crate::units::DAY_NANOS;

    fn of(from: u64, to: u64, step_seconds: Option<u64>, gone: &Gone) -> Vec<Piece> {
        pieces(Kind::Together, (from, to), step_seconds, gone)
    }

    #[test]
    fn where_calls_are_gone_sums_of_hours_answer() {
        let mut gone = Gone::default();
        gone.note(0, 10);
        let begin = 11 * DAY_NANOS;
        let found = of(begin - 90 * 60_000_000_000, begin + 1, None, &gone);
        assert_eq!(
            found,
            [
                Piece { from: begin - 3_600_000_000_000, to: begin, level: Some(3600) },
                Piece { from: begin, to: begin + 1, level: None },
            ]
        );
    }

    #[test]
    fn narrow_sums_that_are_gone_are_not_asked() {
        let mut gone = Gone::default();
        gone.note(60, 20);
        gone.note(300, 10);
        let day = DAY_NANOS;
        let minute = 60_000_000_000;
        let levels = |from| {
            let found = of(from, from + 2 * minute, Some(60), &gone);
            found.into_iter().map(|piece| piece.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(21 * day), [Some(60)]);
        assert_eq!(levels(20 * day), [None]);
        let over = of(20 * day, 22 * day, Some(60), &gone);
        assert_eq!(
            over,
            [
                Piece { from: 20 * day, to: 21 * day, level: None },
                Piece { from: 21 * day, to: 22 * day, level: Some(60) },
            ]
        );
    }

    /// Names of the tables that answer a question by one thing, with what they answer.
    fn alone(by: By, (from, to): (u64, u64), gone: &Gone) -> Vec<(String, u64, u64)> {
        let (filter, budget) = (&Filter::default(), Budget::default());
        let distributions = Distributions::None;
        let step_seconds = None;
        let by = &[by];
        let named = None;
        let query = SumsQuery { from, to, step_seconds, by, named, filter, distributions, budget };
        let named = |(table, pieces): (Option<SumTable>, Vec<Piece>)| {
            let name = table.map_or_else(|| "call".to_owned(), SumTable::name);
            pieces.into_iter().map(move |piece| (name.clone(), piece.from, piece.to))
        };
        tables(&query, gone).into_iter().flat_map(named).collect()
    }

    #[test]
    fn sums_by_one_thing_answer_from_the_day_on_that_has_them() {
        let day = DAY_NANOS;
        let whole = |table: &str, from: u64, to: u64| (table.to_owned(), from * day, to * day);
        let mut gone = Gone::default();
        let span = (5 * day, 14 * day);
        for by in By::ALONE {
            assert_eq!(alone(by, span, &gone), [whole("alone_86400", 5, 14)]);
        }
        for level in LEVELS {
            gone.note(SumTable { kind: Kind::Alone, level }.number(), 10);
        }
        gone.note(0, 7);
        assert_eq!(
            alone(By::User, span, &gone),
            [whole("call", 8, 11), whole("alone_86400", 11, 14)],
            "calls of days before, which a part of is gone"
        );
        let found = alone(By::Service, span, &gone);
        let other = found.iter().filter(|(table, ..)| table != "alone_86400");
        assert!(other.clone().count() > 0);
        assert!(other.clone().all(|(table, from, to)| table == "sum_86400" && from < to));
        assert_eq!(alone(By::Host, (8 * day, 10 * day), &gone), [whole("call", 8, 10)]);
        assert_eq!(alone(By::Host, (day, 2 * day), &gone), []);
        assert_eq!(alone(By::Model, (day, 2 * day), &gone), [whole("sum_86400", 1, 2)]);
        assert_eq!(alone(By::Host, (12 * day, 12 * day), &gone), []);
    }
}
