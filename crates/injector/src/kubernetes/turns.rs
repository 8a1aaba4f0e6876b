//! Takes turns with the other controllers of a cluster, and looks at what they made.
//!
//! `lease` decides, on values; here is what the API server is asked and told.

use super::api::{Api, Failure, Patch};
use super::cluster::{Cluster, version};
use super::lease::{self, Claim, Known, Stand, Table};
use super::{CHANGE, Change, Workload, health};
use crate::plan;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::io;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Name of the Lease, in the namespace of the controllers.
const NAME: &str = "sonde-rollouts";
/// Its annotation with the table.
const TABLE: &str = "sonde/rollouts";
/// How old what was read may be when it is answered from.
const READS: Duration = Duration::from_secs(5);
/// Tries to write the table while others write it too.
const TRIES: u32 = 8;

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Ours.
    Ours,
    /// That controller's.
    Theirs(String),
    /// Nobody's, and as many rollouts as may be are under way.
    Full,
}

/// What is there of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Glance {
    /// All of it.
    There,
    /// Another change of a Sonde, with all that is needed to take it back.
    Other(Box<plan::Change>),
    /// Not all of it; what is missing, and whether nothing is left of it.
    Gone {
        /// For people.
        reason: String,
        /// Nothing is left to be taken out.
        is_clean: bool,
    },
}

/// The turns of a cluster, as one controller knows them.
#[derive(Debug)]
pub struct Turns {
    runtime: Runtime,
    cluster: Cluster,
    known: Known,
    /// The Lease as it was read or written last.
    lease: Option<Value>,
    read_at: Option<Duration>,
    reads: u64,
}

