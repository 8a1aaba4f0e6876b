//! What speaks against making a container anew, and what somebody should know: from what the engine
//! says.

use super::specification::{LABEL, object, short, texts};
use crate::plan::{Finding, Refusal};
use serde_json::Value;

/// What the engine says around a container.
#[derive(Debug, Default)]
pub(super) struct Around {
    pub(super) inspect: Value,
    /// All other containers.
    pub(super) others: Vec<Value>,
    /// What was written into its layer.
    pub(super) changes: Value,
    /// Whether its image is still there.
    pub(super) has_image: bool,
}

/// Labels of those who make containers anew by their own rules, and their names.
const KEEPERS: [(&str, &str); 4] = [
    ("com.docker.swarm.", "Docker Swarm"),
    ("com.hashicorp.nomad.", "Nomad"),
    ("com.amazonaws.ecs.", "Amazon ECS"),
    ("io.kubernetes.", "a kubelet"),
];

/// The switch: `"false"` keeps the SDK out.
const SWITCH: &str = "sonde/inject";

/// Directories whose files nobody counts on after a restart.
const PASSING: [&str; 10] = [
    "/tmp",
    "/var/tmp",
    "/run",
    "/var/run",
    "/var/lock",
    "/var/cache",
    "/dev",
    "/proc",
    "/sys",
    "/root/.cache",
];

/// Names of files and directories that are made anew by themselves, wherever they are.
const REMADE: [&str; 4] = ["__pycache__", ".cache", "docker-init", ".dockerenv"];

/// Files that engines write into each container.
const OF_THE_ENGINE: [&str; 5] =
    ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab", "/run/.containerenv"];

/// Most of a list that is named.
const MAX_NAMED: usize = 8;

/// Why a container must not be made anew.
pub(super) fn refuse(around: &Around) -> Result<(), Refusal> {
    let (inspect, name) = (&around.inspect, name(&around.inspect));
    let labels = object(&inspect["Config"]["Labels"]);
    if labels.get(SWITCH).is_some_and(|value| value == "false") {
        return Err(Refusal::blocked(
            "switched_off",
            format!("Container {name} has the label {SWITCH}=false; take that off first."),
        ));
    }
    kept_by_others(&labels)?;
    if inspect["HostConfig"]["AutoRemove"] == true {
        return Err(Refusal::unsupported(
            "auto_remove",
            format!(
                "Container {name} was started with --rm, so it is gone as soon as it is stopped, and could not be put back; start it without --rm."
            ),
        ));
    }
    health(inspect)?;
    shared(around)?;
    if !around.has_image {
        return Err(Refusal::unsupported(
            "no_image",
            format!(
                "The image that container {name} was made from is not here any more, so it cannot be made anew; pull or load {} again.",
                inspect["Image"].as_str().unwrap_or_default()
            ),
        ));
    }
    unwritten(&around.changes, inspect)
}

/// Why none of Podman's is made anew: that another one is the same cannot be seen from what it says.
pub(super) fn unproven(inspect: &Value) -> Refusal {
    Refusal::unsupported(
        "not_provable",
        format!(
            "Podman does not say all that container {} was made with, such as masked paths, rules for devices, secrets in variables and volumes with :O, so nobody can tell whether another one is the same; use the lines below, or set it to Network.",
            name(inspect)
        ),
    )
}

/// What would be lost of a container's own layer.
pub(super) fn unwritten(changes: &Value, inspect: &Value) -> Result<(), Refusal> {
    let written = written(changes, inspect);
    if written.is_empty() {
        return Ok(());
    }
    Err(Refusal::unsupported(
        "written_layer",
        format!(
            "Container {} wrote into its own layer, which is lost when it is made anew: {}; let it write these to a volume, or set it to Network.",
            name(inspect),
            named(&written)
        ),
    ))
}

