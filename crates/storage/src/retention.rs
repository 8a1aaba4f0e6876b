//! How long calls are kept, and what happens before a disk is full.

use std::path::Path;

/// What a store may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Days of calls, today not counted. Sums of hours stay for 13 months.
    pub days: u32,
    /// From this share of the disk in use, in percent, [`Retained::standing`] warns.
    pub warn_percent: u8,
    /// From this share, the oldest day goes, one each time that [`crate::Store::retain`] is
    /// called. Today never goes.
    pub drop_percent: u8,
    /// With this many bytes left, or with 5 % of a small disk, no more calls are taken until there
    /// is room again.
    pub full_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { days: 30, warn_percent: 85, drop_percent: 90, full_bytes: 512 << 20 }
    }
}

/// The disk that the data directory is on, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// All of it.
    pub total: u64,
    /// What this process may still write.
    pub available: u64,
}

/// Reads how full the disk of a directory is; `None` where the system does not say.
pub type ReadDisk = dyn Fn(&Path) -> Option<Disk>;

/// How full the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// There is room, or the system does not say.
    #[default]
    Good,
    /// It fills up.
    Warning,
    /// Days go before their time.
    Dropping,
    /// Calls are refused.
    Full,
}

/// What was found and done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retained {
    /// Days that went because of their age, as `2026-11-23`.
    pub aged: Vec<String>,
    /// Day that went because the disk fills up.
    pub dropped: Option<String>,
    /// Oldest day of which calls are kept.
    pub oldest: Option<String>,
    /// Days of which calls are kept.
    pub days: u64,
    /// Days after which the engine removes calls by itself, should nobody ask it to; `None` where
    /// it does not.
    pub ttl_days: Option<u32>,
    /// The disk, after that.
    pub disk: Option<Disk>,
    /// How full the disk is, after that.
    pub standing: Standing,
}

impl Standing {
    /// The word for it: `good`, `warning`, `dropping`, `full`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Dropping => "dropping",
            Self::Full => "full",
        }
    }
}

impl Disk {
    /// Share in use, in whole percent, rounded down.
    pub fn percent(&self) -> u8 {
        let used = u128::from(self.total.saturating_sub(self.available));
        let percent = (used * 100).checked_div(u128::from(self.total)).unwrap_or(0);
        u8::try_from(percent).unwrap_or(100)
    }
}

impl Limits {
    pub(crate) fn standing(&self, disk: Option<Disk>) -> Standing {
        let Some(disk) = disk else { return Standing::Good };
        if disk.available <= self.full_bytes.min(disk.total / 20) {
            return Standing::Full;
        }
        match disk.percent() {
            percent if percent >= self.drop_percent => Standing::Dropping,
            percent if percent >= self.warn_percent => Standing::Warning,
            _ => Standing::Good,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Disk, Limits, Standing};

    #[test]
    fn a_disk_is_full_by_what_is_left_and_fills_up_by_share() {
        let standing =
            |total, available| Limits::default().standing(Some(Disk { total, available }));
        let gib = 1 << 30;
        assert_eq!(standing(1000 * gib, 30 * gib), Standing::Dropping, "97 %, but room");
        assert_eq!(standing(1000 * gib, gib / 2), Standing::Full);
        assert_eq!(standing(gib, gib / 21), Standing::Full, "a small disk");
        assert_eq!(standing(gib, gib / 8), Standing::Warning);
        assert_eq!(standing(0, 0), Standing::Full);
        assert_eq!(Limits::default().standing(None), Standing::Good);
    }
}
