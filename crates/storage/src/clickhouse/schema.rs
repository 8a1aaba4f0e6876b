//! The tables: templates in SQL, rendered for one server or a cluster, and the numbered steps that
//! bring a database to the newest schema. Steps are only ever added. Rendering is pure.

use super::ClickHouse;
use super::link::{Ask, Link};
use crate::error::Error;
use clickhouse::Row;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Widths of buckets of sums in seconds. Each divides the next.
pub(super) const LEVELS: [u64; 4] = [60, 300, 3600, 86_400];

/// What sums are told apart by. Of each kind there is a table for each of [`LEVELS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// By several things together.
    Together,
    /// By one thing alone, whichever of [`By::ALONE`](crate::query::By).
    Alone,
}

/// A table of sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SumTable {
    pub(super) kind: Kind,
    /// One of [`LEVELS`].
    pub(super) level: u64,
}

impl SumTable {
    /// All of them, the narrowest first.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        LEVELS.into_iter().flat_map(Self::of_level)
    }

    /// Those of a width.
    pub(super) fn of_level(level: u64) -> [Self; 2] {
        [Kind::Together, Kind::Alone].map(|kind| Self { kind, level })
    }

    pub(super) fn name(self) -> String {
        let Self { kind, level } = self;
        match kind {
            Kind::Together => format!("sum_{level}"),
            Kind::Alone => format!("alone_{level}"),
        }
    }

    /// The number by which the table `gone` knows it; calls have 0.
    pub(super) fn number(self) -> u64 {
        match self.kind {
            Kind::Together => self.level,
            Kind::Alone => self.level + 1_000_000,
        }
    }
}

/// One step: a file of statements. Its number is its place in the list, from 1.
struct Step {
    name: &'static str,
    sql: &'static str,
    /// Run once for each of [`LEVELS`].
    by_level: bool,
}

const STEPS: [Step; 9] = [
    Step { name: "call", sql: include_str!("call_1.sql"), by_level: false },
    Step { name: "sum", sql: include_str!("sum_1.sql"), by_level: true },
    Step { name: "gone", sql: include_str!("gone_1.sql"), by_level: false },
    Step { name: "control", sql: include_str!("control_1.sql"), by_level: false },
    Step { name: "run", sql: include_str!("run_1.sql"), by_level: false },
    Step { name: "again", sql: include_str!("again_1.sql"), by_level: false },
    Step { name: "amend", sql: include_str!("amend_1.sql"), by_level: false },
    Step { name: "batches", sql: include_str!("batches_1.sql"), by_level: true },
    Step { name: "alone", sql: include_str!("alone_1.sql"), by_level: true },
];

impl Step {
    fn statements(&self, layout: &Layout) -> Vec<String> {
        let levels = if self.by_level { &LEVELS[..] } else { &LEVELS[..1] };
        levels.iter().flat_map(|level| layout.render(self.sql, *level)).collect()
    }
}

/// Tokens of insertions that ClickHouse remembers, so that a number is given once.
const TOKENS: u32 = 10_000;

/// What a sum has beside counts.
pub(super) const NUMBERS: [&str; 7] =
    ["cost", "wasted", "input_tokens", "output_tokens", "cache_read", "cache_write", "reasoning"];

/// What is added up of a number, of rows that count (`row::COUNTS`), each as often as its `times`,
/// which may be -1: numbers wrap around, and so does taking away.
pub(super) fn counted(number: &str) -> String {
    match number {
        "wasted" => "if(wasted, toInt128(cost) * times, NULL)".into(),
        number => format!("toInt128({number}) * times"),
    }
}

/// Where and how tables are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) database: String,
    /// Of the server's configuration. With one, tables are replicated over each shard, and read
    /// over all of them.
    pub(super) cluster: Option<String>,
}

/// A step in the ledger.
#[derive(Debug, Row, Serialize, Deserialize)]
struct Applied {
    number: u32,
    name: String,
    checksum: String,
}

#[derive(Debug, Row, Deserialize)]
struct EngineRow {
    engine: String,
}

impl Layout {
    pub(super) fn of(to: &ClickHouse) -> Self {
        Self { database: to.database.clone(), cluster: to.cluster.clone() }
    }

    /// How a table is made, with its settings, as the server says it; empty where there is none.
    pub(super) fn engine_of(&self, link: &Link, table: &str) -> Result<String, Error> {
        let suffix = if self.cluster.is_some() { "_local" } else { "" };
        Ok(self.found(link, &format!("{table}{suffix}"))?.unwrap_or_default())
    }

    /// Whether there is a table of this name.
    pub(super) fn has(&self, link: &Link, table: &str) -> Result<bool, Error> {
        Ok(self.found(link, table)?.is_some())
    }

