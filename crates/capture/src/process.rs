//! What `/proc` says of one process: when it started, and which code it maps.
//!
//! Only what attaching needs; naming processes is the crate `workloads`' part.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use crate::event::ProcessId;

/// A mapping of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// First address.
    pub(crate) start: u64,
    /// The address after the last.
    pub(crate) end: u64,
    /// Path, as the process sees it; it may be deleted by now.
    pub(crate) path: PathBuf,
}

/// The identity of a running process.
pub(crate) fn identity(pid: u32) -> Option<ProcessId> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    // Field 3 was the state; field 22 is the start.
    Some(ProcessId::from_ticks(pid, fields.nth(18)?.parse().ok()?))
}

/// Every file that the process maps as code, each once; TLS libraries by name come first.
pub(crate) fn mappings(pid: u32) -> io::Result<Vec<Mapping>> {
    let text = fs::read(format!("/proc/{pid}/maps"))?;
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        if let Some(mapping) = parse(line)
            && !mappings.iter().any(|known| known.path == mapping.path)
        {
            mappings.push(mapping);
        }
    }
    mappings.sort_by_key(|mapping| !named_like_tls(mapping));
    Ok(mappings)
}

fn named_like_tls(mapping: &Mapping) -> bool {
    mapping.path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"libssl"))
}

/// Reads a line of `/proc/PID/maps`: `start-end rwxp offset major:minor inode path`.
fn parse(line: &[u8]) -> Option<Mapping> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    if fields.next()?.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let path = fields.nth(3)?.trim_start();
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    if !path.starts_with('/') {
        return None;
    }
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        path: PathBuf::from(path),
    })
}

/// Opens the mapped file itself: in the process's own mount namespace, and even when it is
/// deleted or replaced. The path is the second choice, where the kernel reserves
/// `map_files` for a capability that we lack.
pub(crate) fn open(pid: u32, mapping: &Mapping) -> io::Result<File> {
    let file = File::open(format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end))
        .or_else(|_| File::open(format!("/proc/{pid}/root{}", mapping.path.display())))?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let pid = std::process::id();
        let identity = identity(pid).unwrap();
        assert_eq!(identity.pid, pid);
        assert!(identity.start_time > 0);
        let own = std::env::current_exe().unwrap();
        let mappings = mappings(pid).unwrap();
        let mapping = mappings.iter().find(|mapping| mapping.path == own).unwrap();
        open(pid, mapping).unwrap();
    }

    #[test]
    fn code_is_told_from_data_and_from_memory_without_a_file() {
        let code = b"7f00-7f10 r-xp 00001000 fe:00 42   /usr/lib/lib ssl.so (deleted)";
        assert_eq!(
            parse(code),
            Some(Mapping { start: 0x7f00, end: 0x7f10, path: "/usr/lib/lib ssl.so".into() })
        );
        assert_eq!(parse(b"7f00-7f10 r--p 00001000 fe:00 42   /usr/lib/libssl.so"), None);
        assert_eq!(parse(b"7f00-7f10 r-xp 00000000 00:00 0    [vdso]"), None);
        assert_eq!(parse(b"7f00-7f10 r-xp 00000000 00:00 0 "), None);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"\xff\xfe"), None);
    }
}
