//! The poll against a real server.

use super::admission::ENROL_PATH;
use super::trouble::WRONG_TOKEN_WAIT;
use super::*;
use crate::config::Token;
use crate::link::Answer;
use crate::stand_in::{Request, Response, StandIn, Stopwatch};
use crate::standing::Published;
use contract::capture::Level;
use contract::poll::{Desired, Enrolment, Refused};
use contract::settings::{Configuration, Settings};
use contract::step::{Change, Phase, Step};
use contract::workload::Key;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Receiver;

fn wish(generation: u64) -> Wish {
    let desired = vec![Desired {
        key: Key("host-1/systemd:a.service".to_owned()),
        level: Level::Network,
        agent: None,
        generation: 0,
    }];
    Wish { protocol: PROTOCOL, generation, desired, ..Wish::default() }
}

fn answer(generation: u64) -> Response {
    Response::of(200, serde_json::to_vec(&wish(generation)).unwrap())
}

fn poll(url: &str) -> (Poll, Receiver<Notice>) {
    let losses = Arc::new(Losses::default());
    let (notices, noticed) = Notices::channel(Arc::clone(&losses));
    let instance = Instance {
        id: "host-1".to_owned(),
        host_name: "node".to_owned(),
        version: "0".to_owned(),
        kernel: "6.1".to_owned(),
        started_unix_nanos: 1,
        recorded: false,
        ..Instance::default()
    };
    let token = Some(Token("join".to_owned()));
    // Another test may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let poll = Poll {
        link: Link::new(url, token).unwrap(),
        instance,
        doctor: Vec::new(),
        programs: Arc::new(Programs::recorded(Vec::new())),
        standings: Standings::default(),
        notices,
        losses,
        kernel_losses: KernelLosses::default(),
        agreed: Arc::default(),
        credential: None,
        steps: None,
        tuning: Tuning::default(),
    };
    (poll, noticed)
}

fn report(request: &Request) -> Report {
    serde_json::from_slice(&request.body).unwrap()
}

fn wanted(noticed: &Receiver<Notice>) -> u64 {
    match noticed.recv_timeout(Duration::from_secs(10)).unwrap() {
        Notice::Wanted(wish) => wish.generation,
        notice => panic!("{notice:?}"),
    }
}

#[test]
fn the_long_poll_carries_the_token_and_brings_the_wish() {
    let dashboard = StandIn::start(|_| answer(4));
    let (poll, noticed) = poll(&dashboard.url);
    let standings = poll.standings.clone();
    let thread = std::thread::spawn(move || poll.fetch());
    let first = dashboard.next(PATH);
    assert_eq!(first.headers["authorization"], "Bearer join");
    assert_eq!((report(&first).wait_seconds, report(&first).generation), (0, 0));
    assert_eq!(wanted(&noticed), 4);
    standings.taken_over(4);
    let later = std::iter::repeat_with(|| report(&dashboard.next(PATH)))
        .find(|report| report.generation == 4)
        .unwrap();
    assert_eq!(later.wait_seconds, WAIT_SECONDS);
    assert!(noticed.try_recv().is_err(), "the same wish is handed over once");
    standings.stop();
    thread.join().unwrap();
}

#[test]
fn a_change_is_reported_long_before_the_next_heartbeat() {
    let dashboard = StandIn::start(|_| answer(1));
    let (poll, _noticed) = poll(&dashboard.url);
    let standings = poll.standings.clone();
    let thread = std::thread::spawn(move || poll.tell());
    assert_eq!(
        report(&dashboard.next(PATH)).workloads,
        Some(Vec::new()),
        "all is told at the start"
    );
    let before = Stopwatch::start();
    standings.publish(Published::default());
    dashboard.next(PATH);
    assert!(before.elapsed() < Duration::from_secs(12), "{:?}", before.elapsed());
    standings.stop();
    thread.join().unwrap();
}

