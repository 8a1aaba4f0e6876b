//! System containers (LXC, systemd-nspawn): nodes in a node, with units and processes of their own.
//!
//! What runs in one is named as on a host, behind the name of the container, so that `web.service` of
//! two containers is two workloads. The names are those of the cgroups that the host's manager made.

use super::{Around, Place, Platform, systemd};
use crate::process::{Process, clean};
use contract::{attribute, workload};

#[derive(Debug)]
pub(super) struct Machine;

impl Platform for Machine {
    fn place(&self, process: &Process, _around: Around<'_>) -> Option<Place> {
        let machine = process.cgroup.machine.as_ref()?;
        let name = clean(&machine.name, 64);
        let unit = systemd::unit(process);
        let within = format!("{}/{name}", machine.runtime);
        let mut place = Place {
            platform: Some(match unit {
                Some(_) => workload::Platform::Systemd,
                None => workload::Platform::Process,
            }),
            manager: if unit.is_some() { "systemd" } else { "process" },
            place: unit.as_ref().map(|unit| format!("{within}/{}", unit.place)),
            within: Some(within),
            name: unit.map(|unit| unit.name),
            ..Place::default()
        };
        place.note(attribute::CONTAINER_NAME, &name);
        place.note(attribute::CONTAINER_RUNTIME_NAME, machine.runtime);
        Some(place)
    }
}
