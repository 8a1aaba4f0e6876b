//! Adds calls up to the numbers of [`contract::row::Stats`]. Pure; knows no SQL.

mod body;

use crate::engine::Distributions;
use crate::outcome::{CLASSES, outcome};
use crate::query::Outcome;
use crate::sketch::Sketch;
use crate::units::{kept, nanos};
use contract::row::{Call, Distribution, Money, Stats};

/// What the numbers need of a call. Times in nanoseconds, money in 10^-12 USD.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted<'a> {
    pub(crate) embedding: bool,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) class: Option<&'a str>,
    pub(crate) duration_nanos: Option<u64>,
    pub(crate) stream: bool,
    pub(crate) first_chunk_nanos: Option<u64>,
    pub(crate) first_token_nanos: Option<u64>,
    pub(crate) retry_after_nanos: Option<u64>,
    /// Why the answer ended, by [`finish`]; `None` where it was not said.
    pub(crate) finish: Option<usize>,
    /// True when it was a further attempt.
    pub(crate) retried: bool,
    pub(crate) cost: Option<u64>,
    /// Input, output, cache read, cache write, reasoning.
    pub(crate) tokens: [Option<u64>; 5],
}

impl Counted<'static> {
    /// Of a call; what does not fit a column is not known.
    pub(crate) fn of(call: &Call) -> Self {
        let (how, class) = outcome(call);
        Self {
            embedding: call.operation_name.as_deref() == Some("embeddings"),
            outcome: Some(how),
            class,
            duration_nanos: nanos(call.duration),
            stream: call.request_stream == Some(true),
            first_chunk_nanos: nanos(call.time_to_first_chunk),
            first_token_nanos: nanos(call.time_to_first_token),
            retry_after_nanos: nanos(call.retry_after),
            finish: call.finish_reasons.first().map(|reason| finish(reason)),
            retried: call.resend_count.is_some_and(|count| count > 0),
            cost: kept(call.cost.and_then(|cost| u64::try_from(cost.pico_usd).ok())),
            tokens: [
                call.input_tokens,
                call.output_tokens,
                call.cache_read_tokens,
                call.cache_write_tokens,
                call.reasoning_tokens,
            ]
            .map(kept),
        }
    }
}

/// Reasons why an answer ended. Files keep the place in this list, so it is only ever added to.
pub(crate) const FINISH: [&str; 5] = ["other", "stop", "length", "tool_calls", "content_filter"];
const FINISH_LENGTH: usize = 2;

/// The place in [`FINISH`] of a reason, in the words of any provider.
pub(crate) fn finish(reason: &str) -> usize {
    let is = |words: &[&str]| words.iter().any(|word| reason.eq_ignore_ascii_case(word));
    if is(&["stop", "end_turn", "stop_sequence", "complete", "completed", "eos"]) {
        1
    } else if is(&["length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"]) {
        FINISH_LENGTH
    } else if is(&["tool_calls", "tool_use", "tool_call", "function_call"]) {
        3
    } else if is(&[
        "content_filter",
        "content_filtered",
        "refusal",
        "safety",
        "guardrail_intervened",
    ]) {
        4
    } else {
        0
    }
}

/// A running sum. Every part can be added to the same part of another, so that an engine may keep
/// and add the parts as it likes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Tally {
    /// Inference calls; of them failed, and ended by the client.
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) cancelled: u64,
    /// Embedding calls; they count in cost and tokens, and nowhere else.
    pub(crate) embeddings: u64,
    /// Failed inference calls by place in [`CLASSES`](crate::outcome::CLASSES).
    pub(crate) classes: [u64; CLASSES.len()],
    /// Inference calls that went well by place in [`FINISH`].
    pub(crate) finishes: [u64; FINISH.len()],
    /// Calls that were further attempts.
    pub(crate) retries: u64,
    /// Sum of the prices that are known, in 10^-12 USD, and the calls that went well without one.
    pub(crate) cost: Option<u128>,
    pub(crate) unpriced: u64,
    /// The part of the cost of calls that failed, were ended, or were cut at the limit of tokens.
    pub(crate) wasted: Option<u128>,
    /// Input, output, cache read, cache write, reasoning.
    pub(crate) tokens: [Option<u64>; 5],
    pub(crate) sketches: Sketches,
}

