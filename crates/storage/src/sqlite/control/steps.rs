//! Steps: what nodes are asked to do, and how it went. When one is lent and when it is over is
//! decided by `contract::step::lease`; this only keeps it.

use super::{Control, level, next_generation, signed, unsigned};
use crate::error::{Doing, Error};
use crate::fleet::NewStep;
use crate::secret;
use contract::capture::{Level, State};
use contract::poll::{Refused, Report};
use contract::reconcile::{Case, Feature, Found, Outcome, reconcile};
use contract::row::{StepRow, Time};
use contract::step::lease::{End, Heard, LEASE_NANOS, Lease};
use contract::step::{Change, Phase, Progress, Step};
use contract::workload::{Key, Observed};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use std::collections::BTreeMap;

/// Steps of a node that may be under way at a time.
const MAX_OPEN: u32 = 256;
/// Entries that a node may add to the log of one step, so that it cannot fill the disk.
const MAX_ENTRIES: u32 = 64;
/// How long a planned step may be begun.
const PLANNED_FOR_NANOS: u64 = 3_600_000_000_000;

const SECOND: u64 = 1_000_000_000;
const DOING: &str = "keep a step";

/// A step as it is kept.
struct Kept {
    id: String,
    instance: String,
    key: Option<String>,
    change: Change,
    reason: String,
    actor: String,
    generation: u64,
    created: Time,
    lease: Lease,
    ended: Option<Time>,
}

/// What a poll is answered.
#[derive(Default)]
pub(super) struct Lent {
    pub(super) steps: Vec<Step>,
    pub(super) cancelled: Vec<String>,
    /// When to look again.
    pub(super) due: Option<u64>,
}

/// What came of the words of a node.
#[derive(Default)]
pub(super) struct Told {
    pub(super) acknowledged: Vec<String>,
    pub(super) refused: Vec<Refused>,
    pub(super) changed: bool,
}

/// An entry of the log.
struct Entry<'a> {
    event: &'a str,
    actor: &'a str,
    progress: &'a Progress,
}

const COLUMNS: &str = "id, instance, key, change, reason, actor, generation, created, lease, ended";

impl Control {
    pub(crate) fn new_step(&self, new: &NewStep, now: Time) -> Result<String, Error> {
        let mut connection = self.lock();
        if !self.live().nodes.contains_key(&new.instance) {
            return Err(Error::UnknownNode);
        }
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(DOING)?;
        let id = make(&transaction, new, now)?;
        transaction.commit().doing(DOING)?;
        self.look_at(&new.instance);
        Ok(id)
    }

    pub(crate) fn steps(&self, instance: Option<&str>, limit: u32) -> Result<Vec<StepRow>, Error> {
        let connection = self.lock();
        let sql = format!(
            "SELECT {COLUMNS} FROM step WHERE ?1 IS NULL OR instance = ?1
             ORDER BY created DESC, id LIMIT ?2"
        );
        let mut statement = connection.prepare_cached(&sql).doing(DOING)?;
        let rows = statement.query_map(params![instance, limit], kept).doing(DOING)?;
        rows.map(|row| Ok(row.doing(DOING)?.row())).collect()
    }

    pub(crate) fn cancel_step(
        &self,
        id: &str,
        actor: &str,
        now: Time,
    ) -> Result<Option<String>, Error> {
        let mut connection = self.lock();
        let transaction = connection.transaction().doing(DOING)?;
        let Some(mut step) = one(&transaction, id)?.filter(|step| step.ended.is_none()) else {
            return Ok(None);
        };
        step.lease.cancel();
        step.ended = step.lease.end.map(|_end| now);
        step.write(&transaction)?;
        let progress = Progress::new(id, Phase::Cancelled, "Taken back.");
        step.log(&transaction, &Entry { event: "cancel", actor, progress: &progress }, now)?;
        transaction.commit().doing(DOING)?;
        self.look_at(&step.instance);
        Ok(Some(step.instance))
    }

    pub(crate) fn expire_steps(&self, now: Time) -> Result<u64, Error> {
        let mut connection = self.lock();
        let transaction = connection.transaction().doing(DOING)?;
        let mut expired = 0;
        for mut step in open(&transaction, None)? {
            if step.expire(&transaction, now)? {
                expired += 1;
            }
        }
        transaction.commit().doing(DOING)?;
        Ok(expired)
    }

