//! Threads have names, and ARCHITECTURE.md lists all of them.

use super::{files, none, root};
use std::collections::BTreeSet;

/// What stands before the name of a thread.
const NAMING: [&str; 4] = ["threads.spawn(\"", "::new().name(\"", "  .name(\"", ".thread_name(\""];

/// Code that is not only of tests, by path.
fn code() -> Vec<(String, String)> {
    let is_test = |path: &str| {
        ["/tests", "tests.rs", "conformance", "stand_in.rs", "benches", "hostile.rs", "xtask"]
            .iter()
            .any(|part| path.contains(part))
    };
    let without_tests =
        |text: &str| text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
    let all = files("crates", &["rs"]).into_iter();
    all.filter(|file| !is_test(&file.path))
        .map(|file| (file.path, without_tests(&file.text)))
        .collect()
}

/// The words in backticks of the first column of the table of threads.
fn listed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = text.split("| thread | does |").nth(1).unwrap();
    // Behind the line of dashes; all of it is within an item of a list.
    let rows = table.lines().skip(1).take_while(|line| line.starts_with("  |"));
    let names = |row: &str| -> Vec<String> {
        // Every second piece is between backticks.
        let cell = row.split('|').nth(1).unwrap_or_default();
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    rows.flat_map(names).collect()
}

#[test]
fn every_thread_has_a_name_that_architecture_md_lists() {
    let mut found = Vec::new();
    let mut named = BTreeSet::new();
    for (path, text) in code() {
        if text.contains("thread::spawn(") {
            found.push(format!("{path}: give the thread a name, with `thread::Builder`"));
        }
        for naming in NAMING {
            // What stands before the first one is no name.
            let names = text.split(naming).skip(1).filter_map(|rest| rest.split('"').next());
            named.extend(names.map(str::to_owned));
        }
    }
    let listed = listed();
    assert!(named.len() > 15, "the names of threads were not found: {named:?}");
    let missing = named.difference(&listed);
    found.extend(missing.map(|name| format!("ARCHITECTURE.md: list the thread `{name}`")));
    let gone = listed.difference(&named);
    found.extend(gone.map(|name| format!("ARCHITECTURE.md: no thread is called `{name}`")));
    none(&found);
}
