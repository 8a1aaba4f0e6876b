//! Reads a filter.

use super::{
    AGENT, BadFilter, ENVIRONMENT, Filter, MAX_FILTER_LEN, MAX_WORDS, NumberField, Pattern, Range,
    Term, Test, TextField, USER,
};
use crate::query::Outcome;
use contract::attribute;
use std::str::FromStr;

/// What kind of value a field takes.
enum Field {
    Text(TextField),
    Number(NumberField, Unit),
    Status,
    Stream,
}

/// How the numbers of a field are written.
#[derive(Clone, Copy)]
enum Unit {
    /// Kept in nanoseconds.
    Time,
    /// Kept in 10^-12 USD.
    Money,
    Count,
}

/// A piece of a value; stars and commas that were not quoted stand apart.
enum Piece {
    Text(char),
    Star,
    Comma,
}

/// Words of fields that people are told of, when one is not known.
pub(super) const FIELDS: &str = "service, model, provider, operation, status, class, error, duration, ttft, \
    cost, input, output, tokens, cached, reasoning, tool, finish, stream, http, user, agent, env, \
    conversation, trace, host, platform";

impl FromStr for Filter {
    type Err = BadFilter;

    fn from_str(text: &str) -> Result<Self, BadFilter> {
        if text.len() > MAX_FILTER_LEN {
            let message = format!("it is longer than {MAX_FILTER_LEN} bytes: ask for less at once");
            return Err(BadFilter { position: 0, message });
        }
        let mut reader = Reader { text, at: 0 };
        let mut terms = Vec::new();
        while let Some(term) = reader.term()? {
            if terms.len() == MAX_WORDS {
                return Err(reader.wrong(reader.at, format!("it has more than {MAX_WORDS} words")));
            }
            terms.push(term);
        }
        Ok(Self { terms })
    }
}

struct Reader<'a> {
    text: &'a str,
    /// Byte of the next character.
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn wrong(&self, at: usize, message: impl Into<String>) -> BadFilter {
        let position = self.text.get(..at).map_or(0, |before| before.chars().count());
        BadFilter { position, message: message.into() }
    }

    fn term(&mut self) -> Result<Option<Term>, BadFilter> {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
        let start = self.at;
        let Some(first) = self.peek() else { return Ok(None) };
        let negated = matches!(first, '-' | '!');
        if negated {
            self.next();
        }
        if self.peek().is_none_or(char::is_whitespace) {
            return Err(self.wrong(start, "`-` stands directly before the word that it negates"));
        }
        let test = match self.field_name() {
            Some(name) => self.field(start, &name)?,
            None => {
                let text: String = self.value()?.iter().map(Piece::as_written).collect();
                if text.is_empty() {
                    return Err(self.wrong(start, "there is nothing between the quotes"));
                }
                Test::Free(text.to_ascii_lowercase())
            }
        };
        Ok(Some(Term { negated, test }))
    }

    fn field(&mut self, start: usize, name: &str) -> Result<Test, BadFilter> {
        let Some(field) = field(name) else {
            let message = format!(
                "there is no field `{name}`: use one of {FIELDS}, the full name of an attribute, \
                 or quotes to look for the text itself"
            );
            return Err(self.wrong(start, message));
        };
        let value = self.value()?;
        if value.is_empty() {
            return Err(self.wrong(start, format!("`{name}:` has no value")));
        }
        test(field, &value).map_err(|message| self.wrong(start, format!("`{name}:` {message}")))
    }

    /// Takes `name:`, when that is what follows.
    fn field_name(&mut self) -> Option<String> {
        let rest = self.text.get(self.at..)?;
        let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.')))?;
        let name = rest.get(..len)?;
        if name.is_empty() || !rest.get(len..)?.starts_with(':') {
            return None;
        }
        self.at += len + 1;
        Some(name.to_ascii_lowercase())
    }

    /// A value, up to the next space that is not quoted.
    fn value(&mut self) -> Result<Vec<Piece>, BadFilter> {
        let mut pieces = Vec::new();
        while self.peek().is_some_and(|next| !next.is_whitespace()) {
            let start = self.at;
            match self.next() {
                Some('"') => self.quoted(start, &mut pieces)?,
                Some('*') => pieces.push(Piece::Star),
                Some(',') => pieces.push(Piece::Comma),
                Some(other) => pieces.push(Piece::Text(other)),
                None => {}
            }
        }
        Ok(pieces)
    }

    /// The rest of a quoted text, after its first quote.
    fn quoted(&mut self, start: usize, pieces: &mut Vec<Piece>) -> Result<(), BadFilter> {
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('\\') => match self.next() {
                    Some(escaped @ ('"' | '\\')) => pieces.push(Piece::Text(escaped)),
                    _ => return Err(self.wrong(start, "after `\\` comes `\"` or `\\`")),
                },
                Some(other) => pieces.push(Piece::Text(other)),
                None => return Err(self.wrong(start, "the `\"` is never closed")),
            }
        }
    }
}

