//! Records of the ring buffers, as the kernel side writes them.
//!
//! The layout is that of `bpf/events.h`. A record is read with checked slices of its
//! integers, so a short or strange record is refused, never misread; a unit test compares
//! every offset with the type information that clang wrote for the C structs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::event::{Direction, Payload};

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

/// A record of the ring `processes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) kind: ProcessKind,
    pub(crate) pid: u32,
    pub(crate) at: u64,
    pub(crate) start_time: u64,
    pub(crate) parent_pid: u32,
    pub(crate) parent_start_time: u64,
}

/// What a record of the ring `processes` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessKind {
    Forked,
    Executed,
    Exited,
}

/// A record of the ring `hellos`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HelloPiece {
    pub(crate) at: u64,
    pub(crate) socket: u64,
    pub(crate) start_time: u64,
    pub(crate) pid: u32,
    pub(crate) offset: u32,
    pub(crate) peer: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// Offsets in `struct tls_record`.
mod tls {
    pub(super) const KIND: usize = 0;
    pub(super) const WATCH: usize = 4;
    pub(super) const AT: usize = 8;
    pub(super) const OBJECT: usize = 16;
    pub(super) const GENERATION: usize = 24;
    pub(super) const OFFSET: usize = 32;
    pub(super) const LEN: usize = 64;
    pub(super) const DIRECTION: usize = 68;
    pub(super) const SIZE: usize = 72;
}

/// Offsets in `struct process_record`.
mod process {
    pub(super) const KIND: usize = 0;
    pub(super) const PID: usize = 4;
    pub(super) const AT: usize = 8;
    pub(super) const START_TIME: usize = 16;
    pub(super) const PARENT_START_TIME: usize = 24;
    pub(super) const PARENT_PID: usize = 32;
}

/// Offsets in `struct hello_record`.
mod hello {
    pub(super) const AT: usize = 0;
    pub(super) const SOCKET: usize = 8;
    pub(super) const START_TIME: usize = 16;
    pub(super) const PID: usize = 24;
    pub(super) const OFFSET: usize = 28;
    pub(super) const LEN: usize = 32;
    pub(super) const FAMILY: usize = 36;
    pub(super) const PORT: usize = 38;
    pub(super) const ADDRESS: usize = 40;
    pub(super) const SIZE: usize = 56;
}

impl Tls {
    /// Reads a record; `None` when it is none.
    pub(crate) fn read(record: &[u8]) -> Option<Self> {
        let following = || {
            let len = usize::try_from(u32_at(record, tls::LEN)?).ok()?;
            record.get(tls::SIZE..)?.get(..len)
        };
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

impl Process {
    /// Reads a record; `None` when it is none.
    pub(crate) fn read(record: &[u8]) -> Option<Self> {
        Some(Self {
            kind: match u32_at(record, process::KIND)? {
                1 => ProcessKind::Forked,
                2 => ProcessKind::Executed,
                3 => ProcessKind::Exited,
                _ => return None,
            },
            pid: u32_at(record, process::PID)?,
            at: u64_at(record, process::AT)?,
            start_time: u64_at(record, process::START_TIME)?,
            parent_pid: u32_at(record, process::PARENT_PID)?,
            parent_start_time: u64_at(record, process::PARENT_START_TIME)?,
        })
    }
}

impl HelloPiece {
    /// Reads a record; `None` when it is none.
    pub(crate) fn read(record: &[u8]) -> Option<Self> {
        let address: [u8; 16] = record.get(hello::ADDRESS..)?.get(..16)?.try_into().ok()?;
        let address = match u16_at(record, hello::FAMILY)? {
            4 => IpAddr::from(Ipv4Addr::new(address[0], address[1], address[2], address[3])),
            6 => IpAddr::from(Ipv6Addr::from(address)),
            _ => return None,
        };
        let len = usize::try_from(u32_at(record, hello::LEN)?).ok()?;
        Some(Self {
            at: u64_at(record, hello::AT)?,
            socket: u64_at(record, hello::SOCKET)?,
            start_time: u64_at(record, hello::START_TIME)?,
            pid: u32_at(record, hello::PID)?,
            offset: u32_at(record, hello::OFFSET)?,
            peer: SocketAddr::new(address, u16_at(record, hello::PORT)?),
            bytes: record.get(hello::SIZE..)?.get(..len)?.to_vec(),
        })
    }
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
