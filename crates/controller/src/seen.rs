//! What was lately seen of processes, so that somebody who asks can be told why a program is or is
//! not discovered. Shared by the thread that sees and the one that answers; nothing is decided by it.

use capture::ProcessId;
use contract::workload::By;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Processes that are remembered, the newest; also those that ended.
const MAX_PROCESSES: usize = 2_048;

/// Names of one process; a browser asks for many.
const MAX_NAMES: usize = 16;

/// The names that processes asked for.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    processes: HashMap<ProcessId, Vec<Heard>>,
    order: VecDeque<ProcessId>,
}

/// A name that a process asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) name: String,
    pub(crate) by: By,
    pub(crate) peer: String,
    pub(crate) provider: Option<String>,
    /// Why it does not count, where it does not.
    pub(crate) but: Option<String>,
    /// Whether the hello may hide another name (ECH).
    pub(crate) is_hidden: bool,
    pub(crate) first_unix_nanos: u64,
    pub(crate) last_unix_nanos: u64,
    pub(crate) count: u64,
}

impl Seen {
    /// Notes a name; one that was heard before is renewed.
    pub(crate) fn note(&self, process: ProcessId, heard: Heard) {
        let mut table = self.table();
        if !table.processes.contains_key(&process) {
            if table.processes.len() >= MAX_PROCESSES
                && let Some(oldest) = table.order.pop_front()
            {
                table.processes.remove(&oldest);
            }
            table.order.push_back(process);
        }
        let names = table.processes.entry(process).or_default();
        let same = |known: &&mut Heard| known.name == heard.name && known.by == heard.by;
        if let Some(known) = names.iter_mut().find(same) {
            let (first, count) = (known.first_unix_nanos, known.count);
            *known = Heard { first_unix_nanos: first, count: count.saturating_add(1), ..heard };
            return;
        }
        if names.len() >= MAX_NAMES {
            // What asked no provider goes first, then the oldest.
            let least = names.iter().enumerate();
            let least = least.min_by_key(|(_, it)| (it.provider.is_some(), it.last_unix_nanos));
            if let Some((index, _)) = least {
                names.remove(index);
            }
        }
        names.push(heard);
    }

    /// What was heard of all processes with this id, each with its start.
    pub(crate) fn of(&self, pid: u32) -> Vec<(ProcessId, Vec<Heard>)> {
        let table = self.table();
        let of_pid = table.processes.iter().filter(|(process, _)| process.pid == pid);
        let mut found: Vec<_> = of_pid.map(|(process, heard)| (*process, heard.clone())).collect();
        found.sort_by_key(|(process, _)| process.start_time);
        found
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(name: &str, provider: Option<&str>, at: u64) -> Heard {
        Heard {
            name: name.to_owned(),
            by: By::Sni,
            peer: "203.0.113.7:443".to_owned(),
            provider: provider.map(str::to_owned),
            but: None,
            is_hidden: false,
            first_unix_nanos: at,
            last_unix_nanos: at,
            count: 1,
        }
    }

    #[test]
    fn a_name_is_renewed_and_what_is_remembered_is_bounded() {
        let seen = Seen::default();
        let process = ProcessId { pid: 7, start_time: 1 };
        seen.note(process, heard("api.openai.com", Some("openai"), 1));
        for at in 2..100 {
            seen.note(process, heard(&format!("{at}.example"), None, at));
        }
        seen.note(process, heard("api.openai.com", Some("openai"), 200));
        let (_, names) = seen.of(7).pop().unwrap();
        assert_eq!(names.len(), MAX_NAMES);
        let ours = names.iter().find(|heard| heard.name == "api.openai.com").unwrap();
        assert_eq!((ours.first_unix_nanos, ours.last_unix_nanos, ours.count), (1, 200, 2));
        for pid in 10..5_000 {
            seen.note(ProcessId { pid, start_time: 1 }, heard("a", None, 1));
        }
        assert!(seen.of(7).is_empty());
        assert_eq!(seen.table().processes.len(), MAX_PROCESSES);
    }
}
