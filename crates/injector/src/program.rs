//! Which programs the agent can be put into, as far as it shows from outside: before anything is
//! changed. What shows only from within, the agent finds itself, and stands down.

mod interpreter;

use crate::environment;
use crate::plan::Refusal;
pub(crate) use interpreter::findings;
use std::collections::BTreeMap;

/// Oldest Python that the agent runs on.
const OLDEST: (u32, u32) = (3, 9);

/// A program, as it runs now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Program {
    /// Name of its runtime, such as `cpython`; nothing where it is not known.
    pub(crate) runtime: Option<String>,
    /// Version of it.
    pub(crate) version: Option<String>,
    /// Its arguments, the program first.
    pub(crate) arguments: Vec<String>,
    /// Its environment, as it is in effect.
    pub(crate) environment: BTreeMap<String, String>,
    /// Files that are mapped into it.
    pub(crate) maps: String,
}

/// Agents of others: who, and how they show: the beginning of a variable's name, or a part of the
/// name of a mapped file or of an argument.
const AGENTS: [(&str, &[&str], &[&str]); 7] = [
    ("Datadog", &["DD_TRACE_", "DD_INJECT"], &["ddtrace"]),
    ("New Relic", &["NEW_RELIC_"], &["newrelic", "newrelic-admin"]),
    ("Dynatrace", &["DT_AGENT", "ONEAGENT_"], &["liboneagent", "oneagent"]),
    ("Elastic APM", &["ELASTIC_APM_"], &["elasticapm"]),
    ("AppDynamics", &["APPDYNAMICS_", "APPD_"], &["appdynamics", "pyagent"]),
    ("Instana", &["INSTANA_"], &["instana"]),
    (
        "OpenTelemetry",
        &["OTEL_PYTHON_DISTRO", "OTEL_PYTHON_CONFIGURATOR", "OTEL_PYTHON_TRACER_PROVIDER"],
        &["opentelemetry-instrument", "opentelemetry/instrumentation/auto_instrumentation"],
    ),
];

/// Why the agent is not put into a program; `Ok` when nothing is known against it.
pub(crate) fn check(program: &Program) -> Result<(), Refusal> {
    let told = |name: &str| program.environment.get(name).map(String::as_str);
    if told(environment::DISABLED) == Some("1") {
        return Err(Refusal::blocked(
            "disabled",
            "The program's environment says SONDE_DISABLED=1; take that out first.",
        ));
    }
    runtime(program)?;
    if is_frozen(&program.maps) {
        return Err(Refusal::unsupported(
            "frozen",
            "It carries a Python of its own within it, as PyInstaller and its kin make them, which \
             lets nothing in from outside; set it to Network.",
        ));
    }
    flags(program)?;
    if let Some(name) = other_agent(program) {
        return Err(Refusal::conflict(
            "other_agent",
            format!(
                "{name} is in this program already, and two agents in one program break each other; \
                 set it to Network, which needs no agent, or say {}={} in its environment to have \
                 both.",
                environment::BESIDE,
                name.to_lowercase()
            ),
        ));
    }
    Ok(())
}

fn runtime(program: &Program) -> Result<(), Refusal> {
    let network = "set it to Network, which works for every language that OpenSSL encrypts for";
    match program.runtime.as_deref() {
        Some("cpython" | "python") => {}
        Some(other) => {
            return Err(Refusal::unsupported(
                "language",
                format!("There is an agent for CPython alone, and this is {other}; {network}."),
            ));
        }
        None => {
            return Err(Refusal::unsupported(
                "language",
                format!(
                    "It is not known to be a Python program (a frozen one shows no interpreter); {network}."
                ),
            ));
        }
    }
    match program.version.as_deref().and_then(numbers) {
        Some(version) if version < OLDEST => Err(Refusal::unsupported(
            "python_too_old",
            format!(
                "It runs on Python {}.{}, and the agent needs {}.{} at least; {network}.",
                version.0, version.1, OLDEST.0, OLDEST.1
            ),
        )),
        _ => Ok(()),
    }
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    Some((parts.next()??, parts.next()??))
}

/// Whether a program has its interpreter within it, or beside it in its own directory: `PyInstaller`,
/// Nuitka, `cx_Freeze` and the like isolate it from the environment.
fn is_frozen(maps: &str) -> bool {
    // Servers that embed one and honour the environment.
    const OPEN: [&str; 4] = ["python", "pypy", "Python", "uwsgi"];
    let mut paths = maps.lines().filter_map(|line| Some(&line[line.find('/')?..]));
    // The kernel lists the executable first.
    let Some(executable) = paths.next() else { return false };
    let (directory, name) = executable.rsplit_once('/').unwrap_or_default();
    if OPEN.iter().any(|open| name.starts_with(open)) {
        return false;
    }
    match paths.find(|path| path.rsplit('/').next().is_some_and(|it| it.starts_with("libpython"))) {
        Some(library) => {
            let is_beside = library.strip_prefix(directory).is_some_and(|it| it.starts_with('/'));
            is_beside || library.contains("/_MEI")
        }
        None => true,
    }
}

