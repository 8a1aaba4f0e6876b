//! The model call: what one exchange with a model was, as far as it was seen.

use wire::Moment;

/// One call to a model. What was not seen or not said is `None`, never zero.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCall {
    /// Who serves the model: a well-known `gen_ai.provider.name`, such as `openai`.
    pub provider: String,
    /// `gen_ai.operation.name`, such as `chat`.
    pub operation: &'static str,
    /// How the provider was recognised.
    pub recognised_by: RecognisedBy,
    /// Host that was asked, without the port, in lower case.
    pub server_address: Option<String>,
    /// Port that was asked, where the Host header or the socket says so.
    pub server_port: Option<u16>,
    /// Model as asked for.
    pub request_model: Option<String>,
    /// True when a stream was asked for.
    pub stream: bool,
    /// Upper limit of output tokens asked for.
    pub max_tokens: Option<u64>,
    /// Temperature asked for.
    pub temperature: Option<f64>,
    /// `top_p` asked for.
    pub top_p: Option<f64>,
    /// Number of choices asked for.
    pub choice_count: Option<u64>,
    /// `x-stainless-retry-count` of the official SDKs: 0 is the first attempt.
    pub resend_count: Option<u64>,
    /// `traceparent` that the client sent (W3C trace context).
    pub traceparent: Option<String>,
    /// HTTP status of the answer.
    pub status: Option<u16>,
    /// Id that the provider gave its answer.
    pub response_id: Option<String>,
    /// Model as answered.
    pub response_model: Option<String>,
    /// One reason a choice, in index order, in the words of the semantic conventions.
    pub finish_reasons: Vec<String>,
    /// Names of the tools that the model asked to call, in order.
    pub tool_calls: Vec<String>,
    /// Tokens.
    pub usage: Usage,
    /// Price by the bundled table; `None` when the model has no price or usage was not seen.
    pub cost: Option<Cost>,
    /// Class of the failure (`error.type`); `None` on success.
    pub error: Option<String>,
    /// Seconds that the provider asked to wait.
    pub retry_after_seconds: Option<f64>,
    /// First byte of the request.
    pub started: Moment,
    /// First event of the answer's stream that is not a comment or ping; `None` for a plain answer.
    pub first_chunk: Option<Moment>,
    /// First event that carries content, reasoning or a tool call.
    pub first_token: Option<Moment>,
    /// Last byte of the answer, or when it was cut.
    pub ended: Moment,
    /// Events in the answer's stream.
    pub chunk_count: u64,
    /// Size of the request body as sent, in bytes.
    pub request_bytes: u64,
    /// Size of the response body as received, in bytes.
    pub response_bytes: u64,
    /// Why part of the call was not seen; `None` when all of it was.
    pub incomplete: Option<Incomplete>,
}

impl ModelCall {
    /// A call of which nothing is known but who was asked for what.
    pub(crate) fn begun(
        provider: &str,
        operation: &'static str,
        recognised_by: RecognisedBy,
        started: Moment,
    ) -> Self {
        Self {
            provider: provider.to_owned(),
            operation,
            recognised_by,
            server_address: None,
            server_port: None,
            request_model: None,
            stream: false,
            max_tokens: None,
            temperature: None,
            top_p: None,
            choice_count: None,
            resend_count: None,
            traceparent: None,
            status: None,
            response_id: None,
            response_model: None,
            finish_reasons: Vec::new(),
            tool_calls: Vec::new(),
            usage: Usage::default(),
            cost: None,
            error: None,
            retry_after_seconds: None,
            started,
            first_chunk: None,
            first_token: None,
            ended: started,
            chunk_count: 0,
            request_bytes: 0,
            response_bytes: 0,
            incomplete: None,
        }
    }
}

/// Tokens of a call, by the rules of the semantic conventions: totals include their parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input: Option<u64>,
    /// All output tokens, reasoning included.
    pub output: Option<u64>,
    /// Part of the input read from a cache.
    pub cache_read: Option<u64>,
    /// Part of the input written to a cache.
    pub cache_write: Option<u64>,
    /// Part of `cache_write` that is kept for an hour, where the provider tells it apart.
    pub cache_write_1h: Option<u64>,
    /// Part of the output that was reasoning.
    pub reasoning: Option<u64>,
}

/// An exact amount of money: 10⁻¹² USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost {
    /// Amount in 10⁻¹² USD.
    pub pico_usd: u64,
}

/// How the provider of a call was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecognisedBy {
    /// By the name of the host that was asked (Host header or SNI).
    Host,
    /// By path and body shape, on a host that is not in the list.
    Shape,
}

/// Why part of a call was not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Incomplete {
    /// Bytes passed that the capture could not keep; some values may be missing.
    Gap,
    /// The connection ended in the middle of the answer.
    Cut,
    /// The capture started in the middle of the exchange.
    LateStart,
    /// A limit of the decoder was reached, or the body was coded in a way that it cannot read.
    Limit,
}
