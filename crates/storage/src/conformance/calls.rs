//! Calls: kept once, listed newest first, added up exactly.

use super::{NOON, SECOND, call, store};
use crate::{CallsQuery, Filter, Outcome, Span, Store};
use contract::row::{Call, Money, Overview, Time};

fn list(store: &Store, query: CallsQuery) -> Vec<u64> {
    let calls = store.calls(&CallsQuery { limit: 1000, ..query }).unwrap().calls;
    calls.iter().map(|call| u64::from_str_radix(&call.span_id, 16).unwrap()).collect()
}

fn overview(store: &Store, from: i64, to: i64) -> Overview {
    let at = |seconds: i64| Time(NOON.checked_add_signed(seconds * SECOND as i64).unwrap());
    store.overview(&Span { from: at(from), to: at(to), ..Span::default() }).unwrap()
}

#[test]
fn a_call_comes_back_whole() {
    let (_dir, store) = store();
    let json = r#"{
        "time": "2026-11-23T20:43:46.123456789Z", "sonde.call.id": "",
        "trace_id": "5b8efff798038103d269b633813fc60c", "span_id": "eee19b7ec3c1b174",
        "parent_span_id": "eee19b7ec3c1b173", "service.name": "a", "sonde.workload.key": "h/process:a",
        "sonde.platform": "process", "host.name": "h", "process.pid": 7,
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m", "gen_ai.response.model": "m-1", "gen_ai.request.stream": true,
        "gen_ai.request.max_tokens": 9, "gen_ai.request.temperature": 0.7, "gen_ai.request.top_p": 0.9,
        "gen_ai.request.choice.count": 2, "gen_ai.response.id": "r",
        "gen_ai.response.finish_reasons": ["stop", "length"],
        "gen_ai.response.time_to_first_chunk": 0.123456789, "sonde.time_to_first_token": 0.2,
        "gen_ai.usage.input_tokens": 1, "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 3, "gen_ai.usage.cache_write.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 5, "gen_ai.conversation.id": "c",
        "sonde.tool_calls": ["search"], "server.address": "api.openai.com", "server.port": 443,
        "http.response.status_code": 200, "error.type": "stream_truncated", "sonde.duration": 1.5,
        "sonde.cost": "0.000000000001", "sonde.price_table": "2026-08", "sonde.retry_after": 2.5,
        "http.request.resend_count": 1, "sonde.chunk_count": 12, "sonde.recognised_by": "host",
        "sonde.incomplete": "cut", "http.request.body.size": 100, "http.response.body.size": 200,
        "sonde.recorded": true, "k8s.namespace.name": "default"
    }"#;
    let call: Call = serde_json::from_str(json).unwrap();
    let kept = store.insert(vec![call.clone()]).unwrap();
    let id = "20261123-5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174";
    let expected = Call { id: id.into(), ..call };
    assert_eq!(kept.new, std::slice::from_ref(&expected));
    assert_eq!(store.call(id).unwrap(), Some(expected.clone()));
    assert_eq!(store.calls(&CallsQuery::default()).unwrap().calls, [expected]);
}

#[test]
fn a_call_that_knows_nothing_comes_back_with_nothing() {
    let (_dir, store) = store();
    let bare = Call { time: Time(NOON), ..call(1, 0) };
    let bare =
        Call { trace_id: bare.trace_id, span_id: bare.span_id, time: bare.time, ..Call::default() };
    store.insert(vec![bare.clone()]).unwrap();
    let [found] = &store.calls(&CallsQuery::default()).unwrap().calls[..] else { panic!() };
    assert_eq!(Call { id: String::new(), ..found.clone() }, bare);
}

#[test]
fn a_call_sent_again_is_kept_and_counted_once() {
    let (_dir, store) = store();
    let kept = store.insert(vec![call(1, 0), call(2, 0), call(1, 0)]).unwrap();
    assert_eq!((kept.new.len(), kept.duplicates), (2, 1));
    let kept = store.insert(vec![call(2, 0), call(3, 0)]).unwrap();
    assert_eq!((kept.new.len(), kept.duplicates), (1, 1));
    assert_eq!(overview(&store, -10, 10).totals.calls, 3);
}

