//! Who a process was: kept for a while, so that one that ended before anybody looked has a
//! name.
//!
//! The kernel side tells what every process executes. A process that started before us is
//! read from `/proc` when something is seen of it, at once and before anything else is read.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::Read;
use std::sync::Arc;

use crate::event::{Caller, Payload, ProcessId, Program};
use crate::process;
use crate::record;

/// Processes that are remembered; the one that was learned of first gives way. At 170 starts a
/// second it is known for 24 seconds. What is remembered has 300 bytes as a rule, 2 KiB at
/// most.
const MAX_PROGRAMS: usize = 4096;
/// Bytes of arguments, as the kernel side takes (`MAX_ARGUMENTS` in `bpf/events.h`).
const MAX_ARGUMENTS: u64 = 1024;

/// What the processes run of which something was seen lately.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    programs: HashMap<ProcessId, Arc<Program>>,
    /// In the order in which they were learned.
    order: VecDeque<ProcessId>,
}

impl Callers {
    /// Notes what a process executed.
    pub(crate) fn executed(&mut self, process: ProcessId, program: Arc<Program>) {
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
            self.executed(process, program);
        }
    }

    /// Who made a connection.
    pub(crate) fn of(&mut self, process: ProcessId, seen: record::Caller) -> Box<Caller> {
        Box::new(Caller {
            name: seen.name,
            user: seen.user,
            parent: seen.parent,
            cgroup_id: seen.cgroup_id,
            program: self.program(process),
        })
    }

    fn program(&mut self, process: ProcessId) -> Option<Arc<Program>> {
        if let Some(program) = self.programs.get(&process) {
            return Some(Arc::clone(program));
        }
        let program = Arc::new(read(process)?);
        self.executed(process, Arc::clone(&program));
        Some(program)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.programs.len(), self.order.len());
        self.order.len()
    }
}

/// Reads what a running process runs.
fn read(process: ProcessId) -> Option<Program> {
    let root = format!("/proc/{}", process.pid);
    let executable = fs::read_link(format!("{root}/exe")).ok()?;
    let mut arguments = Vec::new();
    let file = File::open(format!("{root}/cmdline")).ok()?;
    file.take(MAX_ARGUMENTS).read_to_end(&mut arguments).ok()?;
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
        record::Caller {
            process: None,
            parent: None,
            cgroup_id: 1,
            user: 0,
            name: "curl".to_owned(),
        }
    }

    #[test]
    fn a_process_that_is_gone_has_what_it_executed_and_its_children_have_it_too() {
        let mut callers = Callers::default();
        // No machine has such pids.
        let [parent, child] = [ProcessId::new(u32::MAX, 1), ProcessId::new(u32::MAX - 1, 1)];
        assert_eq!(callers.of(parent, seen()).program, None);
        callers.executed(parent, program("/bin/sh"));
        callers.forked(child, parent);
        assert_eq!(callers.of(child, seen()).program, Some(program("/bin/sh")));
        callers.executed(child, program("/bin/curl"));
        assert_eq!(callers.of(child, seen()).program, Some(program("/bin/curl")));
        assert_eq!(callers.of(parent, seen()).program, Some(program("/bin/sh")));
    }

    #[test]
    fn no_more_than_the_limit_is_remembered() {
        let mut callers = Callers::default();
        for start in 0..3 * MAX_PROGRAMS as u64 {
            let process = ProcessId::new(u32::MAX, start * crate::TICK_NANOS);
            callers.executed(process, program("/bin/true"));
            callers.executed(process, program("/bin/false"));
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
