//! Identity of a workload, and its name.
//!
//! The key comes from infrastructure alone: where the platform has a name for the place (a unit, a
//! container), that name; else the executable and its arguments. A process id, a start time, an
//! address, a user-given name are never part of it, so that a restart or a second replica is the
//! same workload.
//!
//! The name is what people would call it. First that is there wins: `OTEL_SERVICE_NAME`,
//! `service.name` in `OTEL_RESOURCE_ATTRIBUTES`, the platform's name, the script or module that an
//! interpreter runs, the executable.

use crate::arguments;
use crate::node::{Host, hex};
use crate::platform::Place;
use crate::process::{Process, clean};
use contract::workload::{Key, Runtime};
use sha2::{Digest as _, Sha256};

/// Bytes of the hash in a key: enough to tell the programs of one node apart.
const HASH_LEN: usize = 6;

/// Longest name to show.
const MAX_NAME: usize = 128;

/// Name of a workload, and its key.
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) key: Key,
}

/// Reads identity and name out of a process and its place.
pub(crate) fn of(
    process: &Process,
    place: &Place,
    runtime: Option<&Runtime>,
    host: &Host,
) -> Identity {
    let script = script(process, runtime);
    let is_inline =
        script.is_none() && runtime.is_some_and(|runtime| is_interpreter(&runtime.name));
    let program = program(process, script.as_ref(), is_inline);
    let name = process
        .declared
        .name
        .clone()
        .or_else(|| place.declared.name.clone())
        .or_else(|| place.name.clone())
        .or_else(|| script.as_ref().map(Script::name))
        .unwrap_or_else(|| process.executable_name().to_owned());
    let scope = place.scope.clone().unwrap_or_else(|| host.scope());
    let place_name = match (&place.place, &place.within) {
        (Some(name), _) => name.clone(),
        (None, Some(within)) => format!("{within}/{program}"),
        (None, None) => program,
    };
    Identity {
        name: clean(&name, MAX_NAME),
        key: Key(format!("{scope}/{}:{place_name}", place.manager)),
    }
}

/// What an interpreter was told to run.
#[derive(Debug, PartialEq, Eq)]
enum Script {
    /// The argument with this index names a file.
    File(usize, String),
    /// A module, by its name.
    Module(String),
}

impl Script {
    /// The last part of the path; for files that are called the same everywhere, with the directory.
    fn name(&self) -> String {
        let Self::File(_, path) = self else {
            let Self::Module(module) = self else { return String::new() };
            return module.clone();
        };
        let mut parts = path.rsplit('/');
        let file = parts.next().unwrap_or_default();
        match (
            file,
            parts.next().filter(|parent| !parent.is_empty() && *parent != "." && *parent != ".."),
        ) {
            ("__main__.py" | "index.js" | "index.mjs", Some(parent)) => parent.to_owned(),
            _ => file.to_owned(),
        }
    }
}

/// Options that take the next argument as their value, by runtime.
fn takes_value(runtime: &str, option: &str) -> bool {
    match runtime {
        "cpython" => matches!(option, "-W" | "-X" | "-Q" | "--check-hash-based-pycs"),
        "nodejs" => matches!(
            option,
            "-r" | "--require"
                | "--import"
                | "--loader"
                | "--experimental-loader"
                | "-C"
                | "--conditions"
                | "--env-file"
        ),
        "openjdk" => matches!(
            option,
            "-cp" | "-classpath" | "--class-path" | "-p" | "--module-path" | "--add-modules"
        ),
        _ => false,
    }
}

fn is_interpreter(runtime: &str) -> bool {
    matches!(runtime, "cpython" | "nodejs" | "openjdk" | "ruby" | "php" | "perl" | "bun" | "deno")
}

/// Finds the script among the arguments; `None` for programs that are not interpreters, and for
/// interpreters that read from a terminal or from their command line.
fn script(process: &Process, runtime: Option<&Runtime>) -> Option<Script> {
    let runtime = runtime?.name.as_str();
    if !is_interpreter(runtime) {
        return None;
    }
    let words: &[&str] = if matches!(runtime, "bun" | "deno") { &["run"] } else { &[] };
    let mut arguments = process.arguments.iter().enumerate().skip(1);
    while let Some((index, argument)) = arguments.next() {
        let option = argument.as_str();
        let Some(flags) = option.strip_prefix('-') else {
            if words.contains(&option) {
                continue;
            }
            // A Java program is named by its main class.
            return Some(if runtime == "openjdk" {
                Script::Module(option.to_owned())
            } else {
                Script::File(index, absolute(process, option))
            });
        };
        let is_cluster = !flags.starts_with('-');
        match runtime {
            "cpython" if is_cluster && flags.ends_with('m') => {
                return Some(Script::Module(arguments.next()?.1.clone()));
            }
            "cpython" if flags.is_empty() || (is_cluster && flags.ends_with('c')) => return None,
            "nodejs" | "bun" if matches!(option, "-e" | "--eval" | "-p" | "--print" | "-") => {
                return None;
            }
            "openjdk" if option == "-jar" => {
                let (index, jar) = arguments.next()?;
                return Some(Script::File(index, absolute(process, jar)));
            }
            _ if takes_value(runtime, option) => drop(arguments.next()),
            _ => {}
        }
    }
    None
}

