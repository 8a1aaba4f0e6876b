//! What every engine must do, asked through [`Store`] alone.
//!
//! The suite runs on the engine of [`place`]: the embedded one, or the one that the environment
//! names. What only one engine does is tested beside it.

mod alone;
mod backup;
mod calls;
pub(crate) mod control;
mod durability;
mod fleet;
mod overview;
mod power;
mod retention;
mod runs;
mod sightings;

use crate::{CallsIn, ClickHouse, Place, Store};
use contract::row::{Call, Money, Time};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Noon of a day; the day before and after it are within reach.
pub(crate) const NOON: u64 = 1_795_435_200_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// Where the suite keeps calls. An engine on a server gets a place of its own there for each
/// directory, so that a store that is opened again finds what it kept.
pub(crate) fn place(dir: &Path) -> Place {
    let Some(url) = clickhouse() else { return Place::embedded(dir) };
    let hash = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    let database = hash.iter().take(8).fold("sonde_test_".to_owned(), |t, b| format!("{t}{b:02x}"));
    // Its calls are of a day of their own, which ClickHouse's clock must not make old.
    let calls = CallsIn::ClickHouse(ClickHouse {
        database,
        watch_disks: false,
        set_ttl: false,
        cluster: of_environment("SONDE_TEST_CLICKHOUSE_CLUSTER"),
        ..ClickHouse::new(&url)
    });
    Place { data_dir: dir.into(), calls }
}

/// A ClickHouse server that may be used for the suite.
fn clickhouse() -> Option<String> {
    of_environment("SONDE_TEST_CLICKHOUSE_URL")
}

/// How often something is done that every engine must survive and that only an embedded one does
/// quickly: a server plans and writes each insertion anew, and seals nothing.
fn times(embedded: u64, server: u64) -> u64 {
    if clickhouse().is_some() { server } else { embedded }
}

#[expect(clippy::disallowed_methods, reason = "how a test is told of a server")]
fn of_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A store in a directory that is gone with the first value.
fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with(&place(&dir.path().join("data"))).unwrap();
    (dir, store)
}

/// As [`store`], on the embedded engine: for what is about its files.
fn embedded() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("data")).unwrap();
    (dir, store)
}

/// A call that went well: `start` in seconds from noon, one second long.
pub(crate) fn call(number: u64, start: i64) -> Call {
    Call {
        time: Time(NOON.checked_add_signed(start * SECOND as i64).unwrap()),
        trace_id: format!("{number:032x}"),
        span_id: format!("{number:016x}"),
        service_name: Some("agent".into()),
        workload_key: Some("host/process:agent".into()),
        operation_name: Some("chat".into()),
        provider_name: Some("openai".into()),
        request_model: Some("gpt-4o".into()),
        response_model: Some("gpt-4o-2024-08-06".into()),
        http_status: Some(200),
        duration: Some(1.0),
        input_tokens: Some(10),
        output_tokens: Some(5),
        cost: Some(Money { pico_usd: 7 }),
        ..Call::default()
    }
}
