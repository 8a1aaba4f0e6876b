//! Containers of Docker, Podman and containerd, recognised by their cgroups.
//!
//! An engine's socket tells names, images and labels: one list, then one stream of events. Without a
//! socket, which is as good as root, the engine's own files do, and without those what the runtime
//! left beside the container (`bundle`). A container that nobody knows a name of is named by its
//! program, because its id changes whenever it is made anew.
//!
//! A container within a container is its owner's to name, so its key stands behind that of the outer
//! one; a user's own engine is asked about that user's containers alone.

mod engine;
mod files;

use super::{Around, Place, Platform, bundle};
use crate::cgroup::{Container, Engine};
use crate::clients::{Changed, Clients, Task, lock};
use crate::process::{Process, clean};
use contract::doctor::Fact;
use contract::{attribute, workload};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Labels that say what a container is one of, as their makers write them: the group, then the member.
const SERVICES: [(&str, &str); 5] = [
    ("com.docker.compose.project", "com.docker.compose.service"),
    ("io.podman.compose.project", "io.podman.compose.service"),
    ("com.hashicorp.nomad.job_name", "com.hashicorp.nomad.task_name"),
    ("com.amazonaws.ecs.task-definition-family", "com.amazonaws.ecs.container-name"),
    ("", "com.docker.swarm.service.name"),
];

/// Labels that differ between the containers of one service, and say nothing to people.
const PASSING_LABELS: [&str; 9] = [
    "com.docker.compose.config-hash",
    "com.docker.compose.container-number",
    "com.docker.compose.depends_on",
    "com.docker.compose.image",
    "com.docker.compose.oneoff",
    "com.docker.compose.project.config_files",
    "com.docker.compose.project.working_dir",
    "com.docker.compose.replace",
    "com.docker.compose.version",
];

/// Longest name of a container; Docker itself has no limit.
const MAX_NAME: usize = 128;

/// What is known of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    /// Its own name, without the slash that Docker puts before it.
    name: String,
    image: Option<String>,
    labels: BTreeMap<String, String>,
}

/// Containers by the engine that told of them.
type Table = HashMap<String, (Source, Known)>;

/// Who told of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Source {
    engine: Engine,
    /// The user whose engine it is; `None` for the node's.
    user: Option<u32>,
}

/// Shared with the tasks that listen to the engines.
#[derive(Debug, Default)]
struct Shared {
    containers: Mutex<Table>,
    /// How each socket stands, by its path.
    facts: Mutex<BTreeMap<String, Fact>>,
    /// Whether there was an engine to ask; one that is started again has no socket for a moment.
    is_asked: AtomicBool,
}

/// All engines of the node.
#[derive(Debug, Default)]
pub(super) struct Docker {
    shared: Arc<Shared>,
}

impl Platform for Docker {
    fn place(&self, process: &Process, around: Around<'_>) -> Option<Place> {
        let containers = beyond(&process.cgroup.containers, around.own);
        let keeper = bundle::Keeper::of(process, around.root);
        let Some((innermost, outer)) = containers.split_last() else {
            // containerd takes any id, so that only the shim above knows of the container.
            let keeper = keeper?;
            let told = keeper.told(around.root, None)?;
            return Some(of_told(&told, None, process.cgroup.user.or(keeper.user)));
        };
        let user = process.cgroup.user;
        let known = if outer.is_empty() { self.told(&innermost.id, user) } else { None };
        let files = || {
            let seen = keeper.as_ref()?.files.as_ref()?;
            let known = files::container(seen, innermost)?;
            Some((Source { engine: innermost.engine.unwrap_or(Engine::Docker), user }, known))
        };
        let mut place = match known.or_else(files) {
            Some((source, known)) => of_known(&known, source),
            None => {
                let told = keeper.and_then(|keeper| keeper.told(around.root, Some(&innermost.id)));
                let told = told.unwrap_or_default();
                let mut place = of_told(&told, innermost.engine, user);
                place.is_provisional = told.name.is_none() && self.is_asked();
                place
            }
        };
        place.note_instance(attribute::CONTAINER_ID, &innermost.id);
        if let Some(container) = outer.first() {
            self.nest(&mut place, container, user);
        }
        Some(place)
    }

    fn tasks(&self, clients: &Clients, changed: &Changed) -> Vec<Task> {
        engine::tasks(&clients.sockets, &clients.run, &self.shared, changed)
    }

    fn facts(&self) -> Vec<Fact> {
        lock(&self.shared.facts).values().cloned().collect()
    }
}