/// Distributions of a sum. But for `input` and `retry_after`, over inference calls that went well.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Sketches {
    /// Nanoseconds.
    pub(crate) duration: Sketch,
    /// Nanoseconds, of streams, as are the next two.
    pub(crate) first_chunk: Sketch,
    pub(crate) first_token: Sketch,
    /// (duration - time to first chunk) / (output tokens - 1), of two tokens or more.
    pub(crate) per_token: Sketch,
    /// Thousandths of a token a second after the first chunk, of streams of ten tokens or more.
    pub(crate) speed: Sketch,
    /// Thousandths of a token a second over all the duration, of other calls of ten or more.
    pub(crate) whole_speed: Sketch,
    /// Thousandths of the duration of a stream before its first chunk.
    pub(crate) waiting: Sketch,
    /// Input tokens of a call.
    pub(crate) input: Sketch,
    /// Nanoseconds.
    pub(crate) retry_after: Sketch,
}

impl Tally {
    pub(crate) fn add(&mut self, call: &Counted<'_>) {
        self.add_to(call, Distributions::All);
    }

    /// As [`add`](Self::add), to the distributions that are wanted.
    pub(crate) fn add_to(&mut self, call: &Counted<'_>, wanted: Distributions) {
        let outcome = call.outcome.unwrap_or(Outcome::Ok);
        if let Some(cost) = call.cost {
            add(&mut self.cost, u128::from(cost));
            if outcome != Outcome::Ok || call.finish == Some(FINISH_LENGTH) {
                add(&mut self.wasted, u128::from(cost));
            }
        } else if outcome == Outcome::Ok {
            self.unpriced += 1;
        }
        for (sum, tokens) in self.tokens.iter_mut().zip(call.tokens) {
            if let Some(tokens) = tokens {
                *sum = Some(sum.unwrap_or(0).saturating_add(tokens));
            }
        }
        self.retries += u64::from(call.retried);
        if let Some(nanos) = call.retry_after_nanos
            && wanted != Distributions::None
        {
            self.sketches.retry_after.add(nanos);
        }
        if call.embedding {
            self.embeddings += 1;
        } else {
            self.add_inference(call, outcome, wanted);
        }
    }

    /// How many calls were added, of any kind.
    pub(crate) fn count(&self) -> u64 {
        self.calls + self.embeddings
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.embeddings += other.embeddings;
        self.errors += other.errors;
        self.cancelled += other.cancelled;
        self.retries += other.retries;
        self.unpriced += other.unpriced;
        let counts = other.classes.iter().chain(&other.finishes);
        for (sum, count) in self.classes.iter_mut().chain(&mut self.finishes).zip(counts) {
            *sum = sum.saturating_add(*count);
        }
        if let Some(cost) = other.cost {
            add(&mut self.cost, cost);
        }
        if let Some(wasted) = other.wasted {
            add(&mut self.wasted, wasted);
        }
        for (sum, tokens) in self.tokens.iter_mut().zip(other.tokens) {
            if let Some(tokens) = tokens {
                *sum = Some(sum.unwrap_or(0).saturating_add(tokens));
            }
        }
        self.sketches.merge(&other.sketches);
    }

    /// As one to which nothing was added; the memory stays for what is added next.
    pub(crate) fn clear(&mut self) {
        let mut sketches = std::mem::take(&mut self.sketches);
        sketches.all_mut().into_iter().for_each(Sketch::clear);
        *self = Self { sketches, ..Self::default() };
    }

