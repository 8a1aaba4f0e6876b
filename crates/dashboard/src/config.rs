//! What a dashboard can be told.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// How to run a dashboard.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything is kept. One dashboard at a time.
    pub data_dir: PathBuf,
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names under which it may be asked, beside `localhost` and addresses; against DNS rebinding.
    /// When it listens on a loopback address, only loopback addresses and these are answered; on
    /// another address, an empty list means any name.
    pub allowed_hosts: Vec<String>,
    /// How long calls are kept, and what happens before the disk is full.
    pub limits: storage::Limits,
}

impl Config {
    /// A dashboard that keeps its data there and listens here.
    pub fn new(data_dir: &Path, listen: SocketAddr) -> Self {
        let limits = storage::Limits::default();
        Self { data_dir: data_dir.into(), listen, allowed_hosts: Vec::new(), limits }
    }
}
