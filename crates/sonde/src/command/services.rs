//! `sonde services`: the programs that talk to a model, and how much of each is captured.

use crate::api::Api;
use crate::cli::{
    CaptureLevel, Output, Services, ServicesAction, ServicesDisable, ServicesEnable,
    ServicesExplain, ServicesList, ServicesSet, TestRules,
};
use crate::failure::Failure;
use crate::table::{self, Column, text};
use anyhow::Context as _;
use contract::attribute;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How often a wait looks again; a wish is in effect within some milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a restart and the window after it may take, in seconds.
const LONGEST: u32 = 600;

const COLUMNS: &[Column] = &[
    Column { head: "SERVICE", right: false, cell: |row| text(row, attribute::SERVICE_NAME) },
    Column { head: "PLATFORM", right: false, cell: |row| text(row, attribute::PLATFORM) },
    Column { head: "RUNTIME", right: false, cell: runtime },
    Column { head: "PID", right: true, cell: |row| text(row, attribute::PROCESS_PID) },
    Column { head: "CALLS TO", right: false, cell: |row| text(row, attribute::PROVIDERS) },
    Column { head: "MODELS", right: false, cell: models },
    Column { head: "SEEN BY", right: false, cell: seen_by },
    Column { head: "INSTANCES", right: true, cell: instances },
    Column { head: "CAPTURE", right: false, cell: |row| text(row, attribute::CAPTURE_OBSERVED) },
    Column { head: "LAST SEEN", right: false, cell: last_seen },
    Column { head: "KEY", right: false, cell: |row| text(row, attribute::WORKLOAD_KEY) },
    Column { head: "STATE", right: false, cell: state },
];

const RULINGS: &[Column] = &[
    Column { head: "SERVICE", right: false, cell: |row| text(row, attribute::SERVICE_NAME) },
    Column { head: "PID", right: true, cell: |row| text(row, attribute::PROCESS_PID) },
    Column { head: "KEY", right: false, cell: |row| text(row, attribute::WORKLOAD_KEY) },
    Column { head: "VERDICT", right: false, cell: verdict },
    Column { head: "RULE", right: false, cell: |row| text(row, "rule") },
];

fn verdict(row: &Value) -> String {
    let counts = row.get("counts").and_then(Value::as_bool).unwrap_or_default();
    if counts { "counts" } else { "left out" }.to_owned()
}

/// The first few; a gateway asks for a hundred.
fn models(row: &Value) -> String {
    const SHOWN: usize = 3;
    let names = row.get(attribute::MODELS).and_then(Value::as_array);
    let names: Vec<_> = names.into_iter().flatten().filter_map(Value::as_str).collect();
    match names.get(..SHOWN).filter(|_| names.len() > SHOWN) {
        Some(first) => format!("{} and {} more", first.join(", "), names.len() - SHOWN),
        None => names.join(", "),
    }
}

/// The strongest evidence, which is the first, and how sure it is.
fn seen_by(row: &Value) -> String {
    let Some(first) = row.get(attribute::EVIDENCE).and_then(|all| all.get(0)) else {
        return String::new();
    };
    format!("{} ({})", text(first, "by"), text(first, "confidence"))
}

fn instances(row: &Value) -> String {
    let running = row.get(attribute::INSTANCES).and_then(Value::as_array);
    running.map_or(0, Vec::len).to_string()
}

/// To the second.
fn last_seen(row: &Value) -> String {
    let time = text(row, attribute::LAST_SEEN);
    time.split_once('.').map_or(time.clone(), |(seconds, _)| format!("{seconds}Z"))
}

fn runtime(row: &Value) -> String {
    let version = text(row, attribute::PROCESS_RUNTIME_VERSION);
    format!("{} {version}", text(row, attribute::PROCESS_RUNTIME_NAME)).trim().to_owned()
}

fn state(row: &Value) -> String {
    let reason = text(row, attribute::CAPTURE_REASON);
    if reason.is_empty() { text(row, attribute::CAPTURE_STATE) } else { reason }
}

/// Lists services, or does with them what is asked.
pub(crate) fn run(options: &Services) -> Result<(), Failure> {
    let one = std::slice::from_ref::<String>;
    match &options.action {
        None => list(&options.list),
        Some(ServicesAction::Set(ServicesSet { name, capture, wait, target, format })) => {
            set(&Api::open(target)?, one(name), (*capture, *wait), format.output)
        }
        Some(ServicesAction::Enable(enable)) => {
            let ServicesEnable { names, full, dry_run, target, format } = enable;
            let api = Api::open(target)?;
            match (dry_run, full) {
                (true, _) => preview(&api, names, format.output),
                (false, true) => set(&api, names, (CaptureLevel::Full, LONGEST), format.output),
                (false, false) => set(&api, names, (CaptureLevel::Network, 10), format.output),
            }
        }
        Some(ServicesAction::Disable(ServicesDisable { name, target, format })) => {
            set(&Api::open(target)?, one(name), (CaptureLevel::Off, LONGEST), format.output)
        }
        Some(ServicesAction::Explain(ServicesExplain { about, node, format })) => {
            explain(&Api::controller(node)?, about, format.output)
        }
        Some(ServicesAction::TestRules(tested)) => {
            test_rules(&Api::controller(&tested.node)?, tested, tested.format.output)
        }
    }
}

