//! Numbers by one thing alone agree with the calls, whether they come from sums or from the calls.

use super::overview::{calls, check_numbers, ended};
use super::sightings::{kernel, sdk};
use super::{NOON, SECOND, call, place, store, times};
use crate::{By, Limits, SeriesQuery, Span, Store, Weight};
use contract::row::{Call, Group, Series, Time};
use std::collections::BTreeMap;

const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// What a call has of it.
fn of(by: By, call: &Call) -> Option<String> {
    let more = |keys: &[&str]| {
        let value = keys.iter().find_map(|key| call.more.get(*key))?;
        value.as_str().map(str::to_owned)
    };
    match by {
        By::Service => call.service_name.clone(),
        By::Model => call.request_model.clone().or_else(|| call.response_model.clone()),
        By::Host => call.host_name.clone(),
        By::Environment => more(&["deployment.environment.name"]),
        By::User => more(&["user.id", "enduser.id", "user.name"]),
        By::Agent => more(&["gen_ai.agent.name", "gen_ai.agent.id"]),
        other => panic!("{other:?}"),
    }
}

fn series(store: &Store, by: By, (from, to): (u64, u64), percentiles: bool) -> Series {
    let span = Span { from: Time(from), to: Time(to), ..Span::default() };
    let (by, weight) = (Some(by), Weight::Cost);
    store.series(&SeriesQuery { span, by, weight, percentiles, durations: false }).unwrap()
}

/// Calls by what they have of something, and by bucket.
type Groups<'a> = BTreeMap<Option<String>, BTreeMap<u64, Vec<&'a Call>>>;

/// Holds every group to the calls that it is of.
fn check(store: &Store, calls: &[Call], by: By, (from, to): (u64, u64)) {
    let found = series(store, by, (from, to), false);
    let what = format!("by {by:?}, {} to {}", Time(from), Time(to));
    assert!(!found.truncated && !found.partial, "{what}");
    let step = found.step_seconds * SECOND;
    let mut groups = Groups::new();
    for call in calls.iter().filter(|call| (from..to).contains(&ended(call))) {
        let bucket = ended(call) / step * step;
        groups.entry(of(by, call)).or_default().entry(bucket).or_default().push(call);
    }
    assert_eq!(found.groups.len(), groups.len().min(9), "{what}");
    for Group { name, other, totals, series, .. } in &found.groups {
        let what = format!("{what}: {name:?}, {other}");
        let own = if *other {
            let mut rest: BTreeMap<u64, Vec<&Call>> = BTreeMap::new();
            let buckets = std::mem::take(&mut groups).into_values().flatten();
            buckets.for_each(|(bucket, calls)| rest.entry(bucket).or_default().extend(calls));
            rest
        } else {
            groups.remove(name).unwrap_or_else(|| panic!("{what}"))
        };
        let all: Vec<&Call> = own.values().flatten().copied().collect();
        check_numbers(totals, &all, &what);
        assert_eq!((&totals.duration, &totals.input_tokens_per_call), (&None, &None), "{what}");
        for (time, stats) in found.times.iter().zip(series) {
            let own = own.get(&time.0).map(Vec::as_slice).unwrap_or_default();
            check_numbers(stats, own, &format!("{what} at {time}"));
        }
    }
    assert_eq!(groups, Groups::new(), "{what}");
}

/// So many calls that the embedded engine seals most of them.
fn sealed(many: u64) -> u64 {
    times(many, many / 10)
}

#[test]
fn numbers_by_one_thing_agree_with_the_calls_whatever_the_order() {
    let (dir, store) = store();
    let calls = calls(sealed(52_000));
    let (late, now): (Vec<_>, Vec<_>) = calls.iter().cloned().partition(|c| c.time.0 % 5 == 0);
    let at = |hours: i64| NOON.checked_add_signed(hours * HOUR as i64).unwrap();
    let spans = [
        (at(-55), at(72)),
        (at(-12) - 1, at(12) + 1),
        (at(-5) + 123_456_789, at(7) + 987_654_321),
        (at(0), at(1)),
        (at(-40 * 24), at(40 * 24)),
    ];
    for part in now.chunks(640) {
        store.insert(part.to_vec()).unwrap();
    }
    By::ALONE.into_iter().for_each(|by| check(&store, &now, by, spans[0]));
    for part in late.chunks(640).rev() {
        store.insert(part.to_vec()).unwrap();
        assert_eq!(store.insert(part.to_vec()).unwrap().new.len(), 0);
    }
    drop(store);
    let store = Store::open_with(&place(&dir.path().join("data"))).unwrap();
    for (by, span) in By::ALONE.into_iter().flat_map(|by| spans.map(|span| (by, span))) {
        check(&store, &calls, by, span);
    }
}

