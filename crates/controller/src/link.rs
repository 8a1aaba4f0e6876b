//! The link to the dashboard: HTTP over TCP or over its unix socket. It only ever dials.

use crate::config::Token;
use anyhow::{Context as _, bail};
use reqwest::blocking::{Client, ClientBuilder, Response};
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

/// A wish for ten thousand workloads has two megabytes.
const MAX_ANSWER: u64 = 16 << 20;

/// Longest wait that a `Retry-After` may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A dashboard, and how to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    client: Client,
    base: String,
    token: Option<Token>,
}

/// What the dashboard answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// How long the dashboard asks to wait before the next try.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

impl Link {
    /// Makes ready to dial; nothing is sent yet.
    pub(crate) fn new(dashboard: &str, token: Option<Token>) -> anyhow::Result<Self> {
        let builder = Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("sonde/", env!("CARGO_PKG_VERSION")));
        let (builder, base) = reach(builder, dashboard)?;
        let client = builder.build().context("cannot make an HTTP client")?;
        Ok(Self { client, base, token })
    }

    /// Posts a body and waits at most `patience` for the whole answer.
    pub(crate) fn post(
        &self,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
        patience: Duration,
    ) -> anyhow::Result<Answer> {
        let mut request = self
            .client
            .post(format!("{}{path}", self.base))
            .header(reqwest::header::CONTENT_TYPE, content_type)
            .timeout(patience)
            .body(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(&token.0);
        }
        let response = request.send().context("cannot reach the dashboard")?;
        let retry_after = retry_after(&response);
        let status = response.status().as_u16();
        let mut body = Vec::new();
        response
            .take(MAX_ANSWER)
            .read_to_end(&mut body)
            .context("cannot read the dashboard's answer")?;
        Ok(Answer { status, retry_after, body })
    }
}

impl Answer {
    /// Whether the dashboard took it.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the same request may succeed later.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        matches!(self.status, 401 | 403 | 404 | 408 | 425 | 429 | 500..=599)
    }
}

fn reach(builder: ClientBuilder, dashboard: &str) -> anyhow::Result<(ClientBuilder, String)> {
    if let Some(path) = dashboard.strip_prefix("unix:") {
        return Ok((
            builder.unix_socket(Path::new(path)).no_proxy(),
            "http://localhost".to_owned(),
        ));
    }
    let url = reqwest::Url::parse(dashboard).with_context(|| {
        format!(
            "cannot use `{dashboard}` as a dashboard; write it as https://HOST or http://HOST:PORT"
        )
    })?;
    let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
        bail!(
            "cannot use `{dashboard}` as a dashboard; write it as https://HOST or http://HOST:PORT"
        );
    };
    let host = host.trim_matches(['[', ']']);
    let is_here = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    // A proxy cannot reach this machine's loopback.
    let builder = if is_here { builder.no_proxy() } else { builder };
    Ok((builder, dashboard.trim_end_matches('/').to_owned()))
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds =
        response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// Waits that grow from try to try, jittered so that a fleet does not come back in step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(30);

    /// The wait after one more failure; `chance` is a random number from 0 to 1.
    pub(crate) fn next(&mut self, asked: Option<Duration>, chance: f64) -> Duration {
        let full = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        let jittered = full.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        asked.map_or(jittered, |asked| asked.max(jittered))
    }

    /// Forgets the failures.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// A random number from 0 to 1.
pub(crate) fn chance() -> f64 {
    let bits = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_honour_what_was_asked() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..10).map(|_| backoff.next(None, 1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(backoff.next(Some(Duration::from_secs(60)), 0.0), Duration::from_secs(60));
        backoff.succeeded();
        assert_eq!(backoff.next(None, 0.0).as_millis(), 100);
    }
}
