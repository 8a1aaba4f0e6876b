//! What became of steps.

use super::Running;
use crate::clock::Now;
use crate::reconcile::{Action, Progress, Step, Watch};
use capture::{ProcessId, Watched};
use wire::Moment;

impl Running {
    /// A step was handed over.
    pub(super) fn took(&mut self, step: &Step) {
        match step.action {
            Action::Watch => {
                let same = |before: &&Watch| before.start_ticks == step.start_ticks;
                let failures = self.watches.get(&step.pid).filter(same).map_or(0, |it| it.failures);
                let watch = Watch { failures, ..Watch::asked(step.start_ticks) };
                self.watches.insert(step.pid, watch);
            }
            Action::Unwatch => {
                self.watches.remove(&step.pid);
            }
        }
    }

    /// A fork child of a watched process is watched already, whatever becomes of it.
    pub(super) fn inherited(&mut self, process: ProcessId, parent: ProcessId) {
        if let Some(watch) = self.watches.get(&parent.pid) {
            let start_ticks = process.start_time / capture::TICK_NANOS;
            let watch = Watch { start_ticks, ..watch.clone() };
            self.watches.insert(process.pid, watch);
        }
    }

    pub(super) fn watched(&mut self, pid: u32, start_ticks: u64, result: Result<Watched, String>) {
        let Some(watch) =
            self.watches.get_mut(&pid).filter(|watch| watch.start_ticks == start_ticks)
        else {
            return;
        };
        watch.progress = match result {
            Ok(watched) => Progress::Attached {
                libraries: watched
                    .libraries
                    .iter()
                    .map(|library| library.path.display().to_string())
                    .collect(),
                refused: watched
                    .refused
                    .first()
                    .map(|(path, reason)| format!("{reason} ({})", path.display())),
            },
            Err(error) => {
                watch.failures = watch.failures.saturating_add(1);
                let pause = contract::reconcile::pause(watch.failures);
                let again_at = Moment(Now::read().monotonic.0.saturating_add(pause));
                Progress::Failed { error, again_at }
            }
        };
    }

    pub(super) fn attached(&mut self, pid: u32, library: String) {
        match self.watches.get_mut(&pid).map(|watch| &mut watch.progress) {
            Some(Progress::Attached { libraries, .. }) if !libraries.contains(&library) => {
                libraries.push(library);
            }
            _ => {}
        }
        // The page shows the library that the program has by now.
        self.read_again(pid);
    }

    pub(super) fn refused(&mut self, pid: u32, reason: String) {
        if let Some(Progress::Attached { refused, .. }) =
            self.watches.get_mut(&pid).map(|watch| &mut watch.progress)
        {
            *refused = Some(reason);
        }
    }
}
