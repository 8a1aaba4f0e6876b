//! Adds an insertion of calls to the sums.
//!
//! Not by views within the insertion: of two insertions under one number, the views could take the
//! calls of the one that lost it. Sums are made of what the table has under the number, whoever
//! inserted it, and again changes nothing: the number is their deduplication token too.
//!
//! ClickHouse remembers some thousand tokens. Of an insertion that may be older, as the last one of a
//! day before, the sums themselves say whether it is in them ([`add_missing`]).
//!
//! An insertion is added up before the next one of its day, by whoever makes that: so at most the
//! last one is not in the sums, and nobody was told that it is kept.

use super::link::{Ask, Link};
use super::row::{COUNTS, TIMES, within};
use super::schema::{Kind, Layout, NUMBERS, SumTable, counted};
use super::{parts, sums};
use crate::error::Error;
use crate::query::By;
use clickhouse::Row;
use serde::Deserialize;

/// What a sum by several things together is told apart by, after its bucket.
const TOGETHER: [By; 6] =
    [By::Service, By::Workload, By::Provider, By::Model, By::Operation, By::Outcome];

#[derive(Debug, Row, Deserialize)]
struct LastRow {
    /// Of the table.
    number: u64,
    last: u64,
}

/// Adds the calls of a day that were inserted under a number to the sums, once, as long as their
/// token is remembered.
pub(super) fn add(link: &Link, layout: &Layout, day: u64, number: u64) -> Result<(), Error> {
    add_to(link, layout, (day, number), SumTable::all())
}

/// Adds them to the sums that do not have them, however old the insertion is.
pub(super) fn add_missing(
    link: &Link,
    layout: &Layout,
    day: u64,
    number: u64,
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
    add_to(link, layout, (day, number), SumTable::all().filter(|table| !has(table)))
}

fn add_to(
    link: &Link,
    layout: &Layout,
    batch: (u64, u64),
    tables: impl Iterator<Item = SumTable>,
) -> Result<(), Error> {
    let ask = |table: SumTable| {
        // One block with its rows in one order, so that a token stands for the same block each time.
        statement(layout, batch, table)
            .setting("insert_deduplication_token", format!("{}-{}", batch.0, batch.1))
            .setting("max_threads", 1)
    };
    link.execute_all("add calls to the sums", tables.map(ask).collect())
}

/// Adds what was inserted on a day under a number to a table.
fn statement(layout: &Layout, (day, number): (u64, u64), table: SumTable) -> Ask {
    let mut ask = Ask::default();
    let (names, each) = match table.kind {
        Kind::Together => (TOGETHER.map(sums::of_sum).join(", "), ""),
        Kind::Alone => ("thing, name".to_owned(), "ARRAY JOIN things AS thing, names AS name"),
    };
    ask.sql = format!(
        "INSERT INTO {sums} (bucket, {names}, {numbers}, calls, counts, batches)
         SELECT
            toDateTime64(intDiv(toUnixTimestamp64Nano(c.ended), {level} * 1000000000) * {level}, \
            0, 'UTC') AS bucket,
            {names}, {added},
            toUInt64(sum(c.times)) AS calls,
            sumMap(c.counts, arrayWithConstant(length(c.counts), toUInt64(c.times))) AS counts,
            ([toUInt32({day})], [toUInt64({number})]) AS batches
         FROM ({calls}) AS c {each}
         GROUP BY bucket, {names} ORDER BY bucket, {names}",
        sums = layout.local(&table.name()),
        numbers = NUMBERS.join(", "),
        level = table.level,
        added = NUMBERS.map(|name| format!("toUInt128(sum({}))", counted(name))).join(", "),
        calls = calls(layout, (day, number), table.kind, &mut ask),
    );
    ask
}

/// The calls that were inserted on a day under a number, with what sums of a kind are told apart by.
fn calls(layout: &Layout, (day, number): (u64, u64), kind: Kind, ask: &mut Ask) -> String {
    let mut of = |by: By| sums::of_call(by, ask);
    let told_apart = match kind {
        Kind::Together => {
            let names = TOGETHER.map(|by| format!("{} AS {}", of(by), sums::of_sum(by)));
            format!("{}, counts", names.join(", "))
        }
        Kind::Alone => format!(
            "[{}] AS things, CAST([{}], 'Array(Nullable(String))') AS names,
             arrayFilter(number -> number < {}, call.counts) AS counts",
            By::ALONE.map(|by| format!("'{}'", by.word())).join(", "),
            By::ALONE.map(of).join(", "),
            parts::DISTRIBUTIONS,
        ),
    };
    format!(
        "SELECT ended, {}, {TIMES} AS times, {told_apart}
         FROM {} AS call WHERE {} AND batch = {number} AND {COUNTS}",
        NUMBERS.join(", "),
        layout.local("call"),
        within(day, day),
    )
}
