//! What is kept and what is gone: days are partitions, and what went is written down before it
//! goes, for all dashboards.

use super::link::{Ask, Link};
use super::schema::{Kind, LEVELS, Layout, SumTable};
use crate::error::Error;
use crate::retention::Disk;
use crate::units::{DAY_NANOS, day_name};
use clickhouse::Row;
use contract::row::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sums of a width in seconds, and how long they are kept after the day, in nanoseconds.
const KEPT: [(u64, u64); 4] = [
    (LEVELS[0], 2 * DAY_NANOS),
    (LEVELS[1], 30 * DAY_NANOS),
    (LEVELS[2], 397 * DAY_NANOS),
    (LEVELS[3], 397 * DAY_NANOS),
];

/// Tables whose days go with the calls.
const CALLS: [&str; 2] = ["call", "run"];

/// Days for which ClickHouse waits longer than dashboards do before it removes rows by itself: they
/// note what is gone first. And one, since a day goes when its last moment is old enough.
const TTL_GRACE: u32 = 1 + 2;

/// Numbers of tables ([`SumTable::number`], 0 for calls), each with the newest day that is gone, in
/// days since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gone(BTreeMap<u64, u64>);

#[derive(Debug, Row, Serialize, Deserialize)]
struct GoneRow {
    level: u32,
    day: u32,
}

#[derive(Debug, Row, Deserialize)]
struct Partition {
    name: String,
}

#[derive(Debug, Row, Deserialize)]
struct BytesRow {
    bytes: u64,
}

#[derive(Debug, Row, Deserialize)]
struct DiskRow {
    total: u64,
    free: u64,
}

impl Gone {
    pub(super) fn note(&mut self, number: u64, day: u64) {
        let newest = self.0.entry(number).or_insert(day);
        *newest = day.max(*newest);
    }

    /// The newest day whose calls are gone.
    pub(super) fn horizon(&self) -> Option<u64> {
        self.0.get(&0).copied()
    }

    /// The moment from which calls are kept, in nanoseconds.
    pub(super) fn calls_end(&self) -> u64 {
        self.end(0)
    }

    /// The moment from which there are sums by one thing alone, in nanoseconds: a database of an
    /// older version had none.
    pub(super) fn alone_begin(&self) -> u64 {
        self.end(SumTable { kind: Kind::Alone, level: LEVELS[3] }.number())
    }

    /// Whether sums are gone at a moment.
    pub(super) fn has(&self, table: SumTable, moment: u64) -> bool {
        moment < self.end(table.number())
    }

    /// The next moment after this one from which more is kept.
    pub(super) fn next_edge(&self, after: u64) -> u64 {
        let ends = self.0.keys().map(|number| self.end(*number)).filter(|end| *end > after);
        ends.min().unwrap_or(u64::MAX)
    }

    fn end(&self, number: u64) -> u64 {
        self.0.get(&number).map_or(0, |day| (day + 1).saturating_mul(DAY_NANOS))
    }
}

/// The tables of sums, and how long each is kept after the day.
fn kept() -> impl Iterator<Item = (SumTable, u64)> {
    KEPT.into_iter().flat_map(|(level, kept)| SumTable::of_level(level).map(|table| (table, kept)))
}

/// Reads what is gone.
pub(super) fn gone(link: &Link, layout: &Layout) -> Result<Gone, Error> {
    let sql = format!("SELECT level, max(day) AS day FROM {} GROUP BY level", layout.name("gone"));
    let rows: Vec<GoneRow> = link.rows("read what is kept", Ask::of(sql))?;
    let mut gone = Gone::default();
    rows.iter().for_each(|row| gone.note(row.level.into(), row.day.into()));
    Ok(gone)
}

/// The days of which there are partitions of a table on any server, oldest first.
pub(super) fn days(link: &Link, layout: &Layout, table: &str) -> Result<Vec<u64>, Error> {
    let mut ask = Ask::default();
    let local = if layout.cluster.is_some() { format!("{table}_local") } else { table.to_owned() };
    let (database, table) = (ask.bind(layout.database.as_str()), ask.bind(local));
    let parts = parts(layout, &mut ask);
    ask.sql = format!(
        "SELECT DISTINCT partition AS name FROM {parts}
         WHERE active AND database = {database} AND table = {table} AND rows > 0"
    );
    let rows: Vec<Partition> = link.rows("list the days that are kept", ask)?;
    let mut days: Vec<_> = rows.iter().filter_map(|row| day_of(&row.name)).collect();
    days.sort_unstable();
    Ok(days)
}

/// Forgets the calls of a day, and its narrow sums; what is wider stays.
pub(super) fn drop_day(link: &Link, layout: &Layout, day: u64) -> Result<(), Error> {
    let narrow: Vec<_> = SumTable::all().filter(|table| table.level <= LEVELS[1]).collect();
    note(link, layout, 0, day)?;
    for table in &narrow {
        note(link, layout, table.number(), day)?;
    }
    for table in CALLS {
        drop_partition(link, layout, table, day)?;
    }
    for table in &narrow {
        drop_partition(link, layout, &table.name(), day)?;
    }
    Ok(())
}