#[test]
fn a_token_that_was_never_good_is_told_from_one_that_was_revoked() {
    let refused = || Trouble::Refused(Answer { status: 401, retry_after: None, body: Vec::new() });
    let (new, _noticed) = poll("http://127.0.0.1:1");
    new.note(&Trouble::Unreachable("no route".to_owned()));
    assert!(!new.agreed.is_stranger());
    new.note(&refused());
    assert!(new.agreed.is_stranger());

    let (accepted, _noticed) = poll("http://127.0.0.1:1");
    accepted.take_over(wish(3), accepted.count());
    accepted.note(&refused());
    assert!(!accepted.agreed.is_stranger());

    let (with_wish_on_disk, _noticed) = poll("http://127.0.0.1:1");
    with_wish_on_disk.standings.taken_over(3);
    with_wish_on_disk.note(&refused());
    assert!(!with_wish_on_disk.agreed.is_stranger());
}

#[test]
fn what_the_dashboard_asks_to_wait_is_waited() {
    let trouble = |status, retry_after: Option<u64>| {
        Trouble::Refused(Answer {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            body: Vec::new(),
        })
    };
    let wait = |trouble: &Trouble| trouble.wait(&mut Backoff::default());
    let is_about = |wait: Duration, asked: Duration| wait >= asked && wait <= asked.mul_f64(1.1);
    assert!(is_about(wait(&trouble(429, Some(7))), Duration::from_secs(7)));
    assert!(is_about(wait(&trouble(503, Some(9))), Duration::from_secs(9)));
    assert!(is_about(wait(&trouble(401, None)), WRONG_TOKEN_WAIT));
    assert!(is_about(wait(&trouble(403, Some(60))), Duration::from_secs(60)));
    assert!(wait(&trouble(503, None)) <= Duration::from_millis(200));
    assert!(trouble(401, None).in_words().contains("token"));
}

#[test]
fn it_goes_on_after_errors_and_nonsense() {
    let count = AtomicU64::new(0);
    let dashboard = StandIn::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Response::of(500, "no"),
        1 => Response::of(200, "<html>"),
        _ => answer(2),
    });
    let (poll, noticed) = poll(&dashboard.url);
    let standings = poll.standings.clone();
    let thread = std::thread::spawn(move || poll.fetch());
    assert_eq!(wanted(&noticed), 2);
    standings.stop();
    thread.join().unwrap();
}

/// A node that has to join, in a directory of its own.
fn joining(url: &str, directory: &std::path::Path) -> (Poll, Receiver<Notice>) {
    let (mut poll, noticed) = poll(url);
    let token = Some(Token("sonde_join_1".to_owned()));
    let credential = Credential::open(directory, "host-1", token).unwrap();
    poll.link.keyring().hold(credential.shown());
    poll.credential = Some(Arc::new(Mutex::new(credential)));
    poll.steps = Some(Steps::open(directory, poll.standings.clone()));
    (poll, noticed)
}

fn bearer(request: &Request) -> String {
    request.headers["authorization"].trim_start_matches("Bearer ").to_owned()
}

fn enrolment(request: &Request) -> Enrolment {
    serde_json::from_slice(&request.body).unwrap()
}

#[test]
fn a_node_joins_with_its_token_and_polls_with_a_credential_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let count = AtomicU64::new(0);
    let dashboard = StandIn::start(move |request| {
        match (request.path.as_str(), count.fetch_add(1, Ordering::SeqCst)) {
            // The first answer is lost on the way.
            (ENROL_PATH, 0) => Response::of(502, "<html>"),
            _ => answer(1),
        }
    });
    let (poll, noticed) = joining(&dashboard.url, directory.path());
    let (standings, keyring) = (poll.standings.clone(), poll.link.keyring().clone());
    let thread = std::thread::spawn(move || poll.fetch());
    let first = dashboard.next(ENROL_PATH);
    let second = dashboard.next(ENROL_PATH);
    assert_eq!((bearer(&first), bearer(&second)), ("sonde_join_1".into(), "sonde_join_1".into()));
    let secret = enrolment(&first).credential;
    assert!(secret.is_credential());
    assert_eq!(enrolment(&second).credential, secret, "the same may be sent again");
    assert_eq!(bearer(&dashboard.next(PATH)), secret.0);
    assert_eq!(wanted(&noticed), 1);
    assert_eq!(keyring.token(), Some(Token(secret.0)), "calls are sent with it, too");
    standings.stop();
    thread.join().unwrap();
}

