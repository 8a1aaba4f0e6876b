//! Language runtimes, recognised by what a process is and maps: symbols, libraries, files of known
//! places. Never by a part of a name: `node_exporter` is not Node, and an argument proves nothing.
//!
//! Electron is a runtime of its own (`electron`): it carries Node, but its traffic passes through
//! Chromium. A program of C or C++ is what is left when nothing else is found.

use crate::binary::{self, Binaries, Binary, Mark, Symbol};
use crate::process::Process;
use contract::workload::Runtime;
use std::fs::File;
use std::path::Path;

/// Files such as `release` and `pyvenv.cfg` are short.
const MAX_FILE: u64 = 16 << 10;

/// The runtime of a process; `None` when it is not one that is known.
pub(crate) fn of(process: &Process, binaries: &mut Binaries) -> Option<Runtime> {
    let binary = process.binary(binaries);
    let binary = binary.as_deref();
    // What a program embeds comes before what it is made of.
    let readers = [cpython, pypy, java, dotnet, javascript, ruby, php, perl, native];
    readers.iter().find_map(|read| read(process, binary))
}

fn runtime(name: &str, version: Option<String>) -> Option<Runtime> {
    Some(Runtime { name: name.to_owned(), version })
}

/// The file name of a mapped library that begins like this.
fn library<'a>(process: &'a Process, prefix: &str) -> Option<(&'a str, &'a str)> {
    process.mapped.iter().find_map(|path| {
        let name = path.rsplit('/').next()?;
        let is_library = name.starts_with(prefix) && name.contains(".so");
        is_library.then_some((path.as_str(), name))
    })
}

/// The part of a mapped path that follows `before`, up to the next slash.
fn in_path<'a>(process: &'a Process, before: &str) -> Option<&'a str> {
    process.mapped.iter().find_map(|path| path.split(before).nth(1)?.split('/').next())
}

fn has(binary: Option<&Binary>, symbol: Symbol) -> bool {
    binary.is_some_and(|binary| binary.has(symbol))
}

/// An interpreter that is `CPython`'s own, or a program that embeds libpython.
fn cpython(process: &Process, binary: Option<&Binary>) -> Option<Runtime> {
    let embedded = library(process, "libpython").and_then(|(path, name)| {
        let version = name.strip_prefix("libpython")?.split(".so").next()?;
        Some((path, version.trim_end_matches(|last: char| last.is_ascii_lowercase())))
    });
    let is_interpreter = has(binary, Symbol::Python);
    // Not to be opened, and called what only an interpreter is called.
    let is_named = binary.is_none() && from_name(process.executable_name()).is_some();
    if embedded.is_none() && !is_interpreter && !is_named {
        return None;
    }
    let short = from_name(process.executable_name())
        .filter(|version| version.contains('.'))
        .or(embedded.map(|(_, version)| version).filter(|version| version.contains('.')))
        .or_else(|| in_path(process, "/lib/python").map(locked).filter(|it| is_version(it)))
        .or_else(|| from_name(process.executable_name()));
    let Some(short) = short else { return runtime("cpython", None) };
    let in_constants = || {
        let file = match embedded {
            Some((path, _)) => process.files.as_ref()?.open(path)?,
            None => File::open(&process.executable_link).ok()?,
        };
        binary::full_version(&file, short)
    };
    let version = virtual_environment(process)
        .or_else(|| path_version(&process.executable, short))
        .or_else(in_constants)
        .or_else(|| Some(short.to_owned()).filter(|short| short.contains('.')));
    runtime("cpython", version)
}

/// A version without the `t` of an interpreter that was built without its lock.
fn locked(version: &str) -> &str {
    version.strip_suffix('t').unwrap_or(version)
}

