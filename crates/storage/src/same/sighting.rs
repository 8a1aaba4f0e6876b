//! One sighting of a call, and whether another is of the same call. Pure.

use super::Ids;
use crate::hashing::Keyed;
use crate::units::span_id;
use contract::row::Call;
use std::hash::BuildHasher;

/// How far the ends of two sightings of one call may lie apart: an SDK also counts the time that
/// the program takes to read.
const SLACK_NANOS: u64 = 2_000_000_000;

/// Attribute that names the library of a span.
const SCOPE: &str = "otel.scope.name";

/// What a hash is of, so that those of two kinds differ.
#[derive(Hash)]
pub(super) enum Kind {
    Observer,
    Place,
    Container,
    Service,
    Model,
    Response,
    Trace,
}

/// What is remembered of a sighting.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) ids: Ids,
    parent: Option<u64>,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Who saw it, hashed; a second one once it was joined.
    pub(super) observers: [Option<u64>; 2],
    /// Under whom it is found by place: the first, or 0 where there are too many to tell apart.
    pub(super) first_observer: u64,
    pub(super) response: Option<u64>,
    /// Host and process, container, and service: SDKs often know nothing but the last.
    places: [Option<u64>; 3],
    pub(super) trace: u64,
    models: [Option<u64>; 2],
    tokens: [Option<u64>; 2],
    recorded: bool,
}

impl Seen {
    pub(super) fn of(hashing: &Keyed, call: &Call, ids: Ids) -> Self {
        let hash = |kind: Kind, text: &str| hashing.hash_one((kind, text));
        let observer = match (&call.recognised_by, call.more.get(SCOPE)) {
            (Some(_), _) => "the kernel",
            (None, Some(serde_json::Value::String(scope))) => scope,
            _ => "",
        };
        let observer = hash(Kind::Observer, observer);
        let host = call.host_name.as_deref().unwrap_or_default();
        let place = call.process_pid.map(|pid| hashing.hash_one((Kind::Place, host, pid)));
        let container = call.more.get("container.id").and_then(serde_json::Value::as_str);
        // What SDKs write where no name was given names nobody.
        let is_named = |name: &&str| *name != "default" && !name.starts_with("unknown_service");
        let service = call.service_name.as_deref().filter(is_named);
        let service = service.map(|name| hash(Kind::Service, name));
        let model =
            |model: &Option<String>| model.as_deref().map(|model| hash(Kind::Model, plain(model)));
        let start = call.time.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a duration is not negative, and shorter than what is kept"
        )]
        let nanos = (call.duration.unwrap_or(0.0) * 1e9) as u64;
        Self {
            trace: hashing.hash_one((Kind::Trace, ids.0)),
            ids,
            parent: call.parent_span_id.as_deref().and_then(span_id),
            start,
            end: start.saturating_add(nanos),
            observers: [Some(observer), None],
            first_observer: 0,
            response: call.response_id.as_deref().map(|id| hash(Kind::Response, id)),
            places: [place, container.map(|id| hash(Kind::Container, id)), service],
            models: [model(&call.request_model), model(&call.response_model)],
            tokens: [call.input_tokens, call.output_tokens],
            recorded: call.recorded == Some(true),
        }
    }

    /// Under what a second sighting of the call is looked for.
    pub(super) fn keys(&self) -> impl Iterator<Item = u64> + use<> {
        let observer = self.first_observer;
        let by_place = self.places().map(move |place| at(place, observer));
        [self.response, Some(self.trace)].into_iter().flatten().chain(by_place)
    }

    pub(super) fn places(&self) -> impl Iterator<Item = u64> + use<> {
        self.places.into_iter().flatten()
    }

    pub(super) fn is_same(&self, new: &Self) -> bool {
        let observer = new.observers[0];
        let is_child = new.trace == self.trace
            && (new.parent == Some(self.ids.1) || self.parent == Some(new.ids.1));
        let is_other = self.observers[1].is_none() && (self.observers[0] != observer || is_child);
        let overlap = self.start <= new.end.saturating_add(SLACK_NANOS)
            && new.start <= self.end.saturating_add(SLACK_NANOS);
        let model = agree(&self.models, &new.models);
        if !is_other || !overlap || !model || self.recorded != new.recorded {
            return false;
        }
        match (self.response, new.response) {
            (Some(one), Some(other)) => one == other,
            _ => {
                let tokens = self.tokens.iter().zip(&new.tokens);
                let counts_agree = tokens
                    .filter_map(|(one, other)| Some((*one)?.abs_diff((*other)?)))
                    .all(|difference| difference == 0);
                counts_agree
                    && self.is_within(new)
                    && (self.trace == new.trace || agree_on_one(&self.places, &new.places))
            }
        }
    }

    /// Whether one of the two lies within the other, but for the slack: calls that only follow
    /// each other do not.
    fn is_within(&self, new: &Self) -> bool {
        let within = |inner: &Self, outer: &Self| {
            outer.start <= inner.start.saturating_add(SLACK_NANOS / 4)
                && inner.end <= outer.end.saturating_add(SLACK_NANOS / 4)
        };
        (within(self, new) || within(new, self)) && self.start < new.end && new.start < self.end
    }
}

/// Under what the sightings of an observer at a place are found.
pub(super) fn at(place: u64, observer: u64) -> u64 {
    place ^ observer.rotate_left(17)
}

/// Whether nothing known on both sides differs in all ways.
fn agree(one: &[Option<u64>; 2], other: &[Option<u64>; 2]) -> bool {
    let unknown = |side: &[Option<u64>; 2]| side.iter().all(Option::is_none);
    unknown(one) || unknown(other) || agree_on_one(one, other)
}

fn agree_on_one(one: &[Option<u64>], other: &[Option<u64>]) -> bool {
    one.iter().flatten().any(|value| other.contains(&Some(*value)))
}

/// A model's name without the date of its version, which some observers leave out.
pub(super) fn plain(model: &str) -> &str {
    let model = model.rsplit('/').next().unwrap_or(model);
    let is_date = |tail: &str| {
        let digits = tail.bytes().filter(u8::is_ascii_digit).count();
        digits == 8 && tail.bytes().all(|b| b.is_ascii_digit() || b == b'-')
    };
    [11, 9]
        .into_iter()
        .find_map(|len| {
            let (head, tail) = model.split_at_checked(model.len().checked_sub(len)?)?;
            (tail.starts_with(['-', '@']) && is_date(&tail[1..])).then_some(head)
        })
        .unwrap_or(model)
}
