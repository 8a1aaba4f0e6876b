//! What a call costs, by a table that is compiled in.
//!
//! Prices are integers of 10⁻¹² USD a token, which every list price is a whole
//! number of, so sums are exact. A call is priced only when the price and every
//! count that it needs are known; anything else would be an invented number.

use std::sync::LazyLock;

use crate::{Cost, Usage};

/// The bundled price table; its own comments say where the prices come from.
const TABLE: &str = include_str!("../prices.tsv");

/// Version of the bundled price table.
pub const PRICE_TABLE: &str = "2026-04";

/// Price of a token of each kind, in 10⁻¹² USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Price {
    input: Option<u64>,
    output: Option<u64>,
    cache_read: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
}

/// The price of a call at the standard tier, exact. `None` when its model has no price or a count is
/// missing.
///
/// `provider` is a name of the semantic conventions (`gen_ai.provider.name`), `model` the model that answered, or the one that was asked where the answer names none.
pub fn cost(provider: &str, model: &str, usage: &Usage) -> Option<Cost> {
    let price = price(provider, model, usage.input?)?;
    let (cache_read, cache_write) =
        (usage.cache_read.unwrap_or_default(), usage.cache_write.unwrap_or_default());
    let cache_write_1h = usage.cache_write_1h.unwrap_or_default();
    let uncached = usage.input?.checked_sub(cache_read)?.checked_sub(cache_write)?;
    let parts = [
        (uncached, price.input),
        (cache_read, price.cache_read),
        (cache_write.checked_sub(cache_write_1h)?, price.cache_write_5m),
        (cache_write_1h, price.cache_write_1h),
        // What has no output, such as an embedding, has an output price of nothing.
        (usage.output.or((price.output == Some(0)).then_some(0))?, price.output),
    ];
    let mut pico_usd: u64 = 0;
    for (tokens, price) in parts.into_iter().filter(|(tokens, _)| *tokens > 0) {
        pico_usd = pico_usd.checked_add(tokens.checked_mul(price?)?)?;
    }
    Some(Cost { pico_usd })
}

/// The price of a model for a call with so many input tokens.
fn price(provider: &str, model: &str, input: u64) -> Option<Price> {
    let model = model.to_ascii_lowercase();
    let exact = newest(provider, &model, input);
    exact.or_else(|| newest(provider, base(&model)?, input))
}

/// The last row of the table that applies.
fn newest(provider: &str, model: &str, input: u64) -> Option<Price> {
    let applies = |row: &&Row| {
        row.model == model && row.provider == provider && (row.above == 0 || input > row.above)
    };
    ROWS.iter().rev().find(applies).map(|row| row.price)
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    provider: &'static str,
    model: &'static str,
    above: u64,
    price: Price,
}

static ROWS: LazyLock<Vec<Row>> =
    LazyLock::new(|| TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect());

fn row(line: &'static str) -> Option<Row> {
    let mut columns = line.split('\t');
    let (provider, model) = (columns.next()?, columns.next()?);
    let _valid_from = columns.next()?;
    let above = columns.next()?.parse().ok()?;
    let mut column = || columns.next().and_then(pico_usd_per_token);
    let price = Price {
        input: column(),
        output: column(),
        cache_read: column(),
        cache_write_5m: column(),
        cache_write_1h: column(),
    };
    Some(Row { provider, model, above, price })
}

/// The model that a dated or aliased name is a version of.
///
/// Only dates and `-latest` are taken off: `gpt-4o` is not `gpt-4`, and a
/// fine-tuned model (`ft:…`) has a price of its own.
fn base(model: &str) -> Option<&str> {
    if let Some(base) = model.strip_suffix("-latest") {
        return Some(base);
    }
    let is_date = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let shape: Vec<usize> = text.split('-').map(str::len).collect();
        digits && (shape == [8] || shape == [4, 2, 2])
    };
    // `-YYYY-MM-DD`, `-YYYYMMDD`, `@YYYYMMDD`
    [11, 9].into_iter().find_map(|length| {
        let (base, date) = model.split_at_checked(model.len().checked_sub(length)?)?;
        is_date(date.strip_prefix(['-', '@'])?).then_some(base)
    })
}

