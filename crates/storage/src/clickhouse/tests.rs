//! What only this engine does: several dashboards on one database, and a server that is away.

mod alone;

use super::link::{Ask, Link};
use super::schema::{Layout, SumTable};
use crate::conformance::{self, NOON, call};
use crate::fleet::{Asked, Bearer, NewToken};
use crate::{
    By, CallsIn, CallsQuery, ClickHouse, Error, Limits, Place, SeriesQuery, Span, Store, TokenKind,
    Weight,
};
use contract::capture::Level;
use contract::row::{Call, Time};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const NOW: Time = Time(NOON);

/// Two dashboards, each with a directory of its own, on one database; `None`, and said so, where no
/// server is named.
fn two(dir: &Path) -> Option<[(Store, Place); 2]> {
    let calls = conformance::place(dir).calls;
    if calls == CallsIn::DataDir {
        println!("NOT RUN: SONDE_TEST_CLICKHOUSE_URL names no ClickHouse");
        return None;
    }
    Some(["a", "b"].map(|name| {
        let place = Place { data_dir: dir.join(name), calls: calls.clone() };
        (Store::open_with(&place).unwrap(), place)
    }))
}

#[test]
fn a_wish_that_one_dashboard_acknowledged_is_what_the_other_answers() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(a, _), (b, _)]) = two(dir.path()) else { return };
    let keys = ["k0", "k1", "k2", "k3"];
    a.report(&conformance::control::report("n1", &keys), NOW).unwrap();
    let over = AtomicBool::new(false);
    let mut generations = Vec::new();
    std::thread::scope(|scope| {
        let wanting: Vec<_> = [(&a, &b), (&b, &a)]
            .into_iter()
            .flat_map(|pair| [(pair, 0), (pair, 2)])
            .map(|((mine, other), first)| {
                scope.spawn(move || {
                    let want = |turn: usize| {
                        let level =
                            if turn.is_multiple_of(2) { Level::Network } else { Level::Off };
                        let key = keys[first + turn % 2];
                        let kept = conformance::control::want(mine, key, level).unwrap().generation;
                        let read = conformance::control::wish_of(other, "n1").unwrap().generation;
                        assert!(read >= kept, "{read} is read after {kept} was acknowledged");
                        kept
                    };
                    (0..6).map(want).collect::<Vec<u64>>()
                })
            })
            .collect();
        let watching = scope.spawn(|| {
            let mut last = 0;
            while !over.load(Ordering::SeqCst) {
                let read = conformance::control::wish_of(&b, "n1").unwrap().generation;
                assert!(read >= last, "{read} after {last}");
                last = read;
            }
        });
        for thread in wanting {
            let own = thread.join().unwrap();
            assert!(own.is_sorted(), "{own:?}");
            generations.extend(own);
        }
        over.store(true, Ordering::SeqCst);
        watching.join().unwrap();
    });
    let once: BTreeSet<_> = generations.iter().copied().collect();
    assert_eq!(once.len(), 24, "no two wishes have one generation: {generations:?}");
    let (of_a, of_b) = (
        conformance::control::wish_of(&a, "n1").unwrap(),
        conformance::control::wish_of(&b, "n1").unwrap(),
    );
    assert_eq!((of_a.generation, of_a.desired), (of_b.generation, of_b.desired));
    assert_eq!(Some(of_b.generation), once.last().copied());
}

#[test]
fn a_wish_at_one_dashboard_is_news_to_the_poll_that_waits_at_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(a, _), (b, _)]) = two(dir.path()) else { return };
    b.report(&conformance::control::report("n1", &["k"]), NOW).unwrap();
    b.follow().unwrap();
    assert_eq!(b.follow().unwrap(), Some(false), "nothing happened");
    let asked = Asked { has_wishes: true, ..Asked::default() };
    assert!(!b.has_news("n1", &asked, NOW));
    conformance::control::want(&a, "k", Level::Network).unwrap();
    assert_eq!(b.follow().unwrap(), Some(true));
    assert!(b.has_news("n1", &asked, NOW));
    conformance::control::want(&a, "k", Level::Off).unwrap();
    b.services(NOW).unwrap();
    assert_eq!(b.follow().unwrap(), Some(true), "also when a question brought it");
}

