//! Sums by one thing alone in a database that an older version made.

use super::{today, two};
use crate::clickhouse::keep::{self, Gone};
use crate::clickhouse::link::{Ask, Link};
use crate::clickhouse::schema::{Kind, LEVELS, Layout, SumTable};
use crate::conformance::{NOON, call};
use crate::units::DAY_NANOS;
use crate::{By, CallsIn, Limits, Place, SeriesQuery, Span, Store, Weight};
use contract::row::{Call, Series, Time};
use std::collections::BTreeMap;
use std::path::Path;

/// A call of one of some users, hosts and services.
fn one_of(number: u64, time: u64) -> Call {
    Call {
        time: Time(time + number),
        service_name: Some(format!("s{}", number % 2)),
        host_name: Some(format!("h{}", number % 4)),
        more: BTreeMap::from([("user.id".to_owned(), format!("u{}", number % 3).into())]),
        ..call(number, 0)
    }
}

fn series(store: &Store, by: By, (from, to): (u64, u64), percentiles: bool) -> Series {
    let span = Span { from: Time(from), to: Time(to), ..Span::default() };
    let (by, weight) = (Some(by), Weight::Calls);
    store.series(&SeriesQuery { span, by, weight, percentiles, durations: false }).unwrap()
}

/// Holds a store to so many calls by whatever thing, of which the answer from the calls agrees.
fn check(store: &Store, span: (u64, u64), calls: u64) {
    for by in By::ALONE {
        let of = |percentiles| {
            let groups = series(store, by, span, percentiles).groups.into_iter();
            let numbers = groups.map(|group| {
                let each: Vec<_> = group.series.iter().map(|stats| stats.calls).collect();
                (group.name, (group.totals.calls, group.totals.cost, each))
            });
            numbers.collect::<BTreeMap<_, _>>()
        };
        let found = of(false);
        assert_eq!(found.values().map(|(calls, ..)| calls).sum::<u64>(), calls, "{by:?}");
        assert_eq!(found, of(true), "{by:?}");
    }
}

/// Makes a database what it was for a version without sums by one thing.
fn go_back(link: &Link, layout: &Layout) {
    forget_step(link, layout);
    for level in LEVELS {
        let table = SumTable { kind: Kind::Alone, level }.name();
        for name in [layout.local(&table), layout.name(&table)] {
            let sql = format!("DROP TABLE IF EXISTS {name} {} SYNC", layout.on_cluster());
            link.execute("go back", Ask::of(sql)).unwrap();
        }
    }
}

fn forget_step(link: &Link, layout: &Layout) {
    let (ledger, cluster) = (layout.name("migration"), layout.on_cluster());
    let sql = format!("ALTER TABLE {ledger} {cluster} DELETE WHERE number >= 9");
    link.execute("go back", Ask::of(sql).setting("mutations_sync", 2)).unwrap();
}

fn server(place: &Place) -> (Link, Layout) {
    let CallsIn::ClickHouse(to) = &place.calls else { panic!() };
    (Link::open(to).unwrap(), Layout::of(to))
}

#[test]
fn calls_of_an_older_version_are_counted_by_one_thing_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(a, place), (b, other)]) = two(dir.path()) else { return };
    let (link, layout) = server(&place);
    let today = today().0 / DAY_NANOS;
    assert_eq!(keep::gone(&link, &layout).unwrap(), Gone::default(), "new");
    // The newest is of a sender whose clock is ahead.
    let days = [today - 3, today, today + 4];
    let calls = |first: u64, days: &[u64]| -> Vec<Call> {
        let of_day = |(place, &day): (usize, &u64)| {
            let numbers = first + 100 * place as u64..first + 100 * place as u64 + 12;
            numbers.map(move |number| one_of(number, day * DAY_NANOS + DAY_NANOS / 2))
        };
        days.iter().enumerate().flat_map(of_day).collect()
    };
    a.insert(calls(1000, &days)).unwrap();
    drop((a, b));
    go_back(&link, &layout);
    // Both bring it to the newest schema.
    let (a, b) = std::thread::scope(|scope| {
        let open = |place| scope.spawn(move || Store::open_with(place).unwrap());
        let (a, b) = (open(&place), open(&other));
        (a.join().unwrap(), b.join().unwrap())
    });
    let gone = keep::gone(&link, &layout).unwrap();
    assert_eq!(gone.alone_begin(), (today + 5) * DAY_NANOS);
    assert_eq!(
        (gone.horizon(), gone.has(SumTable { kind: Kind::Together, level: 60 }, 0)),
        (None, false)
    );
    let span = ((today - 5) * DAY_NANOS, (today + 8) * DAY_NANOS);
    check(&a, span, 36);
    b.insert(calls(2000, &[today - 3, today, today + 1, today + 4, today + 6])).unwrap();
    a.insert(calls(3000, &[today, today + 5])).unwrap();
    drop(b);
    for store in [a, Store::open_with(&other).unwrap()] {
        check(&store, span, 36 + 60 + 24);
        check(&store, (span.0 + 1, (today + 1) * DAY_NANOS - 1), 24 + 24 + 12);
        check(&store, ((today + 5) * DAY_NANOS, span.1), 24);
    }
}

