//! Control state, alone on this machine or shared with other dashboards.

use crate::clickhouse::control::Log;
use crate::error::Error;
use crate::fleet::{Asked, Taken};
use crate::sqlite::control::Control;
use contract::poll::Report;
use contract::row::Time;
use std::sync::atomic::{AtomicU64, Ordering};

/// Control state and, where dashboards share it, the log that they share.
#[derive(Debug)]
pub(crate) struct Guarded {
    control: Control,
    log: Option<Log>,
    /// Number of the last change that was told of.
    followed: AtomicU64,
}

impl Guarded {
    pub(crate) fn alone(control: Control) -> Self {
        Self { control, log: None, followed: AtomicU64::new(0) }
    }

    pub(crate) fn shared((log, control): (Log, Control)) -> Self {
        Self { control, log: Some(log), followed: AtomicU64::new(0) }
    }

    /// Asks or changes it. An answer holds all that was acknowledged before, here or by another
    /// dashboard. `ask` may be called again, when another dashboard was faster: what it did before
    /// was undone.
    pub(crate) fn ask<T>(&self, ask: impl Fn(&Control) -> Result<T, Error>) -> Result<T, Error> {
        match &self.log {
            None => ask(&self.control),
            Some(log) => log.ask(&self.control, ask),
        }
    }

    /// What is in memory, with all that was acknowledged before; as it was last known while the
    /// others cannot be asked.
    pub(crate) fn told<T>(&self, ask: impl Fn(&Control) -> T) -> T {
        self.ask(|control| Ok(ask(control))).unwrap_or_else(|_away| ask(&self.control))
    }

    /// As [`Control::glance`], from memory.
    pub(crate) fn glance(&self, report: &Report, now: Time) -> Option<Taken> {
        self.control.glance(report, now)
    }

    /// As [`Control::has_news`], from memory: what another dashboard changed is there once
    /// [`follow`](Self::follow) brought it.
    pub(crate) fn has_news(&self, instance: &str, asked: &Asked, now: Time) -> bool {
        self.control.has_news(instance, asked, now)
    }

    /// Takes over what other dashboards changed: true when anything is
    /// new since the last time, `None` where no others can be.
    pub(crate) fn follow(&self) -> Result<Option<bool>, Error> {
        let Some(log) = &self.log else { return Ok(None) };
        log.ask(&self.control, |_control| Ok(()))?;
        // Any question may have brought a change since, and told nobody.
        let seen = log.seen();
        Ok(Some(self.followed.swap(seen, Ordering::SeqCst) != seen))
    }
}
