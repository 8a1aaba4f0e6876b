//! What an interpreter was told to run, and what people would call it.
//!
//! Interpreters are called with a file, a module or a tool that runs one. The name is the file's or
//! module's; where that is called the same in every project (`index.js`, `main.py` of a package,
//! `manage.py`), it is the package's or the directory's.

use crate::process::{Process, clean};
use contract::workload::Runtime;

/// A `package.json` that is longer is no description of a package.
const MAX_PACKAGE: u64 = 256 << 10;

/// Directories above a script in which a `package.json` is looked for.
const MAX_LEVELS: usize = 8;

/// Servers and workers of Python that are told a module: `uvicorn shop.main:app`.
const MODULE_RUNNERS: [&str; 8] = [
    "uvicorn",
    "gunicorn",
    "hypercorn",
    "daphne",
    "granian",
    "dramatiq",
    "waitress-serve",
    "uwsgi",
];

/// Tools of Python that are told an application by an option: `celery -A shop`.
const APP_RUNNERS: [&str; 3] = ["celery", "flask", "faust"];

/// Tools of Python that are told a file: `streamlit run chat.py`.
const FILE_RUNNERS: [&str; 9] = [
    "accelerate",
    "chainlit",
    "coverage",
    "debugpy",
    "fastapi",
    "gradio",
    "pdb",
    "streamlit",
    "torchrun",
];

/// Files that are called the same in every project.
const COMMON: [&str; 22] = [
    "__main__.py",
    "app.js",
    "app.mjs",
    "artisan",
    "cli.js",
    "cli.mjs",
    "console",
    "index.cjs",
    "index.js",
    "index.mjs",
    "index.php",
    "index.ts",
    "main.js",
    "main.mjs",
    "main.ts",
    "manage.py",
    "mod.ts",
    "rails",
    "rake",
    "server.js",
    "server.mjs",
    "server.ts",
];

/// Directories that say as little.
const COMMON_DIRECTORIES: [&str; 8] = ["", ".", "..", "bin", "build", "dist", "public", "src"];

/// What runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Script {
    /// What people would call it.
    pub(crate) name: String,
    /// The argument with this index is a file, with its whole path.
    pub(crate) file: Option<(usize, String)>,
    /// What the process calls itself instead of its arguments, as far as it lasts.
    pub(crate) title: Option<String>,
}

/// Finds it; `None` for programs that are not interpreters, and for interpreters that read from a
/// terminal or from their command line.
pub(crate) fn of(process: &Process, runtime: Option<&Runtime>) -> Option<Script> {
    let runtime = runtime?.name.as_str();
    let script = titled(process, runtime).or_else(|| match runtime {
        "cpython" | "pypy" => python(process),
        "openjdk" => java(process),
        "nodejs" | "bun" | "deno" => javascript(process, runtime),
        "dotnet" => dotnet(process),
        "ruby" | "php" | "perl" => other(process),
        _ => None,
    })?;
    Some(Script { name: clean(&script.name, 128), ..script })
        .filter(|script| !script.name.is_empty())
}

/// Whether the executable runs programs of others: a program that carries its interpreter does not.
pub(crate) fn is_interpreter(process: &Process, runtime: Option<&Runtime>) -> bool {
    let name = process.executable_name();
    let Some(runtime) = runtime else { return false };
    let names: &[&str] = match runtime.name.as_str() {
        "cpython" | "pypy" => &["python", "pypy"],
        "nodejs" => &["node"],
        "openjdk" => &["java"],
        "bun" | "deno" | "ruby" | "php" | "perl" | "dotnet" => &[runtime.name.as_str()],
        _ => &[],
    };
    names.iter().any(|prefix| name.starts_with(prefix))
}

/// A process that wrote its own title: `gunicorn: worker [shop.wsgi:app]`, `puma 6.4 (…) [shop]`.
fn titled(process: &Process, runtime: &str) -> Option<Script> {
    let title = process.arguments.first()?;
    let servers: &[&str] = match runtime {
        "cpython" | "pypy" => &["gunicorn: "],
        "ruby" => &["puma", "sidekiq", "unicorn"],
        _ => return None,
    };
    let server = servers.iter().find(|server| title.starts_with(**server))?;
    let within = title.rsplit_once('[')?.1.split(']').next()?;
    // What a worker is busy with is no name.
    if within.contains(' ') {
        return None;
    }
    let title = Some(format!("{server}[{within}]"));
    Some(Script { name: module(within).to_owned(), file: None, title })
}

