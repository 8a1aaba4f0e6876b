//! One exchange that may be a call to a model, while it passes.

use wire::sse::{self, Splitter};
use wire::{Ending, Moment, Part, RequestHead, ResponseHead, Side};

use crate::answer::{Answer, Choice, Question};
use crate::family::{Event, Family};
use crate::json::Scanner;
use crate::providers::{family_of, route, split_port};
use crate::{Hints, Incomplete, ModelCall, RecognisedBy, prices};

/// How the connection under an unfinished exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// It was closed.
    Closed,
    /// The program ended.
    ProcessExit,
}

/// An exchange on its way to be a [`ModelCall`].
pub(crate) struct Exchange {
    family: &'static Family,
    /// What is known from heads, and later from bodies.
    call: ModelCall,
    /// The host does not say that this is a model: the bodies have to.
    needs_proof: bool,
    late: bool,
    question: Question,
    asked: Scanner,
    answer: Answer,
    body: Body,
    last_event: Option<Moment>,
    request_ending: Ending,
    over: Over,
}

/// The body of the answer.
struct Body {
    form: Form,
    announced_stream: bool,
    scanner: Scanner,
    splitter: Splitter,
    /// First bytes of the current event's data.
    prefix: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// No byte of it was seen that tells.
    Unknown,
    Json,
    Stream,
    Other,
}

/// The data that ends a stream in the OpenAI family.
const DONE: &[u8] = b"[DONE]";

impl Exchange {
    /// An exchange whose request goes where models are asked; `None` for any other.
    pub(crate) fn of_request(hints: &Hints, head: &RequestHead, began: Moment) -> Option<Self> {
        if head.method != "POST" {
            return None;
        }
        let authority = head.authority.as_deref().or_else(|| head.headers.get("host"));
        let (host, port) = authority.map_or((None, None), |authority| {
            let (host, port) = split_port(authority);
            (Some(host), port)
        });
        let server_name = hints.server_name.as_deref();
        let path = head.path.as_str();
        let known =
            hints.providers.asked(&[host, server_name], port.or(hints.server_port), Some(path));
        let routed = route(path);
        let said = known.filter(|known| known.by_path).and_then(|known| known.family);
        let (family, operation) =
            routed.or_else(|| said.map(|family| (family, family.operation)))?;
        let recognised_by = if known.is_some() { RecognisedBy::Host } else { RecognisedBy::Shape };
        let provider = known.map_or(family.provider, |known| known.provider);
        let mut call = ModelCall::begun(provider, operation, recognised_by, began);
        call.server_address = host.or(server_name).map(str::to_ascii_lowercase);
        call.server_port = port.or(hints.server_port);
        call.request_model = deployment(&head.path);
        call.resend_count = number(head.headers.get("x-stainless-retry-count"));
        call.traceparent =
            head.headers.get("traceparent").filter(|it| is_traceparent(it)).map(str::to_owned);
        // Where a person named only the beginning of the path, the bodies still have to agree.
        let native = routed.is_some() && known.is_some_and(|known| known.speaks(family));
        Some(Self::new(family, call, !native))
    }

    /// An exchange whose request was not seen, on a connection to a known provider.
    pub(crate) fn of_answer(hints: &Hints, began: Moment) -> Option<Self> {
        let server_name = hints.server_name.as_deref()?;
        let known = hints.providers.asked(&[Some(server_name)], hints.server_port, None)?;
        let provider = known.provider;
        let family = known.family.unwrap_or_else(|| family_of(provider));
        let mut call = ModelCall::begun(provider, family.operation, RecognisedBy::Host, began);
        call.server_address = Some(server_name.to_ascii_lowercase());
        call.server_port = hints.server_port;
        let mut exchange = Self::new(family, call, true);
        exchange.late = true;
        Some(exchange)
    }

    fn new(family: &'static Family, call: ModelCall, needs_proof: bool) -> Self {
        Self {
            family,
            call,
            needs_proof,
            late: false,
            question: Question::default(),
            asked: Scanner::new(family.request),
            answer: Answer::default(),
            body: Body {
                form: Form::Unknown,
                announced_stream: false,
                scanner: Scanner::new(family.response),
                splitter: Splitter::default(),
                prefix: Vec::new(),
            },
            last_event: None,
            request_ending: Ending::Complete,
            over: Over::Closed,
        }
    }

    /// True when this is certainly a call to a model.
    pub(crate) fn is_sure(&self) -> bool {
        !self.needs_proof || self.answer.confirmed || (self.family.asks)(&self.question)
    }

    /// Says how the connection ended.
    pub(crate) fn over(&mut self, over: Over) {
        self.over = over;
    }

    /// Takes the head of the answer.
    pub(crate) fn answered(&mut self, head: &ResponseHead) {
        self.call.status = Some(head.status);
        self.call.retry_after_seconds = retry_after(head);
        let kind = head.headers.get("content-type").unwrap_or_default();
        self.body.announced_stream = kind.to_ascii_lowercase().starts_with("text/event-stream");
    }