/// Forgets sums that are kept no longer, and finishes removals that were cut short.
pub(super) fn narrow(link: &Link, layout: &Layout, gone: &Gone, now: Time) -> Result<(), Error> {
    for (table, kept) in kept() {
        let name = table.name();
        let days = days(link, layout, &name)?;
        let is_over = |day: &u64| (day + 1).saturating_mul(DAY_NANOS).saturating_add(kept) <= now.0;
        let newest = days.iter().copied().rfind(is_over);
        if let Some(newest) = newest.filter(|day| !gone.has(table, day.saturating_mul(DAY_NANOS))) {
            note(link, layout, table.number(), newest)?;
        }
        for day in days.into_iter().filter(is_over) {
            drop_partition(link, layout, &name, day)?;
        }
    }
    for table in CALLS {
        for day in days(link, layout, table)? {
            if gone.horizon().is_some_and(|horizon| day <= horizon) {
                drop_partition(link, layout, table, day)?;
            }
        }
    }
    Ok(())
}

/// Days after which ClickHouse removes calls by itself where so many days are kept.
pub(super) fn ttl_days(days: u32) -> u32 {
    days.saturating_add(TTL_GRACE)
}

/// Tells ClickHouse how long rows are kept, on its own clock, where it has another limit. It drops
/// whole days, as dashboards do, and looks at what it already has in the background.
pub(super) fn set_ttl(link: &Link, layout: &Layout, days: u32) -> Result<(), Error> {
    const DOING: &str = "tell ClickHouse how long to keep rows";
    let of_calls = CALLS.map(|table| (table.to_owned(), "time", days));
    let of_sums = kept().map(|(table, kept)| {
        let days = u32::try_from(kept / DAY_NANOS).unwrap_or(u32::MAX);
        (table.name(), "bucket", days)
    });
    for (table, column, days) in of_calls.into_iter().chain(of_sums) {
        let ttl = format!("toDateTime({column}) + toIntervalDay({})", ttl_days(days));
        let (local, cluster) = (layout.local(&table), layout.on_cluster());
        if layout.engine_of(link, &table)?.contains(&format!(" TTL {ttl} ")) {
            continue;
        }
        for change in [
            "MODIFY SETTING ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1".into(),
            format!("MODIFY TTL {ttl}"),
        ] {
            link.execute(DOING, Ask::of(format!("ALTER TABLE {local} {cluster} {change}")))?;
        }
    }
    Ok(())
}

/// Bytes of the database on all servers, with every copy of a replica.
pub(super) fn bytes(link: &Link, layout: &Layout) -> Result<u64, Error> {
    let mut ask = Ask::default();
    let database = ask.bind(layout.database.as_str());
    let parts = parts(layout, &mut ask);
    ask.sql = format!(
        "SELECT sum(bytes_on_disk) AS bytes FROM {parts} WHERE active AND database = {database}"
    );
    let rows: Vec<BytesRow> = link.rows("ask how much is kept", ask)?;
    Ok(rows.first().map_or(0, |row| row.bytes))
}

/// The table of parts, of all servers.
fn parts(layout: &Layout, ask: &mut Ask) -> String {
    match &layout.cluster {
        None => "system.parts".to_owned(),
        Some(cluster) => {
            format!("clusterAllReplicas({}, system.parts)", ask.bind(cluster.as_str()))
        }
    }
}

/// The fullest of the server's disks; `None` when it does not say.
pub(super) fn disk(link: &Link) -> Result<Option<Disk>, Error> {
    let sql = "SELECT total_space AS total, unreserved_space AS free FROM system.disks
        WHERE total_space > 0 AND total_space < 1e18 ORDER BY unreserved_space / total_space LIMIT 1";
    let rows: Vec<DiskRow> = link.rows("ask how full the disks are", Ask::of(sql))?;
    Ok(rows.first().map(|row| Disk { total: row.total, available: row.free }))
}

fn note(link: &Link, layout: &Layout, number: u64, day: u64) -> Result<(), Error> {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let row = GoneRow { level: small(number), day: small(day) };
    let token = format!("{number}-{day}");
    link.insert("note what is forgotten", &layout.name("gone"), &token, vec![row])
}

fn drop_partition(link: &Link, layout: &Layout, table: &str, day: u64) -> Result<(), Error> {
    let partition = day_name(day).replace('-', "");
    let (local, cluster) = (layout.local(table), layout.on_cluster());
    let sql = format!("ALTER TABLE {local} {cluster} DROP PARTITION {partition}");
    link.execute("forget a day", Ask::of(sql))
}

/// The day of a partition: `20261123`.
fn day_of(partition: &str) -> Option<u64> {
    let (year, rest) = partition.split_at_checked(4)?;
    let (month, day) = rest.split_at_checked(2)?;
    let moment: Time = format!("{year}-{month}-{day}T00:00:00Z").parse().ok()?;
    Some(moment.0 / DAY_NANOS)
}
