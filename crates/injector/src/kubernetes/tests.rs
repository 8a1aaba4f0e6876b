//! Changes of templates, and what speaks against them, on values.

use super::*;
use crate::hands::Health;
use crate::plan::{Grade, Kind as RefusalKind};
use crate::program::Program;
use preflight::Around;

fn workload() -> Workload {
    Workload { kind: Kind::Deployment, namespace: "shop".to_owned(), name: "web".to_owned() }
}

fn injection() -> Injection {
    Injection {
        bundle: "/usr/lib/sonde/agents/cpython-1".to_owned(),
        endpoint: "http://sonde:8080".to_owned(),
        headers: vec![("authorization".to_owned(), "Bearer sonde_secret".to_owned())],
        workload_key: "cluster-1/k8s:shop:web:main".to_owned(),
        service_name: Some("web".to_owned()),
        attributes: vec![
            ("host.name".to_owned(), "node-1".to_owned()),
            ("deployment.environment.name".to_owned(), "prod".to_owned()),
        ],
        ..Injection::default()
    }
}

/// A template, with `more` in its one container.
fn template(more: Value) -> Value {
    let mut container = json!({"name": "main", "image": "app:1"});
    for (name, value) in more.as_object().unwrap() {
        container[name] = value.clone();
    }
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "side", "image": "side:1"}, container]},
    })
}

fn templates() -> Vec<(Value, BTreeMap<String, String>)> {
    let effective = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let from = json!({"configMapKeyRef": {"name": "c", "key": "k"}});
    vec![
        (template(json!({})), effective(&[])),
        (
            template(json!({"env": [
                {"name": "A", "value": "sk-secret"},
                {"name": "PYTHONPATH", "value": "/srv/$(A)"},
                {"name": "B", "value": "2"},
            ]})),
            effective(&[("A", "sk-secret"), ("PYTHONPATH", "/srv/sk-secret"), ("B", "2")]),
        ),
        (
            template(json!({"env": [
                {"name": "PYTHONPATH", "valueFrom": from}, {"name": "B", "value": "2"},
            ]})),
            effective(&[("PYTHONPATH", "/from/map"), ("B", "2")]),
        ),
        (
            template(json!({"envFrom": [{"configMapRef": {"name": "c"}}]})),
            effective(&[("OTEL_RESOURCE_ATTRIBUTES", "team=$(x),deployment.environment.name=own")]),
        ),
        (
            template(json!({
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                "resources": {"requests": {"cpu": "1", "nvidia.com/gpu": "1"}},
                "securityContext": {"runAsUser": 1000},
            })),
            effective(&[]),
        ),
    ]
}

fn put_of(template: &Value, effective: &BTreeMap<String, String>) -> Put {
    put(template, "main", (effective, &injection(), "sonde:1"))
}

fn variable(template: &Value, name: &str) -> Value {
    let env = template::container(template, "main").unwrap()["env"].as_array().unwrap();
    env.iter().find(|entry| entry["name"] == name).cloned().unwrap_or_default()
}

#[test]
fn what_is_put_in_is_taken_out_to_the_byte() {
    for (before, effective) in templates() {
        let put = put_of(&before, &effective);
        assert!(put.missing(&before).is_some());
        let after = put.in_with(&before);
        assert_eq!(put.missing(&after), None);
        assert_eq!(put.out_of(&after), before);
        assert_eq!(put.out_of(&before), before, "nothing of ours, nothing taken");
        // Only the chosen container is told.
        assert_eq!(after["spec"]["containers"][0], before["spec"]["containers"][0]);
        assert!(!after.to_string().contains("sonde_secret"), "{after}");
        assert!(!after.to_string().contains("host.name"), "{after}");
    }
}

#[test]
fn what_others_changed_since_stays() {
    let (before, effective) = templates().swap_remove(1);
    let put = put_of(&before, &effective);
    let mut now = put.in_with(&before);
    now["spec"]["containers"][1]["image"] = json!("app:2");
    let env = now["spec"]["containers"][1]["env"].as_array_mut().unwrap();
    env.push(json!({"name": "NEW", "value": "1"}));
    let place = env.iter().position(|entry| entry["name"] == "PYTHONPATH").unwrap();
    env[place]["value"] = json!("/theirs");
    assert_eq!(put.missing(&now).unwrap(), "the variable PYTHONPATH");
    let out = put.out_of(&now);
    assert_eq!(variable(&out, "PYTHONPATH")["value"], "/theirs");
    assert_eq!(variable(&out, "NEW")["value"], "1");
    assert_eq!(out["spec"]["containers"][1]["image"], "app:2");
    assert_eq!(variable(&out, environment::ENDPOINT), Value::Null);
    assert!(!out.to_string().contains(NAME), "{out}");
}

