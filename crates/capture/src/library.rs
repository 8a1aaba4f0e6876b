//! Finds TLS functions in the files that processes map.
//!
//! A file is read through its section headers: only its symbol tables and their strings,
//! in pieces of bounded size, never by mapping it (its owner could cut it short under us).
//! What was found is kept by device, inode, size and modification time, so that the next
//! process that maps the file costs one `fstat`.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use object::elf;
use object::endian::LittleEndian;
use object::pod;

/// One TLS function in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Function {
    /// What it does and how it is read.
    pub(crate) role: &'static Role,
    /// Where it starts in the file.
    pub(crate) offset: u64,
}

/// What the programs in `bpf/tls.bpf.c` have to know of a function.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Role {
    /// Its symbol.
    pub(crate) name: &'static str,
    /// `enum operation`.
    pub(crate) operation: u8,
    /// Whether its return is of interest.
    pub(crate) returns: bool,
}

/// What identifies the contents of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileKey {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// The files that were looked at.
#[derive(Debug, Default)]
pub(crate) struct Libraries {
    known: HashMap<FileKey, Arc<[Function]>>,
}

const READ: u8 = 1;
const WRITE: u8 = 2;
const READ_EX: u8 = 3;
const WRITE_EX: u8 = 4;
const WRITE_EX2: u8 = 5;
const FREE: u8 = 6;
const CONTROL: u8 = 7;
const CLEAR: u8 = 8;

const ROLES: [Role; 10] = [
    Role { name: "SSL_read", operation: READ, returns: true },
    Role { name: "SSL_write", operation: WRITE, returns: true },
    Role { name: "SSL_read_ex", operation: READ_EX, returns: true },
    Role { name: "SSL_write_ex", operation: WRITE_EX, returns: true },
    Role { name: "SSL_write_ex2", operation: WRITE_EX2, returns: true },
    Role { name: "SSL_read_early_data", operation: READ_EX, returns: true },
    Role { name: "SSL_write_early_data", operation: WRITE_EX, returns: true },
    Role { name: "SSL_free", operation: FREE, returns: false },
    // A cleared object is used for the next connection.
    Role { name: "SSL_clear", operation: CLEAR, returns: false },
    Role { name: "SSL_ctrl", operation: CONTROL, returns: false },
];

/// Files remembered; a busy node maps a few thousand different ones.
const MAX_KNOWN: usize = 8192;
/// Sections looked at; real files have under 100.
const MAX_SECTIONS: usize = 4096;
/// Program headers looked at.
const MAX_SEGMENTS: usize = 512;
/// Bytes of one symbol or string table; node's largest has 13 MiB.
const MAX_TABLE: u64 = 128 << 20;

impl FileKey {
    /// The key of an open file.
    pub(crate) fn of(file: &File) -> std::io::Result<Self> {
        let facts = file.metadata()?;
        Ok(Self {
            device: facts.dev(),
            inode: facts.ino(),
            size: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
        })
    }
}

impl Libraries {
    /// The TLS functions of a file; none when it is no TLS library or cannot be read.
    pub(crate) fn functions(&mut self, key: FileKey, file: &File) -> Arc<[Function]> {
        if let Some(functions) = self.known.get(&key) {
            return Arc::clone(functions);
        }
        let functions: Arc<[Function]> = find_functions(file).unwrap_or_default().into();
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(key, Arc::clone(&functions));
        functions
    }
}

/// Reads the symbol tables of an ELF file. `None` when the file is no 64-bit little-endian
/// ELF file, or ends too early.
fn find_functions(file: &File) -> Option<Vec<Function>> {
    let header: elf::FileHeader64<LittleEndian> = read_one(file, 0)?;
    let endian = LittleEndian;
    let identity = header.e_ident;
    if identity.magic != elf::ELFMAG
        || identity.class != elf::ELFCLASS64
        || identity.data != elf::ELFDATA2LSB
    {
        return None;
    }
    let segments: Vec<elf::ProgramHeader64<LittleEndian>> = read_many(
        file,
        header.e_phoff.get(endian),
        usize::from(header.e_phnum.get(endian)).min(MAX_SEGMENTS),
    )?;
    let sections: Vec<elf::SectionHeader64<LittleEndian>> = read_many(
        file,
        header.e_shoff.get(endian),
        usize::from(header.e_shnum.get(endian)).min(MAX_SECTIONS),
    )?;
    let mut functions = Vec::new();
    for section in &sections {
        let kind = section.sh_type.get(endian);
        if kind != elf::SHT_DYNSYM && kind != elf::SHT_SYMTAB {
            continue;
        }
        let strings =
            usize::try_from(section.sh_link.get(endian)).ok().and_then(|i| sections.get(i));
        if let Some(strings) = strings {
            search_table(file, section, strings, &segments, &mut functions);
        }
    }
    let found = |operations: &[u8]| {
        functions.iter().any(|function: &Function| operations.contains(&function.role.operation))
    };
    let is_tls = found(&[READ, READ_EX]) && found(&[WRITE, WRITE_EX, WRITE_EX2]);
    Some(if is_tls { functions } else { Vec::new() })
}