#[test]
fn a_token_and_a_login_of_one_dashboard_are_good_at_the_other_once() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(a, _), (b, place)]) = two(dir.path()) else { return };
    let token = a.make_token(&NewToken::new(TokenKind::Join, "nodes"), NOW).unwrap();
    assert!(matches!(b.bearer(&token, NOW), Ok(Bearer::Token { kind: TokenKind::Join, .. })));
    assert!(b.revoke(b.tokens().unwrap()[0].id).unwrap());
    assert!(a.bearer(&token, NOW).is_err(), "revoked at the other");
    let (soon, late) = (Time(NOON + 1), Time(NOON + 2));
    let code = b.new_login_code(soon, NOW).unwrap();
    let session = a.login(&code, late, NOW).unwrap().unwrap();
    assert_eq!(b.login(&code, late, NOW).unwrap(), None, "used at the other");
    assert!(b.session(&session, NOW).unwrap());
    drop(b);
    let again = Store::open_with(&place).unwrap();
    assert!(again.session(&session, NOW).unwrap(), "after a start");
    again.logout(&session).unwrap();
    assert!(!a.session(&session, NOW).unwrap());
}

#[test]
fn a_call_that_two_dashboards_get_at_once_is_kept_and_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(a, _), (b, _)]) = two(dir.path()) else { return };
    // In batches of unlike sizes, so that what one loses is not what the other has won.
    let new: usize = std::thread::scope(|scope| {
        let sending = [(&a, 50), (&b, 30), (&a, 60), (&b, 20)].map(|(store, size)| {
            scope.spawn(move || {
                let batches = (0..300 / size).map(|batch| batch * size + 1..=(batch + 1) * size);
                let calls = batches.map(|batch| batch.map(|n| call(n, n as i64)).collect());
                calls.map(|calls| store.insert(calls).unwrap().new.len()).sum::<usize>()
            })
        });
        sending.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let listed = a.calls(&CallsQuery { limit: 1000, ..CallsQuery::default() }).unwrap().calls;
    let ids: BTreeSet<_> = listed.iter().map(|call| &call.id).collect();
    assert_eq!((new, listed.len(), ids.len()), (300, 300, 300));
    let day = 86_400_000_000_000;
    let span = Span { from: Time(NOON - day), to: Time(NOON + day), ..Span::default() };
    assert_eq!(b.overview(&span).unwrap().totals.calls, 300);
}

/// Sightings of one call by an SDK and by the kernel.
fn seen_twice(number: u64) -> [Call; 2] {
    let by_kernel = Call {
        recognised_by: Some("host".into()),
        response_id: Some(format!("r{number}")),
        ..call(number, number as i64)
    };
    let by_sdk = Call {
        time: Time(by_kernel.time.0 - 1_000_000),
        trace_id: format!("{:032x}", 1_000_000 + number),
        span_id: format!("{:016x}", 1_000_000 + number),
        recognised_by: None,
        conversation_id: Some("talk".into()),
        output_tokens: None,
        cost: None,
        more: [("otel.scope.name".to_owned(), "openlit".into())].into(),
        ..by_kernel.clone()
    };
    [by_sdk, by_kernel]
}

/// Holds a store to so many calls, each counted once with what both sightings knew.
fn check_counted_once(store: &Store, calls: u64) {
    let listed = store.calls(&CallsQuery { limit: 10_000, ..CallsQuery::default() }).unwrap().calls;
    let of_both = |call: &&Call| call.conversation_id.is_some() && call.output_tokens == Some(5);
    assert_eq!((listed.len() as u64, listed.iter().filter(of_both).count() as u64), (calls, calls));
    let day = 86_400_000_000_000;
    for from in [NOON - day / 2, NOON - day / 2 - 1] {
        let span = Span { from: Time(from), to: Time(NOON + day), ..Span::default() };
        let totals = store.overview(&span).unwrap().totals;
        assert_eq!((totals.calls, totals.output_tokens), (calls, Some(5 * calls)));
        assert_eq!(totals.cost.map(|cost| cost.pico_usd), Some(7 * u128::from(calls)));
    }
}

#[test]
fn a_call_that_comes_by_way_of_two_dashboards_is_counted_once_in_either_order() {
    for order in [[0, 1], [1, 0]] {
        let dir = tempfile::tempdir().unwrap();
        let Some([(a, _), (b, place)]) = two(dir.path()) else { return };
        let pair = seen_twice(1);
        assert_eq!(a.insert(vec![pair[order[0]].clone()]).unwrap().new.len(), 1);
        assert_eq!(b.insert(vec![pair[order[1]].clone()]).unwrap().joined, 1);
        // More of both, so that each learns of the other while it runs, not only at its first.
        for number in 2..=9 {
            let pair = seen_twice(number);
            let (first, second) = if number % 2 == 0 { (&b, &a) } else { (&a, &b) };
            assert_eq!(first.insert(vec![pair[order[0]].clone()]).unwrap().new.len(), 1);
            assert_eq!(second.insert(vec![pair[order[1]].clone()]).unwrap().joined, 1);
        }
        // Sent again, each to the other, and to one that starts anew.
        drop(b);
        let b = Store::open_with(&place).unwrap();
        for (store, which) in [(&a, 1), (&b, 0), (&b, 1)] {
            let again = store.insert((1..=9).map(|n| seen_twice(n)[which].clone()).collect());
            assert_eq!(again.unwrap().duplicates, 9);
        }
        check_counted_once(&a, 9);
        check_counted_once(&b, 9);
    }
}

#[test]
fn sightings_that_two_dashboards_get_at_once_are_joined() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(a, _), (b, _)]) = two(dir.path()) else { return };
    let (mut new, mut joined) = (0, 0);
    std::thread::scope(|scope| {
        let send = |store, which: usize, size: u64| {
            scope.spawn(move || {
                let batches = (0..240 / size).map(|batch| batch * size + 1..=(batch + 1) * size);
                let calls = batches.map(|of| of.map(|n| seen_twice(n)[which].clone()).collect());
                let kept = calls.map(|calls| Store::insert(store, calls).unwrap());
                kept.fold((0, 0), |sum, kept| (sum.0 + kept.new.len(), sum.1 + kept.joined))
            })
        };
        for thread in [send(&a, 0, 20), send(&b, 1, 30)] {
            let kept = thread.join().unwrap();
            (new, joined) = (new + kept.0, joined + kept.1);
        }
    });
    assert_eq!((new, joined), (240, 240));
    check_counted_once(&a, 240);
    check_counted_once(&b, 240);
}

