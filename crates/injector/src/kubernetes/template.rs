//! Puts what is ours into a template of pods, and takes it out again.

use super::{CHANGE, MOUNT, NAME, SIZE_LIMIT};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is shown in place of what others say.
const HIDDEN: &str = "***";

/// All that is put into a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Put {
    /// What tells this change from others.
    pub(crate) id: String,
    /// The container that is told of the bundle.
    pub(crate) container: String,
    /// Its variables, in the order in which they are put in.
    pub(crate) variables: Vec<Variable>,
    /// The init container that lays the bundle down.
    pub(crate) init: Value,
}

/// One variable of the container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Variable {
    pub(crate) name: String,
    /// The entry of ours.
    pub(crate) entry: Value,
    /// The entry of this name that stood there.
    pub(crate) before: Option<Value>,
}

/// A container of a template.
pub(crate) fn container<'a>(template: &'a Value, name: &str) -> Option<&'a Value> {
    template["spec"]["containers"].as_array()?.iter().find(|container| container["name"] == name)
}

impl Put {
    fn volume() -> Value {
        json!({"name": NAME, "emptyDir": {"sizeLimit": SIZE_LIMIT}})
    }

    fn mount() -> Value {
        json!({"name": NAME, "mountPath": MOUNT, "readOnly": true})
    }

    /// What is ours of a template, in the order in which `template` has what is there already.
    pub(crate) fn alone(&self, template: &Value) -> Value {
        let env = container(template, &self.container).and_then(|it| it["env"].as_array());
        let place = |variable: &&Variable| {
            let stands = |entry: &Value| entry["name"] == variable.name;
            env.and_then(|env| env.iter().position(stands)).unwrap_or(usize::MAX)
        };
        let mut variables: Vec<&Variable> = self.variables.iter().collect();
        variables.sort_by_key(place);
        let env: Vec<&Value> = variables.iter().map(|variable| &variable.entry).collect();
        json!({
            "metadata": {"annotations": {CHANGE: self.id}},
            "spec": {
                "initContainers": [self.init],
                "containers": [
                    {"name": self.container, "env": env, "volumeMounts": [Self::mount()]},
                ],
                "volumes": [Self::volume()],
            },
        })
    }

    /// The template with what is ours.
    pub(crate) fn in_with(&self, template: &Value) -> Value {
        let mut template = template.clone();
        template["metadata"]["annotations"][CHANGE] = json!(self.id);
        let spec = &mut template["spec"];
        push(spec, "volumes", Self::volume());
        push(spec, "initContainers", self.init.clone());
        let Some(container) = named(spec, "containers", &self.container) else { return template };
        push(container, "volumeMounts", Self::mount());
        let mut env = container["env"].as_array().cloned().unwrap_or_default();
        for (at, variable) in self.variables.iter().enumerate() {
            let stands = |name: &str| env.iter().position(|entry| entry["name"] == name);
            // What keeps an original has to stand before what refers to it.
            let next = self.variables.get(at + 1).and_then(|next| stands(&next.name));
            match (stands(&variable.name), next.filter(|_| super::is_original(&variable.name))) {
                (Some(place), _) => env[place] = variable.entry.clone(),
                (None, Some(place)) => env.insert(place, variable.entry.clone()),
                (None, None) => env.push(variable.entry.clone()),
            }
        }
        container["env"] = Value::Array(env);
        template
    }

