//! Golden tests through the public interface.

use wire::{Chunk, Direction, Moment};

use crate::{Connection, Hints, Verdict};

fn request(path: &str, host: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn a_plain_call_is_read() {
    let mut connection = Connection::new(Hints::default());
    let ask = request(
        "/v1/chat/completions",
        "api.openai.com",
        r#"{"messages":[{"role":"user","content":"hi"}],"model":"gpt-4o"}"#,
    );
    assert!(connection.feed(Moment(1), Direction::Sent, Chunk::Bytes(&ask)).is_empty());
    let answer = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}}"#;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
    let calls = connection.feed(Moment(9), Direction::Received, Chunk::Bytes(head.as_bytes()));
    let [call] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(call.provider, "openai");
    assert_eq!(call.request_model.as_deref(), Some("gpt-4o"));
    assert_eq!(call.response_model.as_deref(), Some("gpt-4o-2024-08-06"));
    assert_eq!((call.usage.input, call.usage.output), (Some(8), Some(2)));
    assert_eq!(call.finish_reasons, ["stop"]);
    assert_eq!((call.error.as_deref(), call.incomplete, call.ended), (None, None, Moment(9)));
    assert_eq!(connection.verdict(), Verdict::Model);
}

#[test]
fn a_streaming_call_is_read() {
    let mut connection = Connection::new(Hints::default());
    let ask = request(
        "/v1/chat/completions",
        "localhost:8000",
        r#"{"messages":[{"role":"user","content":"hi"}],"model":"m","stream":true}"#,
    );
    connection.feed(Moment(1), Direction::Sent, Chunk::Bytes(&ask));
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(
        connection.feed(Moment(2), Direction::Received, Chunk::Bytes(head.as_bytes())).is_empty()
    );
    let events = [
        r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#,
        r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"id":"c","object":"chat.completion.chunk","model":"m","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":2}}"#,
        "[DONE]",
    ];
    let mut calls = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let data = format!("data: {event}\n\n");
        let chunk = format!("{:x}\r\n{data}\r\n", data.len());
        let at = Moment(10 + index as u64);
        calls.extend(connection.feed(at, Direction::Received, Chunk::Bytes(chunk.as_bytes())));
    }
    calls.extend(connection.feed(Moment(20), Direction::Received, Chunk::Bytes(b"0\r\n\r\n")));
    let [call] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((call.first_chunk, call.first_token), (Some(Moment(10)), Some(Moment(11))));
    assert_eq!((call.chunk_count, call.ended), (4, Moment(14)));
    assert_eq!((call.usage.input, call.usage.output), (Some(8), Some(2)));
    assert_eq!(call.server_port, Some(8000));
}
