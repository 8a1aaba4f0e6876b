//! The same call as each of the senders says it: one row, whoever sent it.

use super::{Bench, NOW};
use crate::guard::Door;
use axum::http::{Request, StatusCode};
use serde_json::{Map, Value, json};

/// What nobody may find on our disk or in an answer.
const CANARY: &str = "CANARY-of-a-prompt";

fn value(value: &Value) -> Value {
    match value {
        Value::String(text) => json!({ "stringValue": text }),
        Value::Bool(flag) => json!({ "boolValue": flag }),
        Value::Number(number) if number.is_i64() => json!({ "intValue": number.to_string() }),
        Value::Array(items) => {
            json!({ "arrayValue": { "values": items.iter().map(self::value).collect::<Vec<_>>() } })
        }
        other => json!({ "doubleValue": other }),
    }
}

fn attributes(of: &Value) -> Value {
    let pairs = of.as_object().unwrap().iter();
    pairs.map(|(key, of)| json!({ "key": key, "value": value(of) })).collect()
}

/// A request with one span; what is not an attribute comes from `more`.
fn request(scope: &str, of: &Value, more: Value) -> Value {
    let mut span = json!({
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "kind": 3,
        "startTimeUnixNano": (NOW.0 - 2_000_000_000).to_string(),
        "endTimeUnixNano": NOW.0.to_string(), "attributes": attributes(of),
    });
    let more: Map<String, Value> = serde_json::from_value(more).unwrap();
    span.as_object_mut().unwrap().extend(more);
    let resource = json!({ "attributes": attributes(&json!({ "service.name": "agent" })) });
    json!({ "resourceSpans": [{ "resource": resource,
        "scopeSpans": [{ "scope": { "name": scope }, "spans": [span] }] }] })
}

/// Sends a span, and answers the row that became of it.
async fn row(scope: &str, of: Value, more: Value) -> Option<Value> {
    let bench = Bench::new();
    let sent = Request::post("/v1/traces")
        .header("content-type", "application/json")
        .body(request(scope, &of, more).to_string().into())
        .unwrap();
    assert_eq!(bench.send(Door::Socket, sent).await.status(), StatusCode::OK);
    let calls = bench.get("/api/v1/calls?limit=10").await.1;
    assert!(!calls.to_string().contains(CANARY), "{calls}");
    for file in std::fs::read_dir(bench._dir.path()).unwrap() {
        let kept = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!kept.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
    }
    calls["calls"].get(0).cloned()
}

/// What every sender says of the call, in our words.
fn expected() -> Value {
    json!({
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini", "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.request.stream": true, "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 50, "gen_ai.usage.input_tokens": 42,
        "gen_ai.usage.output_tokens": 17, "gen_ai.usage.cache_read.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 5, "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.25, "sonde.duration": 2.0,
        "service.name": "agent",
    })
}

fn differences(row: &Value, but: &[&str]) -> Vec<String> {
    let expected = expected();
    let wanted =
        expected.as_object().unwrap().iter().filter(|(key, _)| !but.contains(&key.as_str()));
    wanted
        .filter(|(key, value)| row.get(key.as_str()) != Some(value))
        .map(|(key, value)| format!("{key}: {:?} instead of {value}", row.get(key.as_str())))
        .collect()
}

