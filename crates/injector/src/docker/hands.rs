//! Plans a change of containers, makes it, looks at it, and takes it back.

use super::by_hand::{Secrets, by_hand, compose};
use super::engine::{Engine, Failure};
use super::preflight::{self, Around, name};
use super::recreate;
use super::specification::texts;
use super::{Change, Laid, Member, Part, health};
use crate::environment::{self, Injection};
use crate::hands::{Hands, Health, Undone};
use crate::plan::{self, Plan, Refusal};
use crate::program;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

impl Hands {
    /// Thinks a change of containers through: another one of each is made, compared, and removed.
    pub(crate) fn plan_containers(
        &self,
        (members, service): (&[Member], Option<&str>),
        runtime: (Option<&str>, Option<&str>),
        injection: &Injection,
    ) -> Result<Plan, Refusal> {
        let first = members.first().map_or(0, |member| member.pid);
        let program = self.program(first, runtime);
        for member in members {
            program::check(&self.program(member.pid, runtime))?;
            preflight::reachable(self.is_on_node_network(member.pid), &injection.endpoint)?;
        }
        let by_hand = vec![by_hand(service, &program, injection)];
        let with_lines = |refusal: Refusal| Refusal { by_hand: by_hand.clone(), ..refusal };
        let planned = self.runtime.block_on(self.parts(members, injection));
        let (socket, parts, mut findings) = planned.map_err(with_lines)?;
        findings.extend(program::findings(&program));
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        let mut restart = format!(
            "Another container takes the place of {}; that one is stopped, and is kept until the new one has been well for a while.",
            names.join(", ")
        );
        let laid = service.zip(self.files.as_deref()).map(|(service, directory)| {
            let project = label(&parts, "com.docker.compose.project");
            let text = compose(service, &program, (injection, Secrets::Told));
            Laid::of(directory, (&project, service), text)
        });
        if let Some(laid) = &laid {
            restart.push_str(&format!(
                " The file for Compose is laid at {}, for its owner alone.",
                laid.path.display()
            ));
        }
        let change = plan::Change::Docker(Box::new(Change { socket, parts, compose: laid }));
        Ok(Plan { change, findings, restart, by_hand })
    }

    fn is_on_node_network(&self, pid: u32) -> bool {
        let theirs = fs::read_link(self.process(pid).join("ns/net")).ok();
        theirs == fs::read_link("/proc/self/ns/net").ok()
    }

    async fn parts(
        &self,
        members: &[Member],
        injection: &Injection,
    ) -> Result<(PathBuf, Vec<Part>, Vec<plan::Finding>), Refusal> {
        let Some(first) = members.first() else {
            return Err(Refusal::not_now(
                "unknown_container",
                "Nobody has told yet which container it runs in; look again in a moment.",
            ));
        };
        let (socket, engine) = self.engine_of(&first.id).await?;
        let (mut parts, mut findings) = (Vec::new(), Vec::new());
        for member in members {
            let around = around(&engine, &member.id).await.map_err(unanswered)?;
            preflight::refuse(&around)?;
            if engine.is_podman().await.map_err(unanswered)? {
                return Err(preflight::unproven(&around.inspect));
            }
            let part = part(around.inspect, injection);
            recreate::rehearse(&engine, &part).await?;
            findings.extend(preflight::findings(&part.before));
            parts.push(part);
        }
        Ok((socket, parts, findings))
    }

    /// The engine that a container belongs to.
    async fn engine_of(&self, id: &str) -> Result<(PathBuf, Engine), Refusal> {
        let mut said = Vec::new();
        for socket in &self.engines {
            let engine = Engine::at(socket);
            match engine.find(id).await {
                Ok(Some(_)) => return Ok((socket.clone(), engine)),
                Ok(None) => said.push(format!("the one at {} does not", socket.display())),
                Err(failure) => said.push(failure.to_string()),
            }
        }
        Err(Refusal::unsupported(
            "no_engine",
            format!(
                "No engine that Sonde may speak to knows this container ({}); let Sonde open the engine's socket, or use the lines below.",
                said.join("; ")
            ),
        ))
    }

