//! Wishes that are kept, and who may come in.

use super::{NOON, SECOND, call, store};
use crate::{Asked, Bearer, Denied, Error, NewToken, NewWish, Store, TokenKind, Wanted};
use contract::before::{Before, Was};
use contract::capture::{Level, State};
use contract::poll::{Instance, PROTOCOL, Report, Wish};
use contract::row::Time;
use contract::workload::{
    Agent, AgentIn, AgentProgress, Instance as Process, Key, Observed, Platform, What,
};
use std::collections::BTreeSet;

const NOW: Time = Time(NOON);

pub(crate) fn report(node: &str, keys: &[&str]) -> Report {
    Report {
        protocol: PROTOCOL,
        instance: Instance {
            id: node.into(),
            host_name: format!("host of {node}"),
            version: "0.1.0".into(),
            kernel: "6.1".into(),
            started_unix_nanos: NOON,
            recorded: false,
            ..Instance::default()
        },
        generation: 0,
        wait_seconds: 0,
        workloads: Some(keys.iter().map(|key| observed(key)).collect()),
        doctor: Some(Vec::new()),
        lost: [("ring_full".to_owned(), 3)].into(),
        ..Report::default()
    }
}

fn observed(key: &str) -> Observed {
    Observed {
        key: Key(key.into()),
        name: key.into(),
        platform: Platform::Process,
        instances: Vec::new(),
        asked: Vec::new(),
        replaces: Vec::new(),
        evidence: Vec::new(),
        level: Level::Off,
        state: State::Discovered,
        reason: "seen".into(),
        first_seen_unix_nanos: NOON - 60 * SECOND,
        last_seen_unix_nanos: 0,
        attributes: [("k8s.namespace.name".to_owned(), "default".to_owned())].into(),
        agent: None,
    }
}

pub(crate) fn want(store: &Store, key: &str, level: Level) -> Result<Wanted, Error> {
    store.want(NewWish { key, level, actor: "page", reason: "" }, NOW)
}

pub(crate) fn wish_of(store: &Store, instance: &str) -> Result<Wish, Error> {
    store.wish(instance, &Asked::default(), NOW)
}

fn states(store: &Store) -> Vec<(String, Level, State)> {
    let services = store.services(NOW).unwrap().services;
    services.into_iter().map(|row| (row.key, row.desired, row.state)).collect()
}

#[test]
fn a_wish_reaches_its_node_alone_and_generations_grow() {
    let (_dir, store) = store();
    store.report(&report("n1", &["a", "b"]), NOW).unwrap();
    store.report(&report("n2", &["c"]), NOW).unwrap();
    assert_eq!(wish_of(&store, "n1").unwrap().generation, 0);
    let first = want(&store, "a", Level::Network).unwrap();
    assert_eq!(first.instances, ["n1"]);
    let second = want(&store, "c", Level::Network).unwrap();
    assert!(second.generation > first.generation);
    let wish = wish_of(&store, "n1").unwrap();
    assert_eq!((wish.generation, wish.desired.len()), (first.generation, 1));
    assert_eq!((wish.desired[0].key.0.as_str(), wish.desired[0].level), ("a", Level::Network));
    let third = want(&store, "a", Level::Off).unwrap();
    let wish = wish_of(&store, "n1").unwrap();
    assert_eq!((wish.generation, wish.desired[0].level), (third.generation, Level::Off));
    assert_eq!(wish_of(&store, "nobody").unwrap().desired, []);
    // An SDK beside the network's capture goes as both, which older nodes understand in part.
    want(&store, "a", Level::Full).unwrap();
    let wish = wish_of(&store, "n1").unwrap();
    assert_eq!((wish.desired[0].level, wish.desired[0].agent), (Level::Network, Some(true)));
    assert_eq!(states(&store)[0].1, Level::Full);
    want(&store, "a", Level::Network).unwrap();
    let wish = wish_of(&store, "n1").unwrap();
    assert_eq!((wish.desired[0].level, wish.desired[0].agent), (Level::Network, Some(false)));
    assert_eq!(states(&store)[0].1, Level::Network);
}

