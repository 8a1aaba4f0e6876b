//! What Sonde is made of besides itself: every dependency has a line that says what it is for, and
//! how many crates only it brings; and their licences and sources are as `deny.toml` has them, also where
//! `cargo deny` is not installed (`edges.rs` holds what is banned).

use super::{none, root};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The crates of a build, by their ids in `cargo metadata`.
struct Tree {
    ours: BTreeSet<String>,
    crates: BTreeMap<String, Crate>,
    uses: BTreeMap<String, Vec<String>>,
}

struct Crate {
    name: String,
    /// As SPDX has it; empty where the crate says none.
    licence: String,
    /// Empty of our own.
    source: String,
}

impl Tree {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let uses = |node: &Value| list(&node["deps"]).iter().map(|one| text(&one["pkg"])).collect();
        Self {
            ours: list(&all["workspace_members"]).iter().map(text).collect(),
            crates: list(&all["packages"])
                .iter()
                .map(|package| {
                    let or_none = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
                    let [name, licence, source] = ["name", "license", "source"].map(or_none);
                    (text(&package["id"]), Crate { name, licence, source })
                })
                .collect(),
            uses: list(&all["resolve"]["nodes"])
                .iter()
                .map(|node| (text(&node["id"]), uses(node)))
                .collect(),
        }
    }

    /// How many crates of others are in the tree when one is not.
    fn len_without(&self, left_out: Option<&str>) -> usize {
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<&String> = self.ours.iter().collect();
        while let Some(id) = waiting.pop() {
            if Some(id.as_str()) != left_out && seen.insert(id) {
                waiting.extend(&self.uses[id]);
            }
        }
        seen.len() - self.ours.len()
    }

    /// The crates that ours use, by name.
    fn direct(&self) -> BTreeMap<&str, &str> {
        let used = self.ours.iter().flat_map(|id| &self.uses[id]);
        used.filter(|id| !self.ours.contains(*id))
            .map(|id| (self.crates[id].name.as_str(), id.as_str()))
            .collect()
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The part of CONTRIBUTING.md, and the first and last cell of each line of its table.
fn told() -> (String, BTreeMap<String, String>) {
    let guide = read("CONTRIBUTING.md");
    let part = guide.split("## Dependencies").nth(1).unwrap().split("\n## ").next().unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split(['`', '|']).map(str::trim).collect();
        Some(((*cells.first()?).to_owned(), (*cells.get(cells.len().checked_sub(2)?)?).to_owned()))
    };
    (part.to_owned(), part.lines().filter_map(row).collect())
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let manifest = read("Cargo.toml");
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let of_line = |line: &str| {
        let (name, version) = line.split_once('=')?;
        let is_name = !name.starts_with('#') && !version.contains("path =");
        is_name.then(|| name.trim().to_owned())
    };
    let used: BTreeSet<String> = section.lines().filter_map(of_line).collect();
    assert!(used.len() > 20, "the list of dependencies was not found");
    let said: BTreeSet<String> = told().1.into_keys().collect();
    let missing =
        used.difference(&said).map(|name| format!("CONTRIBUTING.md: say what {name} is for"));
    let gone =
        said.difference(&used).map(|name| format!("CONTRIBUTING.md: {name} is no longer used"));
    none(&missing.chain(gone).collect::<Vec<_>>());
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "the crates of x86-64 need not be on the disk")]
fn every_dependency_says_how_many_crates_only_it_brings() {
    let tree = Tree::read();
    let all = tree.len_without(None);
    let (part, table) = told();
    let mut found = Vec::new();
    if !part.contains(&format!("{all} in all")) {
        found.push(format!("CONTRIBUTING.md: {all} crates in all"));
    }
    for (name, id) in tree.direct() {
        let alone = (all - tree.len_without(Some(id))).to_string();
        if table.get(name).is_some_and(|said| *said != alone) {
            found.push(format!("CONTRIBUTING.md: {name} alone brings {alone} crates"));
        }
    }
    none(&found);
}

#[test]
fn licences_and_sources_are_as_deny_toml_has_them() {
    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
    let file = read("deny.toml");
    let list = file.split("\nallow = [").nth(1).unwrap().split(']').next().unwrap();
    // Every second piece is between quotes.
    let allowed: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    let is_allowed = |licence: &str| {
        // Of each part one alternative; more than SPDX asks for where there are no brackets.
        let licence = licence.replace('/', " OR ").replace(['(', ')'], "");
        let mut parts = licence.split(" AND ");
        parts.all(|part| part.split(" OR ").any(|one| allowed.contains(&one.trim())))
    };
    assert!(is_allowed("(MIT OR GPL-3.0) AND Unicode-3.0") && !is_allowed("MIT AND GPL-3.0"));
    let tree = Tree::read();
    let others = tree.uses.keys().filter(|id| !tree.ours.contains(*id)).map(|id| &tree.crates[id]);
    let mut found = Vec::new();
    for Crate { name, licence, source } in others {
        if !is_allowed(licence) {
            found.push(format!(
                "{name} has the licence \"{licence}\", which deny.toml does not allow"
            ));
        }
        if source != CRATES_IO {
            found.push(format!("{name} is from \"{source}\", and not from crates.io"));
        }
    }
    none(&found);
}
