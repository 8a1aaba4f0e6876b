//! Events as the kernel gives them, to what they mean.

use super::*;
use capture::{Payload, Plaintext};

const PROCESS: ProcessId = ProcessId { pid: 7, start_time: 10_000_000 };
const CONNECTION: ConnectionId = ConnectionId { process: PROCESS, object: 1, generation: 1 };

const QUESTION: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n{\"model\":\"gpt-4o\",\"messages\":[]}";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"id\":\"c\",\"object\":\"chat.completion\",\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":2       }}";

fn pipeline() -> (Pipeline, Arc<Losses>) {
    let losses = Arc::new(Losses::default());
    (Pipeline::new(Arc::clone(&losses), Providers::default()), losses)
}

fn data(direction: capture::Direction, offset: u64, at: u64, text: &str) -> Event {
    let bytes = Payload::from(text.as_bytes());
    Event::Data(Plaintext { connection: CONNECTION, at, direction, offset, bytes })
}

fn calls(outputs: Vec<Output>) -> Vec<ModelCall> {
    let call = |output| match output {
        Output::Called { call, .. } => Some(*call),
        _ => None,
    };
    outputs.into_iter().filter_map(call).collect()
}

#[test]
fn a_call_is_read_in_pieces_that_come_twice() {
    let (mut pipeline, _) = pipeline();
    let sent = capture::Direction::Sent;
    pipeline.take(data(sent, 0, 1, &QUESTION[..50]));
    pipeline.take(data(sent, 20, 2, &QUESTION[20..80]));
    pipeline.take(data(sent, 0, 3, &QUESTION[..30]));
    pipeline.take(data(sent, 80, 4, &QUESTION[80..]));
    let calls = calls(pipeline.take(data(capture::Direction::Received, 0, 5, ANSWER)));
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].usage.input, calls[0].incomplete), (Some(2), None));
}

#[test]
fn a_hole_makes_the_call_incomplete() {
    let (mut pipeline, _) = pipeline();
    pipeline.take(data(capture::Direction::Sent, 0, 1, QUESTION));
    let head = ANSWER.find("{").unwrap() + 10;
    pipeline.take(data(capture::Direction::Received, 0, 2, &ANSWER[..head]));
    let offset = u64::try_from(head + 5).unwrap();
    let mut all =
        calls(pipeline.take(data(capture::Direction::Received, offset, 3, &ANSWER[head + 5..])));
    all.extend(calls(pipeline.take(Event::Closed { connection: CONNECTION, at: 4 })));
    assert_eq!(all.len(), 1);
    assert!(all[0].incomplete.is_some());
}

#[test]
fn what_is_open_ends_with_its_process_and_only_that() {
    let (mut pipeline, _) = pipeline();
    pipeline.take(data(capture::Direction::Sent, 0, 1, QUESTION));
    let other = ProcessId { pid: 8, ..PROCESS };
    assert!(calls(pipeline.take(Event::Exited { process: other, at: 2 })).is_empty());
    let calls = calls(pipeline.take(Event::Exited { process: PROCESS, at: 3 }));
    assert_eq!(calls.len(), 1);
    assert!(calls[0].error.is_some());
}

#[test]
fn a_call_under_way_when_capture_is_switched_off_is_no_failure() {
    let (mut pipeline, _) = pipeline();
    pipeline.take(data(capture::Direction::Sent, 0, 1, QUESTION));
    pipeline.unwatched(PROCESS.pid);
    assert!(pipeline.take(data(capture::Direction::Received, 0, 2, ANSWER)).is_empty());
    assert!(pipeline.take(Event::Closed { connection: CONNECTION, at: 3 }).is_empty());
    pipeline.watched(PROCESS.pid);
    pipeline.take(data(capture::Direction::Sent, 0, 4, QUESTION));
    assert_eq!(calls(pipeline.take(data(capture::Direction::Received, 0, 5, ANSWER))).len(), 1);
}

#[test]
fn a_connection_that_is_no_http_is_ignored_and_one_to_a_provider_says_why() {
    let (mut pipeline, _) = pipeline();
    pipeline.take(Event::Named {
        connection: CONNECTION,
        at: 1,
        server_name: "api.openai.com".to_owned(),
    });
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let outputs = pipeline.take(data(capture::Direction::Sent, 0, 2, preface));
    assert!(
        matches!(outputs[..], [Output::Ignored(CONNECTION), Output::Unreadable { why, .. }] if why.contains("HTTP/2")),
        "{outputs:?}"
    );
    assert!(pipeline.take(data(capture::Direction::Sent, 24, 3, "more")).is_empty());
}

#[test]
fn silent_connections_are_given_up_and_too_many_are_counted() {
    let (mut pipeline, losses) = pipeline();
    for object in 0..=u64::try_from(MAX_CONNECTIONS).unwrap() {
        let connection = ConnectionId { object, ..CONNECTION };
        let bytes = Payload::from(QUESTION.as_bytes());
        pipeline.take(Event::Data(Plaintext {
            connection,
            at: object,
            direction: capture::Direction::Sent,
            offset: 0,
            bytes,
        }));
    }
    assert_eq!(losses.by_reason()["connection_limit"], 1);
    let later = Moment(MAX_SILENCE_NANOS * 2);
    assert_eq!(calls(pipeline.sweep(later)).len(), MAX_CONNECTIONS);
    assert!(pipeline.connections.is_empty());
}