#[test]
fn a_call_sent_again_with_a_start_on_another_day_is_counted_once() {
    let (dir, store) = store();
    let midnight = 12 * 3600;
    let first = call(1, midnight - 1);
    assert_eq!(store.insert(vec![first.clone()]).unwrap().new.len(), 1);
    let again = |store: &Store, start| {
        let kept = store.insert(vec![call(1, start), call(1, start)]).unwrap();
        (kept.new.len(), kept.duplicates)
    };
    assert_eq!(again(&store, midnight + 1), (0, 2), "the day after");
    assert_eq!(again(&store, midnight - 86_401), (0, 2), "the day before");
    let kept = store.insert(vec![call(2, midnight + 5), call(2, midnight - 5)]).unwrap();
    assert_eq!((kept.new.len(), kept.duplicates), (1, 1), "both at once");
    drop(store);
    let store = Store::open_with(&super::place(&dir.path().join("data"))).unwrap();
    assert_eq!(again(&store, midnight + 2), (0, 2), "after a restart");
    assert_eq!(list(&store, CallsQuery::default()), [1, 2]);
    assert_eq!(overview(&store, midnight - 100_000, midnight + 100_000).totals.calls, 2);
    let id = format!("20261123-{}-{}", first.trace_id, first.span_id);
    assert_eq!(store.call(&id).unwrap(), Some(Call { id, ..first }));
}

#[test]
fn calls_without_valid_ids_are_refused_alone() {
    let (_dir, store) = store();
    let bad = Call { span_id: "no".into(), ..call(1, 0) };
    let kept = store.insert(vec![bad, call(2, 0)]).unwrap();
    assert_eq!((kept.new.len(), kept.refused), (1, 1));
}

#[test]
fn pages_show_every_call_once_and_newest_first_over_days_and_equal_times() {
    let (_dir, store) = store();
    let day = 86_400;
    let starts = [0, 0, 0, 5, -day, -day, day, day + 1, 3 * day, -2 * day, 0, 5];
    let calls = (1..).zip(starts).map(|(number, start)| call(number, start)).collect();
    store.insert(calls).unwrap();
    for limit in 1..=13 {
        let mut seen = Vec::new();
        let mut before = None;
        loop {
            let query = CallsQuery { limit, before, ..CallsQuery::default() };
            let page = store.calls(&query).unwrap();
            assert!(page.calls.len() <= limit);
            seen.extend(page.calls);
            let Some(next) = page.next else { break };
            before = Some(next.parse().unwrap());
        }
        assert_eq!(seen.len(), starts.len(), "limit {limit}");
        assert!(seen.is_sorted_by(|a, b| a.time >= b.time), "limit {limit}");
        seen.sort_by(|a, b| a.id.cmp(&b.id));
        seen.dedup_by(|a, b| a.id == b.id);
        assert_eq!(seen.len(), starts.len(), "limit {limit}");
    }
}

#[test]
fn thousands_of_calls_with_one_start_are_all_kept() {
    let (_dir, store) = store();
    let kept = store.insert((1..=3000).map(|number| call(number, 0)).collect()).unwrap();
    assert_eq!(kept.new.len(), 3000);
    let calls = store.calls(&CallsQuery { limit: 4000, ..CallsQuery::default() }).unwrap().calls;
    assert_eq!(calls.len(), 3000);
    assert!(calls.iter().all(|call| call.time == Time(NOON)));
}

#[test]
fn filters_narrow_the_list() {
    let (_dir, store) = store();
    let other = Call { service_name: Some("other".into()), workload_key: None, ..call(2, 1) };
    let claude = Call {
        request_model: Some("claude".into()),
        provider_name: Some("anthropic".into()),
        ..call(3, 2)
    };
    let failed = Call { error_type: Some("429".into()), http_status: Some(429), ..call(4, 3) };
    let cut = Call { error_type: Some("client_cancelled".into()), ..call(5, 4) };
    store.insert(vec![call(1, 0), other, claude, failed, cut]).unwrap();
    let all = CallsQuery::default;
    assert_eq!(list(&store, all()), [5, 4, 3, 2, 1]);
    assert_eq!(list(&store, CallsQuery { filter: Filter::service("other"), ..all() }), [2]);
    assert_eq!(
        list(&store, CallsQuery { filter: Filter::service("host/process:agent"), ..all() }),
        [5, 4, 3, 1]
    );
    assert_eq!(list(&store, CallsQuery { filter: Filter::service("nobody"), ..all() }), [0; 0]);
    assert_eq!(list(&store, CallsQuery { filter: Filter::model("claude"), ..all() }), [3]);
    assert_eq!(
        list(&store, CallsQuery { filter: Filter::model("gpt-4o-2024-08-06"), ..all() }),
        [5, 4, 3, 2, 1]
    );
    assert_eq!(list(&store, CallsQuery { filter: Filter::provider("anthropic"), ..all() }), [3]);
    assert_eq!(
        list(&store, CallsQuery { filter: Filter::outcome(Outcome::Ok), ..all() }),
        [3, 2, 1]
    );
    assert_eq!(list(&store, CallsQuery { filter: Filter::outcome(Outcome::Error), ..all() }), [4]);
    assert_eq!(
        list(&store, CallsQuery { filter: Filter::outcome(Outcome::Cancelled), ..all() }),
        [5]
    );
    let (from, to) = (Some(Time(NOON + SECOND)), Some(Time(NOON + 3 * SECOND)));
    assert_eq!(list(&store, CallsQuery { from, to, ..all() }), [3, 2]);
    assert_eq!(
        list(&store, CallsQuery { filter: Filter::service("' OR 1=1 --"), ..all() }),
        [0; 0]
    );
}

