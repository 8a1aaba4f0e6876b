//! What people want of workloads, which names they gave them, and what happened to each.

use super::{
    AGENT, Control, NETWORK, before, level, next_generation, note, signed, steps, unsigned,
};
use crate::error::{Doing, Error};
use crate::fleet::{Asked, NewWish};
use crate::store::Wanted;
use contract::capture::Level;
use contract::poll::{Desired, Instance, PROTOCOL, Wish};
use contract::row::{Happened, History, Time};
use contract::rules::Rules;
use contract::workload::Key;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::collections::{BTreeMap, BTreeSet};

impl Control {
    /// What a node does not have yet.
    pub(crate) fn wish(&self, instance: &str, asked: &Asked, now: Time) -> Result<Wish, Error> {
        const DOING: &str = "read wishes";
        let mut connection = self.lock();
        let transaction = connection.transaction().doing(DOING)?;
        let sql = "SELECT desired_generation FROM instance WHERE id = ?1";
        let generation: Option<i64> =
            transaction.query_row(sql, [instance], |row| row.get(0)).optional().doing(DOING)?;
        let generation = unsigned(generation.unwrap_or(0));
        let mut wish = Wish { protocol: PROTOCOL, generation, ..Wish::default() };
        wish.unchanged = asked.has_wishes && asked.generation == generation;
        if !wish.unchanged {
            wish.desired = desired(&transaction, instance)?;
            wish.names = names(&transaction, instance)?;
            wish.rules = rules(&transaction)?;
        }
        if asked.before {
            wish.before = Some(before::kept(&transaction, instance)?);
        }
        let lent = steps::lend(&transaction, instance, now)?;
        transaction.commit().doing(DOING)?;
        (wish.steps, wish.cancelled) = (lent.steps, lent.cancelled);
        let mut live = self.live();
        wish.configuration = live.configuration_news(instance, asked);
        if let Some(known) = live.nodes.get_mut(instance) {
            known.due = lent.due;
        }
        Ok(wish)
    }

    /// Keeps a wish, and adds it to the history.
    pub(crate) fn want(&self, wish: NewWish<'_>, now: Time) -> Result<Wanted, Error> {
        const DOING: &str = "keep a wish";
        let NewWish { key, level, actor, reason } = wish;
        let mut connection = self.lock();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(DOING)?;
        let instances = changeable(&transaction, key)?;
        let generation = next_generation(&transaction)?;
        let sql =
            "INSERT INTO desired (key, feature, value, generation, changed, actor, reason, untold)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1) ON CONFLICT (key, feature) DO UPDATE SET
             value = excluded.value, generation = excluded.generation, changed = excluded.changed,
             actor = excluded.actor, reason = excluded.reason, untold = 1";
        let agent = if level == Level::Full { "on" } else { "off" };
        for (feature, value) in [(NETWORK, level.min(Level::Network).word()), (AGENT, agent)] {
            let values = params![key, feature, value, generation, signed(now.0), actor, reason];
            transaction.execute(sql, values).doing(DOING)?;
        }
        let sql =
            "INSERT INTO desired_history (key, feature, value, generation, changed, actor, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let values = params![key, NETWORK, level.word(), generation, signed(now.0), actor, reason];
        transaction.execute(sql, values).doing(DOING)?;
        tell(&transaction, &instances, generation)?;
        transaction.commit().doing(DOING)?;
        self.told(&instances, generation);
        self.live().wished.insert(key.to_owned());
        Ok(Wanted { generation: unsigned(generation), instances })
    }

    pub(crate) fn set_name(
        &self,
        key: &str,
        name: Option<&str>,
        actor: &str,
        now: Time,
    ) -> Result<Vec<String>, Error> {
        const DOING: &str = "keep a name";
        let mut connection = self.lock();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(DOING)?;
        let instances = changeable(&transaction, key)?;
        match name {
            Some(name) => transaction.execute(
                "INSERT INTO shown_name (key, name) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET name = ?2",
                [key, name],
            ),
            None => transaction.execute("DELETE FROM shown_name WHERE key = ?1", [key]),
        }
        .doing(DOING)?;
        note(&transaction, now, (actor, "name", key, name.unwrap_or_default()))?;
        let generation = next_generation(&transaction)?;
        tell(&transaction, &instances, generation)?;
        transaction.commit().doing(DOING)?;
        self.told(&instances, generation);
        Ok(instances)
    }

