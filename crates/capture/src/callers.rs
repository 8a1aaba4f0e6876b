//! Who a process was: kept for a while, so that one that ended before anybody looked has a
//! name.
//!
//! The kernel side tells what every process executes. A process that started before us is
//! read from `/proc` when something is seen of it, at once and before anything else is read.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::{Caller, Payload, ProcessId, Program};
use crate::process;
use crate::record;

/// Processes that are remembered; the one that was learned of first gives way. At 170 starts a
/// second it is known for 24 seconds. What is remembered has 300 bytes as a rule, 2 KiB at
/// most.
const MAX_PROGRAMS: usize = 4096;
/// Bytes of arguments, as the kernel side takes (`MAX_ARGUMENTS` in `bpf/events.h`).
const MAX_ARGUMENTS: usize = 1024;

/// What the processes run of which something was seen lately.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    programs: HashMap<ProcessId, Arc<Program>>,
    /// In the order in which they were learned.
    order: VecDeque<ProcessId>,
}

impl Callers {
    /// Notes what a process executed. The path is what was asked for; what runs may be behind a
    /// link, beside another directory, or the very program that the parent runs
    /// (`/proc/self/exe`), and a program that is gone has to have the name that it had.
    pub(crate) fn executed(&mut self, process: ProcessId, parent: ProcessId, program: &Program) {
        let executable = match running(process) {
            Some(executable) => executable,
            None if is_own(&program.executable) => self
                .program(parent)
                .map_or_else(|| program.executable.clone(), |own| own.executable.clone()),
            None => behind_links(&program.executable, parent),
        };
        self.remember(process, Arc::new(Program { executable, ..program.clone() }));
    }

    fn remember(&mut self, process: ProcessId, program: Arc<Program>) {
        if self.programs.insert(process, program).is_some() {
            return;
        }
        self.order.push_back(process);
        if self.order.len() > MAX_PROGRAMS
            && let Some(oldest) = self.order.pop_front()
        {
            self.programs.remove(&oldest);
        }
    }

    /// Notes that a process runs what its parent runs.
    pub(crate) fn forked(&mut self, process: ProcessId, parent: ProcessId) {
        if let Some(program) = self.program(parent) {
            self.remember(process, program);
        }
    }

    /// Who made a connection.
    pub(crate) fn of(&mut self, process: ProcessId, seen: record::Caller) -> Box<Caller> {
        Box::new(Caller {
            name: seen.name,
            user: seen.user,
            parent: seen.parent,
            program: self.program(process),
        })
    }

    fn program(&mut self, process: ProcessId) -> Option<Arc<Program>> {
        if let Some(program) = self.programs.get(&process) {
            return Some(Arc::clone(program));
        }
        let program = Arc::new(read(process)?);
        self.remember(process, Arc::clone(&program));
        Some(program)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.programs.len(), self.order.len());
        self.order.len()
    }
}

/// The file that a process runs now; `None` when it is gone.
fn running(process: ProcessId) -> Option<PathBuf> {
    let executable = fs::read_link(format!("/proc/{}/exe", process.pid)).ok()?;
    (process::identity(process.pid)? == process).then_some(executable)
}

/// Whether a path stands for the file that the asking process runs itself (proc(5)).
fn is_own(path: &Path) -> bool {
    path == Path::new("/proc/self/exe") || path == Path::new("/proc/thread-self/exe")
}

/// A path without links, as this process sees it; as it is, where that cannot be said. Only names
/// are looked at.
fn behind_links(path: &Path, parent: ProcessId) -> PathBuf {
    let directory = if path.is_relative() {
        fs::read_link(format!("/proc/{}/cwd", parent.pid)).unwrap_or_default()
    } else {
        PathBuf::new()
    };
    fs::canonicalize(directory.join(path)).unwrap_or_else(|_gone| path.to_owned())
}

/// Reads what a running process runs.
fn read(process: ProcessId) -> Option<Program> {
    let root = format!("/proc/{}", process.pid);
    let executable = fs::read_link(format!("{root}/exe")).ok()?;
    // With one call: of a process that ends meanwhile, the next would find nothing.
    let mut arguments = Vec::with_capacity(MAX_ARGUMENTS);
    let file = File::open(format!("{root}/cmdline")).ok()?;
    file.take(MAX_ARGUMENTS as u64).read_to_end(&mut arguments).ok()?;
    let cgroup = cgroup(&fs::read_to_string(format!("{root}/cgroup")).unwrap_or_default());
    // What was read is another process's if the pid is used again by now.
    (process::identity(process.pid)? == process).then(|| Program {
        executable,
        arguments: Payload::from(arguments.as_slice()),
        cgroup,
    })
}

