//! What executables and libraries say about themselves: the symbols they have, the compiler that made
//! them, the versions that they carry.
//!
//! A file is read once and remembered by device, inode, size and time of change. Only its section
//! headers, its tables of names and, where a version is looked for, its constants are read, in pieces,
//! so that a browser of 200 MB costs time once and never memory. The next process that runs the same
//! file costs one `fstat`.

mod elf;

use elf::{OVERLAP, Section, array, pieces, read_at, sections};
use memchr::memmem;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

/// The constants of today's largest executables have 100 MB, with what is looked for in the first half.
const MAX_CONSTANTS: u64 = 96 << 20;

/// Names in the tables of symbols; node's largest has 13 MiB.
const MAX_NAMES: u64 = 64 << 20;

/// A version is shorter than this.
const MAX_VERSION: usize = 24;

/// A node runs fewer different files than this; then they are forgotten and read again.
const MAX_REMEMBERED: usize = 2_048;

/// Symbols that tell what a file is or holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Symbol {
    Node,
    Napi,
    Python,
    PyPy,
    Ruby,
    Php,
    Perl,
    DotNet,
    NativeDotNet,
    CppLibrary,
}

/// A symbol's own name, as it stands between two zeros.
const SYMBOLS: [(Symbol, &[u8]); 10] = [
    (Symbol::Node, b"_ZN4node5Start"),
    (Symbol::Napi, b"\0napi_create_function\0"),
    (Symbol::Python, b"\0Py_BytesMain\0"),
    (Symbol::PyPy, b"\0pypy_main_startup\0"),
    (Symbol::Ruby, b"\0ruby_run_node\0"),
    (Symbol::Php, b"\0php_execute_script\0"),
    (Symbol::Perl, b"\0perl_run\0"),
    (Symbol::DotNet, b"\0DotNetRuntimeInfo\0"),
    (Symbol::NativeDotNet, b"\0DotNetRuntimeDebugHeader\0"),
    (Symbol::CppLibrary, b"libstdc++.so"),
];

/// Texts in a file's constants behind which a version stands, or which are proof without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Node,
    Bun,
    Deno,
    Php,
    OpenSsl,
    BoringSsl,
    Rustls,
    Rust,
}

/// A derivative of OpenSSL under another name is one more row of its mark.
const MARKS: &[(Mark, &[u8])] = &[
    (Mark::Node, b"https://nodejs.org/download/release/v"),
    (Mark::Bun, b"Bun/"),
    (Mark::Deno, b"Deno/"),
    (Mark::Php, b"X-Powered-By: PHP/"),
    (Mark::OpenSsl, b"OpenSSL "),
    (Mark::BoringSsl, b"/boringssl/"),
    (Mark::Rustls, b"/rustls-"),
    (Mark::Rust, b"/rustc/"),
];

/// What a file says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Binary {
    symbols: Vec<Symbol>,
    /// Marks found, with the version behind each.
    marks: Vec<(Mark, Option<String>)>,
    /// Compiler and module, for Go programs.
    pub(crate) go: Option<Go>,
    /// Version of the Rust compiler, where the file names it.
    pub(crate) rustc: Option<String>,
    /// The C or C++ compiler, such as `gcc 12.2.0`.
    pub(crate) compiler: Option<String>,
    /// Whether it has the functions that OpenSSL and BoringSSL have, under their names: it does not
    /// merely use those of another library.
    pub(crate) has_ssl: bool,
    /// Whether it is a program or library at all, of 64 bits.
    pub(crate) is_elf: bool,
}

/// What a Go program says of itself.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Go {
    pub(crate) version: String,
    /// Path of the main package.
    pub(crate) package: Option<String>,
    /// Whether Go's own TLS is in it.
    pub(crate) has_tls: bool,
}

type FileKey = (u64, u64, u64, i64, i64);

/// The files that were looked at.
#[derive(Debug, Default)]
pub(crate) struct Binaries {
    known: HashMap<FileKey, Arc<Binary>>,
}

