//! How a change is doing that was made: watched closely for a window, then now and then.

use super::kept::{Phase, Why};
use super::turns::{STAND_BY, is_shared};
use super::{LOOK_EVERY, Running, SECOND, WATCH_EVERY};
use contract::workload::Key;
use injector::Health;
use std::time::Duration;

/// How much longer than the window a program may take to come up.
const SLOW_START_NANOS: u64 = 180_000_000_000;

impl Running {
    /// How long nothing needs to be looked at.
    pub(super) fn patience(&self) -> Duration {
        let is_watching = self.parts.records.all().values().any(|record| {
            matches!(record.phase, Phase::Making | Phase::Watched { .. } | Phase::Undoing(_))
        });
        let is_looking = !self.parts.records.lost().is_empty();
        match is_watching || is_looking || !self.leaving.is_empty() {
            true => WATCH_EVERY,
            false if self.stands_by() => STAND_BY,
            false => LOOK_EVERY,
        }
    }

    /// How a change is doing that was made.
    pub(super) fn check(&mut self, key: &Key, is_due: bool, now: u64) {
        let Some(record) = self.parts.records.get(key).cloned() else { return };
        if is_shared(&record) && !self.is_ours_to_watch(key, is_due, now) {
            return;
        }
        let since = match record.phase {
            Phase::Watched { since_unix_nanos } => since_unix_nanos,
            Phase::InEffect if is_due => 0,
            _ => return,
        };
        let window = self.window();
        let health = match self.parts.hands.health(&record.change) {
            Ok(health) => health,
            Err(error) => {
                tracing::debug!(key = %key.0, error, "cannot look at a changed workload");
                return;
            }
        };
        let age = now.saturating_sub(since);
        // The window begins when the last part is up.
        if health == Health::Good && self.rolling.remove(key).is_some() && since > 0 {
            return self.advance(key, Phase::Watched { since_unix_nanos: now });
        }
        match health {
            Health::Good if since > 0 && age >= window => {
                match self.parts.hands.settle(&record.change) {
                    Ok(()) => self.advance(key, Phase::InEffect),
                    Err(error) => {
                        tracing::warn!(key = %key.0, error, "cannot settle a change; it is tried again");
                    }
                }
            }
            Health::Starting if since > 0 && age >= window + SLOW_START_NANOS => {
                let reason = "it did not come up in time".to_owned();
                self.advance(key, Phase::Undoing(Why::Unwell { reason }));
            }
            // Once it was well, what goes wrong with it is the program's own.
            Health::Bad(reason) if since > 0 => {
                self.advance(key, Phase::Undoing(Why::Unwell { reason }));
            }
            // Another node may have taken it back while this one stood still.
            Health::Reverted(_) if is_shared(&record) => self.glance(key, &record, now),
            Health::Reverted(reason) => {
                self.advance(key, Phase::Undoing(Why::Reverted { reason }));
            }
            Health::Rolling { progress, patience_seconds } if since > 0 => {
                if self.rolling.get(key) != Some(&progress) {
                    self.rolling.insert(key.clone(), progress);
                    self.advance(key, Phase::Watched { since_unix_nanos: now });
                } else if age >= patience_seconds.saturating_mul(SECOND) {
                    let reason = format!("it did not come up in time: {progress}");
                    self.advance(key, Phase::Undoing(Why::Unwell { reason }));
                }
            }
            Health::Good
            | Health::Starting
            | Health::Rolling { .. }
            | Health::Bad(_)
            | Health::Stopped => {}
        }
    }

    /// How long a change is watched before it is taken to be in effect.
    pub(super) fn window(&self) -> u64 {
        let seconds = self.parts.agents.as_ref().map_or(0, |agents| agents.window_seconds);
        u64::from(seconds) * SECOND
    }
}