fn list(options: &ServicesList) -> Result<(), Failure> {
    let is_there = |row: &Value, key: &str, wanted: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| text(row, key) == *wanted)
    };
    let mut rows = rows(&Api::open(&options.target)?)?;
    let has_any = !rows.is_empty();
    rows.retain(|row| {
        is_there(row, attribute::PLATFORM, &options.platform)
            && is_there(row, attribute::K8S_NAMESPACE_NAME, &options.namespace)
    });
    if rows.is_empty() && options.format.output == Output::Table {
        tracing::info!(
            "{}",
            if has_any {
                "no service is of that platform and namespace; `sonde services` alone lists all"
            } else {
                "no program was seen to talk to a model API yet; one appears here with its first connection"
            }
        );
        return Ok(());
    }
    table::print(&mut std::io::stdout().lock(), options.format.output, COLUMNS, &rows)?;
    Ok(())
}

/// Prints why a program is discovered, or is not.
fn explain(api: &Api, about: &str, output: Output) -> Result<(), Failure> {
    let answer = api.get("/api/v1/explain", &[("about", about)])?;
    let programs = answer.get("programs").and_then(Value::as_array).cloned().unwrap_or_default();
    if programs.is_empty() {
        return Err(Failure::usage(format!(
            "nothing is known about `{about}`: no process with this id runs or was seen, and no \
             service is called so; `sonde services` lists those that are"
        )));
    }
    let mut out = std::io::stdout().lock();
    if output == Output::Json {
        table::lines(&mut out, &programs)?;
        return Ok(());
    }
    for program in &programs {
        let name = text(program, attribute::SERVICE_NAME);
        let pid = text(program, attribute::PROCESS_PID);
        let pid = if pid.is_empty() { String::new() } else { format!(" (process {pid})") };
        line(&mut out, &format!("{name}{pid}: {}", text(program, "verdict")))?;
        for step in program.get("steps").and_then(Value::as_array).into_iter().flatten() {
            let mark = match text(step, "finding").as_str() {
                "for" => '+',
                "against" => '-',
                _ => ' ',
            };
            line(&mut out, &format!("{mark} {}: {}", text(step, "about"), text(step, "text")))?;
            for detail in step.get("details").and_then(Value::as_array).into_iter().flatten() {
                line(&mut out, &format!("    {}", detail.as_str().unwrap_or_default()))?;
            }
        }
    }
    Ok(())
}

fn line(out: &mut impl std::io::Write, text: &str) -> Result<(), Failure> {
    writeln!(out, "{}", table::plain(text)).map_err(Failure::from)
}

/// Prints which rule decides about each program.
fn test_rules(api: &Api, tested: &TestRules, output: Output) -> Result<(), Failure> {
    let about = tested.about.as_deref().unwrap_or_default();
    let rules = serde_json::to_string(&tested.rules.rules()).context("cannot write the rules")?;
    let answer = api.get("/api/v1/rules/test", &[("about", about), ("rules", &rules)])?;
    for mistake in answer.get("refused").and_then(Value::as_array).into_iter().flatten() {
        tracing::warn!("cannot use a rule: {}", mistake.as_str().unwrap_or_default());
    }
    let programs = answer.get("programs").and_then(Value::as_array).cloned().unwrap_or_default();
    if programs.is_empty() && !about.is_empty() {
        return Err(Failure::usage(format!(
            "nothing is known about `{about}`; name a process that runs, or a service that \
             `sonde services` lists"
        )));
    }
    table::print(&mut std::io::stdout().lock(), output, RULINGS, &programs)?;
    Ok(())
}

fn rows(api: &Api) -> Result<Vec<Value>, Failure> {
    let mut answer = api.get("/api/v1/services", &[])?;
    match answer.get_mut("services").map(Value::take) {
        Some(Value::Array(rows)) => Ok(rows),
        _ => Err(Failure::Failed(anyhow::anyhow!(
            "cannot read the list of services: it has no `services`"
        ))),
    }
}

