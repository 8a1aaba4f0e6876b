//! The libraries that encrypt a process's traffic, and how much of that can be read.
//!
//! What can be read today: every mapped file, and the executable, that has OpenSSL's functions under
//! their names (`SSL_read`, `SSL_write` and their kin), which is OpenSSL, `LibreSSL` and BoringSSL where
//! nobody removed the names. What cannot is said with its reason.

use crate::binary::{Binaries, Binary, Mark};
use crate::process::Process;
use contract::workload::{Coverage, Extent, Runtime};
use std::fs::File;
use std::sync::Arc;

/// Files looked into for functions of TLS; programs map a handful with such names.
const MAX_CANDIDATES: usize = 32;

/// Parts of the names of files that may hold a TLS library.
const CANDIDATES: [&str; 10] = [
    "boringssl",
    "conscrypt",
    "crypto",
    "cronet",
    "curl",
    "cygrpc",
    "grpc",
    "ssl",
    "tcnative",
    "_rust",
];

/// Libraries that are told by their names, and cannot be read.
const UNREADABLE: [(&str, &str); 5] = [
    ("libgnutls.so", "GnuTLS"),
    ("libnss3.so", "NSS"),
    ("libmbedtls.so", "Mbed TLS"),
    ("libwolfssl.so", "wolfSSL"),
    ("libs2n.so", "s2n-tls"),
];

/// The TLS of a process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// What is shown: `libssl 3.0.17`, `rustls 0.23.46 in the executable`.
    pub(crate) library: Option<String>,
    pub(crate) coverage: Option<Coverage>,
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    readable: Vec<String>,
    /// The library, and why it cannot be read.
    unreadable: Vec<(String, String)>,
}

/// Looks at what a process maps and runs.
pub(crate) fn of(process: &Process, runtime: Option<&Runtime>, binaries: &mut Binaries) -> Tls {
    let mut found = Found::default();
    in_files(process, binaries, &mut found);
    if let Some(binary) = process.binary(binaries) {
        in_executable(&binary, runtime, &mut found);
    }
    if runtime.is_some_and(|runtime| runtime.name == "openjdk") {
        let reason = "It is a Java program, whose own TLS cannot be read yet.";
        found.unreadable.push(("Java's own TLS".to_owned(), reason.to_owned()));
    }
    let first = found.readable.first().or(found.unreadable.first().map(|(name, _)| name));
    Tls { library: first.cloned(), coverage: Some(coverage(&found)) }
}

fn coverage(found: &Found) -> Coverage {
    let reason = found.unreadable.first().map(|(_, reason)| reason.as_str());
    let (extent, reason) = match (found.readable.first(), reason) {
        (Some(_), None) => (Extent::Covered, String::new()),
        (Some(read), Some(reason)) => {
            (Extent::Partly, format!("What passes through {read} is read. {reason}"))
        }
        (None, Some(reason)) => (Extent::NotYet, reason.to_owned()),
        (None, None) => (
            Extent::NotYet,
            "It has loaded no TLS library that can be read so far; capture begins by itself when it does."
                .to_owned(),
        ),
    };
    Coverage { extent, reason }
}

fn in_files(process: &Process, binaries: &mut Binaries, found: &mut Found) {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let mapped = process.mapped.iter().filter(|path| **path != process.executable);
    let is_candidate = |path: &&String| {
        let name = name(path).to_ascii_lowercase();
        CANDIDATES.iter().any(|part| name.contains(part))
    };
    for path in mapped.clone().filter(is_candidate).take(MAX_CANDIDATES) {
        let file = name(path);
        let binary = process.mapped_binary(path, binaries);
        match binary {
            Some(binary) if binary.has_ssl => {
                let version = of_crypto(process, path, binaries);
                found
                    .readable
                    .push(named(&file, version.or_else(|| binary.version(Mark::OpenSsl))));
            }
            // The file is gone, or not ours to open: its name has to do.
            None if is_libssl(&file) => found.readable.push(file),
            Some(binary) if binary.marked(Mark::BoringSsl) => found.unreadable.push((
                format!("BoringSSL in {file}"),
                format!("{file} carries a BoringSSL without names, which cannot be read yet."),
            )),
            _ => {}
        }
    }
    for path in mapped {
        let file = name(path);
        let known = UNREADABLE.iter().find(|(prefix, _)| file.starts_with(prefix));
        if let Some((_, library)) = known {
            found.unreadable.push((
                file.clone(),
                format!("It has loaded {library} ({file}), which cannot be read yet."),
            ));
        }
    }
}

