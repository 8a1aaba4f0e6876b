//! How far both streams of a connection were seen: what of the next bytes is new, and what is missing
//! before them.

use capture::Plaintext;
use wire::Direction;

/// The positions of the next byte that is written, and read.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    sent: u64,
    received: u64,
}

/// What a piece of plaintext adds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fresh<'a> {
    pub(crate) direction: Direction,
    /// How many bytes before it passed unseen.
    pub(crate) hole: u64,
    /// What was not seen before.
    pub(crate) bytes: &'a [u8],
}

impl Progress {
    /// Goes on to the end of `data`, never back.
    pub(crate) fn take<'a>(&mut self, data: &'a Plaintext) -> Fresh<'a> {
        let (next, direction) = match data.direction {
            capture::Direction::Sent => (&mut self.sent, Direction::Sent),
            capture::Direction::Received => (&mut self.received, Direction::Received),
        };
        let bytes = data.bytes.as_bytes();
        let end = data.offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let hole = data.offset.saturating_sub(*next);
        let old = usize::try_from(next.saturating_sub(data.offset)).unwrap_or(usize::MAX);
        *next = (*next).max(end);
        Fresh { direction, hole, bytes: bytes.get(old..).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capture::{ConnectionId, Payload, ProcessId};

    #[test]
    fn a_hole_is_counted_once_and_bytes_that_were_seen_are_left_out() {
        let connection = ConnectionId { process: ProcessId::new(1, 0), object: 0, generation: 0 };
        let mut progress = Progress::default();
        let mut take = |direction, offset, text: &str| {
            let bytes = Payload::from(text.as_bytes());
            let data = Plaintext { connection, at: 0, direction, offset, bytes };
            let Fresh { hole, bytes, .. } = progress.take(&data);
            (hole, String::from_utf8(bytes.to_vec()).unwrap())
        };
        let (sent, received) = (capture::Direction::Sent, capture::Direction::Received);
        assert_eq!(take(sent, 0, "abc"), (0, "abc".to_owned()));
        assert_eq!(take(received, 0, "ABC"), (0, "ABC".to_owned()), "each way has its own");
        assert_eq!(take(sent, 5, "fg"), (2, "fg".to_owned()));
        assert_eq!(take(sent, 6, "gh"), (0, "h".to_owned()));
        assert_eq!(take(sent, 0, "ab"), (0, String::new()));
        assert_eq!(take(sent, 8, "i"), (0, "i".to_owned()), "nothing went back");
    }
}
