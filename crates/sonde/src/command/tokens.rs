//! `sonde tokens`: who may report, send and ask.

use crate::api::Api;
use crate::cli::{Output, Tokens, TokensAction, TokensCreate};
use crate::failure::Failure;
use crate::table::{self, Column, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Write as _;

const COLUMNS: &[Column] = &[
    Column { head: "ID", right: false, cell: |row| text(row, "id") },
    Column { head: "KIND", right: false, cell: |row| text(row, "kind") },
    Column { head: "NAME", right: false, cell: |row| text(row, "name") },
    Column { head: "CREATED", right: false, cell: |row| text(row, "created") },
    Column { head: "EXPIRES", right: false, cell: |row| text(row, "expires") },
    Column { head: "LAST USED", right: false, cell: |row| text(row, "last_used") },
    Column { head: "JOINED", right: true, cell: joined },
    Column { head: "ENVIRONMENT", right: false, cell: |row| text(row, "environment") },
];

/// How many nodes joined, and may.
fn joined(row: &Value) -> String {
    match (text(row, "kind").as_str(), text(row, "used"), text(row, "uses")) {
        ("join", used, uses) if uses.is_empty() => used,
        ("join", used, uses) => format!("{used}/{uses}"),
        _ => String::new(),
    }
}

/// Makes, lists or revokes tokens.
pub(crate) fn run(options: &Tokens) -> Result<(), Failure> {
    match &options.action {
        TokensAction::Create(new) => create(new),
        TokensAction::List { target, format } => {
            let mut answer = Api::open(target)?.get("/api/v1/tokens", &[])?;
            let rows = match answer.get_mut("tokens").map(Value::take) {
                Some(Value::Array(rows)) => rows,
                _ => Vec::new(),
            };
            table::print(&mut std::io::stdout().lock(), format.output, COLUMNS, &rows)?;
            Ok(())
        }
        TokensAction::Revoke { id, target } => Api::open(target)?
            .send_json(Method::POST, "/api/v1/tokens/revoke", &json!({ "id": id }))
            .map(|_revoked| ()),
    }
}

fn create(new: &TokensCreate) -> Result<(), Failure> {
    let body = json!({
        "kind": new.kind.word(),
        "name": new.name,
        "expires_seconds": new.expires,
        "uses": new.uses,
        "environment": new.environment,
    });
    let made = Api::open(&new.target)?.send_json(Method::POST, "/api/v1/tokens", &body)?;
    let mut out = std::io::stdout().lock();
    match new.format.output {
        Output::Json => writeln!(out, "{made}")?,
        Output::Table => writeln!(out, "{}", text(&made, "token"))?,
    }
    Ok(())
}
