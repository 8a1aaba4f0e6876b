//! How programs are found, named, left out and explained.

use super::*;
use capture::{Caller, Program};
use contract::row::{Explanation, Rulings};
use contract::rules::{Rule, Rules};

/// Everything that is known, once the given process is.
fn once_known(dashboard: &Wisher, pid: u32) -> Vec<Observed> {
    loop {
        let request = dashboard.server.next("/api/v1/poll");
        let report: Report = serde_json::from_slice(&request.body).unwrap();
        let all = report.workloads.unwrap_or_default();
        let has = |observed: &Observed| observed.instances.iter().any(|it| it.pid == pid);
        if all.iter().any(has) {
            return all;
        }
    }
}

fn explained(directory: &Path, about: &str) -> Explanation {
    let request = format!("GET /api/v1/explain?about={about} HTTP/1.1\r\n\r\n");
    let answer = ask_socket(&directory.join("c.sock"), &request);
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn by_path(path: &str) -> Rule {
    Rule { path: Some(path.to_owned()), ..Rule::default() }
}

/// Ourselves, as a process that listens.
fn ourselves() -> ProcessId {
    let node = Node::open(Path::new("/"), SystemTime::UNIX_EPOCH, "");
    let pid = std::process::id();
    ProcessId::from_ticks(pid, node.start_ticks(pid).unwrap())
}

// docs/discovery.md, line 4: a transparent sidecar is not listed as the program.
#[test]
fn a_proxy_that_passes_a_hello_on_is_no_program() {
    let (directory, dashboard) = (tempfile::tempdir().unwrap(), Wisher::start());
    let (app, proxy, last) = (Client::start(), Client::start(), Client::start());
    let (controller, say, _asks) = start(config(directory.path(), &dashboard.server.url));
    let name = "api.openai.com";
    for (client, random) in [(&app, 9), (&proxy, 9), (&last, 10)] {
        say.send(hello_of(client.id(), name, random, "203.0.113.7:443")).unwrap();
    }
    let all = once_known(&dashboard, last.process.id());
    let pids: Vec<u32> = all.iter().flat_map(|it| &it.instances).map(|it| it.pid).collect();
    assert!(pids.contains(&app.process.id()) && !pids.contains(&proxy.process.id()), "{pids:?}");
    let why = explained(directory.path(), &proxy.process.id().to_string());
    assert!(!why.programs[0].discovered);
    let passes = format!("passes on the connection of process {}", app.process.id());
    assert!(why.programs[0].verdict.contains(&passes), "{}", why.programs[0].verdict);
    controller.stop();
}

#[test]
fn a_proxy_that_is_asked_for_a_name_and_asks_on_is_no_program_and_with_names_of_its_own_is_one() {
    let (directory, dashboard) = (tempfile::tempdir().unwrap(), Wisher::start());
    let (app, last) = (Client::start(), Client::start());
    let (controller, say, _asks) = start(config(directory.path(), &dashboard.server.url));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    let _connection = TcpStream::connect(place).unwrap();
    let connect = "CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost: api.anthropic.com:443\r\n\r\n";
    // It asked for both before anybody asked it: of the one it turns out to be a relay.
    say.send(hello_of(ourselves(), "api.anthropic.com", 1, "203.0.113.7:443")).unwrap();
    say.send(hello_of(ourselves(), "api.groq.com", 2, "203.0.113.8:443")).unwrap();
    say.send(opening(app.id(), connect, place)).unwrap();
    say.send(hello_of(ourselves(), "api.anthropic.com", 3, "203.0.113.7:443")).unwrap();
    say.send(hello(last.id())).unwrap();
    let all = once_known(&dashboard, last.process.id());
    let seen = |pid: u32| -> Vec<(By, &str)> {
        let of = all.iter().filter(|it| it.instances.iter().any(|instance| instance.pid == pid));
        of.flat_map(|it| &it.evidence).map(|it| (it.by, it.seen.as_str())).collect()
    };
    assert_eq!(seen(app.process.id()), [(By::Connect, "api.anthropic.com:443")]);
    assert_eq!(seen(std::process::id()), [(By::Sni, "api.groq.com")], "its own calls are its own");
    controller.stop();
}

// docs/discovery.md, line 4: an egress proxy on another machine hides the address, not the name.
#[test]
fn a_program_behind_a_proxy_elsewhere_is_found_by_its_connect() {
    let (directory, dashboard, client) =
        (tempfile::tempdir().unwrap(), Wisher::start(), Client::start());
    let (controller, say, _asks) = start(config(directory.path(), &dashboard.server.url));
    let connect = "CONNECT api.openai.com:443 HTTP/1.1\r\nProxy-Authorization: CANARY\r\n\r\n";
    say.send(opening(client.id(), connect, "198.51.100.9:3128".parse().unwrap())).unwrap();
    let observed = dashboard.reported(|_| true);
    assert_eq!((observed.evidence[0].by, observed.name.as_str()), (By::Connect, "sleep"));
    assert!(!format!("{observed:?}").contains("CANARY"));
    controller.stop();
}

// docs/discovery.md, line 8: a job that is gone before /proc is read is recorded, not ignored.
#[test]
fn a_program_that_is_gone_is_recorded_as_the_kernel_knew_it() {
    let (directory, dashboard) = (tempfile::tempdir().unwrap(), Wisher::start());
    let (controller, say, _asks) = start(config(directory.path(), &dashboard.server.url));
    let gone = |pid, name: &str, program: Option<Program>| {
        let caller =
            Caller { name: name.to_owned(), program: program.map(Arc::new), ..Caller::default() };
        let process = ProcessId { pid, start_time: 50_000_000 };
        match hello(process) {
            Event::Hello { at, server_name, ech, random, peer, .. } => Event::Hello {
                process,
                caller: Box::new(caller),
                at,
                server_name,
                ech,
                random,
                peer,
            },
            other => other,
        }
    };
    let program = Program {
        executable: PathBuf::from("/usr/bin/curl"),
        arguments: Payload::from(b"curl\0https://api.openai.com\0".as_slice()),
        cgroup: "/system.slice/nightly.service".to_owned(),
    };
    say.send(gone(4_190_001, "curl", Some(program))).unwrap();
    say.send(gone(4_190_002, "mystery", None)).unwrap();
    let unit = dashboard.reported(|observed| observed.name == "nightly");
    assert!(unit.key.0.ends_with("/systemd:nightly.service"), "{:?}", unit.key);
    assert_eq!((unit.state, unit.instances.len()), (State::Stopped, 0));
    let bare = dashboard.reported(|observed| observed.name == "mystery");
    assert_eq!(bare.evidence[0].seen, "api.openai.com");
    controller.stop();
}

// docs/discovery.md, line 24: a restart of the controller forgets nothing.
#[test]
fn a_program_that_stopped_is_shown_as_stopped_after_a_restart() {
    let (directory, dashboard, client) =
        (tempfile::tempdir().unwrap(), Wisher::start(), Client::start());
    let (controller, say, _asks) = start(config(directory.path(), &dashboard.server.url));
    say.send(hello(client.id())).unwrap();
    let key = dashboard.reported(|_| true).key;
    drop(client);
    controller.stop();
    let (controller, _say, _asks) = start(config(directory.path(), &dashboard.server.url));
    let again = dashboard.reported(|observed| observed.state == State::Stopped);
    assert_eq!((again.key, again.evidence.len()), (key, 1));
    controller.stop();
}

#[test]
fn a_rule_of_the_dashboard_leaves_a_program_out_and_its_capture_with_it() {
    let (directory, dashboard, client) =
        (tempfile::tempdir().unwrap(), Wisher::start(), Client::start());
    let (controller, say, asks) = start(config(directory.path(), &dashboard.server.url));
    let pid = client.process.id();
    say.send(hello(client.id())).unwrap();
    let key = dashboard.reported(|_| true).key;
    dashboard.want(&key, Level::Network);
    assert_eq!(asked(&asks), (Action::Watch, pid));
    let exclude = |rules: Vec<Rule>| {
        let mut wish = dashboard.wish.lock().unwrap();
        wish.generation += 1;
        wish.rules = Rules { exclude: rules, ..Rules::default() };
    };
    exclude(vec![by_path("*/sleep")]);
    assert_eq!(asked(&asks), (Action::Unwatch, pid));
    say.send(hello(client.id())).unwrap();
    loop {
        let request = dashboard.server.next("/api/v1/poll");
        let report: Report = serde_json::from_slice(&request.body).unwrap();
        if report.workloads.is_some_and(|all| all.is_empty()) {
            break;
        }
    }
    let why = explained(directory.path(), &pid.to_string());
    assert!(!why.programs[0].discovered);
    assert!(why.programs[0].verdict.contains("the dashboard's exclude 1"), "{why:?}");
    exclude(Vec::new());
    say.send(hello(client.id())).unwrap();
    assert_eq!(asked(&asks), (Action::Watch, pid), "a rule that is taken back brings it back");
    controller.stop();
}

#[test]
fn a_rule_of_this_node_holds_and_can_be_tried_before() {
    let (directory, dashboard) = (tempfile::tempdir().unwrap(), Wisher::start());
    let (client, other) = (Client::start(), Client::start());
    let provider = crate::rules::provider("name=our-gateway,host=llm.*.example").unwrap();
    let rules = Rules { providers: vec![provider], ..Rules::default() };
    let config = Config { rules, ..config(directory.path(), &dashboard.server.url) };
    let (controller, say, _asks) = start(config);
    say.send(hello_of(other.id(), "www.example.com", 1, "203.0.113.7:443")).unwrap();
    say.send(hello_of(client.id(), "llm.corp.example", 2, "203.0.113.7:443")).unwrap();
    let observed = dashboard.reported(|_| true);
    assert_eq!(observed.evidence[0].provider, "our-gateway");

    let ask = |about: String, rules: &str| -> Rulings {
        let rules = rules.replace('"', "%22");
        let path = format!("/api/v1/rules/test?about={about}&rules={rules}");
        let answer =
            ask_socket(&directory.path().join("c.sock"), &format!("GET {path} HTTP/1.1\r\n\r\n"));
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let all = ask(String::new(), "");
    assert_eq!((all.programs.len(), all.programs[0].counts), (1, true));
    let tried = ask(String::new(), r#"{"exclude":[{"path":"*/sleep"},{}]}"#);
    let rule = tried.programs[0].rule.clone().unwrap();
    assert!(!tried.programs[0].counts && rule.contains("path=*/sleep"), "{rule}");
    assert_eq!(tried.refused.len(), 1);
    let unknown = ask(other.process.id().to_string(), r#"{"include":[{"name":"sleep"}]}"#);
    assert!(unknown.programs[0].counts && unknown.programs[0].rule.is_some());
    let why = explained(directory.path(), &other.process.id().to_string());
    assert!(why.programs[0].verdict.contains("none of the names"), "{why:?}");
    controller.stop();
}

#[test]
fn the_name_that_a_person_gave_is_shown_and_sent() {
    let (directory, dashboard, client) =
        (tempfile::tempdir().unwrap(), Wisher::start(), Client::start());
    let (controller, say, asks) = start(config(directory.path(), &dashboard.server.url));
    let process = client.id();
    say.send(hello(process)).unwrap();
    let key = dashboard.reported(|_| true).key;
    dashboard.wish.lock().unwrap().names.insert(key.clone(), "Chat of support".to_owned());
    dashboard.want(&key, Level::Network);
    asked(&asks);
    let observed = dashboard.reported(|observed| observed.name == "Chat of support");
    assert_eq!(observed.key, key);
    for event in exchange(ConnectionId { process, object: 7, generation: 1 }) {
        say.send(event).unwrap();
    }
    let request = dashboard.server.next("/v1/traces");
    let sent = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
    let resource = format!("{:?}", sent.resource_spans[0].resource);
    assert!(resource.contains("Chat of support") && resource.contains(&key.0), "{resource}");
    let why = explained(directory.path(), "Chat+of+support");
    assert!(why.programs[0].discovered);
    let steps = format!("{:?}", why.programs[0].steps);
    assert!(
        steps.contains("given on the dashboard") && steps.contains("model gpt-4o-mini"),
        "{steps}"
    );
    controller.stop();
}

#[test]
fn a_process_that_nobody_knows_is_explained() {
    let (directory, dashboard, client) =
        (tempfile::tempdir().unwrap(), Wisher::start(), Client::start());
    let (controller, _say, _asks) = start(config(directory.path(), &dashboard.server.url));
    let why = explained(directory.path(), &client.process.id().to_string());
    assert!(
        why.programs[0].verdict.contains("no name that it asked for was seen since"),
        "{why:?}"
    );
    assert!(why.programs[0].steps.iter().any(|step| step.text.contains("TCP connections")));
    assert!(explained(directory.path(), "nobody").programs.is_empty());
    assert!(explained(directory.path(), "4190007").programs.is_empty());
    controller.stop();
}

// docs/discovery.md, line 7: a model server is found without being typed in; a port alone is not enough.
#[test]
fn a_program_that_listens_like_a_model_server_is_found_without_the_kernel() {
    let (directory, dashboard) = (tempfile::tempdir().unwrap(), Wisher::start());
    // A program that is called like the server, and does nothing but listen.
    let text = "import socket,time; s=socket.create_server(('127.0.0.1',0)); time.sleep(600)";
    let script = directory.path().join("vllm");
    fs::write(&script, text).unwrap();
    let mut server = Command::new("python3").arg(&script).arg("serve").spawn().unwrap();
    let mut other = Command::new("python3").args(["-c", text]).spawn().unwrap();
    let config = Config { ebpf: false, ..config(directory.path(), &dashboard.server.url) };
    let controller = Controller::start(config).unwrap();
    let all = once_known(&dashboard, server.id());
    let ours = all.iter().find(|it| it.instances[0].pid == server.id()).unwrap();
    assert_eq!((ours.evidence[0].by, ours.evidence[0].provider.as_str()), (By::Listen, "vllm"));
    let pids: Vec<u32> = all.iter().flat_map(|it| &it.instances).map(|it| it.pid).collect();
    assert!(!pids.contains(&other.id()), "{pids:?}");
    controller.stop();
    for child in [&mut server, &mut other] {
        drop(child.kill());
        drop(child.wait());
    }
}