impl Turns {
    /// For the controller of this node.
    ///
    /// # Errors
    ///
    /// When the kernel gives no descriptors for a runtime.
    pub fn new(cluster: Cluster) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // A pod that takes the place of another on the same node is somebody else.
        let me = match &cluster.pod {
            Some(pod) => format!("{}/{pod}", cluster.node),
            None => cluster.node.clone(),
        };
        let known = Known::new(&me);
        Ok(Self { runtime, cluster, known, lease: None, read_at: None, reads: 0 })
    }

    /// Takes a turn, if it can be had; `is_rollout` says whether pods are replaced in it.
    ///
    /// # Errors
    ///
    /// A sentence: nothing is known then.
    pub fn claim(&mut self, key: &str, is_rollout: bool) -> Result<Turn, String> {
        if self.read_at.is_none_or(|at| now() >= at + READS) && !self.holds(key) {
            self.read()?;
        }
        for _ in 0..TRIES {
            match self.known.claim(key, is_rollout, now()) {
                Claim::Ours => return Ok(Turn::Ours),
                Claim::Theirs(by) => return Ok(Turn::Theirs(by)),
                Claim::Full => return Ok(Turn::Full),
                Claim::Take(table) => drop(self.write(table)?),
            }
        }
        Err(failed(&Failure::Conflict))
    }

    /// Whether we may act in this turn.
    pub fn holds(&self, key: &str) -> bool {
        self.known.holds(key, now())
    }

    /// The controller that has this turn, if another one has.
    pub fn holder(&self, key: &str) -> Option<&str> {
        match self.known.stand(key, now()) {
            Stand::Theirs(by) => Some(by),
            Stand::Free | Stand::Ours | Stand::Left(_) => None,
        }
    }

    /// Whether whoever had this turn is gone, or lost it.
    pub fn is_left(&self, key: &str) -> bool {
        matches!(self.known.stand(key, now()), Stand::Left(_) | Stand::Ours)
    }

    /// Workloads whose turn is ours.
    pub fn mine(&self) -> Vec<String> {
        self.known.mine()
    }

    /// How often the table was read: without another reading there is nothing new.
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// Renews what we have, and, where something depends on others, reads what they do.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub fn keep(&mut self, is_curious: bool) -> Result<(), String> {
        for _ in 0..TRIES {
            let Some(table) = self.known.renewal(now()) else { break };
            if self.write(table)? {
                break;
            }
        }
        if is_curious && self.read_at.is_none_or(|at| now() >= at + READS) {
            self.read()?;
        }
        Ok(())
    }

    /// Gives a turn back.
    ///
    /// # Errors
    ///
    /// A sentence; it is to be tried again, and passes by itself after a while.
    pub fn release(&mut self, key: &str) -> Result<(), String> {
        for _ in 0..TRIES {
            let Some(table) = self.known.release(key) else { return Ok(()) };
            if self.write(table)? {
                return Ok(());
            }
        }
        Err(failed(&Failure::Conflict))
    }

    /// Tells all how a change ended.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub fn ended(&mut self, key: &str, end: &lease::End) -> Result<(), String> {
        for _ in 0..TRIES {
            let Some(table) = self.known.ended(key, end) else { return Ok(()) };
            if self.write(table)? {
                return Ok(());
            }
        }
        Err(failed(&Failure::Conflict))
    }

    /// How the change that was made for this wish, or a later one, ended.
    pub fn end(&self, key: &str, generation: u64) -> Option<&lease::End> {
        self.known.end(key, generation)
    }

    /// The change that a Sonde made for this container, whoever it was.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub fn made(
        &self,
        workload: &Workload,
        container: &str,
    ) -> Result<Option<plan::Change>, String> {
        let object = self.object(workload)?;
        let change = object.and_then(|object| Change::noted(workload, &object));
        let change = change.filter(|change| change.put.container == container);
        Ok(change.map(|change| plan::Change::Kubernetes(Box::new(change))))
    }

    /// What is there of a change; nothing of one that is not in a cluster.
    ///
    /// # Errors
    ///
    /// A sentence: nothing is known then.
    pub fn glance(&self, change: &plan::Change) -> Result<Glance, String> {
        let gone = |reason: String, is_clean| Ok(Glance::Gone { reason, is_clean });
        let plan::Change::Kubernetes(change) = change else { return gone(String::new(), true) };
        let object = self
            .object(&change.workload)?
            .filter(|it| it["metadata"]["uid"] == change.uid.as_str());
        let Some(object) = object else { return gone("it was deleted".to_owned(), true) };
        let template = change.template(&object);
        let Some(missing) = change.put.missing(&template) else { return Ok(Glance::There) };
        let id = &template["metadata"]["annotations"][CHANGE];
        if !id.is_null() && id != change.put.id.as_str() {
            let other = Change::noted(&change.workload, &object);
            let other = other.filter(|other| other.put.container == change.put.container);
            return match other {
                Some(other) => {
                    Ok(Glance::Other(Box::new(plan::Change::Kubernetes(Box::new(other)))))
                }
                None => gone("another Sonde changed it".to_owned(), true),
            };
        }
        let by = health::last_manager(&object).map(|by| format!(", by {by}")).unwrap_or_default();
        let is_clean = change.put.out_of(&template) == template && !change.is_noted(&object);
        gone(format!("{missing} is not in its template{by}"), is_clean)
    }

    /// Whether no rollout of a workload is under way.
    ///
    /// # Errors
    ///
    /// A sentence: nothing is known then.
    pub fn is_settled(&self, change: &plan::Change) -> Result<bool, String> {
        let plan::Change::Kubernetes(change) = change else { return Ok(true) };
        let kind = change.workload.kind;
        let object = self.object(&change.workload)?;
        Ok(!kind.rolls()
            || object.is_none_or(|object| health::progress(kind, &object, &[]).is_none()))
    }

    fn object(&self, workload: &Workload) -> Result<Option<Value>, String> {
        let got = self.runtime.block_on(async {
            match self.cluster.open().await?.get(&workload.path()).await {
                Err(Failure::Missing) => Ok(None),
                other => other.map(Some),
            }
        });
        got.map_err(|failure| format!("Cannot look at {}: {failure}.", workload.shown()))
    }

    fn read(&mut self) -> Result<(), String> {
        let read = self.runtime.block_on(async {
            let api = self.cluster.open().await?;
            match api.get(&place(&api, NAME)).await {
                Err(Failure::Missing) => Ok(None),
                other => other.map(Some),
            }
        });
        self.lease = read.map_err(|failure| failed(&failure))?;
        let (table, now) = (self.lease.as_ref().map(table).unwrap_or_default(), now());
        self.known.read(table, now);
        self.read_at = Some(now);
        self.reads += 1;
        Ok(())
    }

    /// Writes the table where it stands as it was read; else reads it anew, and says so.
    fn write(&mut self, table: Table) -> Result<bool, String> {
        let asked = now();
        let written = self.runtime.block_on(async {
            let api = self.cluster.open().await?;
            match &self.lease {
                None => api.create(&place(&api, ""), &object(&table)).await,
                Some(lease) => {
                    let patch = operations(lease, &table);
                    api.patch(&place(&api, NAME), (Patch::Operations, &patch, false)).await
                }
            }
        });
        match written {
            Ok(lease) => {
                self.lease = Some(lease);
                self.known.wrote(table, asked);
                Ok(true)
            }
            Err(Failure::Conflict | Failure::Missing) => self.read().map(|()| false),
            Err(failure) => Err(failed(&failure)),
        }
    }
}

/// The clock that goes on while the machine sleeps.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

fn place(api: &Api, name: &str) -> String {
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", api.namespace());
    if name.is_empty() { leases } else { format!("{leases}/{name}") }
}

fn table(lease: &Value) -> Table {
    let text = lease["metadata"]["annotations"][TABLE].as_str().unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}

/// What people see of it with `kubectl get leases`.
fn spec(table: &Table) -> Value {
    let mut holders: Vec<&str> = table.turns.values().map(|held| held.by.as_str()).collect();
    holders.dedup();
    json!({
        "holderIdentity": holders.join(", "),
        "leaseDurationSeconds": lease::EXPIRES.as_secs(),
    })
}

fn text(table: &Table) -> String {
    serde_json::to_string(table).unwrap_or_default()
}

fn object(table: &Table) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "annotations": {TABLE: text(table)}},
        "spec": spec(table),
    })
}

fn operations(lease: &Value, table: &Table) -> Value {
    let mut annotations = lease["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.insert(TABLE.to_owned(), text(table).into());
    json!([
        version(lease),
        {"op": "add", "path": "/metadata/annotations", "value": annotations},
        {"op": "add", "path": "/spec", "value": spec(table)},
    ])
}

fn failed(failure: &Failure) -> String {
    format!("Cannot agree with the controllers of other nodes by the Lease {NAME}: {failure}.")
}
