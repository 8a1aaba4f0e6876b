//! The two clocks: the kernel's monotonic one, which stamps what was captured, and the wall clock.

use rustix::time::{ClockId, clock_gettime};
use wire::Moment;

/// Both clocks, read at the same moment.
///
/// The distance between them moves when the wall clock is set, so it is read anew for every batch
/// rather than once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// `CLOCK_MONOTONIC`, as `bpf_ktime_get_ns` has it.
    pub(crate) monotonic: Moment,
    /// Nanoseconds since 1970.
    pub(crate) unix_nanos: u64,
}

impl Now {
    /// Reads both clocks; for the loops alone.
    pub(crate) fn read() -> Self {
        let before = nanos(ClockId::Monotonic);
        let unix_nanos = nanos(ClockId::Realtime);
        let after = nanos(ClockId::Monotonic);
        Self { monotonic: Moment(before.midpoint(after)), unix_nanos }
    }

    /// Nanoseconds since 1970 of a moment.
    pub(crate) fn wall(&self, moment: Moment) -> u64 {
        if moment <= self.monotonic {
            self.unix_nanos.saturating_sub(self.monotonic.0 - moment.0)
        } else {
            self.unix_nanos.saturating_add(moment.0 - self.monotonic.0)
        }
    }
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_keeps_its_distance_from_now() {
        let now = Now { monotonic: Moment(500), unix_nanos: 10_000 };
        assert_eq!((now.wall(Moment(400)), now.wall(Moment(600))), (9_900, 10_100));
        assert_eq!(Now { monotonic: Moment(500), unix_nanos: 3 }.wall(Moment(0)), 0);
    }

    #[test]
    fn two_readings_agree_within_a_millisecond() {
        let (first, second) = (Now::read(), Now::read());
        assert!(second.wall(first.monotonic).abs_diff(first.unix_nanos) < 1_000_000);
    }
}
