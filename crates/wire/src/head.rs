//! Heads of HTTP/1 messages: the first line and the headers.
//!
//! Tolerant on purpose: a head that a real peer would accept is read, whatever
//! a strict parser thinks of it. Secrets never get into a value of this module.

/// Headers kept for one head; what comes after them is dropped.
const MAX_HEADERS: usize = 128;

/// Longest header value kept; larger than any header we read. Bounds what a head costs.
const MAX_VALUE: usize = 4096;

/// Bytes of an opening that are read; what captures them takes half of it.
const MAX_OPENING: usize = 4096;

/// Longest host and port: 253 characters, a dot, a colon and five digits.
const MAX_SERVER: usize = 260;

/// Headers whose values are credentials. They are dropped where bytes become headers.
const SECRETS: [&str; 8] = [
    "authorization",
    "x-api-key",
    "api-key",
    "cookie",
    "set-cookie",
    "proxy-authorization",
    "x-goog-api-key",
    "x-auth-token",
];

/// Whether the value of a header is a credential. `name` is in lower case.
pub(crate) fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name)
}

/// The headers of one message, in order, without credentials.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of a header. `name` is in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a header, in order. `name` is in lower case.
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The elements of a header that is a list (`a, b`), over all its lines, in lower case.
    pub(crate) fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        self.all(name)
            .flat_map(|value| value.split(','))
            .map(|element| element.trim().to_ascii_lowercase())
            .filter(|element| !element.is_empty())
    }

    fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            let folded = matches!(line.first(), Some(b' ' | b'\t'));
            if folded {
                if let Some((_, value)) = headers.last_mut() {
                    append_folded(value, line);
                }
                continue;
            }
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
            let name = String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase();
            if headers.len() >= MAX_HEADERS {
                break;
            }
            let value = if is_secret(&name) {
                String::new()
            } else {
                text(value.get(1..).unwrap_or_default())
            };
            headers.push((name, value));
        }
        headers.retain(|(name, _)| !is_secret(name));
        Self(headers)
    }
}

/// Continuation lines of credentials stay dropped: their value is empty and stays so,
/// because the header itself is removed at the end.
fn append_folded(value: &mut String, line: &[u8]) {
    if value.len() < MAX_VALUE {
        value.push(' ');
        value.push_str(&text(line));
    }
}

fn text(value: &[u8]) -> String {
    let value = value.trim_ascii();
    String::from_utf8_lossy(value.get(..MAX_VALUE).unwrap_or(value)).into_owned()
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestHead {
    /// Method, as sent.
    pub method: String,
    /// Path, without the query (queries carry keys).
    pub path: String,
    /// Host and port that the request line names (absolute form, as sent to a proxy).
    pub authority: Option<String>,
    /// Headers, without credentials.
    pub headers: Headers,
}

impl RequestHead {
    /// Reads a whole head, up to its empty line. `None` when it is not one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = lines(bytes);
        let mut words = lines.next()?.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if !version.starts_with(b"HTTP/1.") || !method.iter().all(u8::is_ascii_alphabetic) {
            return None;
        }
        let method = String::from_utf8_lossy(method).into_owned();
        let target = String::from_utf8_lossy(target);
        let target = target.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = split_target(target, method == "CONNECT");
        Some(Self { method, path, authority, headers: Headers::parse(lines) })
    }
}

impl RequestHead {
    /// Reads the first bytes that a connection sent as the head of a request.
    ///
    /// The head may be cut short: a line without its end is left out, so that half a host is
    /// never taken for one. At most 4 KiB are read. `None` when it is no request.
    pub fn opening(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..MAX_OPENING).unwrap_or(bytes);
        let end = memchr::memrchr(b'\n', bytes)?;
        Self::parse(bytes.get(..end)?)
    }

    /// Whether it asks a proxy for a tunnel.
    pub fn is_tunnel(&self) -> bool {
        self.method == "CONNECT"
    }

    /// The server that is meant, as host or host and port: the one of the request line, where a
    /// proxy is asked, else that of the header Host. Absent when what stands there is no host.
    pub fn server(&self) -> Option<&str> {
        // RFC 9112 section 3.2.2: the request line wins.
        let server = self.authority.as_deref().or_else(|| self.headers.get("host"))?;
        let allowed = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']')
        };
        let is_host = (1..=MAX_SERVER).contains(&server.len()) && server.bytes().all(allowed);
        is_host.then_some(server)
    }
}

