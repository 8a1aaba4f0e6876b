//! Nodes with credentials, steps that are lent, layers of configuration, names, rules, restores.

use super::control::{report, want};
use super::{NOON, SECOND, embedded, place, store};
use crate::{Asked, Bearer, Denied, Error, NewStep, NewToken, Store, TokenKind};
use contract::capture::{Level, State};
use contract::poll::{CREDENTIAL_PREFIX, Capability, Delta, Desired, Enrolment, Report, Secret};
use contract::row::{LayerRow, Time};
use contract::settings::{Applied, Layer, LogLevel, Settings};
use contract::step::lease::{End, LEASE_NANOS};
use contract::step::{Change, Phase, Progress};
use contract::workload::{Instance, Key};

const NOW: Time = Time(NOON);

fn after(seconds: u64) -> Time {
    Time(NOON + seconds * SECOND)
}

fn credential(digit: char) -> Secret {
    Secret(format!("{CREDENTIAL_PREFIX}{}", digit.to_string().repeat(64)))
}

fn enrolment(node: &str, digit: char) -> Enrolment {
    let instance = report(node, &[]).instance;
    Enrolment { protocol: 2, oldest_protocol: 1, instance, credential: credential(digit) }
}

/// A join token of its own, by its number.
fn join_token(store: &Store, uses: Option<u32>) -> u64 {
    let environment = Some("staging".to_owned());
    let new = NewToken { uses, environment, ..NewToken::new(TokenKind::Join, "test") };
    let token = store.make_token(&new, NOW).unwrap();
    match store.bearer(&token, NOW) {
        Ok(Bearer::Token { id, .. }) => id,
        other => panic!("{other:?}"),
    }
}

fn node_of(store: &Store, digit: char) -> Result<(String, bool), Denied> {
    store.bearer(&credential(digit).0, NOW).map(|bearer| match bearer {
        Bearer::Node { id, is_next } => (id, is_next),
        Bearer::Token { .. } => panic!("a credential is no token"),
    })
}

#[test]
fn a_credential_speaks_for_its_node_is_rotated_and_revoked() {
    let (dir, store) = store();
    let token = join_token(&store, Some(1));
    let enrolled = store.enrol(&enrolment("n1", 'a'), token, NOW).unwrap();
    assert_eq!((enrolled.id.as_str(), enrolled.environment.as_deref()), ("n1", Some("staging")));
    store.enrol(&enrolment("n1", 'a'), token, NOW).expect("the same may be sent again");
    assert_eq!(node_of(&store, 'a').unwrap(), ("n1".to_owned(), false));
    let spent = store.enrol(&enrolment("n2", 'b'), token, NOW).unwrap_err();
    assert!(matches!(spent, Error::Spent), "{spent}");
    let mut next = report("n1", &[]);
    next.next_credential = Some(credential('c'));
    assert!(store.report(&next, NOW).unwrap().credential_kept);
    assert_eq!(node_of(&store, 'a').unwrap().0, "n1", "the old one is good until");
    assert_eq!(node_of(&store, 'c').unwrap(), ("n1".to_owned(), true));
    store.promote("n1", &credential('c').0, NOW).unwrap();
    assert_eq!(node_of(&store, 'a'), Err(Denied::Unknown), "the new one was used");
    drop(store);
    let store = Store::open_with(&place(&dir.path().join("data"))).unwrap();
    assert_eq!(node_of(&store, 'c').unwrap(), ("n1".to_owned(), false));
    assert!(store.revoke_node("n1", "page", NOW).unwrap());
    assert_eq!(node_of(&store, 'c'), Err(Denied::Unknown));
    let other = join_token(&store, None);
    let back = store.enrol(&enrolment("n1", 'd'), other, after(9999)).unwrap_err();
    assert!(matches!(back, Error::Revoked), "{back}");
    assert!(store.readmit_node("n1", "page", NOW).unwrap());
    store.enrol(&enrolment("n1", 'd'), other, after(9999)).unwrap();
}

