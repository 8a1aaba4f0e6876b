//! Control state, alone on this machine or shared with other dashboards.

use crate::clickhouse::control::Log;
use crate::error::Error;
use crate::fleet::{Asked, Taken};
use crate::sqlite::control::Control;
use contract::poll::Report;
use contract::row::Time;

/// Control state and, where dashboards share it, the log that they share.
#[derive(Debug)]
pub(crate) struct Guarded {
    control: Control,
    log: Option<Log>,
}

impl Guarded {
    pub(crate) fn alone(control: Control) -> Self {
        Self { control, log: None }
    }

    pub(crate) fn shared((log, control): (Log, Control)) -> Self {
        Self { control, log: Some(log) }
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

    /// As [`Control::has_news`]; true when it cannot be told, so that the wish is asked for.
    pub(crate) fn has_news(&self, instance: &str, asked: &Asked, now: Time) -> bool {
        self.ask(|control| Ok(control.has_news(instance, asked, now))).unwrap_or(true)
    }
}
