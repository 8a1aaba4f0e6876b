//! [`ApiError`], the only thing that becomes an answer when something goes wrong.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use utoipa::ToSchema;

/// Why a request is not answered as asked.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    retry_after: Option<u32>,
    form: Form,
    cause: Option<Cause>,
}

/// What went wrong inside; for the log, never for the answer.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub(crate) id: String,
    pub(crate) text: String,
}

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `{"error":{"message":…}}`.
    Api,
    /// A `google.rpc.Status`, as OTLP asks for, in JSON.
    OtlpJson,
    /// The same in protobuf.
    OtlpProtobuf,
    /// A status of gRPC, in headers alone.
    Grpc,
}

/// The body of a refusal.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Refusal {
    /// What went wrong.
    pub(crate) error: Reason,
}

/// What went wrong, and what to do.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Reason {
    /// One sentence: what cannot be done, and the next step.
    pub(crate) message: String,
    /// Id under which the log has the cause; only for failures of the dashboard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None, form: Form::Api, cause: None }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Too much at once; the sender may try again after a second.
    pub(crate) fn busy() -> Self {
        let message = "cannot take more now; try again in a second";
        Self { retry_after: Some(1), ..Self::new(StatusCode::TOO_MANY_REQUESTS, message) }
    }

    /// The sender was too slow; it may try again.
    pub(crate) fn late(message: &'static str) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// A failure of ours. The cause is logged under an id, and only the id is answered.
    pub(crate) fn failed(cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = cause.to_string();
        let mut source = cause.source();
        while let Some(error) = source {
            // Writing to a string cannot fail.
            let _infallible = write!(text, ": {error}");
            source = error.source();
        }
        let id = id();
        Self {
            cause: Some(Cause { id, text }),
            retry_after: Some(5),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "the dashboard failed; its log says why")
        }
    }

    pub(crate) fn with_form(self, form: Form) -> Self {
        Self { form, ..self }
    }
}

impl From<storage::Error> for ApiError {
    fn from(error: storage::Error) -> Self {
        match error {
            // A sender that keeps what it has loses nothing while the database is away.
            storage::Error::Busy | storage::Error::Away { .. } => Self::busy(),
            // Senders keep what they have and try again: there may be room by then.
            storage::Error::Full => {
                let refused = Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string());
                Self { retry_after: Some(60), ..refused }
            }
            storage::Error::UnknownWorkload | storage::Error::UnknownNode => {
                Self::new(StatusCode::NOT_FOUND, error.to_string())
            }
            storage::Error::Recorded | storage::Error::TooManySteps => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
            storage::Error::Taken => {
                let refused = Self::new(StatusCode::FORBIDDEN, error.to_string());
                Self { retry_after: Some(60), ..refused }
            }
            storage::Error::Spent | storage::Error::Revoked => {
                Self::new(StatusCode::FORBIDDEN, error.to_string())
            }
            other => Self::failed(&other),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let id = self.cause.as_ref().map(|cause| cause.id.clone());
        let mut response = match self.form {
            Form::Api => {
                let reason = Reason { message: self.message, id };
                (self.status, Json(Refusal { error: reason })).into_response()
            }
            Form::OtlpJson => {
                let body =
                    serde_json::json!({ "code": rpc_code(self.status), "message": self.message });
                (self.status, Json(body)).into_response()
            }
            Form::OtlpProtobuf => {
                let body = crate::otlp::status(rpc_code(self.status), &self.message);
                (self.status, [(header::CONTENT_TYPE, crate::otlp::PROTOBUF)], body).into_response()
            }
            Form::Grpc => {
                crate::otlp::grpc_failure(rpc_code(self.status), &self.message, self.retry_after)
            }
        };
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(cause);
        }
        response
    }
}

/// The code of a `google.rpc.Status` for an HTTP status.
fn rpc_code(status: StatusCode) -> u64 {
    match status.as_u16() {
        400 | 413 | 415 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        429 => 8,
        501 => 12,
        _ => 14,
    }
}

/// Eight hexadecimal digits that differ from one failure to the next.
fn id() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:08x}", RandomState::new().hash_one(0) & 0xffff_ffff)
}
