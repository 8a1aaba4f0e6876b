//! The link to the dashboard, or to another receiver: HTTP over TCP or over a unix socket. It only
//! ever dials.
//!
//! `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` (names, suffixes, addresses and ranges)
//! hold for it, except for addresses of this machine itself.

use crate::config::{Token, Trust};
use anyhow::{Context as _, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::blocking::{Client, ClientBuilder, Response};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER,
};
use reqwest::{Certificate, Identity};
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// A wish for ten thousand workloads has two megabytes.
const MAX_ANSWER: u64 = 16 << 20;

/// Longest wait that a `Retry-After` may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Bodies below are sent as they are: they fit a packet.
const GZIP_ABOVE: usize = 1_400;

/// How long a connection is kept that nobody uses: reports come in bursts, with half a minute between
/// them, and a dashboard holds a connection for each poll that waits already.
const KEEP_IDLE: Duration = Duration::from_secs(5);

/// What a request shows to be let in; it changes when the node gets a credential of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keyring(Arc<Mutex<Option<Token>>>);

/// A dashboard or another receiver, and how to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    client: Client,
    base: String,
    keyring: Keyring,
    headers: HeaderMap,
    /// Whether the other side said that it reads gzip.
    reads_gzip: Arc<AtomicBool>,
}

/// What the other side answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// How long it asks to wait before the next try.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

