//! Control state: nodes, their workloads, what is wanted, and who may come in.
//!
//! Few and small rows behind one connection; a wish is on disk before it is answered.

mod access;

use super::migrate::Migration;
use crate::error::{Doing, Error};
use crate::secret::Pepper;
use crate::store::Wanted;
use contract::capture::Level;
use contract::poll::{Desired, Instance, PROTOCOL, Report, Wish};
use contract::row::{Node, Time};
use contract::workload::{Key, Observed};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

const MIGRATIONS: [Migration; 1] =
    [Migration { name: "control", sql: include_str!("control_1.sql") }];

/// How long a workload that its node no longer reports is still listed, when nothing is wanted
/// of it: a week, so that a job that runs daily or weekly keeps its row.
const FORGET_AFTER_NANOS: u64 = 7 * 86_400_000_000_000;

/// The feature that [`Desired::level`] is about.
const NETWORK: &str = "network";

/// Control state in one file.
#[derive(Debug)]
pub(crate) struct Control {
    connection: Mutex<Connection>,
    pepper: Pepper,
    // Polls that say nothing new are remembered here alone: a write to disk for each would say
    // no more.
    last_polls: Mutex<HashMap<String, Time>>,
}

/// A workload with its node and what is wanted of it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) observed: Observed,
    pub(crate) desired: Level,
    pub(crate) instance: Instance,
    /// False when its node no longer reports it.
    pub(crate) present: bool,
}

impl Control {
    pub(crate) fn open(data_dir: &Path) -> Result<Self, Error> {
        let connection = super::open(&data_dir.join("control.db"), &MIGRATIONS)?;
        Ok(Self {
            connection: Mutex::new(connection),
            pepper: Pepper::load(data_dir)?,
            last_polls: Mutex::default(),
        })
    }

    /// Takes a report over; true when anything in it was new.
    pub(crate) fn report(&self, report: &Report, now: Time) -> Result<bool, Error> {
        const DOING: &str = "keep a report";
        let id = &report.instance.id;
        let mut connection = self.lock();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(DOING)?;
        let mut changed = keep_instance(&transaction, report, now)?;
        if let Some(workloads) = &report.workloads {
            changed |= keep_workloads(&transaction, id, workloads, now)?;
        }
        if changed {
            transaction.commit().doing(DOING)?;
        } else {
            transaction.rollback().doing(DOING)?;
        }
        let mut last_polls = self.last_polls.lock().unwrap_or_else(PoisonError::into_inner);
        last_polls.insert(id.clone(), now);
        Ok(changed)
    }

    /// All wishes for the workloads of a node.
    pub(crate) fn wish(&self, instance: &str) -> Result<Wish, Error> {
        const DOING: &str = "read wishes";
        let connection = self.lock();
        let generation: Option<i64> = connection
            .prepare_cached("SELECT desired_generation FROM instance WHERE id = ?1")
            .and_then(|mut select| select.query_row([instance], |row| row.get(0)).optional())
            .doing(DOING)?;
        let mut statement = connection
            .prepare_cached(
                "SELECT desired.key, desired.value FROM workload
                 JOIN desired ON desired.key = workload.key AND desired.feature = ?2
                 WHERE workload.instance = ?1 ORDER BY desired.key",
            )
            .doing(DOING)?;
        let rows = statement.query_map([instance, NETWORK], |row| {
            let value: String = row.get(1)?;
            Ok(Desired { key: Key(row.get(0)?), level: level(&value), agent: None, generation: 0 })
        });
        let desired = rows.and_then(Iterator::collect).doing(DOING)?;
        Ok(Wish {
            protocol: PROTOCOL,
            generation: unsigned(generation.unwrap_or(0)),
            desired,
            ..Wish::default()
        })
    }

