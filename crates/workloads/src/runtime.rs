//! Language runtimes, recognised by what a process is and maps: never by a part of a name.

use crate::binary::{self, Versions};
use crate::process::{Process, read_text};
use contract::workload::Runtime;
use std::path::Path;

/// The runtime of a process; `None` when it is not one that is known.
pub(crate) fn of(process: &Process, versions: &mut Versions) -> Option<Runtime> {
    let readers = [cpython, nodejs, java, by_name];
    readers.iter().find_map(|read| read(process, versions)).or_else(|| go(process, versions))
}

fn runtime(name: &str, version: Option<String>) -> Runtime {
    Runtime { name: name.to_owned(), version }
}

/// `python3.11`, or a program that embeds libpython.
fn cpython(process: &Process, _: &mut Versions) -> Option<Runtime> {
    let from_name = |name: &str| {
        let version = name.strip_prefix("python")?;
        let is_version = version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        is_version.then(|| version.to_owned())
    };
    let embedded = || {
        process.mapped.iter().find_map(|path| {
            let version = path.rsplit('/').next()?.strip_prefix("libpython")?;
            Some(version.split(".so").next()?.trim_end_matches('m').to_owned())
        })
    };
    let short = from_name(process.executable_name()).or_else(embedded)?;
    let version = virtual_environment(process)
        .or_else(|| path_version(&process.executable, &short))
        .or_else(|| Some(short).filter(|short| short.contains('.')));
    Some(runtime("cpython", version))
}

/// `version` of the `pyvenv.cfg` beside the directory that the program was called from (PEP 405).
fn virtual_environment(process: &Process) -> Option<String> {
    let called = Path::new(process.arguments.first()?);
    let called = if called.is_absolute() {
        called.to_owned()
    } else {
        Path::new(&process.directory).join(called)
    };
    let file = called.parent()?.parent()?.join("pyvenv.cfg");
    let text = read_text(&process.path(file.to_str()?), 16 << 10)?;
    let value = |line: &str| {
        let (key, value) = line.split_once('=')?;
        matches!(key.trim(), "version" | "version_info").then(|| value.trim().to_owned())
    };
    // `version_info` goes on after the third number: `3.11.7.final.0`.
    let version: String =
        text.lines().find_map(value)?.split('.').take(3).collect::<Vec<_>>().join(".");
    is_version(&version).then_some(version)
}

/// A directory such as `versions/3.11.7` or `cpython-3.12.4-linux-x86_64-gnu` in the path.
fn path_version(path: &str, short: &str) -> Option<String> {
    let found = path.split(['/', '-']).find(|part| {
        part.strip_prefix(short).is_some_and(|rest| rest.starts_with('.'))
            && is_version(part)
            && part.matches('.').count() == 2
    });
    found.map(str::to_owned)
}

fn is_version(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 24
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// A program called `node` that carries Node's release address, or maps libnode, which does.
fn nodejs(process: &Process, versions: &mut Versions) -> Option<Runtime> {
    if !matches!(process.executable_name(), "node" | "nodejs") {
        return None;
    }
    const RELEASE: &[u8] = b"https://nodejs.org/download/release/v";
    let library = process
        .mapped
        .iter()
        .find(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with("libnode.so")));
    match library {
        Some(library) => Some(runtime("nodejs", versions.after(&process.path(library), RELEASE))),
        None => versions
            .after(&process.executable_link, RELEASE)
            .map(|version| runtime("nodejs", Some(version))),
    }
}

fn java(process: &Process, _: &mut Versions) -> Option<Runtime> {
    let machine = process.mapped.iter().find(|path| path.ends_with("/libjvm.so"));
    if machine.is_none() && process.executable_name() != "java" {
        return None;
    }
    let version = || {
        let home = Path::new(&process.executable).parent()?.parent()?;
        let text = read_text(&process.path(home.join("release").to_str()?), 16 << 10)?;
        let version = text
            .lines()
            .find_map(|line| line.strip_prefix("JAVA_VERSION="))?
            .trim_matches('"')
            .to_owned();
        (version.len() <= 24).then_some(version)
    };
    Some(runtime("openjdk", version()))
}

/// Runtimes whose executables have names of their own, with the version behind the name.
fn by_name(process: &Process, _: &mut Versions) -> Option<Runtime> {
    const NAMES: [(&str, &str); 6] = [
        ("bun", "bun"),
        ("deno", "deno"),
        ("ruby", "ruby"),
        ("php", "php"),
        ("perl", "perl"),
        ("dotnet", "dotnet"),
    ];
    let executable = process.executable_name();
    NAMES.iter().find_map(|(prefix, name)| {
        let version = executable.strip_prefix(prefix)?;
        (version.is_empty() || is_version(version))
            .then(|| runtime(name, Some(version.to_owned()).filter(|version| !version.is_empty())))
    })
}

/// A Go program says which compiler built it.
fn go(process: &Process, versions: &mut Versions) -> Option<Runtime> {
    let version = versions.remembered(&process.executable_link, binary::go_version)?;
    Some(runtime("go", Some(version)))
}