impl Keyring {
    /// The secret that holds now.
    pub(crate) fn token(&self) -> Option<Token> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on another secret holds.
    pub(crate) fn hold(&self, token: Option<Token>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

impl Link {
    /// Makes ready to dial; nothing is sent yet.
    pub(crate) fn new(place: &str, token: Option<Token>) -> anyhow::Result<Self> {
        Self::with(place, token, &Trust::default())
    }

    /// The same, with certificates of one's own.
    ///
    /// # Errors
    ///
    /// When the address, or a file with certificates, cannot be used; the message names it.
    pub(crate) fn with(place: &str, token: Option<Token>, trust: &Trust) -> anyhow::Result<Self> {
        let builder = Client::builder()
            .connect_timeout(Duration::from_secs(10))
            // A connection that the other side lost is noticed before a poll's patience is over.
            .tcp_keepalive(Duration::from_secs(15))
            .pool_idle_timeout(KEEP_IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("sonde/", env!("CARGO_PKG_VERSION")));
        let (builder, base) = reach(trusting(builder, trust)?, place)?;
        let client = builder.build().context("cannot make an HTTP client")?;
        let keyring = Keyring::default();
        keyring.hold(token);
        Ok(Self { client, base, keyring, headers: HeaderMap::new(), reads_gzip: Arc::default() })
    }

    /// With headers that every request carries.
    ///
    /// # Errors
    ///
    /// When one of them cannot be a header; the message names it, and not its value.
    pub(crate) fn carrying(mut self, headers: &[(String, Token)]) -> anyhow::Result<Self> {
        for (name, value) in headers {
            let header = HeaderName::from_bytes(name.as_bytes())
                .with_context(|| format!("cannot use `{name}` as a name of a header"))?;
            let mut value = HeaderValue::from_str(&value.0)
                .with_context(|| format!("cannot use the value of the header `{name}`"))?;
            value.set_sensitive(true);
            self.headers.insert(header, value);
        }
        Ok(self)
    }

    /// For a receiver that is known to read gzip, as every receiver of OTLP does.
    pub(crate) fn with_gzip(self) -> Self {
        self.reads_gzip.store(true, Ordering::Relaxed);
        self
    }

    /// What its requests show.
    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Posts a body and waits at most `patience` for the whole answer.
    pub(crate) fn post(
        &self,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
        patience: Duration,
    ) -> anyhow::Result<Answer> {
        self.post_with(self.keyring.token().as_ref(), path, (content_type, body), patience)
    }

    /// The same, showing another secret than the one that holds.
    pub(crate) fn post_with(
        &self,
        token: Option<&Token>,
        path: &str,
        (content_type, body): (&str, Vec<u8>),
        patience: Duration,
    ) -> anyhow::Result<Answer> {
        let packed = (body.len() > GZIP_ABOVE && self.reads_gzip.load(Ordering::Relaxed))
            .then(|| gzip(&body))
            .transpose()?;
        let mut request = self
            .client
            .post(format!("{}{path}", self.base))
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, content_type)
            .timeout(patience);
        if packed.is_some() {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        if let Some(token) = token {
            request = request.bearer_auth(&token.0);
        }
        let response =
            request.body(packed.unwrap_or(body)).send().context("cannot reach the dashboard")?;
        // RFC 9110 section 12.5.3: in an answer, it says what requests may be.
        if response.headers().get(ACCEPT_ENCODING).is_some_and(|codings| {
            codings.to_str().is_ok_and(|codings| codings.split(',').any(|it| it.trim() == "gzip"))
        }) {
            self.reads_gzip.store(true, Ordering::Relaxed);
        }
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

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(body)?;
    packed.finish()
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

/// Adds certificates of one's own: whom to trust beside the usual ones, and what to show.
fn trusting(mut builder: ClientBuilder, trust: &Trust) -> anyhow::Result<ClientBuilder> {
    let read = |file: &Path| {
        fs::read(file).with_context(|| format!("cannot read the certificates `{}`", file.display()))
    };
    if let Some(file) = &trust.ca_file {
        let bundle = Certificate::from_pem_bundle(&read(file)?)
            .ok()
            .filter(|bundle| !bundle.is_empty())
            .with_context(|| {
                format!(
                    "cannot use `{}` as certificates to trust; it has to hold them as PEM",
                    file.display()
                )
            })?;
        builder = builder.tls_certs_merge(bundle);
    }
    match (&trust.client_cert, &trust.client_key) {
        (None, None) => Ok(builder),
        (Some(cert), key) => {
            let mut pem = read(cert)?;
            if let Some(key) = key {
                pem.push(b'\n');
                pem.extend(read(key)?);
            }
            let identity = Identity::from_pem(&pem).ok().with_context(|| {
                format!(
                    "cannot use `{}` as a certificate of this node; it and its key have to be PEM",
                    cert.display()
                )
            })?;
            Ok(builder.identity(identity))
        }
        (None, Some(key)) => bail!(
            "cannot use the key `{}` without a certificate; name that with --client-cert",
            key.display()
        ),
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
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let date = response.headers().get(reqwest::header::DATE).and_then(|date| date.to_str().ok());
    wait_of(value, date)
}

/// The wait that a `Retry-After` asks for (RFC 9110 section 10.2.3): seconds, or a date. A date is
/// measured by the clock that wrote it, not by ours; without one of its own it says nothing.
fn wait_of(value: &str, now_there: Option<&str>) -> Option<Duration> {
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let (until, now): (SystemTime, SystemTime) = (date(value)?, date(now_there?.trim())?);
            until.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// Waits that grow from try to try, jittered so that a fleet does not come back in step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(30);

    /// The wait after one more failure; `chance` is a random number from 0 to 1. A wait that was asked
    /// for is kept to, and up to a tenth longer: all who were asked must not come back at once.
    pub(crate) fn next(&mut self, asked: Option<Duration>, chance: f64) -> Duration {
        let full = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        let jittered = full.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        let spread = |asked: Duration| asked.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 10.0);
        asked.map_or(jittered, |asked| spread(asked).max(jittered))
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

    #[test]
    fn both_forms_of_a_wait_are_read_and_a_wrong_clock_does_not_matter() {
        let seconds = |value: &str, now: Option<&str>| wait_of(value, now).map(|it| it.as_secs());
        assert_eq!(seconds("7", None), Some(7));
        assert_eq!(seconds("99999999999", None), Some(MAX_RETRY_AFTER.as_secs()));
        let (until, now) = ("Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:19 GMT");
        assert_eq!(seconds(until, Some(now)), Some(40), "by the clock of the other side");
        assert_eq!(seconds(now, Some(until)), Some(0));
        assert_eq!(seconds(until, None), None);
        for nonsense in ["", "-1", "soon", "1.5"] {
            assert_eq!(seconds(nonsense, Some(now)), None, "{nonsense}");
        }
    }

    #[test]
    fn long_bodies_are_packed_once_the_other_side_says_that_it_reads_them() {
        use crate::stand_in::{Response, StandIn};
        let server = StandIn::start(|_| Response {
            headers: vec![("accept-encoding", "gzip".to_owned())],
            ..Response::of(200, "")
        });
        let link = Link::new(&server.url, None).unwrap();
        let long = vec![b'x'; 100_000];
        let post = |body: &[u8]| {
            link.post("/p", "text/plain", body.to_vec(), Duration::from_secs(10)).unwrap();
            server.next("/p")
        };
        assert_eq!(post(&long).body, long, "nobody said yet that it may be packed");
        let packed = post(&long);
        assert_eq!(packed.headers["content-encoding"], "gzip");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*packed.body).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, long);
        assert!(!post(b"short").headers.contains_key("content-encoding"));
    }

    #[test]
    fn files_that_hold_no_certificates_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.pem");
        fs::write(&file, "nothing").unwrap();
        let missing = directory.path().join("missing.pem");
        let ca = |file: &Path| Trust { ca_file: Some(file.to_owned()), ..Trust::default() };
        let cert = Trust { client_cert: Some(file.clone()), ..Trust::default() };
        let key = Trust { client_key: Some(file.clone()), ..Trust::default() };
        for (trust, word) in [
            (ca(&file), "x.pem"),
            (ca(&missing), "missing.pem"),
            (cert, "PEM"),
            (key, "client-cert"),
        ] {
            let error = Link::with("https://localhost", None, &trust).unwrap_err();
            assert!(format!("{error:#}").contains(word), "{error:#}");
        }
    }
}