    /// Keeps a wish, and adds it to the history.
    pub(crate) fn want(
        &self,
        key: &str,
        to: Level,
        actor: &str,
        now: Time,
    ) -> Result<Wanted, Error> {
        const DOING: &str = "keep a wish";
        let mut connection = self.lock();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(DOING)?;
        let instances = instances_of(&transaction, key)?;
        if instances.is_empty() {
            return Err(Error::UnknownWorkload);
        }
        if instances.iter().all(|instance| instance.recorded) {
            return Err(Error::Recorded);
        }
        let generation = next_generation(&transaction)?;
        for sql in [
            "INSERT INTO desired (key, feature, value, generation, changed, actor)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (key, feature) DO UPDATE SET
             value = excluded.value, generation = excluded.generation,
             changed = excluded.changed, actor = excluded.actor",
            "INSERT INTO desired_history (key, feature, value, generation, changed, actor)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        ] {
            let values = params![key, NETWORK, to.word(), generation, signed(now.0), actor];
            transaction.execute(sql, values).doing(DOING)?;
        }
        transaction
            .execute(
                "UPDATE instance SET desired_generation = ?2
                 WHERE id IN (SELECT instance FROM workload WHERE key = ?1)",
                params![key, generation],
            )
            .doing(DOING)?;
        transaction.commit().doing(DOING)?;
        let instances = instances.into_iter().map(|instance| instance.id).collect();
        Ok(Wanted { generation: unsigned(generation), instances })
    }

    /// All workloads, by key.
    pub(crate) fn workloads(&self) -> Result<Vec<Found>, Error> {
        const DOING: &str = "list workloads";
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT workload.body, desired.value, instance.body, workload.present
                 FROM workload JOIN instance ON instance.id = workload.instance
                 LEFT JOIN desired ON desired.key = workload.key AND desired.feature = ?1
                 ORDER BY workload.key, workload.present DESC, workload.seen DESC",
            )
            .doing(DOING)?;
        let rows = statement.query_map([NETWORK], |row| {
            let desired: Option<String> = row.get(1)?;
            Ok((row.get(0)?, desired, row.get(2)?, row.get(3)?))
        });
        rows.doing(DOING)?
            .map(|row| {
                let (observed, desired, instance, present): (String, _, String, _) =
                    row.doing(DOING)?;
                Ok(Found {
                    observed: serde_json::from_str(&observed).doing("a workload")?,
                    desired: desired.map_or(Level::Off, |value| level(&value)),
                    instance: serde_json::from_str(&instance).doing("a node")?,
                    present,
                })
            })
            .collect()
    }

    /// All nodes, by name.
    pub(crate) fn nodes(&self) -> Result<Vec<Node>, Error> {
        const DOING: &str = "list nodes";
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT body, last_poll, generation, desired_generation, doctor, lost FROM instance",
            )
            .doing(DOING)?;
        let mut rows = statement.query([]).doing(DOING)?;
        let last_polls = self.last_polls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nodes = Vec::new();
        while let Some(row) = rows.next().doing(DOING)? {
            let text = |index| row.get::<_, String>(index).doing(DOING);
            let number = |index| row.get::<_, i64>(index).map(unsigned).doing(DOING);
            let instance: Instance = serde_json::from_str(&text(0)?).doing("a node")?;
            let last_poll =
                Time(number(1)?).max(last_polls.get(&instance.id).copied().unwrap_or_default());
            nodes.push(Node {
                id: instance.id,
                host_name: instance.host_name,
                version: instance.version,
                kernel: instance.kernel,
                started: Time(instance.started_unix_nanos),
                recorded: instance.recorded,
                last_poll,
                connected: false,
                generation: number(2)?,
                desired_generation: number(3)?,
                doctor: serde_json::from_str(&text(4)?).doing("a node's facts")?,
                lost: serde_json::from_str(&text(5)?).doing("a node's losses")?,
                ..Node::default()
            });
        }
        nodes.sort_by(|a, b| (&a.host_name, &a.id).cmp(&(&b.host_name, &b.id)));
        Ok(nodes)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A transaction that a panic cut short was rolled back, so the connection is whole.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep_instance(to: &Transaction<'_>, report: &Report, now: Time) -> Result<bool, Error> {
    const DOING: &str = "keep a report";
    let json = |value: serde_json::Result<String>| value.doing("a report");
    let body = json(serde_json::to_string(&report.instance))?;
    let lost = json(serde_json::to_string(&report.lost))?;
    let doctor = report.doctor.as_ref().map(serde_json::to_string).map(json).transpose()?;
    let sql = "INSERT INTO instance (id, body, last_poll, generation, doctor, lost)
        VALUES (?1, ?2, ?3, ?4, coalesce(?5, '[]'), ?6)
        ON CONFLICT (id) DO UPDATE SET body = ?2, last_poll = ?3, generation = ?4,
            doctor = coalesce(?5, doctor), lost = ?6
        WHERE body <> ?2 OR generation <> ?4 OR doctor <> coalesce(?5, doctor) OR lost <> ?6";
    let generation = signed(report.generation);
    let values = params![report.instance.id, body, signed(now.0), generation, doctor, lost];
    to.execute(sql, values).map(|rows| rows > 0).doing(DOING)
}

