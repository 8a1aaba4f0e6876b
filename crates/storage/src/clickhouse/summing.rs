//! Adds an insertion of calls to the sums.
//!
//! Not by views within the insertion: of two insertions under one number, the views could take the
//! calls of the one that lost it. Sums are made of what the table has under the number, whoever
//! inserted it, and again changes nothing: the number is their deduplication token too. They are
//! added up here, and not by statements of ClickHouse, of which each takes longer to plan than all
//! of it takes to add.
//!
//! ClickHouse remembers some thousand tokens. Of an insertion that may be older, as the last one of a
//! day before, the sums themselves say whether it is in them ([`add_missing`]).
//!
//! An insertion is added up before the next one of its day, by whoever makes that: so at most the
//! last one is not in the sums, and nobody was told that it is kept.

use super::link::{Ask, Insertion, Link};
use super::parts;
use super::row::{COLUMNS, COUNTS, CallRow, within};
use super::schema::{Kind, LEVELS, Layout, NUMBERS, SumTable};
use crate::error::Error;
use crate::further::Further;
use crate::query::By;
use clickhouse::Row;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A row of a table of sums by several things together.
#[derive(Debug, Row, Serialize)]
struct Together {
    bucket: i64,
    service: Option<String>,
    workload: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    operation: Option<String>,
    outcome: String,
    calls: u64,
    cost: Option<u128>,
    wasted: Option<u128>,
    input_tokens: Option<u128>,
    output_tokens: Option<u128>,
    cache_read: Option<u128>,
    cache_write: Option<u128>,
    reasoning: Option<u128>,
    counts: (Vec<u16>, Vec<u64>),
    batches: Batches,
}

/// A row of a table of sums by one thing alone.
#[derive(Debug, Row, Serialize)]
struct Alone {
    bucket: i64,
    thing: String,
    name: Option<String>,
    calls: u64,
    cost: Option<u128>,
    wasted: Option<u128>,
    input_tokens: Option<u128>,
    output_tokens: Option<u128>,
    cache_read: Option<u128>,
    cache_write: Option<u128>,
    reasoning: Option<u128>,
    counts: (Vec<u16>, Vec<u64>),
    batches: Batches,
}

/// Days, and the last number of each.
type Batches = (Vec<u32>, Vec<u64>);

/// What calls are added up by: the names of the columns of a table, or a thing and its name.
type Group<'a> = [Option<&'a str>; 6];

/// Sums by group, and by bucket in seconds since 1970.
type Groups<'a> = BTreeMap<(i64, Group<'a>), Adding>;

/// What is added up of some calls. All of it wraps around: so a call is taken away, also from a sum
/// in which another insertion has it.
#[derive(Debug, Default, Clone)]
struct Adding {
    numbers: [Option<u128>; NUMBERS.len()],
    calls: u64,
    counts: BTreeMap<u16, u64>,
}

#[derive(Debug, Row, Deserialize)]
struct LastRow {
    /// Of the table.
    number: u64,
    last: u64,
}

/// Adds the calls of a day that were inserted under a number to the sums, once, as long as their
/// token is remembered. These are its rows.
pub(super) fn add(
    link: &Link,
    layout: &Layout,
    batch: (u64, u64),
    rows: &[CallRow],
) -> Result<(), Error> {
    add_to(link, layout, batch, rows, &SumTable::all().collect::<Vec<_>>())
}

