//! Overviews of long times agree with the calls, however late and often these came.

use super::{NOON, SECOND, call, store, times};
use crate::{Filter, Span, Store};
use contract::row::{Call, Distribution, Money, Overview, Stats, Time};
use std::collections::{BTreeMap, BTreeSet};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Numbers that look random and are the same every time (Knuth's MMIX).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// Calls of four days around noon, some of which end on the next day or hours later.
pub(super) fn calls(len: u64) -> Vec<Call> {
    let mut chance = Chance(7);
    let mut one = |number: u64| {
        let start = chance.below(4 * DAY as u64) as i64 - 2 * DAY;
        let nanos = chance.below(SECOND);
        let stream = chance.one_in(2);
        let failed = chance.one_in(9);
        let call = call(number, start);
        Call {
            time: Time(call.time.0 + nanos),
            service_name: Some(format!("s{}", chance.below(4))),
            workload_key: Some(format!("h/process:{}", chance.below(4))),
            request_model: (!chance.one_in(9)).then(|| format!("m{}", chance.below(12))),
            operation_name: Some(if chance.one_in(8) { "embeddings" } else { "chat" }.into()),
            request_stream: stream.then_some(true),
            // A wide distribution with a long tail; a few take hours, and one in 15 is not known.
            duration: (!chance.one_in(15)).then(|| {
                let seconds = 10_f64.powi(chance.below(5) as i32 - 2);
                let long: f64 = if chance.one_in(200) { 20_000.0 } else { 1.0 };
                seconds * long.max(1.0 + chance.below(900) as f64 / 100.0)
            }),
            time_to_first_chunk: stream.then(|| chance.below(3000) as f64 / 1000.0),
            error_type: failed.then(|| {
                ["429", "overloaded_error", "client_cancelled", "?"][chance.below(4) as usize]
                    .into()
            }),
            input_tokens: (!failed).then(|| chance.below(100_000)),
            cache_read_tokens: chance.one_in(3).then(|| chance.below(1000)),
            cost: (!chance.one_in(5)).then(|| Money { pico_usd: chance.below(1 << 40).into() }),
            host_name: (!chance.one_in(6)).then(|| format!("h{}", chance.below(3))),
            more: more(&mut chance),
            ..call
        }
    };
    (1..=len).map(&mut one).collect()
}

/// Attributes that say where a program runs and for whom, under several names, and others.
fn more(chance: &mut Chance) -> BTreeMap<String, serde_json::Value> {
    let mut more = BTreeMap::from([("service.namespace".to_owned(), "shop".into())]);
    let mut name = |key: &str, one_in: u64, value: String| {
        if chance.one_in(one_in) {
            more.insert(key.to_owned(), value.into());
        }
    };
    for number in 0..3 {
        name("user.id", 5, format!("u{number}"));
        name("enduser.id", 6, format!("u{number}"));
        name("user.name", 9, format!("\"{number}\" née"));
        name("gen_ai.agent.name", 5, format!("a{number}"));
        name("gen_ai.agent.id", 5, format!("a{number}"));
        name("deployment.environment.name", 4, format!("e{number}"));
    }
    more
}

pub(super) fn ended(call: &Call) -> u64 {
    call.time.0 + (call.duration.unwrap_or(0.0) * 1e9).round() as u64
}

fn of_service(call: &Call, service: Option<&str>) -> bool {
    service.is_none_or(|service| {
        call.service_name.as_deref() == Some(service)
            || call.workload_key.as_deref() == Some(service)
    })
}

/// Holds numbers and distributions to the calls that they are of.
fn check(stats: &Stats, calls: &[&Call], what: &str) {
    check_numbers(stats, calls, what);
    let chats = calls.iter().filter(|c| c.operation_name.as_deref() == Some("chat"));
    let fine = || chats.clone().filter(|c| c.error_type.is_none());
    near(stats.duration, fine().filter_map(|c| c.duration).collect(), what);
    near(stats.time_to_first_chunk, fine().filter_map(|c| c.time_to_first_chunk).collect(), what);
}

/// Holds numbers to the calls that they are of.
pub(super) fn check_numbers(stats: &Stats, calls: &[&Call], what: &str) {
    let chats: Vec<_> =
        calls.iter().filter(|c| c.operation_name.as_deref() == Some("chat")).collect();
    let cancelled = |c: &Call| c.error_type.as_deref() == Some("client_cancelled");
    let failed = |c: &Call| c.error_type.is_some() && !cancelled(c);
    assert_eq!(stats.calls, chats.len() as u64, "{what}");
    assert_eq!(stats.embeddings, (calls.len() - chats.len()) as u64, "{what}");
    assert_eq!(stats.errors, chats.iter().filter(|c| failed(c)).count() as u64, "{what}");
    assert_eq!(stats.cancelled, chats.iter().filter(|c| cancelled(c)).count() as u64, "{what}");
    assert_eq!(stats.error_classes.values().sum::<u64>(), stats.errors, "{what}");
    let limited = chats.iter().filter(|c| c.error_type.as_deref() == Some("429")).count() as u64;
    assert_eq!(stats.error_classes.get("rate_limit").copied().unwrap_or(0), limited, "{what}");
    let sum =
        |of: fn(&Call) -> Option<u128>| calls.iter().filter_map(|c| of(c)).reduce(|a, b| a + b);
    assert_eq!(stats.cost.map(|c| c.pico_usd), sum(|c| Some(c.cost?.pico_usd)), "{what}");
    assert_eq!(stats.input_tokens.map(u128::from), sum(|c| c.input_tokens.map(u128::from)));
    assert_eq!(
        stats.cache_read_tokens.map(u128::from),
        sum(|c| c.cache_read_tokens.map(u128::from))
    );
    let unpriced = calls.iter().filter(|c| c.cost.is_none() && c.error_type.is_none()).count();
    assert_eq!(stats.unpriced_calls, unpriced as u64, "{what}");
}

/// Holds percentiles to within 1 % of the values of nearest rank.
fn near(found: Option<Distribution>, mut values: Vec<f64>, what: &str) {
    values.sort_by(f64::total_cmp);
    let Some(found) = found else { return assert_eq!(values, [0.0; 0], "{what}") };
    assert_eq!(found.count, values.len() as u64, "{what}");
    for (share, found) in [(0.5, found.p50), (0.95, found.p95), (0.99, found.p99)] {
        let rank = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len());
        let exact = values[rank - 1];
        assert!((found - exact).abs() <= 0.0101 * exact, "{what}: {found} for {exact}");
    }
}