    /// Takes away what was added before. A sum of which nothing is left is not known any more.
    pub(crate) fn subtract(&mut self, other: &Self) {
        for (sum, count) in [
            (&mut self.calls, other.calls),
            (&mut self.embeddings, other.embeddings),
            (&mut self.errors, other.errors),
            (&mut self.cancelled, other.cancelled),
            (&mut self.retries, other.retries),
            (&mut self.unpriced, other.unpriced),
        ] {
            *sum = sum.saturating_sub(count);
        }
        let counts = other.classes.iter().chain(&other.finishes);
        for (sum, count) in self.classes.iter_mut().chain(&mut self.finishes).zip(counts) {
            *sum = sum.saturating_sub(*count);
        }
        for (sum, gone) in [(&mut self.cost, other.cost), (&mut self.wasted, other.wasted)] {
            *sum = sum.map(|sum| sum.saturating_sub(gone.unwrap_or(0))).filter(|sum| *sum > 0);
        }
        for (sum, gone) in self.tokens.iter_mut().zip(other.tokens) {
            *sum = sum.map(|sum| sum.saturating_sub(gone.unwrap_or(0))).filter(|sum| *sum > 0);
        }
        let sketches = self.sketches.all_mut().into_iter().zip(other.sketches.all());
        sketches.for_each(|(sum, sketch)| sum.subtract(sketch));
    }

    pub(crate) fn stats(&self) -> Stats {
        let [input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens] =
            self.tokens;
        let named = |counts: &[u64], names: &[&str]| {
            let counts = names.iter().zip(counts).filter(|(_, count)| **count > 0);
            counts.map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let seconds = |sketch| distribution(sketch, 1e9);
        let sketches = &self.sketches;
        Stats {
            calls: self.calls,
            embeddings: self.embeddings,
            errors: self.errors,
            cancelled: self.cancelled,
            retries: self.retries,
            error_classes: named(&self.classes, &CLASSES),
            finish_reasons: named(&self.finishes, &FINISH),
            duration: seconds(&sketches.duration),
            time_to_first_chunk: seconds(&sketches.first_chunk),
            time_to_first_token: seconds(&sketches.first_token),
            time_per_output_token: seconds(&sketches.per_token),
            output_speed: distribution(&sketches.speed, 1e3),
            output_speed_end_to_end: distribution(&sketches.whole_speed, 1e3),
            waiting_share: distribution(&sketches.waiting, 1e3),
            input_tokens_per_call: distribution(&sketches.input, 1.0),
            retry_after: seconds(&sketches.retry_after),
            cost: self.cost.map(|pico_usd| Money { pico_usd }),
            wasted_cost: self.wasted.map(|pico_usd| Money { pico_usd }),
            unpriced_calls: self.unpriced,
            input_tokens,
            output_tokens,
            cache_read_tokens,
            cache_write_tokens,
            reasoning_tokens,
        }
    }

    /// As [`stats`](Self::stats), of distributions those alone that [`Distributions::Main`] has.
    pub(crate) fn main_stats(&self) -> Stats {
        Stats {
            time_to_first_token: None,
            time_per_output_token: None,
            output_speed: None,
            output_speed_end_to_end: None,
            waiting_share: None,
            input_tokens_per_call: None,
            retry_after: None,
            ..self.stats()
        }
    }

    fn add_inference(&mut self, call: &Counted<'_>, outcome: Outcome, wanted: Distributions) {
        self.calls += 1;
        if let Some(tokens) = call.tokens[0]
            && !matches!(wanted, Distributions::Main | Distributions::None)
        {
            self.sketches.input.add(tokens);
        }
        match outcome {
            Outcome::Error => {
                self.errors += 1;
                let class = call.class.and_then(|class| CLASSES.iter().position(|c| *c == class));
                self.classes[class.unwrap_or(0)] += 1;
            }
            Outcome::Cancelled => self.cancelled += 1,
            Outcome::Ok => {
                if let Some(sum) = call.finish.and_then(|finish| self.finishes.get_mut(finish)) {
                    *sum += 1;
                }
                self.sketches.add(call, wanted);
            }
        }
    }
}

impl Sketches {
    /// All of them. Files keep the order, so it is only ever added to.
    pub(crate) fn all(&self) -> [&Sketch; 9] {
        let Self {
            duration,
            first_chunk,
            first_token,
            per_token,
            speed,
            whole_speed,
            waiting,
            input,
            retry_after,
        } = self;
        [
            duration,
            first_chunk,
            first_token,
            per_token,
            speed,
            whole_speed,
            waiting,
            input,
            retry_after,
        ]
    }

