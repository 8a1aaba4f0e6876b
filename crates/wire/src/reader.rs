//! One direction of an HTTP/1 connection: where heads and bodies begin and end.
//!
//! The reader consumes bytes step by step and knows nothing of the other
//! direction; [`Connection`](crate::Connection) pairs the two and tells it how
//! the body after a head is framed.

use crate::Moment;

/// Longest head that is read; servers commonly refuse more than 8–32 KiB.
const MAX_HEAD: usize = 64 << 10;

/// Part of the current line kept while looking for the next head; a request line fits.
const MAX_LINE: usize = 8 << 10;

/// Longest trailer section, and longest chunk extension, that are skipped.
const MAX_TRAILER: u32 = 64 << 10;

/// Bytes that are searched for a first head before the traffic is called something else.
const MAX_SEARCH: u64 = 64 << 20;

/// Methods by which a request is recognised.
const METHODS: [&[u8]; 9] =
    [b"POST", b"GET", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE"];

/// The connection preface of HTTP/2 (RFC 9113, section 3.4), as far as it is unmistakable.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2";

/// Whose messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Requests,
    Responses,
}

/// How the body after a head is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// What the next bytes were.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// All bytes are consumed.
    More,
    /// A head is complete: take it with [`Reader::take_head`], then [`Reader::begin_body`].
    Head,
    /// A piece of the body.
    Body(&'a [u8]),
    /// The body is complete.
    End,
    /// The framing of the body is broken; the reader searches for the next head.
    Lost,
    /// The peer speaks HTTP/2.
    Http2,
}

/// What a gap did to the message that was being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    /// It lies inside the body, whose end is still known.
    Inside,
    /// The body ended, or may have ended, inside it.
    Over,
    /// No body was being read; whole messages may have passed.
    Between,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Search,
    Length(u64),
    UntilClose,
    Size { value: u64, digits: u8, extension: u32 },
    Data(u64),
    DataEnd,
    Trailer { total: u32, line: u32 },
    Finished,
}

/// Reads the messages of one direction.
pub(crate) struct Reader {
    role: Role,
    state: State,
    /// The head, or while searching the current line, as far as it was seen.
    held: Vec<u8>,
    began: Moment,
    /// Bytes searched in vain since the last head.
    searched: u64,
}

impl Reader {
    pub(crate) fn new(role: Role) -> Self {
        Self { role, state: State::Head, held: Vec::new(), began: Moment(0), searched: 0 }
    }

    /// The complete head, and when its first byte passed.
    pub(crate) fn take_head(&mut self) -> (Vec<u8>, Moment) {
        (std::mem::take(&mut self.held), self.began)
    }

    pub(crate) fn begin_body(&mut self, framing: Framing) {
        self.state = match framing {
            Framing::None | Framing::Length(0) => State::Finished,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => SIZE,
            Framing::UntilClose => State::UntilClose,
        };
    }

    /// Gives up the current message and looks for the next head.
    pub(crate) fn search(&mut self) {
        self.state = State::Search;
        self.held.clear();
    }