fn check_overview(store: &Store, calls: &[Call], from: u64, to: u64, service: Option<&str>) {
    let filter = service.map(Filter::service).unwrap_or_default();
    let span = Span { from: Time(from), to: Time(to), filter, ..Span::default() };
    let found: Overview = store.overview(&span).unwrap();
    let what = format!("{} to {} of {service:?}", span.from, span.to);
    let within = |from: u64, to: u64| -> Vec<&Call> {
        let calls = calls.iter().filter(|c| (from..to).contains(&ended(c)));
        calls.filter(|c| of_service(c, service)).collect()
    };
    check(&found.totals, &within(from, to), &what);
    check(&found.previous, &within(from.saturating_sub(to - from), from), &what);
    let step = found.step_seconds * SECOND;
    for bucket in &found.series {
        let (start, end) = (bucket.time.0.max(from), (bucket.time.0 + step).min(to));
        check(&bucket.stats, &within(start, end), &format!("{what} at {}", bucket.time));
        let split: u128 = bucket.cost_by_model.values().map(|cost| cost.pico_usd).sum();
        assert_eq!(bucket.stats.cost.map_or(0, |cost| cost.pico_usd), split, "{what}");
    }
    let model = |c: &Call| c.request_model.clone().or_else(|| c.response_model.clone());
    let all = within(from, to);
    let models: BTreeSet<_> = all.iter().map(|c| model(c)).collect();
    assert_eq!(found.by_model.len(), models.len(), "{what}");
    // The tables would have them of some calls only.
    let tables = found.by_model.iter().map(|row| &row.stats);
    for stats in tables.chain(found.services.iter().map(|row| &row.stats)).chain([&found.previous])
    {
        assert_eq!((stats.input_tokens_per_call, stats.output_speed), (None, None), "{what}");
    }
    for row in &found.by_model {
        let own: Vec<_> = all.iter().copied().filter(|c| model(c) == row.model).collect();
        check(&row.stats, &own, &what);
    }
    let mut services: BTreeMap<_, Vec<&Call>> = BTreeMap::new();
    for c in all {
        services.entry((&c.service_name, &c.workload_key, model(c))).or_default().push(c);
    }
    assert!(found.truncated || found.services.len() == services.len(), "{what}");
    for row in &found.services {
        check(&row.stats, &services[&(&row.service, &row.key, row.model.clone())], &what);
    }
}

