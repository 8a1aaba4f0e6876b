//! What can go wrong, one variant for each thing that a caller can do about it.

use std::path::PathBuf;

/// Why the store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory cannot be used.
    #[error(
        "cannot {doing} `{}`; give the directory to the user that runs sonde, or name another with --data-dir",
        path.display()
    )]
    Directory {
        /// What was tried, for instance `create`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process uses the data directory.
    #[error(
        "cannot use the data directory `{}`; {} uses it: stop that one, or name another with --data-dir",
        path.display(),
        owner.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Process id of the other one, where it could be read.
        owner: Option<u32>,
    },
    /// The file was written by a newer version.
    #[error(
        "cannot open `{}`: it has schema {found} and this version knows up to {known}; start the newer version of sonde that wrote it, or name another --data-dir",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Schema of the file.
        found: u32,
        /// Newest schema that is known here.
        known: u32,
    },
    /// A migration in the file's ledger is not the one that is known here.
    #[error(
        "cannot open `{}`: its migration {number} differs from the one of this version; the file was made by another build, restore it from a backup or name another --data-dir",
        path.display()
    )]
    Altered {
        /// The file.
        path: PathBuf,
        /// Number of the migration.
        number: u32,
    },
    /// The writer has too much to do; try again later.
    #[error("cannot take more calls now; the queue of the writer is full")]
    Busy,
    /// The disk is full, all but what other programs need.
    #[error("cannot take more calls; the disk is nearly full: free some space, or keep fewer days")]
    Full,
    /// No such workload.
    #[error("cannot find the workload; ask for the list of services again")]
    UnknownWorkload,
    /// The workload comes from a recording.
    #[error("cannot change a recorded service; it is played from a file, nothing runs")]
    Recorded,
    /// Another credential speaks for the node.
    #[error(
        "cannot let this controller speak for the node; another credential does: wait for two minutes of its silence, or let the node join anew on the page of the fleet"
    )]
    Taken,
    /// The token has no uses left.
    #[error(
        "cannot join with this token; as many nodes as may have joined with it, make another with `sonde tokens create --kind join`"
    )]
    Spent,
    /// The node's credential was revoked.
    #[error("cannot let this node join; it was revoked: let it join anew on the page of the fleet")]
    Revoked,
    /// No such node.
    #[error("cannot find the node; ask for the list of nodes again")]
    UnknownNode,
    /// The node has too much to do.
    #[error("cannot ask more of this node; 256 steps wait for it: take some back first")]
    TooManySteps,
    /// The database failed.
    #[error("cannot {doing}")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// ClickHouse does not answer, or not now; try again later.
    #[error("cannot reach ClickHouse at {url}; start it, or name another with --clickhouse")]
    Away {
        /// Where it was looked for.
        url: String,
        /// What the client said.
        source: Box<clickhouse::error::Error>,
    },
    /// ClickHouse refused.
    #[error("cannot {doing}; ClickHouse refused it")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        source: Box<clickhouse::error::Error>,
    },
    /// Something kept cannot be read back.
    #[error("cannot read back {what}")]
    Unreadable {
        /// What it is.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// Something kept is not what was written.
    #[error("cannot read back {what}; the file is damaged, restore it from a backup")]
    Damaged {
        /// What it is.
        what: &'static str,
    },
    /// A directory that has to be empty is not.
    #[error("cannot write to `{}`; it is not empty: name a new directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A place has nothing to copy, or already has what a copy would bring.
    #[error("cannot use `{}`; {why}", path.display())]
    Unsuited {
        /// The directory or database.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
    /// A directory is not a copy that can be used.
    #[error("cannot restore from `{}`; {why}: name another copy", path.display())]
    NotABackup {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system has no random numbers.
    #[error("cannot get random numbers from the system")]
    Random(#[source] std::io::Error),
    /// The writer is gone, because the store is being closed.
    #[error("cannot write any more; the store is closed")]
    Closed,
}

/// Names what was tried when SQLite fails.
pub(crate) trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, rusqlite::Error> {
    fn doing(self, what: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Database { doing: what, source })
    }
}

impl<T> Doing<T> for Result<T, serde_json::Error> {
    fn doing(self, what: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Unreadable { what, source })
    }
}