#[test]
fn nobody_takes_the_name_of_a_node_that_is_heard() {
    let (_dir, store) = store();
    let (one, two) = (join_token(&store, None), join_token(&store, None));
    store.enrol(&enrolment("n1", 'a'), one, NOW).unwrap();
    store.report(&report("n1", &[]), NOW).unwrap();
    let soon = after(30);
    assert!(matches!(store.enrol(&enrolment("n1", 'b'), one, soon), Err(Error::Taken)));
    assert!(matches!(store.join("n1", one, soon), Err(Error::Taken)), "it has a credential");
    assert_eq!(node_of(&store, 'b'), Err(Denied::Unknown));
    store.enrol(&enrolment("n1", 'b'), one, after(120)).expect("its disk was lost, it was silent");
    assert_eq!(node_of(&store, 'a'), Err(Denied::Unknown), "one credential at a time");
    store.join("n2", one, NOW).unwrap();
    store.report(&report("n2", &[]), NOW).unwrap();
    store.join("n2", one, soon).unwrap();
    assert!(matches!(store.join("n2", two, soon), Err(Error::Taken)), "another token");
    store.enrol(&enrolment("n2", 'e'), one, soon).expect("from its token to a credential");
    assert!(matches!(store.join("n2", one, soon), Err(Error::Taken)), "and not back");
}

#[test]
fn a_token_ends_with_its_time() {
    let (_dir, store) = store();
    let new = NewToken { expires: Some(after(60)), ..NewToken::new(TokenKind::Api, "test") };
    let token = store.make_token(&new, NOW).unwrap();
    assert!(store.bearer(&token, after(59)).is_ok());
    assert_eq!(store.bearer(&token, after(60)), Err(Denied::Expired));
}

#[test]
fn the_last_use_of_a_token_is_kept_and_written_once_a_minute() {
    let (dir, store) = store();
    let secret = store.make_token(&NewToken::new(TokenKind::Ingest, "test"), NOW).unwrap();
    let noted = |store: &Store, at| match store.bearer(&secret, at) {
        Ok(Bearer::Token { is_noted, .. }) => is_noted,
        other => panic!("{other:?}"),
    };
    let token = store.tokens().unwrap()[0].clone();
    assert_eq!((token.last_used, noted(&store, NOW)), (None, false));
    store.token_used(token.id, NOW).unwrap();
    assert!(noted(&store, after(59)));
    store.token_used(token.id, after(59)).unwrap();
    assert_eq!(store.tokens().unwrap()[0].last_used, Some(NOW), "a minute is not over");
    drop(store);
    let store = Store::open_with(&place(&dir.path().join("data"))).unwrap();
    assert!(noted(&store, after(59)) && !noted(&store, after(60)));
    store.token_used(token.id, after(60)).unwrap();
    assert_eq!(store.tokens().unwrap()[0].last_used, Some(after(60)));
    store.token_used(token.id + 1, after(60)).expect("one that was revoked meanwhile is no error");
}

#[test]
fn deltas_follow_a_full_list_and_a_lost_one_leads_to_another() {
    let (_dir, store) = store();
    let mut full = report("n1", &["a", "b"]);
    full.sequence = 10;
    assert!(!store.report(&full, NOW).unwrap().full);
    let delta = |base, sequence, changed: &[&str], gone: &[&str]| {
        let mut one = report("n1", changed);
        let changed = one.workloads.take().unwrap();
        let gone = gone.iter().map(|key| Key((*key).to_owned())).collect();
        one.delta = Some(Delta { base, sequence, changed, gone });
        one
    };
    let keys = || {
        let services = store.services(NOW).unwrap().services;
        let here = services.into_iter().filter(|row| row.state.word() != "stopped");
        here.map(|row| row.key).collect::<Vec<_>>()
    };
    assert!(!store.report(&delta(10, 11, &["c"], &["a"]), NOW).unwrap().full);
    assert_eq!(keys(), ["b", "c"]);
    assert!(!store.report(&delta(10, 11, &["c"], &["a"]), NOW).unwrap().full, "sent twice");
    assert!(store.report(&delta(12, 13, &[], &["b"]), NOW).unwrap().full, "one was lost");
    assert_eq!(keys(), ["b", "c"], "nothing of it was taken");
    assert!(!store.report(&full, NOW).unwrap().full);
    assert_eq!(keys(), ["b", "c"], "a list that comes again, after what followed it, is old");
    full.instance.started_unix_nanos = NOON + 1;
    store.report(&full, NOW).unwrap();
    assert_eq!(keys(), ["a", "b"], "another run counts from the beginning");
}