/// Seen in the kernel, sealed, and then seen by an SDK, which knows for whom.
#[test]
fn what_a_later_sighting_knows_moves_a_call_to_its_group() {
    let (_dir, store) = store();
    let many = sealed(15_000);
    let response_id = |number: u64| Some(format!("chatcmpl-{number}"));
    let time = |number: u64| Time(NOON + number * SECOND / 20);
    let exact = |number: u64| Call {
        time: time(number),
        trace_id: format!("{number:032x}"),
        span_id: format!("{number:016x}"),
        response_id: response_id(number),
        ..kernel()
    };
    let tree = |number: u64| {
        let mut call = Call {
            time: time(number),
            trace_id: format!("{:032x}", number + many),
            span_id: format!("{:016x}", number + many),
            response_id: response_id(number),
            ..sdk()
        };
        call.more.insert("user.id".to_owned(), format!("u{}", number % 3).into());
        call
    };
    for first in (1..=many).step_by(100) {
        store.insert((first..first + 100).map(exact).collect()).unwrap();
    }
    let seen: Vec<u64> = (1..=many).filter(|number| number % 2 == 0).collect();
    for part in seen.chunks(500) {
        let kept = store.insert(part.iter().copied().map(tree).collect()).unwrap();
        assert_eq!(kept.joined, part.len() as u64);
    }
    let span = (NOON - HOUR, NOON + HOUR);
    let found = series(&store, By::User, span, false);
    let of_calls = series(&store, By::User, span, true);
    let counts = |series: &Series| -> BTreeMap<_, _> {
        series.groups.iter().map(|g| (g.name.clone(), (g.totals.calls, g.totals.cost))).collect()
    };
    assert_eq!(counts(&found), counts(&of_calls));
    assert_eq!(counts(&found).values().map(|(calls, _)| calls).sum::<u64>(), many);
    assert_eq!(counts(&found)[&Some("u1".into())].0, many / 6);
    assert_eq!(counts(&found)[&None].0, many / 2);
}

#[test]
fn numbers_by_one_thing_stay_when_the_calls_are_gone() {
    let (_dir, store) = store();
    let call = |day: u64| Call {
        host_name: Some(format!("h{}", day % 2)),
        more: BTreeMap::from([("user.id".to_owned(), format!("u{}", day % 3).into())]),
        ..call(day + 1, -(day as i64) * 86_400)
    };
    store.insert((0..40).map(call).collect()).unwrap();
    let limits = Limits { days: 30, ..Limits::default() };
    let disk = |_: &std::path::Path| None;
    assert_eq!(store.retain(&limits, &disk, Time(NOON)).unwrap().aged.len(), 9);
    let counts = |by, span| -> BTreeMap<_, _> {
        let found = series(&store, by, span, false).groups.into_iter();
        found.map(|group| (group.name.unwrap(), group.totals.calls)).collect()
    };
    let of = |names: &[(&str, u64)]| -> BTreeMap<_, _> {
        names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    };
    let all = (NOON - 60 * DAY, NOON + DAY);
    assert_eq!(counts(By::User, all), of(&[("u0", 14), ("u1", 13), ("u2", 13)]));
    assert_eq!(counts(By::Host, all), of(&[("h0", 20), ("h1", 20)]));
    assert_eq!(counts(By::Service, all), of(&[("agent", 40)]));
    let gone = (NOON - 35 * DAY, NOON - 32 * DAY);
    assert_eq!(counts(By::User, gone), of(&[("u0", 1), ("u1", 1), ("u2", 1)]));
}

#[test]
fn more_than_can_be_told_apart_are_one_and_none_is_lost() {
    let (_dir, store) = store();
    let many = 10_200;
    let call = |number: u64| Call {
        more: BTreeMap::from([("user.id".to_owned(), format!("u{number}").into())]),
        ..call(number, number as i64 % 600)
    };
    let calls: Vec<Call> = (1..=many).map(call).collect();
    for part in calls.chunks(500) {
        store.insert(part.to_vec()).unwrap();
    }
    let found = series(&store, By::User, (NOON - HOUR, NOON + HOUR), false);
    assert!(found.truncated);
    assert_eq!(found.groups.iter().map(|group| group.totals.calls).sum::<u64>(), many);
}
