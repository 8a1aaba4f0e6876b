//! Reads the archive of a bundle: gzip around a tar of plain files, as our builder writes it.

use super::wrong;
use std::collections::BTreeMap;
use std::io::{self, Read as _};

/// A block of a tar file.
const BLOCK: usize = 512;
/// More than a bundle has, unpacked.
const MAX_BYTES: u64 = 64 << 20;

/// The files, by their path.
pub(super) fn read(packed: &[u8]) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(packed).take(MAX_BYTES).read_to_end(&mut tar)?;
    let mut files = BTreeMap::new();
    let mut rest = tar.as_slice();
    while let Some((head, content)) = rest.split_at_checked(BLOCK) {
        if head.iter().all(|byte| *byte == 0) {
            return Ok(files);
        }
        let entry = Entry::read(head)?;
        let padded = entry.bytes.div_ceil(BLOCK).saturating_mul(BLOCK);
        let whole = content.get(..entry.bytes).ok_or_else(|| wrong("it ends early"))?;
        files.insert(entry.path, whole.to_vec());
        rest = content.get(padded..).ok_or_else(|| wrong("it ends early"))?;
    }
    Err(wrong("it ends early"))
}

struct Entry {
    path: String,
    bytes: usize,
}

impl Entry {
    fn read(head: &[u8]) -> io::Result<Self> {
        let text = |from: usize, length: usize| {
            let field = head.get(from..from + length).unwrap_or_default();
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            String::from_utf8_lossy(field.get(..end).unwrap_or_default()).trim().to_owned()
        };
        let (name, kind, prefix) = (text(0, 100), text(156, 1), text(345, 155));
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let is_inside = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if kind != "0" || !is_inside {
            return Err(wrong("it holds something else than files below it"));
        }
        let bytes = usize::from_str_radix(&text(124, 12), 8)
            .map_err(|error| wrong(&format!("a size in it is no number ({error})")))?;
        Ok(Self { path, bytes })
    }
}
