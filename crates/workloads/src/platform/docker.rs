//! Containers of Docker and Podman, recognised by their cgroups.
//!
//! Docker's name of a container, and what Compose calls it, stand in a file of Docker's own state
//! directory; the socket, which is as good as root, is not needed. Where the file cannot be read the
//! id has to do.

use super::{Place, Platform, container_id};
use crate::process::{Process, clean, read_bytes};
use contract::{attribute, workload};
use std::collections::BTreeMap;
use std::path::Path;

/// Docker's file of one container; large environments make it long.
const MAX_CONFIG: u64 = 1 << 20;

pub(super) struct Docker;

impl Platform for Docker {
    fn place(&self, process: &Process, root: &Path) -> Option<Place> {
        let id = process.cgroups.iter().find_map(|path| id(path))?;
        let short: String = id.chars().take(12).collect();
        let name = name(root, id);
        let mut attributes = BTreeMap::from([(attribute::CONTAINER_ID.to_owned(), id.to_owned())]);
        if let Some(name) = &name {
            attributes.insert(attribute::CONTAINER_NAME.to_owned(), name.clone());
        }
        Some(Place {
            platform: workload::Platform::Docker,
            place: Some(name.clone().unwrap_or(short)),
            name,
            attributes,
        })
    }
}

/// The id of the innermost container in a path such as `/docker/<id>`,
/// `/system.slice/docker-<id>.scope` or `/machine.slice/libpod-<id>.scope`.
fn id(path: &str) -> Option<&str> {
    let parts: Vec<&str> = path.split('/').collect();
    let is_container = |index: usize, part: &str| {
        let parent = index.checked_sub(1).and_then(|before| parts.get(before));
        let is_listed =
            parent.is_some_and(|parent| matches!(*parent, "docker" | "libpod" | "libpod_parent"));
        is_listed || part.starts_with("docker-") || part.starts_with("libpod-")
    };
    let containers =
        parts.iter().copied().enumerate().filter(|(index, part)| is_container(*index, part));
    containers.filter_map(|(_, part)| container_id(part)).next_back()
}

/// `project-service` where Compose made the container, else the container's own name.
fn name(root: &Path, id: &str) -> Option<String> {
    let file = root.join("var/lib/docker/containers").join(id).join("config.v2.json");
    let config: serde_json::Value = serde_json::from_slice(&read_bytes(&file, MAX_CONFIG)?).ok()?;
    let label = |name: &str| config.pointer("/Config/Labels")?.get(name)?.as_str();
    let compose = label("com.docker.compose.project").zip(label("com.docker.compose.service"));
    let name = match compose {
        Some((project, service)) => format!("{project}-{service}"),
        None => config.get("Name")?.as_str()?.trim_start_matches('/').to_owned(),
    };
    Some(clean(&name, 128)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_every_layout_and_the_innermost_counts() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        assert_eq!(id(&format!("/docker/{a}")), Some(a.as_str()));
        assert_eq!(id(&format!("/system.slice/docker-{a}.scope")), Some(a.as_str()));
        assert_eq!(id(&format!("/machine.slice/libpod-{a}.scope/container")), Some(a.as_str()));
        assert_eq!(id(&format!("/docker/{a}/docker/{b}")), Some(b.as_str()));
        assert_eq!(id(&format!("/user.slice/{a}")), None);
        assert_eq!(id("/docker/buildx"), None);
    }
}