/// A price in USD per million tokens as 10⁻¹² USD per token: `1.25` is 1 250 000.
fn pico_usd_per_token(written: &str) -> Option<u64> {
    let (whole, decimals) = written.split_once('.').unwrap_or((written, ""));
    if decimals.len() > 6 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros: u64 = format!("{decimals:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)
}

#[cfg(test)]
mod tests {
    use super::{PRICE_TABLE, ROWS, TABLE, base, cost, pico_usd_per_token, price};
    use crate::Usage;

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input: Some(input), output: Some(output), ..Usage::default() }
    }

    fn pico(provider: &str, model: &str, usage: &Usage) -> Option<u64> {
        cost(provider, model, usage).map(|cost| cost.pico_usd)
    }

    #[test]
    fn every_row_is_whole() {
        assert!(TABLE.starts_with(&format!("# version\t{PRICE_TABLE}\n")));
        assert_eq!(ROWS.len(), TABLE.lines().filter(|row| !row.starts_with('#')).count());
        for row in TABLE.lines().filter(|row| !row.starts_with('#')) {
            let columns: Vec<&str> = row.split('\t').collect();
            let [provider, model, valid_from, above, prices @ ..] = columns.as_slice() else {
                panic!("{row}")
            };
            assert!(crate::provider_names().any(|known| known == *provider), "{row}");
            assert!(!model.is_empty(), "{row}");
            assert_eq!(valid_from.len(), 10, "{row}");
            assert!(above.parse::<u64>().is_ok(), "{row}");
            assert_eq!(prices.len(), 5, "{row}");
            for price in prices {
                assert!(*price == "-" || pico_usd_per_token(price).is_some(), "{row}");
            }
        }
    }

    #[test]
    fn sums_are_exact() {
        assert_eq!(pico("openai", "gpt-4o-2024-08-06", &usage(1000, 100)), Some(3_500_000_000));
        let cached = Usage { cache_read: Some(900), ..usage(1000, 100) };
        assert_eq!(
            pico("openai", "gpt-4o", &cached),
            Some(100 * 2_500_000 + 900 * 1_250_000 + 100 * 10_000_000)
        );
        let written = Usage {
            cache_read: Some(10),
            cache_write: Some(30),
            cache_write_1h: Some(20),
            ..usage(100, 5)
        };
        let expected =
            60 * 3_000_000 + 10 * 300_000 + 10 * 3_750_000 + 20 * 6_000_000 + 5 * 15_000_000;
        assert_eq!(pico("anthropic", "claude-sonnet-4-5-20250929", &written), Some(expected));
        assert_eq!(pico("openai", "gpt-5-nano", &usage(1, 0)), Some(50_000));
        let cheapest = Usage { cache_read: Some(1), ..usage(1, 0) };
        assert_eq!(pico("openai", "gpt-5-nano", &cheapest), Some(5_000));
        let embedding = Usage { input: Some(7), ..Usage::default() };
        assert_eq!(pico("openai", "text-embedding-3-small", &embedding), Some(140_000));
    }

    #[test]
    fn what_is_not_known_has_no_price() {
        let cases = [
            ("openai", "gpt-4o", Usage { input: Some(1), ..Usage::default() }),
            ("openai", "gpt-4o", Usage { output: Some(1), ..Usage::default() }),
            ("openai", "gpt-9", usage(1, 1)),
            ("openai", "", usage(1, 1)),
            ("openai", "claude-sonnet-4-5", usage(1, 1)),
            ("vllm", "gpt-4o", usage(1, 1)),
            ("openai", "ft:gpt-4o:me::1", usage(1, 1)),
            ("openai", "gpt-4o", usage(u64::MAX, 1)),
            // More cached than there were.
            ("openai", "gpt-4o", Usage { cache_read: Some(2), ..usage(1, 1) }),
            // Cached, where no price for that is listed.
            ("openai", "gpt-4", Usage { cache_read: Some(1), ..usage(1, 1) }),
            // The price of a long context is another.
            ("anthropic", "claude-sonnet-4-5", usage(200_001, 1)),
        ];
        for (provider, model, usage) in cases {
            assert_eq!(pico(provider, model, &usage), None, "{provider} {model} {usage:?}");
        }
        assert!(pico("anthropic", "claude-sonnet-4-5", &usage(200_000, 1)).is_some());
    }

    #[test]
    fn names_are_resolved_without_guessing() {
        for (model, expected) in [
            ("gpt-4o-2024-08-06", Some("gpt-4o")),
            ("claude-3-5-haiku-20241022", Some("claude-3-5-haiku")),
            ("claude-3-5-sonnet-latest", Some("claude-3-5-sonnet")),
            ("claude-sonnet-4@20250514", Some("claude-sonnet-4")),
            ("gpt-4o", None),
            ("gpt-4-0613", None),
            ("o1-mini", None),
            ("", None),
            ("2024-08-06", None),
            ("é-20240101", Some("é")),
        ] {
            assert_eq!(base(model), expected, "{model}");
        }
        assert_ne!(price("openai", "gpt-4", 1), price("openai", "gpt-4o", 1));
        assert_eq!(price("openai", "gpt-4o-audio-preview", 1), None);
        assert_eq!(price("openai", "o1-mini", 1), None);
        assert_ne!(price("openai", "gpt-4o-2024-05-13", 1), price("openai", "gpt-4o", 1));
    }
}