    /// The node has something to hear about its steps.
    fn look_at(&self, instance: &str) {
        if let Some(known) = self.live().nodes.get_mut(instance) {
            known.due = Some(0);
        }
    }

    pub(crate) fn plan_for(
        &self,
        instance: &str,
        features: &[Feature],
        now: Time,
    ) -> Result<(), Error> {
        let mut connection = self.lock();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(DOING)?;
        let wanted = wanted(&transaction, instance)?;
        let mut is_planned = false;
        for (wish, feature) in pairs(&wanted, features) {
            let (want, found) = wish.about(feature);
            let change = feature.change(want);
            let (is_under_way, failures, failed_at) =
                tries(&transaction, (instance, &wish.key), (change, wish.generation))?;
            let case = Case {
                feature,
                wanted: Some(want),
                found,
                is_allowed: true,
                is_under_way,
                failures,
                failed_at,
            };
            let Outcome::Act { change, reason } = reconcile(&case, now.0) else { continue };
            let new = NewStep {
                instance: instance.to_owned(),
                key: Some(wish.key.clone()),
                change,
                reason: reason.to_owned(),
                actor: "dashboard".into(),
                deadline: Time(now.0.saturating_add(PLANNED_FOR_NANOS)),
            };
            make(&transaction, &new, now)?;
            is_planned = true;
        }
        transaction.commit().doing(DOING)?;
        if is_planned {
            self.look_at(instance);
        }
        Ok(())
    }
}

impl Kept {
    fn row(self) -> StepRow {
        StepRow {
            id: self.id,
            instance: self.instance,
            key: self.key,
            change: self.change,
            reason: self.reason,
            actor: self.actor,
            created: self.created,
            deadline: Time(self.lease.deadline),
            attempts: self.lease.attempts,
            cancelled: self.lease.cancelled,
            end: self.lease.end,
            ended: self.ended,
        }
    }

    fn write(&self, to: &Transaction<'_>) -> Result<(), Error> {
        let lease = serde_json::to_string(&self.lease).doing("a step")?;
        let ended = self.ended.map(|ended| signed(ended.0));
        let sql = "UPDATE step SET lease = ?2, ended = ?3 WHERE id = ?1";
        to.prepare_cached(sql)
            .and_then(|mut update| update.execute(params![self.id, lease, ended]))
            .map(|_rows| ())
            .doing(DOING)
    }

    fn log(&self, to: &Transaction<'_>, entry: &Entry<'_>, now: Time) -> Result<(), Error> {
        let Entry { event, actor, progress } = entry;
        let change = if progress.change.is_empty() { self.change.word() } else { &progress.change };
        let sql = "INSERT INTO step_log
            (step, instance, key, at, event, actor, reason, change, output, duration_ms)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let values = params![
            self.id,
            self.instance,
            self.key,
            signed(now.0),
            event,
            actor,
            progress.reason,
            change,
            progress.output,
            signed(progress.duration_ms)
        ];
        to.execute(sql, values).map(|_rows| ()).doing(DOING)
    }

    /// Ends the step when nobody can end it any more.
    fn expire(&mut self, to: &Transaction<'_>, now: Time) -> Result<bool, Error> {
        let Some(end) = self.lease.expire(now.0) else { return Ok(false) };
        self.ended = Some(now);
        self.write(to)?;
        let reason = match end {
            End::Cancelled => "Taken back; the node never said how far it was.",
            _ => "The node did not take it in time, or never said how it went.",
        };
        let progress = Progress::new(&self.id, Phase::Failed, reason);
        self.log(to, &Entry { event: end.word(), actor: "dashboard", progress: &progress }, now)?;
        Ok(true)
    }
}

