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
use super::schema::{LEVELS, Layout, NUMBERS, counted};
use crate::error::Error;
use clickhouse::Row;
use serde::Deserialize;

/// What a sum is told apart by, after its bucket.
const NAMES: &str = "service, workload, provider, model, operation, outcome";

#[derive(Debug, Row, Deserialize)]
struct LastRow {
    level: u64,
    last: u64,
}

/// Adds the calls of a day that were inserted under a number to the sums, once, as long as their
/// token is remembered.
pub(super) fn add(link: &Link, layout: &Layout, day: u64, number: u64) -> Result<(), Error> {
    add_to(link, layout, (day, number), &LEVELS)
}

/// Adds them to the sums that do not have them, however old the insertion is.
pub(super) fn add_missing(
    link: &Link,
    layout: &Layout,
    day: u64,
    number: u64,
) -> Result<(), Error> {
    let moment = |day: u64| format!("toDateTime64({}, 0, 'UTC')", day.saturating_mul(86_400));
    let last = |level: u64| {
        // A call counts where it ended: on its day, or soon after.
        format!(
            "SELECT toUInt64({level}) AS level, max(arrayMax(arrayMap((of, number) -> \
                if(of = {day}, number, 0), batches.1, batches.2))) AS last
             FROM {} WHERE bucket >= {} AND bucket < {} AND notEmpty(batches.1)",
            layout.local(&format!("sum_{level}")),
            moment(day),
            moment(day + 3),
        )
    };
    let sql = LEVELS.map(last).join(" UNION ALL ");
    let rows: Vec<LastRow> = link.rows("look whether calls are in the sums", Ask::of(sql))?;
    let has = |level: &u64| rows.iter().any(|row| row.level == *level && row.last >= number);
    let missing: Vec<u64> = LEVELS.into_iter().filter(|level| !has(level)).collect();
    add_to(link, layout, (day, number), &missing)
}

fn add_to(
    link: &Link,
    layout: &Layout,
    (day, number): (u64, u64),
    levels: &[u64],
) -> Result<(), Error> {
    let ask = |level: &u64| {
        // One block with its rows in one order, so that a token stands for the same block each time.
        Ask::of(statement(layout, day, number, *level))
            .setting("insert_deduplication_token", format!("{day}-{number}"))
            .setting("max_threads", 1)
    };
    link.execute_all("add calls to the sums", levels.iter().map(ask).collect())
}

fn statement(layout: &Layout, day: u64, number: u64, level: u64) -> String {
    let added = NUMBERS.map(|name| format!("toUInt128(sum({}))", counted(name)));
    format!(
        "INSERT INTO {sums} (bucket, {NAMES}, {numbers}, calls, counts, batches)
         SELECT
            toDateTime64(intDiv(toUnixTimestamp64Nano(c.ended), {level} * 1000000000) * {level}, \
            0, 'UTC') AS bucket,
            c.service AS service, c.workload AS workload, c.provider AS provider,
            coalesce(c.request_model, c.response_model) AS model,
            c.operation AS operation, c.outcome AS outcome, {added},
            toUInt64(sum(c.times)) AS calls,
            sumMap(c.counts, arrayWithConstant(length(c.counts), toUInt64(c.times))) AS counts,
            ([toUInt32({day_number})], [toUInt64({number})]) AS batches
         FROM (SELECT *, {TIMES} AS times FROM {calls}
            WHERE {day} AND batch = {number} AND {COUNTS}) AS c
         GROUP BY bucket, {NAMES} ORDER BY bucket, {NAMES}",
        sums = layout.local(&format!("sum_{level}")),
        numbers = NUMBERS.join(", "),
        added = added.join(", "),
        calls = layout.local("call"),
        day = within(day, day),
        day_number = day,
    )
}
