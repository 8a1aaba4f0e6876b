//! From a workload to the plan of its change: which object, and what the agent in it is told.

use super::Running;
use crate::config::{Agents, Token};
use contract::attribute;
use contract::workload::{Key, Observed, Platform};
use injector::bundle::Bundle;
use injector::environment::Injection;
use injector::plan::{ByHand, Plan, Refusal};
use injector::{Member, Target, Workload};
use std::collections::BTreeMap;
use std::path::Path;

impl Running {
    /// The object to change, and its change.
    pub(super) fn plan(&mut self, observed: &Observed) -> Result<(Target, Plan), Refusal> {
        // Nothing is laid down for what cannot be changed anyway.
        let target = target(observed)?;
        let bundle = match (&target, &self.parts.agents) {
            (Target::Pods { .. }, Ok(agents)) => agents.bundle.clone(),
            _ => self.bundle()?,
        };
        let agents = self.parts.agents.as_ref();
        let agents = agents.map_err(|reason| Refusal::blocked("no_agent", reason.clone()))?;
        let injection = injection(agents, bundle, observed, &self.parts.host_name);
        let runtime = observed.instances.iter().find_map(|instance| instance.runtime.as_ref());
        let runtime =
            (runtime.map(|it| it.name.as_str()), runtime.and_then(|it| it.version.as_deref()));
        let plan = self.parts.hands.plan(&target, runtime, &injection)?;
        Ok((target, plan))
    }

    /// The directory of the bundle, as programs of the node see it; laid down when it is first needed.
    fn bundle(&mut self) -> Result<String, Refusal> {
        if let Some(bundle) = &self.bundle {
            return Ok(bundle.clone());
        }
        let agents = self.parts.agents.as_ref();
        let agents = agents.map_err(|reason| Refusal::blocked("no_agent", reason.clone()))?;
        let cannot = |error: &dyn std::fmt::Display| {
            Refusal::not_now(
                "no_bundle",
                format!(
                    "The SDK cannot be laid down at {}: {error}; name a place with --agent-bundle that can be written.",
                    agents.bundle
                ),
            )
        };
        let embedded = Bundle::embedded().map_err(|error| cannot(&error))?;
        let Some(embedded) = embedded else {
            return Err(Refusal::blocked(
                "no_bundle",
                "This controller was built without the SDK; install a released one, or run `./dev agents` before building.",
            ));
        };
        let link = self.parts.root.join(agents.bundle.trim_start_matches('/'));
        let directory = embedded.install(&link).map_err(|error| cannot(&error))?;
        let below = directory.strip_prefix(&self.parts.root).unwrap_or(&directory);
        let bundle = Path::new("/").join(below).display().to_string();
        self.bundle = Some(bundle.clone());
        Ok(bundle)
    }
}

/// What a key says beside the scope that it holds in.
pub(super) fn place_of(key: &Key) -> &str {
    key.0.split_once('/').map_or("", |(_, place)| place)
}

/// The object of its platform that is to be changed.
pub(super) fn target(observed: &Observed) -> Result<Target, Refusal> {
    let place = place_of(&observed.key);
    match observed.platform {
        Platform::Systemd => match place.strip_prefix("systemd:") {
            Some(unit) => Ok(Target::Unit(unit.to_owned())),
            None => Err(Refusal::unsupported(
                "no_unit",
                "It is no unit that systemd could restart; put `sonde run --` before its command.",
            )),
        },
        Platform::Process => Err(bare_process(observed)),
        Platform::Docker => {
            let service = "container.label.com.docker.compose.service";
            let service = observed.attributes.get(service).cloned();
            Ok(Target::Containers { members: members(observed), service })
        }
        Platform::Kubernetes => {
            let (workload, container) = Workload::of_place(place)?;
            let first = observed.instances.iter().map(|instance| instance.pid).min();
            Ok(Target::Pods { workload, container, pid: first.unwrap_or_default() })
        }
    }
}

/// The containers that the instances of a workload run in, each with its first process.
fn members(observed: &Observed) -> Vec<Member> {
    let mut first = BTreeMap::new();
    for instance in &observed.instances {
        let Some(id) = instance.attributes.get(attribute::CONTAINER_ID) else { continue };
        let pid = first.entry(id.clone()).or_insert(instance.pid);
        *pid = instance.pid.min(*pid);
    }
    first.into_iter().map(|(id, pid)| Member { id, pid }).collect()
}

/// A bare process is restarted by whoever started it: this is what they type.
fn bare_process(observed: &Observed) -> Refusal {
    let first = observed.instances.iter().min_by_key(|instance| instance.pid);
    let mut line = "sonde run --".to_owned();
    match first {
        Some(first) if !first.arguments.is_empty() => {
            for word in &first.arguments {
                line.push(' ');
                line.push_str(&quoted(word));
            }
            if !first.directory.is_empty() {
                line = format!("cd {} && {line}", quoted(&first.directory));
            }
        }
        _ => line.push_str(" COMMAND"),
    }
    let reason = "It is a bare process, which is never restarted; start it yourself with `sonde run --` before its command.";
    let way = ByHand { tool: "a shell".to_owned(), text: line };
    Refusal { by_hand: vec![way], ..Refusal::unsupported("bare_process", reason) }
}

/// A word as a shell reads it (POSIX.1-2024, section 2.2.2 of "Shell Command Language").
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "%+,-./:=@_".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What the agent in a workload is told.
fn injection(agents: &Agents, bundle: String, observed: &Observed, host_name: &str) -> Injection {
    let mut attributes = vec![("host.name".to_owned(), host_name.to_owned())];
    let environment = observed.attributes.get(attribute::DEPLOYMENT_ENVIRONMENT_NAME);
    if let Some(environment) = environment.or(agents.environment.as_ref()) {
        attributes.push((attribute::DEPLOYMENT_ENVIRONMENT_NAME.to_owned(), environment.clone()));
    }
    Injection {
        bundle,
        endpoint: agents.endpoint.clone(),
        headers: agents
            .headers
            .iter()
            .map(|(name, Token(value))| (name.clone(), value.clone()))
            .collect(),
        workload_key: observed.key.0.clone(),
        service_name: Some(observed.name.clone()),
        attributes,
        capture_content: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::workload::Instance;

    fn process(instances: Vec<Instance>) -> Observed {
        let told = serde_json::json!({ "key": "host-1/process:1", "name": "app.py",
            "platform": "process", "instances": [], "evidence": [], "level": "off",
            "state": "discovered", "reason": "", "first_seen_unix_nanos": 0,
            "last_seen_unix_nanos": 0 });
        Observed { instances, ..serde_json::from_value(told).unwrap() }
    }

    #[test]
    fn a_bare_process_is_answered_with_the_line_to_type() {
        let words = ["/srv/venv/bin/python", "app.py", "--name", "it's $HOME", ""];
        let instance = Instance {
            pid: 7,
            directory: "/srv/my app".to_owned(),
            arguments: words.map(str::to_owned).to_vec(),
            ..Instance::default()
        };
        let refusal = target(&process(vec![instance])).unwrap_err();
        assert_eq!(refusal.code, "bare_process");
        assert_eq!(
            refusal.by_hand[0].text,
            r"cd '/srv/my app' && sonde run -- /srv/venv/bin/python app.py --name 'it'\''s $HOME' ''"
        );
        let none = target(&process(Vec::new())).unwrap_err();
        assert_eq!(none.by_hand[0].text, "sonde run -- COMMAND");
    }
}
