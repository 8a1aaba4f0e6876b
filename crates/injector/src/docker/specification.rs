//! What a container of Docker was made from, read out of what its engine says of it
//! (`GET /containers/ID/json`), and whether another one is made from the same: values in, values out.
//!
//! Nothing here knows all fields. What the engine says is handed back to it as it stands, and what a
//! new container says then is compared with all of it: a field that the engine did not take over, of
//! this version or a later one, is a difference.

use super::Part;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The label by which a container is known to be ours: the id of the one in whose place it is.
pub(crate) const LABEL: &str = "dev.sonde.replaces";

/// Fields that every container has for itself, or only while it runs.
const PASSING: [&str; 17] = [
    "Id",
    "Created",
    "State",
    "Name",
    "Image",
    "ResolvConfPath",
    "HostnamePath",
    "HostsPath",
    "LogPath",
    "RestartCount",
    "MountLabel",
    "ProcessLabel",
    "AppArmorProfile",
    "ExecIDs",
    "GraphDriver",
    "SizeRw",
    "SizeRootFs",
];

/// The same of a network that it is in: what the engine chose, or derives from the rest.
const PASSING_OF_NETWORK: [&str; 10] = [
    "NetworkID",
    "EndpointID",
    "Gateway",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "MacAddress",
    "DNSNames",
];

/// What an engine is asked for to have a container made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Creation {
    /// The body of `POST /containers/create`.
    pub(crate) body: Value,
    /// Further networks, each with the body of `POST /networks/NAME/connect` but for the container:
    /// engines before API 1.44 take one network at once.
    pub(crate) networks: Vec<(String, Value)>,
}

/// A container with the agent in it, as its engine would say it.
pub(crate) fn with_agent(
    inspect: &Value,
    variables: &BTreeMap<String, String>,
    bundle: &str,
) -> Value {
    let mut all = inspect.clone();
    let mut environment = texts(&all["Config"]["Env"]);
    for (name, value) in variables {
        let start = format!("{name}=");
        environment.retain(|pair| !pair.starts_with(&start));
        environment.push(format!("{start}{value}"));
    }
    all["Config"]["Env"] = json!(environment);
    all["Config"]["Labels"][LABEL] = inspect["Id"].clone();
    let mut binds = texts(&all["HostConfig"]["Binds"]);
    binds.push(format!("{bundle}:{bundle}:ro"));
    all["HostConfig"]["Binds"] = json!(binds);
    if let Value::Array(mounts) = &mut all["Mounts"] {
        mounts.push(json!({ "Type": "bind", "Source": bundle, "Destination": bundle,
            "Mode": "ro", "RW": false, "Propagation": "rprivate" }));
    }
    all
}

/// A container of ours without the agent, as its engine would say it.
pub(super) fn without_agent(inspect: &Value, part: &Part) -> Value {
    let mut all = inspect.clone();
    let own = texts(&part.before["Config"]["Env"]);
    let mut environment = Vec::new();
    for pair in texts(&all["Config"]["Env"]) {
        let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
        if part.variables.get(name).is_none_or(|ours| ours != value) {
            environment.push(pair);
            continue;
        }
        let start = format!("{name}=");
        environment.extend(own.iter().find(|pair| pair.starts_with(&start)).cloned());
    }
    all["Config"]["Env"] = json!(environment);
    if let Value::Object(labels) = &mut all["Config"]["Labels"] {
        labels.remove(LABEL);
    }
    let bind = format!("{0}:{0}:ro", part.bundle);
    let binds = texts(&all["HostConfig"]["Binds"]).into_iter().filter(|it| *it != bind);
    all["HostConfig"]["Binds"] = json!(binds.collect::<Vec<_>>());
    if let Value::Array(mounts) = &mut all["Mounts"] {
        mounts.retain(|mount| mount["Destination"] != part.bundle.as_str());
    }
    all
}