#[test]
fn a_dashboard_of_the_first_protocol_is_polled_with_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let dashboard = StandIn::start(|request| match request.path.as_str() {
        PATH => Response::of(200, r#"{"protocol":1,"generation":4,"desired":[]}"#),
        _ => Response::of(404, ""),
    });
    let (poll, noticed) = joining(&dashboard.url, directory.path());
    let standings = poll.standings.clone();
    let thread = std::thread::spawn(move || poll.fetch());
    assert_eq!(bearer(&dashboard.next(PATH)), "sonde_join_1");
    assert_eq!(wanted(&noticed), 4);
    standings.stop();
    thread.join().unwrap();
}

#[test]
fn a_revoked_credential_ends_in_a_state_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let refusal = r#"{"error":{"message":"the node was revoked\u001b[2J"}}"#;
    let dashboard = StandIn::start(move |request| match request.path.as_str() {
        PATH => Response::of(401, ""),
        _ => Response::of(403, refusal),
    });
    let (poll, _noticed) = joining(&dashboard.url, directory.path());
    lock(poll.credential.as_ref().unwrap()).enrolled();
    assert!(matches!(poll.ask(&poll.report(0, false)), Err(Trouble::Changed)));
    let trouble = poll.enter().unwrap_err();
    poll.note(&trouble);
    let standing = poll.agreed.standing(0, Now::read().monotonic);
    let words = standing.trouble.unwrap();
    assert!(
        words.contains("does not let this node join") && words.contains("was revoked"),
        "{words}"
    );
    assert!(!words.contains('\u{1b}'), "nothing moves a cursor");
    assert!(!poll.agreed.is_stranger(), "it was let in once: what was wanted holds");
    assert!(poll.is_let_in(), "and it is tried on with what it has");
}

#[test]
fn a_credential_is_changed_over_the_poll() {
    let directory = tempfile::tempdir().unwrap();
    let dashboard = StandIn::start(|request| {
        let mut wish = Wish { protocol: 2, generation: 1, ..Wish::default() };
        if request.path == PATH {
            let report = report(request);
            wish.credential_kept = report.next_credential.is_some();
            wish.rotate = !wish.credential_kept && bearer(request).ends_with(&"0f".repeat(32));
        }
        Response::of(200, serde_json::to_vec(&wish).unwrap())
    });
    let old = format!("sonde_node_{}", "0f".repeat(32));
    let kept = serde_json::json!({ "version": 1, "id": "host-1", "enrolled": true,
        "current": old, "next": null, "before": null });
    std::fs::write(directory.path().join("credential.json"), kept.to_string()).unwrap();
    let (poll, _noticed) = joining(&dashboard.url, directory.path());
    let standings = poll.standings.clone();
    let thread = std::thread::spawn(move || poll.tell());
    assert_eq!(bearer(&dashboard.next(PATH)), old);
    let offer = dashboard.next(PATH);
    let next = report(&offer).next_credential.unwrap();
    assert!(next.is_credential());
    assert_eq!(bearer(&offer), old);
    standings.publish(Published::default());
    assert_eq!(bearer(&dashboard.next(PATH)), next.0);
    standings.stop();
    thread.join().unwrap();
    let again = Credential::open(directory.path(), "host-1", None).unwrap();
    assert_eq!(again.shown(), Some(Token(next.0)));
}

#[test]
fn a_dashboard_that_forgot_wishes_is_told_them_before_it_is_obeyed() {
    let dashboard = StandIn::start(|request| {
        let report = report(request);
        let wish = match report.held {
            Some(_) => wish(report.generation + 1),
            None => Wish { ask_held: true, generation: 2, protocol: 2, ..Wish::default() },
        };
        Response::of(200, serde_json::to_vec(&wish).unwrap())
    });
    let (poll, noticed) = poll(&dashboard.url);
    let held = wish(9).desired;
    poll.standings.taken_over(9);
    poll.standings.publish(Published { held: held.clone(), ..Published::default() });
    let standings = poll.standings.clone();
    let thread = std::thread::spawn(move || poll.tell());
    let first = report(&dashboard.next(PATH));
    assert_eq!((first.generation, first.has_wishes, first.held), (9, true, None));
    assert_eq!(report(&dashboard.next(PATH)).held, Some(held));
    assert_eq!(wanted(&noticed), 10, "and never 2");
    standings.stop();
    thread.join().unwrap();
}

