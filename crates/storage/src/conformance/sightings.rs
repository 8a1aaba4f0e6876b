//! One call that several saw: one row, counted once, on every engine.

use super::{NOON, place};
use crate::{Budget, CallsQuery, Filter, Span, Store};
use contract::row::{Call, Time};
use std::path::Path;

fn open(dir: &Path) -> Store {
    Store::open_with(&place(&dir.join("data"))).unwrap()
}

fn kernel() -> Call {
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

fn sdk() -> Call {
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
