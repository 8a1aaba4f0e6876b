//! `sonde controller status`: how the controller of this node stands with its dashboard.

use crate::api::Api;
use crate::cli::{ControllerStatus, Output};
use crate::failure::Failure;
use crate::table::plain;
use serde_json::Value;
use std::io::Write as _;

/// Lines for people: what they are called, and where they stand in the answer.
const LINES: [(&str, &str); 16] = [
    ("Node", "/id"),
    ("Host", "/host_name"),
    ("Version", "/version"),
    ("Dashboard", "/dashboard"),
    ("Identity", "/identity"),
    ("Trouble", "/poll/trouble"),
    ("Last answer, seconds ago", "/poll/last_answer_seconds"),
    ("Protocol", "/poll/protocol"),
    ("Generation of wishes", "/poll/generation"),
    ("Not taken by the dashboard", "/poll/refused"),
    ("Configuration", "/configuration/hash"),
    ("Configuration, what failed", "/configuration/error"),
    ("Calls that wait", "/calls_waiting"),
    ("Steps that wait", "/steps_waiting"),
    ("Results of steps that wait", "/step_results_waiting"),
    ("Lost", "/lost"),
];

/// Asks the controller through its socket, and prints what it says.
pub(crate) fn run(options: &ControllerStatus) -> Result<(), Failure> {
    let standing = Api::controller(&options.node)?.get("/api/v1/controller", &[])?;
    let mut out = std::io::stdout().lock();
    match options.format.output {
        Output::Json => writeln!(out, "{standing}")?,
        Output::Table => {
            for (name, place) in LINES {
                if let Some(words) = standing.pointer(place).and_then(in_words) {
                    writeln!(out, "{name:<27} {}", plain(&words))?;
                }
            }
        }
    }
    Ok(())
}

/// A value as a person reads it; `None` where it says nothing.
fn in_words(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) if fields.is_empty() => None,
        Value::Object(fields) => {
            let field =
                |(key, value): (&String, &Value)| Some(format!("{key}: {}", in_words(value)?));
            Some(fields.iter().filter_map(field).collect::<Vec<_>>().join(", "))
        }
        other => Some(other.to_string()),
    }
}