fn absolute(process: &Process, path: &str) -> String {
    let path = path.trim_start_matches("./");
    match path.starts_with('/') || process.directory.is_empty() {
        true => path.to_owned(),
        false => format!("{}/{path}", process.directory.trim_end_matches('/')),
    }
}

/// Executable and arguments, hashed. A script counts with its whole path, so that two programs
/// called `main.py` are two; the name that the executable was called by does not count. Nor does free
/// text, which is another one each time (`claude -p "…"`), unless it is the program (`python -c "…"`).
fn program(process: &Process, script: Option<&Script>, is_inline: bool) -> String {
    let mut hash = Sha256::new();
    hash.update(process.executable.as_bytes());
    for (index, argument) in process.arguments.iter().enumerate().skip(1) {
        hash.update([0]);
        match script {
            Some(Script::File(at, path)) if *at == index => hash.update(path.as_bytes()),
            _ if !is_inline && arguments::is_free_text(argument) => {}
            _ => hash.update(argument.as_bytes()),
        }
    }
    format!("{}-{}", clean(process.executable_name(), 64), hex(&hash.finalize(), HASH_LEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(runtime: &str, directory: &str, arguments: &[&str]) -> Option<String> {
        let process = Process {
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            directory: directory.to_owned(),
            ..Process::default()
        };
        let runtime = Runtime { name: runtime.to_owned(), version: None };
        script(&process, Some(&runtime)).map(|script| script.name())
    }

    #[test]
    fn interpreters_are_named_by_what_they_run() {
        assert_eq!(named("cpython", "/srv", &["python3", "chat.py"]).as_deref(), Some("chat.py"));
        assert_eq!(
            named("cpython", "/srv", &["python3", "-u", "-W", "ignore", "/a/bot.py", "x"])
                .as_deref(),
            Some("bot.py")
        );
        assert_eq!(
            named("cpython", "/srv", &["python3", "-um", "pkg.cli", "run"]).as_deref(),
            Some("pkg.cli")
        );
        assert_eq!(
            named("cpython", "/srv", &["python3", "/app/bot/__main__.py"]).as_deref(),
            Some("bot")
        );
        assert_eq!(named("cpython", "/srv", &["python3", "-c", "print(1)"]), None);
        assert_eq!(named("cpython", "/srv", &["python3"]), None);
        assert_eq!(
            named("nodejs", "/srv/bot", &["node", "-r", "dotenv/config", "./index.js"]).as_deref(),
            Some("bot")
        );
        assert_eq!(named("nodejs", "/", &["node", "-e", "1"]), None);
        assert_eq!(
            named("openjdk", "/", &["java", "-Xmx1g", "-jar", "/opt/a.jar"]).as_deref(),
            Some("a.jar")
        );
        assert_eq!(
            named("openjdk", "/", &["java", "-cp", "x:y", "com.example.Main"]).as_deref(),
            Some("com.example.Main")
        );
        assert_eq!(
            named("deno", "/w", &["deno", "run", "-A", "bot.ts"]).as_deref(),
            Some("bot.ts")
        );
        assert_eq!(named("go", "/", &["agent", "serve"]), None);
    }

    #[test]
    fn the_same_script_name_in_two_directories_is_two_programs() {
        let in_directory = |directory: &str, zeroth: &str| {
            let process = Process {
                executable: "/usr/bin/python3.11".to_owned(),
                arguments: vec![zeroth.to_owned(), "main.py".to_owned()],
                directory: directory.to_owned(),
                ..Process::default()
            };
            let runtime = Runtime { name: "cpython".to_owned(), version: None };
            program(&process, script(&process, Some(&runtime)).as_ref(), false)
        };
        assert_ne!(in_directory("/a", "python3"), in_directory("/b", "python3"));
        assert_eq!(in_directory("/a", "python3"), in_directory("/a", "/usr/bin/python3"));
        assert!(in_directory("/a", "python3").starts_with("python3.11-"));
    }
    #[test]
    fn a_prompt_is_not_part_of_the_identity_but_inline_code_is() {
        let key = |runtime: &str, arguments: &[&str]| {
            let process = Process {
                executable: "/usr/bin/x".to_owned(),
                arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
                ..Process::default()
            };
            let runtime = Runtime { name: runtime.to_owned(), version: None };
            let script = script(&process, Some(&runtime));
            let is_inline = script.is_none() && is_interpreter(&runtime.name);
            program(&process, script.as_ref(), is_inline)
        };
        assert_eq!(key("go", &["x", "-p", "one prompt"]), key("go", &["x", "-p", "and another"]));
        assert_ne!(key("go", &["x", "chat"]), key("go", &["x", "serve"]));
        assert_ne!(
            key("cpython", &["python3", "-c", "import a; a.b()"]),
            key("cpython", &["python3", "-c", "import a; a.c()"])
        );
    }
}