    /// Takes a part of either body.
    pub(crate) fn take(&mut self, at: Moment, side: Side, part: &Part<'_>) {
        match (side, part) {
            (Side::Request, Part::Body(bytes)) => {
                let question = &mut self.question;
                self.asked.feed(bytes, &mut |field, value| question.take(field, value));
                self.call.request_bytes =
                    self.call.request_bytes.saturating_add(bytes.len() as u64);
            }
            (Side::Request, Part::Gap(_)) => self.asked.give_up(),
            (Side::Request, Part::End { ending, body_bytes }) => {
                self.call.request_bytes = *body_bytes;
                self.request_ending = *ending;
            }
            (Side::Response, Part::Body(bytes)) => self.answer_bytes(at, bytes),
            (Side::Response, Part::Gap(_)) => self.answer_gap(),
            _ => {}
        }
    }

    fn answer_bytes(&mut self, at: Moment, bytes: &[u8]) {
        if self.body.form == Form::Unknown {
            self.body.form = self.body.form_of(bytes);
        }
        let answer = &mut self.answer;
        match self.body.form {
            Form::Json => {
                self.body.scanner.feed(bytes, &mut |field, value| answer.take(field, value));
            }
            Form::Stream => {
                let mut splitter = std::mem::take(&mut self.body.splitter);
                splitter.feed(bytes, &mut |part| self.event_part(at, part));
                self.body.splitter = splitter;
            }
            Form::Unknown | Form::Other => {}
        }
    }

    fn answer_gap(&mut self) {
        if self.body.form == Form::Unknown && self.body.announced_stream {
            self.body.form = Form::Stream;
        }
        match self.body.form {
            Form::Stream => {
                self.body.splitter.gap();
                self.body.scanner.reset();
                self.body.prefix.clear();
                self.answer.next_event();
            }
            _ => self.body.scanner.give_up(),
        }
    }

    fn event_part(&mut self, at: Moment, part: sse::Part<'_>) {
        match part {
            sse::Part::Data(bytes) => {
                let room = DONE.len().saturating_sub(self.body.prefix.len());
                let start =
                    if self.body.prefix.is_empty() { bytes.trim_ascii_start() } else { bytes };
                self.body.prefix.extend(start.iter().take(room));
                let answer = &mut self.answer;
                if !answer.terminated {
                    self.body.scanner.feed(bytes, &mut |field, value| answer.take(field, value));
                }
            }
            sse::Part::End => self.event(at),
        }
    }

    fn event(&mut self, at: Moment) {
        let done = self.body.prefix == DONE;
        self.body.prefix.clear();
        self.body.scanner.reset();
        if done {
            self.answer.terminated = true;
            self.last_event = Some(at);
        } else if !self.answer.terminated && (self.family.event)(&mut self.answer) == Event::Chunk {
            self.call.first_chunk.get_or_insert(at);
            if self.answer.token {
                self.call.first_token.get_or_insert(at);
            }
            self.call.chunk_count = self.call.chunk_count.saturating_add(1);
            self.last_event = Some(at);
        }
        self.answer.next_event();
    }

    /// The call that this exchange was, if it was one. Consumes what was gathered.
    pub(crate) fn into_call(
        mut self,
        at: Moment,
        ending: Ending,
        body_bytes: u64,
    ) -> Option<ModelCall> {
        self.finish_body(at);
        let asks = !self.late && (self.family.asks)(&self.question);
        if self.needs_proof && !asks && !self.answer.confirmed {
            return None;
        }
        let outcome = self.outcome(ending);
        let Self { mut call, question, answer, family, .. } = self;
        let streamed = self.body.form == Form::Stream;
        call.request_model = question.model.or(call.request_model);
        call.stream = question.stream || streamed;
        call.max_tokens = question.max_tokens;
        call.temperature = question.temperature;
        call.top_p = question.top_p;
        call.choice_count = question.choice_count;
        call.response_id = answer.id;
        call.response_model = answer.model;
        call.finish_reasons = finish_reasons(family, answer.choices, &outcome);
        call.tool_calls = answer.tools.into_iter().filter_map(|tool| tool.name).collect();
        call.usage = (family.usage)(&answer.counts);
        let model = call.response_model.as_ref().or(call.request_model.as_ref());
        // The table has the prices of the standard tier, and of tokens only.
        call.cost = model
            .filter(|_| !answer.extra_charge)
            .and_then(|model| prices::cost(&call.provider, model, &call.usage));
        call.error = outcome.error;
        call.incomplete = outcome.incomplete;
        call.response_bytes = body_bytes;
        call.ended = match self.last_event {
            Some(last) if outcome.said_its_end => last,
            _ => at,
        };
        Some(call)
    }

    fn finish_body(&mut self, at: Moment) {
        if self.body.form == Form::Stream {
            let complete = self.body.scanner.is_done() || self.body.prefix == DONE;
            if complete {
                let mut splitter = std::mem::take(&mut self.body.splitter);
                splitter.finish(&mut |part| self.event_part(at, part));
            }
        } else if self.body.form == Form::Json {
            (self.family.event)(&mut self.answer);
        }
        self.answer.commit();
    }