impl Binary {
    pub(crate) fn has(&self, symbol: Symbol) -> bool {
        self.symbols.contains(&symbol)
    }

    pub(crate) fn marked(&self, mark: Mark) -> bool {
        self.marks.iter().any(|(found, _)| *found == mark)
    }

    /// The version that stands behind a mark.
    pub(crate) fn version(&self, mark: Mark) -> Option<String> {
        self.marks.iter().find(|(found, _)| *found == mark)?.1.clone()
    }
}

impl Binaries {
    /// What an open file says; empty when it is no ELF file of 64 bits.
    pub(crate) fn of(&mut self, file: &File) -> Option<Arc<Binary>> {
        let facts = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let key = (facts.dev(), facts.ino(), facts.size(), facts.mtime(), facts.mtime_nsec());
        if let Some(known) = self.known.get(&key) {
            return Some(Arc::clone(known));
        }
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        let read = Arc::new(read(file));
        self.known.insert(key, Arc::clone(&read));
        Some(read)
    }
}

fn read(file: &File) -> Binary {
    let mut binary = Binary::default();
    let Some(sections) = sections(file) else { return binary };
    binary.is_elf = true;
    for section in &sections {
        match section.name.as_str() {
            ".dynstr" | ".strtab" => {
                read_symbols(file, section, &mut binary.symbols);
                let table = if section.name == ".dynstr" { ".dynsym" } else { ".symtab" };
                let table = sections.iter().find(|section| section.name == table);
                binary.has_ssl |= table.is_some_and(|table| defines_ssl(file, section, table));
            }
            // Rust puts texts that are shared into sections of their own.
            ".rodata" | ".lrodata" | ".rdata" => read_marks(file, section, &mut binary.marks),
            ".comment" => read_compilers(file, section, &mut binary),
            ".go.buildinfo" => binary.go = go(file, section),
            _ => {}
        }
    }
    if let Some(go) = &mut binary.go {
        let names = sections.iter().find(|section| section.name.ends_with(".gopclntab"));
        go.has_tls = names.is_some_and(|section| {
            let mut found = false;
            pieces(file, section, MAX_NAMES, |piece| {
                found = memmem::find(piece, b"crypto/tls.(*Conn).").is_some();
                !found
            });
            found
        });
    }
    binary
}

fn read_symbols(file: &File, section: &Section, symbols: &mut Vec<Symbol>) {
    pieces(file, section, MAX_NAMES, |piece| {
        for (symbol, name) in SYMBOLS {
            if !symbols.contains(&symbol) && memmem::find(piece, name).is_some() {
                symbols.push(symbol);
            }
        }
        symbols.len() < SYMBOLS.len()
    });
}

/// Whether a table of symbols defines both directions of a TLS connection. The names are searched
/// first: most files have none of them, and then their symbols are never read.
fn defines_ssl(file: &File, names: &Section, table: &Section) -> bool {
    const NAMES: [&[u8]; 2] = [b"SSL_read\0", b"SSL_write\0"];
    /// `Elf64_Sym`: name, kind, visibility, section, address, size.
    const SYMBOL: usize = 24;
    let mut places: [Vec<u32>; 2] = [Vec::new(), Vec::new()];
    let mut seen = 0_u64;
    let mut window = 0_u64;
    pieces(file, names, MAX_NAMES, |piece| {
        let start = seen.saturating_sub(window);
        for (name, places) in NAMES.iter().zip(&mut places) {
            let at = memmem::find_iter(piece, name)
                .filter_map(|at| u32::try_from(start + at as u64).ok());
            places.extend(at.take(64));
        }
        seen = start + piece.len() as u64;
        window = (piece.len().min(OVERLAP)) as u64;
        true
    });
    let mut is_defined = [false; 2];
    if places.iter().any(Vec::is_empty) {
        return false;
    }
    let step = SYMBOL as u64 * 32_768;
    let mut at = 0;
    while at < table.length && is_defined != [true; 2] {
        let length = step.min(table.length - at);
        let Some(symbols) = read_at(file, table.offset.saturating_add(at), length) else { break };
        for symbol in symbols.chunks_exact(SYMBOL) {
            let name = u32::from_le_bytes(array(symbol, 0).unwrap_or_default());
            let section = u16::from_le_bytes(array(symbol, 6).unwrap_or_default());
            for (places, is_defined) in places.iter().zip(&mut is_defined) {
                *is_defined |= section != 0 && places.contains(&name);
            }
        }
        at += length;
    }
    is_defined == [true; 2]
}