#[test]
fn after_a_start_the_list_is_asked_for_because_the_copy_may_be_old() {
    let (dir, store) = store();
    let mut full = report("n1", &["a"]);
    (full.protocol, full.sequence) = (2, 1);
    store.report(&full, NOW).unwrap();
    let mut idle = full.clone();
    (idle.workloads, idle.doctor, idle.sequence) = (None, None, 0);
    assert!(store.glance(&idle, NOW).is_some_and(|taken| !taken.full));
    drop(store);
    let store = Store::open_with(&place(&dir.path().join("data"))).unwrap();
    let mut waits = idle.clone();
    waits.wait_seconds = 25;
    assert!(!store.report(&waits, NOW).unwrap().full, "it carries no list");
    assert_eq!(store.glance(&idle, NOW), None);
    assert!(store.report(&idle, NOW).unwrap().full);
    assert!(!store.report(&full, NOW).unwrap().full);
    assert!(store.glance(&idle, NOW).is_some_and(|taken| !taken.full));
}

#[test]
fn history_says_that_processes_or_the_controller_were_started_again() {
    let (_dir, store) = store();
    let mut seen = report("n1", &["a", "b"]);
    let instance = |pid| Instance { pid, started_unix_nanos: NOON, ..Instance::default() };
    let list = |seen: &mut Report, pids: &[u32]| {
        for workload in seen.workloads.iter_mut().flatten() {
            (workload.level, workload.state) = (Level::Network, State::Capturing);
            workload.instances = pids.iter().map(|pid| instance(*pid)).collect();
        }
    };
    list(&mut seen, &[7]);
    store.report(&seen, NOW).unwrap();
    want(&store, "a", Level::Network).unwrap();
    let newest = || store.history("a", 99).unwrap().entries.remove(0);
    list(&mut seen, &[8]);
    store.report(&seen, after(1)).unwrap();
    let entry = newest();
    assert_eq!((entry.time, entry.kind.as_str()), (after(1), "state"));
    assert!(entry.reason.starts_with("Process 7 ended, 8 started"), "{}", entry.reason);
    list(&mut seen, &[8, 9]);
    store.report(&seen, after(2)).unwrap();
    assert_eq!(newest().time, after(1), "one more is no restart");
    seen.instance.started_unix_nanos += 1;
    seen.workloads = None;
    store.report(&seen, after(3)).unwrap();
    store.report(&seen, after(4)).unwrap();
    let entry = newest();
    assert_eq!(entry.time, after(3), "once");
    assert!(entry.reason.contains("controller of its node was started again"));
    let of_b = store.history("b", 99).unwrap().entries;
    assert!(of_b.iter().all(|entry| entry.time < after(3)), "nothing is wanted of it");
}

#[test]
fn a_report_without_news_is_answered_from_memory() {
    let (_dir, store) = store();
    let mut idle = report("n1", &["a"]);
    assert_eq!(store.glance(&idle, NOW), None);
    store.report(&idle, NOW).unwrap();
    (idle.workloads, idle.doctor) = (None, None);
    assert!(store.glance(&idle, after(5)).is_some());
    assert_eq!(store.nodes().unwrap()[0].last_poll, after(5));
    let asked = Asked { has_wishes: true, ..Asked::default() };
    assert!(!store.has_news("n1", &asked, NOW));
    let wanted = want(&store, "a", Level::Network).unwrap();
    assert!(store.has_news("n1", &asked, NOW));
    let wish = store.wish("n1", &asked, NOW).unwrap();
    assert_eq!((wish.unchanged, wish.desired[0].generation), (false, wanted.generation));
    let has = Asked { generation: wanted.generation, ..asked };
    assert!(!store.has_news("n1", &has, NOW));
    assert!(store.wish("n1", &has, NOW).unwrap().unchanged);
    idle.lost.insert("ring_full".into(), 9);
    assert_eq!(store.glance(&idle, NOW), None, "a loss is news");
}