/// `shop.main` of `shop.main:app`.
fn module(text: &str) -> &str {
    text.split(':').next().unwrap_or(text)
}

/// Arguments with their places, without the program's own name.
fn arguments(process: &Process) -> impl Iterator<Item = (usize, &str)> {
    process.arguments.iter().enumerate().skip(1).map(|(index, argument)| (index, argument.as_str()))
}

fn python(process: &Process) -> Option<Script> {
    if !is_named(process, &["python", "pypy"]) {
        return None;
    }
    let mut rest = arguments(process);
    while let Some((index, argument)) = rest.next() {
        let Some(flags) = argument.strip_prefix('-') else {
            let tool = argument.rsplit('/').next().unwrap_or(argument);
            return run_by(process, tool, index).or_else(|| Some(file(process, index, argument)));
        };
        let is_cluster = !flags.starts_with('-');
        if is_cluster && flags.ends_with('m') {
            let (index, name) = rest.next()?;
            let named = Script { name: name.to_owned(), ..Script::default() };
            return Some(run_by(process, name, index).unwrap_or(named));
        }
        if flags.is_empty() || (is_cluster && flags.ends_with('c')) {
            return None;
        }
        if matches!(argument, "-W" | "-X" | "-Q" | "--check-hash-based-pycs") {
            rest.next();
        }
    }
    None
}

/// What a tool was told to run, which stands behind its own name.
fn run_by(process: &Process, tool: &str, at: usize) -> Option<Script> {
    let behind = || arguments(process).filter(|(index, _)| *index > at);
    let named = |name: &str| Script { name: name.to_owned(), ..Script::default() };
    if MODULE_RUNNERS.contains(&tool) {
        let is_name = |text: &str| {
            let is_word = |letter: char| letter.is_alphanumeric() || "_.:()".contains(letter);
            text.starts_with(|first: char| first.is_alphabetic() || first == '_')
                && text.chars().all(is_word)
        };
        let names: Vec<&str> =
            behind().map(|(_, text)| text).filter(|text| is_name(text)).collect();
        let with_object = names.iter().find(|text| text.contains(':'));
        return with_object.or(names.last()).map(|text| named(module(text)));
    }
    if APP_RUNNERS.contains(&tool) {
        let mut rest = behind();
        while let Some((_, argument)) = rest.next() {
            let value = match argument {
                "-A" | "--app" => rest.next().map(|(_, value)| value),
                _ => argument.strip_prefix("--app="),
            };
            if let Some(value) = value {
                return Some(named(module(value)));
            }
        }
        return None;
    }
    let is_script = |text: &str| text.ends_with(".py");
    let (index, path) = behind().find(|(_, text)| is_script(text))?;
    FILE_RUNNERS.contains(&tool).then(|| file(process, index, path))
}

fn java(process: &Process) -> Option<Script> {
    let mut rest = arguments(process);
    while let Some((index, argument)) = rest.next() {
        match argument {
            "-jar" => {
                let (index, path) = rest.next()?;
                let jar = path.rsplit('/').next()?.trim_end_matches(".jar");
                return Some(Script {
                    name: without_version(jar).to_owned(),
                    file: Some((index, absolute(process, path))),
                    title: None,
                });
            }
            "-m" | "--module" => {
                let (_, module) = rest.next()?;
                return Some(Script { name: module.to_owned(), ..Script::default() });
            }
            "-cp" | "-classpath" | "--class-path" | "-p" | "--module-path" | "--add-modules"
            | "--add-opens" | "--add-exports" | "--add-reads" => drop(rest.next()),
            _ if argument.starts_with(['-', '@']) => {}
            // A program is named by its main class, or is one source file (JEP 330).
            _ if argument.ends_with(".java") => return Some(file(process, index, argument)),
            _ => return Some(Script { name: argument.to_owned(), ..Script::default() }),
        }
    }
    None
}