fn read_marks(file: &File, section: &Section, marks: &mut Vec<(Mark, Option<String>)>) {
    pieces(file, section, MAX_CONSTANTS, |piece| {
        for &(mark, text) in MARKS {
            let found = marks.iter().position(|(found, _)| *found == mark);
            if found.is_some_and(|at| marks[at].1.is_some()) {
                continue;
            }
            // `OTel-OTLP-Exporter-Deno/0.80.0` is a word of its own.
            let begins = |at: &usize| {
                let before = at.checked_sub(1).and_then(|before| piece.get(before));
                !matches!(mark, Mark::Bun | Mark::Deno)
                    || before.is_none_or(|byte| *byte != b'-' && !byte.is_ascii_digit())
            };
            let mut hits = memmem::find_iter(piece, text).filter(begins).peekable();
            let is_hit = hits.peek().is_some();
            let version = hits.find_map(|at| version(piece.get(at + text.len()..)?));
            let version = match mark {
                Mark::OpenSsl => version,
                _ => {
                    version.map(|version| version.trim_end_matches(char::is_alphabetic).to_owned())
                }
            };
            // The word OpenSSL alone stands in many programs, as do the short marks of runtimes.
            let is_proof = version.is_some()
                || (is_hit && matches!(mark, Mark::BoringSsl | Mark::Rust | Mark::Node));
            match found {
                Some(at) if version.is_some() => marks[at].1 = version,
                None if is_proof => marks.push((mark, version)),
                _ => {}
            }
        }
        true
    });
}

/// `.comment` names every compiler that had a part: `rustc version 1.90.0 (…)`,
/// `GCC: (Debian 12.2.0-14) 12.2.0`, `clang version 19.1.7`.
fn read_compilers(file: &File, section: &Section, binary: &mut Binary) {
    let Some(bytes) = read_at(file, section.offset, section.length.min(16 << 10)) else { return };
    for text in bytes.split(|byte| *byte == 0) {
        let text = String::from_utf8_lossy(text);
        let after = |word: &str| version(text.split(word).nth(1)?.as_bytes());
        if binary.rustc.is_none() {
            binary.rustc = after("rustc version ");
        }
        if binary.compiler.is_none() {
            binary.compiler = match text.strip_prefix("GCC: ") {
                Some(rest) => rest
                    .rsplit(' ')
                    .find_map(|word| version(word.as_bytes()))
                    .map(|v| format!("gcc {v}")),
                None => after("clang version ").map(|version| format!("clang {version}")),
            };
        }
    }
}

/// The version of the Go compiler and the main package (Go 1.18 and later, where the texts stand in
/// the section itself).
fn go(file: &File, section: &Section) -> Option<Go> {
    let information = read_at(file, section.offset, section.length.min(64 << 10))?;
    if !information.starts_with(b"\xff Go buildinf:") || information.get(15)? & 2 == 0 {
        return None;
    }
    let (version, after) = counted(&information, 32)?;
    let version = version.strip_prefix("go")?.split(' ').next()?.to_owned();
    if version.len() > MAX_VERSION {
        return None;
    }
    let module = counted(&information, after).map(|(text, _)| text).unwrap_or_default();
    let package = module.lines().find_map(|line| line.split("path\t").nth(1)).map(str::to_owned);
    Some(Go { version, package, has_tls: false })
}

/// A text behind its length (a varint of little-endian groups of seven bits), and where it ends.
fn counted(bytes: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut length = 0_usize;
    for shift in (0..28).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let text = bytes.get(at..at.checked_add(length)?)?;
            return Some((String::from_utf8_lossy(text).into_owned(), at + length));
        }
    }
    None
}