fn chunk_event(name: &str) -> Value {
    let at = (NOW.0 - 1_750_000_000).to_string();
    json!({ "events": [{ "name": name, "timeUnixNano": at }, { "name": name, "timeUnixNano": "9" }] })
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of senders")]
async fn a_call_is_the_same_call_whoever_sent_it() {
    let messages = format!("[{{\"role\":\"user\",\"content\":\"{CANARY}\"}}]");
    let senders = [
        (
            "conventions of 2026",
            json!({
                "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o-mini", "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
                "gen_ai.request.stream": true, "gen_ai.request.temperature": 0.5,
                "gen_ai.request.max_tokens": 50, "gen_ai.usage.input_tokens": 42,
                "gen_ai.usage.output_tokens": 17, "gen_ai.usage.cache_read.input_tokens": 10,
                "gen_ai.usage.reasoning.output_tokens": 5, "gen_ai.response.finish_reasons": ["stop"],
                "gen_ai.response.time_to_first_chunk": 0.25, "gen_ai.input.messages": messages,
                "gen_ai.system_instructions": CANARY, "gen_ai.tool.definitions": CANARY,
            "service.name": "default",
            }),
            json!({}),
        ),
        (
            "conventions before 1.37",
            json!({
                "gen_ai.operation.name": "chat", "gen_ai.system": "openai",
                "gen_ai.request.model": "gpt-4o-mini", "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
                "gen_ai.request.is_stream": true, "gen_ai.request.temperature": 0.5,
                "gen_ai.request.max_tokens": 50, "gen_ai.usage.prompt_tokens": 42,
                "gen_ai.usage.completion_tokens": 17, "gen_ai.usage.cached_input_tokens": 10,
                "gen_ai.usage.reasoning_tokens": 5, "gen_ai.response.finish_reasons": ["stop"],
                "gen_ai.server.time_to_first_token": 0.25, "gen_ai.prompt": CANARY,
                "gen_ai.completion": CANARY,
            }),
            json!({}),
        ),
        (
            "OpenLLMetry",
            json!({
                "llm.request.type": "chat", "gen_ai.system": "OpenAI",
                "gen_ai.request.model": "gpt-4o-mini", "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
                "llm.is_streaming": true, "gen_ai.request.temperature": 0.5,
                "gen_ai.request.max_tokens": 50, "gen_ai.usage.prompt_tokens": 42,
                "gen_ai.usage.completion_tokens": 17, "gen_ai.usage.cache_read_input_tokens": 10,
                "gen_ai.usage.reasoning_tokens": 5, "gen_ai.completion.0.finish_reason": "stop",
                "gen_ai.completion.0.content": CANARY, "gen_ai.prompt.0.content": CANARY,
                "traceloop.entity.input": CANARY, "gen_ai.prompt.0.role": "user",
            }),
            chunk_event("gen_ai.content.completion.chunk"),
        ),
        (
            "OpenInference",
            json!({
                "openinference.span.kind": "LLM", "llm.system": "openai",
                "llm.model_name": "gpt-4o-mini-2024-07-18",
                "llm.invocation_parameters":
                    "{\"model\":\"gpt-4o-mini\",\"max_tokens\":50,\"temperature\":0.5,\"stream\":true}",
                "llm.token_count.prompt": 42, "llm.token_count.completion": 17,
                "llm.token_count.prompt_details.cache_read": 10,
                "llm.token_count.completion_details.reasoning": 5, "llm.finish_reason": "stop",
                "input.value": CANARY, "output.value": CANARY,
                "llm.input_messages.0.message.content": CANARY, "metadata": CANARY,
            }),
            chunk_event("First Token Stream Event"),
        ),
        (
            "Vercel AI SDK",
            json!({
                "ai.operationId": "ai.streamText.doStream", "ai.model.provider": "openai.chat",
                "ai.model.id": "gpt-4o-mini", "ai.response.model": "gpt-4o-mini-2024-07-18",
                "ai.settings.temperature": 0.5, "ai.settings.maxOutputTokens": 50,
                "ai.usage.inputTokens": 42, "ai.usage.outputTokens": 17,
                "ai.usage.cachedInputTokens": 10, "ai.usage.reasoningTokens": 5,
                "ai.response.finishReason": "stop", "ai.response.msToFirstChunk": 250,
                "ai.prompt.messages": messages, "ai.response.text": CANARY,
            }),
            json!({}),
        ),
        (
            "Langfuse",
            json!({
                "langfuse.observation.type": "generation", "gen_ai.system": "openai",
                "langfuse.observation.model.name": "gpt-4o-mini",
                "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
                "langfuse.observation.model.parameters":
                    "{\"temperature\":0.5,\"max_tokens\":50,\"stream\":true}",
                "langfuse.observation.usage_details":
                    "{\"input\":42,\"output\":17,\"input_cached_tokens\":10,\"output_reasoning_tokens\":5}",
                "gen_ai.response.finish_reasons": ["stop"],
                "gen_ai.response.time_to_first_chunk": 0.25,
                "langfuse.observation.input": CANARY, "langfuse.trace.name": CANARY.replace('-', " "),
            }),
            json!({}),
        ),
    ];
    for (sender, of, more) in senders {
        let row = row(sender, of, more).await.unwrap_or_else(|| panic!("{sender}: no call"));
        assert_eq!(differences(&row, &[]), Vec::<String>::new(), "{sender}");
        assert_eq!(row["otel.scope.name"], sender);
    }
}

#[tokio::test]
async fn what_is_around_calls_is_never_a_call() {
    let usage = json!({
        "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 999,
        "gen_ai.usage.output_tokens": 99,
    });
    for mark in [
        json!({ "gen_ai.operation.name": "invoke_agent" }),
        json!({ "gen_ai.operation.name": "execute_tool" }),
        json!({ "openinference.span.kind": "AGENT", "llm.model_name": "gpt-4o" }),
        json!({ "openinference.span.kind": "CHAIN" }),
        json!({ "traceloop.span.kind": "workflow" }),
        json!({ "ai.operationId": "ai.streamText", "ai.model.id": "gpt-4o" }),
        json!({ "langfuse.observation.type": "span" }),
        json!({ "langsmith.span.kind": "chain" }),
        json!({ "gen_ai.operation.name": "vectordb" }),
    ] {
        let mut of = usage.clone();
        of.as_object_mut().unwrap().extend(mark.as_object().unwrap().clone());
        assert_eq!(row("x", of, json!({})).await, None, "{mark}");
    }
}

#[tokio::test]
async fn agents_and_tools_stand_around_calls_in_a_trace_and_count_in_nothing() {
    let bench = Bench::new();
    let agent = json!({
        "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "Senior researcher",
        "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 999,
        "gen_ai.input.messages": CANARY,
    });
    let tool = json!({
        "openinference.span.kind": "TOOL", "tool.name": "web_search",
        "gen_ai.tool.call.arguments": CANARY, "input.value": CANARY,
    });
    let chain = json!({ "traceloop.span.kind": "workflow", "gen_ai.operation.name": "chain" });
    let call = json!({
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 42,
    });
    let (root, inner) = ("00000000000000a1", "00000000000000a2");
    let end = (NOW.0 - 1_000_000_000).to_string();
    let sentence = format!("please tell {CANARY} me all about it, at length");
    for (of, more) in [
        (&agent, json!({ "spanId": root, "name": "invoke_agent" })),
        (&tool, json!({ "spanId": inner, "parentSpanId": root, "status": { "code": 2 } })),
        (&chain, json!({ "spanId": "00000000000000a3", "parentSpanId": root, "name": sentence })),
        (
            &call,
            json!({ "spanId": "00000000000000a4", "parentSpanId": inner, "endTimeUnixNano": end }),
        ),
        // Sent again.
        (&agent, json!({ "spanId": root, "name": "invoke_agent" })),
    ] {
        let sent = Request::post("/v1/traces").header("content-type", "application/json");
        let sent = sent.body(request("x", of, more).to_string().into()).unwrap();
        assert_eq!(bench.send(Door::Socket, sent).await.status(), StatusCode::OK);
    }
    let trace = bench.get("/api/v1/traces/5b8efff798038103d269b633813fc60c").await.1;
    assert!(!trace.to_string().contains(CANARY), "{trace}");
    assert_eq!(trace["calls"].as_array().unwrap().len(), 1);
    assert_eq!(trace["calls"][0]["parent_span_id"], inner);
    let runs: Vec<_> = trace["runs"].as_array().unwrap().iter().collect();
    let told: Vec<_> = runs.iter().map(|run| (&run["kind"], &run["name"])).collect();
    assert_eq!(
        told,
        [
            (&json!("agent"), &json!("Senior researcher")),
            (&json!("tool"), &json!("web_search")),
            (&json!("chain"), &Value::Null),
        ]
    );
    assert_eq!(runs[1]["error.type"], "_OTHER");
    assert_eq!(
        (&runs[1]["parent_span_id"], &runs[0]["service.name"]),
        (&json!(root), &json!("agent"))
    );
    let overview = bench.get("/api/v1/overview").await.1;
    assert_eq!(overview["totals"]["calls"], 1);
    assert_eq!(overview["totals"]["input_tokens"], 42);
}

#[tokio::test]
async fn numbers_are_made_whole_and_what_says_nothing_is_not_known() {
    let of = json!({
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "claude-haiku-4-5",
        "gen_ai.system": "anthropic",
        // A sender that counts cached tokens apart.
        "gen_ai.usage.input_tokens": 5, "gen_ai.usage.cache_read_input_tokens": 100,
        "gen_ai.usage.cache_creation_input_tokens": 20, "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.reasoning_tokens": 0, "gen_ai.usage.cost": 0.0,
        // No stream: the whole duration, which some senders write here.
        "gen_ai.server.time_to_first_token": 2.0, "gen_ai.request.stream": false,
        "gen_ai.response.finish_reasons": ["end_turn", "tool_use"],
        "gen_ai.request.user": "", "vendor.tier.id": "gold", "vendor.count": 3,
        "vendor.note": CANARY, "vendor.prompt.name": CANARY, "sonde.call.id": "mine",
        "time": 5, "vendor.name": "several words of somebody",
    });
    let row = row("x", of, json!({})).await.unwrap();
    for (key, wanted) in [
        ("gen_ai.usage.input_tokens", json!(125)),
        ("gen_ai.usage.cache_read.input_tokens", json!(100)),
        ("gen_ai.usage.cache_write.input_tokens", json!(20)),
        ("gen_ai.response.finish_reasons", json!(["stop", "tool_call"])),
        ("vendor.tier.id", json!("gold")),
        ("vendor.count", json!(3)),
        ("gen_ai.usage.reasoning.output_tokens", Value::Null),
        ("gen_ai.request.stream", Value::Null),
        ("gen_ai.response.time_to_first_chunk", Value::Null),
        ("sonde.cost", Value::Null),
        ("vendor.note", Value::Null),
        ("vendor.prompt.name", Value::Null),
        ("vendor.name", Value::Null),
    ] {
        assert_eq!(row[key], wanted, "{key}");
    }
    assert!(row["sonde.call.id"].as_str().unwrap().starts_with("2026"));
    assert!(row["time"].as_str().unwrap().starts_with("2026"));
}

#[tokio::test]
async fn a_failure_has_the_class_of_its_exception_and_the_cost_of_a_sender_is_kept() {
    let of = json!({ "openinference.span.kind": "LLM", "llm.model_name": "gpt-4o",
        "llm.cost.total": 0.0125 });
    let exception =
        json!({ "key": "exception.type", "value": { "stringValue": "openai.RateLimitError" } });
    let message = json!({ "key": "exception.message", "value": { "stringValue": CANARY } });
    let more = json!({ "status": { "code": 2, "message": CANARY },
        "events": [{ "name": "exception", "attributes": [exception, message] }] });
    let row = row("x", of, more).await.unwrap();
    assert_eq!(row["error.type"], "openai.RateLimitError");
    assert_eq!(row["sonde.cost"], "0.0125");
}

/// The table has the prices of the standard tier; of another one it must not make a price up.
#[tokio::test]
async fn a_tier_of_service_is_known_by_its_earlier_name_and_leaves_a_call_without_a_price() {
    let of = |tier| {
        json!({
            "gen_ai.system": "openai", "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o", "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100,
            "gen_ai.openai.response.service_tier": tier,
        })
    };
    let row = |tier| row("opentelemetry.instrumentation.openai_v2", of(tier), json!({}));
    for (tier, cost) in [("default", json!("0.0035")), ("flex", Value::Null)] {
        let call = row(tier).await.unwrap();
        assert_eq!(call["openai.response.service_tier"], tier, "{call}");
        assert_eq!(call["sonde.cost"], cost, "{call}");
    }
}
