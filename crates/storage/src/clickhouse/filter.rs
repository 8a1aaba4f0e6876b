//! Compiles a [`Filter`] to a condition of ClickHouse, of which every text is a bound value. What
//! it must mean is [`Filter::matches`]; the conformance suite holds the two together. Pure.

use super::link::Ask;
use crate::filter::{FREE, Filter, NumberField, Pattern, Range, Term, Test, TextField};

/// The condition of a filter over the columns of `call`, and over those of a sum where the filter
/// asks for nothing that sums do not tell apart; `true` without terms.
pub(super) fn condition(filter: &Filter, ask: &mut Ask) -> String {
    all(filter.terms.iter().map(|term| of_term(term, ask)).collect())
}

fn all(terms: Vec<String>) -> String {
    if terms.is_empty() { "true".to_owned() } else { terms.join(" AND ") }
}

/// What a field reads: texts, of which any may match, or a list of them.
enum Texts {
    Columns(Vec<String>),
    List(String),
}

fn of_term(term: &Term, ask: &mut Ask) -> String {
    let like = match &term.test {
        Test::Text { field, any } => {
            let texts = of_field(field, ask);
            matches_any(
                &texts,
                &|text, ask| {
                    let patterns: Vec<_> =
                        any.iter().map(|one| of_pattern(one, text, ask)).collect();
                    patterns.join(" OR ")
                },
                ask,
            )
        }
        Test::Number { field, any } => {
            let column = of_number(*field);
            let ranges: Vec<_> = any.iter().map(|range| of_range(*range, column)).collect();
            ranges.join(" OR ")
        }
        Test::Outcome(any) => {
            let words: Vec<_> =
                any.iter().map(|one| format!("outcome = '{}'", one.word())).collect();
            words.join(" OR ")
        }
        Test::Stream(stream) => format!("stream = {stream}"),
        Test::Free(text) => {
            let fields: Vec<_> = FREE
                .iter()
                .map(|field| {
                    let texts = of_field(field, ask);
                    matches_any(
                        &texts,
                        &|column, ask| {
                            let part = ask.bind(text.as_str());
                            format!("position(lower({column}), {part}) > 0")
                        },
                        ask,
                    )
                })
                .collect();
            fields.join(" OR ")
        }
    };
    let like = if like.is_empty() { "false".to_owned() } else { like };
    // What is not known is not like anything, and so is what is not to be like it.
    let known = format!("ifNull({like}, false)");
    if term.negated { format!("NOT {known}") } else { known }
}

fn matches_any(texts: &Texts, is: &dyn Fn(&str, &mut Ask) -> String, ask: &mut Ask) -> String {
    match texts {
        Texts::Columns(columns) => {
            let each: Vec<_> = columns
                .iter()
                .map(|column| format!("ifNull({}, false)", is(column, ask)))
                .collect();
            each.join(" OR ")
        }
        Texts::List(list) => format!("arrayExists(one -> {}, {list})", is("one", ask)),
    }
}

fn of_field(field: &TextField, ask: &mut Ask) -> Texts {
    let columns = |names: &[&str]| Texts::Columns(names.iter().map(|n| (*n).to_owned()).collect());
    let in_rest =
        |key: &str| Texts::Columns(vec![format!("JSONExtract(rest, '{key}', 'Nullable(String)')")]);
    let list = |key: &str| Texts::List(format!("JSONExtract(rest, '{key}', 'Array(String)')"));
    match field {
        TextField::Service => columns(&["service", "workload"]),
        TextField::Model => columns(&["request_model", "response_model"]),
        TextField::Provider => columns(&["provider"]),
        TextField::Operation => columns(&["operation"]),
        TextField::Class => columns(&["nullIf(class, '')"]),
        TextField::ErrorType => columns(&["error_type"]),
        TextField::Finish => list("fr"),
        TextField::Tool => list("tc"),
        TextField::Conversation => in_rest("c"),
        TextField::Trace => columns(&["leftPad(lower(hex(trace_id)), 32, '0')"]),
        TextField::Response => in_rest("id"),
        TextField::Host => columns(&["host"]),
        TextField::Platform => in_rest("pl"),
        TextField::Server => in_rest("sa"),
        TextField::Incomplete => in_rest("i"),
        TextField::More(names) => {
            Texts::Columns(names.iter().map(|name| of_more(name, ask)).collect())
        }
    }
}

/// A further attribute as a text: a text as it is, anything else as JSON. ClickHouse reads the JSON
/// once for all that a question asks of it.
pub(super) fn of_more(name: &str, ask: &mut Ask) -> String {
    format!("JSONExtract(rest, 'm', 'Map(String, Nullable(String))')[{}]", ask.bind(name))
}

fn of_number(field: NumberField) -> &'static str {
    match field {
        NumberField::Duration => "duration",
        NumberField::FirstChunk => "first_chunk",
        NumberField::FirstToken => "first_token",
        NumberField::Cost => "cost",
        NumberField::InputTokens => "input_tokens",
        NumberField::OutputTokens => "output_tokens",
        NumberField::Tokens => {
            "if(input_tokens IS NULL AND output_tokens IS NULL, NULL, \
             toUInt128(ifNull(input_tokens, 0)) + toUInt128(ifNull(output_tokens, 0)))"
        }
        NumberField::CacheRead => "cache_read",
        NumberField::CacheWrite => "cache_write",
        NumberField::Reasoning => "reasoning",
        NumberField::HttpStatus => "http_status",
        NumberField::RetryAfter => {
            "toUInt64(round(JSONExtract(rest, 'ra', 'Nullable(Float64)') * 1e9))"
        }
        NumberField::Pid => "pid",
    }
}

fn of_range(range: Range, column: &str) -> String {
    let number = |value: u128| format!("toUInt128('{value}')");
    let (from, to) = (number(range.from), number(range.to));
    format!("(toUInt128({column}) >= {from} AND toUInt128({column}) <= {to})")
}

/// A pattern over a text. `lower` of ClickHouse is of ASCII alone, as a filter's case is.
fn of_pattern(pattern: &Pattern, text: &str, ask: &mut Ask) -> String {
    match pattern.pieces.as_slice() {
        [] => "true".to_owned(),
        [whole] => format!("lower({text}) = {}", ask.bind(whole.as_str())),
        pieces => {
            let escaped: Vec<_> = pieces.iter().map(|piece| escaped(piece)).collect();
            format!("lower({text}) LIKE {}", ask.bind(escaped.join("%")))
        }
    }
}

/// A text that LIKE takes for itself.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
