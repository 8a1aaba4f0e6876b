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
mod recovery;
mod recreate;
mod specification;

use crate::difference::unified;
use crate::environment;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What is shown in place of a secret.
const HIDDEN: &str = "***";

/// A container that a workload runs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Id that the engine gave it.
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
    /// What Compose has to be given too, so that what it makes has the agent.
    pub(crate) compose: Option<Laid>,
}

/// A file in Sonde's own directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Laid {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
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

impl Laid {
    /// The file for a service of a project, in a directory.
    fn of(directory: &Path, (project, service): (&str, &str), text: String) -> Self {
        let is_plain = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
        let name: String = (format!("{project}-{service}").chars())
            .map(|it| if is_plain(it) { it } else { '_' })
            .take(200)
            .collect();
        Self { path: directory.join(format!("compose-{name}.yaml")), text }
    }

    /// Writes it, for its owner alone: it holds what the agent shows to the receiver.
    fn write(&self) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&self.path)?.write_all(self.text.as_bytes())
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Change {
    /// What differs between the containers, as people read it.
    pub(crate) fn difference(&self) -> String {
        self.parts.iter().map(Part::difference).collect()
    }
}
