//! What stands on a changed workload beside the change: all that another controller needs to take it
//! back to the byte, written in the same moment as the change itself.

use super::api::Patch;
use super::cluster::version;
use super::{CHANGE, Change, NOTE, Put, Workload};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The annotation, in its own words.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    put: Put,
    owners: Value,
    is_applied: bool,
    has_secret: bool,
}

impl Change {
    pub(super) fn template(&self, object: &Value) -> Value {
        object.pointer(self.workload.kind.template()).cloned().unwrap_or_default()
    }

    /// The change that an object says was made to it.
    pub(super) fn noted(workload: &Workload, object: &Value) -> Option<Self> {
        let note = object["metadata"]["annotations"][NOTE].as_str()?;
        let Note { put, owners, is_applied, has_secret } = serde_json::from_str(note).ok()?;
        let after = object.pointer(workload.kind.template())?.clone();
        let is_it = after["metadata"]["annotations"][CHANGE] == put.id.as_str();
        is_it.then(|| Self {
            workload: workload.clone(),
            uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            before: put.out_of(&after),
            after,
            put,
            owners,
            is_applied,
            // What is in it is in the secret itself.
            secret: has_secret.then(String::new),
        })
    }

    /// Whether an object has the note of any change.
    pub(super) fn is_noted(&self, object: &Value) -> bool {
        !object["metadata"]["annotations"][NOTE].is_null()
    }

    /// The operation that takes the note off an object, if it is there.
    pub(super) fn without_note(&self, object: &Value) -> Option<Value> {
        let mut annotations = object["metadata"]["annotations"].as_object()?.clone();
        annotations.remove(NOTE)?;
        Some(match annotations.is_empty() {
            true => json!({"op": "remove", "path": "/metadata/annotations"}),
            false => json!({"op": "add", "path": "/metadata/annotations", "value": annotations}),
        })
    }

    /// How the server is told, for the object as it stands: nobody may change it in between.
    pub(super) fn patch(&self, object: &Value) -> (Patch, Value) {
        let note = self.note();
        if self.is_applied {
            let mut body = self.applied();
            body["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
            body["metadata"]["annotations"] = json!({NOTE: note});
            return (Patch::Apply, body);
        }
        let template = self.put.in_with(&self.before);
        let place = self.workload.kind.template();
        let mut annotations =
            object["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        annotations.insert(NOTE.to_owned(), note.into());
        let body = json!([
            version(object),
            {"op": "replace", "path": place, "value": template},
            {"op": "add", "path": "/metadata/annotations", "value": annotations},
        ]);
        (Patch::Operations, body)
    }

    fn note(&self) -> String {
        let note = Note {
            put: self.put.clone(),
            owners: self.owners.clone(),
            is_applied: self.is_applied,
            has_secret: self.secret.is_some(),
        };
        serde_json::to_string(&note).unwrap_or_default()
    }
}
