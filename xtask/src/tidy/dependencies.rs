//! What Sonde is made of besides itself: every dependency has a line that says what it is for.

use super::{none, root};
use std::collections::BTreeSet;

#[test]
fn every_dependency_says_what_it_is_for() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
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
    let guide = read("CONTRIBUTING.md");
    let table = guide.split("## Dependencies").nth(1).unwrap().split("\n## ").next().unwrap();
    let row = |line: &str| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned());
    let said: BTreeSet<String> = table.lines().filter_map(row).collect();
    let missing =
        used.difference(&said).map(|name| format!("CONTRIBUTING.md: say what {name} is for"));
    let gone =
        said.difference(&used).map(|name| format!("CONTRIBUTING.md: {name} is no longer used"));
    none(&missing.chain(gone).collect::<Vec<_>>());
}