    fn outcome(&self, ending: Ending) -> Outcome {
        let streamed = self.body.form == Form::Stream;
        let answer = &self.answer;
        let finished = answer.terminated
            || (!answer.choices.is_empty()
                && answer.choices.iter().all(|choice| choice.finish.is_some()));
        let stops_early = streamed && !finished && ending == Ending::Complete;
        let ending = if stops_early { Ending::Cut } else { ending };
        let reported = answer.error.code().filter(|_| answer.error.seen);
        let error = match self.call.status {
            Some(status) if status >= 400 => Some(reported.unwrap_or_else(|| status.to_string())),
            Some(_) if answer.error.seen => Some(reported.unwrap_or_else(|| "error".to_owned())),
            status => self.transport_error(status, ending, finished).map(str::to_owned),
        };
        let failed_stream = error.is_some() && stops_early && answer.error.seen;
        let incomplete = match (ending, self.request_ending) {
            _ if self.late => Some(Incomplete::LateStart),
            (Ending::Cut, _) if failed_stream || (streamed && answer.terminated) => None,
            (Ending::Cut, _) => Some(Incomplete::Cut),
            (Ending::Gap, _) | (Ending::Complete, Ending::Gap) => Some(Incomplete::Gap),
            (Ending::Unreadable, _) | (Ending::Complete, Ending::Unreadable) => {
                Some(Incomplete::Limit)
            }
            (Ending::Complete, _) => None,
        };
        let said_its_end = answer.terminated || (finished && ending == Ending::Cut);
        Outcome { error, incomplete, said_its_end }
    }

    /// The failure of an exchange whose answer reports none.
    fn transport_error(
        &self,
        status: Option<u16>,
        ending: Ending,
        finished: bool,
    ) -> Option<&'static str> {
        if ending != Ending::Cut || (finished && status.is_some()) {
            return None;
        }
        Some(match (self.over, status) {
            (Over::ProcessExit, _) => "process_exit",
            (Over::Closed, None) => "no_response",
            (Over::Closed, Some(_)) if self.body.is_stream() => "stream_truncated",
            (Over::Closed, Some(_)) => "response_truncated",
        })
    }
}

/// What became of an exchange.
struct Outcome {
    error: Option<String>,
    incomplete: Option<Incomplete>,
    /// The stream said that it is over; what came later is of no account.
    said_its_end: bool,
}

impl Body {
    /// True for a stream, also for one of which nothing but its announcement was seen.
    fn is_stream(&self) -> bool {
        self.form == Form::Stream || (self.form == Form::Unknown && self.announced_stream)
    }

    /// The form that the first bytes tell, whatever the content type says.
    fn form_of(&self, bytes: &[u8]) -> Form {
        let mut told = bytes.iter().filter(|byte| !byte.is_ascii_whitespace() && !is_mark(**byte));
        match told.next() {
            None => Form::Unknown,
            Some(b'{' | b'[') => Form::Json,
            Some(b'd' | b'e' | b'i' | b'r' | b':') => Form::Stream,
            Some(_) if self.announced_stream => Form::Stream,
            Some(_) => Form::Other,
        }
    }
}

/// A byte of the UTF-8 byte order mark.
fn is_mark(byte: u8) -> bool {
    matches!(byte, 0xef | 0xbb | 0xbf)
}

/// One reason a choice, by index; a choice that was cut off has `error`.
fn finish_reasons(family: &Family, mut choices: Vec<Choice>, outcome: &Outcome) -> Vec<String> {
    choices.sort_by_key(|choice| choice.index);
    let missing = outcome.error.is_some().then(|| "error".to_owned());
    let reason = |choice: Choice| match choice.finish {
        Some(reason) => Some((family.finish)(&reason).map_or(reason, str::to_owned)),
        None => missing.clone(),
    };
    choices.into_iter().filter_map(reason).collect()
}

/// The deployment that an Azure path names; it is the model that is asked for.
fn deployment(path: &str) -> Option<String> {
    let (_, rest) = path.split_once("/openai/deployments/")?;
    rest.split('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Whether a header has the form of the W3C trace context, version 00.
fn is_traceparent(written: &str) -> bool {
    let lengths: Vec<usize> = written.split('-').map(str::len).collect();
    lengths == [2, 32, 16, 2]
        && written.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Seconds that the provider asks to wait: the finer header first, as the official SDKs do.
fn retry_after(head: &ResponseHead) -> Option<f64> {
    if let Some(milliseconds) = number::<f64>(head.headers.get("retry-after-ms")) {
        return Some(milliseconds / 1000.0)
            .filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    }
    let written = head.headers.get("retry-after")?;
    let seconds = match written.parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let then = httpdate::parse_http_date(written).ok()?;
            let now = httpdate::parse_http_date(head.headers.get("date")?).ok()?;
            then.duration_since(now).ok()?.as_secs_f64()
        }
    };
    (seconds.is_finite() && seconds >= 0.0).then_some(seconds)
}

fn number<T: std::str::FromStr>(written: Option<&str>) -> Option<T> {
    written?.trim().parse().ok()
}
