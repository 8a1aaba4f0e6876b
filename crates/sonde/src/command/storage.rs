//! `sonde storage`: what is kept, copies of it, and a data directory of a copy.

use crate::api::Api;
use crate::cli::{DataDir, Storage, StorageAction, Target};
use crate::command::run::calls_in;
use crate::failure::Failure;
use crate::place;
use anyhow::Context as _;
use contract::row::{Status, Time};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use storage::{CallsIn, Store};

/// Does what is asked.
pub(crate) fn run(options: &Storage) -> Result<(), Failure> {
    match &options.action {
        StorageAction::Status(target) => status(target),
        StorageAction::Backup { to, data, store } => {
            let mut out = std::io::stdout();
            if let CallsIn::ClickHouse(of) = calls_in(store)? {
                let copied = Store::backup_shared(&of, to, now())
                    .with_context(|| format!("cannot copy control state of {}", of.url))?;
                writeln!(out, "copied control state, {}, to {}", size(copied.bytes), to.display())?;
                writeln!(
                    out,
                    "the copy holds secrets; calls are copied by ClickHouse's own BACKUP"
                )?;
                return Ok(());
            }
            let from = data_dir(data)?;
            let copied = Store::backup(&from, to, now())
                .with_context(|| format!("cannot copy `{}`", from.display()))?;
            let (files, bytes) = (copied.files.len(), size(copied.bytes));
            writeln!(out, "copied {files} files, {bytes}, to {}", to.display())?;
            writeln!(out, "the copy holds secrets: keep it as safe as the data directory")?;
            Ok(())
        }
        StorageAction::Restore { from, data, store } => {
            let mut out = std::io::stdout();
            if let CallsIn::ClickHouse(to) = calls_in(store)? {
                let copied = Store::restore_shared(from, &to)
                    .with_context(|| format!("cannot bring `{}` to {}", from.display(), to.url))?;
                let (database, time) = (&to.database, copied.time);
                writeln!(out, "database {database} holds the control state of {time}")?;
                return Ok(());
            }
            let to = data_dir(data)?;
            let copied = Store::restore(from, &to)
                .with_context(|| format!("cannot make a data directory of `{}`", from.display()))?;
            writeln!(out, "{} holds what was kept at {}", to.display(), copied.time)?;
            Ok(())
        }
    }
}

fn data_dir(named: &DataDir) -> Result<PathBuf, Failure> {
    named.data_dir.clone().map_or_else(place::default_data_dir, Ok)
}

fn status(target: &Target) -> Result<(), Failure> {
    let answer = Api::open(target)?.get("/api/v1/status", &[])?;
    let status: Status = serde_json::from_value(answer)
        .context("cannot read the status; is the dashboard of another version?")?;
    let mut out = std::io::stdout().lock();
    let engine = status.storage.as_ref().map_or("", |storage| match storage.engine.as_str() {
        "sqlite" => " in SQLite",
        "clickhouse" => " in ClickHouse",
        _ => "",
    });
    writeln!(out, "kept       {}{engine}", size(status.storage_bytes))?;
    let Some(storage) = status.storage else {
        writeln!(out, "disk       not looked at yet; ask again in a minute")?;
        return Ok(());
    };
    let oldest = storage.oldest_day.as_deref().unwrap_or("none");
    writeln!(
        out,
        "days       {} of at most {} before today, the oldest {oldest}",
        storage.days, storage.keep_days
    )?;
    if let Some(days) = storage.ttl_days {
        writeln!(out, "ttl        {days} days, after which ClickHouse removes calls by itself")?;
    }
    if let (Some(percent), Some(available)) =
        (storage.disk_used_percent, storage.disk_available_bytes)
    {
        writeln!(out, "disk       {percent} % used, {} available", size(available))?;
    }
    writeln!(out, "standing   {}", storage.standing)?;
    if storage.dropped_days > 0 {
        writeln!(
            out,
            "dropped    {} days before their time, because the disk filled up",
            storage.dropped_days
        )?;
    }
    Ok(())
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "shown with one place")]
    let mut size = bytes as f64;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} bytes") } else { format!("{size:.1} {}", UNITS[unit]) }
}

#[expect(clippy::disallowed_methods, reason = "the edge at which time enters")]
fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            [0, 1023, 1024, 3 << 29].map(size),
            ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 GiB"]
        );
    }
}