#[test]
fn of_several_nodes_with_a_workload_the_one_speaks_where_it_runs_and_waits_for_no_other() {
    let agent = |state, change: &str, pid| Agent {
        state,
        reason: format!("{state:?}"),
        processes: vec![AgentIn { pid, progress: AgentProgress::Loaded, detail: String::new() }],
        change: change.to_owned(),
        before: None,
        is_leaving: false,
    };
    let said = |node: &str, pids: &[u32], agent: Agent| {
        let mut told = report(node, &["a"]);
        let workload = &mut told.workloads.as_mut().unwrap()[0];
        workload.instances =
            pids.iter().map(|pid| Process { pid: *pid, ..Process::default() }).collect();
        (workload.state, workload.reason) = (agent.state, agent.reason.clone());
        workload.agent = Some(agent);
        told
    };
    let (_dir, store) = store();
    want(&store, "a", Level::Full).unwrap_err();
    let row = || store.services(NOW).unwrap().services.remove(0);
    store.report(&said("n1", &[1], agent(State::Pending, "+ sdk", 1)), NOW).unwrap();
    let later = Time(NOON + SECOND);
    store.report(&said("n2", &[2, 3], agent(State::Pending, "", 2)), later).unwrap();
    let shown = row();
    assert_eq!(shown.instances.len(), 3);
    assert_eq!(shown.host_name.as_deref(), Some("host of n1"), "n2 waits for it");
    assert_eq!(shown.agent.unwrap().processes.len(), 2);
    // Its pods went to the other node.
    store.report(&said("n1", &[], agent(State::Stopped, "+ sdk", 1)), later).unwrap();
    store.report(&said("n2", &[2], agent(State::Capturing, "+ sdk", 2)), NOW).unwrap();
    assert_eq!(row().host_name.as_deref(), Some("host of n2"));
}

#[test]
fn a_node_that_lost_its_notes_hears_what_it_changed_and_another_does_not() {
    let (dir, store) = store();
    let was = Was::Unit { made: 1, variables: ["PYTHONPATH".to_owned()].into() };
    let before = Before { shown: "the directory was not there".into(), was };
    let said = |node: &str, before: Option<&Before>, asks_before| {
        let mut told = report(node, &["a", "b"]);
        told.asks_before = asks_before;
        told.workloads.as_mut().unwrap()[0].agent = Some(Agent {
            state: State::Capturing,
            reason: String::new(),
            processes: Vec::new(),
            change: "+ sdk".into(),
            before: before.cloned(),
            is_leaving: false,
        });
        told
    };
    store.report(&said("n1", Some(&before), false), NOW).unwrap();
    store.report(&report("n2", &["a"]), NOW).unwrap();
    assert_eq!(wish_of(&store, "n1").unwrap().before, None, "it did not ask");
    drop(store);
    let store = Store::open_with(&super::place(&dir.path().join("data"))).unwrap();
    // It began anew, so its lists know nothing of it; nor do those that name no workload at all.
    let asking = said("n1", None, true);
    store.report(&asking, NOW).unwrap();
    store.report(&Report { workloads: Some(Vec::new()), ..asking.clone() }, NOW).unwrap();
    let asked = Asked::of(&asking);
    assert!(store.has_news("n1", &asked, NOW));
    let heard = |node| store.wish(node, &asked, NOW).unwrap().before.unwrap();
    assert_eq!(heard("n1"), [(Key("a".into()), before)].into());
    assert_eq!(heard("n2"), [].into());
    // What it took back, with its notes at hand, is over.
    store.report(&said("n1", None, false), NOW).unwrap();
    assert_eq!(heard("n1"), [].into());
}

#[test]
fn wishes_for_what_is_not_there_are_refused() {
    let (_dir, store) = store();
    let mut recording = report("n1", &["a"]);
    recording.instance.recorded = true;
    store.report(&recording, NOW).unwrap();
    let refused = |key| want(&store, key, Level::Network).unwrap_err();
    assert!(matches!(refused("b"), Error::UnknownWorkload));
    assert!(matches!(refused("a"), Error::Recorded));
    assert_eq!(states(&store), [("a".to_owned(), Level::Off, State::Recorded)]);
}

#[test]
fn a_wish_outlives_a_restart_and_the_workload() {
    let (dir, store) = store();
    store.report(&report("n1", &["a"]), NOW).unwrap();
    let wanted = want(&store, "a", Level::Network).unwrap();
    store.report(&report("n1", &[]), NOW).unwrap();
    assert_eq!(states(&store), [("a".to_owned(), Level::Network, State::Stopped)]);
    drop(store);
    let store = Store::open_with(&super::place(&dir.path().join("data"))).unwrap();
    let year = Time(NOON + 365 * 86_400 * SECOND);
    store.report(&report("n1", &[]), year).unwrap();
    assert_eq!(wish_of(&store, "n1").unwrap().generation, wanted.generation);
    assert_eq!(wish_of(&store, "n1").unwrap().desired.len(), 1);
}

#[test]
fn a_node_that_newly_has_a_wanted_workload_is_told() {
    let (_dir, store) = store();
    store.report(&report("n1", &["a"]), NOW).unwrap();
    store.report(&report("n2", &["b"]), NOW).unwrap();
    want(&store, "a", Level::Network).unwrap();
    let seen = want(&store, "b", Level::Network).unwrap().generation;
    store.report(&report("n2", &["a", "b"]), NOW).unwrap();
    let wish = wish_of(&store, "n2").unwrap();
    assert!(wish.generation > seen, "else a poll with {seen} would wait");
    assert_eq!(wish.desired.len(), 2);
}

