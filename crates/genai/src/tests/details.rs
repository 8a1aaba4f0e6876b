//! Single peculiarities of requests and answers, in tables.

use wire::{Chunk, Direction, Moment};

use super::{answer, call, request};
use crate::{Connection, Hints, Incomplete, ModelCall, Pattern, Provider, Providers, Usage};

const HOST: &str = "api.openai.com";
const PATH: &str = "/v1/chat/completions";
const QUESTION: &[u8] = br#"{"model":"gpt-4o","messages":[]}"#;

fn asked(question: &str) -> ModelCall {
    call(PATH, HOST, question.as_bytes(), &answer(200, "", b"{}"))
}

fn answered(reply: &str) -> ModelCall {
    call(PATH, HOST, QUESTION, &answer(200, "", reply.as_bytes()))
}

fn streamed(host: &str, path: &str, events: &str) -> ModelCall {
    let question = br#"{"model":"m","messages":[],"max_tokens":1,"stream":true}"#;
    call(
        path,
        host,
        question,
        &answer(200, "Content-Type: text/event-stream\r\n", events.as_bytes()),
    )
}

#[test]
fn a_host_is_the_same_however_it_is_written() {
    for (host, port) in [("API.OpenAI.com", None), ("Api.OPENAI.COM:443", Some(443))] {
        let call = call(PATH, host, QUESTION, &answer(200, "", b"{}"));
        assert_eq!(call.provider, "openai");
        assert_eq!(call.server_address.as_deref(), Some(HOST), "{host}");
        assert_eq!(call.server_port, port, "{host}");
    }
}