/// Sets services, all before the first is waited for: they come up side by side.
fn set(
    api: &Api,
    names: &[String],
    (capture, wait): (CaptureLevel, u32),
    output: Output,
) -> Result<(), Failure> {
    let level = match capture {
        CaptureLevel::Off => "off",
        CaptureLevel::Network => "network",
        CaptureLevel::Full => "full",
    };
    let keys = keys_of(&rows(api)?, names)?;
    for key in &keys {
        let path = format!("/api/v1/services/{}/capture", percent_encoded(key));
        api.send_json(Method::PUT, &path, &json!({ "level": level }))?;
    }
    let rows = in_effect(api, &keys, level, Duration::from_secs(u64::from(wait)))?;
    table::print(&mut std::io::stdout().lock(), output, COLUMNS, &rows)?;
    Ok(())
}

/// Prints what the level `full` would change, and fails in the end where it cannot be had.
fn preview(api: &Api, names: &[String], output: Output) -> Result<(), Failure> {
    let keys = keys_of(&rows(api)?, names)?;
    let mut out = std::io::stdout().lock();
    let mut refused = Vec::new();
    for (key, name) in keys.iter().zip(names) {
        let path = format!("/api/v1/services/{}/preview", percent_encoded(key));
        let mut answer = api.send_json(Method::POST, &path, &json!({}))?;
        if output == Output::Json {
            answer[attribute::WORKLOAD_KEY] = key.as_str().into();
            table::lines(&mut out, std::slice::from_ref(&answer))?;
        } else {
            if names.len() > 1 {
                line(&mut out, &format!("{name} ({key}):"))?;
            }
            for one in text(&answer, "text").lines() {
                line(&mut out, one)?;
            }
        }
        if answer.get("possible").and_then(Value::as_bool) != Some(true) {
            refused.push(format!("cannot put an SDK into `{name}`: {}", text(&answer, "reason")));
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(anyhow::anyhow!(refused.join("\n"))))
}

/// The keys of services, each by its key or name.
fn keys_of(rows: &[Value], names: &[String]) -> Result<Vec<String>, Failure> {
    names.iter().map(|name| key_of(rows, name)).collect()
}

/// The key of the one service with this key or name.
fn key_of(rows: &[Value], name: &str) -> Result<String, Failure> {
    let key = |row: &Value| text(row, attribute::WORKLOAD_KEY);
    if let Some(row) = rows.iter().find(|row| key(row) == name) {
        return Ok(key(row));
    }
    let named: Vec<String> =
        rows.iter().filter(|row| text(row, attribute::SERVICE_NAME) == name).map(key).collect();
    match named.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::usage(format!(
            "no service is called `{name}`; `sonde services` lists those that were seen"
        ))),
        several => Err(Failure::usage(format!(
            "{} services are called `{name}`; use the key of one:\n  {}",
            several.len(),
            several.join("\n  ")
        ))),
    }
}

/// Waits until services have left the state `pending`, and gives their rows as they are then.
#[expect(
    clippy::disallowed_methods,
    reason = "this loop waits for a person's wish and reads the clock"
)]
fn in_effect(
    api: &Api,
    keys: &[String],
    level: &str,
    wait: Duration,
) -> Result<Vec<Value>, Failure> {
    let start = Instant::now();
    loop {
        let listed = rows(api)?;
        let row = |key: &String| {
            let row = listed.iter().find(|row| text(row, attribute::WORKLOAD_KEY) == *key);
            row.cloned().context(
                "cannot see whether it is in effect: the service is no longer listed; `sonde \
                 services` lists those that are",
            )
        };
        let found = keys.iter().map(row).collect::<anyhow::Result<Vec<Value>>>()?;
        let is_settled = |row: &Value| {
            text(row, attribute::CAPTURE_DESIRED) == level
                && text(row, attribute::CAPTURE_STATE) != "pending"
        };
        if found.iter().all(is_settled) || start.elapsed() >= wait {
            return Ok(found);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A path segment that holds any text (RFC 3986 section 2.1).
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, key: &str) -> Value {
        json!({ attribute::SERVICE_NAME: name, attribute::WORKLOAD_KEY: key })
    }

    #[test]
    fn a_key_wins_over_a_name_and_two_of_one_name_are_told_apart() {
        let rows = [row("a", "k1"), row("a", "k2"), row("k1", "k3")];
        assert_eq!(key_of(&rows, "k1").unwrap(), "k1");
        let message = key_of(&rows, "a").unwrap_err().message().unwrap();
        assert!(message.contains("k1") && message.contains("k2"), "{message}");
        assert!(key_of(&rows, "b").is_err());
    }

    #[test]
    fn a_key_fits_in_one_path_segment() {
        assert_eq!(percent_encoded("h/process:ä b"), "h%2Fprocess%3A%C3%A4%20b");
    }
}