#[test]
fn a_dashboard_that_wrote_nothing_for_long_goes_on_where_the_others_are() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(a, _), (b, _)]) = two(dir.path()) else { return };
    b.insert(vec![seen_twice(1)[0].clone()]).unwrap();
    for number in 2..=40 {
        a.insert(vec![seen_twice(number)[0].clone()]).unwrap();
    }
    let kept = b.insert((1..=40).map(|number| seen_twice(number)[1].clone()).collect()).unwrap();
    assert_eq!(kept.joined, 40);
    check_counted_once(&a, 40);
}

#[test]
fn a_sighting_that_was_not_written_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(a, place), _]) = two(dir.path()) else { return };
    let CallsIn::ClickHouse(to) = &place.calls else { panic!() };
    let link = Link::open(to).unwrap();
    let table = |from: &str, to: &str, database: &str| {
        let sql = format!("RENAME TABLE {database}.{from} TO {database}.{to}");
        link.execute("take a table away", Ask::of(sql)).unwrap();
    };
    let [by_sdk, by_kernel] = seen_twice(1);
    table("call", "away", &to.database);
    a.insert(vec![by_sdk.clone()]).unwrap_err();
    table("away", "call", &to.database);
    assert_eq!(a.insert(vec![by_kernel]).unwrap().new.len(), 1);
    assert_eq!(a.insert(vec![by_sdk]).unwrap().joined, 1, "what its sender sends again");
    check_counted_once(&a, 1);
}