#[test]
fn the_model_is_found_wherever_it_stands() {
    let prompt = "say \\\"model\\\": \\\\ \\u00e9 ".repeat(200_000);
    let image = format!("data:image/png;base64,{}", "iVBORw0KGgo".repeat(100_000));
    let nested = format!("{}{}", "[{\"model\":".repeat(10_000), "1}]".repeat(10_000));
    let cases = [
        (
            format!(r#"{{"messages":[{{"content":"{prompt}"}}],"model":"m","stream":true}}"#),
            Some("m"),
        ),
        (
            format!(
                r#"{{"messages":[{{"image_url":{{"url":"{image}"}}}}],"model":"m","stream":true}}"#
            ),
            Some("m"),
        ),
        (format!(r#"{{"messages":{nested},"model":"m","stream":true}}"#), Some("m")),
        (r#"{"model":"a","model":"m","stream":true}"#.to_owned(), Some("m")),
        ("\u{feff} {\"\\u006dodel\" : \"m\" ,\r\n\"stream\":true}".to_owned(), Some("m")),
        (
            r#"{"metadata":{"model":"x"},"tools":[{"model":"x"}],"model":"m","stream":true}"#
                .to_owned(),
            Some("m"),
        ),
        (r#"{"model":"\ud83d\ude00\u00e9\n\u0000","stream":true}"#.to_owned(), Some("😀é")),
        (r#"{"model":"\ud83d","stream":true}"#.to_owned(), None),
        (r#"{"model":"","stream":true}"#.to_owned(), None),
        (r#"{"model":null,"stream":true}"#.to_owned(), None),
        (r#"{"model":["m"],"stream":true}"#.to_owned(), None),
        (
            r#"{"temperature":NaN,"top_p":1e400,"n":1,"model":"m","stream":true}"#.to_owned(),
            Some("m"),
        ),
    ];
    for (question, model) in cases {
        let call = asked(&question);
        assert_eq!(call.request_model.as_deref(), model, "{question:.80}");
        assert!(call.stream, "{question:.80}");
        assert_eq!((call.temperature, call.top_p), (None, None));
        assert_eq!(call.request_bytes, question.len() as u64);
    }
    let long = asked(&format!(r#"{{"model":"{}"}}"#, "é".repeat(4096)));
    assert!(long.request_model.unwrap().len() <= 260);
    for broken in
        ["", "{", "nonsense", "{\"model\"", "<html>", "[]", "{model:1}", "// x\n{}", "\u{0}"]
    {
        assert_eq!(asked(broken).request_model, None, "{broken}");
    }
}

#[test]
fn counts_are_read_however_they_are_written() {
    let cases = [
        (r#"{"prompt_tokens":1,"completion_tokens":2}"#, (Some(1), Some(2))),
        (r#"{"prompt_tokens":1.0,"completion_tokens":"2"}"#, (Some(1), Some(2))),
        (r#"{"prompt_tokens":0,"completion_tokens":0}"#, (Some(0), Some(0))),
        (
            r#"{"prompt_tokens":5000000000,"completion_tokens":1e3}"#,
            (Some(5_000_000_000), Some(1000)),
        ),
        (r#"{"prompt_tokens":-1,"completion_tokens":1e400}"#, (None, None)),
        (r#"{"prompt_tokens":null,"completion_tokens":true}"#, (None, None)),
        (r#"{"prompt_tokens":{},"completion_tokens":[3]}"#, (None, None)),
        (
            r#"{"prompt_tokens":18446744073709551615,"completion_tokens":99999999999999999999}"#,
            (None, None),
        ),
        ("{}", (None, None)),
        ("null", (None, None)),
        (r#"{"prompt_tokens":1,"prompt_tokens":2}"#, (Some(2), None)),
        (r#"{"\u0070rompt_tokens":7}"#, (Some(7), None)),
    ];
    for (usage, expected) in cases {
        let call = answered(&format!(r#"{{"usage":{usage},"id":"x"}} trailing"#));
        assert_eq!((call.usage.input, call.usage.output), expected, "{usage}");
        assert_eq!(call.response_id.as_deref(), Some("x"));
    }
}

#[test]
fn finish_reasons_are_in_order_and_normalised() {
    let cases = [
        (
            r#"[{"index":1,"finish_reason":"length"},{"index":0,"finish_reason":"tool_calls"}]"#,
            vec!["tool_call", "length"],
        ),
        (r#"[{"finish_reason":"eos"},{"finish_reason":"model_length"}]"#, vec!["stop", "length"]),
        (
            r#"[{"index":0,"finish_reason":"insufficient_system_resource"}]"#,
            vec!["insufficient_system_resource"],
        ),
        (r#"[{"index":0,"finish_reason":null}]"#, vec![]),
        (
            r#"[{"index":0,"message":{"content":null,"refusal":"no"},"finish_reason":"stop"}]"#,
            vec!["stop"],
        ),
        ("[]", vec![]),
        ("null", vec![]),
    ];
    for (choices, expected) in cases {
        let call = answered(&format!(r#"{{"choices":{choices}}}"#));
        assert_eq!(call.finish_reasons, expected, "{choices}");
        assert_eq!(call.error, None, "{choices}");
    }
}

#[test]
fn fragments_of_tool_calls_are_put_together() {
    let delta = |calls: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{calls}]}}}}]}}\n\n"
        )
    };
    let cases: [(&[&str], &[&str]); 5] = [
        (
            &[
                r#"{"index":0,"id":"a","function":{"name":"f","arguments":""}}"#,
                r#"{"index":0,"function":{"arguments":"{}"}}"#,
            ],
            &["f"],
        ),
        (
            &[
                r#"{"id":"a","function":{"name":"f"}}"#,
                r#"{"function":{"arguments":"1"}}"#,
                r#"{"id":"b","function":{"name":"f"}}"#,
            ],
            &["f", "f"],
        ),
        (
            &[
                r#"{"index":4000000000,"id":"a","function":{"name":"f"}}"#,
                r#"{"index":4000000000,"id":"a","function":{"name":"f"}}"#,
            ],
            &["f"],
        ),
        (
            &[
                r#"{"index":0,"function":{"arguments":""}}"#,
                r#"{"index":0,"function":{"name":"late"}}"#,
            ],
            &["late"],
        ),
        (&[r#"{"index":0,"type":"custom","custom":{"name":"c","input":"x"}}"#], &["c"]),
    ];
    for (fragments, names) in cases {
        let events: String = fragments.iter().map(|calls| delta(calls)).collect();
        assert_eq!(streamed(HOST, PATH, &events).tool_calls, names, "{fragments:?}");
    }
    let many: String = (0..1000)
        .map(|index| delta(&format!(r#"{{"index":{index},"function":{{"name":"f"}}}}"#)))
        .collect();
    assert_eq!(streamed(HOST, PATH, &many).tool_calls.len(), 256);
}

#[test]
fn errors_are_classes_and_never_sentences() {
    let cases = [
        (
            400,
            r#"{"error":{"message":"m","type":"invalid_request_error","code":null}}"#,
            "invalid_request_error",
        ),
        (
            401,
            r#"{"error":{"message":"m","type":"x","code":"invalid_api_key"}}"#,
            "invalid_api_key",
        ),
        (429, r#"{"error":{"type":"requests","code":429}}"#, "requests"),
        (429, r#"{"error":{"code":429}}"#, "429"),
        (400, r#"{"error":{"code":"a sentence with <b>words</b>"}}"#, "400"),
        (422, r#"{"detail":[{"loc":["body"],"msg":"x"}]}"#, "422"),
        (500, r#"{"error":"it broke"}"#, "500"),
        (200, r#"{"error":{"message":"m"}}"#, "error"),
        (502, "<html>nginx</html>", "502"),
        (504, "", "504"),
    ];
    for (status, reply, error) in cases {
        let call = call(PATH, HOST, QUESTION, &answer(status, "", reply.as_bytes()));
        assert_eq!(call.error.as_deref(), Some(error), "{reply}");
        assert_eq!(call.status, Some(status));
    }
}

#[test]
fn retry_after_is_read_in_each_of_its_forms() {
    let cases = [
        ("retry-after: 20\r\n", Some(20.0)),
        ("retry-after: 0.25\r\n", Some(0.25)),
        ("retry-after: 20\r\nretry-after-ms: 1500\r\n", Some(1.5)),
        (
            "retry-after: Mon, 01 Dec 2025 10:00:30 GMT\r\nDate: Mon, 01 Dec 2025 10:00:00 GMT\r\n",
            Some(30.0),
        ),
        ("retry-after: Mon, 01 Dec 2025 10:00:30 GMT\r\n", None),
        ("retry-after: soon\r\n", None),
        ("retry-after: -5\r\n", None),
        ("retry-after: inf\r\n", None),
    ];
    for (headers, seconds) in cases {
        let call = call(PATH, HOST, QUESTION, &answer(429, headers, b""));
        assert_eq!(call.retry_after_seconds, seconds, "{headers}");
    }
}

#[test]
fn counts_of_a_stream_are_the_last_ones() {
    let cases = [
        // Placeholder first, totals at the end; an empty total does not erase.
        (
            r#"{"type":"message_start","message":{"usage":{"input_tokens":0,"output_tokens":8}}}"#,
            r#"{"type":"message_delta","usage":{"input_tokens":30,"output_tokens":5}}"#,
            (Some(30), Some(5)),
        ),
        (
            r#"{"type":"message_start","message":{"usage":{"input_tokens":30,"output_tokens":1}}}"#,
            r#"{"type":"message_delta","usage":{"input_tokens":0,"output_tokens":0}}"#,
            (Some(30), Some(0)),
        ),
        (
            r#"{"type":"message_delta","usage":{"output_tokens":5}}"#,
            r#"{"type":"message_delta","usage":{"output_tokens":9}}"#,
            (None, Some(9)),
        ),
        (
            r#"{"type":"message_start","message":{"usage":{"input_tokens":30,"output_tokens":1}}}"#,
            r#"{"type":"something_new","usage":null}"#,
            (Some(30), None),
        ),
    ];
    for (first, second, expected) in cases {
        let call = streamed(
            "api.anthropic.com",
            "/v1/messages",
            &format!("data: {first}\n\ndata: {second}\n\n"),
        );
        assert_eq!((call.usage.input, call.usage.output), expected, "{first} {second}");
    }
}

#[test]
fn a_stream_ends_well_or_is_cut() {
    let finish = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let text = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
    let cases = [
        (format!("{text}{finish}data: [DONE]\n\n"), None, None, vec!["stop"]),
        (format!("{text}{finish}"), None, None, vec!["stop"]),
        (format!("{text}{finish}data:  [DONE]"), None, None, vec!["stop"]),
        (format!("{text}data: [DONE]\r\n\r\n"), None, None, vec![]),
        (text.to_owned(), Some("stream_truncated"), Some(Incomplete::Cut), vec!["error"]),
        (": ping\n\n".to_owned(), Some("stream_truncated"), Some(Incomplete::Cut), vec![]),
        (
            format!("{text}data: [DONE]\n\ndata: {{\"error\":{{\"type\":\"late\"}}}}\n\n"),
            None,
            None,
            vec![],
        ),
    ];
    for (events, error, incomplete, finish) in cases {
        let call = streamed(HOST, PATH, &events);
        assert_eq!((call.error.as_deref(), call.incomplete), (error, incomplete), "{events}");
        assert_eq!(call.finish_reasons, finish, "{events}");
    }
}

#[test]
fn the_first_token_is_the_first_thing_that_was_generated() {
    let cases = [
        (HOST, PATH, r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#, false),
        (HOST, PATH, r#"{"choices":[{"delta":{"content":null}}]}"#, false),
        (HOST, PATH, r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, false),
        (HOST, PATH, r#"{"choices":[{"delta":{"content":"x"}}]}"#, true),
        (HOST, PATH, r#"{"choices":[{"delta":{"reasoning_content":"x"}}]}"#, true),
        (HOST, PATH, r#"{"choices":[{"delta":{"refusal":"x"}}]}"#, true),
        (HOST, PATH, r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, true),
        (HOST, PATH, r#"{"choices":[{"text":"x"}]}"#, true),
        (
            "api.anthropic.com",
            "/v1/messages",
            r#"{"type":"content_block_start","content_block":{"type":"text","text":""}}"#,
            false,
        ),
        (
            "api.anthropic.com",
            "/v1/messages",
            r#"{"type":"content_block_start","content_block":{"type":"tool_use","name":"f"}}"#,
            true,
        ),
        (
            "api.anthropic.com",
            "/v1/messages",
            r#"{"delta":{"type":"thinking_delta","thinking":"x"},"type":"content_block_delta"}"#,
            true,
        ),
        (
            "api.anthropic.com",
            "/v1/messages",
            r#"{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"x"}}"#,
            false,
        ),
    ];
    for (host, path, event, is_token) in cases {
        let call = streamed(host, path, &format!("data: {event}\n\n"));
        assert_eq!((call.first_token.is_some(), call.chunk_count), (is_token, 1), "{event}");
    }
}

#[test]
fn usage_is_there_if_and_only_if_its_bytes_were() {
    let reply = br#"{"id":"x","object":"chat.completion","usage":{"prompt_tokens":12,"completion_tokens":34},"model":"m"}"#;
    let whole = answer(200, "", reply);
    let complete_at = whole.windows(4).position(|bytes| bytes == b"34},").unwrap() + 3;
    for length in 0..whole.len() {
        let mut connection = Connection::new(Hints::default());
        connection.feed(Moment(1), Direction::Sent, Chunk::Bytes(&request(PATH, HOST, QUESTION)));
        assert_eq!(
            connection.feed(Moment(2), Direction::Received, Chunk::Bytes(&whole[..length])),
            []
        );
        let calls = connection.close(Moment(3));
        assert_eq!(calls.len(), 1, "{length}");
        assert_eq!(calls[0].usage.output.is_some(), length >= complete_at, "{length}");
        assert_eq!(calls[0].incomplete, Some(Incomplete::Cut));
        let error = if calls[0].status.is_some() { "response_truncated" } else { "no_response" };
        assert_eq!(calls[0].error.as_deref(), Some(error), "{length}");
    }
}

#[test]
fn nothing_that_a_person_typed_is_kept() {
    let mut connection =
        Connection::new(Hints { server_name: Some(HOST.to_owned()), ..Hints::default() });
    let question = br#"{"messages":[{"role":"user","content":"canary"}],"user":"canary","model":"m","tools":[{"x":"canary"}]}"#;
    let mut shown = String::new();
    for chunk in request(PATH, HOST, question).chunks(5) {
        connection.feed(Moment(1), Direction::Sent, Chunk::Bytes(chunk));
        shown += &format!("{connection:?}");
    }
    let reply = br#"{"choices":[{"message":{"content":"canary","tool_calls":[{"function":{"name":"f","arguments":"canary"}}]}}],"error":{"message":"canary"}}"#;
    for chunk in answer(400, "x-note: canary\r\nset-cookie: canary\r\n", reply).chunks(5) {
        shown +=
            &format!("{:?}", connection.feed(Moment(2), Direction::Received, Chunk::Bytes(chunk)));
        shown += &format!("{connection:?}");
    }
    assert!(shown.contains("ModelCall") && !shown.contains("canary"), "{shown}");
}

#[test]
fn other_tiers_have_other_prices() {
    let reply = |tier: &str| {
        format!(
            r#"{{"model":"gpt-4o","service_tier":"{tier}","usage":{{"prompt_tokens":1,"completion_tokens":1}}}}"#
        )
    };
    assert!(answered(&reply("default")).cost.is_some());
    for tier in ["flex", "priority", "scale"] {
        assert_eq!(answered(&reply(tier)).cost, None, "{tier}");
    }
    assert_eq!(
        answered(&reply("flex")).usage,
        Usage { input: Some(1), output: Some(1), ..Usage::default() }
    );
}

#[test]
fn a_provider_that_people_added_is_named_and_decoded_on_a_path_of_its_own() {
    let reply = br#"{"id":"x","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    let question = br#"{"model":"m","messages":[{"role":"user","content":"q"}]}"#;
    let provider = Provider {
        name: "our-gateway".to_owned(),
        host: Pattern::new("llm.*.example").unwrap(),
        port: None,
        path: Some("/models/".to_owned()),
        family: Some("openai".to_owned()),
    };
    let hints = Hints { providers: Providers::new(vec![provider]), ..Hints::default() };
    let calls = |path: &str, host: &str| {
        let mut connection = Connection::new(hints.clone());
        let asked = request(path, host, question);
        connection.feed(Moment(1), Direction::Sent, Chunk::Bytes(&asked));
        let answer = answer(200, "", reply);
        connection.feed(Moment(2), Direction::Received, Chunk::Bytes(&answer))
    };
    let found = calls("/models/ours/generate", "llm.corp.example");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].provider.as_str(), found[0].usage.output), ("our-gateway", Some(4)));
    assert_eq!(calls("/wiki/ours/generate", "llm.corp.example").len(), 0);
    assert_eq!(calls("/models/ours/generate", "llm.example").len(), 0);
}
