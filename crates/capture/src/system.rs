//! The few system calls that the standard library does not wrap.
#![expect(unsafe_code, reason = "each function wraps one call and hands out a safe value")]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// `struct perf_event_attr` in its first published size, which every kernel takes.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct PerfEventAttr {
    pub(crate) kind: u32,
    pub(crate) size: u32,
    pub(crate) config: u64,
    pub(crate) sample_period: u64,
    pub(crate) sample_type: u64,
    pub(crate) read_format: u64,
    pub(crate) flags: u64,
    pub(crate) wakeup: u32,
    pub(crate) breakpoint_type: u32,
    pub(crate) config1: u64,
}

/// From the kernel's `linux/perf_event.h`.
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

const _: () = assert!(size_of::<PerfEventAttr>() == 64);

/// Now, in nanoseconds on the clock that `bpf_ktime_get_ns` reads.
pub(crate) fn monotonic_nanos() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec that the call only writes to, and CLOCK_MONOTONIC
    // exists on every Linux; were it to fail, `now` would stay zero.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default()
}

/// Waits until one of the descriptors can be read, and says which can.
pub(crate) fn wait_readable(fds: &[RawFd], wait: Duration) -> Vec<bool> {
    let mut polled: Vec<libc::pollfd> =
        fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    // Rounded up: a wait of half a millisecond must not become a busy loop.
    let millis = i32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    let count = libc::nfds_t::try_from(polled.len()).unwrap_or_default();
    // SAFETY: the pointer and the count describe `polled`, which outlives the call; an
    // interrupted call leaves `revents` zero, which reads as "nothing yet".
    unsafe { libc::poll(polled.as_mut_ptr(), count, millis) };
    polled.iter().map(|polled| polled.revents != 0).collect()
}

/// Opens a perf event for every process, on one CPU.
pub(crate) fn perf_event_open(attr: &PerfEventAttr, cpu: i32) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is a live perf_event_attr whose `size` field says how much of it there
    // is; the kernel copies it during the call. The other arguments are plain integers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            std::ptr::from_ref(attr),
            -1 as libc::pid_t,
            cpu,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    own(result)
}

/// Makes this thread see cgroups as the namespace does that the file names.
pub(crate) fn enter_cgroup_namespace(namespace: &File) -> io::Result<()> {
    // SAFETY: the call takes an open descriptor and a number and touches no memory of ours.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWCGROUP) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Mounts a file system of this kind nowhere: only the descriptor leads to it (since 5.2).
pub(crate) fn mount_detached(kind: &CStr) -> io::Result<OwnedFd> {
    /// From the kernel's `linux/mount.h`.
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: the kernel copies the name, which ends with a zero, during the call.
    let opened = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) };
    let opened = own(opened)?;
    let fd = opened.as_raw_fd();
    // SAFETY: this command takes no key and no value; the descriptor is open.
    let created =
        unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, nothing, nothing, 0) };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call takes an open descriptor and numbers.
    own(unsafe { libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, 0) })
}

/// Takes over the descriptor that a system call has returned.
fn own(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(result).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just returned this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Number of CPUs that the machine may bring up.
pub(crate) fn configured_cpus() -> i32 {
    // SAFETY: `sysconf` takes an integer and touches no memory of ours.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    i32::try_from(count).unwrap_or(1).max(1)
}

/// Length of a memory page in bytes.
pub(crate) fn page_len() -> usize {
    // SAFETY: `sysconf` takes an integer and touches no memory of ours.
    let len = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(len).unwrap_or(4096)
}

/// The soft limit on locked memory in bytes; `None` when there is no limit.
pub(crate) fn locked_memory_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that the call only writes to; on failure it stays 0.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}
