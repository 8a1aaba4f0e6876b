//! Reads programs' plaintext in the kernel, and says which programs talk TLS to whom.
//!
//! [`Capture`] loads the eBPF programs of `bpf/`, sets probes in the TLS libraries of the
//! processes it is told to [`watch`](Capture::watch), and hands out what they see as
//! [`Event`]s. It knows no HTTP and no provider, and decides nothing: which process is
//! watched is the caller's choice. [`kernel::probe`] says what this machine allows.
//!
//! Start reading at [`Capture`]; then `bpf/events.h` and `bpf/tls.bpf.c`.

mod answer;
mod callers;
mod capture;
mod cgroup;
mod error;
mod event;
mod hello;
pub mod kernel;
mod library;
mod mapped;
mod node;
mod opening;
mod process;
mod programs;
mod reading;
mod record;
mod system;
mod watch;

pub use capture::{Capture, Config, Lost, Waker, Watched};
pub use error::Error;
pub use event::{
    Caller, ConnectionId, Direction, Event, Library, Payload, Plaintext, ProcessId, Program, Start,
    TICK_NANOS,
};
