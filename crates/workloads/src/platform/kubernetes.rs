//! Containers of pods, recognised by their cgroups.
//!
//! The path says the pod's uid and the container's id; the names behind them are known to the API
//! server alone.

use super::{Place, Platform, container_id};
use crate::process::Process;
use contract::{attribute, workload};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) struct Kubernetes;

impl Platform for Kubernetes {
    fn place(&self, process: &Process, _root: &Path) -> Option<Place> {
        let path = process.cgroups.iter().find(|path| path.contains("kubepods"))?;
        let pod = path.split('/').find_map(pod_uid)?;
        let mut attributes = BTreeMap::from([("k8s.pod.uid".to_owned(), pod.clone())]);
        if let Some(id) = path.split('/').rev().find_map(container_id) {
            attributes.insert(attribute::CONTAINER_ID.to_owned(), id.to_owned());
        }
        // A container that is restarted gets a new id: its program tells it from its neighbours.
        let place = format!("pod-{pod}/{}", process.executable_name());
        Some(Place {
            platform: workload::Platform::Kubernetes,
            place: Some(place),
            name: None,
            attributes,
        })
    }
}

/// `pod<uid>` of the cgroupfs driver, `kubepods-burstable-pod<uid with _>.slice` of systemd's.
fn pod_uid(part: &str) -> Option<String> {
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let uid = part.strip_prefix("pod").or_else(|| part.rsplit_once("-pod").map(|(_, uid)| uid))?;
    let uid = uid.replace('_', "-");
    let is_uid =
        uid.len() >= 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_found_with_either_cgroup_driver() {
        let uid = "0a7c2d10-3b1c-4f7a-9d55-8c1f1f2f3a4b";
        assert_eq!(pod_uid(&format!("pod{uid}")).as_deref(), Some(uid));
        assert_eq!(
            pod_uid(&format!("kubepods-besteffort-pod{}.slice", uid.replace('-', "_"))).as_deref(),
            Some(uid)
        );
        assert_eq!(pod_uid("podman"), None);
    }
}
