//! Reads the answers of name servers (RFC 1035 section 4).
//!
//! Everything here is hostile input: whoever answers a process of the node writes it. The
//! functions cannot fail but by saying "no answer", and every loop has a bound.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::hello::{Fields, host};

/// Records of one answer that are looked at; the rest is left out. A large pool has some 30.
const MAX_RECORDS: usize = 128;
/// Addresses of one name; the rest is left out.
const MAX_ADDRESSES: usize = 64;
/// Names that lead to each other; resolvers give up sooner.
const MAX_CHAIN: usize = 16;
/// Bytes of a name (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 255;

const A: usize = 1;
const CNAME: usize = 5;
const AAAA: usize = 28;
const INTERNET: usize = 1;

/// A name and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The name that was asked for, lower case.
    pub(crate) name: String,
    /// Never empty.
    pub(crate) addresses: Vec<IpAddr>,
}

/// What one record says of its owner.
enum Says {
    Address(IpAddr),
    Alias(String),
}

/// Reads a message; `None` when it gives no address to the name that it was asked for.
pub(crate) fn read(message: &[u8]) -> Option<Answer> {
    let mut fields = Fields(message);
    fields.take(2)?; // id
    let flags = fields.number(2)?;
    let (questions, answers) = (fields.number(2)?, fields.number(2)?);
    fields.take(4)?; // authorities, additional records
    // A response to a plain query, without an error.
    if flags & 0xf80f != 0x8000 || questions != 1 {
        return None;
    }
    let name = name(message, &mut fields)??;
    fields.take(4)?; // type, class
    let mut records = Vec::new();
    for _ in 0..answers.min(MAX_RECORDS) {
        // A message that is cut short counts as far as it goes.
        let Some(record) = record(message, &mut fields) else { break };
        records.extend(record);
    }
    let addresses = addresses(&name, &records);
    (!addresses.is_empty()).then_some(Answer { name, addresses })
}

/// The addresses of a name, through every other name that it leads to.
fn addresses(name: &str, records: &[(String, Says)]) -> Vec<IpAddr> {
    let mut names = vec![name];
    let mut next = 0;
    while let Some(known) = names.get(next).copied() {
        next += 1;
        for (owner, says) in records {
            if let Says::Alias(alias) = says
                && owner == known
                && names.len() < MAX_CHAIN
                && !names.contains(&alias.as_str())
            {
                names.push(alias);
            }
        }
    }
    let of_names = records.iter().filter(|(owner, _)| names.contains(&owner.as_str()));
    let addresses = of_names.filter_map(|(_, says)| match says {
        Says::Address(address) => Some(*address),
        Says::Alias(_) => None,
    });
    addresses.take(MAX_ADDRESSES).collect()
}

/// Reads a record. The outer `None` is the end of what can be read, the inner one a record
/// that says nothing of interest.
fn record<'a>(message: &'a [u8], fields: &mut Fields<'a>) -> Option<Option<(String, Says)>> {
    let owner = name(message, fields)?;
    let (kind, class) = (fields.number(2)?, fields.number(2)?);
    fields.take(4)?; // how long it lasts
    let content = fields.vector(2)?;
    if class != INTERNET {
        return Some(None);
    }
    let says = match kind {
        A => <[u8; 4]>::try_from(content).ok().map(|octets| IpAddr::from(Ipv4Addr::from(octets))),
        AAAA => {
            <[u8; 16]>::try_from(content).ok().map(|octets| IpAddr::from(Ipv6Addr::from(octets)))
        }
        CNAME => {
            let alias = name(message, &mut Fields(content)).flatten();
            return Some(owner.zip(alias.map(Says::Alias)));
        }
        _ => None,
    };
    Some(owner.zip(says.map(Says::Address)))
}

/// Reads a name: labels, and at the end perhaps a pointer to where it goes on (section 4.1.4).
/// The outer `None` is a malformed name, the inner one a name that no host has.
fn name<'a>(message: &'a [u8], fields: &mut Fields<'a>) -> Option<Option<String>> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut rest = *fields;
    // A pointer leads backwards, each further back than the one before, so that it ends.
    let mut limit = message.len();
    let mut is_behind_pointer = false;
    loop {
        let len = rest.number(1)?;
        match len >> 6 {
            0 if len == 0 => break,
            0 => {
                bytes.extend_from_slice(rest.take(len)?);
                bytes.push(b'.');
                if bytes.len() > MAX_NAME {
                    return None;
                }
            }
            3 => {
                let to = (len & 0x3f) << 8 | rest.number(1)?;
                if !is_behind_pointer {
                    *fields = rest;
                    is_behind_pointer = true;
                }
                if to >= limit {
                    return None;
                }
                limit = to;
                rest = Fields(message.get(to..)?);
            }
            _ => return None,
        }
    }
    if !is_behind_pointer {
        *fields = rest;
    }
    Some(host(&bytes))
}

#[cfg(test)]
mod tests;
