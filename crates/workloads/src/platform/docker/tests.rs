//! Places of containers, and an engine that answers what a test says.

use super::*;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn labelled(name: &str, labels: &[(&str, &str)]) -> Known {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Known { name: name.to_owned(), image: Some("bot:1".to_owned()), labels: labels.collect() }
}

fn of(name: &str, labels: &[(&str, &str)]) -> Place {
    of_known(&labelled(name, labels), Source { engine: Engine::Docker, user: None })
}

#[test]
fn replicas_of_a_service_are_one_workload_with_names_of_their_own() {
    let compose = [("com.docker.compose.project", "shop"), ("com.docker.compose.service", "bot")];
    let (one, two) = (of("shop-bot-1", &compose), of("shop-bot-2", &compose));
    assert_eq!((one.place.as_deref(), &one.place), (Some("shop-bot"), &two.place));
    assert_eq!(one.attributes, two.attributes);
    assert_eq!(one.declared.namespace.as_deref(), Some("shop"));
    assert_eq!(one.instance["container.name"], "shop-bot-1");
    assert_eq!(one.attributes["container.image.name"], "bot:1");
    let swarm = of("bot.1.x2x4zabc", &[("com.docker.swarm.service.name", "bot")]);
    assert_eq!(swarm.place.as_deref(), Some("bot"));
    let nomad = [("com.hashicorp.nomad.job_name", "j"), ("com.hashicorp.nomad.task_name", "t")];
    assert_eq!(of("t-0a7c2d10", &nomad).place.as_deref(), Some("j-t"));
    let plain = of("sad_turing", &[("resource.opentelemetry.io/service.name", "helper")]);
    assert_eq!(
        (plain.place.as_deref(), plain.declared.name.as_deref()),
        (Some("sad_turing"), Some("helper"))
    );
}

#[test]
fn engines_and_users_do_not_share_names() {
    let known = labelled("web", &[]);
    let key = |engine, user| {
        let place = of_known(&known, Source { engine, user });
        format!("{}:{}", place.manager, place.place.unwrap())
    };
    assert_eq!(key(Engine::Docker, None), "docker:web");
    assert_eq!(key(Engine::Podman, None), "podman:web");
    assert_eq!(key(Engine::Podman, Some(1000)), "podman:user-1000/web");
}

#[test]
fn hostile_labels_are_cleaned_and_bounded() {
    let mut labels: Vec<(String, String)> =
        (0..500).map(|number| (format!("l{number}"), "x".repeat(9_999))).collect();
    labels.push(("a\u{1b}[31m".to_owned(), "<script>\u{0}\n".to_owned()));
    let labels: Vec<_> =
        labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let place = of(&"n\u{7}".repeat(999), &labels);
    assert!(place.attributes.len() <= super::super::MAX_LABELS + 4);
    let is_clean = |text: &String| text.chars().count() <= 300 && !text.contains(char::is_control);
    assert!(place.attributes.iter().all(|(name, value)| is_clean(name) && is_clean(value)));
    assert!(is_clean(&place.place.unwrap()));
}

fn in_container(path: &str) -> Process {
    Process { cgroup: crate::cgroup::read(&[path.to_owned()]), ..Process::default() }
}

#[test]
fn an_engine_names_its_own_containers_only() {
    let docker = Docker::default();
    let known = |name: &str, user| (Source { engine: Engine::Docker, user }, labelled(name, &[]));
    lock(&docker.shared.containers).insert(A.to_owned(), known("prod", None));
    lock(&docker.shared.containers).insert(B.to_owned(), known("mine", Some(1000)));
    let root = tempfile::tempdir().unwrap();
    let around = Around { root: root.path(), own: &[] };
    let place = |path: &str| docker.place(&in_container(path), around).unwrap();
    assert_eq!(place(&format!("/docker/{A}")).place.as_deref(), Some("prod"));
    // A user who calls a cgroup of their own like another's container.
    let user = "/user.slice/user-1000.slice/user@1000.service";
    let forged = place(&format!("{user}/docker-{A}.scope"));
    assert_eq!((forged.place, forged.within.as_deref()), (None, Some("user-1000")));
    let theirs = place(&format!("{user}/docker-{B}.scope"));
    assert_eq!(theirs.place.as_deref(), Some("user-1000/mine"));
    // A container that makes a cgroup within its own, and calls it like another's.
    let nested = place(&format!("/docker/{B}/docker/{A}"));
    assert_eq!((nested.place, nested.within.as_deref()), (None, Some("bbbbbbbbbbbb")));
    // A controller on a node that is itself a container.
    let own = [B.to_owned(), "c".repeat(64)];
    let around = Around { root: root.path(), own: &own };
    let beside = docker.place(&in_container(&format!("/docker/{B}/docker/{A}")), around).unwrap();
    assert_eq!(beside.place.as_deref(), Some("prod"));
}

