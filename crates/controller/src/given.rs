//! Names that people gave workloads on the dashboard; they win over every other. Shared by the loop
//! that is told them and the one that sends calls.

use contract::workload::Key;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The names, by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given(Arc<Mutex<BTreeMap<Key, String>>>);

impl Given {
    /// Replaces all names.
    pub(crate) fn set(&self, names: BTreeMap<Key, String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// The name that a person gave, or else the one that it has.
    pub(crate) fn name(&self, key: &Key, own: &str) -> String {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(key).filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| own.to_owned())
    }
}
