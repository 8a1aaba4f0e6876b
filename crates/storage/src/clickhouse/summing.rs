//! Adds an insertion of calls to the sums.
//!
//! Not by views within the insertion: of two insertions under one number, the views could take the
//! calls of the one that lost it. Sums are made of what the table has under the number, whoever
//! inserted it, and again changes nothing: the number is their deduplication token too.
//!
//! An insertion is added up before the next one of its day, by whoever makes that: so at most the
//! last one is not in the sums, and nobody was told that it is kept.

use super::link::{Ask, Link};
use super::row::{COUNTS, TIMES, within};
use super::schema::{LEVELS, Layout, SUMS};
use crate::error::Error;

/// What a sum is told apart by, after its bucket.
const NAMES: &str = "service, workload, provider, model, operation, outcome";

/// Adds the calls of a day that were inserted under a number to the sums, once.
pub(super) fn add(link: &Link, layout: &Layout, day: u64, number: u64) -> Result<(), Error> {
    let ask = |level| {
        // One block with its rows in one order, so that a token stands for the same block each time.
        Ask::of(statement(layout, day, number, level))
            .setting("insert_deduplication_token", format!("{day}-{number}"))
            .setting("max_threads", 1)
    };
    link.execute_all("add calls to the sums", LEVELS.map(ask).into())
}

fn statement(layout: &Layout, day: u64, number: u64, level: u64) -> String {
    format!(
        "INSERT INTO {sums} (bucket, {NAMES}, calls, cost, wasted, input_tokens, output_tokens,
            cache_read, cache_write, reasoning, counts)
         SELECT
            toDateTime64(intDiv(toUnixTimestamp64Nano(c.ended), {level} * 1000000000) * {level}, \
            0, 'UTC') AS bucket,
            c.service AS service, c.workload AS workload, c.provider AS provider,
            coalesce(c.request_model, c.response_model) AS model,
            c.operation AS operation, c.outcome AS outcome, {SUMS}
         FROM (SELECT *, {TIMES} AS times FROM {calls}
            WHERE {day} AND batch = {number} AND {COUNTS}) AS c
         GROUP BY bucket, {NAMES} ORDER BY bucket, {NAMES}",
        sums = layout.local(&format!("sum_{level}")),
        calls = layout.local("call"),
        day = within(day, day),
    )
}