#[test]
fn what_a_service_asks_for_is_in_its_row() {
    let (_directory, store) = store();
    let asked = |what, name: &str, at| contract::workload::Asked {
        what,
        name: name.to_owned(),
        first_seen_unix_nanos: at,
        last_seen_unix_nanos: at + SECOND,
    };
    let mut report = report("n1", &["a"]);
    for workload in report.workloads.iter_mut().flatten() {
        workload.asked = vec![
            asked(What::Provider, "openai", NOON),
            asked(What::Model, "o3", NOON + 2 * SECOND),
            asked(What::Model, "gpt-4o", NOON),
        ];
    }
    store.report(&report, NOW).unwrap();
    let row = store.services(NOW).unwrap().services.remove(0);
    assert_eq!(row.providers, ["openai"]);
    assert_eq!(row.models, ["gpt-4o", "o3"]);
    let o3 = (row.asked[1].first_seen, row.asked[1].last_seen);
    assert_eq!(o3, (Time(NOON + 2 * SECOND), Time(NOON + 3 * SECOND)));
}

#[test]
fn a_key_that_is_replaced_leaves_no_row_and_its_wish_and_name_hold_for_the_real_one() {
    let (_directory, store) = store();
    store.report(&report("n1", &["early", "other"]), NOW).unwrap();
    store.report(&report("n2", &["early"]), NOW).unwrap();
    want(&store, "early", Level::Network).unwrap();
    store.set_name("early", Some("Chat"), "page", NOW).unwrap();
    let mut real = report("n1", &["real", "other"]);
    for workload in real.workloads.iter_mut().flatten().filter(|it| it.key.0 == "real") {
        workload.replaces = vec![Key("early".to_owned()), Key("never told".to_owned())];
    }
    store.report(&real, NOW).unwrap();
    let wish = wish_of(&store, "n1").unwrap();
    let levels: Vec<_> = wish.desired.iter().map(|it| (it.key.0.as_str(), it.level)).collect();
    assert_eq!(levels, [("real", Level::Network)]);
    assert_eq!(wish.names[&Key("real".to_owned())], "Chat");
    let keys = || states(&store).into_iter().map(|(key, ..)| key).collect::<BTreeSet<_>>();
    assert_eq!(
        keys(),
        ["early", "other", "real"].map(str::to_owned).into(),
        "another node still has that key"
    );
    // There it is the same workload; then nobody has the key, and nothing is wanted of it.
    let mut last = report("n2", &["real"]);
    for workload in last.workloads.iter_mut().flatten() {
        workload.replaces = vec![Key("early".to_owned())];
    }
    store.report(&last, NOW).unwrap();
    assert_eq!(keys(), ["other", "real"].map(str::to_owned).into());
    assert_eq!(wish_of(&store, "n2").unwrap().desired.len(), 1);
}

#[test]
fn a_report_says_whether_it_changed_anything() {
    let (_dir, store) = store();
    let mut report = report("n1", &["a"]);
    assert!(store.report(&report, NOW).unwrap().changed);
    assert!(!store.report(&report, NOW).unwrap().changed);
    report.workloads = None;
    report.doctor = None;
    let later = Time(NOON + SECOND);
    assert!(!store.report(&report, later).unwrap().changed);
    assert_eq!(store.nodes().unwrap()[0].last_poll, later);
    assert_eq!(states(&store).len(), 1);
    report.lost.insert("ring_full".into(), 4);
    assert!(store.report(&report, NOW).unwrap().changed);
    assert_eq!(store.nodes().unwrap()[0].lost["ring_full"], 4);
}

#[test]
fn what_nobody_wants_is_forgotten_after_a_week() {
    let (_dir, store) = store();
    store.report(&report("n1", &["a"]), NOW).unwrap();
    store.report(&report("n1", &[]), NOW).unwrap();
    assert_eq!(states(&store).len(), 1);
    let later = Time(NOON + 8 * 86_400 * SECOND);
    store.report(&report("n1", &[]), later).unwrap();
    assert_eq!(states(&store), []);
}