/// Adds the functions of one symbol table. The strings are searched first: most files have
/// none of the names, and then their symbols are never read.
fn search_table(
    file: &File,
    symbols: &elf::SectionHeader64<LittleEndian>,
    strings: &elf::SectionHeader64<LittleEndian>,
    segments: &[elf::ProgramHeader64<LittleEndian>],
    functions: &mut Vec<Function>,
) -> Option<()> {
    let endian = LittleEndian;
    let strings = read_bytes(file, strings.sh_offset.get(endian), strings.sh_size.get(endian))?;
    let names = find_names(&strings);
    if names.is_empty() {
        return None;
    }
    let count =
        usize::try_from(symbols.sh_size.get(endian)).ok()? / size_of::<elf::Sym64<LittleEndian>>();
    let symbols: Vec<elf::Sym64<LittleEndian>> =
        read_many(file, symbols.sh_offset.get(endian), count)?;
    for symbol in &symbols {
        let Some(role) = names.get(&symbol.st_name.get(endian)) else { continue };
        let kind = symbol.st_info.st_type();
        let address = symbol.st_value.get(endian);
        if kind != elf::STT_FUNC || symbol.st_shndx.get(endian) == elf::SHN_UNDEF || address == 0 {
            continue;
        }
        let Some(offset) = file_offset(segments, address) else { continue };
        let function = Function { role, offset };
        if !functions.contains(&function) {
            functions.push(function);
        }
    }
    Some(())
}

/// The positions in a string table at which a wanted name starts. A name may be the end of
/// a longer one, because linkers share tails.
fn find_names(strings: &[u8]) -> HashMap<u32, &'static Role> {
    let mut names = HashMap::new();
    let mut start = 0;
    while let Some(len) = strings.get(start..).and_then(|rest| rest.iter().position(|&b| b == 0)) {
        let word = strings.get(start..start + len).unwrap_or_default();
        for role in &ROLES {
            if word.ends_with(role.name.as_bytes())
                && let Ok(position) = u32::try_from(start + len - role.name.len())
            {
                names.insert(position, role);
            }
        }
        start += len + 1;
    }
    names
}

fn file_offset(segments: &[elf::ProgramHeader64<LittleEndian>], address: u64) -> Option<u64> {
    let endian = LittleEndian;
    segments.iter().find_map(|segment| {
        let inside = address.checked_sub(segment.p_vaddr.get(endian))?;
        let loaded = segment.p_type.get(endian) == elf::PT_LOAD
            && segment.p_flags.get(endian).0 & elf::PF_X.0 != 0
            && inside < segment.p_filesz.get(endian);
        if loaded { segment.p_offset.get(endian).checked_add(inside) } else { None }
    })
}

fn read_one<T: pod::Pod>(file: &File, offset: u64) -> Option<T> {
    read_many(file, offset, 1)?.first().copied()
}

fn read_many<T: pod::Pod>(file: &File, offset: u64, count: usize) -> Option<Vec<T>> {
    let len = u64::try_from(count.checked_mul(size_of::<T>())?).ok()?;
    let bytes = read_bytes(file, offset, len)?;
    let (items, _) = pod::slice_from_bytes::<T>(&bytes, count).ok()?;
    Some(items.to_vec())
}

fn read_bytes(file: &File, offset: u64, len: u64) -> Option<Vec<u8>> {
    // Ask the file first, so that a table that claims to be large costs nothing.
    if len > MAX_TABLE || offset.checked_add(len)? > file.metadata().ok()?.len() {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

/// The names of the functions, each once, in order.
pub(crate) fn names(functions: &[Function]) -> Vec<&'static str> {
    functions
        .iter()
        .map(|function| function.role.name)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;

    fn search(path: impl AsRef<Path>) -> Vec<&'static str> {
        let file = File::open(path).unwrap();
        let mut libraries = Libraries::default();
        names(&libraries.functions(FileKey::of(&file).unwrap(), &file))
    }

    /// The shared library that this machine's programs use.
    fn libssl() -> std::path::PathBuf {
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"]
            .iter()
            .flat_map(|directory| {
                [format!("{directory}/libssl.so.3"), format!("{directory}/libssl.so.1.1")]
            })
            .map(std::path::PathBuf::from)
            .find(|path| path.exists())
            .expect("a libssl on this machine")
    }

    #[test]
    fn libssl_has_every_function_it_documents() {
        let found = search(libssl());
        for name in ["SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex", "SSL_free", "SSL_ctrl"]
        {
            assert!(found.contains(&name), "{name} not in {found:?}");
        }
    }

    #[test]
    fn offsets_are_where_the_code_is() {
        let path = libssl();
        let file = File::open(&path).unwrap();
        let functions = find_functions(&file).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut offsets = BTreeSet::new();
        for function in &functions {
            let at = usize::try_from(function.offset).unwrap();
            assert!(whole[at..at + 4].iter().any(|&byte| byte != 0), "{function:?}");
            offsets.insert(function.offset);
        }
        assert_eq!(offsets.len(), functions.len(), "two functions at one place");
    }

    #[test]
    fn ordinary_programs_have_none() {
        for path in ["/bin/sh", "/bin/ls", "/proc/self/exe"] {
            assert_eq!(search(path), Vec::<&str>::new(), "{path}");
        }
    }

    #[test]
    fn a_name_may_be_the_tail_of_another() {
        let names = find_names(b"\0BIO_SSL_read\0SSL_free\0");
        let mut found: Vec<_> = names.iter().map(|(at, role)| (*at, role.name)).collect();
        found.sort_unstable();
        assert_eq!(found, [(5, "SSL_read"), (14, "SSL_free")]);
    }

    #[test]
    fn broken_files_are_refused_in_bounded_time() {
        let whole = std::fs::read(libssl()).unwrap();
        let mut state = 1_u32;
        for round in 0..300_usize {
            let mut bytes =
                whole[..whole.len().min(if round % 3 == 0 { round * 17 } else { 65536 })].to_vec();
            for _ in 0..8 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = usize::try_from(state >> 8).unwrap() % 64;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = (state >> 3).to_le_bytes()[0];
                }
            }
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            assert!(find_functions(&file).unwrap_or_default().is_empty());
        }
    }
}