/// How a container like this one is made; `image` is what names its image.
pub(crate) fn creation(inspect: &Value, image: &str) -> Creation {
    let mut body = object(&inspect["Config"]);
    body.insert("Image".to_owned(), json!(image));
    // The engine's own word for "none, whatever the image says".
    if is_empty(&inspect["Config"]["Entrypoint"]) {
        body.insert("Entrypoint".to_owned(), json!([""]));
    }
    // Where each network has an address of its own, the one for all is not spoken any more.
    if object(&inspect["NetworkSettings"]["Networks"]).values().any(has_own_addresses) {
        body.remove("MacAddress");
    }
    // The host's own name is not to be asked for, either.
    if is_named_by_id(inspect) || inspect["HostConfig"]["UTSMode"] == "host" {
        body.remove("Hostname");
    }
    let mut host = object(&inspect["HostConfig"]);
    let mut binds = texts(&inspect["HostConfig"]["Binds"]);
    // One that was made anew before has them by name already.
    let unnamed = anonymous(inspect).into_iter().filter(|bind| !binds.contains(bind));
    binds.extend(unnamed.collect::<Vec<_>>());
    host.insert("Binds".to_owned(), json!(binds));
    let main = main_network(inspect);
    let mut first = Map::new();
    let mut networks = Vec::new();
    for (name, network) in object(&inspect["NetworkSettings"]["Networks"]) {
        let asked = of_network(&name, &network, inspect);
        if name == main {
            first.insert(name, asked);
        } else {
            networks.push((name, json!({ "EndpointConfig": asked })));
        }
    }
    body.insert("HostConfig".to_owned(), Value::Object(host));
    body.insert("NetworkingConfig".to_owned(), json!({ "EndpointsConfig": first }));
    Creation { body: Value::Object(body), networks }
}

/// What would be lost if `new` stood in the place of `old`: the paths of fields that differ.
pub(crate) fn lost(old: &Value, new: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    if old["Image"] != new["Image"] {
        paths.push("Image".to_owned());
    }
    compare("", &normal(old), &normal(new), &mut paths);
    paths
}

/// What a container was made from, in one form: without what is its own, in an order that says
/// nothing, and with nothing where there is nothing.
fn normal(inspect: &Value) -> Value {
    let mut all = inspect.clone();
    if is_named_by_id(inspect) {
        all["Config"]["Hostname"] = Value::Null;
    }
    // Where each network has an address of its own, that is compared.
    if object(&all["NetworkSettings"]["Networks"]).values().any(has_own_addresses) {
        all["Config"]["MacAddress"] = Value::Null;
    }
    // A tag that was moved since names another image; which one it is was compared before.
    all["Config"]["Image"] = Value::Null;
    // A volume without a name has one once it is kept. Where it is mounted, `Mounts` says.
    let unnamed = anonymous(inspect);
    let binds = texts(&all["HostConfig"]["Binds"]);
    let binds = binds.into_iter().filter(|bind| !unnamed.contains(bind)).collect();
    all["HostConfig"]["Binds"] = sorted(binds);
    all["Config"]["Env"] = sorted(texts(&inspect["Config"]["Env"]));
    let mounts = all["Mounts"].as_array().cloned().unwrap_or_default();
    let by_place = mounts.into_iter().map(|mut mount| {
        let place = mount["Destination"].as_str().unwrap_or_default().to_owned();
        if name_of_unnamed(&mount, inspect).is_some() {
            mount["Mode"] = Value::Null;
        }
        (place, mount)
    });
    all["Mounts"] = Value::Object(by_place.collect());
    let networks = object(&inspect["NetworkSettings"]["Networks"]);
    let networks = networks.into_iter().map(|(name, network)| {
        let mut asked = of_network(&name, &network, inspect);
        asked["Aliases"] = sorted(texts(&asked["Aliases"]));
        (name, asked)
    });
    all["NetworkSettings"] = Value::Object(networks.collect());
    if let Value::Object(fields) = &mut all {
        fields.retain(|name, _| !PASSING.contains(&name.as_str()));
    }
    without_nothing(all)
}

/// The network that a container was made with.
fn main_network(inspect: &Value) -> &str {
    match inspect["HostConfig"]["NetworkMode"].as_str().unwrap_or_default() {
        "default" => "bridge",
        other => other,
    }
}

