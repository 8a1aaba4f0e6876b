//! Values with a form of their own in JSON: a moment and an amount of money.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

const NANOS: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// A moment, in nanoseconds since 1970; RFC 3339 in UTC with nine digits in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

/// A text that is not a moment between 1970 and 2554.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotATime;

/// An exact amount of money in 10⁻¹² USD; a decimal string of USD without trailing zeros in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money {
    /// Amount in 10⁻¹² USD.
    pub pico_usd: u128,
}

impl Time {
    /// The day that the moment is in (UTC), as year, month and day of the month.
    pub fn date(self) -> (u64, u64, u64) {
        civil(self.0 / NANOS / DAY)
    }
}

impl Money {
    const PICOS: u128 = 1_000_000_000_000;
    // Twelve digits behind the point are exact; 22 before it keep every sum below `u128::MAX`.
    const MAX_WHOLE_LEN: usize = 22;
}

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / NANOS;
        let (year, month, day) = self.date();
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let nanos = self.0 % NANOS;
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
    }
}

impl FromStr for Time {
    type Err = NotATime;

    /// Reads RFC 3339: `2026-11-23T20:43:46Z`, any fraction (cut at nanoseconds), any offset.
    fn from_str(text: &str) -> Result<Self, NotATime> {
        parse(text).ok_or(NotATime)
    }
}

impl fmt::Display for NotATime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("not a moment; write it like 2026-11-23T20:43:46Z")
    }
}

impl std::error::Error for NotATime {}

impl fmt::Display for Money {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.pico_usd / Self::PICOS, self.pico_usd % Self::PICOS);
        if part == 0 {
            return write!(out, "{whole}");
        }
        let digits = format!("{part:012}");
        write!(out, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl FromStr for Money {
    type Err = NotMoney;

    /// Reads a plain decimal of at most twelve significant places behind the point; anything
    /// else, a sign or an exponent included, is refused rather than rounded.
    fn from_str(text: &str) -> Result<Self, NotMoney> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let part = part.trim_end_matches('0');
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let fits = !whole.is_empty() && whole.len() <= Self::MAX_WHOLE_LEN && part.len() <= 12;
        if !fits || !digits(whole) || !digits(part) {
            return Err(NotMoney);
        }
        let whole: u128 = whole.parse().map_err(|_digits: std::num::ParseIntError| NotMoney)?;
        let part: u128 =
            format!("{part:0<12}").parse().map_err(|_digits: std::num::ParseIntError| NotMoney)?;
        Ok(Self { pico_usd: whole * Self::PICOS + part })
    }
}

/// A text that is not a decimal amount that can be kept exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotMoney;

impl fmt::Display for NotMoney {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("not an exact decimal amount with at most twelve places")
    }
}

impl std::error::Error for NotMoney {}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Days since 1970 to a date of the Gregorian calendar; the inverse of [`days`].
fn civil(days: u64) -> (u64, u64, u64) {
    // Years begin in March, so that the leap day is the last of its year; 400 years are an era.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A date to days since 1970; dates before are refused.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    (era * 146_097 + of_era).checked_sub(719_468)
}

fn parse(text: &str) -> Option<Time> {
    let bytes = text.as_bytes();
    let number = |from: usize, len: usize| -> Option<u64> {
        let digits = bytes.get(from..from + len)?;
        digits
            .iter()
            .try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u64::from(b - b'0')))
    };
    let is = |at: usize, one_of: &[u8]| bytes.get(at).is_some_and(|b| one_of.contains(b));
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let marks = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let ranges = year >= 1970 && (1..=12).contains(&month) && hour < 24 && minute < 60;
    if !marks || !ranges || second > 60 {
        return None;
    }
    let date = days(year, month, day)?;
    if civil(date) != (year, month, day) {
        return None;
    }
    let mut at = 19;
    let mut nanos = 0;
    if is(at, b".,") {
        let len = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        let kept = len.min(9);
        nanos = number(at + 1, kept)? * 10_u64.pow(9 - u32::try_from(kept).ok()?);
        at += 1 + len;
        if len == 0 {
            return None;
        }
    }
    let offset = offset(bytes.get(at..)?)?;
    let local = i64::try_from(date * DAY + hour * 3600 + minute * 60 + second).ok()?;
    let seconds = u64::try_from(local - offset).ok()?;
    Some(Time(seconds.checked_mul(NANOS)?.checked_add(nanos)?))
}

/// Seconds east of UTC: `Z`, `+hh:mm` or `-hh:mm`.
fn offset(text: &[u8]) -> Option<i64> {
    match text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-' | b' '), h1, h2, b':', m1, m2] => {
            let digit = |b: &u8| b.is_ascii_digit().then(|| i64::from(b - b'0'));
            let (hours, minutes) = (digit(h1)? * 10 + digit(h2)?, digit(m1)? * 10 + digit(m2)?);
            let seconds = (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)?;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

#[cfg(feature = "openapi")]
mod described {
    use super::{Money, Time};
    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};

    fn text(example: &str) -> ObjectBuilder {
        ObjectBuilder::new().schema_type(Type::String).examples([example])
    }

    impl utoipa::PartialSchema for Time {
        fn schema() -> RefOr<Schema> {
            let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
            text("2026-11-23T20:43:46.123456789Z").format(Some(format)).into()
        }
    }

    impl utoipa::ToSchema for Time {}

    impl utoipa::PartialSchema for Money {
        fn schema() -> RefOr<Schema> {
            text("0.00123").description(Some("USD, exact")).into()
        }
    }

    impl utoipa::ToSchema for Money {}
}