/// An engine whose answers a test gives.
struct Engine_ {
    socket: PathBuf,
    directory: tempfile::TempDir,
}

use std::path::PathBuf;

impl Engine_ {
    /// `list` answers each `GET /containers/json…` by its path; `events` are sent as they come.
    fn start(list: impl Fn(&str) -> String + Send + 'static) -> (Self, Sender<String>) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (events, coming) = mpsc::channel::<String>();
        std::thread::spawn(move || {
            let mut coming = Some(coming);
            for stream in listener.incoming().flatten() {
                answer(stream, &list, &mut coming);
            }
        });
        (Self { socket, directory }, events)
    }
}

fn answer(
    mut stream: UnixStream,
    list: &impl Fn(&str) -> String,
    coming: &mut Option<Receiver<String>>,
) {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    while reader.read_line(&mut line).is_ok_and(|length| length > 2) {}
    if path.starts_with("/events") {
        let Some(coming) = coming.take() else { return };
        std::thread::spawn(move || {
            drop(write!(stream, "HTTP/1.1 200 OK\r\nserver: Docker\r\n\r\n"));
            for event in coming {
                drop(stream.write_all(event.as_bytes()));
            }
        });
        return;
    }
    let body = list(&path);
    let head =
        format!("HTTP/1.1 200 OK\r\nserver: Docker/20\r\ncontent-length: {}\r\n\r\n", body.len());
    drop(stream.write_all((head + &body).as_bytes()));
}

fn listening(socket: PathBuf) -> (Docker, crate::clients::Running, Receiver<String>) {
    let docker = Docker::default();
    let clients = Clients { sockets: vec![socket], ..Clients::default() };
    let (tell, told) = mpsc::channel();
    let changed = Changed::new(move |id: &str| drop(tell.send(id.to_owned())));
    let running = crate::clients::Running::start(docker.tasks(&clients, &changed)).unwrap();
    (docker, running, told)
}

/// Longer than anything here takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_list_and_then_events_name_containers() {
    let (engine, events) = Engine_::start(|path| {
        let name =
            if path.contains("filters") { ("bbbb", B, "late") } else { ("aaaa", A, "first") };
        format!(
            r#"[{{"Id":"{}","Names":["/{}"],"Image":"i","Labels":{{"a":"b"}},"State":"strange"}}]"#,
            name.1, name.2
        )
    });
    let (docker, _running, told) = listening(engine.socket.clone());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), A);
    let name = |id: &str| docker.told(id, None).map(|(_, known)| known.name);
    assert_eq!(name(A).as_deref(), Some("first"));
    // An event in two pieces, among others that mean nothing.
    let start = format!(r#"{{"Type":"container","Action":"start","Actor":{{"ID":"{B}"}}}}"#);
    let (left, right) = start.split_at(20);
    for piece in ["not json\n", left, right, "\n", "{}\n"] {
        events.send(piece.to_owned()).unwrap();
    }
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), B);
    assert_eq!(name(B).as_deref(), Some("late"));
    let gone = format!(r#"{{"Type":"container","Action":"destroy","Actor":{{"ID":"{A}"}}}}"#);
    events.send(gone + "\n" + &start + "\n").unwrap();
    for _ in 0..600 {
        if name(A).is_none() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(name(A), None);
    assert_eq!(docker.facts()[0].standing, contract::doctor::Standing::Good);
    drop(engine.directory);
}

#[test]
fn an_engine_that_goes_away_is_told_and_its_names_stay() {
    let (engine, events) = Engine_::start(|_| format!(r#"[{{"Id":"{A}","Names":["/x"]}}]"#));
    let (docker, _running, told) = listening(engine.socket.clone());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), A);
    drop(events);
    for _ in 0..600 {
        if docker
            .facts()
            .first()
            .is_some_and(|fact| fact.standing != contract::doctor::Standing::Good)
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let fact = docker.facts().remove(0);
    assert_eq!(fact.standing, contract::doctor::Standing::Limited);
    assert!(!fact.remedy.is_empty() && fact.found.contains("docker.sock"), "{fact:?}");
    assert!(docker.told(A, None).is_some(), "the last that is known stays");
}

#[test]
fn an_engine_that_never_answers_holds_nobody_up() {
    let (tell, asked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (engine, _events) = Engine_::start(move |_| {
        tell.send(()).ok();
        released.recv().ok();
        "[]".to_owned()
    });
    let (docker, running, _told) = listening(engine.socket.clone());
    asked.recv_timeout(PATIENCE).unwrap();
    let (tell, placed) = mpsc::channel();
    std::thread::spawn(move || {
        let root = tempfile::tempdir().unwrap();
        let around = Around { root: root.path(), own: &[] };
        let place = docker.place(&in_container(&format!("/docker/{A}")), around).unwrap();
        drop(running);
        drop(tell.send(place));
    });
    // Before we give the engine up, which is after twenty seconds.
    let place = placed.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!((place.manager, place.place), ("docker", None));
    drop(release);
}