/// Options of the interpreter that keep `PYTHONPATH` or `sitecustomize` out.
fn flags(program: &Program) -> Result<(), Refusal> {
    let mut arguments = program.arguments.iter().map(String::as_str);
    let Some(name) = arguments.next().and_then(|path| path.rsplit('/').next()) else {
        return Ok(());
    };
    // `gunicorn`, `uvicorn` and the like are scripts; their interpreter's options are not theirs.
    if !name.starts_with("python") && !name.starts_with("pypy") {
        return Ok(());
    }
    while let Some(argument) = arguments.next() {
        let Some(letters) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            break;
        };
        if letters.starts_with('-') {
            continue;
        }
        for (at, letter) in letters.char_indices() {
            match letter {
                'I' | 'E' | 'S' => {
                    return Err(Refusal::unsupported(
                        "isolated",
                        format!(
                            "It is started with `python -{letter}`, which keeps every agent out; \
                             leave the option away, or set it to Network."
                        ),
                    ));
                }
                // The program follows; what stands behind is its own.
                'c' | 'm' => return Ok(()),
                'W' | 'X' => {
                    if at + 1 == letters.len() {
                        arguments.next();
                    }
                    break;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn other_agent(program: &Program) -> Option<&'static str> {
    let is_in = |(_, variables, traces): &&(&'static str, &[&str], &[&str])| {
        let by_variable = program.environment.iter().any(|(name, value)| {
            !matches!(value.as_str(), "" | "0" | "false")
                && variables.iter().any(|start| name.starts_with(start))
        });
        let of_path = |path: &str| {
            // A whole part of the path, or the beginning of one: a project that is called
            // `my-ddtrace-demo` has no agent.
            path.split('/').any(|part| {
                traces.iter().any(|trace| {
                    part == *trace
                        || part.strip_prefix(trace).is_some_and(|rest| rest.starts_with(['.', '-']))
                })
            }) || traces.iter().any(|trace| trace.contains('/') && path.contains(trace))
        };
        let by_map = program
            .maps
            .lines()
            .filter_map(|line| line.split_once('/'))
            .any(|(_, path)| of_path(path));
        let by_argument = program.arguments.iter().take(3).any(|argument| of_path(argument))
            && traces.iter().any(|trace| {
                program.arguments.iter().take(3).any(|argument| {
                    argument.rsplit('/').next().is_some_and(|last| last.starts_with(trace))
                })
            });
        let by_path = program
            .environment
            .get(environment::PYTHONPATH)
            .is_some_and(|path| path.split(':').any(of_path));
        by_variable || by_map || by_argument || by_path
    };
    let beside = program.environment.get(environment::BESIDE).map_or("", String::as_str);
    let is_wanted = |name: &str| beside.split(',').any(|one| one.trim().eq_ignore_ascii_case(name));
    AGENTS.iter().filter(|(name, _, _)| !is_wanted(name)).find(is_in).map(|(name, _, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Kind;

    fn python(arguments: &[&str], environment: &[(&str, &str)]) -> Program {
        Program {
            runtime: Some("cpython".to_owned()),
            version: Some("3.11.2".to_owned()),
            arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            maps: String::new(),
        }
    }

    fn code(program: &Program) -> (Kind, String) {
        let refusal = check(program).unwrap_err();
        assert!(refusal.reason.ends_with('.') && refusal.reason.contains(';'), "{refusal:?}");
        (refusal.kind, refusal.code)
    }

    #[test]
    fn isolated_interpreters_are_recognised() {
        for arguments in [
            &["/usr/bin/python3", "-I", "app.py"][..],
            &["python", "-u", "-E", "app.py"],
            &["python3.11", "-uS", "-m", "app"],
            &["python3", "-W", "ignore", "-X", "dev", "-I", "app.py"],
            &["python3", "--check-hash-based-pycs", "-I"],
        ] {
            let found = check(&python(arguments, &[]));
            if arguments.contains(&"--check-hash-based-pycs") {
                continue;
            }
            assert_eq!(found.unwrap_err().code, "isolated", "{arguments:?}");
        }
        for arguments in [
            &["python3", "app.py", "-I"][..],
            &["python3", "-m", "app", "-E"],
            &["python3", "-c", "-S"],
            &["python3", "-WI", "app.py"],
            &["/usr/bin/python3", "-u", "-"],
            &["gunicorn", "-E", "x"],
        ] {
            assert_eq!(check(&python(arguments, &[])), Ok(()), "{arguments:?}");
        }
    }

    #[test]
    fn other_languages_old_pythons_and_frozen_programs_are_unsupported() {
        let old = Program { version: Some("3.8.10".to_owned()), ..python(&["python3"], &[]) };
        assert_eq!(code(&old), (Kind::Unsupported, "python_too_old".to_owned()));
        for runtime in [Some("nodejs".to_owned()), None] {
            let other = Program { runtime, ..python(&["x"], &[]) };
            assert_eq!(code(&other), (Kind::Unsupported, "language".to_owned()));
        }
    }

    #[test]
    fn other_agents_are_a_conflict_and_look_alikes_are_not() {
        let by_maps = |path: &str| Program {
            maps: format!(
                "5f1-5f2 r-xp 0 08:01 1  /usr/bin/python3.11\n7f1-7f2 r-xp 0 08:01 2  {path}\n"
            ),
            ..python(&["python3", "app.py"], &[])
        };
        for program in [
            python(&["python3", "/usr/local/bin/ddtrace-run", "app.py"], &[]),
            python(&["python3", "app.py"], &[("NEW_RELIC_LICENSE_KEY", "x")]),
            python(&["python3", "/opt/v/bin/opentelemetry-instrument", "python", "app.py"], &[]),
            python(
                &["python3"],
                &[("PYTHONPATH", "/opt/v/opentelemetry/instrumentation/auto_instrumentation:/x")],
            ),
            python(&["python3"], &[("OTEL_PYTHON_CONFIGURATOR", "aws")]),
            by_maps("/opt/dynatrace/oneagent/agent/lib64/liboneagentproc.so"),
            by_maps("/usr/lib/python3.11/site-packages/ddtrace/internal/_encoding.cpython-311.so"),
        ] {
            assert_eq!(code(&program), (Kind::Conflict, "other_agent".to_owned()), "{program:?}");
        }
        for program in [
            python(&["python3", "/srv/my-ddtrace-demo/app.py"], &[]),
            python(
                &["python3", "/srv/openlit-demo/app.py"],
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x")],
            ),
            python(&["python3"], &[("DD_TRACE_ENABLED", "false")]),
            by_maps("/usr/lib/x86_64-linux-gnu/libc.so.6"),
        ] {
            assert_eq!(check(&program), Ok(()), "{program:?}");
        }
    }

    #[test]
    fn frozen_programs_are_recognised_by_where_their_interpreter_lies() {
        let with = |paths: &[&str]| {
            let maps = paths.iter().map(|path| format!("7f1-7f2 r-xp 0 08:01 1  {path}\n"));
            let maps = format!("7ff-800 rw-p 0 00:00 0  [heap]\n{}", maps.collect::<String>());
            check(&Program { maps, ..python(&["./app"], &[]) }).map_err(|refusal| refusal.code)
        };
        for frozen in [
            // PyInstaller, as a directory and as one file.
            &["/srv/app/app", "/srv/app/_internal/libpython3.11.so.1.0"][..],
            &["/srv/app", "/usr/lib/libc.so.6", "/tmp/_MEI00005a60XSx/libpython3.11.so.1.0"],
            // Nuitka, with a library and without.
            &["/srv/app.dist/app.bin", "/srv/app.dist/libpython3.12.so.1.0"],
            &["/srv/app.bin", "/usr/lib/libc.so.6"],
        ] {
            assert_eq!(with(frozen), Err("frozen".to_owned()), "{frozen:?}");
        }
        for open in [
            &["/usr/bin/python3.11", "/usr/lib/libc.so.6"][..],
            &["/opt/python/bin/python3.13t", "/opt/python/lib/libpython3.13t.so.1.0"],
            &["/srv/venv/bin/uwsgi", "/usr/lib/libc.so.6"],
            &["/usr/sbin/apache2", "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0"],
        ] {
            assert_eq!(with(open), Ok(()), "{open:?}");
        }
    }

    #[test]
    fn an_agent_that_the_owner_wants_beside_ours_is_no_conflict() {
        let both = |beside: &str| {
            let traced = ("DD_TRACE_AGENT_URL", "http://x");
            check(&python(&["python3"], &[traced, ("SONDE_AGENT_BESIDE", beside)]))
        };
        assert_eq!(both("openlit, datadog"), Ok(()));
        assert_eq!(both("openlit").unwrap_err().code, "other_agent");
    }

    #[test]
    fn the_switch_of_the_program_itself_holds() {
        let off = python(&["python3"], &[("SONDE_DISABLED", "1")]);
        assert_eq!(code(&off).0, Kind::Blocked);
    }
}
