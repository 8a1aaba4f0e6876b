//! TCP sockets and their owners, and the names that the node gives to addresses.
//!
//! The kernel is asked for the sockets of our own network namespace (`diag`); the tables of others,
//! and all of them where it does not answer, are read from `/proc/PID/net`. Who owns a socket stands
//! in the descriptors of processes alone: they are searched for the few sockets that matter.

mod diag;

use crate::process::{self, read_bytes, read_text};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// One table of sockets; a node with more has 100 000 of them.
const MAX_TABLE: u64 = 16 << 20;

/// Sockets that are looked at in one look.
const MAX_SOCKETS: usize = 65_536;

/// Descriptors of one process that are looked at.
const MAX_DESCRIPTORS: usize = 16_384;

/// Processes that are looked at.
const MAX_PROCESSES: usize = 32_768;

/// Names in `/etc/hosts`; block lists have more and are of no use here.
const MAX_HOSTS: usize = 4_096;

/// What a socket is for, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// A connection.
    Established,
    /// It takes connections.
    Listening,
}

/// One TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Socket {
    /// This end.
    pub local: SocketAddr,
    /// The other end; all zero for one that listens.
    pub peer: SocketAddr,
    /// What it is for.
    pub state: State,
    /// By which it is found among the descriptors of processes.
    pub inode: u64,
}

/// The sockets of a node.
#[derive(Debug, Clone)]
pub struct Sockets {
    root: PathBuf,
    /// Whether the node's root is ours, so that the kernel's word is about the same namespace.
    is_own: bool,
}

impl Sockets {
    /// The sockets of the node with this root directory.
    pub fn of(root: &Path) -> Self {
        Self { root: root.to_owned(), is_own: root == Path::new("/") }
    }

    /// Whether the kernel itself can be asked; else tables are read, which takes longer.
    pub fn can_ask_the_kernel(&self) -> bool {
        self.is_own && diag::dump(State::Listening, 1).is_ok()
    }

    /// All sockets in this state: of our own network namespace, and of those that these processes
    /// are in.
    pub fn all(&self, state: State, pids: &[u32]) -> Vec<Socket> {
        let mut found = BTreeMap::new();
        let mut seen = HashSet::new();
        match self.is_own.then(|| diag::dump(state, MAX_SOCKETS).ok()).flatten() {
            Some(own) => {
                seen.insert(self.namespace("self"));
                found.extend(own.into_iter().map(|socket| (socket.inode, socket)));
            }
            None => self.read_tables("self", state, &mut found),
        }
        for pid in pids {
            let pid = pid.to_string();
            // Where the namespace may not be read, the node's own table has to do.
            let namespace = self.namespace(&pid);
            if namespace.is_some() && seen.insert(namespace) {
                self.read_tables(&pid, state, &mut found);
            }
        }
        found.into_values().collect()
    }

    /// The sockets of one process, in both states.
    pub fn of_process(&self, pid: u32) -> Vec<Socket> {
        let inodes = self.inodes(pid);
        let mut found = BTreeMap::new();
        let name = pid.to_string();
        let is_ours = self.is_own && self.namespace(&name) == self.namespace("self");
        for state in [State::Established, State::Listening] {
            match is_ours.then(|| diag::dump(state, MAX_SOCKETS).ok()).flatten() {
                Some(all) => found.extend(all.into_iter().map(|socket| (socket.inode, socket))),
                None => self.read_tables(&name, state, &mut found),
            }
        }
        found.into_values().filter(|socket| inodes.contains(&socket.inode)).collect()
    }

    /// The processes that hold these sockets; the first, where a fork shares one.
    ///
    /// Searches the descriptors of processes until all are found: the fewer, the cheaper.
    pub fn owners(&self, inodes: &HashSet<u64>, pids: &[u32]) -> HashMap<u64, u32> {
        let mut owners = HashMap::new();
        for pid in pids {
            if owners.len() >= inodes.len() {
                break;
            }
            for inode in self.inodes(*pid).into_iter().filter(|inode| inodes.contains(inode)) {
                owners.entry(inode).or_insert(*pid);
            }
        }
        owners
    }

    /// Ids of the processes that run now, in order.
    pub fn pids(&self) -> Vec<u32> {
        process::pids(&self.root, MAX_PROCESSES)
    }