#[test]
fn steps_are_lent_again_until_they_end_and_all_of_it_is_logged() {
    let (_dir, store) = store();
    store.report(&report("n1", &["a"]), NOW).unwrap();
    store.report(&report("n2", &["b"]), NOW).unwrap();
    let new = NewStep {
        instance: "n1".into(),
        key: Some("a".into()),
        change: Change::Restart,
        reason: "it hangs".into(),
        actor: "page".into(),
        deadline: after(3600),
    };
    let id = store.new_step(&new, NOW).unwrap();
    let asked = Asked { has_wishes: true, ..Asked::default() };
    assert!(store.has_news("n1", &asked, NOW) && !store.has_news("n2", &asked, NOW));
    let lent = |now| store.wish("n1", &asked, now).unwrap().steps;
    let first = lent(NOW);
    assert_eq!((first[0].id.as_str(), first[0].attempt), (id.as_str(), 1));
    assert_eq!(lent(NOW), [], "it is lent");
    assert!(!store.has_news("n1", &asked, after(1)));
    let later = Time(NOON + LEASE_NANOS);
    assert!(store.has_news("n1", &asked, later), "the answer may have been lost");
    assert_eq!(lent(later)[0].attempt, 2);
    let say = |node: &str, phase| {
        let mut said = report(node, &[]);
        let mut progress = Progress::new(&id, phase, "well");
        progress.output = "restarted".into();
        (said.workloads, said.steps) = (None, vec![progress]);
        store.report(&said, later).unwrap()
    };
    let forged = say("n2", Phase::Done);
    assert_eq!((forged.refused.len(), forged.acknowledged.len()), (1, 0), "not its step");
    assert_eq!(say("n1", Phase::Running).acknowledged, [] as [&str; 0]);
    assert_eq!(say("n1", Phase::Done).acknowledged, [id.as_str()]);
    assert_eq!(say("n1", Phase::Done).acknowledged, [id.as_str()], "said twice, ended once");
    assert_eq!(store.steps(Some("n1"), 9).unwrap()[0].end, Some(End::Done));
    let history = store.history("a", 99).unwrap().entries;
    let events: Vec<_> = history.iter().map(|entry| entry.what.as_str()).collect();
    assert_eq!(events.iter().filter(|what| **what == "done").count(), 1, "{events:?}");
    for what in ["made", "sent", "running", "done", "discovered"] {
        assert!(events.contains(&what), "{what}: {events:?}");
    }
    let done = history.iter().find(|entry| entry.what == "done").unwrap();
    assert_eq!((done.output.as_str(), done.reason.as_str()), ("restarted", "well"));
}

#[test]
fn a_step_can_be_taken_back_and_one_that_nobody_takes_expires() {
    let (dir, store) = store();
    store.report(&report("n1", &["a"]), NOW).unwrap();
    let new = NewStep {
        instance: "n1".into(),
        key: None,
        change: Change::Refresh,
        reason: String::new(),
        actor: "page".into(),
        deadline: after(60),
    };
    let (one, two) = (store.new_step(&new, NOW).unwrap(), store.new_step(&new, NOW).unwrap());
    assert_eq!(store.cancel_step(&one, "page", NOW).unwrap().as_deref(), Some("n1"));
    assert_eq!(store.cancel_step(&one, "page", NOW).unwrap(), None, "it is over");
    drop(store);
    let store = Store::open_with(&place(&dir.path().join("data"))).unwrap();
    assert!(store.has_news("n1", &Asked::default(), NOW), "after a restart, too");
    assert_eq!(store.expire_steps(after(61)).unwrap(), 1);
    let ends: Vec<_> =
        store.steps(None, 9).unwrap().into_iter().map(|step| (step.id, step.end)).collect();
    assert!(ends.contains(&(one, Some(End::Cancelled))), "{ends:?}");
    assert!(ends.contains(&(two, Some(End::Expired))), "{ends:?}");
    let nobody = NewStep { instance: "n9".into(), ..new };
    assert!(matches!(store.new_step(&nobody, NOW), Err(Error::UnknownNode)));
}