    pub(crate) fn ends_with_the_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// True when so much was searched in vain that this is not HTTP/1.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.searched > MAX_SEARCH
    }

    /// Consumes bytes from the front of `input` and says what they were.
    pub(crate) fn step<'a>(&mut self, at: Moment, input: &mut &'a [u8]) -> Step<'a> {
        loop {
            if self.state == State::Finished {
                self.state = State::Head;
                return Step::End;
            }
            if input.is_empty() {
                return Step::More;
            }
            let step = match self.state {
                State::Head => self.head(at, input),
                State::Search => {
                    self.search_line(at, input);
                    None
                }
                State::Length(left) => Some(self.data(left, input)),
                State::UntilClose => Some(Step::Body(std::mem::take(input))),
                State::Data(left) => Some(self.data(left, input)),
                State::Size { .. } | State::DataEnd | State::Trailer { .. } => self.framing(input),
                State::Finished => None,
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// Accounts for bytes that were not seen.
    pub(crate) fn gap(&mut self, length: u64) -> Gap {
        match self.state {
            State::Length(left) if length < left => {
                self.state = State::Length(left.saturating_sub(length));
            }
            State::Length(left) if length == left => self.state = State::Finished,
            State::Data(left) if length < left => {
                self.state = State::Data(left.saturating_sub(length));
            }
            State::Data(left) if length == left => self.state = State::DataEnd,
            State::UntilClose => {}
            State::Head | State::Search | State::Finished => {
                self.search();
                return Gap::Between;
            }
            _ => {
                self.search();
                return Gap::Over;
            }
        }
        Gap::Inside
    }

    fn data<'a>(&mut self, left: u64, input: &mut &'a [u8]) -> Step<'a> {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let piece = split(input, take);
        let left = left.saturating_sub(take as u64);
        self.state = match (self.state, left) {
            (State::Length(_), 0) => State::Finished,
            (State::Length(_), _) => State::Length(left),
            (_, 0) => State::DataEnd,
            _ => State::Data(left),
        };
        Step::Body(piece)
    }

    /// Adds lines to the head until the empty one.
    fn head<'a>(&mut self, at: Moment, input: &mut &'a [u8]) -> Option<Step<'a>> {
        if self.held.is_empty() {
            // An empty line before a head is allowed (RFC 9112, section 2.2).
            let blank = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            split(input, blank);
            self.began = at;
        }
        let line_end =
            memchr::memchr(b'\n', input).map_or(input.len(), |end| end.saturating_add(1));
        let room = MAX_HEAD.saturating_sub(self.held.len());
        let line = split(input, line_end.min(room));
        self.held.extend_from_slice(line);
        if self.held.is_empty() {
            return None;
        }
        if self.role == Role::Requests && self.held.starts_with(HTTP2_PREFACE) {
            return Some(Step::Http2);
        }
        if self.held.len() >= MAX_HEAD {
            self.search();
            return None;
        }
        if !self.is_plausible() {
            // What is held is at most one line: implausible shows in the first.
            let held = std::mem::take(&mut self.held);
            self.state = State::Search;
            self.search_line(at, &mut held.as_slice());
            return None;
        }
        if self.held.ends_with(b"\n\r\n") || self.held.ends_with(b"\n\n") {
            self.searched = 0;
            return Some(Step::Head);
        }
        None
    }

    /// Whether what is held can be the beginning of a head.
    fn is_plausible(&self) -> bool {
        let starts_like = |word: &[u8]| {
            let length = self.held.len().min(word.len());
            self.held.get(..length) == word.get(..length)
        };
        match self.role {
            Role::Responses => starts_like(b"HTTP/1."),
            Role::Requests => {
                starts_like(HTTP2_PREFACE)
                    || METHODS.iter().any(|method| {
                        starts_like(method)
                            && self.held.get(method.len()).is_none_or(|byte| *byte == b' ')
                    })
            }
        }
    }

    /// Looks for the first line of a head at the end of each line that passes.
    ///
    /// A body that is delimited by its length ends without a line end, so the
    /// head may begin anywhere in the line.
    fn search_line(&mut self, at: Moment, input: &mut &[u8]) {
        let end = memchr::memchr(b'\n', input);
        let line = split(input, end.map_or(input.len(), |end| end.saturating_add(1)));
        self.searched = self.searched.saturating_add(line.len() as u64);
        let tail = line.get(line.len().saturating_sub(MAX_LINE)..).unwrap_or(line);
        self.held.extend_from_slice(tail);
        let excess = self.held.len().saturating_sub(MAX_LINE);
        self.held.drain(..excess);
        if end.is_some() {
            let start = match self.role {
                Role::Requests => request_line(&self.held),
                Role::Responses => status_line(&self.held),
            };
            match start {
                Some(start) => {
                    self.held.drain(..start);
                    self.began = at;
                    self.state = State::Head;
                }
                None => self.held.clear(),
            }
        }
    }

    /// The lines between the data of a chunked body (RFC 9112, section 7.1).
    fn framing<'a>(&mut self, input: &mut &'a [u8]) -> Option<Step<'a>> {
        let byte = split(input, 1).first().copied().unwrap_or_default();
        let next = match self.state {
            State::Size { value, digits, extension } => size(value, digits, extension, byte),
            State::DataEnd => match byte {
                b'\r' => Some(State::DataEnd),
                b'\n' => Some(SIZE),
                _ => None,
            },
            State::Trailer { total, line } => trailer(total, line, byte),
            state => Some(state),
        };
        match next {
            Some(state) => {
                self.state = state;
                None
            }
            None => {
                self.search();
                Some(Step::Lost)
            }
        }
    }
}

const SIZE: State = State::Size { value: 0, digits: 0, extension: 0 };

fn size(value: u64, digits: u8, extension: u32, byte: u8) -> Option<State> {
    if byte == b'\n' {
        return match (digits, value) {
            (0, _) => None,
            (_, 0) => Some(State::Trailer { total: 0, line: 0 }),
            _ => Some(State::Data(value)),
        };
    }
    if extension > 0 || (digits > 0 && matches!(byte, b';' | b' ' | b'\t' | b'\r')) {
        return (extension < MAX_TRAILER).then(|| State::Size {
            value,
            digits,
            extension: extension.saturating_add(1),
        });
    }
    let digit = char::from(byte).to_digit(16)?;
    let value = value.checked_mul(16)?.checked_add(u64::from(digit))?;
    Some(State::Size { value, digits: digits.saturating_add(1), extension })
}

fn trailer(total: u32, line: u32, byte: u8) -> Option<State> {
    let total = total.saturating_add(1);
    match byte {
        b'\n' if line == 0 => Some(State::Finished),
        b'\n' => Some(State::Trailer { total, line: 0 }),
        b'\r' => Some(State::Trailer { total, line }),
        _ => (total < MAX_TRAILER).then(|| State::Trailer { total, line: line.saturating_add(1) }),
    }
}

/// Where a request line begins in a line, if the line ends with one.
fn request_line(line: &[u8]) -> Option<usize> {
    let text = line.trim_ascii_end();
    let version = memchr::memrchr(b' ', text)?;
    let (before, version) = text.split_at_checked(version)?;
    if !version.starts_with(b" HTTP/1.") {
        return None;
    }
    let before = before.get(..memchr::memrchr(b' ', before)?)?;
    let method = METHODS.iter().find(|method| before.ends_with(method))?;
    before.len().checked_sub(method.len())
}

/// Where a status line begins in a line, if there is one.
fn status_line(line: &[u8]) -> Option<usize> {
    let start = memchr::memmem::rfind(line, b"HTTP/1.")?;
    let mut rest = line.get(start..)?.iter().skip(b"HTTP/1.".len());
    let version = rest.next()?.is_ascii_digit();
    let space = *rest.next()? == b' ';
    let status = rest.take(3).filter(|byte| byte.is_ascii_digit()).count() == 3;
    (version && space && status).then_some(start)
}

/// Takes the first `length` bytes, or all if there are fewer.
fn split<'a>(input: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (front, back) = input.split_at_checked(length).unwrap_or((input, &[]));
    *input = back;
    front
}