/// Whether the engine takes a MAC address for each network: since API 1.44, which names them so.
fn has_own_addresses(network: &Value) -> bool {
    network.get("DNSNames").is_some()
}

/// The MAC address that a network is to be asked for, from API 1.44 on. Engines say what was chosen
/// and what they made up in one field; what they derive from the IP address they derive again, and
/// all else is kept, whoever chose it.
fn mac_address(name: &str, network: &Value, inspect: &Value) -> Option<Value> {
    if !has_own_addresses(network) {
        return None;
    }
    let text = |value: &Value| value.as_str().filter(|it| !it.is_empty()).map(str::to_owned);
    let chosen = text(&inspect["Config"]["MacAddress"]).filter(|_| name == main_network(inspect));
    let is_derived = |mac: &String| {
        let parts = network["IPAddress"].as_str().unwrap_or_default().split('.');
        let parts = parts.map(|part| part.parse::<u8>().map(|part| format!(":{part:02x}")));
        let derived: Result<String, _> = parts.collect();
        derived.is_ok_and(|derived| mac.to_lowercase() == format!("02:42{derived}"))
    };
    let kept = chosen.or_else(|| text(&network["MacAddress"]).filter(|mac| !is_derived(mac)));
    kept.map(Value::String)
}

/// What somebody asked for of a network.
fn of_network(name: &str, network: &Value, inspect: &Value) -> Value {
    let mut asked = object(network);
    asked.retain(|name, _| !PASSING_OF_NETWORK.contains(&name.as_str()));
    if let Some(mac) = mac_address(name, network, inspect) {
        asked.insert("MacAddress".to_owned(), mac);
    }
    // Its own id is an alias that the engine adds.
    let own = short(inspect);
    let aliases = texts(&network["Aliases"]).into_iter().filter(|alias| *alias != own);
    asked.insert("Aliases".to_owned(), json!(aliases.collect::<Vec<_>>()));
    Value::Object(asked)
}

/// Volumes that the engine made without a name, as mounts by the name that it gave them.
fn anonymous(inspect: &Value) -> Vec<String> {
    let mounts = inspect["Mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let one = |mount: &Value| {
        let name = name_of_unnamed(mount, inspect)?;
        let at = mount["Destination"].as_str()?;
        let mode = if mount["RW"] == false { ":ro" } else { "" };
        Some(format!("{name}:{at}{mode}"))
    };
    mounts.iter().filter_map(one).collect()
}

/// The name that the engine gave to a volume that was made without one.
fn name_of_unnamed<'a>(mount: &'a Value, inspect: &Value) -> Option<&'a str> {
    let (name, at) = (mount["Name"].as_str()?, mount["Destination"].as_str()?);
    let is_declared = inspect["Config"]["Volumes"].get(at).is_some();
    let is_id = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    (mount["Type"] == "volume" && is_declared && is_id).then_some(name)
}

fn is_named_by_id(inspect: &Value) -> bool {
    inspect["Config"]["Hostname"].as_str() == Some(short(inspect))
}

pub(super) fn short(inspect: &Value) -> &str {
    inspect["Id"].as_str().and_then(|id| id.get(..12)).unwrap_or_default()
}

pub(super) fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

pub(super) fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect()
}

fn sorted(mut all: Vec<String>) -> Value {
    all.sort();
    json!(all)
}

/// Engines say nothing in four ways.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn without_nothing(value: Value) -> Value {
    match value {
        Value::Object(all) => {
            let all = all.into_iter().map(|(name, it)| (name, without_nothing(it)));
            Value::Object(all.filter(|(_, it)| !is_empty(it)).collect())
        }
        Value::Array(all) => Value::Array(all.into_iter().map(without_nothing).collect()),
        other => other,
    }
}

