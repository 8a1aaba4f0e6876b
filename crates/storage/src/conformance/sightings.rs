//! One call that several saw: one row, counted once, on every engine.

use super::{NOON, embedded, place};
use crate::{Budget, CallsQuery, Filter, Span, Store};
use contract::row::{Call, Time};
use std::path::Path;

fn open(dir: &Path) -> Store {
    Store::open_with(&place(&dir.join("data"))).unwrap()
}

pub(super) fn kernel() -> Call {
    Call {
        time: Time(NOON),
        trace_id: format!("{:032x}", 1),
        span_id: format!("{:016x}", 1),
        recognised_by: Some("host".into()),
        service_name: Some("agent".into()),
        operation_name: Some("chat".into()),
        request_model: Some("gpt-4o".into()),
        response_id: Some("chatcmpl-1".into()),
        output_tokens: Some(17),
        cost: "0.25".parse().ok(),
        duration: Some(1.0),
        ..Call::default()
    }
}

pub(super) fn sdk() -> Call {
    Call {
        time: Time(NOON - 1_000_000),
        trace_id: format!("{:032x}", 2),
        span_id: format!("{:016x}", 2),
        parent_span_id: Some(format!("{:016x}", 3)),
        recognised_by: None,
        conversation_id: Some("talk".into()),
        output_tokens: None,
        cost: None,
        more: [("otel.scope.name".to_owned(), "openlit".into())].into(),
        ..kernel()
    }
}

fn rows(store: &Store) -> Vec<Call> {
    store.calls(&CallsQuery { limit: 10, ..CallsQuery::default() }).unwrap().calls
}

fn counted(store: &Store) -> u64 {
    let hour = NOON - NOON % 3_600_000_000_000;
    let span = Span {
        from: Time(hour),
        to: Time(hour + 3_600_000_000_000),
        filter: Filter::default(),
        budget: Budget::default(),
    };
    store.overview(&span).unwrap().totals.calls
}

#[test]
fn two_sightings_of_a_call_are_one_row_and_one_count_whoever_comes_first() {
    for (first, second) in [(kernel(), sdk()), (sdk(), kernel())] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        assert_eq!(store.insert(vec![first.clone()]).unwrap().new.len(), 1);
        let kept = store.insert(vec![second.clone()]).unwrap();
        assert_eq!((kept.new.len(), kept.joined, kept.duplicates), (0, 1, 0));
        let check = |store: &Store| {
            let rows = rows(store);
            assert_eq!((rows.len(), counted(store)), (1, 1));
            let row = &rows[0];
            assert_eq!(
                (&row.trace_id, &row.parent_span_id),
                (&sdk().trace_id, &sdk().parent_span_id)
            );
            assert_eq!((row.output_tokens, row.cost), (Some(17), kernel().cost));
            assert_eq!(row.conversation_id.as_deref(), Some("talk"));
            assert_eq!(store.call(&row.id).unwrap().as_ref(), Some(row));
            assert_eq!(&store.trace(&sdk().trace_id).unwrap(), &rows);
            assert_eq!(store.trace(&kernel().trace_id).unwrap(), []);
        };
        check(&store);
        let again = store.insert(vec![first.clone(), second.clone()]).unwrap();
        assert_eq!((again.duplicates, again.joined), (2, 0));
        drop(store);
        // A sender that had no answer sends again, also to the next process.
        let store = open(dir.path());
        let again = store.insert(vec![second, first]).unwrap();
        assert_eq!((again.duplicates, again.new.len()), (2, 0));
        check(&store);
    }
}

/// Of the SDK before the kernel's: what a stream without usage leaves it with.
fn of_pair(number: u64) -> [Call; 2] {
    let at = Time(NOON + number * 3_000_000_000);
    let (exact, tree) = (kernel(), sdk());
    let response_id = Some(format!("chatcmpl-{number}"));
    let exact = Call {
        time: at,
        span_id: format!("{:016x}", 2 * number),
        response_id: response_id.clone(),
        workload_key: Some("host/agent".into()),
        error_type: (number == 1).then(|| "429".into()),
        input_tokens: Some(5),
        ..exact
    };
    let tree = Call {
        time: Time(at.0 - 1_000_000),
        trace_id: format!("{:032x}", 1000 + number),
        span_id: format!("{:016x}", 2 * number + 1),
        response_id,
        duration: Some(1.5),
        ..tree
    };
    [tree, exact]
}

fn like(store: &Store, filter: &str) -> Vec<Call> {
    let filter: Filter = filter.parse().unwrap();
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let query =
            CallsQuery { limit: 3, before, filter: filter.clone(), ..CallsQuery::default() };
        let page = store.calls(&query).unwrap();
        found.extend(page.calls);
        let Some(next) = page.next else { return found };
        before = Some(next.parse().unwrap());
    }
}

