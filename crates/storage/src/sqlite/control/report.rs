//! Reports of nodes.

use super::{Control, before, identity::Kept, live, next_generation, note, signed, steps, wishes};
use crate::error::{Doing, Error};
use crate::fleet::Taken;
use contract::capture::Level;
use contract::poll::{self, Delta, Desired, Report};
use contract::row::Time;
use contract::workload::{Instance, Observed};
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use std::collections::{BTreeMap, BTreeSet};

/// How long a workload that its node no longer reports is still listed, when nothing is wanted
/// of it: a week, so that a job that runs daily or weekly keeps its row.
const FORGET_AFTER_NANOS: u64 = 7 * 86_400_000_000_000;
/// States of a workload that are remembered.
const MAX_STATES: u32 = 500;
/// Processes that one entry of it names.
const MAX_NAMED: usize = 5;
/// How far above what is known here the generations may be that a node learned before a restore.
const MAX_AHEAD: u64 = 1_000_000_000;

const DOING: &str = "keep a report";

impl Control {
    /// Takes a report over.
    pub(crate) fn report(&self, report: &Report, now: Time) -> Result<Taken, Error> {
        let id = &report.instance.id;
        let mut connection = self.lock();
        let (known, newest, wished) = {
            let live = self.live();
            let wished = report.held.as_ref().map(|_held| live.wished.clone());
            (live.nodes.get(id).cloned(), live.newest, wished.unwrap_or_default())
        };
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(DOING)?;
        started_again(&transaction, report, now)?;
        let mut taken =
            Taken { changed: keep_instance(&transaction, report, now)?, ..Taken::default() };
        let known = known.and_then(|known| known.sequence);
        let sequence = keep_list(&transaction, report, known, &mut taken, now)?;
        let told = steps::hear(&transaction, report, now)?;
        taken.acknowledged = told.acknowledged;
        taken.refused = told.refused;
        taken.changed |= told.changed;
        if let Some(held) = &report.held {
            taken.changed |= adopt(&transaction, report, held, (newest, &wished))?;
        }
        let kept = match &report.next_credential {
            Some(next) => self.follow(&transaction, id, next)?,
            None => Kept::default(),
        };
        taken.credential_kept = kept.is_kept();
        let told = generations(&transaction, id)?;
        if report.has_wishes && report.generation == told.1 {
            wishes::heard(&transaction, id)?;
        }
        transaction.commit().doing(DOING)?;
        let mut live = self.live();
        kept.apply(id, &mut live);
        live.newest = told.0;
        let known = live.nodes.entry(id.clone()).or_default();
        known.introduce(&report.instance);
        known.said = live::said(report);
        known.generation = told.1;
        known.last_poll = now;
        known.sequence = sequence;
        taken.ask_held = live::is_ahead(report, told.1);
        taken.rotate = live.is_old(id, now);
        Ok(taken)
    }
}

/// Takes over what a report says of the node's workloads, all of them or what changed, and gives the
/// place in the node's lists that is known then; `known` is the one before.
fn keep_list(
    to: &Transaction<'_>,
    report: &Report,
    known: Option<(u64, u64)>,
    taken: &mut Taken,
    now: Time,
) -> Result<Option<(u64, u64)>, Error> {
    let (id, started) = (&report.instance.id, report.instance.started_unix_nanos);
    let mut sequence = known;
    // The network may bring a list again, after what followed it.
    let is_late = sequence.is_some_and(|(run, newest)| {
        run == started && report.sequence > 0 && report.sequence < newest
    });
    if let Some(workloads) = report.workloads.as_ref().filter(|_| !is_late) {
        taken.changed |= keep_workloads(to, id, workloads, now)?;
        before::keep(to, report, workloads)?;
        sequence = Some((started, report.sequence));
    }
    match &report.delta {
        Some(delta) if sequence == Some((started, delta.base)) => {
            taken.changed |= keep_delta(to, id, delta, now)?;
            before::keep(to, report, &delta.changed)?;
            sequence = Some((started, delta.sequence));
        }
        // A delta that was taken over already is sent again when its answer was lost.
        Some(delta) if sequence == Some((started, delta.sequence)) => {}
        Some(_) => taken.full = true,
        // What is on disk may be of an older copy.
        None => taken.full = sequence.is_none() && live::tells_list(report),
    }
    Ok(sequence)
}