fn compare(path: &str, old: &Value, new: &Value, paths: &mut Vec<String>) {
    let (Value::Object(ours), Value::Object(theirs)) = (old, new) else {
        if old != new {
            paths.push(path.to_owned());
        }
        return;
    };
    let mut names: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let at = |all: &Map<String, Value>| all.get(name).cloned().unwrap_or_default();
        compare(&path, &at(ours), &at(theirs), paths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "aaaaaaaaaaaa0123456789012345678901234567890123456789012345678901";
    const NEW: &str = "bbbbbbbbbbbb0123456789012345678901234567890123456789012345678901";
    const VOLUME: &str = "cccccccccccc0123456789012345678901234567890123456789012345678901";

    fn inspect() -> Value {
        json!({
            "Id": OLD, "Name": "/web", "Image": "sha256:1", "Driver": "overlay2", "Platform": "linux",
            "Created": "2026-01-01T00:00:00Z", "State": { "Status": "running", "Pid": 7 },
            "Config": {
                "Hostname": "aaaaaaaaaaaa", "Image": "python:1", "Env": ["PATH=/bin", "A=1"],
                "Cmd": ["python3", "app.py"], "Entrypoint": null, "Labels": { "team": "x" },
                "Volumes": { "/data": {} }, "Healthcheck": { "Test": ["CMD", "true"] },
            },
            "HostConfig": {
                "NetworkMode": "front", "Binds": ["/srv:/srv:ro"], "Ulimits": null, "Init": true,
                "RestartPolicy": { "Name": "always", "MaximumRetryCount": 0 },
            },
            "Mounts": [
                { "Type": "volume", "Name": VOLUME, "Destination": "/data", "RW": true },
                { "Type": "bind", "Source": "/srv", "Destination": "/srv", "RW": false },
            ],
            "NetworkSettings": { "SandboxID": "s", "Networks": {
                "front": { "Aliases": ["web", "aaaaaaaaaaaa"], "IPAddress": "10.0.0.2",
                    "IPAMConfig": { "IPv4Address": "10.0.0.2" } },
                "back": { "Aliases": null, "IPAddress": "10.1.0.7", "DriverOpts": { "o": "1" } },
            } },
        })
    }

    /// An engine that takes over all that it is given.
    fn made(creation: &Creation, old: &Value) -> Value {
        let mut config = creation.body.clone();
        let host = config.as_object_mut().unwrap().remove("HostConfig").unwrap();
        let first = config.as_object_mut().unwrap().remove("NetworkingConfig").unwrap();
        let mut networks = object(&first["EndpointsConfig"]);
        for (name, body) in &creation.networks {
            networks.insert(name.clone(), body["EndpointConfig"].clone());
        }
        for network in networks.values_mut() {
            network["Aliases"].as_array_mut().unwrap().push(json!("bbbbbbbbbbbb"));
            network["EndpointID"] = json!("");
        }
        if config.get("Hostname").is_none() {
            config["Hostname"] = json!("bbbbbbbbbbbb");
        }
        if config["Entrypoint"] == json!([""]) {
            config["Entrypoint"] = Value::Null;
        }
        let mut new = old.clone();
        new["Id"] = json!(NEW);
        new["State"] = json!({ "Status": "created" });
        new["Config"] = config;
        new["HostConfig"] = host;
        new["NetworkSettings"] = json!({ "Networks": networks });
        new["Mounts"].as_array_mut().unwrap().reverse();
        new
    }

    fn variables() -> BTreeMap<String, String> {
        BTreeMap::from([("A".to_owned(), "2".to_owned()), ("B".to_owned(), "3".to_owned())])
    }

    #[test]
    fn an_engine_that_takes_all_over_loses_nothing() {
        let wished = with_agent(&inspect(), &variables(), "/agents");
        let creation = creation(&wished, "python:1");
        assert_eq!(creation.networks.len(), 1);
        assert_eq!(creation.body["Env"], json!(["PATH=/bin", "A=2", "B=3"]));
        let binds = json!(["/srv:/srv:ro", "/agents:/agents:ro", format!("{VOLUME}:/data")]);
        assert_eq!(creation.body["HostConfig"]["Binds"], binds);
        let front = &creation.body["NetworkingConfig"]["EndpointsConfig"]["front"];
        assert_eq!(front["Aliases"], json!(["web"]));
        assert_eq!(front["IPAMConfig"]["IPv4Address"], "10.0.0.2");
        assert_eq!(lost(&wished, &made(&creation, &wished)), [""; 0]);
    }

    #[test]
    fn the_way_back_is_made_from_what_was_there_before() {
        let creation = creation(&inspect(), "python:1");
        assert_eq!(lost(&inspect(), &made(&creation, &inspect())), [""; 0]);
    }

    fn part() -> Part {
        Part {
            name: "web".to_owned(),
            id: OLD.to_owned(),
            before: inspect(),
            variables: variables(),
            bundle: "/agents".to_owned(),
        }
    }

    #[test]
    fn what_is_ours_goes_without_a_trace_and_what_others_changed_stays() {
        let with_it = part().wished();
        let mut new = made(&creation(&with_it, "python:1"), &with_it);
        assert_eq!(lost(&inspect(), &without_agent(&new, &part())), [""; 0]);
        new["HostConfig"]["Memory"] = json!(7);
        let without = without_agent(&new, &part());
        assert_eq!(lost(&inspect(), &without), ["HostConfig.Memory"]);
        assert_eq!(without["Config"]["Env"], json!(["PATH=/bin", "A=1"]));
        assert_eq!(without["HostConfig"]["Memory"], 7);
    }

    #[test]
    fn a_volume_without_a_name_is_carried_by_the_name_that_it_was_given() {
        let mut kept = inspect();
        kept["Mounts"][0]["Mode"] = json!("");
        let creation = creation(&kept, "python:1");
        let mut new = made(&creation, &kept);
        new["Mounts"][1]["Mode"] = json!("z");
        assert_eq!(new["Mounts"][1]["Destination"], "/data");
        assert_eq!(lost(&kept, &new), [""; 0]);
        // Made anew from the new one, it is mounted once.
        let again = super::creation(&new, "python:1");
        let binds = json!(["/srv:/srv:ro", format!("{VOLUME}:/data")]);
        assert_eq!(again.body["HostConfig"]["Binds"], binds);
        new["Mounts"][1]["Name"] = json!("another");
        assert_ne!(lost(&kept, &new), [""; 0]);
    }

    #[test]
    fn every_field_that_is_not_taken_over_is_named_whether_known_or_not() {
        let mut old = inspect();
        old["HostConfig"]["FutureLimit"] = json!({ "Of": 3 });
        old["NetworkSettings"]["Networks"]["back"]["FuturePriority"] = json!(7);
        old["FutureTop"] = json!("x");
        let new = made(&creation(&old, "python:1"), &old);
        assert_eq!(lost(&old, &new), [""; 0]);
        let leaves = [
            ("/HostConfig/FutureLimit/Of", "HostConfig.FutureLimit"),
            (
                "/NetworkSettings/Networks/back/FuturePriority",
                "NetworkSettings.back.FuturePriority",
            ),
            ("/FutureTop", "FutureTop"),
            ("/Config/Healthcheck/Test", "Config.Healthcheck"),
            ("/Config/Labels/team", "Config.Labels"),
            ("/HostConfig/Init", "HostConfig.Init"),
            ("/HostConfig/RestartPolicy/Name", "HostConfig.RestartPolicy.Name"),
            ("/Mounts/0/RW", "Mounts./srv.RW"),
            ("/Image", "Image"),
        ];
        for (pointer, path) in leaves {
            let mut new = new.clone();
            *new.pointer_mut(pointer).unwrap() = Value::Null;
            assert_eq!(lost(&old, &new), [path], "{pointer}");
        }
    }

    /// As an engine with API 1.44 to 1.51 says it of a container that runs: which MAC address was
    /// chosen it says of the main network alone, in `Config`.
    fn with_addresses(chosen: &str, front: &str, back: &str) -> Value {
        let mut now = inspect();
        if !chosen.is_empty() {
            now["Config"]["MacAddress"] = json!(chosen);
        }
        for (name, mac) in [("front", front), ("back", back)] {
            let network = &mut now["NetworkSettings"]["Networks"][name];
            network["MacAddress"] = json!(mac);
            network["DNSNames"] = json!(["web", "aaaaaaaaaaaa"]);
        }
        now
    }

    /// An engine of that kind: a container that never ran has the addresses that were chosen.
    fn made_with_addresses(creation: &Creation, old: &Value, echoes: bool) -> Value {
        let mut new = made(creation, old);
        let networks = new["NetworkSettings"]["Networks"].as_object_mut().unwrap();
        for network in networks.values_mut() {
            network["DNSNames"] = json!(["web", "bbbbbbbbbbbb"]);
            let mac = network.get("MacAddress").cloned().unwrap_or(json!(""));
            network["MacAddress"] = mac;
        }
        let front = new["NetworkSettings"]["Networks"]["front"]["MacAddress"].clone();
        if echoes && front != "" {
            new["Config"]["MacAddress"] = front;
        }
        new
    }

    #[test]
    fn a_mac_address_that_was_chosen_is_asked_for_of_its_network() {
        let derived = ("02:42:0a:00:00:02", "02:42:0a:01:00:07");
        let chosen = "92:d0:c6:0a:29:33";
        // Chosen of the main network and of the other one; of neither; by an engine that says of no
        // network any more what was chosen (API 1.52), or that makes addresses up at random.
        let cases = [
            (with_addresses(chosen, chosen, "fe:00:00:00:00:01"), true),
            (with_addresses("", derived.0, derived.1), true),
            (with_addresses("02:42:0A:00:00:02", derived.0, derived.1), true),
            (with_addresses("", chosen, derived.1), false),
        ];
        let asked = |creation: &Creation| {
            let front = &creation.body["NetworkingConfig"]["EndpointsConfig"]["front"];
            let back = &creation.networks[0].1["EndpointConfig"];
            let mac = |of: &Value| of["MacAddress"].as_str().unwrap_or_default().to_owned();
            [mac(front), mac(back)]
        };
        let expected =
            [[chosen, "fe:00:00:00:00:01"], ["", ""], ["02:42:0A:00:00:02", ""], [chosen, ""]];
        for ((old, echoes), expected) in cases.iter().zip(expected) {
            let creation = creation(old, "python:1");
            assert_eq!(asked(&creation), expected);
            assert_eq!(creation.body.get("MacAddress"), None, "the one for all is gone");
            let mut new = made_with_addresses(&creation, old, *echoes);
            assert_eq!(lost(old, &new), [""; 0]);
            // One that the engine did not take over is named.
            if !expected[0].is_empty() {
                new["NetworkSettings"]["Networks"]["front"]["MacAddress"] = json!("");
                if let Value::Object(config) = &mut new["Config"] {
                    config.remove("MacAddress");
                }
                let lost = lost(old, &new).join(" ");
                assert!(lost.contains("NetworkSettings.front.MacAddress"), "{lost}");
            }
        }
    }

    #[test]
    fn before_api_1_44_one_mac_address_is_for_all() {
        let mut old = inspect();
        old["Config"]["MacAddress"] = json!("92:d0:c6:0a:29:33");
        old["NetworkSettings"]["Networks"]["front"]["MacAddress"] = json!("92:d0:c6:0a:29:33");
        let creation = creation(&old, "python:1");
        assert_eq!(creation.body["MacAddress"], "92:d0:c6:0a:29:33");
        let front = &creation.body["NetworkingConfig"]["EndpointsConfig"]["front"];
        assert_eq!(front.get("MacAddress"), None);
        assert_eq!(lost(&old, &made(&creation, &old)), [""; 0]);
    }

    #[test]
    fn a_name_of_its_own_is_kept_and_one_from_the_id_is_not() {
        assert_eq!(creation(&inspect(), "i").body.get("Hostname"), None);
        let mut named = inspect();
        named["Config"]["Hostname"] = json!("db-1");
        assert_eq!(creation(&named, "i").body["Hostname"], "db-1");
        named["HostConfig"]["UTSMode"] = json!("host");
        assert_eq!(creation(&named, "i").body.get("Hostname"), None);
    }
}