    /// Names that people gave, by key.
    pub(crate) fn shown_names(&self) -> Result<BTreeMap<String, String>, Error> {
        const DOING: &str = "list names";
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT key, name FROM shown_name").doing(DOING)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.and_then(Iterator::collect).doing(DOING)
    }

    pub(crate) fn rules(&self) -> Result<Rules, Error> {
        rules(&self.lock())
    }

    pub(crate) fn set_rules(
        &self,
        rules: &Rules,
        actor: &str,
        now: Time,
    ) -> Result<Vec<String>, Error> {
        const DOING: &str = "keep rules";
        let body = serde_json::to_string(rules).doing("rules")?;
        let mut connection = self.lock();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(DOING)?;
        let sql =
            "INSERT INTO rules (id, body) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET body = ?1";
        transaction.execute(sql, [&body]).doing(DOING)?;
        note(&transaction, now, (actor, "rules", "", &body))?;
        let generation = next_generation(&transaction)?;
        transaction
            .execute("UPDATE instance SET desired_generation = ?1", [generation])
            .doing(DOING)?;
        transaction.commit().doing(DOING)?;
        let instances: Vec<String> = self.live().nodes.keys().cloned().collect();
        self.told(&instances, generation);
        Ok(instances)
    }

    /// Notes that nodes have to hear of a generation.
    fn told(&self, instances: &[String], generation: i64) {
        let mut live = self.live();
        live.newest = live.newest.max(unsigned(generation));
        for instance in instances {
            live.nodes.entry(instance.clone()).or_default().generation = unsigned(generation);
        }
    }

    pub(crate) fn history(&self, key: &str, limit: u32) -> Result<History, Error> {
        const DOING: &str = "read what happened";
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT changed, 'wish', actor, feature || ' ' || value, reason, NULL, generation,
                     NULL, '', '', NULL, id FROM desired_history WHERE key = ?1
                 UNION ALL SELECT at, 'state', instance, state, reason, instance, NULL,
                     NULL, '', '', NULL, id FROM state_history WHERE key = ?1
                 UNION ALL SELECT at, 'step', actor, event, reason, instance, NULL,
                     step, change, output, duration_ms, id FROM step_log WHERE key = ?1
                 UNION ALL SELECT at, 'name', actor, value, '', NULL, NULL,
                     NULL, '', '', NULL, id FROM change_log WHERE what = 'name' AND place = ?1
                 ORDER BY 1 DESC, 12 DESC LIMIT ?2",
            )
            .doing(DOING)?;
        let number = |value: Option<i64>| value.map(unsigned);
        let rows = statement.query_map(params![key, limit], |row| {
            Ok(Happened {
                time: Time(unsigned(row.get(0)?)),
                kind: row.get(1)?,
                actor: row.get(2)?,
                what: row.get(3)?,
                reason: row.get(4)?,
                instance: row.get(5)?,
                generation: number(row.get(6)?),
                step: row.get(7)?,
                change: row.get(8)?,
                output: row.get(9)?,
                duration_ms: number(row.get(10)?),
            })
        });
        Ok(History { entries: rows.and_then(Iterator::collect).doing(DOING)? })
    }
}

/// Workloads of which something was wished that a node with them is not known to have heard.
pub(super) fn untold(from: &Connection) -> Result<BTreeSet<String>, Error> {
    const DOING: &str = "read wishes";
    let mut statement = from.prepare("SELECT key FROM desired WHERE untold = 1").doing(DOING)?;
    let rows = statement.query_map([], |row| row.get(0)).doing(DOING)?;
    rows.collect::<Result<_, _>>().doing(DOING)
}