/// `3.11` of `python3.11`, and `3.14` of `python3.14t`.
fn from_name(name: &str) -> Option<&str> {
    let version = name.strip_prefix("python")?;
    let version = if version.contains('.') { locked(version) } else { version };
    version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then_some(version)
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
    let text = process.text(file.to_str()?, MAX_FILE)?;
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

fn pypy(process: &Process, binary: Option<&Binary>) -> Option<Runtime> {
    let library = library(process, "libpypy");
    if library.is_none() && !has(binary, Symbol::PyPy) {
        return None;
    }
    // `libpypy3.10-c.so`: the language that it runs.
    let version = library.and_then(|(_, name)| name.strip_prefix("libpypy")?.split('-').next());
    runtime("pypy", version.filter(|version| is_version(version)).map(str::to_owned))
}

fn java(process: &Process, binary: Option<&Binary>) -> Option<Runtime> {
    let machine = process.mapped.iter().find(|path| path.ends_with("/libjvm.so"));
    if machine.is_none() && !(binary.is_none() && process.executable_name() == "java") {
        return None;
    }
    // `<home>/lib/server/libjvm.so`, or `<home>/bin/java`.
    let homes = [
        machine.and_then(|path| Path::new(path).ancestors().nth(3)),
        machine.and_then(|path| Path::new(path).ancestors().nth(4)),
        Path::new(&process.executable).ancestors().nth(2),
    ];
    let version = homes.into_iter().flatten().find_map(|home| {
        let text = process.text(home.join("release").to_str()?, MAX_FILE)?;
        let version = text.lines().find_map(|line| line.strip_prefix("JAVA_VERSION="))?;
        Some(version.trim_matches('"').to_owned()).filter(|version| version.len() <= 24)
    });
    runtime("openjdk", version)
}

/// `.NET`: its runtime as a library, as part of a single file, or compiled ahead of time.
fn dotnet(process: &Process, binary: Option<&Binary>) -> Option<Runtime> {
    let is_single = has(binary, Symbol::DotNet) || has(binary, Symbol::NativeDotNet);
    if library(process, "libcoreclr").is_none() && !is_single {
        return None;
    }
    let version = in_path(process, "/shared/Microsoft.NETCore.App/");
    runtime("dotnet", version.filter(|version| version.len() <= 24).map(str::to_owned))
}

/// Node, Bun and Deno have the functions of Node's addons, and each says its name.
fn javascript(process: &Process, binary: Option<&Binary>) -> Option<Runtime> {
    let shared = library(process, "libnode.so").and_then(|(path, _)| {
        let file = process.files.as_ref()?.open(path)?;
        Binaries::default().of(&file)
    });
    let is_node = has(binary, Symbol::Node) || shared.is_some();
    let is_addon_host = is_node || has(binary, Symbol::Napi);
    let binary = shared.as_deref().or(binary).filter(|_| is_addon_host)?;
    let is_electron = process.mapped.iter().any(|path| path.ends_with("/resources.pak"));
    match () {
        () if is_electron => runtime("electron", None),
        () if is_node && !binary.marked(Mark::Bun) => runtime("nodejs", binary.version(Mark::Node)),
        () if binary.marked(Mark::Deno) => runtime("deno", binary.version(Mark::Deno)),
        () if binary.marked(Mark::Bun) => runtime("bun", binary.version(Mark::Bun)),
        // Symbols of addons alone: stripped of what says more.
        () => match process.executable_name() {
            name @ ("bun" | "deno") => runtime(name, None),
            _ => None,
        },
    }
}

fn ruby(process: &Process, binary: Option<&Binary>) -> Option<Runtime> {
    let library = library(process, "libruby");
    if library.is_none() && !has(binary, Symbol::Ruby) {
        return None;
    }
    // `libruby-3.1.so.3.1.2`.
    let version = library.and_then(|(_, name)| name.split(".so.").nth(1));
    let version = version.or_else(|| in_path(process, "/ruby/"));
    runtime("ruby", version.filter(|version| is_version(version)).map(str::to_owned))
}

fn php(process: &Process, binary: Option<&Binary>) -> Option<Runtime> {
    if library(process, "libphp").is_none() && !has(binary, Symbol::Php) {
        return None;
    }
    let named = process.executable_name().trim_start_matches("php-fpm").trim_start_matches("php");
    let version = binary.and_then(|binary| binary.version(Mark::Php));
    runtime("php", version.or_else(|| Some(named.to_owned()).filter(|named| is_version(named))))
}

fn perl(process: &Process, binary: Option<&Binary>) -> Option<Runtime> {
    let library = library(process, "libperl");
    if library.is_none() && !has(binary, Symbol::Perl) {
        return None;
    }
    let version = library.and_then(|(_, name)| name.split(".so.").nth(1));
    runtime("perl", version.filter(|version| is_version(version)).map(str::to_owned))
}

/// Programs that bring no interpreter: Go and Rust say so, the rest is C or C++.
fn native(process: &Process, binary: Option<&Binary>) -> Option<Runtime> {
    let binary = binary.filter(|binary| binary.is_elf)?;
    if let Some(go) = &binary.go {
        return runtime("go", Some(go.version.clone()));
    }
    if binary.rustc.is_some() || binary.marked(Mark::Rust) {
        return runtime("rust", binary.rustc.clone());
    }
    let is_cpp = binary.has(Symbol::CppLibrary)
        || library(process, "libstdc++").is_some()
        || library(process, "libc++").is_some();
    runtime(if is_cpp { "c++" } else { "c" }, binary.compiler.clone())
}