#[test]
fn layers_reach_the_nodes_that_they_are_for_once() {
    let (dir, store) = store();
    let token = join_token(&store, None);
    store.enrol(&enrolment("n1", 'a'), token, NOW).unwrap();
    let mut report = report("n1", &[]);
    report.instance.capabilities = [Capability::Configure].into();
    store.report(&report, NOW).unwrap();
    let asked = |hash: Option<&str>| Asked {
        has_wishes: true,
        configuration: hash.map(str::to_owned),
        ..Asked::default()
    };
    assert!(!store.has_news("n1", &asked(None), NOW), "nothing is set");
    let set = |layer, name: &str, settings| {
        store.set_layer(&LayerRow { layer, name: name.into(), settings }, "page", NOW).unwrap()
    };
    let log = |log| Settings { log: Some(log), ..Settings::default() };
    set(Layer::Fleet, "", log(LogLevel::Warn));
    set(Layer::Environment, "staging", log(LogLevel::Debug));
    set(Layer::Node, "n2", log(LogLevel::Error));
    drop(store);
    let store = Store::open_with(&place(&dir.path().join("data"))).unwrap();
    let sent = store.wish("n1", &asked(None), NOW).unwrap().configuration.unwrap();
    assert_eq!(sent.settings.log, Some(LogLevel::Debug));
    assert_eq!(sent.origin["log"], Layer::Environment);
    assert!(!store.has_news("n1", &asked(Some(&sent.hash)), NOW));
    report.configuration = Some(Applied { hash: sent.hash.clone(), error: Some("no".into()) });
    store.report(&report, NOW).unwrap();
    let configured = store.configurations().unwrap();
    assert_eq!((configured.layers.len(), configured.instances.len()), (3, 1));
    let applied = configured.instances[0].applied.as_ref().unwrap();
    assert_eq!((&applied.hash, applied.error.as_deref()), (&sent.hash, Some("no")));
}

#[test]
fn names_and_rules_reach_the_nodes_and_the_name_is_shown() {
    let (_dir, store) = store();
    store.report(&report("n1", &["a"]), NOW).unwrap();
    store.report(&report("n2", &["b"]), NOW).unwrap();
    assert_eq!(store.set_name("a", Some("Ada"), "page", NOW).unwrap(), ["n1"]);
    let wish = store.wish("n1", &Asked::default(), NOW).unwrap();
    assert_eq!(wish.names[&Key("a".into())], "Ada");
    assert_eq!(store.services(NOW).unwrap().services[0].name, "Ada");
    assert!(store.wish("n2", &Asked::default(), NOW).unwrap().names.is_empty());
    store.set_name("a", None, "page", NOW).unwrap();
    assert!(store.wish("n1", &Asked::default(), NOW).unwrap().names.is_empty());
    let mut rules = store.rules().unwrap();
    rules.exclude.push(contract::rules::Rule { name: Some("x*".into()), ..Default::default() });
    assert_eq!(store.set_rules(&rules, "page", NOW).unwrap().len(), 2);
    assert_eq!(store.wish("n2", &Asked::default(), NOW).unwrap().rules, rules);
}

#[test]
fn wishes_that_a_node_has_from_before_a_restore_come_back() {
    let (_dir, store) = store();
    store.report(&report("n1", &["a", "b"]), NOW).unwrap();
    let known = want(&store, "b", Level::Network).unwrap().generation;
    let mut ahead = report("n1", &["a", "b"]);
    (ahead.generation, ahead.has_wishes) = (known + 7, true);
    assert!(store.report(&ahead, NOW).unwrap().ask_held);
    let desired = |key: &str, level, generation| Desired {
        key: Key(key.into()),
        level,
        agent: None,
        generation,
    };
    ahead.held = Some(vec![
        desired("a", Level::Network, known + 7),
        desired("b", Level::Off, known.saturating_sub(1)),
    ]);
    let taken = store.report(&ahead, NOW).unwrap();
    assert!(!taken.ask_held, "it is not asked for ever");
    let wish = store.wish("n1", &Asked::default(), NOW).unwrap();
    assert!(wish.generation > known + 7, "generations never go back");
    let levels: Vec<_> = wish.desired.iter().map(|one| (one.key.0.as_str(), one.level)).collect();
    assert_eq!(levels, [("a", Level::Network), ("b", Level::Network)], "the newer one wins");
    assert!(want(&store, "a", Level::Off).unwrap().generation > wish.generation);
    let mut hostile = ahead.clone();
    (hostile.generation, hostile.held) =
        (u64::MAX, Some(vec![desired("a", Level::Network, u64::MAX)]));
    store.report(&hostile, NOW).unwrap();
    assert_eq!(store.wish("n1", &Asked::default(), NOW).unwrap().desired[0].level, Level::Off);
}

