//! How a call ended, and of which class a failure is.

use crate::query::Outcome;
use contract::row::Call;

/// Classes of failures. A file keeps the place in this list, so it is only ever added to.
pub(crate) const CLASSES: [&str; 13] = [
    "other",
    "rate_limit",
    "quota",
    "overloaded",
    "server",
    "timeout",
    "auth",
    "context_overflow",
    "invalid_request",
    "model_not_found",
    "content_filter",
    "stream_broken",
    "network",
];

/// How the call ended and, when it failed, the class of the failure.
pub(crate) fn outcome(call: &Call) -> (Outcome, Option<&'static str>) {
    let word = call.error_type.as_deref().map(str::to_ascii_lowercase);
    let status = call.http_status.filter(|status| *status >= 400);
    match word.as_deref() {
        Some("client_cancelled" | "cancelled" | "canceled") => (Outcome::Cancelled, None),
        Some(word) => (Outcome::Error, Some(by_word(word, call.http_status))),
        None if status.is_some() => (Outcome::Error, Some(by_status(status))),
        None => (Outcome::Ok, None),
    }
}

/// Words that say more than the HTTP status does; all others leave it to the status.
fn by_word(word: &str, status: Option<u16>) -> &'static str {
    match word {
        "insufficient_quota"
        | "quota"
        | "quota_exceeded"
        | "billing_error"
        | "billing_not_active"
        | "billing_hard_limit_reached" => "quota",
        "rate_limit"
        | "rate_limit_error"
        | "rate_limit_exceeded"
        | "rate_limited"
        | "resource_exhausted"
        | "throttlingexception"
        | "too_many_requests" => "rate_limit",
        "overloaded" | "overloaded_error" | "unavailable" | "serviceunavailableexception" => {
            "overloaded"
        }
        "context_overflow" | "context_length_exceeded" => "context_overflow",
        "timeout" | "timeout_error" | "client_timeout_error" | "deadline_exceeded" => "timeout",
        "auth"
        | "authentication_error"
        | "permission_error"
        | "invalid_api_key"
        | "unauthenticated"
        | "permission_denied"
        | "accessdeniedexception" => "auth",
        "model_not_found" | "not_found_error" | "not_found" => "model_not_found",
        "content_filter" | "content_policy_violation" | "refusal" => "content_filter",
        "stream_truncated" | "stream_broken" | "incomplete_stream" => "stream_broken",
        "network" | "connection_error" | "connection_reset" | "connection_refused" | "dns" => {
            "network"
        }
        "server" | "api_error" | "server_error" | "internal" | "internal_server_error" => {
            failed(status).map_or("server", |status| by_status(Some(status)))
        }
        "invalid_request" | "invalid_request_error" | "invalid_argument" => {
            failed(status).map_or("invalid_request", |status| by_status(Some(status)))
        }
        // `error.type` may be the status itself, or a word of a provider that is not in the list.
        _ => by_status(word.parse().ok().or(failed(status))),
    }
}

fn failed(status: Option<u16>) -> Option<u16> {
    status.filter(|status| *status >= 400)
}

fn by_status(status: Option<u16>) -> &'static str {
    match status {
        Some(429) => "rate_limit",
        Some(402) => "quota",
        Some(503 | 529) => "overloaded",
        Some(408 | 504) => "timeout",
        Some(401 | 403) => "auth",
        Some(404) => "model_not_found",
        Some(500..=599) => "server",
        Some(400..=499) => "invalid_request",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::outcome;
    use crate::query::Outcome;
    use contract::row::Call;

    #[test]
    fn every_class_that_can_come_out_is_in_the_list() {
        for word in [
            "quota",
            "rate_limit",
            "overloaded",
            "context_overflow",
            "timeout",
            "auth",
            "model_not_found",
            "content_filter",
            "stream_broken",
            "network",
            "server",
            "invalid_request",
            "x",
        ] {
            assert!(super::CLASSES.contains(&super::by_word(word, None)), "{word}");
        }
    }

    #[test]
    fn failures_are_classed_by_word_then_by_status() {
        let cases = [
            (None, Some(200), Outcome::Ok, None),
            (None, None, Outcome::Ok, None),
            (None, Some(500), Outcome::Error, Some("server")),
            (Some("429"), Some(429), Outcome::Error, Some("rate_limit")),
            (Some("insufficient_quota"), Some(429), Outcome::Error, Some("quota")),
            (Some("overloaded_error"), Some(200), Outcome::Error, Some("overloaded")),
            (Some("invalid_request_error"), Some(404), Outcome::Error, Some("model_not_found")),
            (Some("invalid_request_error"), Some(400), Outcome::Error, Some("invalid_request")),
            (Some("context_length_exceeded"), Some(400), Outcome::Error, Some("context_overflow")),
            (Some("api_error"), Some(529), Outcome::Error, Some("overloaded")),
            (Some("api_error"), Some(200), Outcome::Error, Some("server")),
            (Some("stream_truncated"), Some(200), Outcome::Error, Some("stream_broken")),
            (Some("connection_reset"), None, Outcome::Error, Some("network")),
            (Some("RESOURCE_EXHAUSTED"), Some(429), Outcome::Error, Some("rate_limit")),
            (Some("something_new"), Some(418), Outcome::Error, Some("invalid_request")),
            (Some("something_new"), Some(200), Outcome::Error, Some("other")),
            (Some("client_cancelled"), Some(200), Outcome::Cancelled, None),
        ];
        for (word, status, how, class) in cases {
            let call = Call {
                error_type: word.map(str::to_owned),
                http_status: status,
                ..Call::default()
            };
            assert_eq!(outcome(&call), (how, class), "{word:?} {status:?}");
        }
    }
}
