//! Rows as columns for people, or as one JSON object a line for scripts.
//!
//! What programs on the machine named themselves is hostile: control characters never reach the
//! terminal.

use crate::cli::Output;
use serde_json::Value;
use std::io::{Result, Write};

/// A column: its head, which side it leans to, and how a row becomes its text.
pub(crate) struct Column {
    /// Text of the head.
    pub(crate) head: &'static str,
    /// Numbers lean right.
    pub(crate) right: bool,
    /// Text of the cell; empty is shown as `–`.
    pub(crate) cell: fn(&Value) -> String,
}

/// Longest text of a cell, in characters: names can be very long, reasons are sentences.
const MAX_CELL: usize = 120;

/// Prints rows in the form that was asked for.
pub(crate) fn print(
    out: &mut impl Write,
    output: Output,
    columns: &[Column],
    rows: &[Value],
) -> Result<()> {
    match output {
        Output::Json => lines(out, rows),
        Output::Table => {
            let widths = widths(columns, rows);
            head(out, columns, &widths)?;
            rows.iter().try_for_each(|row| line(out, columns, &widths, row))
        }
    }
}

/// Prints one JSON object a line.
pub(crate) fn lines(out: &mut impl Write, rows: &[Value]) -> Result<()> {
    rows.iter().try_for_each(|row| writeln!(out, "{row}"))
}

/// Width of each column over these rows, in characters.
pub(crate) fn widths(columns: &[Column], rows: &[Value]) -> Vec<usize> {
    columns
        .iter()
        .map(|column| {
            let cells = rows.iter().map(|row| cell(column, row).chars().count());
            cells.max().unwrap_or(0).max(column.head.chars().count())
        })
        .collect()
}

/// Prints the heads.
pub(crate) fn head(out: &mut impl Write, columns: &[Column], widths: &[usize]) -> Result<()> {
    let heads = columns.iter().map(|column| column.head.to_owned());
    padded(out, columns, widths, heads)
}

/// Prints one row.
pub(crate) fn line(
    out: &mut impl Write,
    columns: &[Column],
    widths: &[usize],
    row: &Value,
) -> Result<()> {
    padded(out, columns, widths, columns.iter().map(|column| cell(column, row)))
}

fn padded(
    out: &mut impl Write,
    columns: &[Column],
    widths: &[usize],
    cells: impl Iterator<Item = String>,
) -> Result<()> {
    let mut text = String::new();
    for ((column, width), cell) in columns.iter().zip(widths).zip(cells) {
        let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
        if column.right {
            text.push_str(&padding);
            text.push_str(&cell);
        } else {
            text.push_str(&cell);
            text.push_str(&padding);
        }
        text.push_str("  ");
    }
    writeln!(out, "{}", text.trim_end())
}

fn cell(column: &Column, row: &Value) -> String {
    let text = plain(&(column.cell)(row));
    if text.is_empty() {
        return "–".to_owned();
    }
    if text.chars().count() <= MAX_CELL {
        return text;
    }
    text.chars().take(MAX_CELL - 1).chain(['…']).collect()
}

/// Text without control characters, which could move the cursor or recolour the terminal.
pub(crate) fn plain(text: &str) -> String {
    let is_unsafe =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// A text value of a row, or nothing.
pub(crate) fn text(row: &Value, key: &str) -> String {
    match row.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => list
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(", "),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Seconds with three significant digits: `8.10 s`, `940 ms`.
pub(crate) fn seconds(row: &Value, key: &str) -> String {
    let Some(seconds) = row.get(key).and_then(Value::as_f64) else { return String::new() };
    match seconds {
        s if s < 0.000_999_5 => format!("{:.0} µs", s * 1e6),
        s if s < 0.009_995 => format!("{:.2} ms", s * 1e3),
        s if s < 0.099_95 => format!("{:.1} ms", s * 1e3),
        s if s < 0.999_5 => format!("{:.0} ms", s * 1e3),
        s if s < 9.995 => format!("{s:.2} s"),
        s if s < 99.95 => format!("{s:.1} s"),
        s => format!("{s:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_hostile_name_cannot_move_the_cursor() {
        let columns = [Column { head: "name", right: false, cell: |row| text(row, "name") }];
        let mut out = Vec::new();
        print(&mut out, Output::Table, &columns, &[json!({"name": "a\u{1b}[2J\nb\u{202e}c"})])
            .unwrap();
        let printed = String::from_utf8(out).unwrap();
        assert_eq!(printed.lines().count(), 2);
        assert!(!printed.contains('\u{1b}') && !printed.contains('\u{202e}'));
    }

    #[test]
    fn json_is_one_object_a_line_whatever_it_holds() {
        let mut out = Vec::new();
        print(&mut out, Output::Json, &[], &[json!({"a": "x\ny"}), json!({"b": 1})]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 2);
    }

    #[test]
    fn seconds_have_three_digits() {
        let shown = |s: f64| seconds(&json!({"d": s}), "d");
        assert_eq!(
            [shown(8.1), shown(0.94), shown(0.001_234), shown(123.4), shown(0.000_05)],
            ["8.10 s", "940 ms", "1.23 ms", "123 s", "50 µs"]
        );
        assert_eq!(seconds(&json!({}), "d"), "");
    }
}