/// A node has all that it was told. Where every node with one of its workloads has, none of them
/// can bring an older wish of it back.
pub(super) fn heard(to: &Transaction<'_>, instance: &str) -> Result<(), Error> {
    let sql = "UPDATE desired SET untold = 0 WHERE untold = 1
        AND EXISTS (SELECT 1 FROM workload WHERE key = desired.key AND instance = ?1)
        AND NOT EXISTS (SELECT 1 FROM workload JOIN instance ON instance.id = workload.instance
            WHERE workload.key = desired.key
                AND instance.generation <> instance.desired_generation)";
    let mut statement = to.prepare_cached(sql).doing("note what nodes heard")?;
    statement.execute([instance]).map(|_rows| ()).doing("note what nodes heard")
}

/// All wishes for the workloads of a node.
fn desired(from: &Connection, instance: &str) -> Result<Vec<Desired>, Error> {
    const DOING: &str = "read wishes";
    let mut statement = from
        .prepare_cached(
            "SELECT desired.key, desired.feature, desired.value, desired.generation FROM workload
             JOIN desired ON desired.key = workload.key
             WHERE workload.instance = ?1 ORDER BY desired.key, desired.feature",
        )
        .doing(DOING)?;
    let mut rows = statement.query([instance]).doing(DOING)?;
    let mut all: Vec<Desired> = Vec::new();
    while let Some(row) = rows.next().doing(DOING)? {
        let text = |index| row.get::<_, String>(index).doing(DOING);
        let (key, feature, value) = (Key(text(0)?), text(1)?, text(2)?);
        let generation = unsigned(row.get(3).doing(DOING)?);
        if all.last().is_none_or(|last| last.key != key) {
            all.push(Desired { key, level: Default::default(), agent: None, generation: 0 });
        }
        let Some(last) = all.last_mut() else { continue };
        last.generation = last.generation.max(generation);
        match feature.as_str() {
            NETWORK => last.level = level(&value),
            AGENT => last.agent = Some(value == "on"),
            _ => {}
        }
    }
    Ok(all)
}

fn names(from: &Connection, instance: &str) -> Result<BTreeMap<Key, String>, Error> {
    const DOING: &str = "read names";
    let mut statement = from
        .prepare_cached(
            "SELECT shown_name.key, shown_name.name FROM workload
             JOIN shown_name ON shown_name.key = workload.key WHERE workload.instance = ?1",
        )
        .doing(DOING)?;
    let rows = statement.query_map([instance], |row| Ok((Key(row.get(0)?), row.get(1)?)));
    rows.and_then(Iterator::collect).doing(DOING)
}

fn rules(from: &Connection) -> Result<Rules, Error> {
    let sql = "SELECT body FROM rules WHERE id = 1";
    let body: Option<String> =
        from.query_row(sql, [], |row| row.get(0)).optional().doing("read rules")?;
    body.map_or_else(|| Ok(Rules::default()), |body| serde_json::from_str(&body).doing("rules"))
}

/// Nodes that have a workload, of which something can be wanted.
fn changeable(from: &Transaction<'_>, key: &str) -> Result<Vec<String>, Error> {
    const DOING: &str = "find a workload";
    let sql = "SELECT instance.body FROM workload JOIN instance ON instance.id = workload.instance
               WHERE workload.key = ?1";
    let mut statement = from.prepare_cached(sql).doing(DOING)?;
    let rows = statement.query_map([key], |row| row.get::<_, String>(0)).doing(DOING)?;
    let instances: Vec<Instance> = rows
        .map(|body| serde_json::from_str(&body.doing(DOING)?).doing("a node"))
        .collect::<Result<_, Error>>()?;
    if instances.is_empty() {
        return Err(Error::UnknownWorkload);
    }
    if instances.iter().all(|instance| instance.recorded) {
        return Err(Error::Recorded);
    }
    Ok(instances.into_iter().map(|instance| instance.id).collect())
}

fn tell(to: &Transaction<'_>, instances: &[String], generation: i64) -> Result<(), Error> {
    let sql = "UPDATE instance SET desired_generation = ?2 WHERE id = ?1";
    let mut update = to.prepare_cached(sql).doing("keep a wish")?;
    for instance in instances {
        update.execute(params![instance, generation]).doing("keep a wish")?;
    }
    Ok(())
}
