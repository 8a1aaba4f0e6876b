//! Documents that a newcomer follows: every path they name exists.

use super::{files, none, root};

/// Documents whose paths are checked.
const MAPS: &[&str] = &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

/// Paths in backticks, as far as they are known: up to the first placeholder or pattern.
fn paths(text: &str) -> Vec<String> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            found.extend(line.split('`').skip(1).step_by(2).filter_map(path));
        }
    }
    found
}

/// The checkable part of a code span, when it is a path of this repository.
fn path(span: &str) -> Option<String> {
    let top = span.split('/').next()?;
    let is_directory_of_ours = span.contains('/') && root().join(top).is_dir() && top != "target";
    let is_file_at_the_top =
        !span.contains('/') && [".md", ".toml", ".lock"].iter().any(|end| span.ends_with(end));
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "/._-<>*".contains(letter);
    if !(is_directory_of_ours || is_file_at_the_top) || !span.chars().all(allowed) {
        return None;
    }
    let known = span.split(['<', '*']).next().unwrap_or_default();
    if known.len() == span.len() {
        return Some(span.to_owned());
    }
    Some(known.rsplit_once('/').map_or(top, |(directory, _)| directory).to_owned())
}

#[test]
fn every_path_on_the_maps_exists() {
    let mut found = Vec::new();
    for map in MAPS {
        let text = std::fs::read_to_string(root().join(map)).unwrap();
        let missing = |path: &String| !root().join(path).exists();
        found.extend(
            paths(&text).into_iter().filter(missing).map(|path| format!("{map}: `{path}` is gone")),
        );
    }
    none(&found);
}

#[test]
fn a_path_is_told_from_other_code() {
    let text = "see `crates/wire/src/lib.rs`, `crates/nowhere/<name>.rs`, `text/event-stream`, \
                `NOTES.md`\n```\n`crates/in/a/block`\n```\n`cargo test -p xtask`";
    assert_eq!(paths(text), ["crates/wire/src/lib.rs", "crates/nowhere", "NOTES.md"]);
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut found = Vec::new();
    for file in files("", &["md"]) {
        let here = root().join(&file.path);
        let folder = here.parent().unwrap();
        for target in file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            if !folder.join(target).exists() {
                found.push(format!("{}: the link to `{target}` leads nowhere", file.path));
            }
        }
    }
    none(&found);
}
