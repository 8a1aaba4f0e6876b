//! Records of the ring buffers, as the kernel side writes them.
//!
//! The layout is that of `bpf/events.h`. A record is read with checked slices of its
//! integers, so a short or strange record is refused, never misread; a unit test compares
//! every member with the type information that clang wrote for the C structs.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::event::{Direction, Payload, ProcessId, Program};

/// A record of the ring `records`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) watch: u32,
    pub(crate) at: u64,
    pub(crate) object: u64,
    pub(crate) generation: u64,
    pub(crate) kind: TlsKind,
}

/// What a record of the ring `records` says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TlsKind {
    Data { direction: Direction, offset: u64, bytes: Payload },
    Closed,
    Named(String),
}

/// The part of records that says which process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Absent when our pid namespace does not show it.
    pub(crate) process: Option<ProcessId>,
    /// The same of its parent.
    pub(crate) parent: Option<ProcessId>,
    pub(crate) user: u32,
    pub(crate) name: String,
}

/// A record of the ring `processes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) kind: ProcessKind,
    pub(crate) at: u64,
    pub(crate) process: ProcessId,
    pub(crate) parent: ProcessId,
    /// What was executed.
    pub(crate) program: Option<Arc<Program>>,
}

/// What a record of the ring `processes` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessKind {
    Forked,
    Executed,
    Exited,
}

/// A record of the ring of openings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) at: u64,
    pub(crate) caller: Caller,
    pub(crate) peer: SocketAddr,
    pub(crate) kind: OpeningKind,
}

/// What a record of the ring of openings says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OpeningKind {
    Hello(Piece),
    Request(Piece),
    Connected,
}

/// Some of the first bytes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) socket: u64,
    pub(crate) offset: u32,
    pub(crate) bytes: Payload,
}

/// A record of the ring of answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) at: u64,
    pub(crate) caller: Caller,
    pub(crate) message: Payload,
}

/// Offsets in `struct tls_record`.
mod tls {
    pub(super) const KIND: usize = 0;
    pub(super) const WATCH: usize = 4;
    pub(super) const AT: usize = 8;
    pub(super) const OBJECT: usize = 16;
    pub(super) const GENERATION: usize = 24;
    pub(super) const OFFSET: usize = 32;
    pub(super) const LEN: usize = 40;
    pub(super) const DIRECTION: usize = 44;
    pub(super) const SIZE: usize = 48;
}

/// Offsets in `struct caller`.
mod caller {
    pub(super) const START_TIME: usize = 0;
    pub(super) const PARENT_START_TIME: usize = 8;
    pub(super) const PID: usize = 16;
    pub(super) const PARENT_PID: usize = 20;
    pub(super) const USER: usize = 24;
    pub(super) const NAME: usize = 32;
    pub(super) const SIZE: usize = 48;
}

/// Offsets in `struct process_record`.
mod process {
    pub(super) const AT: usize = 0;
    pub(super) const CALLER: usize = 8;
    pub(super) const KIND: usize = 56;
    pub(super) const SIZE: usize = 64;
}

/// Offsets in `struct program`.
mod program {
    pub(super) const ARGUMENTS_LEN: usize = 0;
    pub(super) const CGROUP_LEN: usize = 4;
    pub(super) const FILE: usize = 8;
    pub(super) const CGROUP: usize = 264;
    pub(super) const ARGUMENTS: usize = 776;
    #[cfg(test)]
    pub(super) const SIZE: usize = 1800;
}

/// Offsets in `struct opening_record`.
mod opening {
    pub(super) const AT: usize = 0;
    pub(super) const SOCKET: usize = 8;
    pub(super) const CALLER: usize = 16;
    pub(super) const KIND: usize = 64;
    pub(super) const OFFSET: usize = 68;
    pub(super) const LEN: usize = 72;
    pub(super) const FAMILY: usize = 76;
    pub(super) const PORT: usize = 78;
    pub(super) const ADDRESS: usize = 80;
    pub(super) const SIZE: usize = 96;
}

/// Offsets in `struct answer_record`.
mod answer {
    pub(super) const AT: usize = 0;
    pub(super) const CALLER: usize = 8;
    pub(super) const LEN: usize = 56;
    pub(super) const SIZE: usize = 64;
}

impl Tls {
    /// Reads a record; `None` when it is none.
    pub(crate) fn read(record: &[u8]) -> Option<Self> {
        let following = || following(record, tls::LEN, tls::SIZE);
        let kind = match u32_at(record, tls::KIND)? {
            1 => TlsKind::Data {
                direction: match u32_at(record, tls::DIRECTION)? {
                    0 => Direction::Sent,
                    1 => Direction::Received,
                    _ => return None,
                },
                offset: u64_at(record, tls::OFFSET)?,
                bytes: following()?.into(),
            },
            2 => TlsKind::Closed,
            3 => TlsKind::Named(String::from_utf8_lossy(following()?).into_owned()),
            _ => return None,
        };
        Some(Self {
            watch: u32_at(record, tls::WATCH)?,
            at: u64_at(record, tls::AT)?,
            object: u64_at(record, tls::OBJECT)?,
            generation: u64_at(record, tls::GENERATION)?,
            kind,
        })
    }
}

