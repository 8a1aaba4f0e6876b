//! Which sightings are one call, and what is remembered of them.

use super::sighting::plain;
use super::{Ids, Sightings, ids_of, merge};
use contract::row::{Call, Time};

const SECOND: u64 = 1_000_000_000;

fn kernel(number: u64, start: u64) -> Call {
    Call {
        time: Time(1_000 * SECOND + start),
        trace_id: format!("{number:032x}"),
        span_id: format!("{number:016x}"),
        recognised_by: Some("host".into()),
        host_name: Some("h".into()),
        process_pid: Some(7),
        request_model: Some("gpt-4o".into()),
        response_model: Some("gpt-4o-2024-08-06".into()),
        input_tokens: Some(42),
        duration: Some(2.0),
        ..Call::default()
    }
}

fn sdk(number: u64, start: u64) -> Call {
    Call {
        recognised_by: None,
        more: [("otel.scope.name".to_owned(), "openlit".into())].into(),
        parent_span_id: Some("00000000000000aa".into()),
        ..kernel(number, start)
    }
}

fn with_id(call: Call, id: &str) -> Call {
    Call { response_id: Some(id.into()), ..call }
}

fn see(sightings: &mut Sightings, call: &Call) -> Option<Ids> {
    sightings.see(ids_of(call).unwrap(), call)
}

/// Whether the second is another sighting of the first.
fn joins(first: &Call, second: &Call) -> bool {
    let mut sightings = Sightings::default();
    assert_eq!(see(&mut sightings, first), None);
    see(&mut sightings, second).is_some()
}

#[test]
fn the_same_response_is_the_same_call_whoever_comes_first() {
    let elsewhere = Call { process_pid: Some(1), host_name: None, ..sdk(2, SECOND) };
    let (one, other) = (with_id(kernel(1, SECOND), "r"), with_id(elsewhere, "r"));
    assert!(joins(&one, &other) && joins(&other, &one));
    let later = with_id(sdk(2, 60 * SECOND), "r");
    assert!(!joins(&one, &later), "a server may give every answer the same id");
    assert!(!joins(&one, &with_id(kernel(2, SECOND), "r")), "the same observer");
    assert!(!joins(&one, &with_id(sdk(2, SECOND), "s")), "another response of the process");
    let other_model = Call {
        request_model: Some("gpt-4o-mini".into()),
        response_model: None,
        ..with_id(sdk(2, SECOND), "r")
    };
    assert!(!joins(&one, &other_model));
}

#[test]
fn without_ids_the_process_and_the_time_say_so() {
    let around = Call { duration: Some(2.2), ..sdk(2, SECOND - 100_000_000) };
    assert!(joins(&kernel(1, SECOND), &around));
    assert!(!joins(&kernel(1, SECOND), &Call { process_pid: Some(8), ..around.clone() }));
    assert!(!joins(&kernel(1, SECOND), &Call { input_tokens: Some(43), ..around.clone() }));
    assert!(!joins(&kernel(1, SECOND), &sdk(2, 4 * SECOND)), "the next call");
    let mut sightings = Sightings::default();
    // Two at once: the closest in time is the one.
    for (number, start) in [(1, 0), (2, SECOND)] {
        assert_eq!(see(&mut sightings, &kernel(number, start)), None);
    }
    let ids = see(&mut sightings, &sdk(3, SECOND));
    assert_eq!(ids, ids_of(&kernel(2, 0)));
    let ids = see(&mut sightings, &sdk(4, 0));
    assert_eq!(ids, ids_of(&kernel(1, 0)));
    assert_eq!(see(&mut sightings, &sdk(5, 0)), None, "both are taken");
}

#[test]
fn many_libraries_are_looked_at_as_few_are() {
    let of = |number: u64, scope: &str| Call {
        more: [("otel.scope.name".to_owned(), scope.into())].into(),
        ..sdk(number, number * 100 * SECOND)
    };
    for (first, second) in [("a", "b"), ("39", "38"), ("39", "a"), ("a", "39")] {
        let mut sightings = Sightings::default();
        for number in 0..40 {
            assert_eq!(see(&mut sightings, &of(number, &number.to_string())), None);
        }
        assert_eq!(see(&mut sightings, &of(50, first)), None);
        let again = Call { span_id: format!("{:016x}", 51), ..of(50, second) };
        let other = Call { trace_id: format!("{:032x}", 51), ..again };
        assert!(see(&mut sightings, &other).is_some(), "{first} and {second}");
    }
}