#[test]
fn a_copy_of_what_dashboards_share_becomes_the_same_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(a, place), (b, _)]) = two(dir.path()) else { return };
    let CallsIn::ClickHouse(to) = &place.calls else { panic!() };
    let token = a.make_token(&NewToken::new(TokenKind::Join, "nodes"), NOW).unwrap();
    a.report(&conformance::control::report("n1", &["k0", "k1"]), NOW).unwrap();
    let stop = AtomicBool::new(false);
    let (copy, again) = (dir.path().join("copy"), dir.path().join("again"));
    let wanted = std::thread::scope(|scope| {
        // Both go on while it is made.
        let changing = scope.spawn(|| {
            for turn in 0.. {
                let level = if turn % 2 == 0 { Level::Network } else { Level::Off };
                conformance::control::want(&b, "k1", level).unwrap();
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        let wanted = conformance::control::want(&a, "k0", Level::Network).unwrap().generation;
        let copied = Store::backup_shared(to, &copy, NOW).unwrap();
        stop.store(true, Ordering::SeqCst);
        changing.join().unwrap();
        assert_eq!(copied.files.keys().collect::<Vec<_>>(), ["control.db", "secret.key"]);
        wanted
    });
    let refused = Store::restore_shared(&copy, to).unwrap_err();
    assert!(matches!(refused, Error::Unsuited { .. }), "{refused}");
    let elsewhere = ClickHouse { database: format!("{}_copy", to.database), ..to.clone() };
    let refused = Store::backup_shared(&elsewhere, &dir.path().join("none"), NOW).unwrap_err();
    assert!(matches!(refused, Error::Unsuited { .. }), "{refused}");
    Store::restore_shared(&copy, &elsewhere).unwrap();
    Store::restore(&copy, &again).unwrap();
    // On ClickHouse and embedded: both are made of the one copy.
    let calls = [CallsIn::ClickHouse(elsewhere), CallsIn::DataDir];
    for (calls, data_dir) in calls.into_iter().zip([dir.path().join("c"), again]) {
        let restored = Store::open_with(&Place { data_dir, calls }).unwrap();
        assert!(matches!(restored.bearer(&token, NOW), Ok(Bearer::Token { .. })));
        let wish = conformance::control::wish_of(&restored, "n1").unwrap();
        assert!(wish.generation >= wanted, "{wish:?}");
        assert_eq!(wish.desired[0].level, Level::Network);
        let next = conformance::control::want(&restored, "k1", Level::Off).unwrap().generation;
        assert!(next > wish.generation);
    }
}

/// The real time, which is the server's, too.
#[expect(clippy::disallowed_methods, reason = "ClickHouse reckons with its own clock")]
fn today() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Time(u64::try_from(since.as_nanos()).unwrap())
}

#[test]
fn clickhouse_removes_by_itself_what_is_too_old_and_hears_when_that_changes() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(_, place), _]) = two(dir.path()) else { return };
    let CallsIn::ClickHouse(to) = place.calls else { panic!() };
    let to = ClickHouse { set_ttl: true, ..to };
    let open = |name: &str| {
        let calls = CallsIn::ClickHouse(to.clone());
        Store::open_with(&Place { data_dir: dir.path().join(name), calls }).unwrap()
    };
    let store = open("c");
    let disk = |_: &Path| None;
    let day = 86_400_000_000_000;
    let calls = (0..12).map(|n| Call { time: Time(today().0 - n * day), ..call(n + 1, 0) });
    store.insert(calls.collect()).unwrap();
    let retain = |store: &Store, days| {
        let limits = Limits { days, ..Limits::default() };
        store.retain(&limits, &disk, today()).unwrap()
    };
    let link = Link::open(&to).unwrap();
    let layout = Layout::of(&to);
    let of_calls = |days: u32| format!(" TTL toDateTime(time) + toIntervalDay({days}) ");
    let engine = |table: &str| layout.engine_of(&link, table).unwrap();
    for days in [30, 30, 20] {
        assert_eq!(retain(&store, days).ttl_days, Some(days + 3));
        assert!(engine("call").contains(&of_calls(days + 3)), "{}", engine("call"));
        assert!(engine("run").contains(&of_calls(days + 3)), "{}", engine("run"));
    }
    assert!(engine("sum_60").contains(" TTL toDateTime(bucket) + toIntervalDay(5) "));
    assert!(engine("sum_3600").contains(" TTL toDateTime(bucket) + toIntervalDay(400) "));
    assert!(engine("alone_300").contains(" TTL toDateTime(bucket) + toIntervalDay(33) "));
    // The next one keeps less, and then no dashboard runs any more.
    drop(store);
    super::keep::set_ttl(&link, &layout, 5).unwrap();
    let merge = format!("OPTIMIZE TABLE {} FINAL", layout.local("call"));
    link.execute("merge", Ask::of(merge).setting("mutations_sync", 2)).unwrap();
    let store = open("d");
    let listed = || {
        let query = CallsQuery { limit: 100, ..CallsQuery::default() };
        store.calls(&query).unwrap().calls.len()
    };
    assert_eq!(listed(), 8, "today and 5 days, and the 3 that it waits, of which one is begun");
    assert_eq!(retain(&store, 5).ttl_days, Some(8));
    assert_eq!(listed(), 6);
}