#[test]
fn a_call_counts_when_it_ended_also_over_midnight() {
    let (_dir, store) = store();
    let midnight = 12 * 3600;
    let long = Call { duration: Some(7200.0), ..call(1, midnight - 3600) };
    store.insert(vec![long, call(2, midnight + 10)]).unwrap();
    let before = overview(&store, midnight - 3600, midnight);
    assert_eq!((before.totals.calls, before.previous.calls), (0, 0));
    let after = overview(&store, midnight, midnight + 7200);
    assert_eq!(after.totals.calls, 2);
    let times: Vec<_> =
        after.series.iter().filter(|b| b.stats.calls > 0).map(|b| b.time.to_string()).collect();
    assert_eq!(times, ["2026-11-24T00:00:00.000000000Z", "2026-11-24T01:00:00.000000000Z"]);
}

#[test]
fn numbers_are_what_the_calls_say() {
    let (_dir, store) = store();
    let stream = |number, first| Call {
        request_stream: Some(true),
        time_to_first_chunk: Some(first),
        cost: Some(Money { pico_usd: u128::from(u64::MAX / 4) }),
        cache_read_tokens: Some(4),
        ..call(number, 0)
    };
    let failed = Call {
        error_type: Some("rate_limit_error".into()),
        http_status: Some(429),
        duration: Some(0.001),
        ..call(3, 1)
    };
    let failed = Call { input_tokens: None, output_tokens: None, cost: None, ..failed };
    let unpriced = Call { request_model: Some("local".into()), cost: None, ..call(4, 2) };
    let cancelled = Call { error_type: Some("client_cancelled".into()), ..call(5, 3) };
    let embedding =
        Call { operation_name: Some("embeddings".into()), duration: Some(20.0), ..call(6, 4) };
    let earlier = call(7, -30);
    let calls =
        vec![stream(1, 0.1), stream(2, 0.3), failed, unpriced, cancelled, embedding, earlier];
    store.insert(calls).unwrap();
    let found = overview(&store, 0, 30);
    let totals = &found.totals;
    assert_eq!((totals.calls, totals.embeddings, totals.errors, totals.cancelled), (5, 1, 1, 1));
    assert_eq!(totals.error_classes, [("rate_limit".to_owned(), 1)].into());
    assert_eq!(totals.unpriced_calls, 1);
    assert_eq!(totals.cost, Some(Money { pico_usd: u128::from(u64::MAX / 4) * 2 + 14 }));
    assert_eq!((totals.input_tokens, totals.output_tokens), (Some(50), Some(25)));
    assert_eq!((totals.cache_read_tokens, totals.reasoning_tokens), (Some(8), None));
    let duration = totals.duration.unwrap();
    assert_eq!(duration.count, 3);
    assert!((duration.p99 - 1.0).abs() <= 0.01, "failures and embeddings stay out: {duration:?}");
    let first = totals.time_to_first_chunk.unwrap();
    assert_eq!(first.count, 2);
    assert!((first.p50 - 0.1).abs() <= 0.001 && (first.p95 - 0.3).abs() <= 0.003, "{first:?}");
    assert_eq!(found.previous.calls, 1);
    let models: Vec<_> =
        found.by_model.iter().map(|m| (m.model.as_deref(), m.stats.calls)).collect();
    assert_eq!(models, [(Some("gpt-4o"), 4), (Some("local"), 1)]);
    assert_eq!(found.services.len(), 2);
    assert_eq!(found.services[0].key.as_deref(), Some("host/process:agent"));
}

