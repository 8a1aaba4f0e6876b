//! Who may use whom: the table of ARCHITECTURE.md against `cargo metadata`.

use super::{none, root};
use serde_json::Value;
use std::process::Command;

/// Our crates, and which of our crates each may use. Arrows point down only.
const MAY_USE: &[(&str, &[&str])] = &[
    ("contract", &[]),
    ("wire", &[]),
    ("capture", &[]),
    ("genai", &["wire"]),
    ("workloads", &["contract"]),
    ("injector", &["contract"]),
    ("storage", &["contract"]),
    ("controller", &["capture", "wire", "genai", "workloads", "injector", "contract"]),
    ("dashboard", &["contract", "genai", "storage"]),
    (
        "sonde",
        &[
            "controller",
            "dashboard",
            "contract",
            "capture",
            "storage",
            "wire",
            "genai",
            "injector",
            "workloads",
        ],
    ),
    ("xtask", &[]),
];

/// Our crates that only tests may use.
const TESTS_ONLY: &[&str] = &["testkit"];

/// All that the crates without I/O may use from outside: no runtime, no log, no clock.
const PURE: &[(&str, &[&str])] = &[
    ("wire", &["brotli-decompressor", "flate2", "memchr", "ruzstd", "thiserror"]),
    ("genai", &["httpdate", "memchr"]),
    ("contract", &["serde", "serde_json", "utoipa"]),
];

/// Crates that must not be in the tree, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "rustls with ring is our one TLS library"),
    ("aws-lc-sys", "ring is our one provider; this one needs cmake and minutes to build"),
    ("native-tls", "rustls with ring is our one TLS library"),
];

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Names of the dependencies of a package: those that are released, and those of tests alone.
fn dependencies(package: &Value) -> (Vec<String>, Vec<String>) {
    let all = package["dependencies"].as_array().unwrap();
    let (tests, released): (Vec<_>, Vec<_>) = all.iter().partition(|one| one["kind"] == "dev");
    let names = |list: Vec<&Value>| {
        list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    (names(released), names(tests))
}

fn is_ours(name: &str) -> bool {
    MAY_USE.iter().any(|(ours, _)| *ours == name) || TESTS_ONLY.contains(&name)
}

fn complaints(name: &str, released: &[String], tests: &[String]) -> Vec<String> {
    let Some((_, allowed)) = MAY_USE.iter().find(|(ours, _)| *ours == name) else {
        if TESTS_ONLY.contains(&name) {
            return Vec::new();
        }
        return vec![format!("`{name}` is not in MAY_USE; add it there and to ARCHITECTURE.md")];
    };
    let edge = |used: &&String| is_ours(used) && !allowed.contains(&used.as_str());
    let mut found: Vec<String> = released
        .iter()
        .filter(edge)
        .chain(tests.iter().filter(edge).filter(|used| !TESTS_ONLY.contains(&used.as_str())))
        .map(|used| format!("`{name}` must not use `{used}`; see the table in ARCHITECTURE.md"))
        .collect();
    if let Some((_, outside)) = PURE.iter().find(|(pure, _)| *pure == name) {
        found.extend(
            released
                .iter()
                .filter(|used| !is_ours(used) && !outside.contains(&used.as_str()))
                .map(|used| format!("`{name}` must not use the crate `{used}`: it has no I/O")),
        );
    }
    found
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let found: Vec<String> = packages()
        .iter()
        .flat_map(|package| {
            let (released, tests) = dependencies(package);
            complaints(package["name"].as_str().unwrap(), &released, &tests)
        })
        .collect();
    none(&found);
}

#[test]
fn a_forbidden_edge_is_seen() {
    let uses = |name: &str, used: &str| complaints(name, &[used.to_owned()], &[]).len();
    assert_eq!(uses("wire", "genai"), 1);
    assert_eq!(uses("genai", "wire"), 0);
    assert_eq!(uses("wire", "tracing"), 1);
    assert_eq!(uses("dashboard", "testkit"), 1);
    assert_eq!(complaints("dashboard", &[], &["testkit".to_owned()]).len(), 0);
    assert_eq!(uses("utils", "serde"), 1);
}

#[test]
fn the_table_of_architecture_md_is_this_one() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut found = Vec::new();
    for (name, allowed) in MAY_USE.iter().filter(|(name, _)| !["sonde", "xtask"].contains(name)) {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let Some(cell) = row.and_then(|row| row.split('|').nth(3)) else {
            found.push(format!("ARCHITECTURE.md has no row for `{name}`"));
            continue;
        };
        let mut said: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        let mut wanted = allowed.to_vec();
        said.sort_unstable();
        wanted.sort_unstable();
        if said != wanted {
            found.push(format!("`{name}` may use {wanted:?} here, {said:?} in ARCHITECTURE.md"));
        }
    }
    none(&found);
}

#[test]
fn no_banned_crate_is_in_the_lock() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let found: Vec<String> = BANNED
        .iter()
        .filter(|(name, _)| lock.lines().any(|line| line == format!("name = \"{name}\"")))
        .map(|(name, why)| format!("`{name}` is in Cargo.lock: {why} (cargo tree -i {name})"))
        .collect();
    none(&found);
}