#[test]
fn clickhouse_understands_every_statement_that_makes_tables_on_a_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(_, place), _]) = two(dir.path()) else { return };
    let CallsIn::ClickHouse(to) = &place.calls else { panic!() };
    let link = Link::open(to).unwrap();
    let layout = Layout { cluster: Some("main".into()), ..Layout::of(to) };
    let statements = layout.statements();
    assert_eq!(statements.len(), 38, "{statements:?}");
    let read = |sql: String| -> Vec<String> {
        link.rows("read a statement", Ask::of(format!("EXPLAIN AST {sql}"))).unwrap()
    };
    for sql in &statements {
        let tree = read(sql.clone());
        assert!(
            ["CreateQuery", "AlterQuery", "InsertQuery"].iter().any(|one| tree[0].starts_with(one)),
            "{tree:?}"
        );
        // A clause that was read as something else would be a name in the tree.
        assert!(!tree.iter().any(|line| line.contains("CLUSTER")), "{tree:?}");
    }
}

#[test]
fn an_insertion_whose_token_is_forgotten_is_in_the_sums_once() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(a, place), (b, _)]) = two(dir.path()) else { return };
    let CallsIn::ClickHouse(to) = &place.calls else { panic!() };
    let (link, layout) = (Link::open(to).unwrap(), Layout::of(to));
    for table in SumTable::all() {
        let sql = format!(
            "ALTER TABLE {} MODIFY SETTING non_replicated_deduplication_window = 1",
            layout.local(&table.name())
        );
        link.execute("remember one token", Ask::of(sql)).unwrap();
    }
    let day = -86_400;
    a.insert((1..=3).map(|n| call(n, day + n as i64)).collect()).unwrap();
    // Killed behind its insertion, which is then in no sum.
    let last = format!(
        "INSERT INTO {table} SELECT * REPLACE (toUInt128(4) AS trace_id, toUInt64(4) AS span_id, \
         toUInt64(2) AS batch) FROM (SELECT * FROM {table} WHERE span_id = 3)",
        table = layout.local("call")
    );
    let token = format!("{}-2", NOON / 86_400_000_000_000 - 1);
    let last = Ask::of(last).setting("insert_deduplication_token", token);
    link.execute("write as one that is killed", last).unwrap();
    for number in 10..=14 {
        a.insert(vec![call(number, number as i64)]).unwrap();
    }
    // Whoever comes to that day first adds it, and the next ones do not add it again.
    for (store, number) in [(&b, 20), (&a, 21), (&b, 22), (&a, 23)] {
        store.insert(vec![call(number, number as i64)]).unwrap();
        store.insert(vec![call(number + 100, day + number as i64)]).unwrap();
    }
    let of_day = |from: i64, to: i64| Span {
        from: Time(NOON.checked_add_signed(from * 3_600_000_000_000).unwrap()),
        to: Time(NOON.checked_add_signed(to * 3_600_000_000_000).unwrap()),
        ..Span::default()
    };
    for (from, to) in [(-36, -12), (-25, -23), (-24, -23)] {
        let span = of_day(from, to);
        assert_eq!(a.overview(&span).unwrap().totals.calls, 8, "{from} {to}");
        let (by, weight, percentiles, durations) = (Some(By::Host), Weight::Calls, false, false);
        let by_host = a.series(&SeriesQuery { span, by, weight, percentiles, durations }).unwrap();
        assert_eq!(by_host.groups[0].totals.calls, 8, "{from} {to}");
    }
}

