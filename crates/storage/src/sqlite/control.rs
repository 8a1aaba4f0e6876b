//! Control state: nodes, their workloads, what is wanted, and who may come in.
//!
//! Few and small rows behind one connection; a wish is on disk before it is answered. `live.rs`
//! holds in memory what most polls are answered from, `report.rs` takes reports over, `wishes.rs`
//! keeps what people want, `steps.rs` what nodes are asked to do, `settings.rs` the layers of
//! configuration, `before.rs` what nodes changed, `identity.rs` and `access.rs` who may come in.

mod access;
mod before;
mod identity;
mod live;
mod report;
mod settings;
mod steps;
mod wishes;

use self::live::{Known, Live};
use super::migrate::Migration;
use crate::error::{Doing, Error};
use crate::fleet::{Asked, Taken};
use crate::secret::Pepper;
use contract::capture::Level;
use contract::poll::{Instance, Report};
use contract::row::{Node, Time};
use contract::workload::Observed;
use rusqlite::{Connection, Transaction, params};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

const MIGRATIONS: [Migration; 4] = [
    Migration { name: "control", sql: include_str!("control_1.sql") },
    Migration { name: "fleet", sql: include_str!("control_2.sql") },
    Migration { name: "untold", sql: include_str!("control_3.sql") },
    Migration { name: "before", sql: include_str!("control_4.sql") },
];

/// The feature that a capture level is about.
const NETWORK: &str = "network";
/// The feature of an SDK within the program.
const AGENT: &str = "agent";

/// Control state in one file.
#[derive(Debug)]
pub(crate) struct Control {
    connection: Mutex<Connection>,
    pepper: Pepper,
    // Never locked first: whoever needs both locks the connection before.
    live: Mutex<Live>,
}

/// A workload with its node and what is wanted of it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) observed: Observed,
    /// What is wanted; `None` when nobody ever said.
    pub(crate) desired: Option<Level>,
    pub(crate) instance: Instance,
    /// False when its node no longer reports it.
    pub(crate) present: bool,
}

impl Control {
    pub(crate) fn open(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join("control.db");
        super::snapshot::forget(&path, &MIGRATIONS);
        let connection = super::open(&path, &MIGRATIONS)?;
        let live = live(&connection)?;
        Ok(Self {
            connection: Mutex::new(connection),
            pepper: Pepper::load(data_dir)?,
            live: Mutex::new(live),
        })
    }

    /// Control state in memory alone, for an engine that keeps it elsewhere.
    pub(crate) fn in_memory(pepper: Pepper) -> Result<Self, Error> {
        let connection = super::open_in_memory(&MIGRATIONS)?;
        let live = Mutex::new(live(&connection)?);
        Ok(Self { connection: Mutex::new(connection), pepper, live })
    }

    /// The control state of a file, in memory alone and of the newest schema; the file stays as it
    /// is.
    pub(crate) fn of_file(path: &Path, pepper: Pepper) -> Result<Self, Error> {
        let connection = super::open_in_memory_of(path, &MIGRATIONS)?;
        let live = Mutex::new(live(&connection)?);
        Ok(Self { connection: Mutex::new(connection), pepper, live })
    }

    pub(crate) fn glance(&self, report: &Report, now: Time) -> Option<Taken> {
        self.live().glance(report, now)
    }

    pub(crate) fn has_news(&self, instance: &str, asked: &Asked, now: Time) -> bool {
        self.live().has_news(instance, asked, now)
    }