#[test]
fn the_dial_is_pending_until_the_controller_says_otherwise() {
    let (_dir, store) = store();
    let mut report = report("n1", &["a"]);
    store.report(&report, NOW).unwrap();
    assert_eq!(states(&store)[0].2, State::Discovered);
    want(&store, "a", Level::Network).unwrap();
    assert_eq!(states(&store)[0].2, State::Pending);
    let mut say = |level, state| {
        let workload = &mut report.workloads.as_mut().unwrap()[0];
        (workload.level, workload.state) = (level, state);
        store.report(&report, NOW).unwrap();
        states(&store)[0].2
    };
    // What stands in the way is said, not waited for.
    for obstacle in [
        State::Failed,
        State::Blocked,
        State::Conflict,
        State::Unhealthy,
        State::Drifted,
        State::Unsupported,
    ] {
        assert_eq!(say(Level::Off, obstacle), obstacle);
    }
    assert_eq!(say(Level::Network, State::Capturing), State::Capturing);
    want(&store, "a", Level::Off).unwrap();
    assert_eq!(say(Level::Network, State::Capturing), State::Pending);
    assert_eq!(say(Level::Off, State::Discovered), State::Discovered);
}

#[test]
fn what_a_node_captures_by_its_own_configuration_is_wanted_until_somebody_says_otherwise() {
    let (_dir, store) = store();
    let mut report = report("n1", &["a"]);
    let workload = &mut report.workloads.as_mut().unwrap()[0];
    (workload.level, workload.state) = (Level::Network, State::Capturing);
    store.report(&report, NOW).unwrap();
    assert_eq!(states(&store), [("a".to_owned(), Level::Network, State::Capturing)]);
    want(&store, "a", Level::Off).unwrap();
    assert_eq!(states(&store), [("a".to_owned(), Level::Off, State::Pending)]);
}

#[test]
fn calls_a_minute_are_of_the_last_five_or_since_the_service_is_known() {
    let (_dir, store) = store();
    store.report(&report("n1", &["host/process:agent"]), NOW).unwrap();
    store.insert((1..=6).map(|number| call(number, -10)).collect()).unwrap();
    let rate = |now| store.services(now).unwrap().services[0].calls_per_minute;
    assert_eq!(rate(NOW), 6.0);
    assert_eq!(rate(Time(NOON + 120 * SECOND)), 2.0);
    assert_eq!(rate(Time(NOON + 400 * SECOND)), 0.0);
}

#[test]
fn a_login_code_is_good_once_and_for_a_while() {
    let (_dir, store) = store();
    let (soon, late) = (Time(NOON + SECOND), Time(NOON + 2 * SECOND));
    let code = store.new_login_code(soon, NOW).unwrap();
    assert_eq!(store.login("wrong", late, NOW).unwrap(), None);
    let session = store.login(&code, late, NOW).unwrap().unwrap();
    assert_eq!(store.login(&code, late, NOW).unwrap(), None, "used");
    assert!(store.session(&session, NOW).unwrap());
    assert!(!store.session(&session, late).unwrap(), "over");
    assert!(!store.session(&code, NOW).unwrap(), "a code is no session");
    let old = store.new_login_code(soon, NOW).unwrap();
    assert_eq!(store.login(&old, late, soon).unwrap(), None, "too old");
    store.logout(&session).unwrap();
    assert!(!store.session(&session, NOW).unwrap());
}

#[test]
fn tokens_are_known_by_kind_and_no_secret_is_on_disk() {
    let (dir, store) = store();
    let tokens: Vec<_> = [TokenKind::Join, TokenKind::Ingest, TokenKind::Api]
        .into_iter()
        .map(|kind| (kind, store.make_token(&NewToken::new(kind, "test"), NOW).unwrap()))
        .collect();
    for (kind, token) in &tokens {
        assert!(
            matches!(store.bearer(token, NOW), Ok(Bearer::Token { kind: known, .. }) if known == *kind)
        );
        assert_eq!(store.bearer(&token.to_uppercase(), NOW), Err(Denied::Unknown));
    }
    assert_eq!(store.bearer("", NOW), Err(Denied::Unknown));
    let listed = store.tokens().unwrap();
    assert_eq!(listed.len(), 3);
    assert!(store.revoke(listed[0].id).unwrap());
    assert!(!store.revoke(listed[0].id).unwrap());
    assert_eq!(store.bearer(&tokens[0].1, NOW), Err(Denied::Unknown), "revoked");
    let code = store.new_login_code(Time(u64::MAX), NOW).unwrap();
    drop(store);
    for file in std::fs::read_dir(dir.path().join("data")).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for secret in tokens.iter().map(|(_, token)| token).chain([&code]) {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
}

#[test]
fn a_second_user_of_the_directory_is_told_who_has_it() {
    let (dir, store) = store();
    let path = dir.path().join("data");
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, Error::InUse { owner: Some(pid), .. } if pid == std::process::id()));
    drop(store);
    Store::open(&path).unwrap();
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let error = Store::open(&file.join("data")).unwrap_err();
    assert!(matches!(error, Error::Directory { .. }), "{error}");
    assert!(error.to_string().contains("--data-dir"), "{error}");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("control.db"), [0xff; 8192]).unwrap();
    let error = Store::open(&data).unwrap_err();
    assert!(matches!(error, Error::Directory { .. }), "{error}");
}