    fn found(&self, link: &Link, table: &str) -> Result<Option<String>, Error> {
        let mut ask = Ask::default();
        let (database, table) = (ask.bind(self.database.as_str()), ask.bind(table));
        ask.sql = format!(
            "SELECT engine_full AS engine FROM system.tables
             WHERE database = {database} AND name = {table}"
        );
        let rows: Vec<EngineRow> = link.rows("look at the tables", ask)?;
        Ok(rows.into_iter().next().map(|row| row.engine))
    }

    /// The table that is written on this shard.
    pub(super) fn local(&self, table: &str) -> String {
        let suffix = if self.cluster.is_some() { "_local" } else { "" };
        self.name(&format!("{table}{suffix}"))
    }

    /// A name in the database, quoted.
    pub(super) fn name(&self, table: &str) -> String {
        format!("{}.{}", quoted(&self.database), quoted(table))
    }

    pub(super) fn on_cluster(&self) -> String {
        let cluster = self.cluster.as_deref().map(quoted);
        cluster.map_or_else(String::new, |cluster| format!("ON CLUSTER {cluster}"))
    }

    /// The statements of all steps.
    #[cfg(test)]
    pub(super) fn statements(&self) -> Vec<String> {
        STEPS.iter().flat_map(|step| step.statements(self)).collect()
    }

    /// The statements of a template.
    fn render(&self, template: &str, level: u64) -> Vec<String> {
        let plain = template.lines().filter(|line| !line.trim_start().starts_with("--"));
        let text = plain.collect::<Vec<_>>().join("\n").replace("$level", &level.to_string());
        let mut sql = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            sql.push_str(before);
            let end = after.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            let (word, after) = after.split_at(end.unwrap_or(after.len()));
            let inside = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
            let (given, after) = match inside {
                // `rand()` has a pair of its own.
                Some((given, after)) if given.ends_with('(') => {
                    (format!("{given})"), after.strip_prefix(')').unwrap_or(after))
                }
                Some((given, after)) if word != "on_cluster" => (given.to_owned(), after),
                Some(_) | None => (String::new(), after),
            };
            sql.push_str(&self.word(word, &given));
            rest = after;
        }
        sql.push_str(rest);
        let statements = sql.split(";\n").map(str::trim).filter(|text| !text.is_empty());
        statements.map(|text| text.trim_end_matches(';').to_owned()).collect()
    }

    /// What stands for a word of a template.
    fn word(&self, word: &str, given: &str) -> String {
        let (table, more) = given.split_once(", ").unwrap_or((given, ""));
        let replicated = |table: &str, shard: &str| {
            format!(
                "Replicated{more}('/clickhouse/tables/{shard}/{}/{table}', '{{replica}}')",
                self.database
            )
        };
        match (word, &self.cluster) {
            ("local", _) => self.local(given),
            ("everywhere" | "name", _) => self.name(given),
            ("on_cluster", _) => self.on_cluster(),
            ("gone", _) => {
                let table = SumTable::all().find(|table| table.name() == given);
                table.map_or_else(String::new, |table| table.number().to_string())
            }
            ("merge_tree", Some(_)) => replicated(table, "{shard}"),
            ("merge_tree_everywhere", Some(_)) => {
                replicated(table, "all").replace("'{replica}'", "'{shard}-{replica}'")
            }
            ("merge_tree" | "merge_tree_everywhere", None) => format!("{more}()"),
            ("distributed", Some(cluster)) => format!(
                "CREATE TABLE IF NOT EXISTS {} {} AS {} ENGINE = Distributed({}, {}, {}, {more})",
                self.name(table),
                self.on_cluster(),
                self.local(table),
                quoted(cluster),
                quoted(&self.database),
                quoted(&format!("{table}_local")),
            ),
            ("durable", cluster) => {
                // A token is remembered by Keeper where tables are replicated.
                let window = if cluster.is_some() { "" } else { "non_" };
                format!(
                    "fsync_after_insert = 1, fsync_part_directory = 1, \
                     {window}replicated_deduplication_window = {TOKENS}"
                )
            }
            // How long rows are kept is set while the store is used (`keep.rs`).
            (_, _) => String::new(),
        }
    }
}

/// The number of the next step of a database that has some and not all; `None` where there is
/// nothing to change, or nothing that could be lost.
pub(super) fn next_step(link: &Link, layout: &Layout) -> Result<Option<u32>, Error> {
    if !layout.has(link, "migration")? {
        return Ok(None);
    }
    let known = u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
    let found = applied(link, layout)?.iter().map(|step| step.number).max().unwrap_or(0);
    Ok(Some(found + 1).filter(|next| *next > 1 && *next <= known))
}

