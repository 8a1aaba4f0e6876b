//! Rows of control state as the log tells of them: what they are in JSON, how all of them are
//! read, and the triggers that tell of each change.

use crate::error::{Doing, Error};
use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The function that triggers call.
pub(super) const COLLECT: &str = "sonde_changed";

/// A table of control state: its columns, and which of them are its key.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    pub(super) key: Vec<String>,
}

/// A row that is there, or a key that is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    #[serde(rename = "t")]
    pub(super) table: String,
    #[serde(rename = "g", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) gone: bool,
    #[serde(rename = "c")]
    pub(super) columns: Vec<String>,
    #[serde(rename = "v")]
    pub(super) values: Vec<Cell>,
}

/// A value of SQLite in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Cell {
    Null(()),
    Whole(i64),
    Real(f64),
    Text(String),
    Blob { x: String },
}

impl Change {
    /// The node that the row is of.
    pub(super) fn node(&self) -> Option<String> {
        let column = match self.table.as_str() {
            "instance" => "id",
            "workload" => "instance",
            _ => return None,
        };
        let place = self.columns.iter().position(|found| found == column)?;
        match self.values.get(place) {
            Some(Cell::Text(id)) => Some(id.clone()),
            _ => None,
        }
    }
}

impl Cell {
    pub(super) fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null(()),
            ValueRef::Integer(number) => Self::Whole(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => Self::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Self::Blob { x: crate::secret::hex(bytes) },
        }
    }

    pub(super) fn value(&self) -> Value {
        match self {
            Self::Null(()) => Value::Null,
            Self::Whole(number) => Value::Integer(*number),
            Self::Real(number) => Value::Real(*number),
            Self::Text(text) => Value::Text(text.clone()),
            Self::Blob { x } => Value::Blob(crate::secret::of_hex(x).unwrap_or_default()),
        }
    }
}

/// The tables of control state, but for the ledger of migrations, which is each dashboard's own.
pub(super) fn tables(of: &Connection) -> Result<BTreeMap<String, Table>, Error> {
    const DOING: &str = "read the schema of control state";
    let sql = "SELECT s.name, c.name, c.pk FROM sqlite_schema AS s, pragma_table_info(s.name) AS c
        WHERE s.type = 'table' AND s.name NOT LIKE 'sqlite_%' AND s.name <> 'migration'
        ORDER BY s.name, c.cid";
    let mut statement = of.prepare(sql).doing(DOING)?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?))
    });
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    for row in rows.doing(DOING)? {
        let (table, column, is_key) = row.doing(DOING)?;
        let table = tables.entry(table);
        let table = table.or_insert(Table { columns: Vec::new(), key: Vec::new() });
        if is_key {
            table.key.push(column.clone());
        }
        table.columns.push(column);
    }
    Ok(tables)
}

/// All rows of all tables.
pub(super) fn rows(
    of: &Connection,
    tables: &BTreeMap<String, Table>,
) -> Result<Vec<Change>, Error> {
    const DOING: &str = "read all of control state";
    let mut changes = Vec::new();
    for (name, table) in tables {
        let columns: Vec<_> = table.columns.iter().map(|column| named(column)).collect();
        let sql = format!("SELECT {} FROM {}", columns.join(", "), named(name));
        let mut statement = of.prepare(&sql).doing(DOING)?;
        let mut rows = statement.query([]).doing(DOING)?;
        while let Some(row) = rows.next().doing(DOING)? {
            let cell = |n| row.get_ref(n).map(Cell::of).doing(DOING);
            let values = (0..table.columns.len()).map(cell).collect::<Result<_, _>>()?;
            changes.push(Change {
                table: name.clone(),
                gone: false,
                columns: table.columns.clone(),
                values,
            });
        }
    }
    Ok(changes)
}

/// Triggers that tell of each row of a table that comes, changes or goes.
pub(super) fn triggers(name: &str, table: &Table) -> String {
    let list = |columns: &[String], row: &str| {
        let each: Vec<_> = columns.iter().map(|c| format!("{row}.{}", named(c))).collect();
        each.join(", ")
    };
    let moved: Vec<_> =
        table.key.iter().map(|c| format!("OLD.{0} IS NOT NEW.{0}", named(c))).collect();
    let literal = format!("'{}'", name.replace('\'', "''"));
    let gone = format!("SELECT {COLLECT}({literal}, 1, {})", list(&table.key, "OLD"));
    let there = format!("SELECT {COLLECT}({literal}, 0, {})", list(&table.columns, "NEW"));
    let trigger = |when: &str, event: &str, what: &str| {
        format!(
            "CREATE TEMP TRIGGER {} AFTER {event} ON main.{} BEGIN {what}; END;",
            named(&format!("log_{when}_{name}")),
            named(name)
        )
    };
    [
        trigger("come", "INSERT", &there),
        trigger("change", "UPDATE", &format!("{gone} WHERE {}; {there}", moved.join(" OR "))),
        trigger("go", "DELETE", &gone),
    ]
    .join("\n")
}

/// A name in an SQL text of SQLite.
pub(super) fn named(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
