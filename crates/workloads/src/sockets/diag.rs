//! TCP sockets of our own network namespace, asked of the kernel by netlink (`sock_diag(7)`): one
//! question, and an answer with those sockets alone that were asked for.
//!
//! Needs no privilege. The layouts are `struct inet_diag_req_v2` and `struct inet_diag_msg` of
//! `linux/inet_diag.h`.

use super::{Socket, State};
use rustix::fd::OwnedFd;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
    sockopt,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// The kernel fills messages of at most 32 KiB where the reader has room.
const BUFFER: usize = 32 << 10;

/// The kernel answers at once; a longer wait is a kernel that never will.
const PATIENCE: Duration = Duration::from_secs(2);

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x301;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP_ESTABLISHED: u8 = 1;
const TCP_LISTEN: u8 = 10;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;

/// All sockets in this state, at most `limit`.
///
/// # Errors
///
/// When the kernel has no `sock_diag` for TCP, or this process may not ask.
pub(super) fn dump(state: State, limit: usize) -> io::Result<Vec<Socket>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let request = request(family, state);
        sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        receive(&socket, limit, &mut found)?;
    }
    Ok(found)
}

fn receive(socket: &OwnedFd, limit: usize, found: &mut Vec<Socket>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let (_, length) = recv(socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        if take(buffer.get(..length).unwrap_or_default(), limit, found)? {
            return Ok(());
        }
    }
}

fn request(family: u8, state: State) -> [u8; HEADER + REQUEST] {
    let states: u32 = match state {
        State::Established => 1 << TCP_ESTABLISHED,
        State::Listening => 1 << TCP_LISTEN,
    };
    let mut message = [0; HEADER + REQUEST];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = message.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &u32::try_from(HEADER + REQUEST).unwrap_or_default().to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &REQUEST_DUMP.to_ne_bytes());
    put(HEADER, &[family, IPPROTO_TCP]);
    put(HEADER + 4, &states.to_ne_bytes());
    message
}

/// Takes the messages of one answer; true when it was the last.
fn take(mut bytes: &[u8], limit: usize, found: &mut Vec<Socket>) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = usize::try_from(length).unwrap_or_default();
        let Some(body) = bytes.get(HEADER..length) else { break };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = u32_at(body, 0).unwrap_or_default().cast_signed();
                return match code.checked_neg() {
                    Some(0) | None => Ok(true),
                    Some(code) => Err(io::Error::from_raw_os_error(code)),
                };
            }
            SOCK_DIAG_BY_FAMILY if found.len() < limit => found.extend(socket(body)),
            _ => {}
        }
        // Messages begin at multiples of four.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// One `struct inet_diag_msg`.
fn socket(body: &[u8]) -> Option<Socket> {
    let [family, state] = *body.first_chunk()?;
    let state = match state {
        TCP_ESTABLISHED => State::Established,
        TCP_LISTEN => State::Listening,
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(*body.get(at..)?.first_chunk()?));
    let address = |at: usize| match family {
        AF_INET => Some(IpAddr::from(Ipv4Addr::from(*body.get(at..)?.first_chunk::<4>()?))),
        AF_INET6 => {
            Some(IpAddr::from(Ipv6Addr::from(*body.get(at..)?.first_chunk::<16>()?)).to_canonical())
        }
        _ => None,
    };
    Some(Socket {
        local: SocketAddr::new(address(8)?, port(4)?),
        peer: SocketAddr::new(address(24)?, port(6)?),
        state,
        inode: u32_at(body, 68)?.into(),
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernel_tells_of_our_sockets_of_both_families_and_only_in_the_state_that_is_asked_for() {
        for place in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(place) else { continue };
            let listening = listener.local_addr().unwrap();
            let client = TcpStream::connect(listening).unwrap();
            let (local, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let established = dump(State::Established, 100_000).unwrap();
            let ours = |socket: &&Socket| socket.local == local && socket.peer == peer;
            assert!(established.iter().find(ours).unwrap().inode > 0);
            assert!(established.iter().all(|socket| socket.state == State::Established));
            let waiting = dump(State::Listening, 100_000).unwrap();
            assert!(waiting.iter().any(|socket| socket.local == listening));
            assert!(!waiting.iter().any(|socket| socket.local == local));
        }
    }

    #[test]
    fn an_answer_that_is_cut_or_says_no_ends_without_harm() {
        let mut found = Vec::new();
        assert!(!take(&[1, 2, 3], 9, &mut found).unwrap());
        assert!(!take(&[255; 40], 9, &mut found).unwrap());
        let mut refused = [0; 36];
        refused[0] = 36;
        refused[4] = 2;
        refused[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(take(&refused, 9, &mut found).unwrap_err().raw_os_error(), Some(1));
        // A length of zero must not be read for ever.
        assert!(!take(&[0; 64], 9, &mut found).unwrap());
        assert!(found.is_empty());
    }
}