    /// All of them, in the order of [`all`](Self::all).
    pub(crate) fn all_mut(&mut self) -> [&mut Sketch; 9] {
        let Self {
            duration,
            first_chunk,
            first_token,
            per_token,
            speed,
            whole_speed,
            waiting,
            input,
            retry_after,
        } = self;
        [
            duration,
            first_chunk,
            first_token,
            per_token,
            speed,
            whole_speed,
            waiting,
            input,
            retry_after,
        ]
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let sketches = self.all_mut().into_iter().zip(other.all());
        sketches.for_each(|(sum, sketch)| sum.merge(sketch));
    }

    /// Adds an inference call that went well.
    fn add(&mut self, call: &Counted<'_>, wanted: Distributions) {
        if wanted == Distributions::None {
            return;
        }
        if let Some(nanos) = call.first_chunk_nanos.filter(|_| call.stream) {
            self.first_chunk.add(nanos);
        }
        if let Some(nanos) = call.duration_nanos {
            self.duration.add(nanos);
        }
        if wanted != Distributions::Main {
            self.add_further(call);
        }
    }

    /// Adds to those that [`Distributions::Main`] leaves out.
    fn add_further(&mut self, call: &Counted<'_>) {
        let output = call.tokens[1];
        if let Some(nanos) = call.first_token_nanos.filter(|_| call.stream) {
            self.first_token.add(nanos);
        }
        let Some(duration) = call.duration_nanos else { return };
        let speed = |tokens: u64, nanos: u64| times_over(tokens, 1_000_000_000_000, nanos.max(1));
        match call.first_chunk_nanos.filter(|_| call.stream) {
            Some(first) if first <= duration => {
                let after = duration - first;
                if duration > 0 {
                    self.waiting.add(times_over(first, 1000, duration));
                }
                if let Some(output) = output.filter(|output| *output >= 2) {
                    self.per_token.add(after / (output - 1));
                    if output >= 10 && after > 0 {
                        self.speed.add(speed(output - 1, after));
                    }
                }
            }
            None if !call.stream => {
                if let Some(output) = output.filter(|output| *output >= 10) {
                    self.whole_speed.add(speed(output, duration));
                }
            }
            Some(_) | None => {}
        }
    }
}

/// A number times a factor, divided; what does not fit is the largest that does.
fn times_over(number: u64, factor: u64, divisor: u64) -> u64 {
    // A division of wide numbers is many instructions, and is hardly ever needed.
    if let Some(product) = number.checked_mul(factor) {
        return product / divisor;
    }
    let quotient = u128::from(number) * u128::from(factor) / u128::from(divisor);
    u64::try_from(quotient).unwrap_or(u64::MAX)
}

fn add(sum: &mut Option<u128>, more: u128) {
    *sum = Some(sum.unwrap_or(0).saturating_add(more));
}

/// Percentiles in units of `unit` of what the sketch holds.
fn distribution(sketch: &Sketch, unit: f64) -> Option<Distribution> {
    let [p50, p95, p99] = sketch.percentiles([0.5, 0.95, 0.99])?.map(|value| value / unit);
    Some(Distribution { count: sketch.count(), p50, p95, p99 })
}
