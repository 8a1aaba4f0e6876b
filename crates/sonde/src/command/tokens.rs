//! `sonde tokens`: who may report, send and ask.

use crate::api::Api;
use crate::cli::{Output, TokensAction, TokensCreate};
use crate::failure::Failure;
use crate::table::{self, Column, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Write as _;

const COLUMNS: &[Column] = &[
    Column { head: "ID", right: false, cell: |row| text(row, "id") },
    Column { head: "KIND", right: false, cell: |row| text(row, "kind") },
    Column { head: "CREATED", right: false, cell: |row| text(row, "created") },
];

/// Makes, lists or revokes tokens.
pub(crate) fn run(action: TokensAction) -> Result<(), Failure> {
    match action {
        TokensAction::Create(options) => create(&options),
        TokensAction::List { target, format } => {
            let mut answer = Api::open(&target)?.get("/api/v1/tokens", &[])?;
            let rows = match answer.get_mut("tokens").map(Value::take) {
                Some(Value::Array(rows)) => rows,
                _ => Vec::new(),
            };
            table::print(&mut std::io::stdout().lock(), format.output, COLUMNS, &rows)?;
            Ok(())
        }
        TokensAction::Revoke { id, target } => {
            Api::open(&target)?.send_json(
                Method::POST,
                "/api/v1/tokens/revoke",
                &json!({ "id": id }),
            )?;
            Ok(())
        }
    }
}

fn create(options: &TokensCreate) -> Result<(), Failure> {
    let body = json!({ "kind": options.kind.word() });
    let answer = Api::open(&options.target)?.send_json(Method::POST, "/api/v1/tokens", &body)?;
    let mut out = std::io::stdout().lock();
    match options.format.output {
        Output::Json => writeln!(out, "{answer}")?,
        Output::Table => writeln!(out, "{}", text(&answer, "token"))?,
    }
    Ok(())
}
