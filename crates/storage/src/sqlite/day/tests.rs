//! Sums of a day agree with its calls, however late these come or change.

use super::DayWriter;
use crate::error::Error;
use crate::sqlite::scan::Names;
use crate::sqlite::sums::{By, LEVELS, Member, Summed, all_series, each_of_level, member, series};
use crate::tally::Tally;
use crate::units::{span_id, trace_id};
use contract::row::{Call, Time};
use std::collections::BTreeMap;
use std::path::Path;

const NOON: u64 = 1_795_435_200_000_000_000;

fn call(number: u64, duration: f64) -> Call {
    Call {
        time: Time(NOON + number * 1_000_000_000),
        trace_id: format!("{number:032x}"),
        span_id: format!("{number:016x}"),
        service_name: Some("agent".into()),
        request_model: Some("gpt-4o".into()),
        input_tokens: Some(40),
        output_tokens: Some(99),
        duration: Some(duration),
        ..Call::default()
    }
}

fn id(call: &Call) -> (u128, u64) {
    (trace_id(&call.trace_id).unwrap(), span_id(&call.span_id).unwrap())
}

fn writer(path: &Path, calls: &[Call]) -> DayWriter {
    let mut writer = DayWriter::open(path).unwrap();
    let calls: Vec<_> = calls.iter().map(|call| (id(call), call)).collect();
    writer.insert(&calls).unwrap();
    writer
}

/// All sums, in an order that does not depend on the numbers of texts.
fn sums(of: &DayWriter) -> Vec<String> {
    let mut all = Vec::new();
    let names = Names::new(&of.connection);
    for (by, level) in By::ALL.into_iter().flat_map(|by| LEVELS.map(|l| (by, l))) {
        each_of_level(&of.connection, by, level, |sum| {
            let name = match by {
                By::Series => series(&of.connection, sum.id)?.1.to_string(),
                By::Model => names.text(sum.id.unsigned_abs()).unwrap_or_default(),
                alone => match member(&of.connection, alone, sum.id)? {
                    Member::One(Some(text)) => names.text(text.unsigned_abs()).unwrap(),
                    other => format!("{other:?}"),
                },
            };
            let (time, tally) = (sum.time, Tally::from_bytes(sum.bytes).unwrap());
            all.push(format!("{by:?} {level} {time} {name} {tally:?}"));
            Ok(())
        })
        .unwrap();
    }
    all.sort();
    all
}

#[test]
fn a_call_that_changes_after_it_was_added_up_counts_as_what_it_is_now() {
    let dir = tempfile::tempdir().unwrap();
    let failed = Call {
        error_type: Some("rate_limit".into()),
        output_tokens: None,
        input_tokens: None,
        ..call(4, 1.0)
    };
    let first = [call(1, 1.0), call(2, 1.0), call(3, 2.0), failed.clone()];
    // Another minute, another model, other numbers; and one that failed after all.
    let amended = [
        Call {
            trace_id: format!("{:032x}", 77),
            span_id: format!("{:016x}", 77),
            request_model: Some("gpt-4o-mini".into()),
            input_tokens: Some(42),
            output_tokens: Some(17),
            cost: "0.25".parse().ok(),
            ..call(2, 61.0)
        },
        Call { error_type: Some("stream_broken".into()), cost: "0.5".parse().ok(), ..call(3, 2.0) },
    ];
    let mut writer = writer(&dir.path().join("a.db"), &first);
    writer.seal().unwrap();
    let before = [&first[1], &first[2]].map(id);
    let rows: Vec<_> = before.into_iter().zip(amended.clone()).collect();
    writer.amend(&rows).unwrap();
    let [second, third] = amended;
    let straight = [call(1, 1.0), second, third, failed];
    let mut straight = self::writer(&dir.path().join("b.db"), &straight);
    straight.seal().unwrap();
    assert_eq!(sums(&writer), sums(&straight));
}

/// A call of some moment, in seconds after the midnight of day 20,780.
fn at(number: u64, second: u64) -> Call {
    let start = (20_780 * 86_400 + second) * 1_000_000_000;
    Call { time: Time(start), ..call(number, 1.0) }
}