fn applied(link: &Link, layout: &Layout) -> Result<Vec<Applied>, Error> {
    let ask = Ask::of(format!(
        "SELECT number, any(name) AS name, any(checksum) AS checksum FROM {}
         GROUP BY number ORDER BY number",
        layout.name("migration")
    ));
    link.rows("look at the schema", ask)
}

/// Brings the database to the newest schema. Several dashboards may do so at once: every statement
/// is one that changes nothing the second time.
///
/// # Errors
///
/// [`Error::Newer`] when the ledger goes beyond the list, [`Error::Altered`] when a step in it has
/// another checksum; the database is left as it was.
pub(super) fn migrate(link: &Link, layout: &Layout) -> Result<(), Error> {
    const DOING: &str = "bring the database to the newest schema";
    let database = quoted(&layout.database);
    let cluster = layout.on_cluster();
    link.execute(DOING, Ask::of(format!("CREATE DATABASE IF NOT EXISTS {database} {cluster}")))?;
    let ledger = "CREATE TABLE IF NOT EXISTS $everywhere(migration) $on_cluster
        (number UInt32, name String, checksum String, made DateTime64(9, 'UTC') DEFAULT now64(9))
        ENGINE = $merge_tree_everywhere(migration, MergeTree) ORDER BY number SETTINGS $durable";
    for sql in layout.render(ledger, 0) {
        link.execute(DOING, Ask::of(sql))?;
    }
    let applied = applied(link, layout)?;
    let path = || format!("ClickHouse database {}", layout.database).into();
    let known = u32::try_from(STEPS.len()).unwrap_or(u32::MAX);
    let found = applied.iter().map(|step| step.number).max().unwrap_or(0);
    if found > known {
        return Err(Error::Newer { path: path(), found, known });
    }
    for (number, step) in (1..).zip(&STEPS) {
        let checksum = hex(&Sha256::digest(step.sql));
        match applied.iter().find(|applied| applied.number == number) {
            Some(applied) if applied.checksum == checksum => continue,
            Some(_) => return Err(Error::Altered { path: path(), number }),
            None => {}
        }
        for sql in step.statements(layout) {
            link.execute(DOING, Ask::of(sql))?;
        }
        let row = Applied { number, name: step.name.into(), checksum };
        let token = format!("migration-{number}");
        link.insert(DOING, &layout.name("migration"), &token, vec![row])?;
    }
    Ok(())
}

/// A name in an SQL text.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _done = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{Layout, SumTable};

    fn all(layout: &Layout) -> String {
        layout.statements().join(";\n")
    }

    #[test]
    fn one_server_gets_plain_tables() {
        let layout = Layout { database: "sonde".into(), cluster: None };
        let sql = all(&layout);
        assert!(sql.contains("CREATE TABLE IF NOT EXISTS `sonde`.`call` \n("), "{sql}");
        assert!(sql.contains("ENGINE = MergeTree()"), "{sql}");
        assert!(sql.contains("ENGINE = AggregatingMergeTree()"), "{sql}");
        assert!(sql.contains("non_replicated_deduplication_window = 10000"), "{sql}");
        for word in ["$", "TTL", "CLUSTER", "Replicated", "Distributed", "_local"] {
            assert!(!sql.contains(word), "{word} in {sql}");
        }
        let sums = SumTable::all().count();
        assert_eq!(sql.matches("ENGINE = AggregatingMergeTree()").count(), sums);
    }

    #[test]
    fn a_cluster_gets_replicated_tables_that_are_read_over_all_shards() {
        let layout = Layout { database: "sonde".into(), cluster: Some("main".into()) };
        let sql = all(&layout);
        for part in [
            "CREATE TABLE IF NOT EXISTS `sonde`.`call_local` ON CLUSTER `main`\n(",
            "ReplicatedMergeTree('/clickhouse/tables/{shard}/sonde/call', '{replica}')",
            "ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/sonde/sum_60', '{replica}')",
            "ReplicatedMergeTree('/clickhouse/tables/all/sonde/control_log', '{shard}-{replica}')",
            "CREATE TABLE IF NOT EXISTS `sonde`.`call` ON CLUSTER `main` AS `sonde`.`call_local` \
             ENGINE = Distributed(`main`, `sonde`, `call_local`, trace_id)",
            "Distributed(`main`, `sonde`, `sum_3600_local`, rand())",
            "Distributed(`main`, `sonde`, `alone_3600_local`, rand())",
            "SELECT\n    1003600 AS level",
            " replicated_deduplication_window = 10000",
        ] {
            assert!(sql.contains(part), "{part} not in {sql}");
        }
        assert!(!sql.contains('$') && !sql.contains("non_replicated"), "{sql}");
    }

    #[test]
    fn names_are_quoted() {
        let layout = Layout { database: "a`b".into(), cluster: None };
        assert_eq!(layout.name("call"), "`a\\`b`.`call`");
    }
}