#[test]
fn sums_and_lists_know_what_any_sighting_knew_whoever_came_first() {
    for kernel_first in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let pairs: Vec<_> = (1..=10).map(of_pair).collect();
        let nth = |n: usize| pairs.iter().map(|pair| pair[n].clone()).collect::<Vec<_>>();
        let (first, second) = if kernel_first { (1, 0) } else { (0, 1) };
        store.insert(nth(first)).unwrap();
        assert_eq!(store.insert(nth(second)).unwrap().joined, 10);
        // All of these at once, too.
        let both = store.insert((11..=13).flat_map(of_pair).collect()).unwrap();
        assert_eq!((both.new.len(), both.joined), (3, 3));
        let check = |store: &Store| {
            let hour = NOON - NOON % 3_600_000_000_000;
            // Whole hours, of which sums are kept, and an edge, where the calls are asked.
            for (from, filter) in [(hour - 1, ""), (hour, ""), (hour, "conversation:talk")] {
                let span = Span {
                    from: Time(from),
                    to: Time(hour + 3_600_000_000_000),
                    filter: filter.parse().unwrap(),
                    budget: Budget::default(),
                };
                let overview = store.overview(&span).unwrap();
                let totals = &overview.totals;
                assert_eq!((totals.calls, totals.errors), (13, 1), "{filter} {kernel_first}");
                assert_eq!(totals.output_tokens, Some(13 * 17), "{filter} {kernel_first}");
                assert_eq!(totals.input_tokens, Some(13 * 5));
                assert_eq!(totals.cost, "3.25".parse().ok(), "{filter} {kernel_first}");
                assert_eq!(totals.duration.as_ref().map(|duration| duration.count), Some(12));
                assert_eq!(overview.services.len(), 1, "{:?}", overview.services);
            }
            assert_eq!(like(store, "").len(), 13);
            assert_eq!(like(store, "conversation:talk").len(), 13);
            assert_eq!(like(store, "conversation:talk status:error").len(), 1);
            assert_eq!(like(store, "-conversation:talk"), []);
            assert_eq!(like(store, "output:<17"), []);
            let of_trace = |id: u64| like(store, &format!("trace:{id:032x}")).len();
            assert_eq!((of_trace(1003), of_trace(1)), (1, 0));
            let times: Vec<_> = like(store, "").iter().map(|call| call.time).collect();
            assert!(times.is_sorted_by(|a, b| a > b), "{times:?}");
            assert!(
                like(store, "").iter().all(|call| store.trace(&call.trace_id).unwrap()[0] == *call)
            );
        };
        check(&store);
        drop(store);
        check(&open(dir.path()));
    }
}

#[test]
fn sightings_on_two_sides_of_midnight_are_one_call() {
    let midnight = NOON + 43_200_000_000_000;
    for kernel_first in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let [tree, exact] = of_pair(2);
        let pair = [
            Call { time: Time(midnight - 1_000), ..tree },
            Call { time: Time(midnight + 1_000), ..exact },
        ];
        let (first, second) = if kernel_first { (1, 0) } else { (0, 1) };
        open(dir.path()).insert(vec![pair[first].clone()]).unwrap();
        let store = open(dir.path());
        assert_eq!(store.insert(vec![pair[second].clone()]).unwrap().joined, 1);
        let span = Span {
            from: Time(NOON),
            to: Time(NOON + 2 * 43_200_000_000_000),
            filter: Filter::default(),
            budget: Budget::default(),
        };
        let totals = store.overview(&span).unwrap().totals;
        assert_eq!((totals.calls, totals.output_tokens), (1, Some(17)));
        let listed = rows(&store);
        assert_eq!((listed.len(), listed[0].output_tokens), (1, Some(17)));
        assert_eq!(store.call(&listed[0].id).unwrap().as_ref(), Some(&listed[0]));
    }
}

#[test]
fn both_in_one_submission_are_one_call_too_and_the_second_may_come_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let kept = store.insert(vec![kernel(), sdk(), kernel()]).unwrap();
    assert_eq!((kept.new.len(), kept.joined, kept.duplicates), (1, 1, 1));
    assert_eq!((rows(&store).len(), counted(&store)), (1, 1));

    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).insert(vec![kernel()]).unwrap();
    let store = open(dir.path());
    assert_eq!(store.insert(vec![sdk()]).unwrap().joined, 1);
    assert_eq!((rows(&store).len(), counted(&store)), (1, 1));
}

#[test]
fn calls_of_a_server_that_gives_every_answer_the_same_id_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let number = |number: u64| Call {
        span_id: format!("{number:016x}"),
        time: Time(NOON + number * 100_000_000),
        ..kernel()
    };
    assert_eq!(store.insert((1..=9).map(number).collect()).unwrap().new.len(), 9);
    assert_eq!(counted(&store), 9);
}

/// Both were sent while the file of their day could not be written, and are sent again.
#[test]
fn sightings_that_could_not_be_written_are_one_call_when_they_come_again() {
    let (dir, store) = embedded();
    let day = dir.path().join("data/calls-2026-11-23.db");
    std::fs::create_dir(&day).unwrap();
    store.insert(vec![kernel()]).unwrap_err();
    store.insert(vec![sdk()]).unwrap_err();
    std::fs::remove_dir(&day).unwrap();
    assert_eq!(store.insert(vec![sdk()]).unwrap().new.len(), 1);
    let kept = store.insert(vec![kernel()]).unwrap();
    assert_eq!((kept.new.len(), kept.joined), (0, 1));
    assert_eq!((rows(&store).len(), counted(&store)), (1, 1));
}