impl Piece {
    fn as_written(&self) -> char {
        match self {
            Self::Text(text) => *text,
            Self::Star => '*',
            Self::Comma => ',',
        }
    }
}

fn field(name: &str) -> Option<Field> {
    text_field(name).map(Field::Text).or_else(|| number_field(name)).or_else(|| match name {
        "status" => Some(Field::Status),
        "stream" | attribute::REQUEST_STREAM => Some(Field::Stream),
        // Any other attribute by its full name.
        other if other.contains('.') => Some(Field::Text(TextField::More(vec![other.to_owned()]))),
        _ => None,
    })
}

fn text_field(name: &str) -> Option<TextField> {
    use TextField as T;
    let more = |names: &[&str]| T::More(names.iter().map(|name| (*name).to_owned()).collect());
    Some(match name {
        "service" | "workload" | attribute::SERVICE_NAME | attribute::WORKLOAD_KEY => T::Service,
        "model" | attribute::REQUEST_MODEL | attribute::RESPONSE_MODEL => T::Model,
        "provider" | attribute::PROVIDER_NAME => T::Provider,
        "operation" | "op" | attribute::OPERATION_NAME => T::Operation,
        "class" => T::Class,
        "error" | attribute::ERROR_TYPE => T::ErrorType,
        "finish" | attribute::FINISH_REASONS => T::Finish,
        "tool" | attribute::TOOL_CALLS => T::Tool,
        "conversation" | attribute::CONVERSATION_ID => T::Conversation,
        "trace" | "trace_id" => T::Trace,
        "response" | attribute::RESPONSE_ID => T::Response,
        "host" | attribute::HOST_NAME => T::Host,
        "platform" | attribute::PLATFORM => T::Platform,
        "server" | attribute::SERVER_ADDRESS => T::Server,
        "incomplete" | attribute::INCOMPLETE => T::Incomplete,
        "user" => more(&USER),
        "agent" => more(&AGENT),
        "env" | "environment" => more(&ENVIRONMENT),
        "namespace" => more(&[attribute::K8S_NAMESPACE_NAME, attribute::SERVICE_NAMESPACE]),
        "cluster" => more(&[attribute::K8S_CLUSTER_NAME]),
        _ => return None,
    })
}

fn number_field(name: &str) -> Option<Field> {
    use NumberField as N;
    let (field, unit) = match name {
        "duration" | attribute::DURATION => (N::Duration, Unit::Time),
        "ttft" | attribute::TIME_TO_FIRST_CHUNK => (N::FirstChunk, Unit::Time),
        "first_token" | attribute::TIME_TO_FIRST_TOKEN => (N::FirstToken, Unit::Time),
        "retry_after" | attribute::RETRY_AFTER => (N::RetryAfter, Unit::Time),
        "cost" | attribute::COST => (N::Cost, Unit::Money),
        "input" | attribute::INPUT_TOKENS => (N::InputTokens, Unit::Count),
        "output" | attribute::OUTPUT_TOKENS => (N::OutputTokens, Unit::Count),
        "tokens" => (N::Tokens, Unit::Count),
        "cached" | attribute::CACHE_READ_TOKENS => (N::CacheRead, Unit::Count),
        attribute::CACHE_WRITE_TOKENS => (N::CacheWrite, Unit::Count),
        "reasoning" | attribute::REASONING_TOKENS => (N::Reasoning, Unit::Count),
        "http" | attribute::HTTP_STATUS => (N::HttpStatus, Unit::Count),
        "pid" | attribute::PROCESS_PID => (N::Pid, Unit::Count),
        _ => return None,
    };
    Some(Field::Number(field, unit))
}

