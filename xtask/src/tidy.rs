//! The checks, one file for each subject, and the walk over the repository that they share.
//!
//! A check collects everything that is wrong before it fails, and says what to do.

mod dependencies;
mod documents;
mod edges;
mod fixtures;
mod sources;
mod threads;

use std::path::{Path, PathBuf};

/// Directories that hold nothing we wrote.
const NOT_OURS: &[&str] = &["node_modules", "dist", "out", "__pycache__"];

/// Top directory of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// One file of the repository.
struct File {
    /// Path from the top, with `/`.
    path: String,
    /// Content; bytes that are no UTF-8 are replaced.
    text: String,
}

/// Reads all our files below `directory` with one of these extensions, in order of their paths.
fn files(directory: &str, extensions: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    walk(&root().join(directory), &mut found);
    found.sort();
    found
        .into_iter()
        .filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            extensions.contains(&extension.unwrap_or_default())
        })
        .map(|path| File {
            text: String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned(),
            path: path.strip_prefix(root()).unwrap().to_string_lossy().into_owned(),
        })
        .collect()
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_symlink() || name.starts_with('.') || name.starts_with("target") {
            continue;
        }
        if path.is_dir() {
            if !NOT_OURS.contains(&name.as_str()) {
                walk(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

/// Fails with all complaints at once.
#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}
