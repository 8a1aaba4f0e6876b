//! `sonde doctor`: what this kernel and this user allow, and what each missing piece costs.

use crate::api::Api;
use crate::cli::{Doctor, Output};
use crate::failure::Failure;
use crate::table::plain;
use contract::doctor::{Fact, Standing};
use serde_json::{Value, json};
use std::io::Write as _;

/// Prints the facts; ends with code 77 when network capture cannot work here.
///
/// A running controller knows best, since it has tried; without one the machine is probed now, with
/// the rights of the user who asks.
pub(crate) fn run(options: &Doctor) -> Result<(), Failure> {
    let facts = match running(options)? {
        Some(facts) => facts,
        None => controller::facts(&controller::Config::new("", "")),
    };
    let mut out = std::io::stdout().lock();
    for fact in &facts {
        match options.format.output {
            Output::Json => writeln!(out, "{}", row(fact))?,
            Output::Table => print(&mut out, fact)?,
        }
    }
    if facts.iter().any(|fact| fact.standing == Standing::Missing) {
        return Err(Failure::Said(77));
    }
    Ok(())
}

/// Facts that the controllers of the dashboard that is asked have reported; `None` when no Sonde
/// runs here and none elsewhere is named.
fn running(options: &Doctor) -> Result<Option<Vec<Fact>>, Failure> {
    let is_elsewhere = options.target.remote.dashboard.is_some();
    let api = match Api::open(&options.target) {
        Ok(api) => api,
        Err(error) if is_elsewhere => return Err(error),
        Err(_) => return Ok(None),
    };
    let status = match api.get("/api/v1/status", &[]) {
        Ok(status) => status,
        Err(error) if is_elsewhere => return Err(error),
        Err(error) => {
            tracing::debug!(error = ?error.message(), "no running Sonde answers; probing the machine");
            return Ok(None);
        }
    };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let instances = status.get("instances").and_then(Value::as_array).cloned().unwrap_or_default();
    let facts: Vec<Fact> = instances
        .iter()
        .filter(|instance| is_elsewhere || is_live_here(instance, host.trim()))
        .flat_map(|instance| {
            instance.get("doctor").and_then(Value::as_array).cloned().unwrap_or_default()
        })
        .filter_map(|fact| serde_json::from_value(fact).ok())
        .collect();
    Ok(Some(facts).filter(|facts| !facts.is_empty()))
}

fn is_live_here(instance: &Value, host: &str) -> bool {
    let is_recorded = instance.get("recorded").and_then(Value::as_bool).unwrap_or(false);
    !is_recorded && instance.get("host_name").and_then(Value::as_str) == Some(host)
}

fn row(fact: &Fact) -> Value {
    let mut row = json!({
        "sonde.doctor.name": fact.name,
        "sonde.doctor.standing": fact.standing,
        "sonde.doctor.found": fact.found,
    });
    if !fact.remedy.is_empty() {
        row["sonde.doctor.remedy"] = Value::from(fact.remedy.as_str());
    }
    row
}

fn print(out: &mut impl std::io::Write, fact: &Fact) -> std::io::Result<()> {
    let mark = match fact.standing {
        Standing::Good => "ok     ",
        Standing::Limited => "limited",
        Standing::Missing => "MISSING",
    };
    writeln!(out, "{mark}  {:<18} {}", plain(&fact.name), plain(&fact.found))?;
    if !fact.remedy.is_empty() {
        writeln!(out, "{:27} → {}", "", plain(&fact.remedy))?;
    }
    Ok(())
}