    /// Network namespace of a process, by a number that no other has.
    pub fn namespace_of(&self, pid: u32) -> Option<u64> {
        self.namespace(&pid.to_string())
    }

    fn namespace(&self, process: &str) -> Option<u64> {
        let link = self.root.join("proc").join(process).join("ns/net");
        fs::metadata(link).ok().map(|metadata| metadata.ino())
    }

    fn read_tables(&self, process: &str, state: State, found: &mut BTreeMap<u64, Socket>) {
        let directory = self.root.join("proc").join(process).join("net");
        read_table(&directory.join("tcp"), state, found);
        read_table(&directory.join("tcp6"), state, found);
    }

    /// Inodes of the sockets that a process holds.
    fn inodes(&self, pid: u32) -> HashSet<u64> {
        let directory = self.root.join("proc").join(pid.to_string()).join("fd");
        let Ok(descriptors) = fs::read_dir(directory) else { return HashSet::new() };
        let inode = |entry: fs::DirEntry| {
            let target = fs::read_link(entry.path()).ok()?;
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
        };
        descriptors.flatten().take(MAX_DESCRIPTORS).filter_map(inode).collect()
    }
}

fn read_table(path: &Path, state: State, found: &mut BTreeMap<u64, Socket>) {
    // `TCP_ESTABLISHED` and `TCP_LISTEN` of the kernel.
    let wanted = match state {
        State::Established => "01",
        State::Listening => "0A",
    };
    let text = read_text(path, MAX_TABLE).unwrap_or_default();
    for line in text.lines().skip(1) {
        let mut fields = line.split_whitespace();
        let (Some(local), Some(peer), Some(is)) = (fields.nth(1), fields.next(), fields.next())
        else {
            continue;
        };
        if is != wanted || found.len() >= MAX_SOCKETS {
            continue;
        }
        let inode = fields.nth(5).and_then(|inode| inode.parse().ok());
        if let (Some(local), Some(peer), Some(inode)) = (address(local), address(peer), inode) {
            found.insert(inode, Socket { local, peer, state, inode });
        }
    }
}

/// `0100007F:1F90`: the address in words of the machine's byte order, the port in hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        Some(u32::from_str_radix(address.get(index * 8..index * 8 + 8)?, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(index)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// Names and addresses of the file `/etc/hosts` below `root`.
pub fn hosts_file(root: &Path) -> Vec<(String, IpAddr)> {
    let text =
        String::from_utf8_lossy(&read_bytes(&root.join("etc/hosts"), 1 << 20).unwrap_or_default())
            .into_owned();
    let mut names = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = fields.next().and_then(|address| address.parse::<IpAddr>().ok()) else {
            continue;
        };
        names.extend(fields.map(|name| (name.to_ascii_lowercase(), address)));
        if names.len() >= MAX_HOSTS {
            break;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn addresses_of_the_table_are_read() {
        assert_eq!(address("0100007F:1F90"), Some("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(
            address("0000000000000000FFFF00000100007F:01BB"),
            Some("127.0.0.1:443".parse().unwrap())
        );
        assert_eq!(
            address("B80D01200000000067452301EFCDAB89:01BB"),
            Some("[2001:db8::123:4567:89ab:cdef]:443".parse().unwrap())
        );
        assert_eq!(address("0100007F"), None);
        assert_eq!(address("é100007F:1F90"), None);
    }

    #[test]
    fn our_own_sockets_are_found_by_the_kernel_and_by_the_table_alike() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let local = client.local_addr().unwrap();
        let us = std::process::id();
        let sockets = Sockets::of(Path::new("/"));
        let by_table = Sockets { is_own: false, ..sockets.clone() };
        for sockets in [sockets, by_table] {
            let connection = sockets
                .all(State::Established, &[us])
                .into_iter()
                .find(|socket| socket.local == local)
                .unwrap();
            assert_eq!(connection.peer, client.peer_addr().unwrap());
            let inodes = HashSet::from([connection.inode]);
            assert_eq!(sockets.owners(&inodes, &[us])[&connection.inode], us);
            let ours = sockets.of_process(us);
            assert!(ours.iter().any(|socket| socket.local == local));
            let listening = listener.local_addr().unwrap();
            let is_listener =
                |socket: &Socket| socket.state == State::Listening && socket.local == listening;
            assert!(ours.iter().any(is_listener));
        }
    }
}
