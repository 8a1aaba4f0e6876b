//! What only this engine does: several dashboards on one database, and a server that is away.

use super::link::{Ask, Link};
use crate::conformance::{self, NOON, call};
use crate::fleet::{Asked, Bearer, NewToken};
use crate::{CallsIn, CallsQuery, ClickHouse, Error, Place, Span, Store, TokenKind};
use contract::capture::Level;
use contract::row::Time;
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