    /// Puts new containers in the places of the old ones, one after the other.
    pub(crate) fn make_containers(&self, change: &Change) -> Result<(), String> {
        if let Some(laid) = &change.compose {
            laid.write()
                .map_err(|error| format!("Cannot write {}: {error}.", laid.path.display()))?;
        }
        let engine = Engine::at(&change.socket);
        self.runtime.block_on(async {
            for part in &change.parts {
                recreate::make(&engine, part).await?;
            }
            Ok(())
        })
    }

    /// How the new ones are doing.
    pub(crate) fn containers_health(&self, change: &Change) -> Result<Health, String> {
        let engine = Engine::at(&change.socket);
        let looked = self.runtime.block_on(async {
            let mut all = Vec::new();
            for part in &change.parts {
                let ours = recreate::ours(&engine, part).await?;
                let ended = ours.as_ref().filter(|ours| ours["State"]["Status"] == "exited");
                let was_stopped = match ended.and_then(|ended| ended["Id"].as_str()) {
                    Some(id) => engine.was_stopped(id).await,
                    None => false,
                };
                let mut health = health::health(part, ours.as_ref(), was_stopped);
                if let (Health::Bad(reason), Some(ours)) = (&mut health, &ours) {
                    reason.push_str(&engine.log(ours).await);
                }
                all.push(health);
            }
            Ok(health::together(all))
        });
        looked.map_err(|failure: Failure| format!("Cannot look at the containers: {failure}."))
    }

    /// Removes the old ones.
    pub(crate) fn settle_containers(&self, change: &Change) -> Result<(), String> {
        let engine = Engine::at(&change.socket);
        self.runtime.block_on(async {
            for part in &change.parts {
                recreate::settle(&engine, part).await?;
            }
            Ok(())
        })
    }

    /// Puts the old ones back, or ones that are made from the same.
    pub(crate) fn undo_containers(&self, change: &Change, revive: bool) -> Result<Undone, String> {
        let engine = Engine::at(&change.socket);
        self.runtime.block_on(async {
            let mut kept = Vec::new();
            for part in &change.parts {
                if let Undone::Ours(what) = recreate::undo(&engine, part, revive).await? {
                    kept.push(what);
                }
            }
            if let Some(laid) = &change.compose {
                laid.remove()
                    .map_err(|error| format!("Cannot remove {}: {error}.", laid.path.display()))?;
            }
            Ok(if kept.is_empty() { Undone::Exactly } else { Undone::Ours(kept.join("; ")) })
        })
    }
}

/// A label that all of them have.
fn label(parts: &[Part], name: &str) -> String {
    let labels = parts.first().map(|part| &part.before["Config"]["Labels"]);
    labels.and_then(|labels| labels[name].as_str()).unwrap_or_default().to_owned()
}

/// What the engine says around a container.
async fn around(engine: &Engine, id: &str) -> Result<Around, Failure> {
    let inspect = engine.inspect(id).await?;
    let mut others = Vec::new();
    for other in engine.list(None).await? {
        let other = other["Id"].as_str().unwrap_or_default();
        // One may be gone by the time that it is asked for.
        others.extend(engine.find(other).await?.filter(|_| other != id));
    }
    let image = inspect["Image"].as_str().unwrap_or_default();
    Ok(Around {
        changes: engine.changes(id).await?,
        has_image: engine.image(image).await?.is_some(),
        inspect,
        others,
    })
}

fn part(before: Value, injection: &Injection) -> Part {
    let mut effective = BTreeMap::new();
    for pair in texts(&before["Config"]["Env"]) {
        let (variable, value) = pair.split_once('=').unwrap_or((&pair, ""));
        effective.insert(variable.to_owned(), value.to_owned());
    }
    let variables = environment::environment(&effective, injection);
    let variables = variables.into_iter().map(|it| (it.name.to_owned(), it.after));
    Part {
        name: name(&before).to_owned(),
        id: before["Id"].as_str().unwrap_or_default().to_owned(),
        variables: variables.collect(),
        bundle: injection.bundle.clone(),
        before,
    }
}

fn unanswered(failure: Failure) -> Refusal {
    Refusal::not_now("no_answer", format!("The engine does not say what it has: {failure}."))
}
