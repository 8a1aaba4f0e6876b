//! What stands around calls: agents, tools, chains.

use super::{NOON, SECOND, call, place, store};
use crate::{Limits, Store, Telemetry};
use contract::row::{Run, Time};
use std::sync::mpsc::sync_channel;

const DAY: u64 = 86_400 * SECOND;

fn run(trace: u64, span: u64, start: u64) -> Run {
    Run {
        time: Time(start),
        trace_id: format!("{trace:032x}"),
        span_id: format!("{span:016x}"),
        parent_span_id: Some(format!("{:016x}", span - 1)),
        kind: "tool".into(),
        name: Some("search".into()),
        duration: Some(0.25),
        ..Run::default()
    }
}

fn keep(store: &Store, telemetry: Telemetry) {
    let (send, receive) = sync_channel(1);
    store.submit_all(telemetry, move |kept| send.send(kept.map(|_| ())).unwrap()).unwrap();
    receive.recv().unwrap().unwrap();
}

#[test]
fn runs_are_kept_once_with_their_trace_and_count_in_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = place(&dir.path().join("data"));
    let store = Store::open_with(&data).unwrap();
    // Over midnight, out of order, sent again, one of another trace, one without ids.
    let midnight = NOON + DAY / 2;
    let late = run(1, 12, midnight + SECOND);
    let early = run(1, 11, midnight - SECOND);
    let other = run(2, 21, NOON);
    let without = Run { span_id: "x".into(), ..run(1, 13, NOON) };
    for _ in 0..2 {
        let runs = vec![late.clone(), early.clone(), other.clone(), without.clone()];
        keep(&store, Telemetry { calls: vec![call(1, 43_000)], runs });
    }
    keep(&store, Telemetry { runs: vec![early.clone()], ..Telemetry::default() });
    let trace = format!("{:032x}", 1);
    assert_eq!(store.runs(&trace).unwrap(), [early.clone(), late.clone()]);
    assert_eq!(store.trace(&trace).unwrap().len(), 1);
    assert_eq!(store.runs(&format!("{:032x}", 9)).unwrap(), []);
    assert_eq!(store.runs("nonsense").unwrap(), []);
    let span = crate::Span { from: Time(NOON - DAY), to: Time(NOON + DAY), ..Default::default() };
    assert_eq!(store.overview(&span).unwrap().totals.calls, 1);
    drop(store);
    let store = Store::open_with(&data).unwrap();
    assert_eq!(store.runs(&trace).unwrap(), [early, late]);
}

#[test]
fn runs_go_with_their_day() {
    let (_dir, store) = store();
    let runs = vec![run(1, 11, NOON), run(1, 12, NOON + DAY)];
    keep(&store, Telemetry { calls: vec![call(1, 0)], runs: runs.clone() });
    let limits = Limits { days: 1, ..Limits::default() };
    store.retain(&limits, &|_: &std::path::Path| None, Time(NOON + 2 * DAY)).unwrap();
    let trace = format!("{:032x}", 1);
    assert_eq!(store.runs(&trace).unwrap(), runs[1..]);
    keep(&store, Telemetry { runs: runs.clone(), ..Telemetry::default() });
    assert_eq!(store.runs(&trace).unwrap(), runs[1..], "its day is no longer kept");
}