fn check_many(store: &Store, calls: &[Call]) {
    let at = |seconds: i64| NOON.checked_add_signed(seconds * SECOND as i64).unwrap();
    let spans = [
        (at(-2 * DAY - 7), at(3 * DAY)),
        (at(-DAY), at(DAY)),
        (at(-DAY) + 1, at(DAY) - 1),
        (at(-12 * HOUR), at(12 * HOUR)),
        (at(-5 * HOUR) + 123_456_789, at(7 * HOUR) + 987_654_321),
        (at(11 * HOUR + 59 * 60 + 31), at(12 * HOUR + 60)),
        (at(-90), at(120)),
        (at(0), at(600)),
        (at(-40 * DAY), at(40 * DAY)),
    ];
    for (from, to) in spans {
        for service in [None, Some("s1"), Some("h/process:2"), Some("nobody")] {
            check_overview(store, calls, from, to, service);
        }
    }
}

#[test]
fn sums_agree_with_the_calls_whatever_the_order_and_however_often() {
    let (dir, store) = store();
    let calls = calls(4000);
    let mut chance = Chance(3);
    let mut late: Vec<Call> = Vec::new();
    for part in calls.chunks(usize::try_from(times(97, 500)).unwrap()) {
        let (now, later): (Vec<_>, Vec<_>) =
            part.iter().cloned().partition(|_| chance.below(10) < 7);
        late.extend(later);
        // Each fifth is sent twice at once, and all of the part again after it.
        let twice = now.iter().filter(|_| chance.one_in(5)).cloned().collect::<Vec<_>>();
        let sent = now.iter().cloned().chain(twice).collect();
        assert_eq!(store.insert(sent).unwrap().new.len(), now.len());
        assert_eq!(store.insert(now).unwrap().new.len(), 0);
    }
    late.reverse();
    assert_eq!(store.insert(late.clone()).unwrap().new.len(), late.len());
    check_many(&store, &calls);
    drop(store);
    let store = Store::open_with(&super::place(&dir.path().join("data"))).unwrap();
    assert_eq!(store.insert(calls.clone()).unwrap().new.len(), 0);
    check_many(&store, &calls);
}

/// Calls of known durations, in seconds, from a moment on, a minute apart.
fn of_durations(first: u64, service: &str, begin: u64, durations: Vec<f64>) -> Vec<Call> {
    let call = |(at, duration): (u64, f64)| Call {
        time: Time(begin + at % 50 * 60 * SECOND),
        service_name: Some(service.into()),
        workload_key: None,
        duration: Some(duration),
        ..call(first + at, 0)
    };
    (0..).zip(durations).map(call).collect()
}

