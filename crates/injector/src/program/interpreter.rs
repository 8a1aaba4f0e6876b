//! What kind of interpreter a program of Python has, by the files that are mapped into it: with its
//! lock or without, and which C library it stands on. The SDK has no native part, so it is the same for
//! all; a person is told that it was seen.

use super::Program;
use crate::plan::Finding;

/// Newest Python that the agent is tried with.
const NEWEST: (u32, u32) = (3, 14);

/// The C library that an interpreter stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Library {
    Glibc,
    Musl,
}

/// What is to be said of a program's interpreter before anything is changed.
pub(crate) fn findings(program: &Program) -> Vec<Finding> {
    let version = program.version.as_deref().unwrap_or_default();
    let mut said = format!("It runs on CPython {version}").trim_end().to_owned();
    if is_free_threaded(&program.maps) {
        said.push_str(", free-threaded");
    }
    match library(&program.maps) {
        Some(Library::Musl) => said.push_str(", with musl"),
        Some(Library::Glibc) => said.push_str(", with glibc"),
        None => {}
    }
    let numbers = super::numbers(version);
    vec![match numbers.is_some_and(|numbers| numbers > NEWEST) {
        true => {
            Finding::warn(format!("{said}; the SDK was tried up to {}.{}.", NEWEST.0, NEWEST.1))
        }
        false => Finding::good(format!(
            "{said}; nothing of the SDK is native, so it is the same on all of them."
        )),
    }]
}

/// Whether an interpreter was built without its lock (PEP 703, `Py_GIL_DISABLED`): what belongs to
/// such a build has a `t` behind its version.
fn is_free_threaded(maps: &str) -> bool {
    files(maps).any(|path| {
        let is_version = |text: &str| {
            let text = text.replacen('.', "", 1);
            text.len() >= 3 && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        path.split('/').any(|part| {
            let start =
                ["libpython", "python", "cpython-"].iter().find_map(|it| part.strip_prefix(it));
            // In a name such as `_json.cpython-314t-x86_64-linux-gnu.so` it stands within.
            let start = start.or_else(|| part.split_once(".cpython-").map(|(_, rest)| rest));
            let end = start.and_then(|rest| rest.split_once('t'));
            end.is_some_and(|(version, rest)| {
                is_version(version) && (rest.is_empty() || rest.starts_with(['.', '-']))
            })
        })
    })
}

fn library(maps: &str) -> Option<Library> {
    files(maps).find_map(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_musl = name.starts_with("ld-musl-")
            || name.starts_with("libc.musl-")
            || (name == "libc.so" && path.contains("musl"));
        let is_glibc =
            name == "libc.so.6" || (name.starts_with("libc-2.") && name.ends_with(".so"));
        match (is_musl, is_glibc) {
            (true, _) => Some(Library::Musl),
            (false, true) => Some(Library::Glibc),
            (false, false) => None,
        }
    })
}

fn files(maps: &str) -> impl Iterator<Item = &str> {
    maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Grade;

    fn said(version: &str, paths: &[&str]) -> (Grade, String) {
        let maps = paths.iter().map(|path| format!("7f1-7f2 r-xp 0 08:01 1  {path}\n"));
        let program = Program {
            version: Some(version.to_owned()),
            maps: maps.collect(),
            ..Program::default()
        };
        let [finding] = findings(&program).try_into().unwrap();
        (finding.grade, finding.text)
    }

    #[test]
    fn an_interpreter_without_its_lock_is_recognised() {
        for paths in [
            &["/usr/local/bin/python3.14t"][..],
            &["/usr/bin/app", "/opt/python/lib/libpython3.13t.so.1.0"],
            &["/usr/bin/app", "/opt/lib/python3.14t/lib-dynload/_json.so"],
            &["/srv/venv/x/_rust.cpython-314t-x86_64-linux-gnu.so"],
            &["/srv/lib-dynload/_json.cpython-313t-aarch64-linux-musl.so"],
        ] {
            let (grade, text) = said("3.14.0", paths);
            assert!(text.starts_with("It runs on CPython 3.14.0, free-threaded"), "{text}");
            assert_eq!(grade, Grade::Good);
        }
        for paths in [
            &["/usr/local/bin/python3.14"][..],
            &["/opt/python/lib/libpython3.13.so.1.0", "/opt/python/lib/python3.13/x.py"],
            &["/opt/python-tools/python3.14test", "/srv/cpython-things/a.so"],
            &["/srv/x/_rust.cpython-314-x86_64-linux-gnu.so"],
            &["/srv/x/_rust.cpython-314d-x86_64-linux-gnu.so"],
        ] {
            let (_, text) = said("3.14.0", paths);
            assert!(!text.contains("free-threaded"), "{paths:?}");
        }
    }

    #[test]
    fn the_c_library_is_recognised() {
        for musl in [
            "/lib/ld-musl-x86_64.so.1",
            "/lib/ld-musl-aarch64.so.1",
            "/lib/libc.musl-x86_64.so.1",
            "/lib/x86_64-linux-musl/libc.so",
        ] {
            let (grade, text) = said("3.12.1", &["/usr/bin/python3.12", musl]);
            assert!(text.contains("CPython 3.12.1, with musl; nothing of the SDK is native"));
            assert_eq!(grade, Grade::Good);
        }
        for glibc in ["/usr/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc-2.17.so"] {
            assert!(said("3.9.2", &[glibc]).1.contains("with glibc"), "{glibc}");
        }
        assert!(!said("3.9.2", &["/usr/bin/python3.9"]).1.contains("with"));
    }

    #[test]
    fn a_python_that_is_newer_than_the_tried_ones_is_said() {
        let (grade, text) = said("3.15.0", &["/usr/bin/python3.15"]);
        assert_eq!(grade, Grade::Warn);
        assert_eq!(text, "It runs on CPython 3.15.0; the SDK was tried up to 3.14.");
    }
}