/// A constant `3.11.2` between zeros, of a program whose first two numbers are known.
pub(crate) fn full_version(file: &File, short: &str) -> Option<String> {
    let start = format!("\0{short}.");
    let mut found = None;
    for section in sections(file)?.iter().filter(|section| section.name == ".rodata") {
        pieces(file, section, MAX_CONSTANTS, |piece| {
            found = memmem::find_iter(piece, start.as_bytes()).find_map(|at| {
                let text = piece.get(at + 1..at + 1 + MAX_VERSION)?;
                let text = std::str::from_utf8(text.split(|byte| *byte == 0).next()?).ok()?;
                let rest = text.get(start.len() - 1..)?;
                let is_patch = rest.starts_with(|first: char| first.is_ascii_digit())
                    && rest.len() < 8
                    && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
                is_patch.then(|| text.to_owned())
            });
            found.is_none()
        });
    }
    found
}

/// The first version-like text at the start: digits and points, perhaps with a letter behind.
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
    (version.matches('.').count() >= 2 && version.starts_with(|first: char| first.is_ascii_digit()))
        .then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::elf::PIECE;
    use super::*;
    use std::io::Write as _;

    fn of(bytes: &[u8]) -> Binary {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        (*Binaries::default().of(&file).unwrap()).clone()
    }

    #[test]
    fn a_version_is_found_over_the_end_of_a_piece() {
        for before in [1, PIECE - 4, PIECE - 9, 3 * PIECE + 1] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![b'O'; before]).unwrap();
            file.write_all(b"OpenSSL 3.0.17 1 Jul 2025").unwrap();
            let length = file.metadata().unwrap().len();
            let section = Section { name: String::new(), offset: 0, length };
            let mut marks = Vec::new();
            read_marks(&file, &section, &mut marks);
            assert_eq!(marks, [(Mark::OpenSsl, Some("3.0.17".to_owned()))], "after {before} bytes");
        }
    }

    #[test]
    fn a_longer_word_is_another_mark_and_only_openssl_has_letters() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"x-Deno/0.80.0grpc senseDeno/2.9.6Deno/2.9.6+e518 OpenSSL 1.1.1w  11")
            .unwrap();
        let section = Section { name: String::new(), offset: 0, length: 99 };
        let mut marks = Vec::new();
        read_marks(&file, &section, &mut marks);
        let is = |mark, version: &str| (mark, Some(version.to_owned()));
        assert_eq!(marks, [is(Mark::Deno, "2.9.6"), is(Mark::OpenSsl, "1.1.1w")]);
    }

    #[test]
    fn a_word_that_is_no_version_is_passed_over() {
        assert_eq!(version(b"library"), None);
        assert_eq!(version(b"3. See"), None);
        assert_eq!(version(b"..."), None);
        assert_eq!(version(b"1.1.1w  11 Sep").as_deref(), Some("1.1.1w"));
    }

    #[test]
    fn broken_files_are_refused_in_bounded_time() {
        assert!(!of(b"#!/bin/sh\n").is_elf);
        assert!(!of(b"\x7fELF\x02\x01").is_elf);
        let whole = std::fs::read("/proc/self/exe").unwrap();
        let mut state = 1_u32;
        for round in 0..60_usize {
            let mut bytes = whole[..whole.len().min((round + 1) * 4_099)].to_vec();
            for _ in 0..8 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = usize::try_from(state >> 8).unwrap() % 64;
                bytes[at] = (state >> 3).to_le_bytes()[0];
            }
            drop(of(&bytes));
        }
    }

    #[test]
    fn this_test_is_a_rust_program_and_says_its_compiler() {
        let file = File::open("/proc/self/exe").unwrap();
        let binary = Binaries::default().of(&file).unwrap();
        assert!(binary.is_elf && binary.go.is_none());
        assert!(binary.rustc.is_some() || binary.marked(Mark::Rust), "{binary:?}");
        assert!(!binary.has(Symbol::Python) && !binary.has(Symbol::Node));
    }
}
