//! What is forgotten, when, and what stays of it.

use super::{NOON, SECOND, call, embedded, store};
use crate::{CallsQuery, Disk, Error, Filter, Limits, Span, Standing, Store};
use contract::row::{Call, Stats, Time};
use std::path::Path;

const DAY: u64 = 86_400 * SECOND;
const NOW: Time = Time(NOON);

/// A disk with so many percent in use.
fn disk(percent: u64) -> impl Fn(&Path) -> Option<Disk> {
    move |_| Some(Disk { total: 1_000_000, available: (100 - percent) * 10_000 })
}

/// A call for each of so many days, the newest today.
fn calls(days: u64) -> Vec<Call> {
    (0..days).map(|day| call(day + 1, -(day as i64) * 86_400)).collect()
}

fn days(store: &Store) -> usize {
    store.calls(&CallsQuery { limit: 1000, ..CallsQuery::default() }).unwrap().calls.len()
}

fn totals(store: &Store, from: u64, to: u64) -> Stats {
    store.overview(&Span { from: Time(from), to: Time(to), ..Span::default() }).unwrap().totals
}

fn names(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("calls-") && name.ends_with(".db"));
    names.sort();
    names
}

#[test]
fn days_go_when_they_are_old_and_their_numbers_stay() {
    let (dir, store) = store();
    store.insert(calls(40)).unwrap();
    let before = totals(&store, NOON - 60 * DAY, NOON + DAY);
    assert_eq!(before.calls, 40);
    let limits = Limits { days: 30, ..Limits::default() };
    let done = store.retain(&limits, &disk(10), NOW).unwrap();
    assert_eq!((done.aged.len(), done.dropped, done.days), (9, None, 31));
    assert_eq!((done.aged[0].as_str(), done.oldest.as_deref()), ("2026-10-15", Some("2026-10-24")));
    assert_eq!(done.standing, Standing::Good);
    assert_eq!(days(&store), 31);
    assert_eq!(totals(&store, NOON - 60 * DAY, NOON + DAY), before, "over all days");
    let gone = Span { from: Time(NOON - 35 * DAY), to: Time(NOON - 32 * DAY), ..Span::default() };
    let found = store.overview(&Span { filter: Filter::service("agent"), ..gone }).unwrap();
    assert_eq!((found.totals.calls, found.by_model.len(), found.services.len()), (3, 1, 1));
    let of = |stats: &Stats| {
        (stats.calls, stats.cost, stats.output_tokens, stats.duration, stats.time_to_first_chunk)
    };
    assert_eq!(of(&found.by_model[0].stats), of(&found.totals));
    assert_eq!(found.previous.calls, 3);
    assert_eq!(
        totals(&store, NOON - 35 * DAY + 1, NOON - 35 * DAY + 7200 * SECOND).calls,
        0,
        "its hour began before"
    );
    assert_eq!(
        totals(&store, NOON - 35 * DAY - 1, NOON - 35 * DAY + 60).calls,
        1,
        "its whole hour"
    );
    assert_eq!(store.retain(&limits, &disk(10), NOW).unwrap().aged, [""; 0]);
    drop(store);
    let data = dir.path().join("data");
    let store = Store::open_with(&super::place(&data)).unwrap();
    assert_eq!(totals(&store, NOON - 60 * DAY, NOON + DAY), before, "after a restart");
}

#[test]
fn a_removal_that_was_cut_short_is_finished_and_counts_nothing_twice() {
    let (dir, store) = embedded();
    let data = dir.path().join("data");
    store.insert(calls(3)).unwrap();
    drop(store);
    let name = "calls-2026-11-21.db";
    let copy = std::fs::read(data.join(name)).unwrap();
    let store = Store::open(&data).unwrap();
    let limits = Limits { days: 1, ..Limits::default() };
    store.retain(&limits, &disk(10), NOW).unwrap();
    drop(store);
    std::fs::write(data.join(name), copy).unwrap();
    let store = Store::open(&data).unwrap();
    assert_eq!(totals(&store, NOON - 9 * DAY, NOON + DAY).calls, 3);
    assert_eq!(days(&store), 2);
    assert!(!names(&data).iter().any(|file| file == name));
}

