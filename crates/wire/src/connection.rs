//! One HTTP/1 connection: requests on one side, responses on the other, paired.

use std::collections::VecDeque;
use std::fmt;

use crate::coding::{Decoded, Decoder};
use crate::head::{Headers, RequestHead, ResponseHead};
use crate::reader::{Framing, Gap, Reader, Role, Step};
use crate::{Chunk, Direction, Moment};

/// Requests that may wait for their response; real pipelines are a handful deep.
const MAX_PENDING: usize = 64;

/// Which message of an exchange a part belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// What the program asked.
    Request,
    /// What it was answered.
    Response,
}

/// A part of an exchange, as it passes.
#[derive(Debug)]
pub struct Event<'a> {
    /// Number of the exchange on this connection, from 0. A response whose
    /// request was not seen has a number of its own.
    pub exchange: u64,
    /// Which message it is a part of.
    pub side: Side,
    /// The part.
    pub part: Part<'a>,
}

/// The parts of a message: a head, pieces of body and gaps in it, an end.
pub enum Part<'a> {
    /// The head of a request, whose first byte passed at the given moment.
    Request(RequestHead, Moment),
    /// The head of a response; interim ones (1xx) are not handed on.
    Response(ResponseHead, Moment),
    /// A piece of the body, its codings undone.
    Body(&'a [u8]),
    /// This many bytes of the body, as transferred, were not seen.
    Gap(u64),
    /// The message is over.
    End {
        /// In which way.
        ending: Ending,
        /// Size of the body as transferred, without framing and before its codings are undone.
        body_bytes: u64,
    },
}

/// How a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Where its framing says.
    Complete,
    /// With the connection, before that.
    Cut,
    /// Bytes of it were not seen.
    Gap,
    /// It cannot be read: broken framing, an unknown or broken coding, or a limit.
    Unreadable,
}

/// What the listener wants of the message whose head it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Its body.
    Body,
    /// Only its end: the body is skipped without being decoded.
    End,
}

/// What is spoken on a connection, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Not enough was seen.
    Undecided,
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2, which is recognised and not read.
    Http2,
    /// HTTP/1 was left by an upgrade (101) or a tunnel (CONNECT).
    Upgraded,
    /// Nothing that is known here.
    Other,
}

/// One observed connection.
pub struct Connection {
    protocol: Protocol,
    requests: Reader,
    responses: Reader,
    /// Requests without a response head yet.
    pending: VecDeque<Pending>,
    next: u64,
    sending: Option<Message>,
    receiving: Option<Message>,
    /// First bytes received, until it is clear that they are no HTTP/2 frame.
    greeting: Option<Vec<u8>>,
}

struct Pending {
    exchange: u64,
    method: Method,
    /// The body waits for a 100 (Continue).
    expects: bool,
    /// A gap may have swallowed the response.
    lost: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Head,
    Connect,
    Other,
}

/// A message whose body is passing.
struct Message {
    exchange: u64,
    side: Side,
    decoder: Option<Decoder>,
    body_bytes: u64,
    ending: Ending,
}