#[test]
fn a_node_is_asked_for_its_wishes_until_it_told_them_whatever_others_were_told() {
    let (_dir, store) = store();
    for (node, key) in [("n1", "a"), ("n2", "b")] {
        store.report(&report(node, &[key]), NOW).unwrap();
    }
    // The copy is older than the first wish of n1; n2 is told more since.
    let mut ahead = report("n1", &["a"]);
    (ahead.generation, ahead.has_wishes) = (3, true);
    for _ in 0..5 {
        want(&store, "b", Level::Network).unwrap();
    }
    assert!(store.report(&ahead, NOW).unwrap().ask_held);
    (ahead.workloads, ahead.doctor) = (None, None);
    for _ in 0..2 {
        assert_eq!(store.glance(&ahead, NOW), None, "it is not forgotten by the next poll");
        assert!(store.report(&ahead, NOW).unwrap().ask_held);
    }
    let wish = Desired { key: Key("a".into()), level: Level::Network, agent: None, generation: 3 };
    let mut told = ahead.clone();
    told.held = Some(vec![wish]);
    assert!(!store.report(&told, NOW).unwrap().ask_held);
    let wish = store.wish("n1", &Asked::of(&ahead), NOW).unwrap();
    assert_eq!((wish.unchanged, wish.desired[0].level), (false, Level::Network));
}

#[test]
fn a_wish_from_after_the_restore_is_newer_than_what_the_node_has() {
    let (_dir, store) = store();
    store.report(&report("n1", &["a"]), NOW).unwrap();
    want(&store, "a", Level::Off).unwrap();
    let mut told = report("n1", &["a"]);
    (told.generation, told.has_wishes) = (900, true);
    let wish =
        Desired { key: Key("a".into()), level: Level::Network, agent: None, generation: 900 };
    told.held = Some(vec![wish]);
    store.report(&told, NOW).unwrap();
    let wish = store.wish("n1", &Asked::of(&told), NOW).unwrap();
    assert_eq!(wish.desired[0].level, Level::Off);
    assert!(wish.generation > 900, "and the node hears of it");
}

/// What a node says that was told more than the copy knows: to capture `a`.
fn told_before_the_restore(node: &str) -> Report {
    let key = Key("a".into());
    let mut told = report(node, &["a"]);
    (told.generation, told.has_wishes) = (900, true);
    told.held = Some(vec![Desired { key, level: Level::Network, agent: None, generation: 900 }]);
    told
}

fn level_of(store: &Store, node: &str) -> Level {
    store.wish(node, &Asked::default(), NOW).unwrap().desired[0].level
}

#[test]
fn a_wish_from_after_the_restore_is_newer_until_all_nodes_have_it_whatever_starts_again() {
    let (dir, store) = store();
    let again = |store: Store| {
        drop(store);
        Store::open_with(&place(&dir.path().join("data"))).unwrap()
    };
    for node in ["n1", "n2"] {
        store.report(&report(node, &["a"]), NOW).unwrap();
    }
    want(&store, "a", Level::Off).unwrap();
    let store = again(store);
    store.report(&told_before_the_restore("n1"), NOW).unwrap();
    assert_eq!(level_of(&store, "n1"), Level::Off);
    let takes = |store: &Store, node: &str| {
        let mut has_it = report(node, &["a"]);
        has_it.generation = store.wish(node, &Asked::default(), NOW).unwrap().generation;
        has_it.has_wishes = true;
        assert!(!store.report(&has_it, NOW).unwrap().ask_held);
    };
    takes(&store, "n1");
    let store = again(store);
    store.report(&told_before_the_restore("n2"), NOW).unwrap();
    assert_eq!(level_of(&store, "n2"), Level::Off, "the other node was away until now");
    takes(&store, "n2");
    // All have it: in a copy of this state it is as old as everything else.
    let store = again(store);
    store.report(&told_before_the_restore("n1"), NOW).unwrap();
    assert_eq!(level_of(&store, "n1"), Level::Network);
}

#[test]
fn a_wish_that_no_node_had_heard_when_a_copy_was_made_is_older_than_what_they_heard_since() {
    let (dir, store) = embedded();
    store.report(&report("n1", &["a"]), NOW).unwrap();
    want(&store, "a", Level::Off).unwrap();
    let (copy, data) = (dir.path().join("copy"), dir.path().join("again"));
    Store::backup(&dir.path().join("data"), &copy, NOW).unwrap();
    Store::restore(&copy, &data).unwrap();
    let restored = Store::open(&data).unwrap();
    restored.report(&told_before_the_restore("n1"), NOW).unwrap();
    assert_eq!(level_of(&restored, "n1"), Level::Network);
}