/// Takes the full list of a node's workloads over.
fn keep_workloads(
    to: &Transaction<'_>,
    instance: &str,
    workloads: &[Observed],
    now: Time,
) -> Result<bool, Error> {
    const DOING: &str = "keep workloads";
    let known = known_workloads(to, instance)?;
    let mut absent: BTreeMap<&str, bool> =
        known.iter().filter(|(_, (_, present))| *present).map(|(key, _)| (&**key, true)).collect();
    let mut changed = false;
    for observed in workloads {
        let key = observed.key.0.as_str();
        absent.remove(key);
        let body = serde_json::to_string(observed).doing("a workload")?;
        let before = known.get(key);
        if before.is_some_and(|(known, present)| *present && *known == body) {
            continue;
        }
        changed = true;
        to.prepare_cached(
            "INSERT INTO workload (instance, key, body, present, seen) VALUES (?1, ?2, ?3, 1, ?4)
             ON CONFLICT (instance, key) DO UPDATE SET body = ?3, present = 1, seen = ?4",
        )
        .and_then(|mut insert| insert.execute(params![instance, key, body, signed(now.0)]))
        .doing(DOING)?;
        if before.is_none() {
            tell_old_wish(to, instance, key)?;
        }
    }
    for key in absent.into_keys() {
        changed = true;
        let values = params![instance, key, signed(now.0)];
        let sql = "UPDATE workload SET present = 0, seen = ?3 WHERE instance = ?1 AND key = ?2";
        to.execute(sql, values).doing(DOING)?;
    }
    let forgotten = to
        .execute(
            "DELETE FROM workload WHERE instance = ?1 AND present = 0 AND seen < ?2 AND NOT EXISTS
             (SELECT 1 FROM desired WHERE desired.key = workload.key AND value <> 'off')",
            params![instance, signed(now.0.saturating_sub(FORGET_AFTER_NANOS))],
        )
        .doing(DOING)?;
    Ok(changed || forgotten > 0)
}

/// Workloads of a node: their kept text, and whether the last report had them.
fn known_workloads(
    from: &Transaction<'_>,
    instance: &str,
) -> Result<BTreeMap<String, (String, bool)>, Error> {
    let sql = "SELECT key, body, present FROM workload WHERE instance = ?1";
    let mut statement = from.prepare_cached(sql).doing("list workloads")?;
    let rows = statement.query_map([instance], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))));
    rows.and_then(Iterator::collect).doing("list workloads")
}

/// A workload that is new on a node may be wanted since long: the node's generation must grow,
/// else it would never be told.
fn tell_old_wish(to: &Transaction<'_>, instance: &str, key: &str) -> Result<(), Error> {
    const DOING: &str = "read wishes";
    let sql = "SELECT 1 FROM desired WHERE key = ?1";
    let wanted: Option<i64> = to.query_row(sql, [key], |row| row.get(0)).optional().doing(DOING)?;
    if wanted.is_some() {
        let generation = next_generation(to)?;
        let sql = "UPDATE instance SET desired_generation = ?2 WHERE id = ?1";
        to.execute(sql, params![instance, generation]).doing(DOING)?;
    }
    Ok(())
}

fn instances_of(from: &Transaction<'_>, key: &str) -> Result<Vec<Instance>, Error> {
    const DOING: &str = "find a workload";
    let sql = "SELECT instance.body FROM workload JOIN instance ON instance.id = workload.instance
               WHERE workload.key = ?1";
    let mut statement = from.prepare_cached(sql).doing(DOING)?;
    let rows = statement.query_map([key], |row| row.get::<_, String>(0)).doing(DOING)?;
    rows.map(|body| serde_json::from_str(&body.doing(DOING)?).doing("a node")).collect()
}

fn next_generation(to: &Transaction<'_>) -> Result<i64, Error> {
    let sql = "UPDATE counter SET value = value + 1 WHERE name = 'generation' RETURNING value";
    to.query_row(sql, [], |row| row.get(0)).doing("count a generation")
}

/// A word of a newer version means nothing here, and nothing is the safe wish.
fn level(word: &str) -> Level {
    if word == Level::Network.word() { Level::Network } else { Level::Off }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
