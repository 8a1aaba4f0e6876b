//! `sonde agents`: the SDK that this program brings.

use crate::cli::{Agents, AgentsAction};
use crate::config::environment;
use crate::failure::Failure;
use crate::table::{self, Column, text};
use anyhow::Context as _;
use injector::bundle::{self, Bundle};
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};

const COLUMNS: &[Column] = &[
    Column { head: "PACKAGE", right: false, cell: |row| text(row, "name") },
    Column { head: "VERSION", right: false, cell: |row| text(row, "version") },
    Column { head: "LICENCE", right: false, cell: |row| text(row, "licence") },
    Column { head: "RUNTIME", right: false, cell: |row| text(row, "runtime") },
    Column { head: "BUNDLE", right: false, cell: |row| text(row, "bundle") },
];

/// Lists, lays down or checks.
pub(crate) fn run(options: &Agents) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let bundle = bundle()?;
    match &options.action {
        AgentsAction::Build(build) => {
            let directory = install(&bundle, build.place.agent_bundle.as_deref())?;
            writeln!(out, "{}", directory.display())?;
        }
        AgentsAction::List(list) => {
            let runtime = format!(
                "{} {}–{}",
                bundle.manifest.runtime,
                bundle.manifest.pythons.first().map_or("", String::as_str),
                bundle.manifest.pythons.last().map_or("", String::as_str)
            );
            let rows: Vec<_> = bundle
                .manifest
                .packages
                .iter()
                .map(|package| {
                    json!({
                        "name": package.name,
                        "version": package.version,
                        "licence": package.licence,
                        "sha256": package.sha256,
                        "runtime": runtime,
                        "bundle": bundle.directory_name(),
                    })
                })
                .collect();
            table::print(&mut out, list.format.output, COLUMNS, &rows)?;
        }
        AgentsAction::Verify(verify) => {
            let place = place(verify.place.agent_bundle.as_deref())?;
            let found = bundle::differences(&place, Some(&bundle.identity)).with_context(|| {
                format!(
                    "cannot read a bundle in `{}`; `sonde agents build` lays one down",
                    place.display()
                )
            })?;
            if !found.is_empty() {
                return Err(Failure::Failed(anyhow::anyhow!(
                    "`{}` differs from what this program brings; `sonde agents build` puts it \
                     right:\n  {}",
                    place.display(),
                    found.join("\n  ")
                )));
            }
            writeln!(out, "{} is {}, whole", place.display(), bundle.directory_name())?;
        }
    }
    Ok(())
}

/// The bundle in this program.
///
/// # Errors
///
/// Where it was built without one.
pub(crate) fn bundle() -> Result<Bundle, Failure> {
    let found = Bundle::embedded().map_err(anyhow::Error::from)?;
    found.ok_or_else(|| {
        Failure::Missing(
            "cannot find the SDK: this program was built without it; `./dev build` builds it \
             with it"
                .to_owned(),
        )
    })
}

/// Lays it down where the flags say, and gives its directory.
pub(crate) fn install(bundle: &Bundle, named: Option<&Path>) -> Result<PathBuf, Failure> {
    let place = place(named)?;
    bundle
        .install(&place)
        .with_context(|| {
            format!(
                "cannot lay the SDK down in `{}`; name another place by --agent-bundle",
                place.display()
            )
        })
        .map_err(Failure::from)
}

pub(super) fn place(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        return Ok(std::path::absolute(named).map_err(anyhow::Error::from)?);
    }
    if crate::place::is_root() {
        return Ok(PathBuf::from("/usr/lib/sonde/agents/python"));
    }
    environment("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| environment("HOME").map(|home| PathBuf::from(home).join(".local/share")))
        .map(|data| data.join("sonde/agents/python"))
        .ok_or_else(|| {
            Failure::usage(
                "cannot choose a place for the SDK: HOME is not set; name one by --agent-bundle",
            )
        })
}