/// The path that names a process, in the text of `/proc/PID/cgroup`: `id:controllers:path`.
fn cgroup(text: &str) -> String {
    let path = |wanted: &str| {
        text.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|controller| controller == wanted).then_some(path)
        })
    };
    let unified = path("").filter(|path| *path != "/");
    unified.or_else(|| path("pids")).unwrap_or("/").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str) -> Arc<Program> {
        Arc::new(Program { executable: name.into(), ..Program::default() })
    }

    fn seen() -> record::Caller {
        record::Caller { process: None, parent: None, user: 0, name: "curl".to_owned() }
    }

    #[test]
    fn a_process_that_is_gone_has_what_it_executed_and_its_children_have_it_too() {
        let mut callers = Callers::default();
        // No machine has such pids.
        let [parent, child] = [ProcessId::new(u32::MAX, 1), ProcessId::new(u32::MAX - 1, 1)];
        assert_eq!(callers.of(parent, seen()).program, None);
        callers.executed(parent, parent, &program("/nowhere/sh"));
        callers.forked(child, parent);
        assert_eq!(callers.of(child, seen()).program, Some(program("/nowhere/sh")));
        callers.executed(child, parent, &program("/nowhere/curl"));
        assert_eq!(callers.of(child, seen()).program, Some(program("/nowhere/curl")));
        assert_eq!(callers.of(parent, seen()).program, Some(program("/nowhere/sh")));
    }

    #[test]
    fn a_program_that_is_gone_has_the_path_that_a_running_one_has() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().canonicalize().unwrap().join("python3.11");
        fs::write(&file, "").unwrap();
        let link = directory.path().join("python3");
        std::os::unix::fs::symlink("python3.11", &link).unwrap();
        let mut callers = Callers::default();
        let own = process::identity(std::process::id()).unwrap();
        let gone = ProcessId::new(u32::MAX, 1);
        let mut ran = |path: &str| {
            callers.executed(gone, own, &program(path));
            callers.of(gone, seen()).program.unwrap().executable.clone()
        };
        assert_eq!(ran(link.to_str().unwrap()), file);
        assert_eq!(ran("/proc/self/exe"), std::env::current_exe().unwrap());
        assert_eq!(ran("Cargo.toml"), std::env::current_dir().unwrap().join("Cargo.toml"));
        assert_eq!(ran("/nowhere/at/all"), Path::new("/nowhere/at/all"));
        // One that runs is asked itself.
        callers.executed(own, gone, &program("/bin/launcher"));
        let own = callers.of(own, seen()).program.unwrap();
        assert_eq!(own.executable, std::env::current_exe().unwrap());
    }

    #[test]
    fn no_more_than_the_limit_is_remembered() {
        let mut callers = Callers::default();
        for start in 0..3 * MAX_PROGRAMS as u64 {
            let process = ProcessId::new(u32::MAX, start * crate::TICK_NANOS);
            callers.executed(process, process, &program("/nowhere/true"));
            callers.executed(process, process, &program("/nowhere/false"));
            assert!(callers.len() <= MAX_PROGRAMS);
        }
    }

    #[test]
    fn a_running_process_is_read_and_one_with_the_same_pid_is_not() {
        let own = process::identity(std::process::id()).unwrap();
        let program = read(own).unwrap();
        assert_eq!(program.executable, std::env::current_exe().unwrap());
        assert!(!program.arguments.is_empty() && program.cgroup.starts_with('/'));
        assert_eq!(read(ProcessId { start_time: own.start_time + 10_000_000, ..own }), None);
    }

    #[test]
    fn the_path_that_names_is_found_in_every_layout() {
        assert_eq!(cgroup("0::/system.slice/a.service\n"), "/system.slice/a.service");
        assert_eq!(cgroup("5:cpu,pids:/docker/1\n1:name=systemd:/x\n0::/\n"), "/docker/1");
        assert_eq!(cgroup("5:pids:/docker/1\n0::/unified\n"), "/unified");
        assert_eq!(cgroup("0::/a:b\n"), "/a:b");
        for strange in ["", "0", "0::", ":", "\u{0}"] {
            assert!(cgroup(strange).len() < 2, "{strange:?}");
        }
    }
}
