//! What was there before each change, as nodes tell it, for a node that lost its own notes.

use crate::error::{Doing, Error};
use contract::before::Before;
use contract::poll::Report;
use contract::workload::{Key, Observed};
use rusqlite::{Transaction, params};
use std::collections::BTreeMap;

const DOING: &str = "keep what was before a change";

/// Takes over what a report says of some workloads. One that has no change any more is forgotten; a
/// node that asks what it changed says nothing by its silence.
pub(super) fn keep(
    to: &Transaction<'_>,
    report: &Report,
    workloads: &[Observed],
) -> Result<(), Error> {
    let instance = report.instance.id.as_str();
    let known = kept(to, instance)?;
    for observed in workloads {
        let key = observed.key.0.as_str();
        let told = observed.agent.as_ref().and_then(|agent| agent.before.as_ref());
        match (told, known.get(&observed.key)) {
            (Some(told), known) if known != Some(told) => {
                let body = serde_json::to_string(told).doing("what was before a change")?;
                let sql = "INSERT INTO before_change (instance, key, body) VALUES (?1, ?2, ?3)
                    ON CONFLICT (instance, key) DO UPDATE SET body = ?3";
                to.execute(sql, params![instance, key, body]).doing(DOING)?;
            }
            (None, Some(_)) if !report.asks_before => {
                let sql = "DELETE FROM before_change WHERE instance = ?1 AND key = ?2";
                to.execute(sql, [instance, key]).doing(DOING)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// All that is kept of a node.
pub(super) fn kept(from: &Transaction<'_>, instance: &str) -> Result<BTreeMap<Key, Before>, Error> {
    let sql = "SELECT key, body FROM before_change WHERE instance = ?1";
    let mut statement = from.prepare_cached(sql).doing(DOING)?;
    let rows = statement.query_map([instance], |row| Ok((row.get(0)?, row.get(1)?)));
    let rows: Vec<(String, String)> = rows.and_then(Iterator::collect).doing(DOING)?;
    let read = |(key, body): (String, String)| {
        let before = serde_json::from_str(&body).doing("what was before a change")?;
        Ok((Key(key), before))
    };
    rows.into_iter().map(read).collect()
}
