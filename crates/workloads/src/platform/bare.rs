//! Processes that nothing manages: a person's shell started them, or a scope that is a session.

use super::Place;
use contract::workload;
use std::collections::BTreeMap;

pub(super) fn place() -> Place {
    Place {
        platform: workload::Platform::Process,
        place: None,
        name: None,
        attributes: BTreeMap::new(),
    }
}