#[test]
fn wide_sums_are_the_same_however_late_their_calls_come() {
    let dir = tempfile::tempdir().unwrap();
    // A call each ten minutes, of 26 hours.
    let all: Vec<_> = (0..156).map(|number| at(number + 1, number * 600)).collect();
    let mut straight = writer(&dir.path().join("a.db"), &all);
    straight.finish().unwrap();
    // Every seventh comes late: after an hour, after half a day, or after all was finished.
    let (late, mut soon): (Vec<_>, Vec<_>) =
        all.into_iter().enumerate().partition(|(number, _)| number % 7 == 3);
    let late: Vec<_> = late.into_iter().map(|(_, call)| call).collect();
    let soon: Vec<_> = soon.drain(..).map(|(_, call)| call).collect();
    let (first, second) = soon.split_at(80);
    let mut writer = writer(&dir.path().join("b.db"), first);
    writer.seal().unwrap();
    let wide = |of: &DayWriter, level| {
        let mut buckets = 0;
        let count = |_: &Summed<'_>| {
            buckets += 1;
            Ok(())
        };
        each_of_level(&of.connection, By::Model, level, count).unwrap();
        buckets
    };
    // 15 hours are there, the last one is not over.
    assert_eq!((wide(&writer, 3600), wide(&writer, 6 * 3600), wide(&writer, 86_400)), (15, 2, 0));
    for calls in [&late[..8], second, &late[8..16]] {
        let calls: Vec<_> = calls.iter().map(|call| (id(call), call)).collect();
        writer.insert(&calls).unwrap();
        writer.seal().unwrap();
    }
    writer.finish().unwrap();
    let calls: Vec<_> = late[16..].iter().map(|call| (id(call), call)).collect();
    writer.insert(&calls).unwrap();
    writer.seal().unwrap();
    assert_eq!((wide(&writer, 3600), wide(&writer, 6 * 3600), wide(&writer, 86_400)), (26, 5, 2));
    assert_eq!(sums(&writer), sums(&straight));
}

#[test]
fn series_of_a_service_share_rows_of_sums() {
    let dir = tempfile::tempdir().unwrap();
    let calls: Vec<_> = (0..3000_u64)
        .map(|number| Call {
            service_name: Some(format!("service-{}", number % 5)),
            workload_key: Some(format!("workload-{number}")),
            ..call(number + 1, 1.0)
        })
        .collect();
    let mut writer = writer(&dir.path().join("a.db"), &calls);
    writer.seal().unwrap();
    let all = all_series(&writer.connection).unwrap();
    assert_eq!(all.len(), 3000);
    let mut rows: BTreeMap<i64, BTreeMap<i64, usize>> = BTreeMap::new();
    for (id, (ids, _)) in all {
        *rows.entry(id >> 8).or_default().entry(ids.service).or_default() += 1;
    }
    // Three rows a service: 600 series, 256 a row.
    assert_eq!(rows.len(), 15);
    assert!(rows.values().all(|services| services.len() == 1), "{rows:?}");
}

#[test]
fn a_file_of_before_there_were_sums_by_one_thing_gets_those_of_all_its_calls() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let calls: Vec<_> = (0..9000_u64)
        .map(|number| Call {
            host_name: (number % 7 > 0).then(|| format!("host-{}", number % 7)),
            more: [("user.id".to_owned(), format!("user-{}", number % 5).into())].into(),
            ..at(number + 1, number * 8)
        })
        .collect();
    let mut writer = writer(&path, &calls[..8000]);
    writer.seal().unwrap();
    let rest: Vec<_> = calls[8000..].iter().map(|call| (id(call), call)).collect();
    writer.insert(&rest).unwrap();
    drop(writer);
    for narrowed in [false, true] {
        if narrowed {
            super::forget_sums(&path, 60).unwrap();
        }
        let expected = sums(&DayWriter::open(&path).unwrap());
        assert!(expected.iter().any(|sum| sum.starts_with("User 3600 ")));
        assert!(expected.iter().any(|sum| sum.starts_with("Host 300 ") && sum.contains("host-3")));
        let file = rusqlite::Connection::open(&path).unwrap();
        let back = "DELETE FROM sum WHERE id >= 1 << 60;
            DROP TABLE member; DROP TABLE unsummed; DELETE FROM migration WHERE number > 8;";
        file.execute_batch(back).unwrap();
        drop(file);
        assert_eq!(sums(&DayWriter::open(&path).unwrap()), expected);
    }
}

/// Memory would be made for as many rows as a place says that it has.
#[test]
fn rows_without_end_are_damage_and_no_panic() {
    for (table, rows) in [("block", i64::MAX), ("block", 1 << 40), ("log", i64::MAX), ("log", -1)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let mut writer = writer(&path, &[call(1, 1.0), call(2, 1.0)]);
        if table == "block" {
            writer.seal().unwrap();
        }
        let sql = format!("UPDATE {table} SET rows = {rows}");
        assert_eq!(writer.connection.execute(&sql, []).unwrap(), 1);
        drop(writer);
        let opened = DayWriter::open(&path);
        assert!(matches!(opened, Err(Error::Damaged { .. })), "{table} {rows}: {opened:?}");
    }
}
