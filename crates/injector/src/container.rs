//! Containers of Docker and Podman: what a person does to bring the agent in.
//!
//! A container cannot be changed, only made anew, and what it wrote into its own layer is lost then.
//! So nothing is done to it here; what there is to do is said exactly, for `docker compose` where
//! that made it, else for `docker run`.

use crate::environment::{self, Injection};
use crate::plan::{ByHand, Refusal};
use crate::program::{self, Program};

/// A running container, as far as it shows from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// The service of `docker compose` that it is one of.
    pub service: Option<String>,
    /// Its first process.
    pub pid: u32,
}

/// What is shown in place of a secret.
const HIDDEN: &str = "***";

/// Why a container is not changed, with what a person can do instead.
pub(crate) fn refuse(
    container: &Container,
    program: &Program,
    (is_on_node_network, injection): (bool, &Injection),
) -> Refusal {
    if let Err(refusal) = program::check(program) {
        return refusal;
    }
    if !is_on_node_network && is_loopback(&injection.endpoint) {
        return Refusal::unsupported(
            "unreachable_endpoint",
            format!(
                "The container has a network of its own, in which {} is the container itself; start \
                 Sonde with --agent-endpoint URL, an address of this machine that containers reach.",
                injection.endpoint
            ),
        );
    }
    let how = match &container.service {
        Some(service) => {
            ByHand { tool: "docker compose".to_owned(), text: compose(service, program, injection) }
        }
        None => ByHand { tool: "docker run".to_owned(), text: flags(program, injection) },
    };
    let reason = "A container is changed by making it anew, which this version leaves to you, \
                  because what it wrote into its own layer is lost; the lines below do it.";
    Refusal { by_hand: vec![how], ..Refusal::unsupported("container", reason) }
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    ["127.", "localhost", "[::1]"].iter().any(|start| host.starts_with(start))
}

fn variables(program: &Program, injection: &Injection) -> Vec<(&'static str, String)> {
    let all = environment::environment(&program.environment, injection);
    let shown = all.into_iter().map(|change| match change.secret {
        true => (change.name, HIDDEN.to_owned()),
        false => (change.name, change.after),
    });
    shown.collect()
}

const TOKEN: &str =
    "# *** is authorization=Bearer%20TOKEN; `sonde tokens create --kind ingest` makes a token\n";

/// A file that Compose lays over its own.
fn compose(service: &str, program: &Program, injection: &Injection) -> String {
    let mut text =
        format!("# compose.sonde.yaml\n{TOKEN}services:\n  {}:\n    environment:\n", yaml(service));
    for (name, value) in variables(program, injection) {
        // Compose expands a dollar in every value.
        text.push_str(&format!("      {name}: {}\n", yaml(&value.replace('$', "$$"))));
    }
    let bundle = yaml(&injection.bundle);
    text.push_str(&format!(
        "    volumes:\n      - type: bind\n        source: {bundle}\n        target: {bundle}\n        \
         read_only: true\n\n# then, with the files that it was started with:\n# docker compose -f \
         compose.yaml -f compose.sonde.yaml up --detach {}\n",
        shell(service)
    ));
    text
}

fn flags(program: &Program, injection: &Injection) -> String {
    let mut text = format!("{TOKEN}# further flags of `docker run`:\n");
    text.push_str(&format!("--volume {} \\\n", shell(&format!("{0}:{0}:ro", injection.bundle))));
    let all = variables(program, injection);
    let lines: Vec<String> = all
        .iter()
        .map(|(name, value)| format!("--env {}", shell(&format!("{name}={value}"))))
        .collect();
    text.push_str(&lines.join(" \\\n"));
    text.push('\n');
    text
}

/// A JSON string is a double-quoted scalar of YAML 1.2.
fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn shell(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Kind;
    use std::collections::BTreeMap;

    fn program() -> Program {
        Program {
            runtime: Some("cpython".to_owned()),
            version: Some("3.12.1".to_owned()),
            arguments: vec!["python3".to_owned(), "app.py".to_owned()],
            environment: BTreeMap::from([("PYTHONPATH".to_owned(), "/srv/$x".to_owned())]),
            maps: String::new(),
        }
    }

    fn injection() -> Injection {
        Injection {
            bundle: "/usr/lib/sonde/agents/cpython-1".to_owned(),
            endpoint: "http://10.0.0.1:4318".to_owned(),
            headers: vec![("authorization".to_owned(), "Bearer sonde_secret".to_owned())],
            workload_key: "h/docker:a".to_owned(),
            ..Injection::default()
        }
    }

    fn text(container: &Container) -> String {
        let refusal = refuse(container, &program(), (false, &injection()));
        assert_eq!((refusal.kind, refusal.code.as_str()), (Kind::Unsupported, "container"));
        refusal.by_hand[0].text.clone()
    }

    #[test]
    fn compose_gets_a_file_and_others_get_flags_without_secrets() {
        let compose = text(&Container { service: Some("web".to_owned()), pid: 1 });
        assert!(
            compose.contains(
                "      PYTHONPATH: \"/usr/lib/sonde/agents/cpython-1/bootstrap:/srv/$$x\"\n"
            ),
            "{compose}"
        );
        assert!(compose.contains("        read_only: true\n"), "{compose}");
        let run = text(&Container::default());
        assert!(
            run.contains(
                "--volume '/usr/lib/sonde/agents/cpython-1:/usr/lib/sonde/agents/cpython-1:ro'"
            ),
            "{run}"
        );
        assert!(
            run.contains("--env 'PYTHONPATH=/usr/lib/sonde/agents/cpython-1/bootstrap:/srv/$x'"),
            "{run}"
        );
        for text in [compose, run] {
            assert!(!text.contains("sonde_secret"), "{text}");
        }
    }

    #[test]
    fn an_endpoint_that_containers_do_not_reach_is_said() {
        let own = Injection { endpoint: "http://127.0.0.1:4318".to_owned(), ..injection() };
        let container = Container::default();
        assert_eq!(refuse(&container, &program(), (false, &own)).code, "unreachable_endpoint");
        assert_eq!(refuse(&container, &program(), (true, &own)).code, "container");
        let traced = Program { arguments: vec!["ddtrace-run".to_owned()], ..program() };
        assert_eq!(refuse(&container, &traced, (true, &own)).kind, Kind::Conflict);
    }
}
