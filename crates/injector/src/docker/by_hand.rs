//! What a person does to bring the agent into a container: for `docker compose` where that made it,
//! else for `docker run`.

use super::HIDDEN;
use crate::environment::{self, Injection};
use crate::plan::ByHand;
use crate::program::Program;

/// How a person does it, for a container of this service of `docker compose`, or of none.
pub(super) fn by_hand(service: Option<&str>, program: &Program, injection: &Injection) -> ByHand {
    match service {
        Some(service) => ByHand {
            tool: "docker compose".to_owned(),
            text: compose(service, program, (injection, Secrets::Hidden)),
        },
        None => ByHand { tool: "docker run".to_owned(), text: flags(program, injection) },
    }
}

/// Whether what is secret stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    Hidden,
    Told,
}

fn variables(
    program: &Program,
    (injection, secrets): (&Injection, Secrets),
) -> Vec<(&'static str, String)> {
    let all = environment::environment(&program.environment, injection);
    let shown = all.into_iter().map(|change| match change.secret && secrets == Secrets::Hidden {
        true => (change.name, HIDDEN.to_owned()),
        false => (change.name, change.after),
    });
    shown.collect()
}

const TOKEN: &str =
    "# *** is authorization=Bearer%20TOKEN; `sonde tokens create --kind ingest` makes a token\n";

/// A file that Compose lays over its own.
pub(super) fn compose(
    service: &str,
    program: &Program,
    (injection, secrets): (&Injection, Secrets),
) -> String {
    let token = if secrets == Secrets::Hidden { TOKEN } else { "" };
    let mut text =
        format!("# compose.sonde.yaml\n{token}services:\n  {}:\n    environment:\n", yaml(service));
    for (name, value) in variables(program, (injection, secrets)) {
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
    let all = variables(program, (injection, Secrets::Hidden));
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

    fn text(service: Option<&str>) -> String {
        by_hand(service, &program(), &injection()).text
    }

    #[test]
    fn compose_gets_a_file_and_others_get_flags_without_secrets() {
        let compose = text(Some("web"));
        assert!(
            compose.contains(
                "      PYTHONPATH: \"/usr/lib/sonde/agents/cpython-1/bootstrap:/srv/$$x\"\n"
            ),
            "{compose}"
        );
        assert!(compose.contains("        read_only: true\n"), "{compose}");
        let run = text(None);
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
        let laid = super::compose("web", &program(), (&injection(), Secrets::Told));
        assert!(laid.contains("Bearer%20sonde_secret") && !laid.contains("***"), "{laid}");
    }
}
