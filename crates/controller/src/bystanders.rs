//! Processes that were looked at and belong to no workload that is known. What was read of each is
//! remembered, so that a new workload finds its other processes without reading all of them again.

use contract::workload::Key;
use std::collections::HashMap;

/// Processes that are remembered; a node with more reads some of them again.
const MAX_BYSTANDERS: usize = 32_768;

/// The processes, by id.
#[derive(Debug, Default)]
pub(crate) struct Bystanders(HashMap<u32, Bystander>);

/// What was read of one.
#[derive(Debug)]
struct Bystander {
    start_ticks: u64,
    executable: String,
    /// Its key, where more than its executable was read.
    key: Option<Key>,
}

/// What is to be done with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is of no known workload.
    Pass,
    /// Nothing is known of it.
    Unknown,
    /// It runs an executable of a known workload, and has to be read.
    Read,
}

impl Bystanders {
    /// Remembers a process by its executable, and by its key where it was read.
    pub(crate) fn pass(
        &mut self,
        pid: u32,
        start_ticks: u64,
        executable: String,
        key: Option<Key>,
    ) {
        if self.0.len() >= MAX_BYSTANDERS {
            self.0.clear();
        }
        self.0.insert(pid, Bystander { start_ticks, executable, key });
    }

    /// What is to be done with a process, given what is known of workloads.
    pub(crate) fn verdict(
        &self,
        pid: u32,
        knows: impl Fn(&Key) -> bool,
        runs: impl Fn(&str) -> bool,
    ) -> Verdict {
        match self.0.get(&pid) {
            None => Verdict::Unknown,
            Some(Bystander { key: Some(key), .. }) if knows(key) => Verdict::Read,
            Some(Bystander { key: None, executable, .. }) if runs(executable) => Verdict::Read,
            Some(_) => Verdict::Pass,
        }
    }

    /// Forgets a process that ended, or runs another program now.
    pub(crate) fn forget(&mut self, pid: u32) {
        self.0.remove(&pid);
    }

    /// Forgets all: what was read may not hold any more.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Forgets those whose start is another now.
    pub(crate) fn check(&mut self, start: impl Fn(u32) -> Option<u64>) {
        self.0.retain(|pid, bystander| start(*pid) == Some(bystander.start_ticks));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_is_read_once_until_a_workload_may_be_its_own() {
        let mut bystanders = Bystanders::default();
        let key = Key("a".to_owned());
        let verdict =
            |of: &Bystanders, pid, known: bool, runs: bool| of.verdict(pid, |_| known, |_| runs);
        assert_eq!(verdict(&bystanders, 7, true, true), Verdict::Unknown);
        bystanders.pass(7, 1, "/usr/bin/x".to_owned(), None);
        bystanders.pass(8, 1, "/usr/bin/x".to_owned(), Some(key));
        assert_eq!(verdict(&bystanders, 7, false, false), Verdict::Pass);
        assert_eq!(verdict(&bystanders, 7, false, true), Verdict::Read);
        assert_eq!(verdict(&bystanders, 8, false, true), Verdict::Pass, "it was read already");
        assert_eq!(verdict(&bystanders, 8, true, false), Verdict::Read);
        bystanders.check(|pid| (pid == 8).then_some(1));
        assert_eq!(verdict(&bystanders, 7, false, false), Verdict::Unknown);
        bystanders.forget(8);
        assert_eq!(verdict(&bystanders, 8, false, false), Verdict::Unknown);
    }
}