/// Paths that were written into a container's layer, and that somebody may count on.
pub(super) fn written(changes: &Value, inspect: &Value) -> Vec<String> {
    let all = changes.as_array().map(Vec::as_slice).unwrap_or_default();
    let paths: Vec<&str> = all.iter().filter_map(|change| change["Path"].as_str()).collect();
    let mounts = inspect["Mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mounts = mounts.iter().filter_map(|mount| mount["Destination"].as_str());
    let tmpfs = object(&inspect["HostConfig"]["Tmpfs"]);
    let devices = inspect["HostConfig"]["Devices"].as_array().map(Vec::as_slice);
    let devices = devices.unwrap_or_default();
    let devices = devices.iter().filter_map(|device| device["PathInContainer"].as_str());
    let working = inspect["Config"]["WorkingDir"].as_str().filter(|path| *path != "/");
    // Places that the engine makes for what it mounts, with the directories above.
    let places: Vec<&str> = (mounts.chain(tmpfs.keys().map(String::as_str)))
        .chain(devices)
        .chain(working)
        .chain(OF_THE_ENGINE)
        .collect();
    let is_below = |path: &str, place: &str| {
        path.strip_prefix(place.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let counts = |path: &&str| {
        // The engine names a directory as changed when something in it is.
        let is_above = paths.iter().any(|other| other != path && is_below(other, path));
        let is_passing = PASSING.iter().any(|place| is_below(path, place));
        let is_remade = path.split('/').any(|part| REMADE.contains(&part));
        let is_place = places.iter().any(|place| is_below(place, path));
        !(is_above || is_passing || is_remade || is_place || path.ends_with(".pyc"))
    };
    paths.iter().filter(|path| counts(path)).map(|path| (*path).to_owned()).collect()
}

/// What somebody should know.
pub(super) fn findings(inspect: &Value) -> Vec<Finding> {
    let name = name(inspect);
    let mut findings = vec![
        Finding::good(format!(
            "Another container was made from the same as {name}, compared with it field by field, and removed: nothing is lost."
        )),
        Finding::good(format!("{name} wrote nothing into its own layer that would be lost.")),
    ];
    let policy = inspect["HostConfig"]["RestartPolicy"]["Name"].as_str().unwrap_or_default();
    if matches!(policy, "" | "no") {
        findings.push(Finding::warn(
            format!("{name} has no restart policy; if it is a task that runs once, it runs again from the beginning."),
        ));
    }
    let ports = object(&inspect["HostConfig"]["PortBindings"]);
    let is_free = |binding: &Value| matches!(binding["HostPort"].as_str(), None | Some("" | "0"));
    let mut bindings = ports.values().filter_map(Value::as_array).flatten();
    if inspect["HostConfig"]["PublishAllPorts"] == true || bindings.any(is_free) {
        findings.push(Finding::warn(
            format!("The engine chooses a port of this machine for {name} at each start, and will choose another one."),
        ));
    }
    if inspect["Config"]["Labels"].get("com.docker.compose.project").is_some() {
        findings.push(Finding::warn(
            format!("Compose leaves {name} alone while its file stays as it is; once that changes, it makes {name} anew without the SDK, unless it is given the file below, too."),
        ));
    }
    findings
}

/// What is a loopback address to us is one within our own network alone.
pub(super) fn reachable(is_on_node_network: bool, endpoint: &str) -> Result<(), Refusal> {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let is_loopback = ["127.", "localhost", "[::1]"].iter().any(|start| host.starts_with(start));
    if is_on_node_network || !is_loopback {
        return Ok(());
    }
    Err(Refusal::unsupported(
        "unreachable_endpoint",
        format!(
            "The container has a network of its own, in which {endpoint} is the container itself; start \
             Sonde with --agent-endpoint URL, an address of this machine that containers reach."
        ),
    ))
}

fn kept_by_others(labels: &serde_json::Map<String, Value>) -> Result<(), Refusal> {
    let keeper = KEEPERS.iter().find(|(start, _)| labels.keys().any(|key| key.starts_with(start)));
    if let Some((_, keeper)) = keeper {
        return Err(Refusal::unsupported(
            "kept_by_others",
            format!(
                "It is a container of {keeper}, which would make it anew by its own rules; put `sonde run --` before its command there, or set it to Network."
            ),
        ));
    }
    if labels.get("com.docker.compose.oneoff").is_some_and(|value| value == "True") {
        return Err(Refusal::unsupported(
            "one_off",
            "It was started by `docker compose run`, for once; put `sonde run --` before its command, or set it to Network.",
        ));
    }
    if labels.contains_key(LABEL) {
        return Err(Refusal::not_now(
            "ours",
            "It was made by Sonde, and is about to be put back; look again in a moment.",
        ));
    }
    Ok(())
}

fn health(inspect: &Value) -> Result<(), Refusal> {
    let name = name(inspect);
    let state = &inspect["State"];
    let status = state["Status"].as_str().unwrap_or_default();
    if status != "running" {
        return Err(Refusal::not_now(
            "not_running",
            format!(
                "Container {name} is not running now, but {status}; it is tried again once it runs."
            ),
        ));
    }
    match state["Health"]["Status"].as_str() {
        Some(health @ ("unhealthy" | "starting")) => Err(Refusal::not_now(
            "unhealthy",
            format!(
                "Container {name} is {health} even now, without the SDK; it is tried again once it is healthy."
            ),
        )),
        _ => Ok(()),
    }
}

/// What binds a container to others, by an id that a new one does not have.
fn shared(around: &Around) -> Result<(), Refusal> {
    let (inspect, name) = (&around.inspect, name(&around.inspect));
    let modes = ["NetworkMode", "PidMode", "IpcMode"];
    let host = &inspect["HostConfig"];
    let of_other =
        |mode: &&str| host[*mode].as_str().is_some_and(|it| it.starts_with("container:"));
    if let Some(mode) = modes.iter().find(|mode| of_other(mode)) {
        return Err(Refusal::unsupported(
            "shares_with_another",
            format!(
                "Container {name} lives in the namespaces of another one ({mode} is {}), with which it would have to be made anew; set it to Network.",
                host[*mode].as_str().unwrap_or_default()
            ),
        ));
    }
    let is_linked = |host: &Value| !texts(&host["Links"]).is_empty();
    if is_linked(host) {
        return Err(Refusal::unsupported(
            "links",
            format!(
                "Container {name} has links of the old kind (--link), which hold ids of containers; give both a network of their own, where names are enough."
            ),
        ));
    }
    let id = inspect["Id"].as_str().unwrap_or_default();
    let is_ours = |text: &str| {
        let whom = text.strip_prefix("container:").unwrap_or_default();
        !whom.is_empty() && (whom == id || whom == name || whom == short(inspect))
    };
    let depends = |other: &&Value| {
        let host = &other["HostConfig"];
        let links = texts(&host["Links"]);
        modes.iter().any(|mode| host[*mode].as_str().is_some_and(is_ours))
            || links.iter().any(|link| link.starts_with(&format!("/{name}:")))
    };
    match around.others.iter().filter(|other| other["Id"] != inspect["Id"]).find(depends) {
        None => Ok(()),
        Some(other) => Err(Refusal::unsupported(
            "shared_by_another",
            format!(
                "Container {} lives in the namespaces of {name}, or is linked with it, and would lose them; set it to Network, or make both anew by hand.",
                self::name(other)
            ),
        )),
    }
}

/// The name of a container, without the slash that Docker puts before it.
pub(super) fn name(inspect: &Value) -> &str {
    inspect["Name"].as_str().unwrap_or_default().trim_start_matches('/')
}

/// The first of a list, and how many more there are.
pub(super) fn named(paths: &[String]) -> String {
    let mut text = paths.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    if paths.len() > MAX_NAMED {
        text.push_str(&format!(" and {} more", paths.len() - MAX_NAMED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Grade, Kind};
    use serde_json::json;

    fn inspect() -> Value {
        json!({
            "Id": "aaaaaaaaaaaa01", "Name": "/web", "Image": "sha256:1",
            "State": { "Status": "running" },
            "Config": { "Labels": { "team": "x" }, "WorkingDir": "/srv/app" },
            "HostConfig": { "NetworkMode": "front", "RestartPolicy": { "Name": "always" },
                "Tmpfs": { "/scratch": "" } },
            "Mounts": [{ "Destination": "/data" }],
        })
    }

    fn around(inspect: Value) -> Around {
        Around { inspect, has_image: true, ..Around::default() }
    }

    #[test]
    fn a_container_that_can_be_made_anew_is_not_refused() {
        assert_eq!(refuse(&around(inspect())), Ok(()));
        let healthy = json!({ "Status": "running", "Health": { "Status": "healthy" } });
        let mut one = inspect();
        one["State"] = healthy;
        assert_eq!(refuse(&around(one)), Ok(()));
    }

    #[test]
    fn what_speaks_against_it_has_a_name() {
        let cases = [
            ("/HostConfig/AutoRemove", json!(true), Kind::Unsupported, "auto_remove"),
            (
                "/HostConfig/NetworkMode",
                json!("container:b"),
                Kind::Unsupported,
                "shares_with_another",
            ),
            ("/HostConfig/PidMode", json!("container:b"), Kind::Unsupported, "shares_with_another"),
            ("/HostConfig/Links", json!(["/db:/web/db"]), Kind::Unsupported, "links"),
            ("/State/Status", json!("paused"), Kind::NotNow, "not_running"),
            ("/State/Health", json!({ "Status": "unhealthy" }), Kind::NotNow, "unhealthy"),
            ("/State/Health", json!({ "Status": "starting" }), Kind::NotNow, "unhealthy"),
            (
                "/Config/Labels",
                json!({ "com.docker.swarm.task.id": "1" }),
                Kind::Unsupported,
                "kept_by_others",
            ),
            (
                "/Config/Labels",
                json!({ "com.hashicorp.nomad.job_name": "1" }),
                Kind::Unsupported,
                "kept_by_others",
            ),
            (
                "/Config/Labels",
                json!({ "com.amazonaws.ecs.cluster": "1" }),
                Kind::Unsupported,
                "kept_by_others",
            ),
            (
                "/Config/Labels",
                json!({ "io.kubernetes.pod.name": "1" }),
                Kind::Unsupported,
                "kept_by_others",
            ),
            (
                "/Config/Labels",
                json!({ "com.docker.compose.oneoff": "True" }),
                Kind::Unsupported,
                "one_off",
            ),
            ("/Config/Labels", json!({ "sonde/inject": "false" }), Kind::Blocked, "switched_off"),
        ];
        for (pointer, value, kind, code) in cases {
            let mut one = inspect();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            one.pointer_mut(parent).unwrap()[name] = value;
            let refusal = refuse(&around(one)).unwrap_err();
            assert_eq!((refusal.kind, refusal.code.as_str()), (kind, code), "{pointer}");
        }
        let gone = Around { has_image: false, ..around(inspect()) };
        assert_eq!(refuse(&gone).unwrap_err().code, "no_image");
    }

    #[test]
    fn others_that_live_in_it_keep_it_as_it_is() {
        for host in [
            json!({ "NetworkMode": "container:aaaaaaaaaaaa01" }),
            json!({ "IpcMode": "container:web" }),
            json!({ "Links": ["/web:/other/web"] }),
        ] {
            let other = json!({ "Id": "b", "Name": "/other", "HostConfig": host });
            let with_it = Around { others: vec![other], ..around(inspect()) };
            let refusal = refuse(&with_it).unwrap_err();
            assert_eq!(refusal.code, "shared_by_another");
            assert!(refusal.reason.contains("Container other"), "{}", refusal.reason);
        }
        let stranger = json!({ "Id": "b", "HostConfig": { "NetworkMode": "container:c",
            "Links": ["/website:/other/web"] } });
        let with_it = Around { others: vec![stranger], ..around(inspect()) };
        assert_eq!(refuse(&with_it), Ok(()));
    }

    #[test]
    fn only_what_somebody_may_count_on_is_lost_with_the_layer() {
        let changes = |paths: &[&str]| {
            let all = paths.iter().map(|path| json!({ "Path": path, "Kind": 1 }));
            Value::from_iter(all)
        };
        let passing = [
            "/tmp",
            "/tmp/x",
            "/run/app.pid",
            "/var",
            "/var/cache",
            "/var/cache/apt/x",
            "/data",
            "/scratch",
            "/srv",
            "/srv/app",
            "/etc",
            "/etc/hosts",
            "/usr",
            "/usr/sbin",
            "/usr/sbin/docker-init",
            "/srv/app/__pycache__",
            "/srv/app/__pycache__/a.cpython-311.pyc",
            "/home/u/.cache/x",
        ];
        assert_eq!(written(&changes(&passing), &inspect()), [""; 0]);
        assert_eq!(written(&Value::Null, &inspect()), [""; 0]);
        let counts =
            ["/srv", "/srv/app", "/srv/app/db.sqlite", "/etc", "/etc/app.conf", "/tmpfile"];
        let lost = ["/srv/app/db.sqlite", "/etc/app.conf", "/tmpfile"];
        assert_eq!(written(&changes(&counts), &inspect()), lost);
        let one = Around { changes: changes(&counts), ..around(inspect()) };
        let refusal = refuse(&one).unwrap_err();
        assert_eq!(refusal.code, "written_layer");
        assert!(refusal.reason.contains("/srv/app/db.sqlite, /etc/app.conf"), "{}", refusal.reason);
    }

    #[test]
    fn what_somebody_should_know_is_found() {
        let said = |inspect: &Value| -> Vec<(Grade, String)> {
            findings(inspect).into_iter().map(|finding| (finding.grade, finding.text)).collect()
        };
        let well = said(&inspect());
        assert!(well.len() == 2 && well.iter().all(|(grade, _)| *grade == Grade::Good), "{well:?}");
        let mut one = inspect();
        one["HostConfig"]["RestartPolicy"]["Name"] = json!("no");
        one["HostConfig"]["PortBindings"] = json!({ "80/tcp": [{ "HostPort": "" }] });
        one["Config"]["Labels"]["com.docker.compose.project"] = json!("shop");
        let all = said(&one);
        assert_eq!(all[..2], well);
        let words = ["has no restart policy", "chooses a port", "Compose leaves"];
        assert_eq!(all.len(), 2 + words.len());
        for ((grade, text), word) in all[2..].iter().zip(words) {
            assert!(*grade == Grade::Warn && text.contains(word), "{text}");
        }
    }

    #[test]
    fn an_endpoint_that_containers_do_not_reach_is_said() {
        for endpoint in ["http://127.0.0.1:4318", "http://localhost:4318", "https://[::1]:4318"] {
            assert_eq!(reachable(false, endpoint).unwrap_err().code, "unreachable_endpoint");
            assert_eq!(reachable(true, endpoint), Ok(()));
        }
        assert_eq!(reachable(false, "http://10.0.0.1:4318"), Ok(()));
    }
}