    /// The template without what is ours; what others changed since stays.
    pub(crate) fn out_of(&self, template: &Value) -> Value {
        let mut template = template.clone();
        let annotations = template.pointer_mut("/metadata/annotations");
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            annotations.remove(CHANGE);
            prune(&mut template["metadata"], "annotations");
        }
        let spec = &mut template["spec"];
        for name in ["initContainers", "volumes"] {
            drop_ours(spec, name);
        }
        if let Some(container) = named(spec, "containers", &self.container) {
            drop_ours(container, "volumeMounts");
            for variable in &self.variables {
                let Some(env) = list(container, "env") else { break };
                let ours = |entry: &Value| same(entry, &variable.entry);
                let Some(place) = env.iter().position(ours) else { continue };
                match &variable.before {
                    Some(before) => env[place] = before.clone(),
                    None => drop(env.remove(place)),
                }
            }
            prune(container, "env");
        }
        template
    }

    /// What is missing of ours in a template; nothing when all of it is there.
    pub(crate) fn missing(&self, template: &Value) -> Option<String> {
        let has = |list: &str| {
            let all = template["spec"][list].as_array();
            all.into_iter().flatten().any(|entry| entry["name"] == NAME)
        };
        if template["metadata"]["annotations"][CHANGE] != self.id.as_str() {
            return Some(format!("the annotation {CHANGE}"));
        }
        if let Some(list) = ["initContainers", "volumes"].into_iter().find(|list| !has(list)) {
            return Some(format!("{NAME} among its {list}"));
        }
        let Some(container) = container(template, &self.container) else {
            return Some(format!("the container {}", self.container));
        };
        let mounts = container["volumeMounts"].as_array();
        if !mounts.into_iter().flatten().any(|mount| mount["name"] == NAME) {
            return Some(format!("the mount at {MOUNT}"));
        }
        let env = container["env"].as_array();
        let stands = |variable: &&Variable| {
            !env.into_iter().flatten().any(|entry| same(entry, &variable.entry))
        };
        let variable = self.variables.iter().find(stands)?;
        Some(format!("the variable {}", variable.name))
    }
}

/// Both entries say the same; what the server adds by itself (`fieldRef.apiVersion`) does not count.
fn same(entry: &Value, ours: &Value) -> bool {
    match (entry, ours) {
        (Value::Object(entry), Value::Object(ours)) => {
            ours.iter().all(|(name, value)| entry.get(name).is_some_and(|it| same(it, value)))
        }
        (entry, ours) => entry == ours,
    }
}

/// The template as it may be shown: what others put into variables and arguments may be secret.
pub(crate) fn shown(template: &Value, put: &Put) -> Value {
    let mut template = template.clone();
    for name in ["initContainers", "containers"] {
        let all = list(&mut template["spec"], name).into_iter().flatten();
        for container in all.filter(|it| it["name"] != NAME) {
            for entry in list(container, "env").into_iter().flatten() {
                let is_ours =
                    |it: &Variable| same(entry, &it.entry) || it.before.as_ref() == Some(entry);
                if entry.get("value").is_some() && !put.variables.iter().any(is_ours) {
                    entry["value"] = json!(HIDDEN);
                }
            }
            for name in ["command", "args"] {
                let words = list(container, name).into_iter().flatten();
                words.for_each(|word| *word = json!(HIDDEN));
            }
        }
    }
    template
}

/// A list of an object; unlike an index, it makes none.
fn list<'a>(object: &'a mut Value, name: &str) -> Option<&'a mut Vec<Value>> {
    object.get_mut(name)?.as_array_mut()
}

fn push(object: &mut Value, name: &str, entry: Value) {
    match list(object, name) {
        Some(all) => all.push(entry),
        None => object[name] = json!([entry]),
    }
}

fn named<'a>(object: &'a mut Value, name: &str, wanted: &str) -> Option<&'a mut Value> {
    list(object, name)?.iter_mut().find(|entry| entry["name"] == wanted)
}

fn drop_ours(object: &mut Value, name: &str) {
    if let Some(all) = list(object, name) {
        all.retain(|entry| entry["name"] != NAME);
    }
    prune(object, name);
}

/// Takes a list or map away that is empty: the server keeps none.
fn prune(object: &mut Value, name: &str) {
    let is_empty = |value: &Value| match value {
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    };
    if let Some(object) = object.as_object_mut()
        && object.get(name).is_some_and(is_empty)
    {
        object.remove(name);
    }
}
