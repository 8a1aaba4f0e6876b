//! What `capture` tells: the events, and who they are about.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// Length of the tick in which `/proc` counts the start of a process, in nanoseconds.
///
/// `USER_HZ` is 100 on every architecture that Linux runs on today but Alpha.
pub const TICK_NANOS: u64 = 10_000_000;

/// A process: its pid, and when it started, because pids are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// Process id, as the pid namespace of this process counts.
    pub pid: u32,
    /// Start in nanoseconds since boot, cut to whole ticks of 10 ms ([`TICK_NANOS`]), so
    /// that it equals field 22 of `/proc/PID/stat` times [`TICK_NANOS`]. Not changed by exec.
    pub start_time: u64,
}

/// One use of one TLS object in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The process that owns the object.
    pub process: ProcessId,
    /// Address of the TLS object in the process.
    pub object: u64,
    /// Tells apart the connections that use the same address one after the other.
    pub generation: u64,
}

/// Which way bytes went, seen from the program that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Written by the program.
    Sent,
    /// Read by the program.
    Received,
}

/// Captured bytes. `Debug` prints only their number, and there is no `Display`, so that
/// no log can hold what a person typed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload(Box<[u8]>);

/// What was seen.
///
/// `at` is always nanoseconds on the kernel's monotonic clock (`bpf_ktime_get_ns`).
/// Events come in the order of their causes: a process's `Started` before its data, its
/// data before its `Exited`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A process of this node, watched or not, sent a TLS `ClientHello`.
    Hello {
        /// Who connected.
        process: ProcessId,
        /// The same process as it was then.
        caller: Box<Caller>,
        /// When the last byte of the hello was sent.
        at: u64,
        /// The name asked for (SNI), lower case; absent when the hello has none.
        server_name: Option<String>,
        /// Whether the hello has an `encrypted_client_hello` extension of the outer type
        /// (RFC 9849): then `server_name` may be that of a front, and the name meant is hidden.
        /// Programs that hide nothing send this extension, too, so that nobody can tell.
        ech: bool,
        /// The client's random, folded to 64 bits: the same in two hellos only when one passes
        /// the other on, as a transparent proxy or a sidecar does.
        random: u64,
        /// Where the connection goes.
        peer: SocketAddr,
    },
    /// A process of this node, watched or not, opened a connection with what starts like an
    /// HTTP request in plain text. A tunnel asked for so (CONNECT) may be followed by a
    /// [`Hello`](Self::Hello) of the same process to the same peer.
    Opening {
        /// Who connected.
        process: ProcessId,
        /// The same process as it was then.
        caller: Box<Caller>,
        /// When the last of the bytes were sent.
        at: u64,
        /// Where the connection goes.
        peer: SocketAddr,
        /// The first bytes: up to the empty line after the headers, at most 2 KiB. They may hold
        /// keys; drop them when they are read.
        bytes: Payload,
    },
    /// A name server answered a process of this node. Answers that a stub resolver on this
    /// machine gives count, and so do those that it gets itself. Names that are asked for over
    /// TLS or HTTPS are not seen.
    Resolved {
        /// Who asked; absent when our pid namespace does not show it.
        process: Option<ProcessId>,
        /// When the answer came.
        at: u64,
        /// The name that was asked for, lower case.
        name: String,
        /// The addresses it has, directly or through other names (CNAME). Never empty, at most
        /// 64.
        addresses: Vec<IpAddr>,
    },
    /// A process of this node connected to an address that
    /// [`Capture::interest`](crate::Capture::interest) named.
    Connected {
        /// Who connected.
        process: ProcessId,
        /// The same process as it was then.
        caller: Box<Caller>,
        /// When the connection stood.
        at: u64,
        /// Where it goes; IPv4 as such, also from an IPv6 socket.
        peer: SocketAddr,
    },
    /// A watched process read or wrote plaintext.
    Data(Plaintext),
    /// A watched process named the server it wants on this connection.
    Named {
        /// The connection.
        connection: ConnectionId,
        /// When.
        at: u64,
        /// The name, as the program gave it.
        server_name: String,
    },
    /// The TLS object is freed, the process is gone or executed another program.
    Closed {
        /// The connection.
        connection: ConnectionId,
        /// When.
        at: u64,
    },
    /// A process was forked, or executed a program.
    Started {
        /// The process.
        process: ProcessId,
        /// Its parent.
        parent: ProcessId,
        /// How it started.
        how: Start,
        /// When.
        at: u64,
        /// Whether the process is watched now: a fork child of a watched process is, and
        /// exec ends a watch, because it is another program then.
        watched: bool,
    },
    /// A process ended. If it was watched, it no longer is.
    Exited {
        /// The process.
        process: ProcessId,
        /// When.
        at: u64,
    },
    /// A watched process maps a TLS library, and probes are in it.
    Attached {
        /// The process.
        process: ProcessId,
        /// The library.
        library: Library,
    },
    /// A watched process maps a TLS library that no probe could be set in.
    Refused {
        /// The process.
        process: ProcessId,
        /// Path of the library, as the process sees it.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
    },
}