/// Makes a step.
fn make(to: &Transaction<'_>, new: &NewStep, now: Time) -> Result<String, Error> {
    let count = "SELECT count(*) FROM step WHERE instance = ?1 AND ended IS NULL";
    let open: u32 = to.query_row(count, [&new.instance], |row| row.get(0)).doing(DOING)?;
    if open >= MAX_OPEN {
        return Err(Error::TooManySteps);
    }
    let generation = next_generation(to)?;
    let mut id = secret::make("")?;
    id.truncate(16);
    let step = Kept {
        id,
        instance: new.instance.clone(),
        key: new.key.clone(),
        change: new.change,
        reason: new.reason.clone(),
        actor: new.actor.clone(),
        generation: unsigned(generation),
        created: now,
        lease: Lease::new(new.deadline.0),
        ended: None,
    };
    let lease = serde_json::to_string(&step.lease).doing("a step")?;
    let sql = "INSERT INTO step
        (id, instance, key, change, reason, actor, generation, created, lease)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let values = params![
        step.id,
        step.instance,
        step.key,
        step.change.word(),
        step.reason,
        step.actor,
        generation,
        signed(now.0),
        lease
    ];
    to.execute(sql, values).doing(DOING)?;
    let progress = Progress::new(&step.id, Phase::Running, &step.reason);
    step.log(to, &Entry { event: "made", actor: &step.actor, progress: &progress }, now)?;
    Ok(step.id)
}

/// Lends the steps of a node that are due.
pub(super) fn lend(to: &Transaction<'_>, instance: &str, now: Time) -> Result<Lent, Error> {
    let mut lent = Lent::default();
    for mut step in open(to, Some(instance))? {
        if step.expire(to, now)? {
            continue;
        }
        if step.lease.cancelled {
            lent.cancelled.push(step.id.clone());
        }
        if let Some(attempt) = step.lease.lend(now.0) {
            step.write(to)?;
            let progress = Progress::new(&step.id, Phase::Running, "");
            step.log(to, &Entry { event: "sent", actor: "dashboard", progress: &progress }, now)?;
            let left = step.lease.deadline.saturating_sub(now.0) / SECOND;
            lent.steps.push(Step {
                id: step.id.clone(),
                key: step.key.clone().map(Key),
                change: step.change,
                reason: step.reason.clone(),
                actor: step.actor.clone(),
                generation: step.generation,
                attempt,
                lease_seconds: u32::try_from(LEASE_NANOS / SECOND).unwrap_or(u32::MAX),
                deadline_seconds: u32::try_from(left).unwrap_or(u32::MAX),
            });
        }
        // What was taken back is said with every answer that there is, and asks for none.
        let due = step.lease.due().map(|due| due.max(now.0.saturating_add(SECOND)));
        lent.due = [lent.due, due].into_iter().flatten().min();
    }
    Ok(lent)
}

/// Takes the words of a node about its steps over.
pub(super) fn hear(to: &Transaction<'_>, report: &Report, now: Time) -> Result<Told, Error> {
    let mut told = Told::default();
    for progress in &report.steps {
        let Some(mut step) = one(to, &progress.id)? else {
            // Of before a restore, or made up: either way the node may forget it.
            if progress.phase.is_end() {
                told.acknowledged.push(progress.id.clone());
            }
            continue;
        };
        if step.instance != report.instance.id {
            let reason = "It is a step of another node.".to_owned();
            told.refused.push(Refused { key: progress.id.clone(), reason });
            continue;
        }
        let heard = step.lease.hear(progress.phase, now.0);
        if let Heard::Ended(_) = heard {
            step.ended = Some(now);
        }
        if heard != Heard::Late {
            step.write(to)?;
            told.changed = true;
            let count = "SELECT count(*) FROM step_log WHERE step = ?1";
            let entries: u32 = to.query_row(count, [&step.id], |row| row.get(0)).doing(DOING)?;
            if entries < MAX_ENTRIES || progress.phase.is_end() {
                let actor = format!("node {}", report.instance.host_name);
                let event = progress.phase.word();
                step.log(to, &Entry { event, actor: &actor, progress }, now)?;
            }
        }
        if progress.phase.is_end() {
            told.acknowledged.push(progress.id.clone());
        }
    }
    Ok(told)
}

/// When each node has something to hear about its steps, for the start.
pub(super) fn due(from: &Connection) -> Result<BTreeMap<String, Option<u64>>, Error> {
    let mut statement =
        from.prepare("SELECT DISTINCT instance FROM step WHERE ended IS NULL").doing(DOING)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, Some(0))));
    rows.and_then(Iterator::collect).doing(DOING)
}