#[test]
fn the_environment_is_merged_from_what_is_in_effect() {
    let after = |at: usize| {
        let (before, effective) = templates().swap_remove(at);
        put_of(&before, &effective).in_with(&before)
    };
    let ours = "/opt/sonde/agents/python/bootstrap";
    assert_eq!(variable(&after(0), "PYTHONPATH")["value"], ours);
    // A reference stays one; a value from elsewhere is kept under another name.
    assert_eq!(variable(&after(1), "PYTHONPATH")["value"], format!("{ours}:/srv/$(A)"));
    let referred = after(2);
    let wanted = format!("{ours}:$(SONDE_ORIGINAL_PYTHONPATH)");
    assert_eq!(variable(&referred, "PYTHONPATH")["value"], wanted);
    assert_eq!(referred["spec"]["containers"][1]["env"][0]["name"], "SONDE_ORIGINAL_PYTHONPATH");
    assert_eq!(referred["spec"]["containers"][1]["env"][1]["name"], "PYTHONPATH");
    // What comes by `envFrom` or from the image is known from the process alone.
    let attributes = variable(&after(3), environment::RESOURCE_ATTRIBUTES);
    let attributes = attributes["value"].as_str().unwrap();
    assert!(attributes.starts_with("team=$$(x),deployment.environment.name=own,sonde."));
    let headers = &variable(&after(0), environment::HEADERS)["valueFrom"]["secretKeyRef"];
    assert_eq!(headers["name"], SECRET);
}

