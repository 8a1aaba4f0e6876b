//! A copy made under load holds what was kept before, and becomes a store again.

use super::{NOON, SECOND, call, embedded};
use crate::{CallsQuery, Disk, Error, Limits, Span, Store, TokenKind};
use contract::row::{Call, Time};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const NOW: Time = Time(NOON);
const DAY: u64 = 86_400 * SECOND;

fn all(store: &Store) -> Vec<Call> {
    store.calls(&CallsQuery { limit: 1_000_000, ..CallsQuery::default() }).unwrap().calls
}

fn totals(store: &Store) -> contract::row::Stats {
    let (from, to) = (Time(NOON - 30 * DAY), Time(NOON + DAY));
    store.overview(&Span { from, to, ..Span::default() }).unwrap().totals
}

/// Three days of calls, of which the first went, and a token.
fn used(store: &Store) -> String {
    let calls = (0..3).flat_map(|day: i64| {
        (1..=200).map(move |n| call(n + 1000 * day as u64, -86_400 * day + n as i64))
    });
    store.insert(calls.collect()).unwrap();
    let disk = |_: &Path| Some(Disk { total: 100, available: 50 });
    store.retain(&Limits { days: 1, ..Limits::default() }, &disk, NOW).unwrap();
    store.make_token(&crate::NewToken::new(TokenKind::Api, "test"), NOW).unwrap()
}

#[test]
fn a_copy_becomes_the_same_store_again() {
    let (dir, store) = embedded();
    let token = used(&store);
    let (copy, again) = (dir.path().join("copy"), dir.path().join("again"));
    let copied = Store::backup(&dir.path().join("data"), &copy, NOW).unwrap();
    assert_eq!(copied.files.len(), 5, "{:?}", copied.files.keys());
    assert_eq!(Store::restore(&copy, &again).unwrap(), copied);
    let restored = Store::open(&again).unwrap();
    assert_eq!(all(&restored), all(&store));
    assert_eq!((totals(&restored), totals(&store).calls), (totals(&store), 600));
    assert!(restored.bearer(&token, NOW).is_ok());
    assert_eq!(restored.insert(vec![call(1, 1), call(9999, 2)]).unwrap().duplicates, 1);
    assert_eq!(totals(&store).calls, 600, "the first store is its own");
}

#[test]
fn what_was_kept_before_the_copy_is_in_it_and_writing_goes_on() {
    let (dir, store) = embedded();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (1..).step_by(3) {
                let calls = (0..3).map(|n| call(number + n, n as i64 * 40_000)).collect();
                store.insert(calls).unwrap();
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        for round in 0..4 {
            while all(&store).len() < round * 60 + 30 {}
            let before = all(&store);
            let copy = dir.path().join(format!("copy-{round}"));
            Store::backup(&dir.path().join("data"), &copy, NOW).unwrap();
            let again = dir.path().join(format!("again-{round}"));
            Store::restore(&copy, &again).unwrap();
            let restored = Store::open(&again).unwrap();
            let found = all(&restored);
            assert!(before.iter().all(|call| found.contains(call)), "round {round}");
            assert_eq!(totals(&restored).calls, found.len() as u64, "sums are of the same moment");
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_directory_without_control_state_is_no_copy_that_looks_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (empty, copy) = (dir.path().join("empty"), dir.path().join("copy"));
    std::fs::create_dir(&empty).unwrap();
    let error = Store::backup(&empty, &copy, NOW).unwrap_err();
    assert!(error.to_string().contains("--clickhouse"), "{error}");
    assert!(!copy.exists());
}

#[test]
fn copies_that_are_not_whole_and_directories_in_use_are_refused() {
    let (dir, store) = embedded();
    used(&store);
    let (copy, again) = (dir.path().join("copy"), dir.path().join("again"));
    Store::backup(&dir.path().join("data"), &copy, NOW).unwrap();
    assert!(matches!(
        Store::backup(&dir.path().join("data"), &copy, NOW),
        Err(Error::NotEmpty { .. })
    ));
    let data = dir.path().join("data");
    assert!(matches!(Store::restore(&copy, &data), Err(Error::NotEmpty { .. })));
    let refused = || {
        let error = Store::restore(&copy, &again).unwrap_err();
        assert!(matches!(error, Error::NotABackup { .. }), "{error}");
        assert!(!again.exists(), "nothing was made");
        error.to_string()
    };
    let day = copy.join("calls-2026-11-23.db");
    let whole = std::fs::read(&day).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(&day, damaged).unwrap();
    assert!(refused().contains("damaged"));
    std::fs::write(&day, whole).unwrap();
    let manifest = std::fs::read_to_string(copy.join("backup.json")).unwrap();
    for bad in [
        manifest.replace("history.db", "../history.db"),
        manifest.replace("calls-2026-11-23.db", "calls-/../x.db"),
        manifest.replace("control.db", "other.db"),
        "{}".into(),
    ] {
        std::fs::write(copy.join("backup.json"), bad).unwrap();
        refused();
    }
    std::fs::remove_file(copy.join("backup.json")).unwrap();
    assert!(refused().contains("not a whole one"));
    std::fs::write(copy.join("backup.json"), manifest).unwrap();
    Store::restore(&copy, &again).unwrap();
}
