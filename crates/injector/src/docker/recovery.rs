//! What was there before containers were made anew, in short, and the change made out again from that
//! and from what the engine says of them now.

use super::engine::{Engine, Failure};
use super::preflight::name;
use super::specification::{lost, texts, without_agent};
use super::{Change, Part, recreate};
use crate::environment;
use crate::hands::Hands;
use contract::before::{Before, Container, Variable, Was};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

impl Change {
    /// What was there before: of all that a container was made from only what was touched.
    pub(crate) fn before(&self) -> Before {
        let shown: Vec<String> = self.parts.iter().map(Part::shown_before).collect();
        let containers = self.parts.iter().map(Part::was).collect();
        Before { shown: shown.join("\n"), was: Was::Containers { containers } }
    }
}

impl Part {
    fn was(&self) -> Container {
        let pairs = texts(&self.before["Config"]["Env"]);
        let of = |pair: &String| pair.split('=').next().unwrap_or_default().to_owned();
        let one = |set: &String| {
            let value = pairs.iter().find_map(|pair| pair.strip_prefix(&format!("{set}=")));
            let was = match value {
                None => Variable::Absent,
                Some(_) if set == environment::HEADERS => Variable::Hidden,
                Some(value) => Variable::Value(value.to_owned()),
            };
            (set.clone(), was)
        };
        Container {
            id: self.id.clone(),
            image: self.before["Config"]["Image"].as_str().unwrap_or_default().to_owned(),
            environment: pairs.iter().map(of).collect(),
            variables: self.variables.keys().map(one).collect(),
        }
    }

    fn shown_before(&self) -> String {
        let was = self.was();
        let mut lines = vec![format!("container {} was {}, of {}", self.name, self.id, was.image)];
        lines.extend(was.variables.iter().map(|(name, was)| match was {
            Variable::Absent => format!("{name} was not set"),
            Variable::Hidden => format!("{name} was set"),
            Variable::Value(value) => format!("{name} was {value}"),
        }));
        lines.push(format!("{} was not mounted", self.bundle));
        lines.join("\n")
    }
}

impl Hands {
    /// The change of containers that nobody has notes of any more, by what their engines say;
    /// nothing when none of them is there.
    pub(crate) fn recover_containers(
        &self,
        containers: &[Container],
    ) -> Result<Option<Change>, String> {
        let mut failed = None;
        for socket in &self.engines {
            match self.runtime.block_on(found(socket, containers)) {
                Ok(parts) if parts.is_empty() => {}
                Ok(parts) => {
                    let socket = socket.clone();
                    return Ok(Some(Change { socket, parts, compose: None }));
                }
                Err(failure) => failed = Some(failure),
            }
        }
        match failed {
            Some(failure) => Err(format!("Cannot look at the containers: {failure}.")),
            None => Ok(None),
        }
    }
}

async fn found(socket: &Path, containers: &[Container]) -> Result<Vec<Part>, Failure> {
    let engine = Engine::at(socket);
    let mut parts = Vec::new();
    // An id goes into a label and a path: one that is none is nobody's.
    for was in containers.iter().filter(|was| is_id(&was.id)) {
        let blank = Part {
            name: String::new(),
            id: was.id.clone(),
            before: Value::Null,
            variables: BTreeMap::new(),
            bundle: String::new(),
        };
        let Some(ours) = recreate::ours(&engine, &blank).await? else { continue };
        let old = engine.find(&was.id).await?;
        parts.push(part(was, &ours, old));
    }
    Ok(parts)
}

