//! What is kept of programs that come, go and change.

use super::workload::{MAX_ENDED, MAX_EVIDENCE};
use super::*;
use contract::workload::{Instance, Platform};

/// A program with a key, made up.
pub(crate) fn program(key: &str, pid: u32, tls: Option<&str>) -> Arc<Program> {
    Arc::new(Program {
        key: Key(key.to_owned()),
        name: key.to_owned(),
        platform: Platform::Process,
        attributes: BTreeMap::new(),
        provisional: false,
        start_ticks: u64::from(pid) * 100,
        instance: Instance {
            pid,
            started_unix_nanos: 1,
            executable: "/usr/bin/x".to_owned(),
            arguments: vec!["x".to_owned()],
            user: "root".to_owned(),
            tls: tls.map(str::to_owned),
            ..Instance::default()
        },
    })
}

pub(crate) fn evidence(provider: &str, by: By, at: u64) -> Evidence {
    Evidence {
        provider: provider.to_owned(),
        by,
        seen: format!("{provider}.example"),
        last_seen_unix_nanos: at,
    }
}

fn key(text: &str) -> Key {
    Key(text.to_owned())
}

fn sighted(registry: &mut Registry, program: &Arc<Program>, at: u64) -> bool {
    registry.sighted(program, evidence("openai", By::Sni, at), None, Presence::Running)
}

#[test]
fn a_program_that_ended_is_stopped_and_not_lost() {
    let mut registry = Registry::default();
    assert!(sighted(&mut registry, &program("a", 7, None), 5));
    registry.joined(&program("a", 8, None));
    registry.joined(&program("unknown", 9, None));
    assert_eq!(registry.processes(), [(7, 700), (8, 800)]);
    registry.left(7, 20);
    registry.left(8, 21);
    assert!(registry.knows(&key("a")) && registry.processes().is_empty());
    let ended: Vec<u32> = registry.workloads()[&key("a")].ended.iter().map(|it| it.pid).collect();
    assert_eq!(ended, [7, 8]);
}

#[test]
fn a_program_that_ended_before_anybody_looked_is_remembered_as_ended() {
    let mut registry = Registry::default();
    let seen = evidence("openai", By::Sni, 5);
    assert!(registry.sighted(&program("a", 7, None), seen, None, Presence::Gone));
    let workload = &registry.workloads()[&key("a")];
    assert!(workload.instances.is_empty());
    assert_eq!((workload.ended.len(), workload.evidence.len()), (1, 1));
}

#[test]
fn a_process_that_became_another_program_leaves_its_workload() {
    let mut registry = Registry::default();
    sighted(&mut registry, &program("a", 7, None), 5);
    let mut other = Program::clone(&program("b", 7, None));
    other.instance.executable = "/usr/bin/y".to_owned();
    sighted(&mut registry, &Arc::new(other), 6);
    assert!(registry.workloads()[&key("a")].instances.is_empty());
    assert_eq!(registry.running(7).unwrap().program.key.0, "b");
}

#[test]
fn a_provisional_key_becomes_the_real_one_without_a_second_row() {
    let mut registry = Registry::default();
    sighted(&mut registry, &program("pod-1/app", 7, None), 5);
    sighted(&mut registry, &program("pod-1/app", 8, None), 6);
    let moved = registry.joined(&program("deployment/chat", 7, None));
    assert_eq!(moved, Some((key("pod-1/app"), key("deployment/chat"))));
    assert!(registry.knows(&key("pod-1/app")), "the other process is still known by it");
    registry.joined(&program("deployment/chat", 8, None));
    let keys: Vec<&Key> = registry.workloads().keys().collect();
    assert_eq!(keys, [&key("deployment/chat")]);
    let workload = &registry.workloads()[&key("deployment/chat")];
    assert_eq!((workload.first_seen_unix_nanos, workload.instances.len()), (5, 2));
    assert_eq!(workload.evidence, [evidence("openai", By::Sni, 6)]);
}

#[test]
fn a_sighting_from_before_the_real_key_was_known_makes_no_second_row() {
    let mut registry = Registry::default();
    let early = Program { provisional: true, ..(*program("host/pod-1", 7, None)).clone() };
    sighted(&mut registry, &program("cluster/chat", 7, None), 5);
    sighted(&mut registry, &Arc::new(early.clone()), 6);
    let keys: Vec<&Key> = registry.workloads().keys().collect();
    assert_eq!(keys, [&key("cluster/chat")]);
    // And one that executed something else since is the same workload all the same.
    let mut registry = Registry::default();
    sighted(&mut registry, &Arc::new(early), 5);
    let mut late = (*program("cluster/chat", 7, None)).clone();
    late.instance.executable = "/usr/bin/another".to_owned();
    registry.joined(&Arc::new(late));
    let keys: Vec<&Key> = registry.workloads().keys().collect();
    assert_eq!(keys, [&key("cluster/chat")]);
}

