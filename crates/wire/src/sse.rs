//! Server-sent events, split as they pass (WHATWG HTML, section 9.2).
//!
//! The splitter holds no data: pieces of an event's data are handed on as they
//! come, so an event of many megabytes costs what one of ten bytes does.

/// A part of an event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// A piece of the current event's data. Lines of data are joined by a line feed.
    Data(&'a [u8]),
    /// The current event is complete. Events without data are not handed on.
    End,
}

/// Splits one event stream.
#[derive(Debug, Clone)]
pub struct Splitter {
    state: State,
    /// A carriage return was the last byte; a line feed after it belongs to it.
    after_return: bool,
    /// The current event has a line of data.
    has_data: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Byte order mark bytes seen, at the very start.
    Mark(u8),
    /// At the start of a line, or inside a field name: bytes of `data` that match so far.
    Name(u8),
    /// After `data:`; one space is not part of the value.
    Space,
    Data,
    /// A comment, or another field.
    Other,
    /// After a gap: everything up to the next empty line is part of a broken event.
    /// True at the start of a line.
    Broken(bool),
}

const MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
const FIELD: &[u8] = b"data";

impl Default for Splitter {
    fn default() -> Self {
        Self { state: State::Mark(0), after_return: false, has_data: false }
    }
}

impl Splitter {
    /// Adds the next bytes of the stream, split anywhere, and hands on what they carry.
    pub fn feed(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(Part<'_>)) {
        while let Some(byte) = bytes.first() {
            if std::mem::take(&mut self.after_return) && *byte == b'\n' {
                bytes = bytes.get(1..).unwrap_or_default();
                continue;
            }
            match self.state {
                State::Mark(seen) => match MARK.get(usize::from(seen)) {
                    Some(mark) if mark == byte => {
                        self.state = State::Mark(seen.saturating_add(1));
                        bytes = bytes.get(1..).unwrap_or_default();
                    }
                    _ => self.state = State::Name(0),
                },
                State::Name(seen) => {
                    self.name(seen, *byte, sink);
                    bytes = bytes.get(1..).unwrap_or_default();
                }
                State::Space => {
                    self.state = State::Data;
                    if *byte == b' ' {
                        bytes = bytes.get(1..).unwrap_or_default();
                    }
                }
                State::Data | State::Other | State::Broken(_) => bytes = self.line(bytes, sink),
            }
        }
    }

    /// Bytes are missing here: the current event is dropped, and what follows up to its end.
    pub fn gap(&mut self) {
        self.state = State::Broken(false);
        self.has_data = false;
        self.after_return = false;
    }

    /// The stream is over: an event whose empty line never came is handed on.
    pub fn finish(&mut self, sink: &mut impl FnMut(Part<'_>)) {
        if std::mem::take(&mut self.has_data) {
            sink(Part::End);
        }
        *self = Self::default();
    }

    fn name(&mut self, seen: u8, byte: u8, sink: &mut impl FnMut(Part<'_>)) {
        match byte {
            b'\n' | b'\r' => {
                self.after_return = byte == b'\r';
                if seen == 0 {
                    if std::mem::take(&mut self.has_data) {
                        sink(Part::End);
                    }
                } else if usize::from(seen) == FIELD.len() {
                    // `data` alone is a line of data, and empty.
                    self.begin_data(sink);
                }
                self.state = State::Name(0);
            }
            b':' if usize::from(seen) == FIELD.len() => {
                self.begin_data(sink);
                self.state = State::Space;
            }
            _ if FIELD.get(usize::from(seen)) == Some(&byte) => {
                self.state = State::Name(seen.saturating_add(1));
            }
            _ => self.state = State::Other,
        }
    }

    fn begin_data(&mut self, sink: &mut impl FnMut(Part<'_>)) {
        if std::mem::replace(&mut self.has_data, true) {
            sink(Part::Data(b"\n"));
        }
    }

    /// Consumes the rest of a line, or all of it that is there.
    fn line<'a>(&mut self, bytes: &'a [u8], sink: &mut impl FnMut(Part<'_>)) -> &'a [u8] {
        let end = memchr::memchr2(b'\n', b'\r', bytes);
        let (line, rest) =
            bytes.split_at_checked(end.unwrap_or(bytes.len())).unwrap_or((bytes, &[]));
        if self.state == State::Data && !line.is_empty() {
            sink(Part::Data(line));
        }
        let Some((terminator, rest)) = rest.split_first() else {
            if let State::Broken(at_start) = &mut self.state {
                *at_start = *at_start && line.is_empty();
            }
            return rest;
        };
        self.after_return = *terminator == b'\r';
        self.state = match self.state {
            State::Broken(true) if line.is_empty() => State::Name(0),
            State::Broken(_) => State::Broken(true),
            _ => State::Name(0),
        };
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, Splitter};

    fn events(stream: &[u8], size: usize) -> Vec<String> {
        let (mut events, mut current) = (Vec::new(), Vec::new());
        let mut sink = |part: Part<'_>| match part {
            Part::Data(bytes) => current.extend_from_slice(bytes),
            Part::End => events.push(String::from_utf8(std::mem::take(&mut current)).unwrap()),
        };
        let mut splitter = Splitter::default();
        for piece in stream.chunks(size) {
            splitter.feed(piece, &mut sink);
        }
        splitter.finish(&mut sink);
        events
    }

    #[test]
    fn events_are_split_as_the_standard_says() {
        let cases: &[(&[u8], &[&str])] = &[
            (b"data: a\n\ndata: b\n\n", &["a", "b"]),
            (b"data:a\r\n\r\ndata:  b\r\rdata: c\n\n", &["a", " b", "c"]),
            (b": ping\n\n: OPENROUTER PROCESSING\n\ndata: a\n\n", &["a"]),
            (b"event: message_start\ndata: {\ndata: }\nid: 3\nretry: 5\n\n", &["{\n}"]),
            (b"\xef\xbb\xbfdata: a\n\n", &["a"]),
            (b"data: unterminated", &["unterminated"]),
            (b"data\n\ndatax: 1\n\ndat: 2\n\n", &[""]),
            ("data: \u{2028}\u{85}\n\n".as_bytes(), &["\u{2028}\u{85}"]),
            (b"event: ping\n\nevent: x\ndata: y\n\n\n\n", &["y"]),
            (b"", &[]),
        ];
        for (stream, expected) in cases {
            for size in [1, 2, 3, 7, 64, 4096] {
                assert_eq!(&events(stream, size), expected, "{stream:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_gap_costs_the_event_it_lies_in() {
        let mut seen = Vec::new();
        let mut sink = |part: Part<'_>| {
            if let Part::Data(bytes) = part {
                seen.push(String::from_utf8_lossy(bytes).into_owned());
            }
        };
        let mut splitter = Splitter::default();
        splitter.feed(b"data: a\n\ndata: b", &mut sink);
        splitter.gap();
        splitter.feed(b" rest\ndata: of b\n\ndata: c\n\n", &mut sink);
        assert_eq!(seen, ["a", "b", "c"]);
    }
}