/// Whether a text is the id of a container.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The change of one container, from what stands in its place; `old` is itself, while it is kept.
fn part(was: &Container, ours: &Value, old: Option<Value>) -> Part {
    let pairs = texts(&ours["Config"]["Env"]);
    let now = |name: &str| {
        pairs.iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    let set = was.variables.keys().filter(|name| environment::NAMES.contains(&name.as_str()));
    let variables: BTreeMap<String, String> =
        set.filter_map(|name| Some((name.clone(), now(name)?))).collect();
    let bundle = variables.get(environment::PYTHONPATH).and_then(|path| path.split(':').next());
    let bundle = bundle.and_then(|path| path.strip_suffix(environment::BOOTSTRAP));
    let bundle = bundle.map_or("", |path| path.trim_end_matches('/')).to_owned();
    let place = recreate::place(name(ours)).to_owned();
    let mut part = Part { name: place, id: was.id.clone(), before: Value::Null, variables, bundle };
    if let Some(mut old) = old {
        // It was told not to start anew by itself.
        old["HostConfig"]["RestartPolicy"] = ours["HostConfig"]["RestartPolicy"].clone();
        part.before = old;
        return part;
    }
    part.before = json!({"Config": {"Env": believed(was, &part.variables)}});
    let mut before = without_agent(ours, &part);
    before["Config"]["Env"] = json!(in_order(&was.environment, texts(&before["Config"]["Env"])));
    if !was.image.is_empty() {
        before["Config"]["Image"] = json!(was.image);
    }
    debug_assert!(
        lost(&before, &without_agent(ours, &part)).is_empty(),
        "it is what is left of ours"
    );
    part.before = before;
    part
}

/// What of the values of before is in effect now, beside what is ours: nobody can have anything else
/// put into a program by way of them.
fn believed(was: &Container, variables: &BTreeMap<String, String>) -> Vec<String> {
    let told = was.variables.iter().filter_map(|(name, was)| match was {
        Variable::Value(value) => Some((name, value)),
        Variable::Absent | Variable::Hidden => None,
    });
    told.filter(|(name, value)| {
        let now = variables.get(*name);
        now.is_some_and(|now| environment::is_within(name, value, now))
    })
    .map(|(name, value)| format!("{name}={value}"))
    .collect()
}

/// The same variables in the order of before, where they are the same.
fn in_order(names: &[String], mut pairs: Vec<String>) -> Vec<String> {
    let name = |pair: &String| pair.split('=').next().unwrap_or_default().to_owned();
    let mut known: Vec<&String> = names.iter().collect();
    let now: Vec<String> = pairs.iter().map(name).collect();
    let mut there: Vec<&String> = now.iter().collect();
    known.sort();
    there.sort();
    if known == there {
        pairs.sort_by_key(|pair| names.iter().position(|it| *it == name(pair)));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "aaaaaaaaaaaa0123456789012345678901234567890123456789012345678901";

    fn made() -> Part {
        let before = json!({
            "Id": OLD, "Name": "/web", "Image": "sha256:1",
            "Config": {
                "Hostname": "web-1", "Image": "python:1", "Labels": {"team": "x"},
                "Env": ["PYTHONPATH=/srv/lib", "API_KEY=sk-secret", "SONDE_AGENT_HEADERS=a=secret"],
            },
            "HostConfig": {"NetworkMode": "bridge", "Binds": ["/srv:/srv:ro"],
                "RestartPolicy": {"Name": "always"}},
            "Mounts": [{"Type": "bind", "Source": "/srv", "Destination": "/srv", "RW": false}],
        });
        let variables = [
            ("PYTHONPATH", "/agents/python/bootstrap:/srv/lib"),
            ("OTEL_SERVICE_NAME", "web"),
            ("SONDE_AGENT_HEADERS", "authorization=Bearer%20sonde_token"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Part {
            name: "web".to_owned(),
            id: OLD.to_owned(),
            before,
            variables: variables.into(),
            bundle: "/agents/python".to_owned(),
        }
    }

    fn ours(part: &Part) -> Value {
        let mut ours = part.wished();
        ours["Id"] = json!("b".repeat(64));
        ours
    }

    #[test]
    fn what_is_told_has_what_was_touched_and_no_secret() {
        let change =
            Change { socket: "/run/docker.sock".into(), parts: vec![made()], compose: None };
        let told = serde_json::to_string(&change.before()).unwrap();
        assert!(told.contains("/srv/lib"), "{told}");
        for secret in ["sk-secret", "a=secret", "sonde_token"] {
            assert!(!told.contains(secret), "{told}");
        }
    }

    #[test]
    fn a_change_is_made_out_again_from_what_stands_in_the_place() {
        let mut made = made();
        // What nobody tells cannot be put back.
        let env = json!(["PYTHONPATH=/srv/lib", "API_KEY=sk-secret"]);
        made.before["Config"]["Env"] = env.clone();
        let again = part(&made.was(), &ours(&made), None);
        assert_eq!(lost(&made.before, &again.before), [""; 0]);
        assert_eq!(again.before["Config"]["Env"], env, "in the order of before");
        assert_eq!(again.before["Config"]["Image"], "python:1");
        assert_eq!((&again.name, &again.bundle), (&made.name, &made.bundle));
        assert_eq!(again.variables, made.variables);
        // While the first one is kept, all of it is known but that it was told to rest.
        let mut old = made.before.clone();
        old["HostConfig"]["RestartPolicy"]["Name"] = json!("no");
        let again = part(&made.was(), &ours(&made), Some(old));
        assert_eq!(again.before, made.before);
    }

    #[test]
    fn nothing_gets_into_a_program_by_way_of_what_is_told() {
        let made = made();
        let mut was = made.was();
        was.id = "../etc".to_owned();
        assert!(!is_id(&was.id));
        let evil = ["PYTHONPATH", "OTEL_SERVICE_NAME", "SONDE_AGENT_HEADERS", "LD_PRELOAD"];
        for name in evil {
            was.variables.insert(name.to_owned(), Variable::Value("/tmp/evil".to_owned()));
        }
        was.environment = vec!["LD_PRELOAD".to_owned()];
        let again = part(&was, &ours(&made), None);
        assert!(!again.before.to_string().contains("evil"), "{}", again.before);
    }
}