/// Adds them to the sums that do not have them, however old the insertion is.
pub(super) fn add_missing(
    link: &Link,
    layout: &Layout,
    (day, number): (u64, u64),
) -> Result<(), Error> {
    let moment = |day: u64| format!("toDateTime64({}, 0, 'UTC')", day.saturating_mul(86_400));
    let last = |table: SumTable| {
        // A call counts where it ended: on its day, or soon after.
        format!(
            "SELECT toUInt64({}) AS number, max(arrayMax(arrayMap((of, number) -> \
                if(of = {day}, number, 0), batches.1, batches.2))) AS last
             FROM {} WHERE bucket >= {} AND bucket < {} AND notEmpty(batches.1)",
            table.number(),
            layout.local(&table.name()),
            moment(day),
            moment(day + 3),
        )
    };
    let sql = SumTable::all().map(last).collect::<Vec<_>>().join(" UNION ALL ");
    let rows: Vec<LastRow> = link.rows("look whether calls are in the sums", Ask::of(sql))?;
    let has = |table: &SumTable| {
        rows.iter().any(|row| row.number == table.number() && row.last >= number)
    };
    let tables: Vec<_> = SumTable::all().filter(|table| !has(table)).collect();
    if tables.is_empty() {
        return Ok(());
    }
    let ask = Ask::of(format!(
        "SELECT {COLUMNS} FROM {} WHERE {} AND batch = {number} AND {COUNTS}",
        layout.local("call"),
        within(day, day),
    ));
    let rows: Vec<CallRow> = link.rows("read calls that are not in the sums", ask)?;
    add_to(link, layout, (day, number), &rows, &tables)
}

fn add_to(
    link: &Link,
    layout: &Layout,
    (day, number): (u64, u64),
    rows: &[CallRow],
    tables: &[SumTable],
) -> Result<(), Error> {
    const DOING: &str = "add calls to the sums";
    let further: Vec<_> = rows.iter().map(CallRow::further).collect();
    let counting: Vec<_> = rows.iter().zip(&further).filter(|(row, _)| row.counts()).collect();
    if counting.is_empty() {
        return Ok(());
    }
    let token = format!("{day}-{number}");
    let batches = (vec![u32::try_from(day).unwrap_or(u32::MAX)], vec![number]);
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    for kind in [Kind::Together, Kind::Alone] {
        let mut groups = Groups::new();
        for level in LEVELS {
            groups =
                if groups.is_empty() { kind.narrowest(&counting) } else { wider(groups, level) };
            let table = SumTable { kind, level };
            if !tables.contains(&table) {
                continue;
            }
            let (token, table) = (token.clone(), layout.local(&table.name()));
            match kind {
                Kind::Together => {
                    let rows = groups.iter().map(|sum| Together::of(sum, &batches)).collect();
                    together.push(Insertion { table, token, rows });
                }
                Kind::Alone => {
                    let rows = groups.iter().map(|sum| Alone::of(sum, &batches)).collect();
                    alone.push(Insertion { table, token, rows });
                }
            }
        }
    }
    link.insert_all(DOING, together)?;
    link.insert_all(DOING, alone)
}

impl Kind {
    /// Sums of the narrowest buckets.
    fn narrowest<'a>(self, rows: &[(&'a CallRow, &'a Further)]) -> Groups<'a> {
        let mut groups = Groups::new();
        for (row, further) in rows {
            let bucket = begin(row.ended / 1_000_000_000, LEVELS[0]);
            let mut add = |group, below| {
                groups.entry((bucket, group)).or_default().add(row, below);
            };
            match self {
                Self::Together => add(row.together(), u16::MAX),
                Self::Alone => By::ALONE.into_iter().for_each(|by| {
                    let name = row.alone(by, further);
                    add([Some(by.word()), name, None, None, None, None], parts::DISTRIBUTIONS);
                }),
            }
        }
        groups
    }
}