#[test]
fn the_newest_call_of_an_older_version_may_end_on_the_next_day() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(a, place), _]) = two(dir.path()) else { return };
    let (link, layout) = server(&place);
    let day = today().0 / DAY_NANOS + 2;
    let late = |number: u64| Call {
        duration: Some(60.0),
        ..one_of(number, (day + 1) * DAY_NANOS - 30_000_000_000)
    };
    a.insert(vec![late(1), late(2)]).unwrap();
    drop(a);
    go_back(&link, &layout);
    let store = Store::open_with(&place).unwrap();
    store.insert(vec![late(3)]).unwrap();
    assert_eq!(keep::gone(&link, &layout).unwrap().alone_begin(), (day + 2) * DAY_NANOS);
    check(&store, (day * DAY_NANOS, (day + 3) * DAY_NANOS), 3);
}

#[test]
fn a_step_that_was_cut_short_is_taken_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(a, place), _]) = two(dir.path()) else { return };
    let (link, layout) = server(&place);
    let noon = today().0 / DAY_NANOS * DAY_NANOS + DAY_NANOS / 2;
    a.insert((1..=12).map(|number| one_of(number, noon)).collect()).unwrap();
    drop(a);
    go_back(&link, &layout);
    for number in 20..23 {
        let store = Store::open_with(&place).unwrap();
        store.insert(vec![one_of(number, noon)]).unwrap();
        check(&store, (noon - DAY_NANOS, noon + DAY_NANOS), number - 20 + 13);
        drop(store);
        forget_step(&link, &layout);
    }
}

#[test]
fn narrow_sums_by_one_thing_go_with_the_others_and_calls_answer() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(store, place), _]) = two(dir.path()) else { return };
    let (link, layout) = server(&place);
    let calls = (0..8)
        .flat_map(|day| (0..12).map(move |n| one_of(100 * day + n + 1, NOON - day * DAY_NANOS)));
    store.insert(calls.collect()).unwrap();
    let span = |day: u64| {
        (NOON - day * DAY_NANOS - DAY_NANOS / 48, NOON - day * DAY_NANOS + DAY_NANOS / 48)
    };
    let limits = |days| Limits { days, ..Limits::default() };
    for days in [30, 5] {
        store.retain(&limits(days), &|_: &Path| None, Time(NOON)).unwrap();
        for level in LEVELS {
            let [together, alone] = SumTable::of_level(level)
                .map(|table| keep::days(&link, &layout, &table.name()).unwrap());
            assert_eq!(together, alone, "{level}, {days}");
        }
        let gone = keep::gone(&link, &layout).unwrap();
        let ends = [Kind::Together, Kind::Alone]
            .map(|kind| gone.has(SumTable { kind, level: 60 }, NOON - 4 * DAY_NANOS));
        assert_eq!(ends, [true, true]);
        check(&store, span(0), 12);
        check(&store, span(4), 12);
    }
    let of_users = series(&store, By::User, (NOON - 9 * DAY_NANOS, NOON + DAY_NANOS), false);
    assert_eq!(of_users.groups.iter().map(|group| group.totals.calls).sum::<u64>(), 96);
}