fn split_target(target: &str, connect: bool) -> (Option<String>, String) {
    if connect {
        return (Some(target.to_owned()), String::new());
    }
    let Some((_, rest)) = target.split_once("://") else { return (None, target.to_owned()) };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // User information before the host is a credential.
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    (Some(authority.to_owned()), format!("/{path}"))
}

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// Headers, without credentials.
    pub headers: Headers,
}

impl ResponseHead {
    /// Reads a whole head, up to its empty line. `None` when it is not one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = lines(bytes);
        let mut words = lines.next()?.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        if !words.next()?.starts_with(b"HTTP/1.") {
            return None;
        }
        let status: u16 = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        (100..=999).contains(&status).then(|| Self { status, headers: Headers::parse(lines) })
    }
}

/// Lines of a head without their terminators, up to the empty line.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{RequestHead, ResponseHead};

    #[test]
    fn credentials_never_become_values() {
        let head = RequestHead::parse(
            b"POST https://me:pw@h:1/v1/x?key=canary1 HTTP/1.1\r\nAuthorization: Bearer canary2\r\n  canary3\r\n\
              X-API-Key: canary4\r\ncookie:canary5\r\nProxy-Authorization: canary6\r\nAPI-KEY: canary7\r\nHost: h\r\n\r\n",
        )
        .unwrap();
        let shown = format!("{head:?}");
        assert!(!shown.contains("canary") && !shown.contains("pw@"), "{shown}");
        assert_eq!(head.authority.as_deref(), Some("h:1"));
        assert_eq!(head.path, "/v1/x");
        assert_eq!(head.headers.get("host"), Some("h"));
        let answer =
            ResponseHead::parse(b"HTTP/1.1 200 OK\r\nSet-Cookie: canary8\r\n\r\n").unwrap();
        assert!(!format!("{answer:?}").contains("canary"));
    }

    #[test]
    fn odd_heads_that_peers_accept_are_read() {
        let head =
            ResponseHead::parse(b"HTTP/1.1 200\nX-Long: a\n  b\nx-two:1\nX-TWO: 2\nnocolon\n\n")
                .unwrap();
        assert_eq!(head.status, 200);
        assert_eq!(head.headers.get("x-long"), Some("a b"));
        assert_eq!(head.headers.list("x-two").collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn an_opening_says_which_server_is_meant() {
        let server = |bytes: &[u8]| {
            RequestHead::opening(bytes).and_then(|head| Some(head.server()?.to_owned()))
        };
        assert_eq!(
            server(b"POST /api/chat HTTP/1.1\r\nHost: ollama:11434\r\nX: y").unwrap(),
            "ollama:11434"
        );
        assert_eq!(
            server(b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: proxy\r\n\r\n").unwrap(),
            "api.openai.com:443"
        );
        assert_eq!(
            server(b"GET http://u:pw@[::1]:80/x HTTP/1.1\nHost: other\n\n").unwrap(),
            "[::1]:80"
        );
        assert!(RequestHead::opening(b"CONNECT h:1 HTTP/1.1\r\n").unwrap().is_tunnel());
        // Half a host is none, and neither is half a request line.
        assert_eq!(server(b"GET / HTTP/1.1\r\nHost: api.open"), None);
        assert_eq!(RequestHead::opening(b"GET / HTTP/1.1"), None);
        for strange in ["a b", "x\u{1b}[31m", "", "<b>", &"a".repeat(300)] {
            assert_eq!(
                server(format!("GET / HTTP/1.1\r\nHost: {strange}\r\n\r\n").as_bytes()),
                None
            );
        }
        let long = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 9000], b"\r\nHost: late\r\n\r\n"]
            .concat();
        assert_eq!(server(&long), None);
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for bytes in [
            &b"\r\n"[..],
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"\xff\xfe",
        ] {
            assert_eq!(ResponseHead::parse(bytes), None, "{bytes:?}");
            assert_eq!(RequestHead::parse(bytes), None, "{bytes:?}");
            assert_eq!(RequestHead::opening(bytes), None, "{bytes:?}");
        }
    }
}
