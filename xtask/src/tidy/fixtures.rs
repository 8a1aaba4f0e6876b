//! Recorded traffic: no secret in it.

use super::{files, none};

/// Beginnings of keys that providers and platforms issue, and how many letters follow at least.
const KEYS: &[(&str, usize)] = &[
    ("sk-", 20),
    ("sk_live_", 16),
    ("AKIA", 16),
    ("AIza", 30),
    ("ghp_", 30),
    ("github_pat_", 20),
    ("hf_", 30),
    ("xoxb-", 20),
    ("gsk_", 20),
    ("r8_", 30),
    ("eyJhbGciOi", 20),
];

/// Headers that carry a secret; what follows must be a mark that it was taken out.
const HEADERS: &[&str] =
    &["authorization:", "x-api-key:", "api-key:", "cookie:", "x-goog-api-key:"];

/// True for what a recording holds where a secret was: every letter is an `x`.
fn is_masked(text: &str) -> bool {
    text.chars().all(|letter| matches!(letter, 'x' | ' '))
}

fn is_key_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '-' || letter == '_'
}

/// What in this line looks like a secret.
fn secret(line: &str) -> Option<String> {
    for (start, least) in KEYS {
        for (at, _) in line.match_indices(start) {
            let is_word_start = !line[..at].chars().next_back().is_some_and(is_key_letter);
            let rest = &line[at + start.len()..];
            let length = rest.chars().take_while(|letter| is_key_letter(*letter)).count();
            if is_word_start && length >= *least && !is_masked(&rest[..length]) {
                return Some(format!("a key that begins with `{start}`"));
            }
        }
    }
    let lower = line.to_lowercase();
    for header in HEADERS {
        for (at, _) in lower.match_indices(header) {
            let value = lower[at + header.len()..].trim_start();
            let end = value.find(['\\', '\r', '\n']).unwrap_or(value.len());
            if !is_masked(value[..end].trim()) {
                return Some(format!("a value of `{header}`"));
            }
        }
    }
    None
}

#[test]
fn no_secret_is_in_a_fixture() {
    let mut found = Vec::new();
    for file in files("fixtures", &["transcript", "exchanges", "calls", "json", "txt", "md"]) {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(what) = secret(line) {
                found.push(format!("{}:{}: {what}", file.path, number + 1));
            }
        }
    }
    none(&found);
}

#[test]
fn a_secret_is_seen() {
    let key = ["sk", "-proj-", "abcdefghijklmnopqrstuvwx"].concat();
    assert!(secret(&format!("  |Authorization: Bearer {key}\\r\\n")).is_some());
    assert!(secret("  |x-api-key: abc\\r\\n").is_some());
    assert!(secret("  |Authorization: xxxxxx xxxxxxxxxx\\r\\n").is_none());
    assert!(secret("  |task-abcdefghijklmnopqrstuvwxyz").is_none());
}