/// The newest generation of all, and of a node.
fn generations(from: &Transaction<'_>, instance: &str) -> Result<(u64, u64), Error> {
    let newest = "SELECT value FROM counter WHERE name = 'generation'";
    let newest: i64 = from.query_row(newest, [], |row| row.get(0)).doing(DOING)?;
    let own = "SELECT desired_generation FROM instance WHERE id = ?1";
    let own: Option<i64> =
        from.query_row(own, [instance], |row| row.get(0)).optional().doing(DOING)?;
    Ok((super::unsigned(newest), super::unsigned(own.unwrap_or(0))))
}

fn keep_instance(to: &Transaction<'_>, report: &Report, now: Time) -> Result<bool, Error> {
    let json = |value: serde_json::Result<String>| value.doing("a report");
    let body = json(serde_json::to_string(&report.instance))?;
    let lost = json(serde_json::to_string(&report.lost))?;
    let applied = report.configuration.as_ref().map(serde_json::to_string).map(json).transpose()?;
    let doctor = report.doctor.as_ref().map(serde_json::to_string).map(json).transpose()?;
    let sql = "INSERT INTO instance (id, body, last_poll, generation, doctor, lost, applied)
        VALUES (?1, ?2, ?3, ?4, coalesce(?5, '[]'), ?6, coalesce(?7, 'null'))
        ON CONFLICT (id) DO UPDATE SET body = ?2, last_poll = ?3, generation = ?4,
            doctor = coalesce(?5, doctor), lost = ?6, applied = coalesce(?7, applied)
        WHERE body <> ?2 OR generation <> ?4 OR doctor <> coalesce(?5, doctor) OR lost <> ?6
            OR applied <> coalesce(?7, applied)";
    let generation = signed(report.generation);
    let values =
        params![report.instance.id, body, signed(now.0), generation, doctor, lost, applied];
    to.execute(sql, values).map(|rows| rows > 0).doing(DOING)
}

