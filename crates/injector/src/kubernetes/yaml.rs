//! Values as YAML, for people and for `kubectl`.

use serde_json::Value;

/// A value in the block style. Texts that could be read as something else are quoted.
pub(crate) fn text(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

/// Writes a value whose lines begin at a column; the first one stands there already.
fn block(value: &Value, column: usize, out: &mut String) {
    match value {
        Value::Object(all) if !all.is_empty() => {
            for (at, (name, value)) in all.iter().enumerate() {
                if at > 0 {
                    out.push_str(&" ".repeat(column));
                }
                out.push_str(&scalar(&Value::from(name.as_str())));
                out.push(':');
                // A list may stand in the column of its name.
                let inner = column + if value.is_array() { 0 } else { 2 };
                below(value, inner, out);
            }
        }
        Value::Array(all) if !all.is_empty() => {
            for (at, value) in all.iter().enumerate() {
                if at > 0 {
                    out.push_str(&" ".repeat(column));
                }
                out.push_str("- ");
                block(value, column + 2, out);
            }
        }
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
}

/// What stands behind a name: on the same line where it is short.
fn below(value: &Value, column: usize, out: &mut String) {
    let is_nested = match value {
        Value::Object(all) => !all.is_empty(),
        Value::Array(all) => !all.is_empty(),
        _ => false,
    };
    if is_nested {
        out.push('\n');
        out.push_str(&" ".repeat(column));
    } else {
        out.push(' ');
    }
    block(value, column, out);
}

fn scalar(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text.chars().all(|it| it.is_ascii_alphanumeric() || "-_./@".contains(it))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    // A JSON string is a double-quoted scalar of YAML 1.2.
    if is_plain { text.clone() } else { value.to_string() }
}

/// Words that YAML 1.1, which `kubectl` reads, takes for something else than text.
const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_and_lists_are_blocks_and_odd_texts_are_quoted() {
        let value = json!({
            "a": {"b": ["x", {"c": 1, "d": []}], "empty": {}},
            "sonde/change": "12ab", "on": "no", "text": "two\nlines: $(A)", "nothing": null
        });
        let wanted = "a:\n  b:\n  - x\n  - c: 1\n    d: []\n  empty: {}\nnothing: null\n\"on\": \"no\"\n\
                      sonde/change: \"12ab\"\ntext: \"two\\nlines: $(A)\"\n";
        assert_eq!(text(&value), wanted);
    }
}
