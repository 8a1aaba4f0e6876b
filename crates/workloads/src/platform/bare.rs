//! Processes that nothing manages: a person's shell started them, or a scope that is a session.

use super::Place;
use contract::workload;

pub(super) fn place() -> Place {
    Place { platform: Some(workload::Platform::Process), manager: "process", ..Place::default() }
}
