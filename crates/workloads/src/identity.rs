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
use crate::script::{self, Script};
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
    let script = script::of(process, runtime);
    let is_inline = script.is_none() && script::is_interpreter(process, runtime);
    let program = program(process, script.as_ref(), is_inline);
    let name = process
        .declared
        .name
        .clone()
        .or_else(|| place.declared.name.clone())
        .or_else(|| place.name.clone())
        .or_else(|| Some(script.as_ref()?.name.clone()))
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

/// Executable and arguments, hashed. A script counts with its whole path, so that two programs
/// called `main.py` are two; the name that the executable was called by does not count. Nor does free
/// text, which is another one each time (`claude -p "…"`), unless it is the program (`python -c "…"`),
/// nor a directory that is made anew at each start.
fn program(process: &Process, script: Option<&Script>, is_inline: bool) -> String {
    let mut hash = Sha256::new();
    hash.update(lasting(&process.executable).as_bytes());
    for (index, argument) in process.arguments.iter().enumerate().skip(1) {
        hash.update([0]);
        match script.and_then(|script| script.file.as_ref()) {
            Some((at, path)) if *at == index => hash.update(lasting(path).as_bytes()),
            _ if !is_inline && arguments::is_free_text(argument) => {}
            _ => hash.update(argument.as_bytes()),
        }
    }
    if let Some(title) = script.and_then(|script| script.title.as_ref()) {
        hash.update([0]);
        hash.update(title.as_bytes());
    }
    format!("{}-{}", clean(process.executable_name(), 64), hex(&hash.finalize(), HASH_LEN))
}

/// A path without the part that is another at each start: what `go run` and `AppImage` make.
fn lasting(path: &str) -> String {
    let is_made_up = |part: &&str| part.starts_with("go-build") || part.starts_with(".mount_");
    match path.split('/').find(is_made_up) {
        Some(part) => path.replacen(part, "", 1),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(runtime: &str, executable: &str, directory: &str, arguments: &[&str]) -> String {
        let process = Process {
            executable: executable.to_owned(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            directory: directory.to_owned(),
            ..Process::default()
        };
        let runtime = Runtime { name: runtime.to_owned(), version: None };
        let host = Host { id: "h".to_owned(), name: "n".to_owned(), kernel: String::new() };
        let place = Place { manager: "process", ..Place::default() };
        of(&process, &place, Some(&runtime), &host).key.0
    }

    #[test]
    fn the_same_script_name_in_two_directories_is_two_programs() {
        let python = |directory, zeroth| {
            key("cpython", "/usr/bin/python3.11", directory, &[zeroth, "main.py"])
        };
        assert_ne!(python("/a", "python3"), python("/b", "python3"));
        assert_eq!(python("/a", "python3"), python("/a", "/usr/bin/python3"));
        assert!(python("/a", "python3").starts_with("host-h/process:python3.11-"));
    }

    #[test]
    fn a_prompt_is_not_part_of_the_identity_but_inline_code_is() {
        let go = |arguments: &[&str]| key("go", "/usr/bin/x", "/", arguments);
        assert_eq!(go(&["x", "-p", "one prompt"]), go(&["x", "-p", "and another"]));
        assert_ne!(go(&["x", "chat"]), go(&["x", "serve"]));
        let python = |code| key("cpython", "/usr/bin/python3", "/", &["python3", "-c", code]);
        assert_ne!(python("import a; a.b()"), python("import a; a.c()"));
    }

    #[test]
    fn a_directory_that_is_made_anew_at_each_start_does_not_count() {
        let go = |executable: &str| key("go", executable, "/", &["bot"]);
        assert_eq!(go("/tmp/go-build123/b001/exe/bot"), go("/tmp/go-build456/b001/exe/bot"));
        assert_ne!(go("/tmp/go-build123/b001/exe/bot"), go("/tmp/go-build123/b001/exe/cat"));
    }

    #[test]
    fn the_master_and_the_workers_of_a_server_are_one_workload() {
        let server = |title| key("cpython", "/usr/bin/python3", "/srv", &[title]);
        assert_eq!(
            server("gunicorn: master [shop.wsgi:app]"),
            server("gunicorn: worker [shop.wsgi:app]")
        );
        assert_ne!(
            server("gunicorn: master [shop.wsgi:app]"),
            server("gunicorn: master [other:app]")
        );
    }

    #[test]
    fn the_name_that_a_person_gave_wins_over_all_others_and_is_no_part_of_the_key() {
        let host = Host { id: "h".to_owned(), name: "n".to_owned(), kernel: String::new() };
        let mut process = Process { executable: "/bin/x".to_owned(), ..Process::default() };
        let mut place = Place { manager: "systemd", ..Place::default() };
        place.place = Some("bot.service".to_owned());
        let named = |process: &Process, place: &Place| of(process, place, None, &host).name;
        let first = of(&process, &place, None, &host).key;
        assert_eq!(named(&process, &place), "x");
        place.name = Some("bot".to_owned());
        assert_eq!(named(&process, &place), "bot");
        place.declared.name = Some("annotated".to_owned());
        assert_eq!(named(&process, &place), "annotated");
        process.declared.name = Some("given".to_owned());
        assert_eq!(named(&process, &place), "given");
        assert_eq!(of(&process, &place, None, &host).key, first);
    }
}
