//! How fast `wire` and `genai` read, on one core: `cargo bench -p genai`.
//!
//! Each case is read twice in the same run: by [`genai::Connection`], and by
//! the obvious alternative, which collects the body and parses it with
//! `serde_json`. The ratio between the two does not depend on the machine.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use genai::{Connection, Hints};
use wire::transcript::{Record, parse};
use wire::{Chunk, Direction, Moment};

/// Size of the pieces that arrive, that of the largest TLS record.
const PIECE: usize = 16 << 10;

/// How long each measurement runs, and how often; the best run counts.
const RUN: Duration = Duration::from_millis(300);
const RUNS: usize = 5;

/// Chunks of one connection, in order.
type Chunks = Vec<(Direction, Vec<u8>)>;

#[expect(clippy::print_stdout, reason = "the numbers are its output")]
fn main() {
    println!(
        "{:<34} {:>10} {:>12} {:>12} {:>7}",
        "case", "bytes", "sonde MB/s", "naive MB/s", "ratio"
    );
    for (name, chunks) in [
        ("fixtures, as recorded", fixtures()),
        ("stream of 2000 events", stream(2000)),
        ("prompt of 4 MiB, model last", prompt(4 << 20)),
        ("prompt of 4 MiB, many escapes", escapes(4 << 20)),
    ] {
        let bytes: usize = chunks.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(ours(&chunks), naive(&chunks), "{name}: both must find the same");
        let (ours, naive) = (speed(bytes, || ours(&chunks)), speed(bytes, || naive(&chunks)));
        println!("{name:<34} {bytes:>10} {ours:>12.0} {naive:>12.0} {:>6.1}x", ours / naive);
    }
}

/// Megabytes a second of the best run.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn speed(bytes: usize, read: impl Fn() -> usize) -> f64 {
    let run = || {
        let (begun, mut rounds) = (Instant::now(), 0_u32);
        while begun.elapsed() < RUN {
            black_box(read());
            rounds += 1;
        }
        bytes as f64 * f64::from(rounds) / begun.elapsed().as_secs_f64() / 1e6
    };
    (0..RUNS).map(|_| run()).fold(0.0, f64::max)
}

/// Reads the chunks with this crate and says how many calls it found.
fn ours(chunks: &Chunks) -> usize {
    let mut connection = Connection::new(Hints::default());
    let mut calls = 0;
    for (index, (direction, bytes)) in chunks.iter().enumerate() {
        for piece in bytes.chunks(PIECE) {
            calls += connection.feed(Moment(index as u64), *direction, Chunk::Bytes(piece)).len();
        }
    }
    calls
}

/// Collects each body, parses it as a whole, and looks the same values up.
fn naive(chunks: &Chunks) -> usize {
    let mut calls = 0;
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    for (direction, bytes) in chunks {
        match direction {
            Direction::Sent => sent.extend_from_slice(bytes),
            Direction::Received => received.extend_from_slice(bytes),
        }
        if *direction == Direction::Received
            && let Some((head, body)) = message(&received)
        {
            let (_, question) = message(&sent).expect("a request comes before its answer");
            let question: serde_json::Value = serde_json::from_slice(&question).unwrap_or_default();
            black_box((&question["model"], &question["stream"]));
            if head.contains("event-stream") {
                for line in body.split(|byte| *byte == b'\n') {
                    if let Some(data) = line.strip_prefix(b"data: ") {
                        let event: serde_json::Value =
                            serde_json::from_slice(data).unwrap_or_default();
                        black_box((&event["usage"], &event["choices"][0]["finish_reason"]));
                    }
                }
            } else {
                let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                black_box((&answer["usage"], &answer["choices"][0]["finish_reason"]));
            }
            calls += 1;
            sent.clear();
            received.clear();
        }
    }
    calls
}

/// Head and body of a message, when all of it is there.
fn message(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let mut rest = &bytes[end..];
    if let Some(length) = head.split("content-length: ").nth(1) {
        let length: usize = length.split("\r\n").next()?.parse().ok()?;
        return Some((head.clone(), rest.get(..length)?.to_vec()));
    }
    if !bytes.ends_with(b"0\r\n\r\n") {
        return None;
    }
    let mut body = Vec::new();
    loop {
        let line = rest.iter().position(|byte| *byte == b'\n')?;
        let size =
            usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some((head, body));
        }
        body.extend_from_slice(rest.get(line + 1..line + 1 + size)?);
        rest = rest.get(line + 3 + size..)?;
    }
}

/// Recordings that both readers understand: no codings, no gaps, every exchange a call.
fn fixtures() -> Chunks {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/openai");
    let names = [
        "chat_plain",
        "chat_stream",
        "chat_tools_stream",
        "chat_cached_reasoning",
        "chat_choices_stream",
    ];
    let mut chunks = Chunks::new();
    for name in names {
        let text =
            std::fs::read_to_string(root.join(format!("{name}.transcript"))).expect("a recording");
        for record in parse(&text).expect("a recording").records {
            if let Record::Chunk { direction, bytes, .. } = record {
                chunks.push((direction, bytes));
            }
        }
    }
    chunks
}

fn stream(events: usize) -> Chunks {
    let event = |delta: &str, rest: &str| {
        let data = format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1764000001,\"model\":\"gpt-4o-mini-2024-07-18\",\
             \"service_tier\":\"default\",\"system_fingerprint\":\"fp_560af6e559\",\"choices\":[{{\"index\":0,\"delta\":{delta},\
             \"logprobs\":null,\"finish_reason\":{rest}}}],\"usage\":null,\"obfuscation\":\"a8K2\"}}\n\n"
        );
        format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
    };
    let head =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut chunks = vec![
        ask(r#"{"messages":[],"model":"gpt-4o-mini","stream":true}"#),
        (Direction::Received, head.to_vec()),
    ];
    let texts =
        (0..events).map(|_| (Direction::Received, event("{\"content\":\" token\"}", "null")));
    chunks.extend(texts);
    chunks.push((Direction::Received, event("{}", "\"stop\"")));
    chunks.push((Direction::Received, b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n".to_vec()));
    chunks
}

fn prompt(size: usize) -> Chunks {
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(size / 45);
    chat(&text)
}

fn escapes(size: usize) -> Chunks {
    let text = "if x == \\\"y\\\":\\n\\treturn f(x)\\n".repeat(size / 31);
    chat(&text)
}

fn chat(text: &str) -> Chunks {
    let question =
        format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}],"model":"gpt-4o"}}"#);
    let reply = r#"{"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{reply}", reply.len());
    vec![ask(&question), (Direction::Received, reply.into_bytes())]
}

fn ask(body: &str) -> (Direction, Vec<u8>) {
    let length = body.len();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: {length}\r\n\r\n"
    );
    (Direction::Sent, [head.as_bytes(), body.as_bytes()].concat())
}