/// `shop` of `shop-1.2.0-SNAPSHOT`.
fn without_version(name: &str) -> &str {
    let is_version = |(at, _): &(usize, &str)| {
        name.get(at + 1..)
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let at = name.match_indices('-').find(is_version).map(|(at, _)| at);
    at.filter(|at| *at > 0).and_then(|at| name.get(..at)).unwrap_or(name)
}

fn javascript(process: &Process, runtime: &str) -> Option<Script> {
    let is_own = is_named(process, &["node", "iojs", "bun", "deno"]);
    let words: &[&str] =
        if runtime == "nodejs" { &[] } else { &["run", "serve", "x", "exec", "watch", "--watch"] };
    let mut rest = arguments(process);
    while let Some((index, argument)) = rest.next() {
        let is_code = |text: &str| {
            [".js", ".mjs", ".cjs", ".ts", ".mts", ".tsx", ".jsx"]
                .iter()
                .any(|end| text.ends_with(end))
        };
        match argument {
            // A program that carries its runtime takes arguments of its own.
            _ if !is_own && !is_code(argument) => return None,
            "-e" | "--eval" | "-p" | "--print" | "-" | "eval" | "repl" => return None,
            "-r"
            | "--require"
            | "--import"
            | "--loader"
            | "--experimental-loader"
            | "-C"
            | "--conditions"
            | "--env-file"
            | "-c"
            | "--config" => drop(rest.next()),
            _ if words.contains(&argument) || argument.starts_with('-') => {}
            // The name of a task, not of a file.
            _ if runtime != "nodejs" && !argument.contains(['.', '/']) => {
                let name = package(process, &process.directory).unwrap_or(argument.to_owned());
                return Some(Script { name, ..Script::default() });
            }
            _ => return Some(file(process, index, argument)),
        }
    }
    // `next-server (v15)`: a title; the package that it stands in is known all the same.
    let is_titled = process.arguments.len() <= 1 && is_own;
    let name = package(process, &process.directory).filter(|_| is_titled)?;
    Some(Script { name, ..Script::default() })
}

fn dotnet(process: &Process) -> Option<Script> {
    let (index, path) = arguments(process)
        .find(|(_, text)| text.ends_with(".dll"))
        .filter(|_| is_named(process, &["dotnet"]))?;
    let name = path.rsplit('/').next()?.trim_end_matches(".dll").to_owned();
    Some(Script { name, file: Some((index, absolute(process, path))), title: None })
}

/// Interpreters whose first word is the file.
fn other(process: &Process) -> Option<Script> {
    if !is_named(process, &["ruby", "php", "perl"]) {
        return None;
    }
    let mut rest = arguments(process);
    while let Some((index, argument)) = rest.next() {
        match argument {
            "-e" | "-r" | "-" => return None,
            "-d" | "-c" | "-I" => drop(rest.next()),
            _ if argument.starts_with('-') => {}
            _ => return Some(file(process, index, argument)),
        }
    }
    None
}

fn is_named(process: &Process, names: &[&str]) -> bool {
    names.iter().any(|name| process.executable_name().starts_with(name))
}

/// A file, by its name; by what it lies in where every project has one of that name.
fn file(process: &Process, index: usize, path: &str) -> Script {
    let path = absolute(process, path);
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
    let is_common = COMMON.contains(&name);
    let around = || {
        let in_package = name.contains(".js")
            || name.contains(".mjs")
            || name.contains(".ts")
            || name.contains(".cjs");
        in_package.then(|| package(process, directory)).flatten().or_else(|| {
            let is_telling = |part: &&str| !COMMON_DIRECTORIES.contains(part);
            directory.rsplit('/').find(is_telling).map(str::to_owned)
        })
    };
    let name = if is_common { around() } else { None }.unwrap_or_else(|| name.to_owned());
    Script { name, file: Some((index, path)), title: None }
}

/// The name in the nearest `package.json`, at or above a directory.
fn package(process: &Process, directory: &str) -> Option<String> {
    let mut directory = directory.trim_end_matches('/');
    for _ in 0..MAX_LEVELS {
        if let Some(text) = process.text(&format!("{directory}/package.json"), MAX_PACKAGE) {
            let package: serde_json::Value = serde_json::from_str(&text).ok()?;
            let name = package.get("name").and_then(serde_json::Value::as_str);
            // A package within a package may only say what kind of files it has.
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                return Some(clean(name, 128));
            }
        }
        directory = directory.rsplit_once('/').map(|(above, _)| above)?;
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

#[cfg(test)]
mod tests;
