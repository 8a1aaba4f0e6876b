//! Adds calls up to the numbers of [`contract::row::Stats`]. Pure; knows no SQL.

mod body;

use crate::query::Outcome;
use crate::sketch::Sketch;
use contract::row::{Distribution, Money, Stats};
use std::collections::BTreeMap;

/// What the numbers need of a call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted<'a> {
    pub(crate) embedding: bool,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) class: Option<&'a str>,
    pub(crate) duration_nanos: Option<u64>,
    pub(crate) stream: bool,
    pub(crate) first_chunk_nanos: Option<u64>,
    pub(crate) cost: Option<u64>,
    /// Input, output, cache read, cache write, reasoning.
    pub(crate) tokens: [Option<u64>; 5],
}

/// A running sum.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Tally {
    calls: u64,
    embeddings: u64,
    errors: u64,
    cancelled: u64,
    classes: BTreeMap<String, u64>,
    duration: Sketch,
    first_chunk: Sketch,
    cost: Option<u128>,
    unpriced: u64,
    tokens: [Option<u64>; 5],
}

impl Tally {
    pub(crate) fn add(&mut self, call: &Counted<'_>) {
        let outcome = call.outcome.unwrap_or(Outcome::Ok);
        if let Some(cost) = call.cost {
            self.cost = Some(self.cost.unwrap_or(0) + u128::from(cost));
        } else if outcome == Outcome::Ok {
            self.unpriced += 1;
        }
        for (sum, tokens) in self.tokens.iter_mut().zip(call.tokens) {
            if let Some(tokens) = tokens {
                *sum = Some(sum.unwrap_or(0).saturating_add(tokens));
            }
        }
        if call.embedding {
            self.embeddings += 1;
        } else {
            self.add_inference(call, outcome);
        }
    }

    /// How many calls were added, of any kind.
    pub(crate) fn count(&self) -> u64 {
        self.calls + self.embeddings
    }

    /// Sum of the known prices, in 10^-12 USD.
    pub(crate) fn cost(&self) -> Option<u128> {
        self.cost
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.embeddings += other.embeddings;
        self.errors += other.errors;
        self.cancelled += other.cancelled;
        for (class, count) in &other.classes {
            *self.classes.entry(class.clone()).or_default() += count;
        }
        self.duration.merge(&other.duration);
        self.first_chunk.merge(&other.first_chunk);
        if let Some(cost) = other.cost {
            self.cost = Some(self.cost.unwrap_or(0) + cost);
        }
        self.unpriced += other.unpriced;
        for (sum, tokens) in self.tokens.iter_mut().zip(other.tokens) {
            if let Some(tokens) = tokens {
                *sum = Some(sum.unwrap_or(0).saturating_add(tokens));
            }
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let [input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens] =
            self.tokens;
        Stats {
            calls: self.calls,
            embeddings: self.embeddings,
            errors: self.errors,
            cancelled: self.cancelled,
            error_classes: self.classes.clone(),
            duration: distribution(&self.duration),
            time_to_first_chunk: distribution(&self.first_chunk),
            cost: self.cost.map(|pico_usd| Money { pico_usd }),
            unpriced_calls: self.unpriced,
            input_tokens,
            output_tokens,
            cache_read_tokens,
            cache_write_tokens,
            reasoning_tokens,
        }
    }

    fn add_inference(&mut self, call: &Counted<'_>, outcome: Outcome) {
        self.calls += 1;
        match outcome {
            Outcome::Error => {
                self.errors += 1;
                let class = call.class.unwrap_or("other");
                // Classes are few, so that this finds its key nearly always.
                if let Some(count) = self.classes.get_mut(class) {
                    *count += 1;
                } else {
                    self.classes.insert(class.to_owned(), 1);
                }
            }
            Outcome::Cancelled => self.cancelled += 1,
            Outcome::Ok => {
                if let Some(nanos) = call.duration_nanos {
                    self.duration.add(nanos);
                }
                if let Some(nanos) = call.first_chunk_nanos.filter(|_| call.stream) {
                    self.first_chunk.add(nanos);
                }
            }
        }
    }
}

fn distribution(sketch: &Sketch) -> Option<Distribution> {
    let seconds = |share| sketch.percentile(share).map(|nanos| nanos / 1e9);
    Some(Distribution {
        count: sketch.count(),
        p50: seconds(0.5)?,
        p95: seconds(0.95)?,
        p99: seconds(0.99)?,
    })
}
