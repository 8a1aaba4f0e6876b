//! The parts of ELF files (elf(5)), read in pieces: a file of 200 MB never takes memory.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Piece that is looked through at once.
pub(super) const PIECE: usize = 1 << 20;

/// What may stand behind the end of a piece and belong to it: a marker and its version.
pub(super) const OVERLAP: usize = 128;

/// Sections looked at; real files have under 100.
const MAX_SECTIONS: usize = 4_096;

/// A part of a file that has a name.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Shows a section in pieces that overlap, until `each` has seen enough.
pub(super) fn pieces(
    file: &File,
    section: &Section,
    limit: u64,
    mut each: impl FnMut(&[u8]) -> bool,
) {
    let mut window = Vec::with_capacity(PIECE + OVERLAP);
    let mut at = 0;
    let end = section.length.min(limit);
    while at < end {
        let length = (end - at).min(PIECE as u64);
        let Some(piece) = read_at(file, section.offset.saturating_add(at), length) else { return };
        window.extend_from_slice(&piece);
        if !each(&window) {
            return;
        }
        at += length;
        let keep = window.len().min(OVERLAP);
        window.drain(..window.len() - keep);
    }
}

/// The sections of a little-endian ELF file of 64 bits, which is what Sonde runs on.
pub(super) fn sections(file: &File) -> Option<Vec<Section>> {
    let header = read_at(file, 0, 64)?;
    if !header.starts_with(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        return None;
    }
    let entry = usize::from(u16::from_le_bytes(array(&header, 58)?));
    let count = usize::from(u16::from_le_bytes(array(&header, 60)?));
    let names = usize::from(u16::from_le_bytes(array(&header, 62)?));
    if entry != 64 || count > MAX_SECTIONS {
        // A program without section headers is one all the same.
        return Some(Vec::new());
    }
    let length = u64::try_from(count * entry).ok()?;
    let Some(table) = read_at(file, u64::from_le_bytes(array(&header, 40)?), length) else {
        return Some(Vec::new());
    };
    let place = |index: usize| {
        let entry = table.get(index * entry..(index + 1) * entry)?;
        let name = usize::try_from(u32::from_le_bytes(array(entry, 0)?)).ok()?;
        Some((name, u64::from_le_bytes(array(entry, 24)?), u64::from_le_bytes(array(entry, 32)?)))
    };
    let (_, offset, length) = place(names).unwrap_or_default();
    let names = read_at(file, offset, length.min(1 << 20)).unwrap_or_default();
    let section = |index: usize| {
        let (name, offset, length) = place(index)?;
        let name = names.get(name..)?.split(|byte| *byte == 0).next()?;
        Some(Section { name: String::from_utf8_lossy(name).into_owned(), offset, length })
    };
    Some((0..count).filter_map(section).collect())
}

/// The bytes at a place, as many as a number has.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Bytes of a file, fewer where it ends before; `None` where there are none.
pub(super) fn read_at(file: &File, offset: u64, length: u64) -> Option<Vec<u8>> {
    // Ask the file first, so that a table that claims to be large costs nothing.
    let there = file.metadata().ok()?.len().checked_sub(offset)?;
    let mut bytes = vec![0; usize::try_from(length.min(there)).ok()?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes).filter(|bytes| !bytes.is_empty())
}