#[test]
fn late_calls_of_a_day_that_went_are_told_apart() {
    let (_dir, store) = store();
    store.insert(calls(3)).unwrap();
    store.retain(&Limits { days: 1, ..Limits::default() }, &disk(10), NOW).unwrap();
    let kept =
        store.insert(vec![call(50, -2 * 86_400), call(51, -3 * 86_400), call(52, 0)]).unwrap();
    assert_eq!((kept.new.len(), kept.too_old), (1, 2));
    assert_eq!(totals(&store, NOON - 9 * DAY, NOON + DAY).calls, 4);
}

#[test]
fn a_disk_that_fills_up_loses_its_oldest_day_first_and_is_never_filled() {
    let (_dir, store) = store();
    store.insert(calls(4)).unwrap();
    let limits = Limits::default();
    let standing = |percent| store.retain(&limits, &disk(percent), NOW).unwrap().standing;
    assert_eq!(
        (standing(84), standing(85), standing(89)),
        (Standing::Good, Standing::Warning, Standing::Warning,)
    );
    assert_eq!(days(&store), 4);
    let done = store.retain(&limits, &disk(90), NOW).unwrap();
    assert_eq!(done.dropped.as_deref(), Some("2026-11-20"));
    assert_eq!((done.days, done.standing, days(&store)), (3, Standing::Dropping, 3));
    store.insert(vec![call(9, 1)]).unwrap();
    for _ in 0..5 {
        assert_eq!(standing(95), Standing::Full);
    }
    assert_eq!(days(&store), 2, "today stays, with its two calls");
    assert!(matches!(store.insert(vec![call(10, 2)]), Err(Error::Full)));
    assert_eq!(standing(50), Standing::Good);
    assert_eq!(store.insert(vec![call(10, 2)]).unwrap().new.len(), 1);
    assert_eq!(totals(&store, NOON - 9 * DAY, NOON + DAY).calls, 6);
}

#[test]
fn a_disk_that_gets_room_by_losing_a_day_loses_no_more() {
    let (dir, store) = embedded();
    store.insert(calls(4)).unwrap();
    let data = dir.path().join("data");
    let full = move |_: &Path| {
        let available =
            if names(&data).iter().any(|n| n.starts_with("calls-2026-11-20")) { 8 } else { 20 };
        Some(Disk { total: 100, available })
    };
    for _ in 0..3 {
        store.retain(&Limits::default(), &full, NOW).unwrap();
    }
    assert_eq!(days(&store), 3);
}

#[test]
fn narrow_sums_go_and_the_numbers_stay() {
    let (dir, store) = embedded();
    // So many that an engine that seals later has sealed them.
    let calls: Vec<Call> = (1..=36_000).map(|n| call(n, n as i64 % 3000 * 7 - 10_000)).collect();
    store.insert(calls.clone()).unwrap();
    let ask = |store: &Store| {
        let at = |seconds: u64| Time(NOON - 20_000 * SECOND + seconds * SECOND);
        [(0, 40_000), (11_111, 22_222), (3_601, 3_700)].map(|(from, to)| {
            store.overview(&Span { from: at(from), to: at(to), ..Span::default() }).unwrap()
        })
    };
    let before = ask(&store);
    let file = dir.path().join("data").join("calls-2026-11-23.db");
    let bytes = || std::fs::metadata(&file).unwrap().len();
    store.retain(&Limits::default(), &disk(10), Time(NOON + 2 * DAY)).unwrap();
    assert_eq!(ask(&store), before, "nothing went yet");
    store.retain(&Limits::default(), &disk(10), Time(NOON + 3 * DAY)).unwrap();
    assert_eq!(ask(&store), before);
    let late = call(50_000, 5);
    store.insert(vec![late]).unwrap();
    assert_eq!(ask(&store)[0].totals.calls, before[0].totals.calls + 1);
    drop(store);
    let with_fives = bytes();
    let store = Store::open(&dir.path().join("data")).unwrap();
    let limits = Limits { days: 100, ..Limits::default() };
    store.retain(&limits, &disk(10), Time(NOON + 40 * DAY)).unwrap();
    assert_eq!(ask(&store)[0].totals.calls, before[0].totals.calls + 1);
    drop(store);
    assert!(bytes() < with_fives, "the space is given back: {} of {with_fives}", bytes());
}