#[test]
fn the_init_container_takes_no_more_and_may_no_more() {
    let (before, effective) = templates().swap_remove(4);
    let init = put_of(&before, &effective).init;
    assert_eq!(init["resources"], json!({"requests": {"cpu": "1"}}));
    assert_eq!(init["securityContext"]["runAsUser"], 1000);
    assert_eq!(init["securityContext"]["runAsNonRoot"], true);
    assert_eq!(init["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    let (root, effective) = templates().swap_remove(0);
    assert_eq!(put_of(&root, &effective).init["securityContext"]["runAsUser"], USER);
}

fn change() -> Change {
    let (before, effective) = templates().swap_remove(1);
    let put = put_of(&before, &effective);
    Change {
        workload: workload(),
        uid: "u".to_owned(),
        after: put.in_with(&before),
        before,
        put,
        owners: json!([]),
        is_applied: true,
        secret: Some("authorization=Bearer%20sonde_secret".to_owned()),
    }
}

#[test]
fn what_is_shown_has_no_secret_of_anybody() {
    let change = change();
    let difference = change.difference();
    assert!(difference.starts_with("--- Deployment shop/web\n+++ Deployment shop/web\n"));
    assert!(
        difference.contains("+      value: \"/opt/sonde/agents/python/bootstrap:"),
        "{difference}"
    );
    let by_hand = change.by_hand().text;
    assert!(by_hand.contains("kubectl apply --server-side"), "{by_hand}");
    for text in [difference, by_hand] {
        assert!(!text.contains("sonde_secret") && !text.contains("sk-secret"), "{text}");
    }
}

fn object(template: &Value) -> Value {
    json!({
        "kind": "Deployment",
        "metadata": {"name": "web", "uid": "u", "generation": 2},
        "spec": {"replicas": 1, "template": template, "selector": {"matchLabels": {"app": "web"}}},
        "status": {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
    })
}

fn pod(change: &Change, state: Value) -> Value {
    json!({
        "metadata": {"name": "web-1", "annotations": {CHANGE: change.put.id}},
        "status": {"phase": "Running", "containerStatuses": [state]},
    })
}

#[test]
fn new_pods_say_how_a_change_goes() {
    let change = change();
    let object = object(&change.after);
    let look =
        |object: &Value, state: Value| health::health(&change, object, &[pod(&change, state)]);
    let well = json!({"name": "main", "restartCount": 0, "state": {"running": {}}});
    assert_eq!(look(&object, well.clone()).0, Health::Good);
    let killed = json!({"reason": "OOMKilled", "exitCode": 137});
    for (state, word) in [
        (
            json!({"name": "main", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}),
            "CrashLoop",
        ),
        (
            json!({"name": "main", "state": {"waiting": {"reason": "ImagePullBackOff"}}}),
            "ImagePull",
        ),
        (
            json!({"name": "main", "restartCount": 1, "lastState": {"terminated": killed}}),
            "OOMKilled",
        ),
        (json!({"name": "main", "state": {"terminated": {"exitCode": 3}}}), "exit status 3"),
    ] {
        let (Health::Bad(reason), Some(culprit)) = look(&object, state) else { panic!("{word}") };
        assert!(reason.contains(word) && culprit.container == "main", "{reason}");
    }
    let mut late = object.clone();
    late["status"]["updatedReplicas"] = json!(0);
    assert!(matches!(look(&late, well.clone()).0, Health::Rolling { .. }));
    late["status"]["conditions"] = json!([{
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
    }]);
    assert!(matches!(look(&late, well.clone()).0, Health::Bad(_)));
    // What somebody else put there, or took out, is no trouble of the pods.
    let mut reverted = object.clone();
    reverted["spec"]["template"] = change.before.clone();
    reverted["metadata"]["managedFields"] =
        json!([{"manager": "argocd-controller", "time": "2026-01-01T00:00:00Z"}]);
    let Health::Reverted(by) = look(&reverted, well).0 else { panic!("not reverted") };
    assert!(by.contains("argocd-controller"), "{by}");
}

#[test]
fn a_cron_job_waits_for_its_next_run_without_end() {
    let mut change = change();
    change.workload.kind = Kind::CronJob;
    let object = json!({
        "metadata": {"uid": "u"},
        "spec": {"jobTemplate": {"spec": {"template": change.after}}},
    });
    let year = 365 * 86_400;
    let Health::Rolling { patience_seconds, .. } = health::health(&change, &object, &[]).0 else {
        panic!("nothing runs yet");
    };
    assert!(patience_seconds > year);
    let runs = pod(&change, json!({"name": "main", "state": {"running": {}}}));
    assert_eq!(health::health(&change, &object, &[runs]).0, Health::Good);
    let ended = pod(&change, json!({"name": "main", "state": {"terminated": {"exitCode": 3}}}));
    assert!(matches!(health::health(&change, &object, &[ended]).0, Health::Bad(_)));
}

#[test]
fn whoever_finds_the_note_can_take_the_change_back() {
    for is_applied in [true, false] {
        let mut change = Change { is_applied, ..change() };
        change.owners = json!([{"manager": "kubectl", "operation": "Apply"}]);
        let (_, patch) = change.patch(&object(&change.before));
        let annotations = match is_applied {
            true => &patch["metadata"]["annotations"],
            false => &patch[2]["value"],
        };
        let mut changed = object(&change.after);
        changed["metadata"]["annotations"] = annotations.clone();
        assert!(!annotations.to_string().contains("sonde_secret"));
        let found = Change::noted(&change.workload, &changed).unwrap();
        // What the secret holds is in it alone.
        let known = Change { secret: Some(String::new()), ..change.clone() };
        assert_eq!(found, known);
        assert_eq!(found.put.out_of(&change.after), change.before);
        let without = change.without_note(&changed).unwrap();
        assert_eq!(without, json!({"op": "remove", "path": "/metadata/annotations"}));
        // One that is not of the change that stands there says nothing.
        changed["spec"]["template"]["metadata"]["annotations"][CHANGE] = json!("another");
        assert_eq!(Change::noted(&change.workload, &changed), None);
    }
}

#[test]
fn who_keeps_an_object_is_known_by_its_marks() {
    for (list, name, value, keeper) in [
        ("annotations", "argocd.argoproj.io/tracking-id", "x", "Argo CD"),
        ("labels", "argocd.argoproj.io/instance", "x", "Argo CD"),
        ("labels", "kustomize.toolkit.fluxcd.io/name", "apps", "Flux"),
        ("labels", "helm.toolkit.fluxcd.io/name", "apps", "Flux"),
        ("annotations", "meta.helm.sh/release-name", "web", "Helm"),
        ("labels", "app.kubernetes.io/managed-by", "Helm", "Helm"),
        ("annotations", "config.kubernetes.io/origin", "path: x", "Kustomize"),
        ("labels", "app.kubernetes.io/managed-by", "kustomize-v5", "Kustomize"),
    ] {
        let mut object = object(&template(json!({})));
        assert_eq!(preflight::keeper(&object), None);
        object["metadata"][list] = json!({name: value});
        assert_eq!(preflight::keeper(&object).unwrap().0, keeper, "{name}");
        let findings = preflight::findings(&workload(), &around(object));
        let said = format!("{keeper} keeps it as it is written down elsewhere");
        assert!(findings.iter().any(|finding| finding.text.starts_with(&said)), "{findings:?}");
    }
}

fn around(object: Value) -> Around {
    let program = Program {
        runtime: Some("cpython".to_owned()),
        version: Some("3.12.1".to_owned()),
        arguments: vec!["python3".to_owned(), "app.py".to_owned()],
        ..Program::default()
    };
    Around { object, program, ..Around::default() }
}

fn refused(around: &Around) -> Option<(RefusalKind, String)> {
    let refusal = preflight::refuse(&workload(), "main", (around, &injection())).err()?;
    assert!(refusal.reason.ends_with('.'), "{refusal:?}");
    Some((refusal.kind, refusal.code))
}

#[test]
fn what_speaks_against_it_has_a_name() {
    let plain = object(&template(json!({})));
    assert_eq!(refused(&around(plain.clone())), None);
    let with = |pointer: &str, value: Value| {
        let mut object = plain.clone();
        *object.pointer_mut(pointer).unwrap() = value;
        around(object)
    };
    let mut paused = plain.clone();
    paused["spec"]["paused"] = json!(true);
    let mut off = plain.clone();
    off["metadata"]["annotations"] = json!({SWITCH: "false"});
    let mut partition = plain.clone();
    partition["spec"]["updateStrategy"] = json!({"rollingUpdate": {"partition": 2}});
    let mut on_delete = plain.clone();
    on_delete["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    let mut stuck = around(plain.clone());
    let waits = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    stuck.pods = vec![json!({"status": {"containerStatuses": [{"state": waits}]}})];
    let own = Around { own_namespace: Some("shop".to_owned()), ..around(plain.clone()) };
    let namespace = json!({"metadata": {"labels": {SWITCH: "false"}}});
    let excluded = Around { namespace, ..around(plain.clone()) };
    let small = template(json!({"resources": {"limits": {"memory": "32Mi"}}}));
    let taken = template(json!({"volumeMounts": [{"name": "x", "mountPath": MOUNT}]}));
    for (around, kind, code) in [
        (around(paused), RefusalKind::NotNow, "paused"),
        (around(off), RefusalKind::Blocked, "switched_off"),
        (around(partition), RefusalKind::Unsupported, "partition"),
        (around(on_delete), RefusalKind::Unsupported, "on_delete"),
        (stuck, RefusalKind::NotNow, "unhealthy"),
        (own, RefusalKind::Blocked, "namespace_excluded"),
        (excluded, RefusalKind::Blocked, "switched_off"),
        (with("/status/updatedReplicas", json!(0)), RefusalKind::NotNow, "rolling"),
        (with("/spec/template", small), RefusalKind::Unsupported, "too_little_memory"),
        (with("/spec/template", taken), RefusalKind::Conflict, "name_taken"),
        (with("/spec/template", change().after), RefusalKind::Conflict, "changed_already"),
    ] {
        assert_eq!(refused(&around), Some((kind, code.to_owned())));
    }
}

#[test]
fn what_somebody_should_know_is_found() {
    let mut object = object(&template(json!({})));
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    object["metadata"]["annotations"] = json!({"argocd.argoproj.io/tracking-id": "x"});
    let budgets = vec![json!({
        "metadata": {"name": "b"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {"disruptionsAllowed": 0},
    })];
    let scalers = vec![json!({
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 3},
        "status": {"currentReplicas": 3},
    })];
    let around = Around { budgets, scalers, ..around(object) };
    let findings = preflight::findings(&workload(), &around);
    let warned: Vec<_> = findings.iter().filter(|finding| finding.grade == Grade::Warn).collect();
    let words = ["one pod, which ends before", "disruption budget b", "limit of 3 pods", "Argo CD"];
    assert_eq!(warned.len(), words.len());
    for (finding, word) in warned.iter().zip(words) {
        assert!(finding.text.contains(word), "{}", finding.text);
    }
    let (keeper, way) = preflight::keeper(&around.object).unwrap();
    assert_eq!(keeper, "Argo CD");
    assert!(way.unwrap().text.contains("managedFieldsManagers: [sonde]"));
}

#[test]
fn keys_lead_to_objects_and_others_are_refused_with_the_reason() {
    assert_eq!(Workload::of_place("k8s:shop:web:main").unwrap(), (workload(), "main".to_owned()));
    let (stateful, _) = Workload::of_place("k8s:shop:statefulset/db:main").unwrap();
    assert_eq!((stateful.kind, stateful.name.as_str()), (Kind::StatefulSet, "db"));
    for (workload, code) in [
        ("pod/lone", "naked_pod"),
        ("job/import", "job"),
        ("replicaset/web", "no_rollout"),
        ("rollout.argoproj.io/web", "unknown_owner"),
    ] {
        let refusal = Workload::of_place(&format!("k8s:shop:{workload}:main")).unwrap_err();
        assert_eq!((refusal.kind, refusal.code.as_str()), (RefusalKind::Unsupported, code));
    }
    assert_eq!(Workload::of_place("pod-1").unwrap_err().code, "unknown_owner");
}
