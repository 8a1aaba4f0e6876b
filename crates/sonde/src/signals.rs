//! The signals that end a command: SIGINT and SIGTERM.

use crate::failure::Failure;
use anyhow::Context as _;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often a condition is looked at beside the signals.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Signals that are caught since this was made; none in between is lost.
pub(crate) struct Signals {
    runtime: tokio::runtime::Runtime,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Catches the signals from now on.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot make ready for signals")?;
        let guard = runtime.enter();
        let interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
        drop(guard);
        Ok(Self { runtime, interrupt, terminate })
    }

    /// Returns at the first signal; a second one ends the process at once.
    pub(crate) fn wait(mut self) {
        self.runtime.block_on(next(&mut self.interrupt, &mut self.terminate));
        self.die_at_the_next();
    }

    /// The same, but also returns when `is_over` becomes true.
    pub(crate) fn wait_unless(mut self, is_over: impl Fn() -> bool) {
        loop {
            let came = self.runtime.block_on(async {
                tokio::time::timeout(LOOK_EVERY, next(&mut self.interrupt, &mut self.terminate))
                    .await
            });
            if came.is_ok() {
                break;
            }
            if is_over() {
                return;
            }
        }
        self.die_at_the_next();
    }

    fn die_at_the_next(mut self) {
        // Without this thread a second signal is ignored, which only makes the end slower.
        drop(std::thread::Builder::new().name("second-signal".to_owned()).spawn(move || {
            self.runtime.block_on(next(&mut self.interrupt, &mut self.terminate));
            exit_at_once();
        }));
    }
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[expect(clippy::exit, reason = "a second signal asks for an end without tidying up")]
fn exit_at_once() {
    std::process::exit(130);
}