#[test]
fn what_only_passes_on_is_taken_back_and_what_has_calls_of_its_own_stays() {
    let mut registry = Registry::default();
    sighted(&mut registry, &program("proxy", 7, None), 5);
    assert!(!registry.retract(7, "other.example"));
    assert!(registry.retract(7, "openai.example"));
    assert!(!registry.knows(&key("proxy")) && registry.processes().is_empty());

    sighted(&mut registry, &program("gateway", 8, None), 5);
    let call = evidence("openai", By::Call, 6);
    registry.sighted(&program("gateway", 8, None), call, None, Presence::Running);
    assert!(registry.retract(8, "openai.example"));
    assert_eq!(registry.workloads()[&key("gateway")].evidence.len(), 1);
}

#[test]
fn what_rules_leave_out_is_hidden_and_comes_back() {
    let mut registry = Registry::default();
    sighted(&mut registry, &program("a", 7, None), 5);
    sighted(&mut registry, &program("b", 8, None), 5);
    registry.left(8, 6);
    registry.judge(|_| false);
    assert!(registry.workloads().is_empty() && registry.processes().is_empty());
    assert_eq!(registry.hidden().len(), 2);
    registry.judge(|subject| subject.name == "b");
    assert!(registry.knows(&key("b")) && !registry.knows(&key("a")));
    sighted(&mut registry, &program("a", 7, None), 9);
    let workload = &registry.workloads()[&key("a")];
    assert_eq!((workload.first_seen_unix_nanos, workload.instances.len()), (5, 1));
}

#[test]
fn what_is_kept_of_one_workload_is_bounded_and_what_goes_is_counted() {
    let mut registry = Registry::default();
    for at in 0..400 {
        let seen = evidence(&format!("p{}", at % 200), By::Sni, at);
        let model = Some(format!("m{at}"));
        registry.sighted(&program("a", 7, None), seen, model, Presence::Running);
        registry.left(7, at);
    }
    let workload = &registry.workloads()[&key("a")];
    assert_eq!(workload.evidence.len(), MAX_EVIDENCE);
    assert_eq!(workload.providers.len(), MAX_PROVIDERS);
    assert_eq!(workload.models.len(), MAX_MODELS);
    assert!(workload.ended.len() <= MAX_ENDED);
    let forgotten = registry.take_forgotten();
    assert!(forgotten.iter().all(|(reason, _)| *reason == Loss::EvidenceForgotten));
    assert!(forgotten.len() > 400 && registry.take_forgotten().is_empty());
}

#[test]
fn the_longest_unseen_stopped_workload_makes_room() {
    let mut registry = Registry::default();
    for number in 0..MAX_WORKLOADS {
        let pid = u32::try_from(number).unwrap() + 1;
        let program = program(&format!("w{number}"), pid, None);
        assert!(sighted(&mut registry, &program, 1000 + u64::from(pid)));
    }
    let new = program("new", 5000, None);
    assert!(!sighted(&mut registry, &new, 9000));
    registry.left(3, 1);
    assert!(sighted(&mut registry, &new, 9000));
    assert!(!registry.knows(&key("w2")));
    assert_eq!(registry.take_forgotten(), [(Loss::WorkloadForgotten, 1)]);
}

#[test]
fn what_is_stopped_and_long_unseen_is_forgotten() {
    let mut registry = Registry::default();
    sighted(&mut registry, &program("running", 7, None), 5);
    sighted(&mut registry, &program("stopped", 8, None), 5);
    registry.left(8, 6);
    registry.expire(RETENTION_NANOS);
    assert!(registry.knows(&key("stopped")));
    registry.expire(RETENTION_NANOS + 9);
    assert!(registry.knows(&key("running")) && !registry.knows(&key("stopped")));
    assert_eq!(registry.take_forgotten(), [], "nobody misses it");
}

#[test]
fn who_was_told_an_earlier_key_is_told_that_it_is_replaced() {
    let mut registry = Registry::default();
    sighted(&mut registry, &program("host/pod-1", 7, None), 5);
    sighted(&mut registry, &program("host/pod-1", 8, None), 6);
    registry.joined(&program("cluster/chat", 7, None));
    let chat = |registry: &Registry| registry.replaces(&registry.workloads()[&key("cluster/chat")]);
    assert_eq!(chat(&registry), [], "one of its processes has the earlier key still");
    // It ends before anybody asks its platform again.
    registry.left(8, 9);
    let keys: Vec<&Key> = registry.workloads().keys().collect();
    assert_eq!(keys, [&key("cluster/chat")]);
    assert_eq!(chat(&registry), [key("host/pod-1")]);
    let again = Registry::from_kept(&registry.to_keep(&Wishes::default()));
    assert_eq!(
        chat(&again),
        [key("host/pod-1")],
        "a dashboard that was away is told after a restart"
    );
    // Another program may have that key one day.
    sighted(&mut registry, &program("host/pod-1", 9, None), 20);
    assert_eq!(chat(&registry), []);
}