#[test]
fn a_library_that_calls_another_made_one_call() {
    let outer = sdk(1, SECOND);
    let inner = Call {
        trace_id: outer.trace_id.clone(),
        span_id: "00000000000000bb".into(),
        parent_span_id: Some(outer.span_id.clone()),
        process_pid: None,
        ..sdk(1, SECOND)
    };
    assert!(joins(&outer, &inner) && joins(&inner, &outer));
    let beside = Call { parent_span_id: None, ..inner };
    assert!(!joins(&outer, &beside), "the same library, not below");
}

#[test]
fn a_merged_call_has_the_tree_of_the_sdk_and_the_numbers_of_the_kernel() {
    let exact = Call { output_tokens: Some(17), cost: None, ..kernel(1, SECOND) };
    let tree =
        Call { output_tokens: Some(99), conversation_id: Some("c".into()), ..sdk(2, SECOND + 5) };
    for (old, new) in [(&exact, &tree), (&tree, &exact)] {
        let merged = merge(old.clone(), new.clone());
        assert_eq!(merged.span_id, tree.span_id);
        assert_eq!(merged.parent_span_id, tree.parent_span_id);
        assert_eq!((merged.time, merged.output_tokens), (old.time, Some(17)));
        assert_eq!(merged.conversation_id.as_deref(), Some("c"));
        let mut sightings = Sightings::default();
        sightings.recall(std::slice::from_ref(&merged));
        let known = ids_of(&merged);
        assert_eq!(see(&mut sightings, &exact), known, "sent again, after a restart");
        assert_eq!(see(&mut sightings, &tree), None, "its ids are those of the row");
    }
}

#[test]
fn dates_of_versions_do_not_tell_models_apart() {
    for model in ["gpt-4o-2024-08-06", "gpt-4o-20240806", "gpt-4o@20240806", "openai/gpt-4o"] {
        assert_eq!(plain(model), "gpt-4o");
    }
    for model in ["gpt-4o-mini", "gpt-4", "", "ä-2024-08-0", "o1-pro-12345678901"] {
        assert_eq!(plain(model), model);
    }
}

#[test]
fn what_was_not_written_is_forgotten_and_what_another_wrote_is_learnt() {
    let mut sightings = Sightings::default();
    let (one, other) = (kernel(1, SECOND), sdk(2, SECOND));
    let (first, second) = (ids_of(&one).unwrap(), ids_of(&other).unwrap());
    assert_eq!(see(&mut sightings, &kernel(9, 0)), None);
    for _ in 0..3 {
        sightings.begin();
        assert_eq!(see(&mut sightings, &one), None);
        assert_eq!(see(&mut sightings, &other), Some(first));
        sightings.note_further(second, first);
        sightings.undo();
        assert_eq!((sightings.seen.len(), sightings.moved.len()), (1, 0));
    }
    sightings.begin();
    assert_eq!(see(&mut sightings, &other), None, "now it is the first");
    sightings.keep();
    sightings.undo();
    assert_eq!(see(&mut sightings, &one), Some(second));

    let mut elsewhere = Sightings::default();
    for _ in 0..2 {
        elsewhere.learn(second, None, &other);
        elsewhere.learn(first, Some(second), &one);
    }
    assert_eq!(elsewhere.seen.len(), 1, "learnt once");
    assert_eq!(see(&mut elsewhere, &one), Some(second));
    let third = Call { more: [("otel.scope.name".to_owned(), "b".into())].into(), ..other };
    let third = Call { span_id: format!("{:016x}", 3), ..third };
    assert_eq!(see(&mut elsewhere, &third), None, "both are taken");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut sightings = Sightings::default();
    for number in 0..60_000 {
        see(&mut sightings, &with_id(kernel(number, number * 10 * SECOND), &format!("r{number}")));
    }
    assert_eq!(sightings.seen.len(), super::MAX_SEEN);
    assert!(sightings.found_by.len() <= 2 * super::MAX_SEEN + 1);
    let numbers = sightings.found_by.values().map(|numbers| numbers.newest_first().count());
    let place = numbers.max();
    assert!(place <= Some(super::MAX_SEEN + 1));
}
