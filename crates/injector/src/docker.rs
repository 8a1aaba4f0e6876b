//! Containers of Docker: another one is made from all that the engine says of the first, with the
//! agent in it, and takes its place.
//!
//! A container cannot be changed, only made anew. `specification` says what one was made from and
//! whether another lost something of it, `preflight` what speaks against it, `health` how the new one
//! is doing: pure functions of what the engine says. `engine` asks and tells the engine, `recreate`
//! has the order of the steps, each of which may be taken twice.

mod by_hand;
mod engine;
mod hands;
mod health;
mod preflight;
mod recreate;
mod specification;

use crate::difference::unified;
use crate::environment;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is shown in place of a secret.
const HIDDEN: &str = "***";

/// A container that a workload runs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// The program in it, as the node sees it.
    pub pid: u32,
}

/// The containers of one workload, made anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The engine that they belong to.
    pub(crate) socket: PathBuf,
    pub(crate) parts: Vec<Part>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Its name, without the slash that Docker puts before it.
    pub(crate) name: String,
    /// Id of the container as it was.
    pub(crate) id: String,
    /// All that the engine said of it.
    pub(crate) before: Value,
    /// Variables that the new one has.
    pub(crate) variables: BTreeMap<String, String>,
    /// Directory of the bundle, here and in the new one.
    pub(crate) bundle: String,
}

impl Part {
    /// The container with the agent in it, as its engine would say it.
    pub(crate) fn wished(&self) -> Value {
        specification::with_agent(&self.before, &self.variables, &self.bundle)
    }

    fn difference(&self) -> String {
        let [before, after] = [&self.before, &self.wished()].map(|it| {
            let shown = self.shown(it);
            format!("{shown:#}\n")
        });
        unified(&format!("container {}", self.name), Some(&before), Some(&after))
    }

    /// What differs, without values that are not ours.
    fn shown(&self, inspect: &Value) -> Value {
        let pairs = specification::texts(&inspect["Config"]["Env"]);
        let pairs = pairs.iter().map(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            match self.variables.contains_key(name) && name != environment::HEADERS {
                true => pair.clone(),
                false => format!("{name}={HIDDEN}"),
            }
        });
        let labels = specification::object(&inspect["Config"]["Labels"]);
        let labels = labels.into_iter().map(|(name, value)| match name == specification::LABEL {
            true => (name, value),
            false => (name, json!(HIDDEN)),
        });
        json!({
            "Env": pairs.collect::<Vec<_>>(),
            "HostConfig": { "Binds": inspect["HostConfig"]["Binds"] },
            "Labels": labels.collect::<serde_json::Map<_, _>>(),
        })
    }
}

impl Change {
    /// What differs between the containers, as people read it.
    pub(crate) fn difference(&self) -> String {
        self.parts.iter().map(Part::difference).collect()
    }
}