    /// All workloads, by key.
    pub(crate) fn workloads(&self) -> Result<Vec<Found>, Error> {
        const DOING: &str = "list workloads";
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT workload.body,
                 CASE WHEN desired.value = 'network' AND agent.value = 'on' THEN 'full'
                 ELSE desired.value END, instance.body, workload.present
                 FROM workload JOIN instance ON instance.id = workload.instance
                 LEFT JOIN desired ON desired.key = workload.key AND desired.feature = ?1
                 LEFT JOIN desired AS agent ON agent.key = workload.key AND agent.feature = ?2
                 ORDER BY workload.key, workload.present DESC, workload.seen DESC",
            )
            .doing(DOING)?;
        let rows = statement.query_map([NETWORK, AGENT], |row| {
            let desired: Option<String> = row.get(1)?;
            Ok((row.get(0)?, desired, row.get(2)?, row.get(3)?))
        });
        rows.doing(DOING)?
            .map(|row| {
                let (observed, desired, instance, present): (String, _, String, _) =
                    row.doing(DOING)?;
                Ok(Found {
                    observed: serde_json::from_str(&observed).doing("a workload")?,
                    desired: desired.map(|value| level(&value)),
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
                "SELECT body, last_poll, generation, desired_generation, doctor, lost, applied,
                 (SELECT count(*) FROM workload WHERE workload.instance = instance.id AND present)
                 FROM instance",
            )
            .doing(DOING)?;
        let mut rows = statement.query([]).doing(DOING)?;
        let live = self.live();
        let mut nodes = Vec::new();
        while let Some(row) = rows.next().doing(DOING)? {
            let text = |index| row.get::<_, String>(index).doing(DOING);
            let number = |index| row.get::<_, i64>(index).map(unsigned).doing(DOING);
            let instance: Instance = serde_json::from_str(&text(0)?).doing("a node")?;
            let last_poll = live.nodes.get(&instance.id).map(|known| known.last_poll);
            let identity = live.identities.get(&instance.id);
            nodes.push(Node {
                last_poll: Time(number(1)?).max(last_poll.unwrap_or_default()),
                generation: number(2)?,
                desired_generation: number(3)?,
                doctor: serde_json::from_str(&text(4)?).doing("a node's facts")?,
                lost: serde_json::from_str(&text(5)?).doing("a node's losses")?,
                applied: serde_json::from_str(&text(6)?).doing("a node's configuration")?,
                workloads: number(7)?,
                environment: identity.and_then(|identity| identity.environment.clone()),
                enrolled: identity
                    .filter(|identity| identity.hash.is_some())
                    .map(|identity| identity.enrolled),
                revoked: identity.is_some_and(|identity| identity.revoked),
                configuration: live.configuration(&instance.id),
                ..node(instance)
            });
        }
        nodes.sort_by(|a, b| (&a.host_name, &a.id).cmp(&(&b.host_name, &b.id)));
        Ok(nodes)
    }

    /// The key of the hashes of secrets.
    pub(crate) fn pepper(&self) -> &Pepper {
        &self.pepper
    }

    /// Notes in memory what another dashboard changed in the database, and of which nodes.
    pub(crate) fn took_over(
        &self,
        connection: &Connection,
        nodes: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let mut fresh = live(connection)?;
        let mut known = self.live();
        for (id, node) in &mut fresh.nodes {
            let Some(before) = known.nodes.get(id) else { continue };
            node.last_poll = node.last_poll.max(before.last_poll);
            // What a node said to another is not what it said here.
            if !nodes.contains(id) {
                (node.said, node.sequence) = (before.said, before.sequence);
            }
        }
        fresh.wished.append(&mut known.wished);
        *known = fresh;
        Ok(())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        // A transaction that a panic cut short was rolled back, so the connection is whole.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a node says of itself, as a row.
fn node(instance: Instance) -> Node {
    let (cluster, cluster_name) =
        instance.cluster.map_or((None, None), |cluster| (Some(cluster.id), cluster.name));
    Node {
        id: instance.id,
        host_name: instance.host_name,
        version: instance.version,
        kernel: instance.kernel,
        started: Time(instance.started_unix_nanos),
        recorded: instance.recorded,
        platforms: instance.platforms,
        capabilities: instance.capabilities,
        cluster,
        cluster_name,
        ..Node::default()
    }
}

/// What is in memory at the start.
fn live(from: &Connection) -> Result<Live, Error> {
    const DOING: &str = "read what is known of nodes";
    let mut live = Live::default();
    let newest = "SELECT value FROM counter WHERE name = 'generation'";
    live.newest = unsigned(from.query_row(newest, [], |row| row.get(0)).doing(DOING)?);
    let mut statement =
        from.prepare("SELECT body, desired_generation, last_poll FROM instance").doing(DOING)?;
    let rows =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).doing(DOING)?;
    for row in rows {
        let (body, generation, last_poll): (String, i64, i64) = row.doing(DOING)?;
        let instance: Instance = serde_json::from_str(&body).doing("a node")?;
        let mut known = Known {
            generation: unsigned(generation),
            last_poll: Time(unsigned(last_poll)),
            ..Known::default()
        };
        known.introduce(&instance);
        live.nodes.insert(instance.id, known);
    }
    for (id, due) in steps::due(from)? {
        live.nodes.entry(id).or_default().due = due;
    }
    for (id, identity) in identity::all(from)? {
        live.set_identity(&id, identity);
    }
    live.tokens = access::all(from)?;
    live.layers = settings::all(from)?;
    live.wished = wishes::untold(from)?;
    Ok(live)
}

/// Adds to the log of changes: who changed what, where, to which value.
fn note(
    to: &Transaction<'_>,
    now: Time,
    (actor, what, place, value): (&str, &str, &str, &str),
) -> Result<(), Error> {
    let sql = "INSERT INTO change_log (at, actor, what, place, value) VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![signed(now.0), actor, what, place, value];
    to.execute(sql, values).map(|_rows| ()).doing("log a change")
}

/// A hash of the database.
fn optional(bytes: Option<Vec<u8>>) -> Option<[u8; 32]> {
    bytes?.try_into().ok()
}

fn next_generation(to: &Transaction<'_>) -> Result<i64, Error> {
    let sql = "UPDATE counter SET value = value + 1 WHERE name = 'generation' RETURNING value";
    to.query_row(sql, [], |row| row.get(0)).doing("count a generation")
}

/// A word of a newer version means nothing here, and nothing is the safe wish.
fn level(word: &str) -> Level {
    Level::of_word(word).unwrap_or_default()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
