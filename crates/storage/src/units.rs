//! Ids and times, between how rows show them and how engines keep them. Pure.

use contract::row::{Call, Time};

/// Nanoseconds of a day.
pub(crate) const DAY_NANOS: u64 = 86_400_000_000_000;

/// The day on which a call is kept, in days since 1970.
pub(crate) fn day_of(call: &Call) -> u64 {
    call.time.0 / DAY_NANOS
}

/// The name of a day: `2026-11-23`.
pub(crate) fn day_name(day: u64) -> String {
    let (year, month, date) = Time(day.saturating_mul(DAY_NANOS)).date();
    format!("{year:04}-{month:02}-{date:02}")
}

/// The id of a call: day, trace, span.
pub(crate) fn id_of(call: &Call) -> String {
    let (year, month, day) = call.time.date();
    let mut id = String::with_capacity(10 + call.trace_id.len() + call.span_id.len());
    // Of four digits: a Unix time of 64 bits ends in the year 2554.
    for pair in [year / 100, year % 100, month, day] {
        for digit in [pair / 10, pair % 10] {
            id.push(char::from(b'0' + (digit % 10) as u8));
        }
    }
    for part in [&call.trace_id, &call.span_id] {
        id.push('-');
        id.push_str(part);
    }
    id
}

/// Day, trace and span of an id that [`id_of`] made; `None` for anything else.
pub(crate) fn read_id(id: &str) -> Option<(u64, u128, u64)> {
    let mut parts = id.split('-');
    let (date, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit());
    if !digits || parts.next().is_some() {
        return None;
    }
    let (year, rest) = date.split_at(4);
    let (month, day) = rest.split_at(2);
    let moment: Time = format!("{year}-{month}-{day}T00:00:00Z").parse().ok()?;
    Some((moment.0 / DAY_NANOS, trace_id(trace)?, span_id(span)?))
}

/// The value of each hexadecimal digit in lower case; 255 of all other bytes.
const DIGITS: [u8; 256] = {
    let mut digits = [u8::MAX; 256];
    let mut digit = 0;
    while digit < 16 {
        digits[b"0123456789abcdef"[digit as usize] as usize] = digit;
        digit += 1;
    }
    digits
};

/// A trace id of W3C: 32 hexadecimal digits in lower case.
pub(crate) fn trace_id(text: &str) -> Option<u128> {
    let (high, low) = text.split_at_checked(16)?;
    Some(u128::from(span_id(high)?) << 64 | u128::from(span_id(low)?))
}

/// A span id of W3C: 16 hexadecimal digits in lower case.
pub(crate) fn span_id(text: &str) -> Option<u64> {
    if text.len() != 16 {
        return None;
    }
    // All digits first, and then whether they were: random digits make a bad branch.
    let (mut id, mut wrong) = (0, 0);
    for byte in text.bytes() {
        let digit = DIGITS[usize::from(byte)];
        wrong |= digit;
        id = id << 4 | u64::from(digit & 0xf);
    }
    (wrong < 0x10).then_some(id)
}

/// Nanoseconds of seconds; `None` for what is negative or beyond three hundred years.
pub(crate) fn nanos(seconds: Option<f64>) -> Option<u64> {
    let nanos = (seconds? * 1e9).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked on this line"
    )]
    (0.0..9e18).contains(&nanos).then_some(nanos as u64)
}

/// Seconds of nanoseconds.
pub(crate) fn seconds(nanos: Option<u64>) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "below 104 days a nanosecond is exact")]
    nanos.map(|nanos| nanos as f64 / 1e9)
}

/// What does not fit into 63 bits is not known: no engine keeps it.
pub(crate) fn kept(value: Option<u64>) -> Option<u64> {
    value.filter(|value| i64::try_from(*value).is_ok())
}