impl Caller {
    fn read(record: &[u8], at: usize) -> Option<Self> {
        let record = record.get(at..)?.get(..caller::SIZE)?;
        let id = |pid, start_time| {
            let process = ProcessId::new(u32_at(record, pid)?, u64_at(record, start_time)?);
            Some((process.pid != 0).then_some(process))
        };
        Some(Self {
            process: id(caller::PID, caller::START_TIME)?,
            parent: id(caller::PARENT_PID, caller::PARENT_START_TIME)?,
            user: u32_at(record, caller::USER)?,
            name: String::from_utf8_lossy(until_zero(record.get(caller::NAME..)?)).into_owned(),
        })
    }
}

impl Process {
    /// Reads a record; `None` when it is none.
    pub(crate) fn read(record: &[u8]) -> Option<Self> {
        let caller = Caller::read(record, process::CALLER)?;
        let kind = match u32_at(record, process::KIND)? {
            1 => ProcessKind::Forked,
            2 => ProcessKind::Executed,
            3 => ProcessKind::Exited,
            _ => return None,
        };
        let program = match kind {
            ProcessKind::Executed => Some(Arc::new(program(record.get(process::SIZE..)?)?)),
            ProcessKind::Forked | ProcessKind::Exited => None,
        };
        // The first process of a pid namespace has its parent outside: there it has none.
        let parent = caller.parent.unwrap_or(ProcessId::new(0, 0));
        let at = u64_at(record, process::AT)?;
        Some(Self { kind, at, process: caller.process?, parent, program })
    }
}

/// Reads what a process executed.
fn program(record: &[u8]) -> Option<Program> {
    let file = record.get(program::FILE..program::CGROUP)?;
    let len = usize::try_from(u32_at(record, program::CGROUP_LEN)?).ok()?;
    let cgroup = record.get(program::CGROUP..program::ARGUMENTS)?.get(..len)?;
    let arguments = following(record, program::ARGUMENTS_LEN, program::ARGUMENTS)?;
    Some(Program {
        executable: OsStr::from_bytes(until_zero(file)).into(),
        arguments: arguments.into(),
        cgroup: cgroup_path(cgroup),
    })
}

/// The path whose names are given from the leaf up, each ended by a zero.
fn cgroup_path(names: &[u8]) -> String {
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<_> = names.map(String::from_utf8_lossy).collect();
    names.reverse();
    format!("/{}", names.join("/"))
}

impl Opening {
    /// Reads a record; `None` when it is none.
    pub(crate) fn read(record: &[u8]) -> Option<Self> {
        let address: [u8; 16] = record.get(opening::ADDRESS..)?.get(..16)?.try_into().ok()?;
        let address = match u16_at(record, opening::FAMILY)? {
            4 => IpAddr::from(Ipv4Addr::new(address[0], address[1], address[2], address[3])),
            6 => IpAddr::from(Ipv6Addr::from(address)).to_canonical(),
            _ => return None,
        };
        let piece = || {
            Some(Piece {
                socket: u64_at(record, opening::SOCKET)?,
                offset: u32_at(record, opening::OFFSET)?,
                bytes: following(record, opening::LEN, opening::SIZE)?.into(),
            })
        };
        Some(Self {
            at: u64_at(record, opening::AT)?,
            caller: Caller::read(record, opening::CALLER)?,
            peer: SocketAddr::new(address, u16_at(record, opening::PORT)?),
            kind: match u32_at(record, opening::KIND)? {
                1 => OpeningKind::Hello(piece()?),
                2 => OpeningKind::Request(piece()?),
                3 => OpeningKind::Connected,
                _ => return None,
            },
        })
    }
}

impl Answer {
    /// Reads a record; `None` when it is none.
    pub(crate) fn read(record: &[u8]) -> Option<Self> {
        Some(Self {
            at: u64_at(record, answer::AT)?,
            caller: Caller::read(record, answer::CALLER)?,
            message: following(record, answer::LEN, answer::SIZE)?.into(),
        })
    }
}

/// The bytes from `start` on, whose number stands at `len`.
fn following(record: &[u8], len: usize, start: usize) -> Option<&[u8]> {
    let len = usize::try_from(u32_at(record, len)?).ok()?;
    record.get(start..)?.get(..len)
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn u16_at(record: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(record.get(offset..)?.get(..2)?.try_into().ok()?))
}

fn u32_at(record: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(record.get(offset..)?.get(..4)?.try_into().ok()?))
}

fn u64_at(record: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(record.get(offset..)?.get(..8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