#[test]
fn an_answer_brings_steps_and_configuration_and_what_was_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let (poll, noticed) = joining("http://127.0.0.1:1", directory.path());
    let step = Step {
        id: "s-1".into(),
        key: None,
        change: Change::Refresh,
        reason: "r".into(),
        actor: "a".into(),
        generation: 1,
        attempt: 1,
        lease_seconds: 75,
        deadline_seconds: 60,
    };
    let settings = Settings { heartbeat_seconds: Some(60), ..Settings::default() };
    let configuration = Configuration { hash: "h".into(), settings, ..Configuration::default() };
    let refused = Refused { key: "k".into(), reason: "It is not a workload of this node.".into() };
    let wish = Wish {
        protocol: 2,
        unchanged: true,
        steps: vec![step],
        cancelled: vec!["s-2".into()],
        configuration: Some(configuration),
        refused: vec![refused; 2],
        ..Wish::default()
    };
    assert!(poll.take_over(wish, poll.count()));
    assert!(matches!(noticed.try_recv(), Ok(Notice::Tuned)));
    assert_eq!(poll.tuning.heartbeat(), Duration::from_secs(60));
    assert_eq!(poll.report(0, false).configuration.unwrap().hash, "h");
    let steps = poll.steps.clone().unwrap();
    assert_eq!(steps.lengths().0, 1);
    assert_eq!(steps.untold()[0].phase, Phase::Cancelled);
    let standing = poll.agreed.standing(0, Now::read().monotonic);
    assert_eq!(standing.refused.len(), 1);
    assert!(noticed.try_recv().is_err(), "no wish is news");
}

#[test]
fn an_answer_that_says_nothing_at_once_does_not_make_a_flood() {
    let count = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&count);
    let dashboard = StandIn::start(move |_| {
        counting.fetch_add(1, Ordering::SeqCst);
        answer(1)
    });
    let (poll, _noticed) = poll(&dashboard.url);
    let standings = poll.standings.clone();
    let thread = std::thread::spawn(move || poll.fetch());
    standings.sleep(Duration::from_secs(2));
    standings.stop();
    thread.join().unwrap();
    let asked = count.load(Ordering::SeqCst);
    assert!((2..15).contains(&asked), "{asked} polls in two seconds");
}

#[test]
fn a_dashboard_of_another_age_is_named() {
    let dashboard =
        StandIn::start(|_| Response::of(200, r#"{"protocol":9,"generation":1,"desired":[]}"#));
    let (poll, noticed) = poll(&dashboard.url);
    let trouble = poll.ask(&poll.report(0, false)).unwrap_err();
    assert!(trouble.in_words().contains("protocol 9"), "{}", trouble.in_words());
    assert!(noticed.try_recv().is_err());
}

#[test]
fn an_answer_is_with_the_loop_before_the_next_is_judged() {
    let (poll, noticed) = poll("http://127.0.0.1:1");
    // There is no room: who hands over waits.
    while poll.losses.by_reason().is_empty() {
        poll.notices.send(Notice::Tuned);
    }
    let asked_at = poll.count();
    let hand_over = |generation| {
        let poll = poll.clone();
        std::thread::spawn(move || poll.take_over(wish(generation), asked_at))
    };
    let first = hand_over(1);
    while poll.count() == asked_at {
        std::thread::sleep(Duration::from_millis(1));
    }
    let second = hand_over(2);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(poll.count(), asked_at + 1, "the second would overtake the first");
    let mut wanted = Vec::new();
    while wanted.len() < 2 {
        if let Notice::Wanted(wish) = noticed.recv_timeout(Duration::from_secs(60)).unwrap() {
            wanted.push(wish.generation);
        }
    }
    assert_eq!(wanted, [1, 2]);
    assert!(first.join().unwrap() && second.join().unwrap());
}