fn in_executable(binary: &Arc<Binary>, runtime: Option<&Runtime>, found: &mut Found) {
    let within = |library: String| format!("{library} in the executable");
    let versioned = |library: &str, version: Option<String>| match version {
        Some(version) => format!("{library} {version}"),
        None => library.to_owned(),
    };
    if binary.has_ssl && found.readable.is_empty() {
        let library = match binary.version(Mark::OpenSsl) {
            Some(version) => format!("OpenSSL {version}"),
            None if binary.marked(Mark::BoringSsl) => "BoringSSL".to_owned(),
            None => "OpenSSL".to_owned(),
        };
        found.readable.push(within(library));
    } else if !binary.has_ssl && binary.marked(Mark::BoringSsl) {
        let reason = "It carries a BoringSSL without names, which cannot be read yet.";
        found.unreadable.push((within("BoringSSL".to_owned()), reason.to_owned()));
    } else if !binary.has_ssl
        && found.readable.is_empty()
        && let Some(version) = binary.version(Mark::OpenSsl)
    {
        let library = format!("OpenSSL {version}");
        let reason = format!("It carries an {library} without names, which cannot be read yet.");
        found.unreadable.push((within(library), reason));
    }
    if binary.marked(Mark::Rustls) {
        let library = versioned("rustls", binary.version(Mark::Rustls));
        let reason = format!("It carries {library}, which cannot be read yet.");
        found.unreadable.push((within(library), reason));
    }
    let is_go = runtime.is_some_and(|runtime| runtime.name == "go");
    if is_go && binary.go.as_ref().is_some_and(|go| go.has_tls) {
        let reason = "It is a Go program, whose own TLS cannot be read yet.";
        found.unreadable.push(("Go's own TLS".to_owned(), reason.to_owned()));
    }
}

/// The version of the libcrypto that came with a libssl, where the text stands.
fn of_crypto(process: &Process, ssl: &str, binaries: &mut Binaries) -> Option<String> {
    let directory = ssl.rsplit_once('/').map_or("", |(directory, _)| directory);
    let crypto = process.mapped.iter().find(|path| {
        path.strip_prefix(directory).is_some_and(|name| name.starts_with("/libcrypto"))
    })?;
    process.mapped_binary(crypto, binaries)?.version(Mark::OpenSsl)
}

fn named(file: &str, version: Option<String>) -> String {
    let name = if is_libssl(file) { "libssl" } else { file };
    match version {
        Some(version) => format!("{name} {version}"),
        None => file.to_owned(),
    }
}

/// `libssl.so.3`, `libssl.so.1.1`, and `libssl-<hash>.so.3` of Python wheels; NSS's `libssl3.so` is
/// another library.
fn is_libssl(name: &str) -> bool {
    name.strip_prefix("libssl").is_some_and(|rest| {
        rest.starts_with(".so") || (rest.starts_with('-') && rest.contains(".so"))
    })
}

impl Process {
    /// What the executable says.
    pub(crate) fn binary(&self, binaries: &mut Binaries) -> Option<Arc<Binary>> {
        binaries.of(&File::open(&self.executable_link).ok()?)
    }

    /// What a mapped file says, as the process sees it.
    pub(crate) fn mapped_binary(&self, path: &str, binaries: &mut Binaries) -> Option<Arc<Binary>> {
        binaries.of(&self.files.as_ref()?.open(path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssl_is_told_from_libraries_with_like_names() {
        assert!(
            is_libssl("libssl.so.3")
                && is_libssl("libssl.so.1.1")
                && is_libssl("libssl-5f3c8a1d.so.1.1")
        );
        assert!(
            !is_libssl("libssl3.so") && !is_libssl("libsslcommon.so") && !is_libssl("libssl-x.txt")
        );
    }

    #[test]
    fn coverage_says_why_when_it_is_not_whole() {
        let found = |readable: &[&str], unreadable: &[&str]| Found {
            readable: readable.iter().map(|name| (*name).to_owned()).collect(),
            unreadable: unreadable
                .iter()
                .map(|name| ((*name).to_owned(), format!("No {name}.")))
                .collect(),
        };
        let extent = |found: &Found| (coverage(found).extent, coverage(found).reason);
        assert_eq!(extent(&found(&["libssl"], &[])), (Extent::Covered, String::new()));
        let (partly, reason) = extent(&found(&["libssl"], &["GnuTLS"]));
        assert_eq!((partly, reason.contains("No GnuTLS.")), (Extent::Partly, true));
        assert_eq!(extent(&found(&[], &["rustls"])), (Extent::NotYet, "No rustls.".to_owned()));
        assert_eq!(extent(&found(&[], &[])).0, Extent::NotYet);
    }
}