fn one(from: &Connection, id: &str) -> Result<Option<Kept>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM step WHERE id = ?1");
    let mut statement = from.prepare_cached(&sql).doing(DOING)?;
    statement.query_row([id], kept).optional().doing(DOING)
}

/// Steps that have not ended, in the order of their wishes.
fn open(from: &Connection, instance: Option<&str>) -> Result<Vec<Kept>, Error> {
    let place = if instance.is_some() { "instance = ?1 AND" } else { "?1 IS NULL AND" };
    let sql = format!("SELECT {COLUMNS} FROM step WHERE {place} ended IS NULL ORDER BY generation");
    let mut statement = from.prepare_cached(&sql).doing(DOING)?;
    let rows = statement.query_map([instance], kept);
    rows.and_then(Iterator::collect).doing(DOING)
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let (change, lease): (String, String) = (row.get(3)?, row.get(8)?);
    let ended: Option<i64> = row.get(9)?;
    Ok(Kept {
        id: row.get(0)?,
        instance: row.get(1)?,
        key: row.get(2)?,
        change: Change::of_word(&change).unwrap_or(Change::Unknown),
        reason: row.get(4)?,
        actor: row.get(5)?,
        generation: unsigned(row.get(6)?),
        created: Time(unsigned(row.get(7)?)),
        // One that cannot be read back is over.
        lease: serde_json::from_str(&lease).unwrap_or(Lease::new(0)),
        ended: ended.map(|ended| Time(unsigned(ended))),
    })
}

/// A wish for a workload that a node tells of.
struct Wished {
    key: String,
    network: bool,
    agent: bool,
    generation: u64,
    observed: Observed,
}

impl Wished {
    /// Whether a feature is wanted, and what is observed of it.
    fn about(&self, feature: Feature) -> (bool, Found) {
        let on = |is_on| if is_on { Found::Ours } else { Found::Off };
        match feature {
            Feature::Network => (self.network, on(self.observed.level >= Level::Network)),
            Feature::Agent => {
                let found = match self.observed.agent.as_ref().map(|agent| agent.state) {
                    Some(State::Conflict) => Found::Conflict,
                    Some(State::Unsupported) => Found::Unsupported,
                    state => on(state == Some(State::Capturing)),
                };
                (self.agent, found)
            }
        }
    }
}

fn pairs<'a>(
    wanted: &'a [Wished],
    features: &'a [Feature],
) -> impl Iterator<Item = (&'a Wished, Feature)> {
    wanted.iter().flat_map(|wish| features.iter().map(move |feature| (wish, *feature)))
}

/// What is wanted of the workloads of a node, with what it says of them.
fn wanted(from: &Transaction<'_>, instance: &str) -> Result<Vec<Wished>, Error> {
    let sql = "SELECT network.key, network.value, coalesce(agent.value, 'off'),
            network.generation, workload.body
        FROM workload
        JOIN desired AS network ON network.key = workload.key AND network.feature = ?2
        LEFT JOIN desired AS agent ON agent.key = workload.key AND agent.feature = ?3
        WHERE workload.instance = ?1 AND workload.present = 1";
    let mut statement = from.prepare_cached(sql).doing(DOING)?;
    let rows = statement
        .query_map([instance, super::NETWORK, super::AGENT], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .doing(DOING)?;
    rows.map(|row| {
        let (key, network, agent, generation, body): (String, String, String, i64, String) =
            row.doing(DOING)?;
        Ok(Wished {
            key,
            network: level(&network) >= Level::Network,
            agent: agent == "on",
            generation: unsigned(generation),
            observed: serde_json::from_str(&body).doing("a workload")?,
        })
    })
    .collect()
}

/// Whether a change is under way, how often it failed since the wish, and when it last did.
fn tries(
    from: &Transaction<'_>,
    (instance, key): (&str, &str),
    (change, generation): (Change, u64),
) -> Result<(bool, u32, u64), Error> {
    let sql = "SELECT coalesce(max(ended IS NULL), 0), count(ended), coalesce(max(ended), 0)
        FROM step WHERE instance = ?1 AND key = ?2 AND change = ?3 AND generation > ?4";
    let values = params![instance, key, change.word(), signed(generation)];
    from.query_row(sql, values, |row| Ok((row.get(0)?, row.get(1)?, unsigned(row.get(2)?))))
        .doing(DOING)
}