#[test]
fn control_state_is_copied_before_the_schema_changes() {
    let dir = tempfile::tempdir().unwrap();
    let Some([(a, place), (b, _)]) = two(dir.path()) else { return };
    let CallsIn::ClickHouse(to) = &place.calls else { panic!() };
    let token = a.make_token(&NewToken::new(TokenKind::Join, "nodes"), NOW).unwrap();
    let [by_sdk, by_kernel] = seen_twice(1);
    a.insert(vec![by_sdk]).unwrap();
    drop((a, b));
    // As a version left it that knew no amendments.
    let (link, layout) = (Link::open(to).unwrap(), Layout::of(to));
    let go_back = [
        format!("ALTER TABLE {} DELETE WHERE number >= 7", layout.name("migration")),
        format!("ALTER TABLE {} DROP COLUMN amends", layout.name("call")),
    ];
    for sql in go_back {
        link.execute("go back", Ask::of(sql).setting("mutations_sync", 2)).unwrap();
    }
    let store = Store::open_with(&place).unwrap();
    assert_eq!(store.insert(vec![by_kernel]).unwrap().joined, 1);
    check_counted_once(&store, 1);
    let copy = place.data_dir.join("clickhouse-before-7");
    let again = dir.path().join("again");
    assert!(Store::restore(&copy, &again).unwrap().time > NOW);
    let restored = Store::open(&again).unwrap();
    assert!(matches!(restored.bearer(&token, NOW), Ok(Bearer::Token { .. })));
    drop(store);
    Store::open_with(&place).unwrap();
    assert_eq!(
        std::fs::read_dir(&place.data_dir)
            .unwrap()
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with("clickhouse-before")
            })
            .count(),
        1,
        "once"
    );
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some([_, (store, place)]) = two(dir.path()) else { return };
    drop(store);
    let CallsIn::ClickHouse(to) = &place.calls else { panic!() };
    let sql = format!("INSERT INTO {}.migration (number, name) VALUES (99, 'later')", to.database);
    Link::open(to).unwrap().execute("write", Ask::of(sql)).unwrap();
    let error = Store::open_with(&place).unwrap_err();
    assert!(matches!(error, Error::Newer { found: 99, .. }), "{error}");
}

#[test]
fn a_server_that_is_away_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let to = ClickHouse {
        password: Some("secret".into()),
        ..ClickHouse::new(&format!("http://{nobody}"))
    };
    assert!(!format!("{to:?}").contains("secret"));
    let place = Place { data_dir: dir.path().into(), calls: CallsIn::ClickHouse(to) };
    let error = Store::open_with(&place).unwrap_err();
    assert!(matches!(error, Error::Away { .. }), "{error}");
    assert!(error.to_string().contains("--clickhouse"), "{error}");
}
