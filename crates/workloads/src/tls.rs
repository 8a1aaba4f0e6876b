//! The library that encrypts a process's traffic, by the files it maps.

use crate::binary::Versions;
use crate::process::Process;

/// What stands before the version in OpenSSL's libcrypto, and in programs that carry it.
const OPENSSL: &[u8] = b"OpenSSL ";

/// The TLS library of a process, with its version where that is known: `libssl 3.0.17`.
///
/// Programs that carry their TLS inside without a shared library are recognised only where the
/// runtime is known to (node); `None` otherwise.
pub(crate) fn library(process: &Process, versions: &mut Versions) -> Option<String> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    if let Some(ssl) = process.mapped.iter().find(|path| is_libssl(&name(path))) {
        // The version's text lies in the libcrypto that came with this libssl.
        let directory = ssl.rsplit_once('/').map_or("", |(directory, _)| directory);
        let crypto = process
            .mapped
            .iter()
            .find(|path| path.starts_with(directory) && name(path).starts_with("libcrypto"));
        let version = crypto.and_then(|path| versions.after(&process.path(path), OPENSSL));
        return Some(match version {
            Some(version) => format!("libssl {version}"),
            None => name(ssl),
        });
    }
    if let Some(gnutls) = process.mapped.iter().find(|path| name(path).starts_with("libgnutls.so"))
    {
        return Some(name(gnutls));
    }
    let carries = matches!(process.executable_name(), "node" | "nodejs");
    let version = carries.then(|| versions.after(&process.executable_link, OPENSSL)).flatten()?;
    Some(format!("OpenSSL {version} in the executable"))
}

/// `libssl.so.3`, `libssl.so.1.1`, and `libssl-<hash>.so.3` of Python wheels; NSS's `libssl3.so` is
/// another library.
fn is_libssl(name: &str) -> bool {
    name.strip_prefix("libssl").is_some_and(|rest| {
        rest.starts_with(".so") || (rest.starts_with('-') && rest.contains(".so"))
    })
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
}
