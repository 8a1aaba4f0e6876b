//! A JSON scanner that reads a few values out of a document as it passes.
//!
//! The scanner can stop at any byte and go on with the next piece. It holds the
//! path to where it is, one short string, and a counter for the nesting of what
//! nobody asked for, so a document of any size and depth costs the same memory.
//! What is not JSON ends the scan; the values seen until then stand.

use memchr::memchr2;

use crate::field::Field;

/// Longest string that is handed on; the rest of a longer one is dropped.
pub(crate) const MAX_TEXT: usize = 256;

/// Longest number that is handed on whole.
const MAX_SCALAR: usize = 40;

/// A key to look for, what its value means, and the keys below it.
///
/// Elements of an array are the child with the key `[]`.
#[derive(Debug)]
pub(crate) struct Node {
    key: &'static str,
    field: Option<Field>,
    children: &'static [Self],
}

impl Node {
    /// A value that is handed on.
    pub(crate) const fn value(key: &'static str, field: Field) -> Self {
        Self { key, field: Some(field), children: &[] }
    }

    /// A container that is entered.
    pub(crate) const fn inside(key: &'static str, children: &'static [Self]) -> Self {
        Self { key, field: None, children }
    }

    /// A container that is entered, and whose beginning and end are handed on.
    pub(crate) const fn both(key: &'static str, field: Field, children: &'static [Self]) -> Self {
        Self { key, field: Some(field), children }
    }