/// The same in wider buckets.
fn wider(groups: Groups<'_>, level: u64) -> Groups<'_> {
    let mut wider = Groups::new();
    for ((bucket, group), sum) in groups {
        wider.entry((begin(bucket, level), group)).or_default().merge(sum);
    }
    wider
}

/// When the bucket begins in which a moment lies, both in seconds since 1970.
fn begin(moment: i64, level: u64) -> i64 {
    let level = i64::try_from(level).unwrap_or(i64::MAX);
    moment / level * level
}

impl CallRow {
    fn together(&self) -> Group<'_> {
        let Self { service, workload, provider, operation, outcome, .. } = self;
        let model = self.model();
        let [service, workload, provider, operation] =
            [service, workload, provider, operation].map(Option::as_deref);
        [service, workload, provider, model, operation, Some(outcome)]
    }

    fn alone<'a>(&'a self, by: By, further: &'a Further) -> Option<&'a str> {
        match by {
            By::Service => self.service.as_deref(),
            By::Model => self.model(),
            By::Host => self.host.as_deref(),
            By::Environment => further.environment.as_deref(),
            By::User => further.user.as_deref(),
            By::Agent => further.agent.as_deref(),
            By::Workload | By::Provider | By::Operation | By::Outcome => None,
            By::Class | By::Conversation | By::Finish => None,
        }
    }

    /// As asked for, or else as answered.
    fn model(&self) -> Option<&str> {
        self.request_model.as_deref().or(self.response_model.as_deref())
    }
}

impl Adding {
    /// Adds a row as often as it counts, with its counts below a number.
    fn add(&mut self, row: &CallRow, below: u16) {
        let times = row.times();
        let numbers = [
            row.cost,
            row.cost.filter(|_| row.wasted),
            row.input_tokens,
            row.output_tokens,
            row.cache_read,
            row.cache_write,
            row.reasoning,
        ];
        for (sum, number) in self.numbers.iter_mut().zip(numbers) {
            let number =
                number.map(|number| (i128::from(number) * i128::from(times)).cast_unsigned());
            *sum = added(*sum, number);
        }
        let times = times.cast_unsigned();
        self.calls = self.calls.wrapping_add(times);
        for number in row.counts.iter().filter(|number| **number < below) {
            let count = self.counts.entry(*number).or_default();
            *count = count.wrapping_add(times);
        }
    }

    fn merge(&mut self, other: Self) {
        for (sum, more) in self.numbers.iter_mut().zip(other.numbers) {
            *sum = added(*sum, more);
        }
        self.calls = self.calls.wrapping_add(other.calls);
        for (number, more) in other.counts {
            let count = self.counts.entry(number).or_default();
            *count = count.wrapping_add(more);
        }
    }

    fn counts(&self) -> (Vec<u16>, Vec<u64>) {
        self.counts.iter().filter(|(_, count)| **count != 0).unzip()
    }
}

/// A sum and more, where they are known.
fn added(sum: Option<u128>, more: Option<u128>) -> Option<u128> {
    more.map_or(sum, |more| Some(sum.unwrap_or(0).wrapping_add(more)))
}

impl Together {
    fn of(((bucket, group), sum): (&(i64, Group<'_>), &Adding), batches: &Batches) -> Self {
        let [service, workload, provider, model, operation, outcome] =
            group.map(|name| name.map(str::to_owned));
        let [cost, wasted, input_tokens, output_tokens, cache_read, cache_write, reasoning] =
            sum.numbers;
        Self {
            bucket: *bucket,
            service,
            workload,
            provider,
            model,
            operation,
            outcome: outcome.unwrap_or_default(),
            calls: sum.calls,
            cost,
            wasted,
            input_tokens,
            output_tokens,
            cache_read,
            cache_write,
            reasoning,
            counts: sum.counts(),
            batches: batches.clone(),
        }
    }
}

impl Alone {
    fn of(((bucket, group), sum): (&(i64, Group<'_>), &Adding), batches: &Batches) -> Self {
        let [thing, name, ..] = group.map(|name| name.map(str::to_owned));
        let [cost, wasted, input_tokens, output_tokens, cache_read, cache_write, reasoning] =
            sum.numbers;
        Self {
            bucket: *bucket,
            thing: thing.unwrap_or_default(),
            name,
            calls: sum.calls,
            cost,
            wasted,
            input_tokens,
            output_tokens,
            cache_read,
            cache_write,
            reasoning,
            counts: sum.counts(),
            batches: batches.clone(),
        }
    }
}
