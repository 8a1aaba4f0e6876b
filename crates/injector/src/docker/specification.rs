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
mod tests;
