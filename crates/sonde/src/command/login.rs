//! `sonde login`: a new one-time link to the page.

use crate::api::Api;
use crate::cli::Login;
use crate::failure::Failure;
use crate::table::text;
use reqwest::Method;
use serde_json::json;
use std::io::Write as _;

/// Prints a link that logs one browser in, once, within its validity.
pub(crate) fn run(options: &Login) -> Result<(), Failure> {
    let api = Api::local(options.data_dir.as_deref())?;
    let answer = api.send_json(Method::POST, "/api/v1/login-links", &json!({}))?;
    writeln!(std::io::stdout(), "{}", text(&answer, "url"))?;
    Ok(())
}