/// Takes events; its answer counts for heads only.
type Listener<'a> = &'a mut dyn FnMut(Event<'_>) -> Want;

// What passes on a connection is nobody's to print.
impl fmt::Debug for Part<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(head, began) => {
                formatter.debug_tuple("Request").field(head).field(began).finish()
            }
            Self::Response(head, began) => {
                formatter.debug_tuple("Response").field(head).field(began).finish()
            }
            Self::Body(bytes) => write!(formatter, "Body({} bytes)", bytes.len()),
            Self::Gap(length) => formatter.debug_tuple("Gap").field(length).finish(),
            Self::End { ending, body_bytes } => {
                write!(formatter, "End({ending:?}, {body_bytes} bytes)")
            }
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    /// A connection of which nothing was seen yet.
    pub fn new() -> Self {
        Self {
            protocol: Protocol::Undecided,
            requests: Reader::new(Role::Requests),
            responses: Reader::new(Role::Responses),
            pending: VecDeque::new(),
            next: 0,
            sending: None,
            receiving: None,
            greeting: Some(Vec::new()),
        }
    }

    /// What is spoken here.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// True when this connection will never give another event; `feed` then stores nothing.
    pub fn is_opaque(&self) -> bool {
        matches!(self.protocol, Protocol::Http2 | Protocol::Upgraded | Protocol::Other)
    }

    /// Adds the next chunk seen in one direction and hands on what it carries.
    ///
    /// Bytes may be split anywhere: feeding them one at a time gives the same
    /// parts as feeding them at once, but for how bodies are cut into pieces.
    /// A stream that starts in the middle is searched for the next head.
    ///
    /// Every exchange ends with the end of its response. When that comes first,
    /// the request's own end may never come.
    ///
    /// Never fails: traffic that is not HTTP/1 makes the connection
    /// [opaque](Self::is_opaque).
    pub fn feed(
        &mut self,
        at: Moment,
        direction: Direction,
        chunk: Chunk<'_>,
        listener: &mut dyn FnMut(Event<'_>) -> Want,
    ) {
        if self.is_opaque() {
            return;
        }
        match (direction, chunk) {
            (Direction::Sent, Chunk::Bytes(bytes)) => self.sent(at, bytes, listener),
            (Direction::Received, Chunk::Bytes(bytes)) => self.received(at, bytes, listener),
            (_, Chunk::Gap(0)) => {}
            (Direction::Sent, Chunk::Gap(length)) => {
                if let Gap::Over = gap(&mut self.requests, &mut self.sending, length, listener) {
                    end(self.sending.take(), Some(Ending::Gap), listener);
                }
            }
            (Direction::Received, Chunk::Gap(length)) => {
                self.greeting = None;
                let effect = gap(&mut self.responses, &mut self.receiving, length, listener);
                if effect != Gap::Inside {
                    end(self.receiving.take(), Some(Ending::Gap), listener);
                    self.pending.iter_mut().for_each(|pending| pending.lost = true);
                }
            }
        }
        if matches!(chunk, Chunk::Gap(_)) {
            // A body may have ended exactly with the gap.
            match direction {
                Direction::Sent => self.sent(at, &[], listener),
                Direction::Received => self.received(at, &[], listener),
            }
        }
        if self.requests.is_hopeless() || self.responses.is_hopeless() {
            self.leave(Protocol::Other, Ending::Unreadable, listener);
        }
    }

    /// The connection is over: ends every exchange that is not.
    pub fn close(&mut self, listener: &mut dyn FnMut(Event<'_>) -> Want) {
        if self.is_opaque() {
            return;
        }
        let by_framing = self.responses.ends_with_the_connection();
        end(self.sending.take(), Some(Ending::Cut), listener);
        end(self.receiving.take(), (!by_framing).then_some(Ending::Cut), listener);
        self.abandon(Ending::Cut, listener);
        *self = Self::new();
    }

    fn sent(&mut self, at: Moment, mut bytes: &[u8], listener: Listener<'_>) {
        loop {
            match self.requests.step(at, &mut bytes) {
                Step::More => return,
                Step::Head => self.request(listener),
                Step::Body(piece) => body(&mut self.sending, piece, listener),
                Step::End => end(self.sending.take(), None, listener),
                Step::Lost => end(self.sending.take(), Some(Ending::Unreadable), listener),
                Step::Http2 => return self.leave(Protocol::Http2, Ending::Unreadable, listener),
            }
            if self.is_opaque() {
                return;
            }
        }
    }

    fn received(&mut self, at: Moment, mut bytes: &[u8], listener: Listener<'_>) {
        if self.greets_as_http2(bytes) {
            return self.leave(Protocol::Http2, Ending::Unreadable, listener);
        }
        loop {
            match self.responses.step(at, &mut bytes) {
                Step::More => return,
                Step::Head => self.response(listener),
                Step::Body(piece) => body(&mut self.receiving, piece, listener),
                Step::End => end(self.receiving.take(), None, listener),
                Step::Lost => end(self.receiving.take(), Some(Ending::Unreadable), listener),
                Step::Http2 => {}
            }
            if self.is_opaque() {
                return;
            }
        }
    }

    /// Whether the first bytes received are a SETTINGS frame on stream 0, as every HTTP/2 server sends.
    fn greets_as_http2(&mut self, bytes: &[u8]) -> bool {
        const FRAME: usize = 9;
        let Some(greeting) = &mut self.greeting else { return false };
        let room = FRAME.saturating_sub(greeting.len());
        greeting.extend(bytes.iter().take(room));
        if greeting.len() < FRAME {
            return false;
        }
        let settings =
            matches!(greeting.as_slice(), [0, _, length, 4, 0, 0, 0, 0, 0] if length % 6 == 0);
        self.greeting = None;
        settings
    }

    fn request(&mut self, listener: Listener<'_>) {
        let (bytes, began) = self.requests.take_head();
        let Some(head) = RequestHead::parse(&bytes) else { return self.requests.search() };
        self.protocol = Protocol::Http1;
        // A new request after a gap in the responses: the client has what we have not seen.
        while self.pending.front().is_some_and(|pending| pending.lost) {
            let Some(lost) = self.pending.pop_front() else { break };
            end(Some(Message::unseen(lost.exchange)), Some(Ending::Gap), listener);
        }
        if self.pending.len() >= MAX_PENDING {
            return self.leave(Protocol::Other, Ending::Unreadable, listener);
        }
        let exchange = self.number();
        let method = match head.method.as_str() {
            "HEAD" => Method::Head,
            "CONNECT" => Method::Connect,
            _ => Method::Other,
        };
        let expects = head.headers.list("expect").any(|each| each == "100-continue");
        self.pending.push_back(Pending { exchange, method, expects, lost: false });
        self.requests.begin_body(framing(&head.headers, Framing::None));
        let message = Message::new(exchange, Side::Request, &head.headers);
        self.sending = Some(message.announce(Part::Request(head, began), listener));
    }

    fn response(&mut self, listener: Listener<'_>) {
        let (bytes, began) = self.responses.take_head();
        let Some(head) = ResponseHead::parse(&bytes) else { return self.responses.search() };
        self.protocol = Protocol::Http1;
        if matches!(head.status, 100 | 102..=199) {
            if let Some(pending) = self.pending.front_mut() {
                pending.expects = false;
            }
            self.responses.begin_body(Framing::None);
            return;
        }
        let pending = self.pending.pop_front();
        let (exchange, method) = match &pending {
            Some(pending) => (pending.exchange, pending.method),
            None => (self.number(), Method::Other),
        };
        let tunnel = method == Method::Connect && (200..300).contains(&head.status);
        let upgraded = head.status == 101 || tunnel;
        let bodyless = upgraded || method == Method::Head || matches!(head.status, 204 | 304);
        self.responses.begin_body(if bodyless {
            Framing::None
        } else {
            framing(&head.headers, Framing::UntilClose)
        });
        if pending.is_some_and(|pending| pending.expects) && head.status >= 300 {
            self.withhold_body(exchange, listener);
        }
        let message = Message::new(exchange, Side::Response, &head.headers);
        let message = message.announce(Part::Response(head, began), listener);
        self.receiving = Some(message);
        if upgraded {
            end(self.receiving.take(), Some(Ending::Complete), listener);
            self.leave(Protocol::Upgraded, Ending::Unreadable, listener);
        }
    }

    /// A refused `Expect: 100-continue`: the client does not send the body it announced.
    fn withhold_body(&mut self, exchange: u64, listener: Listener<'_>) {
        let waiting =
            |message: &mut Message| message.exchange == exchange && message.body_bytes == 0;
        if let Some(message) = self.sending.take_if(waiting) {
            end(Some(message), Some(Ending::Cut), listener);
            self.requests.search();
        }
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        number
    }

    /// Ends every exchange and reads no further.
    fn leave(&mut self, protocol: Protocol, ending: Ending, listener: Listener<'_>) {
        end(self.sending.take(), Some(ending), listener);
        end(self.receiving.take(), Some(ending), listener);
        self.abandon(ending, listener);
        *self = Self { protocol, greeting: None, ..Self::new() };
    }

    fn abandon(&mut self, ending: Ending, listener: Listener<'_>) {
        for pending in std::mem::take(&mut self.pending) {
            end(Some(Message::unseen(pending.exchange)), Some(ending), listener);
        }
    }
}

impl Message {
    fn new(exchange: u64, side: Side, headers: &Headers) -> Self {
        let codings = headers.list("content-encoding").chain(headers.list("transfer-encoding"));
        let decoder = Some(Decoder::new(codings));
        Self { exchange, side, decoder, body_bytes: 0, ending: Ending::Complete }
    }

    /// A response of which nothing was seen.
    fn unseen(exchange: u64) -> Self {
        Self {
            exchange,
            side: Side::Response,
            decoder: None,
            body_bytes: 0,
            ending: Ending::Complete,
        }
    }

    /// Hands the head on; a body that nobody wants is not decoded.
    fn announce(mut self, part: Part<'_>, listener: Listener<'_>) -> Self {
        if listener(Event { exchange: self.exchange, side: self.side, part }) == Want::End {
            self.decoder = None;
        }
        self
    }
}

fn body(message: &mut Option<Message>, piece: &[u8], listener: Listener<'_>) {
    let Some(message) = message else { return };
    message.body_bytes = message.body_bytes.saturating_add(piece.len() as u64);
    let Some(decoder) = &mut message.decoder else { return };
    let (exchange, side) = (message.exchange, message.side);
    let decoded = decoder.feed(piece, &mut |bytes| {
        if !bytes.is_empty() {
            listener(Event { exchange, side, part: Part::Body(bytes) });
        }
    });
    if decoded == Decoded::Unreadable && message.ending == Ending::Complete {
        message.ending = Ending::Unreadable;
    }
}

fn gap(
    reader: &mut Reader,
    message: &mut Option<Message>,
    length: u64,
    listener: Listener<'_>,
) -> Gap {
    let effect = reader.gap(length);
    if let (Gap::Inside, Some(message)) = (effect, message) {
        message.body_bytes = message.body_bytes.saturating_add(length);
        message.ending = Ending::Gap;
        if let Some(decoder) = &mut message.decoder {
            decoder.gap();
        }
        let part = Part::Gap(length);
        listener(Event { exchange: message.exchange, side: message.side, part });
    }
    effect
}

/// Hands on the end of a message: as given, or as its body was.
fn end(message: Option<Message>, ending: Option<Ending>, listener: Listener<'_>) {
    let Some(message) = message else { return };
    let ending = match (message.ending, ending) {
        (Ending::Complete, Some(ending)) => ending,
        (ending, _) => ending,
    };
    let part = Part::End { ending, body_bytes: message.body_bytes };
    listener(Event { exchange: message.exchange, side: message.side, part });
}

/// How the body after a head is delimited (RFC 9112, section 6.3).
fn framing(headers: &Headers, otherwise: Framing) -> Framing {
    if headers.list("transfer-encoding").any(|coding| coding == "chunked") {
        return Framing::Chunked;
    }
    let length = headers.list("content-length").find_map(|length| length.parse().ok());
    length.map_or(otherwise, Framing::Length)
}
