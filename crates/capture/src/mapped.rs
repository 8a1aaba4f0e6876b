//! Code that processes map, as it happens: the kernel's own `PERF_RECORD_MMAP2` stream.
//!
//! One perf event a CPU for every process, so that a library that a watched process maps
//! late is known within a millisecond. The records of other processes are skipped here.
//!
//! # Kernel
//! 3.16; `CAP_PERFMON` (`CAP_SYS_ADMIN` before 5.8).
#![expect(unsafe_code, reason = "reads a ring that the kernel writes in shared memory")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::system::{self, PerfEventAttr};

const TYPE_SOFTWARE: u32 = 1;
const SOFTWARE_DUMMY: u64 = 9;
const FLAG_MMAP: u64 = 1 << 8;
const FLAG_WATERMARK: u64 = 1 << 14;
const FLAG_MMAP2: u64 = 1 << 23;
const RECORD_LOST: u32 = 2;
const RECORD_MMAP2: u32 = 10;
/// Pages of each ring; a power of two. 64 KiB hold some 500 records: the start of 50 programs.
const DATA_PAGES: usize = 16;
/// Where `struct perf_event_mmap_page` has the positions.
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;
/// Where a `PERF_RECORD_MMAP2` has its file name.
const NAME: usize = 72;

/// The rings of all CPUs.
#[derive(Debug)]
pub(crate) struct Mapped {
    rings: Vec<Ring>,
}

/// A file was mapped as code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) pid: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// The records of one look.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) mappings: Vec<Mapping>,
    /// The ring was full: some mappings are not in the list.
    pub(crate) lost: bool,
}

#[derive(Debug)]
struct Ring {
    event: OwnedFd,
    pages: NonNull<u8>,
    /// Length of the first page, after which the data starts.
    page: usize,
    /// Length of the data.
    size: usize,
}

// SAFETY: the pointer is to memory that this value alone maps and unmaps, and nothing in it
// belongs to a thread.
unsafe impl Send for Ring {}

impl Mapped {
    /// Opens the rings.
    pub(crate) fn open() -> io::Result<Self> {
        let attr = PerfEventAttr {
            kind: TYPE_SOFTWARE,
            size: 64,
            config: SOFTWARE_DUMMY,
            flags: FLAG_MMAP | FLAG_MMAP2 | FLAG_WATERMARK,
            wakeup: 1,
            ..PerfEventAttr::default()
        };
        let mut rings = Vec::new();
        for cpu in 0..system::configured_cpus() {
            match system::perf_event_open(&attr, cpu) {
                Ok(event) => rings.push(Ring::map(event)?),
                // A CPU that is not there now.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { rings })
    }

    /// Descriptors that become readable when there is something to [`read`](Self::read).
    pub(crate) fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.rings.iter().map(|ring| ring.event.as_raw_fd())
    }

    /// Takes what has come, of the processes that `wanted` names.
    pub(crate) fn read(&mut self, wanted: impl Fn(u32) -> bool) -> Seen {
        let mut seen = Seen::default();
        for ring in &mut self.rings {
            ring.drain(|record| take(record, &wanted, &mut seen));
        }
        seen
    }
}

/// Reads one record: `header { u32 type, u16 misc, u16 size }`, then for a mapping
/// `u32 pid, tid, u64 address, len, offset, …` and the file name.
fn take(record: &[u8], wanted: &impl Fn(u32) -> bool, seen: &mut Seen) {
    let u32_at = |at: usize| {
        record.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes)
    };
    let u64_at = |at: usize| {
        record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes)
    };
    match u32_at(0) {
        Some(RECORD_LOST) => seen.lost = true,
        Some(RECORD_MMAP2) => {
            let of_a_file = record.get(NAME) == Some(&b'/') && record.get(NAME + 1) != Some(&b'/');
            if let (true, Some(pid), Some(start), Some(len)) =
                (of_a_file, u32_at(8), u64_at(16), u64_at(24))
                && wanted(pid)
            {
                seen.mappings.push(Mapping { pid, start, end: start.saturating_add(len) });
            }
        }
        _ => {}
    }
}

impl Ring {
    fn map(event: OwnedFd) -> io::Result<Self> {
        let page = system::page_len();
        let size = DATA_PAGES * page;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of
        // ours; the descriptor is open and of a perf event, which is mapped as one page of
        // positions and a power of two of pages of data.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                page + size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let pages = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { event, pages, page, size })
    }

    fn position(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the first page is mapped while `self` lives, `at` is one of the two
        // constants inside it and divisible by 8, and the page starts at a page boundary.
        let position = unsafe { self.pages.add(at) };
        // SAFETY: both sides only ever access the position as one aligned 64-bit word, so an
        // atomic is what it is; it lives as long as `self`.
        unsafe { position.cast::<AtomicU64>().as_ref() }
    }

    /// Copies bytes out of the data, which is a ring.
    fn copy(&self, from: u64, bytes: &mut [u8]) {
        for (index, byte) in (0_u64..).zip(bytes) {
            let at = usize::try_from((from + index) % self.size as u64).unwrap_or_default();
            // SAFETY: `at` is less than `size`, and `page + size` bytes are mapped.
            let source = unsafe { self.pages.add(self.page + at) };
            // SAFETY: the kernel has published these bytes by moving the head, which was read
            // with acquire order, and does not write them again before the tail passes them.
            *byte = unsafe { source.read_volatile() };
        }
    }

    fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        let head = self.position(DATA_HEAD).load(Ordering::Acquire);
        let mut tail = self.position(DATA_TAIL).load(Ordering::Relaxed);
        let mut record = [0; 1 << 12];
        while head.wrapping_sub(tail) >= 8 {
            let mut header = [0; 8];
            self.copy(tail, &mut header);
            let size = u16::from_ne_bytes([header[6], header[7]]);
            if size < 8 {
                // Not a record: give up what is there rather than read it as one.
                tail = head;
                break;
            }
            let len = usize::from(size).min(record.len());
            self.copy(tail, &mut record[..len]);
            each(&record[..len]);
            tail += u64::from(size);
        }
        self.position(DATA_TAIL).store(tail, Ordering::Release);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: exactly this range was mapped by `map`, and no reference into it is left,
        // because every one borrows `self`.
        unsafe { libc::munmap(self.pages.as_ptr().cast(), self.page + self.size) };
    }
}
