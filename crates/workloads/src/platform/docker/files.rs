//! What Docker and Podman keep about a container in their own state directories, for nodes where
//! their sockets are not to be had.

use super::Known;
use crate::cgroup::Container;
use crate::inside::Inside;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Docker's file of one container; large environments make it long.
const MAX_CONFIG: u64 = 1 << 20;

/// Podman's list of all containers.
const MAX_LIST: u64 = 8 << 20;

/// Where Docker keeps its state unless its configuration says otherwise.
const DATA_ROOTS: [&str; 2] = ["/var/lib/docker", "/var/snap/docker/common/var-lib-docker"];

/// Podman's store of the node.
const STORES: [&str; 1] = ["/var/lib/containers/storage"];

#[derive(Deserialize)]
struct Stored {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    /// JSON in JSON.
    #[serde(default)]
    metadata: String,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(rename = "image-name")]
    image: Option<String>,
}

/// What stands about a container in the files that its engine sees.
pub(super) fn container(files: &Inside, container: &Container) -> Option<Known> {
    docker(files, &container.id).or_else(|| podman(files, &container.id))
}

fn docker(files: &Inside, id: &str) -> Option<Known> {
    let moved = || {
        let text = files.read("/etc/docker/daemon.json", MAX_CONFIG)?;
        let configured: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let root = configured.get("data-root").or_else(|| configured.get("graph"))?;
        Some(root.as_str()?.to_owned())
    };
    let read =
        |root: &str| files.read(&format!("{root}/containers/{id}/config.v2.json"), MAX_CONFIG);
    let bytes = DATA_ROOTS.iter().find_map(|root| read(root)).or_else(|| read(&moved()?))?;
    let config: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let labels = config.pointer("/Config/Labels").and_then(serde_json::Value::as_object);
    let label = |(name, value): (&String, &serde_json::Value)| {
        Some((name.clone(), value.as_str()?.to_owned()))
    };
    let known = Known {
        name: config.get("Name")?.as_str()?.trim_start_matches('/').to_owned(),
        image: config.pointer("/Config/Image").and_then(|image| Some(image.as_str()?.to_owned())),
        labels: labels.into_iter().flatten().filter_map(label).collect(),
    };
    (!known.name.is_empty()).then_some(known)
}

fn podman(files: &Inside, id: &str) -> Option<Known> {
    let read =
        |store: &&str| files.read(&format!("{store}/overlay-containers/containers.json"), MAX_LIST);
    let list: Vec<Stored> = serde_json::from_slice(&STORES.iter().find_map(read)?).ok()?;
    let stored = list.into_iter().find(|stored| stored.id == id)?;
    let metadata: Metadata = serde_json::from_str(&stored.metadata).unwrap_or_default();
    let name = stored.names.into_iter().next()?;
    Some(Known { name, image: metadata.image, labels: BTreeMap::new() })
}
