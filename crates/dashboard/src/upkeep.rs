//! Forgets old days in the background, and watches that the disk is never full.

use crate::app::App;
use crate::hub::Event;
use contract::row::Storage;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use storage::{Disk, Limits, ReadDisk, Retained};
use tokio::sync::watch;

/// How often the disk is looked at. At 100 MB/s it takes longer to fill the last 5 % of 120 GB.
const EVERY: Duration = Duration::from_secs(60);

/// How often it is asked what other dashboards changed: a wish shall be with its node in a second.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);
/// The same while they cannot be asked.
const FOLLOW_AGAIN: Duration = Duration::from_secs(2);

/// Looks now and every minute, until the dashboard stops.
pub(crate) async fn run(state: App, limits: Limits, mut stopping: watch::Receiver<bool>) {
    loop {
        let shared = Arc::clone(&state);
        let done = tokio::task::spawn_blocking(move || look(&shared, &limits, &disk)).await;
        if let Err(error) = done {
            tracing::error!(%error, "upkeep of what is kept ended early; it begins again in a minute");
        }
        let stop = stopping.wait_for(|stopping| *stopping);
        // Whoever would say so is gone: that is the end, too.
        if tokio::time::timeout(EVERY, stop).await.is_ok() {
            return;
        }
    }
}

/// Follows what other dashboards on the same store change, until the dashboard stops: a wish that
/// is made at one of them wakes the poll that waits here.
pub(crate) async fn follow(state: App, mut stopping: watch::Receiver<bool>) {
    loop {
        let shared = Arc::clone(&state);
        let pause = match tokio::task::spawn_blocking(move || shared.store.follow()).await {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(changed))) => {
                if changed {
                    state.hub.wake_all();
                    state.hub.publish(Event::Services);
                    state.hub.publish(Event::Status);
                }
                FOLLOW_EVERY
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot follow the other dashboards; trying again");
                FOLLOW_AGAIN
            }
            Err(error) => {
                tracing::error!(%error, "following the other dashboards ended early; it begins again");
                FOLLOW_AGAIN
            }
        };
        let stop = stopping.wait_for(|stopping| *stopping);
        if tokio::time::timeout(pause, stop).await.is_ok() {
            return;
        }
    }
}

/// Forgets what has to go, and notes how things are for the page.
pub(crate) fn look(state: &App, limits: &Limits, disk: &ReadDisk) {
    let now = (state.clock)();
    if let Err(error) = state.store.expire_steps(now) {
        tracing::error!(%error, "cannot end steps whose time is over; it is tried again in a minute");
    }
    let retained = match state.store.retain(limits, disk, now) {
        Ok(retained) => retained,
        Err(error) => {
            // The next look tries again.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "cannot forget old calls; it is tried again in a minute");
            return;
        }
    };
    for day in &retained.aged {
        tracing::info!(day, "calls of a day went because of their age");
    }
    if let Some(day) = &retained.dropped {
        tracing::warn!(day, "calls of the oldest day went because the disk fills up");
    }
    let mut storage = state.storage.lock().unwrap_or_else(PoisonError::into_inner);
    let before = storage.take();
    let mut found = storage_row(&retained, limits, before.as_ref(), now);
    found.engine = state.store.engine().into();
    // A first look that finds all well is no news.
    let changed = before.map_or("good".to_owned(), |before| before.standing) != found.standing
        || retained.dropped.is_some()
        || !retained.aged.is_empty();
    if changed && found.standing != "good" {
        let percent = found.disk_used_percent;
        tracing::warn!(
            standing = found.standing,
            percent,
            "the disk of the data directory fills up"
        );
    }
    *storage = Some(found);
    drop(storage);
    if changed {
        state.hub.publish(Event::Status);
    }
}

fn storage_row(
    retained: &Retained,
    limits: &Limits,
    before: Option<&Storage>,
    checked: contract::row::Time,
) -> Storage {
    let dropped = before.map_or(0, |before| before.dropped_days);
    Storage {
        checked,
        standing: retained.standing.word().into(),
        oldest_day: retained.oldest.clone(),
        days: retained.days,
        keep_days: limits.days,
        engine: String::new(),
        ttl_days: retained.ttl_days,
        disk_bytes: retained.disk.map(|disk| disk.total),
        disk_available_bytes: retained.disk.map(|disk| disk.available),
        disk_used_percent: retained.disk.map(|disk| disk.percent()),
        dropped_days: dropped + u64::from(retained.dropped.is_some()),
    }
}

/// What `df` shows: blocks kept for root are neither free nor ours.
fn disk(path: &Path) -> Option<Disk> {
    let found = rustix::fs::statvfs(path).ok()?;
    let block = found.f_frsize.max(1);
    let reserved = found.f_bfree.saturating_sub(found.f_bavail);
    let total = found.f_blocks.saturating_sub(reserved).saturating_mul(block);
    Some(Disk { total, available: found.f_bavail.saturating_mul(block) }).filter(|_| total > 0)
}

#[cfg(test)]
mod tests {
    use super::disk;
    use std::path::Path;

    #[test]
    fn the_disk_of_a_directory_can_be_read() {
        let found = disk(Path::new("/tmp")).unwrap();
        assert!(found.total > 0 && found.available <= found.total, "{found:?}");
        assert_eq!(disk(Path::new("/nowhere/at/all")), None);
    }
}