fn test(field: Field, value: &[Piece]) -> Result<Test, String> {
    let parts: Vec<&[Piece]> = value.split(|piece| matches!(piece, Piece::Comma)).collect();
    if parts.len() > MAX_WORDS || parts.iter().any(|part| part.is_empty()) {
        return Err(format!("takes 1 to {MAX_WORDS} values, with commas between them"));
    }
    let written = |part: &[Piece]| part.iter().map(Piece::as_written).collect::<String>();
    Ok(match field {
        Field::Text(field) => Test::Text { field, any: parts.into_iter().map(pattern).collect() },
        Field::Number(field, unit) => {
            let ranges = parts.into_iter().map(|part| range(&written(part), unit));
            Test::Number { field, any: ranges.collect::<Result<_, _>>()? }
        }
        Field::Status => {
            let outcomes = parts.into_iter().map(|part| {
                let outcome = Outcome::of_word(&written(part));
                outcome.ok_or_else(|| "is one of `ok`, `error`, `cancelled`".to_owned())
            });
            Test::Outcome(outcomes.collect::<Result<_, _>>()?)
        }
        Field::Stream => match &*written(value) {
            "true" | "yes" => Test::Stream(true),
            "false" | "no" => Test::Stream(false),
            _ => return Err("is `true` or `false`".into()),
        },
    })
}

fn pattern(part: &[Piece]) -> Pattern {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for next in part {
        match next {
            Piece::Star => pieces.push(std::mem::take(&mut piece)),
            other => piece.push(other.as_written().to_ascii_lowercase()),
        }
    }
    pieces.push(piece);
    Pattern { pieces }
}

fn range(text: &str, unit: Unit) -> Result<Range, String> {
    let number = |text: &str| number(text, unit);
    if let Some(text) = text.strip_prefix(">=") {
        return Ok(Range { from: number(text)?, to: u128::MAX });
    }
    if let Some(text) = text.strip_prefix("<=") {
        return Ok(Range { from: 0, to: number(text)? });
    }
    if let Some(text) = text.strip_prefix('>') {
        return Ok(Range { from: number(text)?.saturating_add(1), to: u128::MAX });
    }
    if let Some(text) = text.strip_prefix('<') {
        // Nothing is below zero: a range that holds nothing.
        let below = number(text)?.checked_sub(1);
        return Ok(below.map_or(Range { from: 1, to: 0 }, |to| Range { from: 0, to }));
    }
    if let Some((from, to)) = text.split_once("..") {
        return Ok(Range { from: number(from)?, to: number(to)? });
    }
    let same = number(text.strip_prefix('=').unwrap_or(text))?;
    Ok(Range { from: same, to: same })
}

/// A number in the units in which it is kept, exactly.
fn number(text: &str, unit: Unit) -> Result<u128, String> {
    let (wrong, units): (&str, &[(&str, u128)]) = match unit {
        Unit::Time => (
            "takes a time, such as `>5s`, `<=200ms` or `1m..5m`",
            &[
                ("ns", 1),
                ("us", 1000),
                ("ms", 1_000_000),
                ("s", 1_000_000_000),
                ("m", 60_000_000_000),
                ("h", 3_600_000_000_000),
                ("", 1_000_000_000),
            ],
        ),
        Unit::Money => ("takes an amount in USD, such as `>0.10`", &[("", 1_000_000_000_000)]),
        Unit::Count => (
            "takes a number, such as `>1000`, `<8k` or `100..200`",
            &[("k", 1000), ("m", 1_000_000), ("", 1)],
        ),
    };
    let text = match unit {
        Unit::Money => text.strip_prefix('$').unwrap_or(text),
        Unit::Time | Unit::Count => text,
    };
    let found = units.iter().find_map(|(suffix, factor)| {
        let digits = text.strip_suffix(suffix)?;
        digits.ends_with(|c: char| c.is_ascii_digit()).then_some((digits, *factor))
    });
    found.and_then(|(digits, factor)| decimal(digits, factor)).ok_or_else(|| wrong.to_owned())
}

/// A plain decimal times a factor; `None` when that is no whole number.
fn decimal(text: &str, factor: u128) -> Option<u128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = part.trim_end_matches('0');
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 18 || part.len() > 12 || !digits(whole) || !digits(part) {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let part: u128 = if part.is_empty() { 0 } else { part.parse().ok()? };
    let part = part.checked_mul(factor)?;
    if part % scale != 0 {
        return None;
    }
    whole.checked_mul(factor)?.checked_add(part / scale)
}