#[test]
fn the_cost_of_a_bucket_is_split_by_the_models_that_cost_most() {
    let (_dir, store) = store();
    let minute = 60;
    let priced = |number: u64, start, model: Option<&str>, pico_usd| Call {
        request_model: None,
        response_model: model.map(str::to_owned),
        cost: Some(Money { pico_usd }),
        ..call(number, start)
    };
    // Ten models on two days: the texts of each day have numbers of their own.
    let model = |n: u64| format!("m{n}");
    let mut calls: Vec<_> = (1..=10).map(|n| priced(n, 0, Some(&model(n)), n.into())).collect();
    calls.push(priced(11, 43_200 + minute, Some("m10"), 100));
    calls.push(priced(12, 43_200 + minute, Some("m3"), 5));
    calls.push(priced(13, 0, None, 1000));
    calls.push(priced(14, 0, Some("free"), 0));
    calls.push(Call { cost: None, ..priced(15, 0, Some("unknown"), 0) });
    store.insert(calls).unwrap();
    let found = overview(&store, 0, 86_400);
    let split: Vec<_> = found.series.iter().filter(|b| !b.cost_by_model.is_empty()).collect();
    let row = |i: usize| {
        let row = split[i].cost_by_model.iter();
        row.map(|(model, cost)| (model.as_str(), cost.pico_usd)).collect::<Vec<_>>()
    };
    // m1, m2 and what costs nothing are not among the eight.
    let first = [
        ("m10", 10),
        ("m3", 3),
        ("m4", 4),
        ("m5", 5),
        ("m6", 6),
        ("m7", 7),
        ("m8", 8),
        ("m9", 9),
        ("other", 1003),
    ];
    assert_eq!(row(0), first);
    assert_eq!(row(1), [("m10", 100), ("m3", 5)]);
    assert_eq!(split.len(), 2);
    for bucket in &found.series {
        let sum: u128 = bucket.cost_by_model.values().map(|cost| cost.pico_usd).sum();
        assert_eq!(bucket.stats.cost.map_or(0, |cost| cost.pico_usd), sum);
    }
    let json = serde_json::to_value(split[1]).unwrap();
    assert_eq!(json["cost_by_model"]["m10"], "0.0000000001");
    let empty = found.series.iter().find(|b| b.stats.calls == 0).unwrap();
    assert!(serde_json::to_value(empty).unwrap().get("cost_by_model").is_none());
}

#[test]
fn an_empty_span_has_zero_counts_and_no_values() {
    let (_dir, store) = store();
    let found = overview(&store, 0, 3600);
    let json = serde_json::to_value(&found.totals).unwrap();
    assert_eq!(json["calls"], 0);
    for absent in ["duration", "time_to_first_chunk", "cost", "input_tokens", "output_tokens"] {
        assert!(json.get(absent).is_none(), "{absent}");
    }
    assert_eq!((found.step_seconds, found.series.len()), (60, 60));
    assert!(overview(&store, 0, 0).series.is_empty());
    assert!(overview(&store, 10, 0).series.is_empty());
}

#[test]
fn everything_is_there_after_a_restart() {
    let (dir, store) = store();
    store.insert(vec![Call { duration: Some(90_000.0), ..call(1, 0) }]).unwrap();
    drop(store);
    let store = Store::open_with(&super::place(&dir.path().join("data"))).unwrap();
    assert_eq!(list(&store, CallsQuery::default()), [1]);
    assert_eq!(overview(&store, 89_000, 91_000).totals.calls, 1);
    let kept = store.insert(vec![call(1, 0)]).unwrap();
    assert_eq!(kept.duplicates, 1);
}

#[test]
fn ids_that_are_not_ids_find_nothing() {
    let (_dir, store) = store();
    store.insert(vec![call(1, 0)]).unwrap();
    let no_day = format!("20200101-{:032x}-{:016x}", 1, 1);
    let no_call = format!("20261123-{:032x}-{:016x}", 2, 2);
    for id in ["", "x", "../../etc/passwd", "20261124--", "２0261124-0-0", &no_day, &no_call] {
        assert_eq!(store.call(id).unwrap(), None, "{id}");
    }
}

#[test]
fn a_full_queue_refuses_and_every_answer_comes_once() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let (_dir, store) = store();
    let answered = Arc::new(AtomicU64::new(0));
    let (mut taken, mut refused) = (0, 0);
    for batch in 0..60 {
        let calls = (0..4000).map(|n| call(batch * 4000 + n + 1, n as i64)).collect();
        let answered = Arc::clone(&answered);
        let done = move |kept: Result<crate::Kept, _>| {
            answered.fetch_add(kept.unwrap().new.len() as u64, Ordering::SeqCst);
        };
        match store.submit(calls, done) {
            Ok(()) => taken += 1,
            Err(crate::Error::Busy) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    drop(store);
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
    assert_eq!(answered.load(Ordering::SeqCst), taken * 4000);
}
