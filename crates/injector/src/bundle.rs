//! The bundle that goes into programs: embedded, laid down in a directory, and checked there.
//!
//! `agents/python/README.md` says what is in it and how it is made.

mod archive;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

#[cfg(has_bundle)]
static EMBEDDED: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../agents/python/dist/python.tar.gz"));
#[cfg(not(has_bundle))]
static EMBEDDED: &[u8] = &[];

/// Name of the file that says what else there is.
const MANIFEST: &str = "manifest.json";
/// Letters of the identity in the name of a directory.
const SHOWN: usize = 12;

/// What is in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Language runtime that it is for, such as `cpython`.
    pub runtime: String,
    /// Versions of the runtime that it works with, such as `3.11`, the oldest first.
    pub pythons: Vec<String>,
    /// The packages of others.
    pub packages: Vec<Package>,
    /// Each file but the manifest.
    pub files: BTreeMap<String, File>,
}

/// A package as it was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence, as SPDX has it.
    pub licence: String,
    /// SHA-256 of the wheel, in hexadecimal.
    pub sha256: String,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its size, in bytes.
    pub bytes: u64,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

/// A bundle that is embedded in this program.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// What is in it.
    pub manifest: Manifest,
    /// SHA-256 of the manifest, in hexadecimal: which bundle it is.
    pub identity: String,
    files: BTreeMap<String, Vec<u8>>,
}

impl Bundle {
    /// The bundle in this program; nothing where it was built without one.
    ///
    /// # Errors
    ///
    /// When what is embedded is no bundle.
    pub fn embedded() -> io::Result<Option<Self>> {
        if EMBEDDED.is_empty() {
            return Ok(None);
        }
        Self::read(EMBEDDED).map(Some)
    }

    fn read(packed: &[u8]) -> io::Result<Self> {
        let files = archive::read(packed)?;
        let text = files.get(MANIFEST).ok_or_else(|| wrong("there is no manifest in it"))?;
        let manifest: Manifest = serde_json::from_slice(text)?;
        Ok(Self { manifest, identity: digest(text), files })
    }

    /// Name of its directory: bundles of different content stand beside each other.
    pub fn directory_name(&self) -> String {
        let shown = self.identity.get(..SHOWN).unwrap_or(&self.identity);
        format!("{}-{shown}", self.manifest.runtime)
    }

    /// Lays it down below `parent`, unless it is there, whole; gives its directory.
    ///
    /// Everyone may read it and nobody may write it. It appears under its name only when it is
    /// complete; a directory of this name that differs is replaced.
    fn lay_down(&self, parent: &Path) -> io::Result<PathBuf> {
        let target = parent.join(self.directory_name());
        if differences(&target, Some(&self.identity)).is_ok_and(|found| found.is_empty()) {
            return Ok(target);
        }
        let unfinished = parent.join(format!(".{}-{}", self.directory_name(), std::process::id()));
        remove(&unfinished)?;
        self.write(&unfinished)?;
        let old = parent.join(format!(".old-{}-{}", self.directory_name(), std::process::id()));
        match fs::rename(&target, &old) {
            // An overlay does not move a directory that its lower layer has, too.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => remove(&target)?,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&unfinished, &target)?;
        remove(&old)?;
        Ok(target)
    }

    /// Lays it down beside `link`, and makes that name lead to it; gives its directory.
    ///
    /// A program that was started with another bundle goes on with that one, which stays.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written, or the name is taken by something else.
    pub fn install(&self, link: &Path) -> io::Result<PathBuf> {
        let parent = link.parent().ok_or_else(|| wrong("the place for it has no parent"))?;
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        let directory = self.lay_down(parent)?;
        let name = self.directory_name();
        if fs::read_link(link).is_ok_and(|to| to == Path::new(&name)) {
            return Ok(directory);
        }
        if fs::symlink_metadata(link).is_ok_and(|there| !there.is_symlink()) {
            let text = format!("{} is in the way; remove it", link.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let new = parent.join(format!(".link-{}", std::process::id()));
        std::os::unix::fs::symlink(&name, &new)?;
        fs::rename(&new, link)?;
        Ok(directory)
    }

    fn write(&self, directory: &Path) -> io::Result<()> {
        for (path, content) in &self.files {
            let file = directory.join(path);
            if let Some(parent) = file.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
            }
            let mut out =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o444).open(&file)?;
            out.write_all(content)?;
            // Whatever the mask of this process is.
            out.set_permissions(fs::Permissions::from_mode(0o444))?;
        }
        for_each_directory(directory, &mut |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        })
    }
}

/// What differs in a bundle that was laid down: from `identity`, where one is given, and from its
/// own manifest. What Python itself wrote beside the bootstrap, where it runs as the owner, is none.
///
/// # Errors
///
/// When there is no bundle, or it cannot be read.
pub fn differences(directory: &Path, identity: Option<&str>) -> io::Result<Vec<String>> {
    let text = fs::read(directory.join(MANIFEST))?;
    let mut found = Vec::new();
    if identity.is_some_and(|identity| identity != digest(&text)) {
        found.push(format!("{MANIFEST} is that of another bundle"));
    }
    let manifest: Manifest = serde_json::from_slice(&text)?;
    let mut present = Vec::new();
    list(directory, directory, &mut present)?;
    for path in &present {
        if path != MANIFEST && !manifest.files.contains_key(path) && !is_written_by_python(path) {
            found.push(format!("{path} does not belong there"));
        }
    }
    for (path, file) in &manifest.files {
        match fs::read(directory.join(path)) {
            Ok(content) if digest(&content) == file.sha256 => {}
            Ok(_) => found.push(format!("{path} was changed")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                found.push(format!("{path} is missing"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// What Python writes beside the bootstrap, where it may: before 3 in the directory itself.
fn is_written_by_python(path: &str) -> bool {
    path.starts_with("bootstrap/__pycache__/") || path == "bootstrap/sitecustomize.pyc"
}

/// Paths of all files below a directory, with `/`; links are files.
fn list(top: &Path, directory: &Path, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(top, &entry.path(), found)?;
        } else if let Ok(path) = entry.path().strip_prefix(top) {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(())
}

fn for_each_directory(
    directory: &Path,
    act: &mut impl FnMut(&Path) -> io::Result<()>,
) -> io::Result<()> {
    act(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            for_each_directory(&entry.path(), act)?;
        }
    }
    Ok(())
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cannot read the bundle: {what}"))
}

#[cfg(test)]
mod tests;
