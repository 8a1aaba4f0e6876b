//! The poll against a real server.

use super::*;
use crate::stand_in::{Request, Response, StandIn, Stopwatch};
use crate::standing::Published;
use contract::capture::Level;
use contract::poll::Desired;
use contract::workload::Key;
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
    let token = Some(crate::config::Token("join".to_owned()));
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
    assert!(before.elapsed() < HEARTBEAT / 2, "{:?}", before.elapsed());
    standings.stop();
    thread.join().unwrap();
}

#[test]
fn a_token_that_was_never_good_is_told_from_one_that_was_revoked() {
    let refused = || Trouble::Refused(Answer { status: 401, retry_after: None, body: Vec::new() });
    let (new, _noticed) = poll("http://127.0.0.1:1");
    new.note_refusal(&Trouble::Unreachable("no route".to_owned()));
    assert!(!new.agreed.is_stranger());
    new.note_refusal(&refused());
    assert!(new.agreed.is_stranger());

    let (accepted, _noticed) = poll("http://127.0.0.1:1");
    accepted.take_over(wish(3), 0);
    accepted.note_refusal(&refused());
    assert!(!accepted.agreed.is_stranger());

    let (with_wish_on_disk, _noticed) = poll("http://127.0.0.1:1");
    with_wish_on_disk.standings.taken_over(3);
    with_wish_on_disk.note_refusal(&refused());
    assert!(!with_wish_on_disk.agreed.is_stranger());
}

#[test]
fn an_overtaken_answer_is_dropped_and_a_dashboard_that_began_anew_is_believed() {
    let (poll, noticed) = poll("http://127.0.0.1:1");
    let asked_before = poll.agreed.answers.load(Ordering::SeqCst);
    poll.take_over(wish(7), asked_before);
    assert_eq!(wanted(&noticed), 7);
    poll.take_over(wish(6), asked_before);
    assert!(noticed.try_recv().is_err());
    poll.take_over(wish(0), poll.agreed.answers.load(Ordering::SeqCst));
    assert_eq!(wanted(&noticed), 0);
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
    assert_eq!(wait(&trouble(429, Some(7))), Duration::from_secs(7));
    assert_eq!(wait(&trouble(401, None)), WRONG_TOKEN_WAIT);
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
