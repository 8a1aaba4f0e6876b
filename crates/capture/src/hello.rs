//! Reads the TLS `ClientHello` (RFC 8446 section 4.1.2, RFC 6066 section 3).
//!
//! Everything here is hostile input: any process of the node sends it. The functions cannot
//! fail but by saying "no hello".

/// Bytes of one hello, records included; larger ones are not looked at. The kernel side
/// takes no more (`MAX_HELLO` in `bpf/opening.bpf.c`).
pub(crate) const MAX_HELLO: usize = 16 * 1024;

const SERVER_NAME: usize = 0;
/// RFC 9849 section 5.
const ENCRYPTED_CLIENT_HELLO: usize = 0xfe0d;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A whole `ClientHello`.
    Hello(Hello),
    /// The start of one.
    Incomplete,
    /// Something else.
    Other,
}

/// What a hello says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The name asked for, lower case.
    pub(crate) server_name: Option<String>,
    /// Whether it may hide another hello, with another name.
    pub(crate) ech: bool,
    /// The client's random, folded.
    pub(crate) random: u64,
}

/// Reads the first bytes that a client sent.
pub(crate) fn read(bytes: &[u8]) -> Reading {
    let handshake = match handshake(bytes) {
        Some(handshake) => handshake,
        None => return Reading::Other,
    };
    if !matches!(handshake.first(), Some(1) | None) {
        return Reading::Other;
    }
    let mut fields = Fields(handshake.get(1..).unwrap_or_default());
    let incomplete = || {
        if bytes.len() >= MAX_HELLO { Reading::Other } else { Reading::Incomplete }
    };
    let Some(len) = fields.number(3) else { return incomplete() };
    if len > MAX_HELLO {
        return Reading::Other;
    }
    match fields.take(len) {
        None => incomplete(),
        Some(body) => hello(body).map_or(Reading::Other, Reading::Hello),
    }
}

/// The handshake bytes inside the TLS records; `None` when these are no such records.
fn handshake(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut handshake = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        // Type 22, version 3.x, length; a record that is cut short counts as far as it goes.
        if rest.first() != Some(&22) || !matches!(rest.get(1), Some(3) | None) {
            // After a whole hello anything may follow; it is judged by what came before.
            return (!handshake.is_empty()).then_some(handshake);
        }
        let Some(len) = rest.get(3..5) else { break };
        let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
        if len == 0 {
            return None;
        }
        let body = rest.get(5..).unwrap_or_default();
        handshake.extend_from_slice(body.get(..len).unwrap_or(body));
        rest = body.get(len..).unwrap_or_default();
    }
    Some(handshake)
}

/// Reads a hello's body; `None` when it is malformed.
fn hello(body: &[u8]) -> Option<Hello> {
    let mut fields = Fields(body);
    fields.take(2)?; // version
    let random = fold(fields.take(32)?);
    let mut hello = Hello { server_name: None, ech: false, random };
    fields.vector(1)?; // session id
    fields.vector(2)?; // cipher suites
    fields.vector(1)?; // compression methods
    if fields.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Fields(fields.vector(2)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let content = extensions.vector(2)?;
        match kind {
            SERVER_NAME if hello.server_name.is_none() => hello.server_name = server_name(content)?,
            // The inner type, 1, is never sent in the clear.
            ENCRYPTED_CLIENT_HELLO => hello.ech = content.first() == Some(&0),
            _ => {}
        }
    }
    Some(hello)
}

/// The first host in a list of names; `None` when the list is malformed.
fn server_name(content: &[u8]) -> Option<Option<String>> {
    let mut names = Fields(Fields(content).vector(2)?);
    while !names.0.is_empty() {
        let kind = names.number(1)?;
        let name = names.vector(2)?;
        if kind == 0 {
            return Some(host(name));
        }
    }
    Some(None)
}

/// The exclusive or of a random's words: as good as random itself.
fn fold(random: &[u8]) -> u64 {
    let words = random.chunks(8).filter_map(|word| word.try_into().ok());
    words.map(u64::from_be_bytes).fold(0, |folded, word| folded ^ word)
}

/// A host name in lower case, without a dot at its end; nothing when it is none: RFC 6066 allows
/// ASCII only.
pub(crate) fn host(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let whole = (1..=253).contains(&name.len()) && name.bytes().all(allowed);
    whole.then(|| name.trim_end_matches('.').to_ascii_lowercase())
}

/// Takes fields off the front of a message.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of up to three bytes.
    pub(crate) fn number(&mut self, len: usize) -> Option<usize> {
        Some(self.take(len)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Bytes preceded by their length.
    pub(crate) fn vector(&mut self, len: usize) -> Option<&'a [u8]> {
        let len = self.number(len)?;
        self.take(len)
    }
}

#[cfg(test)]
pub(crate) mod tests;
