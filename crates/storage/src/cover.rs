//! How a span of time is put together from sums of several widths and from calls. Pure.

/// A part of a span, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Start, included.
    pub(crate) from: u64,
    /// End, excluded.
    pub(crate) to: u64,
    /// Width of the sums in seconds, which start and end are multiples of; `None` for calls.
    pub(crate) level: Option<u64>,
}

/// Sums of one width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    /// Their width.
    pub(crate) seconds: u64,
    /// Up to when they have all calls, in nanoseconds since 1970.
    pub(crate) whole_to: u64,
}

impl Level {
    /// One that always has all calls.
    pub(crate) fn whole(seconds: u64) -> Self {
        Self { seconds, whole_to: u64::MAX }
    }
}

/// A part of what is to be added up, where several threads add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// Which one, from 0.
    pub(crate) number: usize,
    /// How many there are.
    pub(crate) of: usize,
}

/// Calls of less time are few: they stay together, in nanoseconds.
const TOGETHER: u64 = 300_000_000_000;

impl Share {
    /// Whether it has one of several things of about one size, by its place among them.
    pub(crate) fn has(self, place: usize) -> bool {
        place % self.of == self.number
    }

    /// Its part of pieces. All shares together have each moment once.
    pub(crate) fn of_pieces(self, pieces: Vec<Piece>) -> Vec<Piece> {
        let part = |(place, piece): (usize, Piece)| {
            let width = match piece.level {
                Some(seconds) => seconds.saturating_mul(1_000_000_000),
                None if piece.to - piece.from < TOGETHER => {
                    return self.has(place).then_some(piece);
                }
                None => 1,
            };
            let buckets = u128::from((piece.to - piece.from) / width);
            let edge = |number: usize| {
                let before = buckets * number as u128 / self.of as u128;
                // No more than there are.
                piece.from + u64::try_from(before).unwrap_or(u64::MAX) * width
            };
            let (from, to) = (edge(self.number), edge(self.number + 1));
            (from < to).then_some(Piece { from, to, ..piece })
        };
        pieces.into_iter().enumerate().filter_map(part).collect()
    }
}

/// The span from one moment to another as pieces that do not overlap: the widest sums where they
/// fit, finer ones at the edges, calls where none fits. `levels` in ascending order.
pub(crate) fn cover(from: u64, to: u64, levels: &[Level]) -> Vec<Piece> {
    if from >= to {
        return Vec::new();
    }
    let Some((level, finer)) = levels.split_last() else {
        return vec![Piece { from, to, level: None }];
    };
    let width = level.seconds.saturating_mul(1_000_000_000);
    let end = to.min(level.whole_to) / width * width;
    let first = from.div_ceil(width).saturating_mul(width);
    if first >= end {
        return cover(from, to, finer);
    }
    let mut pieces = cover(from, first, finer);
    pieces.push(Piece { from: first, to: end, level: Some(level.seconds) });
    pieces.extend(cover(end, to, finer));
    pieces
}

#[cfg(test)]
mod tests {
    use super::{Level, Piece, Share, cover};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    const SECOND: u64 = 1_000_000_000;

    proptest! {
        #[test]
        fn pieces_are_the_span_and_fit_their_widths(
            from in any::<u64>(), len in 0..100 * 86_400 * SECOND, wide in 0..110 * 86_400 * SECOND,
        ) {
            let to = from.saturating_add(len);
            let wide = from.saturating_add(wide);
            let of = |seconds| Level { whole_to: wide, ..Level::whole(seconds) };
            let levels = [Level::whole(60), Level::whole(300), of(3600), of(86_400)];
            let pieces = cover(from, to, &levels);
            let mut at = from;
            for piece in &pieces {
                prop_assert_eq!(piece.from, at);
                prop_assert!(piece.to > piece.from);
                let width = piece.level.unwrap_or(0) * SECOND;
                prop_assert!(width == 0 || piece.from % width == 0 && piece.to % width == 0);
                prop_assert!(width > 0 || piece.to - piece.from < 120 * SECOND);
                prop_assert!(width < 3600 * SECOND || piece.to <= wide);
                at = piece.to;
            }
            prop_assert_eq!(at, to);
            prop_assert!(pieces.len() <= 9);
        }
    }

    proptest! {
        #[test]
        fn shares_have_each_moment_once(
            from in 0..1_u64 << 62, len in 0..40 * 86_400 * SECOND, of in 1..5_usize,
        ) {
            let levels = [60, 300, 3600, 86_400].map(Level::whole);
            let pieces = cover(from, from + len, &levels);
            let shares = (0..of).map(|number| Share { number, of });
            let mut parts: Vec<_> =
                shares.flat_map(|share| share.of_pieces(pieces.clone())).collect();
            parts.sort_by_key(|part| part.from);
            let mut at = from;
            for part in &parts {
                prop_assert_eq!(part.from, at);
                let width = part.level.unwrap_or(0) * SECOND;
                prop_assert!(width == 0 || part.from % width == 0 && part.to % width == 0);
                at = part.to;
            }
            prop_assert_eq!(at, from + len);
        }
    }

    #[test]
    fn without_sums_there_are_calls() {
        assert_eq!(cover(5, 7, &[]), [Piece { from: 5, to: 7, level: None }]);
        assert_eq!(cover(7, 5, &[Level::whole(60)]), []);
    }
}
