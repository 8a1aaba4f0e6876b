//! A unit is planned, changed, looked at and taken back.

use super::*;
use crate::plan::{Grade, Kind};

/// What makes a good unit one that must not be touched.
type Make = fn(&mut Unit, &mut Around);

fn unit() -> Unit {
    Unit {
        name: "agent.service".to_owned(),
        load_state: "loaded".to_owned(),
        active_state: "active".to_owned(),
        sub_state: "running".to_owned(),
        kind: "simple".to_owned(),
        can_stop: true,
        main_pid: 42,
        ..Unit::default()
    }
}

pub(super) fn around() -> Around {
    Around {
        program: Program {
            runtime: Some("cpython".to_owned()),
            version: Some("3.11.2".to_owned()),
            arguments: vec!["python3".to_owned(), "app.py".to_owned()],
            ..Program::default()
        },
        directory: "/etc/systemd/system/agent.service.d".into(),
        made: Some("/etc/systemd/system/agent.service.d".into()),
        now_micros: 1_000_000_000,
        ..Around::default()
    }
}

fn injection() -> Injection {
    Injection {
        bundle: "/usr/lib/sonde/agents/python".to_owned(),
        endpoint: "http://127.0.0.1:4318".to_owned(),
        headers: vec![("authorization".to_owned(), "Bearer sonde_secret".to_owned())],
        workload_key: "host/systemd:agent.service".to_owned(),
        service_name: Some("agent".to_owned()),
        ..Injection::default()
    }
}

pub(super) fn change(around: &Around) -> Change {
    let plan = plan(&unit(), around, &injection()).unwrap();
    let plan::Change::Systemd(change) = plan.change else { panic!("no unit") };
    change
}

#[test]
fn the_change_is_two_files_and_secrets_are_not_shown() {
    let change = change(&around());
    let [variables, drop_in] = change.files.as_slice() else { panic!("{change:?}") };
    assert_eq!(variables.path.to_str(), Some("/etc/systemd/system/agent.service.d/90-sonde.env"));
    assert_eq!((variables.mode, drop_in.mode), (0o600, 0o644));
    assert!(variables.text.contains("Bearer%20sonde_secret"));
    assert!(
        drop_in
            .text
            .contains("EnvironmentFile=-/etc/systemd/system/agent.service.d/90-sonde.env\n")
    );
    let plan = plan(&unit(), &around(), &injection()).unwrap();
    let text = plan.text();
    assert!(!text.contains("sonde_secret"), "{text}");
    assert!(text.contains("+PYTHONPATH=\"/usr/lib/sonde/agents/python/bootstrap\""), "{text}");
    assert!(
        text.contains("+++ /etc/systemd/system/agent.service.d/90-sonde.conf (mode 0644)"),
        "{text}"
    );
    assert!(plan.findings.iter().any(|finding| finding.grade == Grade::Good));
}

#[test]
fn what_the_program_has_in_effect_is_merged_whoever_set_it() {
    let mut around = around();
    around.program.environment = BTreeMap::from([
        ("PYTHONPATH".to_owned(), "/srv/lib".to_owned()),
        ("OTEL_RESOURCE_ATTRIBUTES".to_owned(), "team=a".to_owned()),
    ]);
    let change = change(&around);
    assert_eq!(change.variables["PYTHONPATH"], "/usr/lib/sonde/agents/python/bootstrap:/srv/lib");
    assert!(change.variables["OTEL_RESOURCE_ATTRIBUTES"].starts_with("team=a,"));
    assert_eq!(change.missing(&around.program.environment).len(), change.variables.len());
    assert!(change.missing(&change.variables.clone()).is_empty());
}

#[test]
fn values_and_paths_are_written_so_that_systemd_reads_them_back() {
    assert_eq!(quoted("a \"b\" $c `d` \\e %f\ng"), "\"a \\\"b\\\" \\$c \\`d\\` \\\\e %f\ng\"");
    assert_eq!(named("/etc/a\\x2db%i.service.d/[x]"), "/etc/a\\\\x2db%%i.service.d/\\[x]");
}

#[test]
fn units_that_must_not_be_touched_are_refused_with_a_reason() {
    let cases: [(&str, Kind, Make); 12] = [
        ("not_loaded", Kind::Unsupported, |unit, _| unit.load_state = "masked".to_owned()),
        ("transient", Kind::Unsupported, |unit, _| unit.is_transient = true),
        ("one_shot", Kind::Unsupported, |unit, _| unit.kind = "oneshot".to_owned()),
        ("no_restart", Kind::Unsupported, |unit, _| unit.refuses_manual_stop = true),
        ("no_restart", Kind::Unsupported, |unit, _| unit.can_stop = false),
        ("foreign_file", Kind::Conflict, |_, around| {
            around.drop_in = Some("[Service]\n".to_owned());
        }),
        ("needs_reload", Kind::NotNow, |unit, _| unit.needs_reload = true),
        ("unhealthy", Kind::NotNow, |unit, _| unit.active_state = "activating".to_owned()),
        ("unhealthy", Kind::NotNow, |unit, around| {
            unit.restarts = 3;
            unit.active_since_micros = around.now_micros - 5_000_000;
        }),
        ("unset", Kind::Unsupported, |unit, _| unit.unset = vec!["PYTHONPATH".to_owned()]),
        ("bundle_unreachable", Kind::Unsupported, |_, around| {
            around.unreachable = Some("x".to_owned());
        }),
        ("language", Kind::Unsupported, |_, around| {
            around.program.runtime = Some("go".to_owned());
        }),
    ];
    for (code, kind, make) in cases {
        let (mut unit, mut around) = (unit(), around());
        make(&mut unit, &mut around);
        let refusal = plan(&unit, &around, &injection()).unwrap_err();
        assert_eq!((refusal.code.as_str(), refusal.kind), (code, kind));
    }
    // Restarts of long ago are forgiven.
    let steady = Unit { restarts: 3, ..unit() };
    assert!(plan(&steady, &around(), &injection()).is_ok());
}

#[test]
fn a_unit_is_of_the_system_or_of_a_user() {
    assert_eq!(named_by("a.service"), Some((None, "a.service")));
    assert_eq!(named_by("user-1000/a.service"), Some((Some(1000), "a.service")));
    for bad in ["user-x/a.service", "user-1/../a.service", "other/a.service"] {
        assert_eq!(named_by(bad), None, "{bad}");
    }
    let around = Around { user: Some(7), directory: "/home/a/d".into(), ..around() };
    let plan = plan(&unit(), &around, &injection()).unwrap();
    assert!(plan.by_hand[0].text.ends_with("systemctl --user restart 'agent.service'"));
}