#[test]
fn percentiles_of_adversarial_distributions_are_within_a_hundredth() {
    let (_dir, store) = store();
    // The ratio of the ends of a bin of the sketch.
    let ratio: f64 = 1.01 / 0.99;
    let powers = |base: f64, least: f64, len| (0..len).map(|n| least * base.powi(n)).collect();
    let split = |share: usize| {
        (0..1000).map(|n| if n < share { 1e-6 } else { 50_000.0 }).collect::<Vec<_>>()
    };
    let distributions: Vec<(&str, Vec<f64>)> = vec![
        ("one value", vec![0.123_456_789; 500]),
        ("a jump right at the middle", split(500)),
        ("a jump right at p95", split(950)),
        ("a jump right behind p95", split(951)),
        ("a jump right at p99", split(990)),
        ("edges of bins", powers(ratio, 1e-3, 600)),
        ("a little below edges", powers(ratio * 0.999_99, 1e-3, 600)),
        ("decades", powers(10.0, 1e-9, 13)),
        ("a heavy tail", (0..900).map(|n| 0.01 / (1.0 - f64::from(n) / 900.0).powi(2)).collect()),
        ("nanoseconds", (1..700).map(|n| f64::from(n) / 1e9).collect()),
        ("nothing but zeros and one", (0..100).map(|n| f64::from(u8::from(n == 99))).collect()),
    ];
    let mut all = Vec::new();
    for (place, (name, durations)) in (0..).zip(distributions) {
        all.extend(of_durations(1 + place * 10_000, name, NOON, durations));
    }
    // In parts, so that sums are added.
    for part in all.chunks(211) {
        store.insert(part.to_vec()).unwrap();
    }
    let services: BTreeSet<String> = all.iter().filter_map(|c| c.service_name.clone()).collect();
    for service in &services {
        let to = NOON + 2 * DAY as u64 * SECOND;
        check_overview(&store, &all, NOON - SECOND, to, Some(service));
    }
}

#[test]
fn a_day_of_25_hours_and_one_of_23_are_counted_whole() {
    let (_dir, store) = store();
    let at = |text: &str| text.parse::<Time>().unwrap().0;
    // Berlin, from midnight to midnight: clocks went back in October and ahead in March.
    let long = (at("2026-10-24T22:00:00Z"), at("2026-10-25T23:00:00Z"));
    let short = (at("2026-03-28T23:00:00Z"), at("2026-03-29T22:00:00Z"));
    let mut all = Vec::new();
    for (number, (from, to)) in (0..).zip([long, short]) {
        let spread = 3 * DAY as u64 * SECOND / 600;
        let one = |n: u64| Call {
            time: Time(from - DAY as u64 * SECOND + n * spread + n),
            duration: Some(0.5),
            ..call(1 + number * 1000 + n, 0)
        };
        all.extend((0..600).map(one));
        assert!(to - from != DAY as u64 * SECOND);
    }
    store.insert(all.clone()).unwrap();
    for (from, to) in [long, short] {
        check_overview(&store, &all, from, to, None);
        let hours = (to - from) / (HOUR as u64 * SECOND);
        let within = all.iter().filter(|c| (from..to).contains(&ended(c))).count() as u64;
        assert!(within.abs_diff(hours * 600 / 72) <= 1, "{within} calls in {hours} hours");
    }
}

#[test]
fn calls_of_clocks_that_are_off_are_counted_where_they_say_and_once() {
    let (_dir, store) = store();
    // Senders whose clocks are a minute, an hour and a day off, both ways, one after the other.
    let skews = [0, 60, -60, HOUR, -HOUR, DAY - 1, 1 - DAY];
    let of =
        |(number, skew): (u64, i64)| (0..40).map(move |n| call(number * 100 + n, skew + n as i64));
    let all: Vec<Call> = (1..).zip(skews).flat_map(of).collect();
    for part in all.chunks(7) {
        store.insert(part.to_vec()).unwrap();
    }
    // A clock that was set meanwhile: the same calls, an hour later.
    let set: Vec<Call> =
        all.iter().map(|c| Call { time: Time(c.time.0 + 3600 * SECOND), ..c.clone() }).collect();
    assert_eq!(store.insert(set).unwrap().duplicates, all.len() as u64);
    let at = |seconds: i64| NOON.checked_add_signed(seconds * SECOND as i64).unwrap();
    for (from, to) in [(at(-2 * DAY), at(2 * DAY)), (at(-HOUR), at(HOUR)), (at(-61), at(61))] {
        check_overview(&store, &all, from, to, None);
    }
}