/// Takes the full list of a node's workloads over.
fn keep_workloads(
    to: &Transaction<'_>,
    instance: &str,
    workloads: &[Observed],
    now: Time,
) -> Result<bool, Error> {
    let known = known_workloads(to, instance)?;
    let mut absent: BTreeMap<&str, bool> =
        known.iter().filter(|(_, (_, present))| *present).map(|(key, _)| (&**key, true)).collect();
    let mut changed = false;
    for observed in workloads {
        absent.remove(observed.key.0.as_str());
        changed |= keep_workload(to, instance, observed, known.get(&observed.key.0), now)?;
    }
    for key in absent.into_keys() {
        changed |= gone(to, instance, key, now)?;
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

fn keep_delta(
    to: &Transaction<'_>,
    instance: &str,
    delta: &Delta,
    now: Time,
) -> Result<bool, Error> {
    let mut changed = false;
    for observed in &delta.changed {
        let sql = "SELECT body, present FROM workload WHERE instance = ?1 AND key = ?2";
        let known = to
            .query_row(sql, [instance, &observed.key.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .doing(DOING)?;
        changed |= keep_workload(to, instance, observed, known.as_ref(), now)?;
    }
    for key in &delta.gone {
        changed |= gone(to, instance, &key.0, now)?;
    }
    Ok(changed)
}

/// Keeps one workload; `before` is what was kept of it, and whether it was there.
fn keep_workload(
    to: &Transaction<'_>,
    instance: &str,
    observed: &Observed,
    before: Option<&(String, bool)>,
    now: Time,
) -> Result<bool, Error> {
    let key = observed.key.0.as_str();
    let body = serde_json::to_string(observed).doing("a workload")?;
    if before.is_some_and(|(known, present)| *present && *known == body) {
        return Ok(false);
    }
    to.prepare_cached(
        "INSERT INTO workload (instance, key, body, present, seen) VALUES (?1, ?2, ?3, 1, ?4)
         ON CONFLICT (instance, key) DO UPDATE SET body = ?3, present = 1, seen = ?4",
    )
    .and_then(|mut insert| insert.execute(params![instance, key, body, signed(now.0)]))
    .doing(DOING)?;
    let was: Option<Observed> = before
        .filter(|(_, present)| *present)
        .and_then(|(known, _)| serde_json::from_str(known).ok());
    let state = observed.state.word();
    match was.filter(|was| was.state == observed.state) {
        None => remember(to, instance, key, (state, &observed.reason), now)?,
        Some(was) => {
            if let Some(reason) = restarted(&was, observed) {
                remember(to, instance, key, (state, &reason), now)?;
            }
        }
    }
    for old in observed.replaces.iter().filter(|old| old.0 != key) {
        replace(to, instance, &old.0, key)?;
    }
    if before.is_none() {
        tell_old_wish(to, instance, key)?;
    }
    Ok(true)
}

/// The row of a key that a workload of this node no longer has goes, and what people said of it holds
/// for the new key, where nobody said otherwise.
fn replace(to: &Transaction<'_>, instance: &str, old: &str, new: &str) -> Result<(), Error> {
    const DOING: &str = "replace a key";
    let sql = "DELETE FROM workload WHERE instance = ?1 AND key = ?2";
    if to.execute(sql, [instance, old]).doing(DOING)? == 0 {
        return Ok(());
    }
    let names = "INSERT OR IGNORE INTO shown_name (key, name)
        SELECT ?2, name FROM shown_name WHERE key = ?1";
    let named = to.execute(names, [old, new]).doing(DOING)?;
    let wishes = "INSERT OR IGNORE INTO desired
            (key, feature, value, generation, changed, actor, reason)
        SELECT ?2, feature, value, generation, changed, actor, reason FROM desired WHERE key = ?1";
    let wished = to.execute(wishes, [old, new]).doing(DOING)?;
    if named + wished > 0 {
        let generation = next_generation(to)?;
        let sql = "UPDATE desired SET generation = ?2 WHERE key = ?1";
        to.execute(sql, params![new, generation]).doing(DOING)?;
        let sql = "UPDATE instance SET desired_generation = ?2 WHERE id = ?1";
        to.execute(sql, params![instance, generation]).doing(DOING)?;
    }
    for sql in [
        "DELETE FROM desired WHERE key = ?1
            AND NOT EXISTS (SELECT 1 FROM workload WHERE key = ?1)",
        "DELETE FROM shown_name WHERE key = ?1
            AND NOT EXISTS (SELECT 1 FROM workload WHERE key = ?1)",
    ] {
        to.execute(sql, [old]).doing(DOING)?;
    }
    Ok(())
}

/// What to say of a captured workload whose processes are others than before, while its state is
/// the same: a restart is too quick for another state to be seen.
fn restarted(was: &Observed, now: &Observed) -> Option<String> {
    let started = |of: &Instance| (of.pid, of.started_unix_nanos);
    let pids = |of: &Observed, other: &Observed| {
        let other: BTreeSet<_> = other.instances.iter().map(started).collect();
        let only = of.instances.iter().filter(|one| !other.contains(&started(one)));
        only.map(|one| one.pid.to_string()).take(MAX_NAMED).collect::<Vec<_>>().join(", ")
    };
    let (ended, new) = (pids(was, now), pids(now, was));
    if now.level != Level::Network || now.instances.is_empty() || ended.is_empty() {
        return None;
    }
    let words = match new.is_empty() {
        true => format!("Process {ended} ended, others go on."),
        false => format!("Process {ended} ended, {new} started in its place."),
    };
    Some(format!("{words} {}", now.reason).trim().to_owned())
}

/// Adds to the history of what is wanted on a node that its controller was started again.
fn started_again(to: &Transaction<'_>, report: &Report, now: Time) -> Result<(), Error> {
    let id = &report.instance.id;
    let sql = "SELECT body FROM instance WHERE id = ?1";
    let before: Option<String> =
        to.query_row(sql, [id], |row| row.get(0)).optional().doing(DOING)?;
    let before = before.and_then(|body| serde_json::from_str::<poll::Instance>(&body).ok());
    let started = report.instance.started_unix_nanos;
    if report.instance.recorded || before.is_none_or(|it| it.started_unix_nanos == started) {
        return Ok(());
    }
    let sql = "SELECT DISTINCT workload.key, workload.body FROM workload
        JOIN desired ON desired.key = workload.key AND desired.value <> 'off'
        WHERE workload.instance = ?1 AND workload.present = 1";
    let mut statement = to.prepare_cached(sql).doing(DOING)?;
    let rows = statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)));
    let rows: Vec<(String, String)> = rows.and_then(Iterator::collect).doing(DOING)?;
    for (key, body) in rows {
        let Ok(known) = serde_json::from_str::<Observed>(&body) else { continue };
        let reason = "The controller of its node was started again, and goes on with what was \
                      wanted before.";
        remember(to, id, &key, (known.state.word(), reason), now)?;
    }
    Ok(())
}

fn gone(to: &Transaction<'_>, instance: &str, key: &str, now: Time) -> Result<bool, Error> {
    let values = params![instance, key, signed(now.0)];
    let sql = "UPDATE workload SET present = 0, seen = ?3
        WHERE instance = ?1 AND key = ?2 AND present = 1";
    let rows = to.execute(sql, values).doing(DOING)?;
    if rows > 0 {
        remember(to, instance, key, ("stopped", "The node no longer has it."), now)?;
    }
    Ok(rows > 0)
}

/// Adds a state to the history of a workload.
fn remember(
    to: &Transaction<'_>,
    instance: &str,
    key: &str,
    (state, reason): (&str, &str),
    now: Time,
) -> Result<(), Error> {
    to.prepare_cached(
        "INSERT INTO state_history (key, instance, at, state, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .and_then(|mut insert| insert.execute(params![key, instance, signed(now.0), state, reason]))
    .doing(DOING)?;
    to.prepare_cached(
        "DELETE FROM state_history WHERE key = ?1 AND id <=
         (SELECT id FROM state_history WHERE key = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )
    .and_then(|mut delete| delete.execute(params![key, MAX_STATES]))
    .map(|_rows| ())
    .doing(DOING)
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

/// A workload that is new on a node may be wanted, or have a name, since long: the node's
/// generation must grow, else it would never be told.
fn tell_old_wish(to: &Transaction<'_>, instance: &str, key: &str) -> Result<(), Error> {
    let sql = "SELECT 1 FROM desired WHERE key = ?1 UNION SELECT 1 FROM shown_name WHERE key = ?1";
    let wanted = to.prepare_cached(sql).and_then(|mut s| s.exists([key])).doing(DOING)?;
    if wanted {
        let generation = next_generation(to)?;
        let sql = "UPDATE instance SET desired_generation = ?2 WHERE id = ?1";
        to.execute(sql, params![instance, generation]).doing(DOING)?;
    }
    Ok(())
}

/// Takes wishes over that a node was told and that are not known here: the store was restored from
/// a copy that is older than they are. What was wished since this dashboard started, or was never
/// heard by the nodes, is newer than all of them, whatever its generation.
fn adopt(
    to: &Transaction<'_>,
    report: &Report,
    held: &[Desired],
    (newest, wished): (u64, &BTreeSet<String>),
) -> Result<bool, Error> {
    let instance = &report.instance.id;
    let limit = newest.saturating_add(MAX_AHEAD);
    if report.generation > limit {
        return Ok(false);
    }
    let actor = format!("node {}", report.instance.host_name);
    let mut adopted = false;
    let is_lost =
        |wish: &&Desired| (1..=limit).contains(&wish.generation) && !wished.contains(&wish.key.0);
    for wish in held.iter().filter(is_lost) {
        let agent = wish.agent.map(|on| (super::AGENT, if on { "on" } else { "off" }));
        for (feature, value) in
            [Some((super::NETWORK, wish.level.word())), agent].into_iter().flatten()
        {
            let sql =
                "INSERT INTO desired (key, feature, value, generation, changed, actor, reason)
                VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6) ON CONFLICT (key, feature) DO UPDATE SET
                value = ?3, generation = ?4, actor = ?5, reason = ?6 WHERE generation < ?4";
            let reason = "The node had it from before this dashboard was restored.";
            let values =
                params![wish.key.0, feature, value, signed(wish.generation), actor, reason];
            if to.execute(sql, values).doing(DOING)? > 0 {
                adopted = true;
                let sql = "INSERT INTO desired_history
                    (key, feature, value, generation, changed, actor, reason)
                    VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6)";
                to.execute(sql, values).doing(DOING)?;
            }
        }
    }
    if adopted {
        note(to, Time(0), (&actor, "identity", instance, "brought wishes back after a restore"))?;
    }
    // Generations never go back, whatever the copy says.
    let ahead = signed(report.generation.max(newest));
    to.execute("UPDATE counter SET value = max(value, ?1) WHERE name = 'generation'", [ahead])
        .doing(DOING)?;
    let generation = next_generation(to)?;
    let sql = "UPDATE instance SET desired_generation = ?2 WHERE id = ?1";
    to.execute(sql, params![instance, generation]).doing(DOING)?;
    Ok(adopted)
}