    fn child(&'static self, key: &[u8]) -> Option<&'static Self> {
        self.children.iter().find(|child| child.key.as_bytes() == key)
    }
}

/// What stands at a key that was looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    /// An object or array begins.
    Open,
    /// It ends.
    Close,
    /// A string, unescaped, up to [`MAX_TEXT`] bytes.
    Text(&'a str),
    /// A number or literal, as written.
    Scalar(&'a str),
}

/// Reads one document.
pub(crate) struct Scanner {
    root: &'static Node,
    /// Containers on the path to here that are looked into.
    path: Vec<Frame>,
    state: State,
    /// What the next value means, if anything.
    target: Option<&'static Node>,
    /// Containers that are open inside a value nobody asked for.
    skipped: u64,
    text: Vec<u8>,
    escape: Escape,
    /// First half of a surrogate pair.
    high: Option<u16>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    node: &'static Node,
    array: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    Key,
    KeyText,
    Colon,
    Text,
    Scalar,
    Skip,
    SkipText,
    Done,
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Backslash,
    Unicode { digits: u8, value: u16 },
}

impl Scanner {
    pub(crate) fn new(root: &'static Node) -> Self {
        Self {
            root,
            path: Vec::new(),
            state: State::Value,
            target: Some(root),
            skipped: 0,
            text: Vec::new(),
            escape: Escape::None,
            high: None,
        }
    }

    /// Forgets the document, for the next one.
    pub(crate) fn reset(&mut self) {
        self.path.clear();
        self.state = State::Value;
        self.target = Some(self.root);
        self.skipped = 0;
        self.text.clear();
        self.escape = Escape::None;
        self.high = None;
    }

    /// True when a whole document was read.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Gives the document up: bytes of it are missing.
    pub(crate) fn give_up(&mut self) {
        self.state = State::Broken;
    }

    /// Adds the next bytes, split anywhere, and hands on the values they complete.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(Field, Value<'_>)) {
        while let Some(byte) = bytes.first() {
            let used = match self.state {
                State::Value => self.value(*byte, sink),
                State::Key => self.key(*byte, sink),
                State::KeyText | State::Text => self.string(bytes, sink),
                State::Colon => {
                    self.state = match byte {
                        b':' => State::Value,
                        byte if byte.is_ascii_whitespace() => State::Colon,
                        _ => State::Broken,
                    };
                    1
                }
                State::Scalar => self.scalar(*byte, sink),
                State::Skip => self.skip(bytes),
                State::SkipText => self.skip_text(bytes),
                State::Done | State::Broken => return,
            };
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    fn value(&mut self, byte: u8, sink: &mut impl FnMut(Field, Value<'_>)) -> usize {
        match byte {
            b'{' | b'[' => match self.target {
                Some(node) if !node.children.is_empty() => {
                    hand_on(Some(node), Value::Open, sink);
                    self.path.push(Frame { node, array: byte == b'[' });
                    self.after_value();
                }
                target => {
                    hand_on(target, Value::Open, sink);
                    self.skipped = 1;
                    self.state = State::Skip;
                }
            },
            b'"' => {
                self.text.clear();
                let wanted = self.target.is_some_and(|node| node.field.is_some());
                self.state = if wanted { State::Text } else { State::SkipText };
            }
            b']' if self.path.last().is_some_and(|frame| frame.array) => self.close(sink),
            b',' => {}
            // A byte order mark.
            0xef | 0xbb | 0xbf if self.path.is_empty() => {}
            byte if byte.is_ascii_whitespace() => {}
            byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                self.text.clear();
                self.state = State::Scalar;
                return 0;
            }
            _ => self.state = State::Broken,
        }
        1
    }

    fn key(&mut self, byte: u8, sink: &mut impl FnMut(Field, Value<'_>)) -> usize {
        match byte {
            b'"' => {
                self.text.clear();
                self.state = State::KeyText;
            }
            b'}' => self.close(sink),
            b',' => {}
            byte if byte.is_ascii_whitespace() => {}
            _ => self.state = State::Broken,
        }
        1
    }

    /// Reads a string that is a key or a value somebody asked for.
    fn string(&mut self, bytes: &[u8], sink: &mut impl FnMut(Field, Value<'_>)) -> usize {
        if self.escape != Escape::None {
            self.unescape(bytes.first().copied().unwrap_or_default());
            return 1;
        }
        let end = memchr2(b'"', b'\\', bytes);
        let plain = end.and_then(|end| bytes.get(..end)).unwrap_or(bytes);
        if !plain.is_empty() {
            self.high = None;
        }
        let closed = end.and_then(|end| bytes.get(end)) == Some(&b'"');
        if closed && self.text.is_empty() {
            // The common case: the whole string is here, and nothing in it is escaped.
            self.string_ends(plain, sink);
        } else {
            let room = MAX_TEXT.saturating_sub(self.text.len());
            self.text.extend_from_slice(plain.get(..room).unwrap_or(plain));
            if closed {
                let text = std::mem::take(&mut self.text);
                self.string_ends(&text, sink);
                self.text = text;
            } else if end.is_some() {
                self.escape = Escape::Backslash;
            }
        }
        plain.len().saturating_add(usize::from(end.is_some()))
    }

    fn string_ends(&mut self, text: &[u8], sink: &mut impl FnMut(Field, Value<'_>)) {
        self.high = None;
        if self.state == State::KeyText {
            self.target = self.path.last().and_then(|frame| frame.node.child(text));
            self.state = State::Colon;
            return;
        }
        let text = text.get(..MAX_TEXT).unwrap_or(text);
        hand_on(self.target, Value::Text(&String::from_utf8_lossy(text)), sink);
        self.after_value();
    }

    fn unescape(&mut self, byte: u8) {
        match self.escape {
            Escape::Unicode { digits, value } => {
                let digit =
                    char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok());
                let value = (value << 4) | digit.unwrap_or_default();
                self.escape = Escape::Unicode { digits: digits.saturating_add(1), value };
                if digits >= 3 {
                    self.escape = Escape::None;
                    self.unit(value);
                }
            }
            _ => {
                self.escape = Escape::None;
                let byte = match byte {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'b' => 8,
                    b'f' => 12,
                    b'u' => {
                        self.escape = Escape::Unicode { digits: 0, value: 0 };
                        return;
                    }
                    byte => byte,
                };
                self.high = None;
                self.push(&[byte]);
            }
        }
    }

    /// Adds a UTF-16 code unit.
    fn unit(&mut self, unit: u16) {
        let units = self.high.take().into_iter().chain([unit]);
        if (0xd800..0xdc00).contains(&unit) {
            self.high = Some(unit);
            return;
        }
        for decoded in char::decode_utf16(units) {
            let decoded = decoded.unwrap_or(char::REPLACEMENT_CHARACTER);
            self.push(decoded.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.text.len().saturating_add(bytes.len()) <= MAX_TEXT {
            self.text.extend_from_slice(bytes);
        }
    }

    fn scalar(&mut self, byte: u8, sink: &mut impl FnMut(Field, Value<'_>)) -> usize {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.') {
            if self.text.len() < MAX_SCALAR {
                self.text.push(byte);
            }
            return 1;
        }
        let text = std::mem::take(&mut self.text);
        hand_on(self.target, Value::Scalar(std::str::from_utf8(&text).unwrap_or_default()), sink);
        self.text = text;
        self.after_value();
        0
    }

    /// Skips the inside of a container nobody asked for, up to the next string.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        for (index, byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => {
                    self.state = State::SkipText;
                    return index.saturating_add(1);
                }
                b'{' | b'[' => self.skipped = self.skipped.saturating_add(1),
                b'}' | b']' => {
                    self.skipped = self.skipped.saturating_sub(1);
                    if self.skipped == 0 {
                        self.after_value();
                        return index.saturating_add(1);
                    }
                }
                _ => {}
            }
        }
        bytes.len()
    }

    fn skip_text(&mut self, bytes: &[u8]) -> usize {
        let mut used =
            usize::from(std::mem::replace(&mut self.escape, Escape::None) != Escape::None);
        while let Some(rest) = bytes.get(used..) {
            let Some(found) = find_special(rest) else { return bytes.len() };
            used = used.saturating_add(found).saturating_add(1);
            if rest.get(found) == Some(&b'"') {
                if self.skipped > 0 {
                    self.state = State::Skip;
                } else {
                    self.after_value();
                }
                return used;
            }
            if used >= bytes.len() {
                self.escape = Escape::Backslash;
                return used;
            }
            used = used.saturating_add(1);
        }
        bytes.len()
    }

    fn close(&mut self, sink: &mut impl FnMut(Field, Value<'_>)) {
        if let Some(frame) = self.path.pop() {
            hand_on(Some(frame.node), Value::Close, sink);
        }
        self.after_value();
    }

    /// What is expected after a value, or at the beginning of a container.
    fn after_value(&mut self) {
        (self.state, self.target) = match self.path.last() {
            None => (State::Done, None),
            Some(frame) if frame.array => (State::Value, frame.node.child(b"[]")),
            Some(_) => (State::Key, None),
        };
    }
}

/// Where the next quote or backslash is. Escapes often stand close together, where a plain loop
/// is faster than a vectorised search; far apart the search is.
fn find_special(bytes: &[u8]) -> Option<usize> {
    const NEAR: usize = 16;
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\');
    if let Some(found) = bytes.iter().take(NEAR).position(is_special) {
        return Some(found);
    }
    memchr2(b'"', b'\\', bytes.get(NEAR..)?).map(|found| found.saturating_add(NEAR))
}

fn hand_on(node: Option<&'static Node>, value: Value<'_>, sink: &mut impl FnMut(Field, Value<'_>)) {
    if let Some(field) = node.and_then(|node| node.field) {
        sink(field, value);
    }
}
