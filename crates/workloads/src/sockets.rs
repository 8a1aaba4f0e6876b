//! Connections that are open, and the names that the node gives to addresses.
//!
//! This is how programs are found where the kernel may not be asked: slower, and by address, which is
//! a hint and never a proof.

use crate::process::{read_bytes, read_text};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// One table of sockets; a node with more has 100 000 of them.
const MAX_TABLE: u64 = 16 << 20;

/// Sockets that are looked at in one scan.
const MAX_CONNECTIONS: usize = 65_536;

/// Descriptors of one process that are looked at.
const MAX_DESCRIPTORS: usize = 16_384;

/// Names in `/etc/hosts`; block lists have more and are of no use here.
const MAX_HOSTS: usize = 4_096;

/// State `ESTABLISHED` in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// An established connection and its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Connection {
    /// Process that holds it; the first, where a fork shares it.
    pub pid: u32,
    /// The other end.
    pub peer: SocketAddr,
}

/// The established TCP connections of these processes, in every network namespace they are in.
pub(crate) fn established(root: &Path, pids: &[u32]) -> Vec<Connection> {
    let mut peers = HashMap::new();
    let mut seen = HashSet::new();
    for pid in pids {
        let directory = root.join("proc").join(pid.to_string());
        // Where the namespace may not be read, the node's own table has to do.
        let namespace = fs::metadata(directory.join("ns/net")).map_or(0, |metadata| metadata.ino());
        if seen.insert(namespace) {
            let tables = if namespace == 0 { root.join("proc/net") } else { directory.join("net") };
            read_table(&tables.join("tcp"), &mut peers);
            read_table(&tables.join("tcp6"), &mut peers);
        }
    }
    pids.iter().flat_map(|pid| owned(root, *pid, &mut peers)).collect()
}

fn read_table(path: &Path, peers: &mut HashMap<u64, SocketAddr>) {
    let text = read_text(path, MAX_TABLE).unwrap_or_default();
    for line in text.lines().skip(1) {
        let mut fields = line.split_whitespace();
        let (Some(remote), Some(state)) = (fields.nth(2), fields.next()) else { continue };
        let (Some(peer), Some(inode)) =
            (address(remote), fields.nth(5).and_then(|inode| inode.parse().ok()))
        else {
            continue;
        };
        if state == ESTABLISHED && peers.len() < MAX_CONNECTIONS {
            peers.insert(inode, peer);
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

/// Takes the connections of one process out of `peers`.
fn owned(root: &Path, pid: u32, peers: &mut HashMap<u64, SocketAddr>) -> Vec<Connection> {
    let Ok(descriptors) = fs::read_dir(root.join("proc").join(pid.to_string()).join("fd")) else {
        return Vec::new();
    };
    let inode = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
    };
    let inodes = descriptors.flatten().take(MAX_DESCRIPTORS).filter_map(inode);
    inodes.filter_map(|inode| Some(Connection { pid, peer: peers.remove(&inode)? })).collect()
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
    fn our_own_connection_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let found = established(Path::new("/"), &[std::process::id()]);
        assert!(
            found.contains(&Connection {
                pid: std::process::id(),
                peer: client.peer_addr().unwrap()
            })
        );
    }
}