impl Docker {
    /// What an engine told; only a user's own engine knows of that user's containers, and of no others.
    fn told(&self, id: &str, user: Option<u32>) -> Option<(Source, Known)> {
        lock(&self.shared.containers).get(id).filter(|(source, _)| source.user == user).cloned()
    }

    fn is_asked(&self) -> bool {
        self.shared.is_asked.load(Ordering::Relaxed)
    }

    /// Puts a container behind the one that it runs in.
    fn nest(&self, place: &mut Place, outer: &Container, user: Option<u32>) {
        let around = match self.told(&outer.id, user) {
            Some((source, known)) => of_known(&known, source).place,
            None => None,
        };
        let around = around.unwrap_or_else(|| short(&outer.id));
        if let Some(inner) = &place.place {
            place.place = Some(format!("{around}/{inner}"));
        }
        place.within = Some(match &place.within {
            Some(inner) => format!("{around}/{inner}"),
            None => around,
        });
    }
}

/// The containers of a process beyond those that the controller stands in itself: a controller on a
/// node that is a container (kind) has all others around it too.
pub(super) fn beyond<'a>(containers: &'a [Container], own: &[String]) -> &'a [Container] {
    let around = own.split_last().map_or(&[][..], |(_, around)| around);
    let shared = containers.iter().zip(around).take_while(|(theirs, ours)| theirs.id == **ours);
    containers.get(shared.count()..).unwrap_or_default()
}

fn of_known(known: &Known, source: Source) -> Place {
    let label = |name: &str| known.labels.get(name).filter(|value| !value.is_empty());
    let service = SERVICES.iter().find_map(|(group, member)| {
        let member = label(member)?;
        match (group.is_empty(), label(group)) {
            (true, _) => Some((None, member.clone())),
            (false, group) => Some((Some(group?.clone()), member.clone())),
        }
    });
    let name = match &service {
        Some((Some(group), member)) => format!("{group}-{member}"),
        Some((None, member)) => member.clone(),
        None => known.name.clone(),
    };
    let name = clean(&name, MAX_NAME);
    let mut place = place(source.engine, source.user, Some(&name).filter(|name| !name.is_empty()));
    // The number of a replica is not the workload's.
    match service {
        Some(_) => place.note_instance(attribute::CONTAINER_NAME, &known.name),
        None => place.note(attribute::CONTAINER_NAME, &known.name),
    }
    let group = service
        .and_then(|(group, _)| group)
        .or_else(|| label("com.docker.stack.namespace").cloned());
    place.declared = super::declared(known.labels.iter());
    if let Some(group) = group {
        place.declared.namespace.get_or_insert(clean(&group, MAX_NAME));
    }
    if let Some(image) = &known.image {
        place.note(attribute::CONTAINER_IMAGE_NAME, image);
    }
    let labels = known.labels.iter().filter(|(name, _)| !PASSING_LABELS.contains(&name.as_str()));
    for (name, value) in labels.take(super::MAX_LABELS) {
        place.note(&format!("{}{name}", attribute::CONTAINER_LABEL), value);
    }
    place
}

fn of_told(told: &bundle::Told, engine: Option<Engine>, user: Option<u32>) -> Place {
    let engine = told.engine.or(engine);
    let name = match (&told.namespace, &told.name) {
        (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
        (_, name) => name.clone(),
    };
    let mut place = place(engine.unwrap_or(Engine::Docker), user, name.as_ref());
    if engine.is_none() {
        place.attributes.clear();
    }
    if let Some(name) = &told.name {
        place.name = Some(name.clone());
        place.note(attribute::CONTAINER_NAME, name);
    }
    if let Some(image) = &told.image {
        place.note(attribute::CONTAINER_IMAGE_NAME, image);
    }
    place
}

fn place(engine: Engine, user: Option<u32>, name: Option<&String>) -> Place {
    let of_user = user.map(|user| format!("user-{user}"));
    let mut place = Place {
        platform: Some(workload::Platform::Docker),
        manager: match engine {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
            Engine::Containerd => "containerd",
            Engine::CriO => "cri-o",
        },
        place: name.map(|name| match &of_user {
            Some(user) => format!("{user}/{name}"),
            None => name.clone(),
        }),
        within: of_user,
        name: name.cloned(),
        ..Place::default()
    };
    place.note(attribute::CONTAINER_RUNTIME_NAME, engine.name());
    place
}

/// The short form of an id that engines print.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

#[cfg(test)]
mod tests;
