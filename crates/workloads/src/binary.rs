//! Versions that programs and libraries carry in their own files.
//!
//! Files are read once and remembered by device, inode and time of change. Reading goes through
//! them in pieces, so that a browser of 200 MB costs time once and never memory.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The largest executables of today have 400 MB, with what they need in the first half.
const MAX_READ: u64 = 256 << 20;

/// Piece that is looked through at once.
const PIECE: usize = 1 << 20;

/// A version is shorter than this.
const MAX_VERSION: usize = 24;

/// A node runs fewer different programs than this; then it is forgotten and read again.
const MAX_REMEMBERED: usize = 1_024;

/// What was found in which file.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    found: HashMap<(u64, u64, i64, &'static [u8]), Option<String>>,
}

impl Versions {
    /// The version that follows `marker` in a file.
    pub(crate) fn after(&mut self, path: &Path, marker: &'static [u8]) -> Option<String> {
        self.remember(path, marker, |file| find(file, marker))
    }

    /// What `read` finds in a file.
    pub(crate) fn remembered(
        &mut self,
        path: &Path,
        read: fn(File) -> Option<String>,
    ) -> Option<String> {
        self.remember(path, b"", read)
    }

    fn remember(
        &mut self,
        path: &Path,
        key: &'static [u8],
        read: impl FnOnce(File) -> Option<String>,
    ) -> Option<String> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        if self.found.len() >= MAX_REMEMBERED {
            self.found.clear();
        }
        let key = (metadata.dev(), metadata.ino(), metadata.mtime(), key);
        self.found.entry(key).or_insert_with(|| read(File::open(path).ok()?)).clone()
    }
}

/// The first version-like text after `marker`: digits and points, perhaps with a letter behind.
fn find(mut file: File, marker: &[u8]) -> Option<String> {
    let mut window = Vec::with_capacity(PIECE + marker.len() + MAX_VERSION);
    let mut seen = 0;
    while seen < MAX_READ {
        let piece = u64::try_from(PIECE).unwrap_or(MAX_READ);
        let length = (&mut file).take(piece).read_to_end(&mut window).ok()?;
        if let Some(version) =
            positions(&window, marker).find_map(|at| version(window.get(at + marker.len()..)?))
        {
            return Some(version);
        }
        if length == 0 {
            return None;
        }
        seen += piece;
        // A marker and its version may lie over the end of a piece.
        let keep = window.len().min(marker.len() + MAX_VERSION);
        window.drain(..window.len() - keep);
    }
    None
}

fn positions<'a>(text: &'a [u8], marker: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = marker.first().copied().unwrap_or_default();
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let at = from + text.get(from..)?.iter().position(|byte| *byte == first)?;
            from = at + 1;
            if text.get(at..).is_some_and(|rest| rest.starts_with(marker)) {
                return Some(at);
            }
        }
    })
}

fn version(text: &[u8]) -> Option<String> {
    let digits = text
        .iter()
        .take(MAX_VERSION)
        .take_while(|byte| byte.is_ascii_digit() || **byte == b'.')
        .count();
    let letter = text.get(digits).is_some_and(u8::is_ascii_lowercase);
    let version = text.get(..digits + usize::from(letter))?;
    let version = std::str::from_utf8(version).ok()?.trim_end_matches('.');
    // `OpenSSL 3.` in a sentence is no version; a version has two points.
    (version.matches('.').count() >= 2).then(|| version.to_owned())
}

/// The version of the Go compiler, from the section `.go.buildinfo` (Go 1.18 and later, where the
/// text stands in the section itself).
pub(crate) fn go_version(mut file: File) -> Option<String> {
    let mut header = [0; 64];
    file.read_exact(&mut header).ok()?;
    // 64-bit, little-endian ELF: what Sonde runs on.
    if !header.starts_with(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        return None;
    }
    let entry_len = usize::from(u16::from_le_bytes(array(&header, 58)?));
    let count = usize::from(u16::from_le_bytes(array(&header, 60)?));
    let names = usize::from(u16::from_le_bytes(array(&header, 62)?));
    if entry_len != 64 || count > 4_096 {
        return None;
    }
    let table = read_at(&mut file, u64::from_le_bytes(array(&header, 40)?), count * entry_len)?;
    let section = |index: usize| {
        let entry = table.get(index * entry_len..(index + 1) * entry_len)?;
        let name = u32::from_le_bytes(array(entry, 0)?);
        Some((name, u64::from_le_bytes(array(entry, 24)?), u64::from_le_bytes(array(entry, 32)?)))
    };
    let (_, offset, length) = section(names)?;
    let names = read_at(
        &mut file,
        offset,
        usize::try_from(length).ok().filter(|length| *length <= 1 << 20)?,
    )?;
    let is_wanted = |name: u32| {
        let at = usize::try_from(name).ok();
        at.and_then(|at| names.get(at..)).is_some_and(|rest| rest.starts_with(b".go.buildinfo\0"))
    };
    let (_, offset, _) = (0..count).filter_map(section).find(|(name, ..)| is_wanted(*name))?;
    let information = read_at(&mut file, offset, 96)?;
    let has_text = information.starts_with(b"\xff Go buildinf:") && information.get(15)? & 2 != 0;
    let length = usize::from(*information.get(32)?);
    let text = std::str::from_utf8(information.get(33..33 + length)?).ok()?;
    let version = text.strip_prefix("go")?.split(' ').next()?;
    (has_text && version.len() <= MAX_VERSION).then(|| version.to_owned())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn read_at(file: &mut File, offset: u64, length: usize) -> Option<Vec<u8>> {
    file.seek(SeekFrom::Start(offset)).ok()?;
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_version_is_found_over_the_end_of_a_piece() {
        for before in [0, PIECE - 4, PIECE - 9, 3 * PIECE + 1] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&vec![b'O'; before]).unwrap();
            file.write_all(b"OpenSSL 3.0.17 1 Jul 2025").unwrap();
            let found = Versions::default().after(file.path(), b"OpenSSL ");
            assert_eq!(found.as_deref(), Some("3.0.17"), "after {before} bytes");
        }
    }

    #[test]
    fn a_word_that_is_no_version_is_passed_over() {
        assert_eq!(version(b"library"), None);
        assert_eq!(version(b"3. See"), None);
        assert_eq!(version(b"1.1.1w  11 Sep").as_deref(), Some("1.1.1w"));
    }

    #[test]
    fn a_file_that_is_no_elf_has_no_go_version() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"\x7fELF\x02\x01").unwrap();
        assert_eq!(Versions::default().remembered(file.path(), go_version), None);
        file.write_all(&[0xff; 200]).unwrap();
        assert_eq!(Versions::default().remembered(file.path(), go_version), None);
    }
}
