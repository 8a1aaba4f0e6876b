//! What can go wrong, one variant for each thing a caller can do about it.

use std::io;

/// Why capturing does not start, or a process is not watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The user may not do this here; run as root or grant what is named.
    #[error(
        "cannot capture: {missing}; run as root, or grant CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH (CAP_SYS_ADMIN where the kernel asks for it)"
    )]
    Privilege {
        /// What was refused.
        missing: String,
    },
    /// The kernel lacks something; `sonde doctor` says what and what it costs.
    #[error("cannot capture: {missing}")]
    Kernel {
        /// What is missing, and the next step.
        missing: String,
    },
    /// The process is gone, or was never there.
    #[error("cannot watch process {pid}; it is not running")]
    Gone {
        /// Its pid.
        pid: u32,
    },
    /// A setting has no meaning.
    #[error("cannot use `{setting}` = {value}; {expected}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The machine refused memory, descriptors or threads.
    #[error("cannot {doing}")]
    Resource {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}
