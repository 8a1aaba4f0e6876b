//! What a container is made with is kept to the field.

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
        ("/NetworkSettings/Networks/back/FuturePriority", "NetworkSettings.back.FuturePriority"),
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
