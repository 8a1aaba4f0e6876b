//! Rules as people write them, and what they decide.

use super::*;

fn rules(include: &[&str], exclude: &[&str]) -> Rules {
    let read = |texts: &[&str]| texts.iter().map(|text| rule(text).unwrap()).collect();
    Rules { include: read(include), exclude: read(exclude), providers: Vec::new() }
}

fn book(include: &[&str], exclude: &[&str]) -> Rulebook {
    Rulebook::new(&[("here", &rules(include, exclude))], user)
}

fn user(id: u32) -> String {
    if id == 1000 { "alice".to_owned() } else { id.to_string() }
}

fn subject() -> Subject {
    Subject {
        name: "chat.py".to_owned(),
        key: "cluster-1/k8s:prod:deployment/chat:app".to_owned(),
        attributes: BTreeMap::from([
            ("k8s.namespace.name".to_owned(), "prod".to_owned()),
            ("k8s.pod.label.team".to_owned(), "search".to_owned()),
            ("container.label.com.example/tier".to_owned(), "gold".to_owned()),
        ]),
        users: BTreeSet::from(["alice".to_owned()]),
        paths: BTreeSet::from(["/opt/venv/bin/python3.11".to_owned()]),
    }
}

fn counts(include: &[&str], exclude: &[&str]) -> bool {
    book(include, exclude).decide(&subject()).counts
}

#[test]
fn every_key_matches_what_it_names_and_all_that_is_given_must_hold() {
    for (text, is_match) in [
        ("namespace=prod", true),
        ("namespace=pr*", true),
        ("namespace=kube-*", false),
        ("label=team", true),
        ("label=team=se*", true),
        ("label=team=billing", false),
        ("label=com.example/tier=gold", true),
        ("label=tea", false),
        ("name=chat.*", true),
        ("name=*:deployment/chat:*", true),
        ("name=chat", false),
        ("user=alice", true),
        ("user=1000", true),
        ("user=1001", false),
        ("path=/opt/*", true),
        ("path=/usr/*", false),
        ("namespace=prod,user=alice", true),
        ("namespace=prod,user=bob", false),
    ] {
        assert_eq!(counts(&[], &[text]), !is_match, "exclude {text}");
        assert_eq!(counts(&[text], &[]), is_match, "include {text}");
    }
}

#[test]
fn exclude_is_stronger_and_every_source_must_let_it_pass() {
    assert!(counts(&[], &[]));
    assert!(!counts(&["namespace=prod"], &["user=alice"]));
    assert!(counts(&["namespace=other", "namespace=prod"], &[]));
    let (ours, theirs) = (rules(&["namespace=prod"], &[]), rules(&["user=bob"], &[]));
    let both = Rulebook::new(&[("here", &ours), ("dashboard", &theirs)], user);
    assert!(!both.decide(&subject()).counts);
    let theirs = rules(&[], &["label=team=search"]);
    let both = Rulebook::new(&[("here", &ours), ("dashboard", &theirs)], user);
    let decision = both.decide(&subject());
    assert_eq!(decision.rule.as_deref(), Some("dashboard exclude 1: label=team=search"));
}

#[test]
fn what_is_not_known_of_a_program_does_not_match() {
    let bare = Subject::default();
    for text in ["namespace=*", "label=team", "user=*", "path=*"] {
        assert!(book(&[], &[text]).decide(&bare).counts, "{text}");
    }
}

#[test]
fn mistakes_are_told_in_words() {
    for (text, word) in [
        ("", "no `=`"),
        ("namespace", "no `=`"),
        ("labl=x", "unknown field `labl`"),
        ("name=", "`name` is empty"),
        ("name=a,name=b", "given twice"),
        ("label==x", "no name"),
        ("label=x=", "no pattern"),
        ("{}", "says nothing"),
        ("{\"name\": 7}", "invalid type"),
        ("{", "EOF"),
    ] {
        let mistake = rule(text).unwrap_err();
        assert!(mistake.contains(word), "{text}: {mistake}");
    }
    for (text, word) in [
        ("host=a", "missing field `name`"),
        ("name=a,host=https://a", "`host`"),
        ("name=a,host=a,port=x", "`port`"),
        ("name=a,host=a,port=0", "`port`"),
        ("name=a,host=a,path=llm", "`path`"),
        ("name=a,host=a,family=klingon", "`family` is one of"),
    ] {
        let mistake = provider(text).unwrap_err();
        assert!(mistake.contains(word), "{text}: {mistake}");
    }
    assert_eq!(rule(r#"{"path": "/opt/a,b/*"}"#).unwrap().path.as_deref(), Some("/opt/a,b/*"));
}

#[test]
fn a_broken_rule_of_the_dashboard_is_left_out_and_listed_and_never_widens() {
    let broken = Rules {
        include: vec![Rule::default()],
        exclude: vec![Rule::default()],
        providers: vec![Provider {
            name: String::new(),
            host: "h".to_owned(),
            port: None,
            path: None,
            family: None,
        }],
    };
    let book = Rulebook::new(&[("dashboard", &broken)], user);
    assert_eq!(book.refused.len(), 3, "{:?}", book.refused);
    assert!(!book.decide(&subject()).counts, "an include that cannot be read includes nothing");
    let broken = Rules { include: Vec::new(), ..broken };
    assert!(Rulebook::new(&[("dashboard", &broken)], user).decide(&subject()).counts);
}

#[test]
fn providers_that_people_add_are_known() {
    let added = Rules {
        providers: vec![provider("name=ours,host=LLM.*.example,port=8443").unwrap()],
        ..Rules::default()
    };
    let book = Rulebook::new(&[("here", &added)], user);
    assert_eq!(book.providers().of_host("llm.corp.example", Some(8443)), Some("ours"));
}
