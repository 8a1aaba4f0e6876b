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

/// The span from one moment to another as pieces that do not overlap: the widest sums where they
/// fit, finer ones at the edges, calls where none fits. `levels` in ascending order.
pub(crate) fn cover(from: u64, to: u64, levels: &[u64]) -> Vec<Piece> {
    if from >= to {
        return Vec::new();
    }
    let Some((level, finer)) = levels.split_last() else {
        return vec![Piece { from, to, level: None }];
    };
    let width = level.saturating_mul(1_000_000_000);
    let (first, end) = (from.div_ceil(width).saturating_mul(width), to / width * width);
    if first >= end {
        return cover(from, to, finer);
    }
    let mut pieces = cover(from, first, finer);
    pieces.push(Piece { from: first, to: end, level: Some(*level) });
    pieces.extend(cover(end, to, finer));
    pieces
}

#[cfg(test)]
mod tests {
    use super::{Piece, cover};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    const SECOND: u64 = 1_000_000_000;

    proptest! {
        #[test]
        fn pieces_are_the_span_and_fit_their_widths(
            from in any::<u64>(), len in 0..100 * 86_400 * SECOND,
        ) {
            let to = from.saturating_add(len);
            let pieces = cover(from, to, &[60, 300, 3600, 86_400]);
            let mut at = from;
            for piece in &pieces {
                prop_assert_eq!(piece.from, at);
                prop_assert!(piece.to > piece.from);
                let width = piece.level.unwrap_or(0) * SECOND;
                prop_assert!(width == 0 || piece.from % width == 0 && piece.to % width == 0);
                prop_assert!(width > 0 || piece.to - piece.from < 120 * SECOND);
                at = piece.to;
            }
            prop_assert_eq!(at, to);
            prop_assert!(pieces.len() <= 9);
        }
    }

    #[test]
    fn without_sums_there_are_calls() {
        assert_eq!(cover(5, 7, &[]), [Piece { from: 5, to: 7, level: None }]);
        assert_eq!(cover(7, 5, &[60]), []);
    }
}
