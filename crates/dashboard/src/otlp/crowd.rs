//! How many different names one sender may bring: each makes a row in the sums of every minute,
//! for ever, so that a sender that puts an id into a name would fill the disk and the page.

use axum::http::{HeaderMap, header};
use contract::row::{Call, Time};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// Different names of services of one sender and day; a cluster of a thousand services fits.
const MAX_SERVICES: usize = 5_000;
/// Different models; all providers together offer about a thousand.
const MAX_MODELS: usize = 2_000;
/// Different providers, operations, and kinds of failures, each.
const MAX_WORDS: usize = 500;
/// Different keys of attributes without a field in the row.
const MAX_KEYS: usize = 1_000;
/// Senders that are told apart; all others share one allowance.
const MAX_SOURCES: usize = 1_024;

/// What stands for a name too many.
pub(super) const OTHER: &str = "other";

/// Who sent a request: a number made of the token, the same until the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(u64);

/// The names that each sender brought today.
#[derive(Debug, Default)]
pub(crate) struct Crowds {
    hash: RandomState,
    seen: Mutex<HashMap<Source, Crowd>>,
}

#[derive(Debug, Default)]
struct Crowd {
    day: u64,
    services: HashSet<u64>,
    models: HashSet<u64>,
    providers: HashSet<u64>,
    operations: HashSet<u64>,
    failures: HashSet<u64>,
    keys: HashSet<u64>,
}

impl Crowds {
    /// The sender of a request with these headers.
    pub(crate) fn source(&self, headers: &HeaderMap) -> Source {
        let token = headers.get(header::AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
        Source(self.hash.hash_one(token))
    }

    /// Replaces names that are too many by `other`, and leaves attributes of too many keys out.
    pub(crate) fn limit(&self, source: Source, now: Time, calls: &mut [Call]) {
        if calls.is_empty() {
            return;
        }
        let day = now.0 / 86_400_000_000_000;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.contains_key(&source) || seen.len() < MAX_SOURCES;
        let crowd = seen.entry(if known { source } else { Source(0) }).or_default();
        if crowd.day != day {
            *crowd = Crowd { day, ..Crowd::default() };
        }
        for call in calls {
            crowd.limit(&self.hash, call);
        }
    }
}

impl Crowd {
    fn limit(&mut self, hash: &RandomState, call: &mut Call) {
        let keep = |seen: &mut HashSet<u64>, most, text: &str| {
            let hashed = hash.hash_one(text);
            seen.contains(&hashed) || (seen.len() < most && seen.insert(hashed))
        };
        for (seen, most, text) in [
            (&mut self.services, MAX_SERVICES, &mut call.service_name),
            (&mut self.providers, MAX_WORDS, &mut call.provider_name),
            (&mut self.operations, MAX_WORDS, &mut call.operation_name),
            (&mut self.failures, MAX_WORDS, &mut call.error_type),
        ] {
            if let Some(text) = text.as_mut().filter(|text| !keep(seen, most, text)) {
                OTHER.clone_into(text);
            }
        }
        for text in [&mut call.request_model, &mut call.response_model] {
            if let Some(text) =
                text.as_mut().filter(|text| !keep(&mut self.models, MAX_MODELS, text))
            {
                OTHER.clone_into(text);
            }
        }
        call.more.retain(|key, _| keep(&mut self.keys, MAX_KEYS, key));
    }
}

#[cfg(test)]
mod tests {
    use super::{Crowds, MAX_MODELS, MAX_SERVICES, OTHER, Source};
    use contract::row::{Call, Time};

    fn calls(count: usize) -> Vec<Call> {
        let call = |number: usize| Call {
            service_name: Some(format!("service {number}")),
            request_model: Some("gpt-4o".into()),
            response_model: Some(format!("model {number}")),
            ..Call::default()
        };
        (0..count).map(call).collect()
    }

    #[test]
    fn a_sender_with_too_many_names_gets_others_and_nobody_else_does() {
        let crowds = Crowds::default();
        let (loud, calm, now) = (Source(1), Source(2), Time(1));
        let mut many = calls(MAX_SERVICES + 10);
        crowds.limit(loud, now, &mut many);
        let others = many.iter().filter(|call| call.service_name.as_deref() == Some(OTHER));
        assert_eq!(others.count(), 10);
        let models = many.iter().filter(|call| call.response_model.as_deref() == Some(OTHER));
        assert_eq!(models.count(), MAX_SERVICES + 10 - (MAX_MODELS - 1));
        assert!(many.iter().all(|call| call.request_model.as_deref() == Some("gpt-4o")));
        let mut few = calls(MAX_SERVICES + 1).split_off(MAX_SERVICES);
        crowds.limit(loud, now, &mut few);
        assert_eq!(few[0].service_name.as_deref(), Some(OTHER));
        let mut few = calls(1);
        crowds.limit(calm, now, &mut few);
        assert_eq!(few, calls(1));
        // The next day is a new one.
        crowds.limit(loud, Time(86_400_000_000_000), &mut few);
        assert_eq!(few, calls(1));
    }
}
