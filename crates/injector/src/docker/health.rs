//! How a container that was made anew is doing, from what its engine says of it.

use super::Part;
use super::preflight::name;
use super::recreate::is_aside;
use crate::hands::Health;
use serde_json::Value;

/// How the container in the place of another is doing. `was_stopped` says whether somebody stopped it.
pub(super) fn health(part: &Part, ours: Option<&Value>, was_stopped: bool) -> Health {
    let Some(ours) = ours else {
        return Health::Reverted(format!(
            "container {} was removed, or made anew by somebody else",
            part.name
        ));
    };
    let (name, state) = (name(ours), &ours["State"]);
    if is_aside(name) {
        return Health::Bad(format!("container {} is not in its place", part.name));
    }
    let code = &state["ExitCode"];
    let said = state["Error"].as_str().filter(|said| !said.is_empty());
    let said = said.map(|said| format!(", {said}")).unwrap_or_default();
    let memory = if state["OOMKilled"] == true { ", out of memory" } else { "" };
    let restarts = ours["RestartCount"].as_u64().unwrap_or(0);
    match state["Status"].as_str().unwrap_or_default() {
        _ if restarts > 0 => Health::Bad(format!(
            "container {name} was started anew {restarts} times, last exit status {code}{memory}{said}"
        )),
        "restarting" => {
            Health::Bad(format!("container {name} ended with exit status {code}{memory}{said}"))
        }
        "running" | "paused" => match state["Health"]["Status"].as_str() {
            Some("starting") => Health::Starting,
            Some("unhealthy") => {
                let last = state["Health"]["Log"].as_array().and_then(|log| log.last());
                let last = last.and_then(|last| last["Output"].as_str()).unwrap_or_default();
                Health::Bad(format!("container {name} is unhealthy: {}", line(last)))
            }
            _ => Health::Good,
        },
        _ if was_stopped => Health::Stopped,
        status => {
            Health::Bad(format!("container {name} is {status}, exit status {code}{memory}{said}"))
        }
    }
}

/// How all of them are doing: one that is not well is enough, and of those that a change of their
/// number took away the last one counts.
pub(super) fn together(all: Vec<Health>) -> Health {
    let rank = |health: &Health| match health {
        Health::Reverted(_) => 0,
        Health::Stopped => 1,
        Health::Good => 2,
        Health::Rolling { .. } => 3,
        Health::Starting => 4,
        Health::Bad(_) => 5,
    };
    all.into_iter().max_by_key(rank).unwrap_or(Health::Stopped)
}

/// What others said, as one line of a bounded length.
fn line(text: &str) -> String {
    let text: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    text.trim().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(state: Value, was_stopped: bool) -> Health {
        let part = Part {
            name: "web".to_owned(),
            id: "a".to_owned(),
            before: Value::Null,
            variables: std::collections::BTreeMap::new(),
            bundle: String::new(),
        };
        let ours = json!({ "Name": "/web", "State": state, "RestartCount": 0 });
        health(&part, Some(&ours), was_stopped)
    }

    fn is_bad(health: &Health, word: &str) -> bool {
        matches!(health, Health::Bad(reason) if reason.contains(word))
    }

    #[test]
    fn the_new_one_says_how_it_goes() {
        assert_eq!(of(json!({ "Status": "running" }), false), Health::Good);
        let checked = |status| {
            json!({ "Status": "running", "Health": { "Status": status,
            "Log": [{ "Output": "no" }, { "Output": "ill\nat ease" }] } })
        };
        assert_eq!(of(checked("healthy"), false), Health::Good);
        assert_eq!(of(checked("starting"), false), Health::Starting);
        assert!(is_bad(&of(checked("unhealthy"), false), "unhealthy: ill at ease"));
        let ended = json!({ "Status": "exited", "ExitCode": 137, "OOMKilled": true });
        assert!(is_bad(&of(ended.clone(), false), "exit status 137, out of memory"));
        assert_eq!(of(ended, true), Health::Stopped);
        let again = json!({ "Status": "restarting", "ExitCode": 3 });
        assert!(is_bad(&of(again, false), "exit status 3"));
    }

    #[test]
    fn one_that_is_not_well_is_enough_and_the_last_one_counts() {
        let (gone, bad) = (Health::Reverted("x".to_owned()), Health::Bad("y".to_owned()));
        assert_eq!(together(vec![gone.clone(), Health::Good]), Health::Good);
        assert_eq!(together(vec![gone.clone(), gone.clone()]), gone);
        assert_eq!(together(vec![bad.clone(), Health::Starting, Health::Good]), bad);
        assert_eq!(together(vec![Health::Good, Health::Starting]), Health::Starting);
    }
}