/// Bytes that a watched process read or wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plaintext {
    /// The connection.
    pub connection: ConnectionId,
    /// When the function returned, nanoseconds on the kernel's monotonic clock.
    pub at: u64,
    /// Which way.
    pub direction: Direction,
    /// Offset of the first byte in this direction's stream, counted from the first byte seen. What
    /// comes next of the stream starts at `offset + bytes.len()`; when it starts later, the
    /// difference passed and was not seen.
    pub offset: u64,
    /// The bytes.
    pub bytes: Payload,
}

/// A process as it was when something was seen of it: enough to name one that is gone by the
/// time anybody looks. All of it can be chosen by the process or whoever started it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// What the process calls itself (`comm`), at most 15 bytes.
    pub name: String,
    /// Its user, as the first user namespace counts.
    pub user: u32,
    /// Its parent; absent when our pid namespace does not show it.
    pub parent: Option<ProcessId>,
    /// What it runs; absent when it started before us and is gone already.
    pub program: Option<Arc<Program>>,
}

/// What a process executed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// The file that runs; of a script, its interpreter. Of a process that ended before we looked,
    /// what it named, without links where those can still be seen.
    pub executable: PathBuf,
    /// The arguments, each ended by a zero byte as in `/proc/PID/cmdline`; the first 1 KiB. They
    /// may hold keys.
    pub arguments: Payload,
    /// Path of the cgroup from the root of its hierarchy, as in `/proc/PID/cgroup`: in v2 where
    /// the process has one there, else of the v1 controller `pids`. The last 8 parts of it.
    pub cgroup: String,
}

/// How a process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Start {
    /// Fork: the same program in a new process.
    Forked,
    /// Exec: a new program in the same process.
    Executed,
}

/// A file with TLS functions that a process maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Path, as the process sees it.
    pub path: Arc<PathBuf>,
    /// The functions that have a probe, by name.
    pub functions: Vec<&'static str>,
}

impl ProcessId {
    /// The process with this pid that started then, in nanoseconds since boot.
    #[must_use]
    pub fn new(pid: u32, start_nanos: u64) -> Self {
        Self { pid, start_time: start_nanos - start_nanos % TICK_NANOS }
    }

    /// The process with this pid that started then, in ticks as `/proc/PID/stat` counts them.
    #[must_use]
    pub fn from_ticks(pid: u32, ticks: u64) -> Self {
        Self { pid, start_time: ticks.saturating_mul(TICK_NANOS) }
    }
}

impl Payload {
    /// The bytes, for who decodes them. They must not reach a log.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_does_not_print_what_it_holds() {
        let payload = Payload::from(b"sk-secret".as_slice());
        assert_eq!(format!("{payload:?}"), "9 bytes");
    }

    #[test]
    fn start_times_of_the_kernel_and_of_proc_are_equal() {
        assert_eq!(ProcessId::new(7, 123_456_789), ProcessId::from_ticks(7, 12));
    }
}
