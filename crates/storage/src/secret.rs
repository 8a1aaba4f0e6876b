//! Secrets: made from the system's random numbers, kept only as keyed hashes.
//!
//! They have 256 random bits, so a fast keyed hash is enough: there is nothing to guess. The key
//! is a file of its own beside the databases; a stolen database alone says nothing.

use crate::error::Error;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The key of the hashes. Its `Debug` says nothing.
pub(crate) struct Pepper([u8; 32]);

impl std::fmt::Debug for Pepper {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Pepper(…)")
    }
}

impl Pepper {
    /// Reads the key from `secret.key`, or makes the file, for its owner alone.
    pub(crate) fn load(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join("secret.key");
        let failed = |doing| {
            let path = path.clone();
            move |source| Error::Directory { doing, path, source }
        };
        let mut key = [0; 32];
        match std::fs::File::open(&path) {
            Ok(mut file) => file.read_exact(&mut key).map_err(failed("read"))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                key = random()?;
                Self(key).save(data_dir)?;
            }
            Err(source) => return Err(failed("read")(source)),
        }
        Ok(Self(key))
    }

    /// Writes the key to a new `secret.key`.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join("secret.key");
        let failed = |doing| {
            let path = path.clone();
            move |source| Error::Directory { doing, path, source }
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("create"))?;
        file.write_all(&self.0).and_then(|()| file.sync_all()).map_err(failed("write"))
    }

    /// The key as hexadecimal digits.
    pub(crate) fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// The key of hexadecimal digits; `None` for anything else.
    pub(crate) fn of_hex(text: &str) -> Option<Self> {
        of_hex(text)?.try_into().ok().map(Self)
    }

    /// The keyed hash of a secret. `purpose` keeps a session from ever being good as a token.
    pub(crate) fn hash(&self, purpose: &str, secret: &str) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(secret.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// A new secret: the prefix and 64 hexadecimal digits.
pub(crate) fn make(prefix: &str) -> Result<String, Error> {
    let random: [u8; 32] = random()?;
    Ok(format!("{prefix}{}", hex(&random)))
}

/// A random number.
pub(crate) fn number() -> Result<u64, Error> {
    let [a, b, c, d, e, f, g, h, ..] = random()?;
    Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Bytes of hexadecimal digits; `None` for anything else.
pub(crate) fn of_hex(text: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(pair).collect()
}

fn random() -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Random(std::io::Error::other(error.to_string())))?;
    Ok(bytes)
}
