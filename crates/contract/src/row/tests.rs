//! Keys of rows against the table of names, and values against their text.

use super::{Call, Money, Service, Time};
use crate::attribute;

/// Every row with every value set, so that every key appears: a list, long as there are keys.
fn full_call() -> serde_json::Value {
    let mut call = serde_json::json!({
        "time": "2026-11-23T20:43:46.000000001Z", "trace_id": "t", "span_id": "s", "parent_span_id": "p",
    });
    let text = [
        attribute::CALL_ID,
        attribute::SERVICE_NAME,
        attribute::WORKLOAD_KEY,
        attribute::PLATFORM,
        attribute::HOST_NAME,
        attribute::OPERATION_NAME,
        attribute::PROVIDER_NAME,
        attribute::REQUEST_MODEL,
        attribute::RESPONSE_MODEL,
        attribute::RESPONSE_ID,
        attribute::CONVERSATION_ID,
        attribute::SERVER_ADDRESS,
        attribute::ERROR_TYPE,
        attribute::PRICE_TABLE,
        attribute::RECOGNISED_BY,
        attribute::INCOMPLETE,
    ];
    let whole = [
        attribute::PROCESS_PID,
        attribute::REQUEST_MAX_TOKENS,
        attribute::REQUEST_CHOICE_COUNT,
        attribute::INPUT_TOKENS,
        attribute::OUTPUT_TOKENS,
        attribute::CACHE_READ_TOKENS,
        attribute::CACHE_WRITE_TOKENS,
        attribute::REASONING_TOKENS,
        attribute::SERVER_PORT,
        attribute::HTTP_STATUS,
        attribute::RESEND_COUNT,
        attribute::CHUNK_COUNT,
        attribute::REQUEST_BODY_SIZE,
        attribute::RESPONSE_BODY_SIZE,
    ];
    let real = [
        attribute::REQUEST_TEMPERATURE,
        attribute::REQUEST_TOP_P,
        attribute::TIME_TO_FIRST_CHUNK,
        attribute::TIME_TO_FIRST_TOKEN,
        attribute::DURATION,
        attribute::RETRY_AFTER,
    ];
    for key in text {
        call[key] = "x".into();
    }
    for key in whole {
        call[key] = 7.into();
    }
    for key in real {
        call[key] = 0.5.into();
    }
    for key in [attribute::FINISH_REASONS, attribute::TOOL_CALLS] {
        call[key] = serde_json::json!(["x"]);
    }
    for key in [attribute::REQUEST_STREAM, attribute::RECORDED] {
        call[key] = true.into();
    }
    call[attribute::COST] = "0.5".into();
    call
}

#[test]
fn a_call_has_the_keys_of_the_attribute_table() {
    let json = full_call();
    let call: Call = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(call.more.len(), 0, "keys without a field: {:?}", call.more);
    assert_eq!(serde_json::to_value(&call).unwrap(), json);
}

#[test]
fn a_call_that_knows_nothing_has_no_keys_but_its_identity() {
    let json = serde_json::to_value(Call::default()).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["sonde.call.id", "span_id", "time", "trace_id"]);
}

#[test]
fn a_service_has_the_keys_of_the_attribute_table() {
    let json = serde_json::json!({
        attribute::SERVICE_NAME: "a", attribute::WORKLOAD_KEY: "h/process:a", attribute::PLATFORM: "process",
        attribute::HOST_NAME: "h", attribute::PROCESS_PID: 1, attribute::PROCESS_COMMAND_ARGS: ["a"],
        attribute::PROCESS_RUNTIME_NAME: "cpython", attribute::PROCESS_RUNTIME_VERSION: "3.11",
        attribute::INSTANCES: [], attribute::PROVIDERS: ["openai"], attribute::EVIDENCE: [],
        attribute::MODELS: ["gpt-4o"],
        attribute::ASKED: [{"what": "model", "name": "gpt-4o",
            "first_seen": "1970-01-01T00:00:00.000000000Z",
            "last_seen": "1970-01-01T00:00:01.000000000Z"}],
        attribute::TLS: "libssl", attribute::CAPTURE_DESIRED: "off", attribute::CAPTURE_OBSERVED: "network",
        attribute::CAPTURE_STATE: "pending", attribute::CAPTURE_REASON: "r", attribute::CALLS_PER_MINUTE: 1.5,
        attribute::FIRST_SEEN: "1970-01-01T00:00:00.000000000Z",
        attribute::LAST_SEEN: "1970-01-01T00:00:01.000000000Z", attribute::RECORDED: true,
    });
    let service: Service = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(service.more.len(), 0);
    assert_eq!(serde_json::to_value(&service).unwrap(), json);
}

#[test]
fn moments_read_and_write_rfc_3339() {
    let cases = [
        ("1970-01-01T00:00:00.000000000Z", 0),
        ("2026-11-23T20:43:46.123456789Z", 1_795_466_626_123_456_789),
        ("2000-02-29T23:59:59.000000000Z", 951_868_799_000_000_000),
    ];
    for (text, nanos) in cases {
        assert_eq!(text.parse(), Ok(Time(nanos)), "{text}");
        assert_eq!(Time(nanos).to_string(), text);
    }
    let same = Ok(Time(1_795_466_626_500_000_000));
    assert_eq!("2026-11-23T20:43:46.5Z".parse(), same);
    assert_eq!("2026-11-23T22:13:46.5+01:30".parse(), same);
    assert_eq!("2026-11-23t15:43:46.50000000000000-05:00".parse(), same);
}

#[test]
fn texts_that_are_no_moments_are_refused() {
    let cases = [
        "",
        "now",
        "2026-11-23",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-10T00:00:00Z",
        "2026-11-00T00:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T20:43:46",
        "2026-11-23T20:43:46.Z",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
        "2026-11-23T20:43:46Zx",
        "2026-11-23T20:43:46+99:00",
        "1970-01-01T00:00:00+01:00",
        "２026-11-23T20:43:46Z",
    ];
    for text in cases {
        assert!(text.parse::<Time>().is_err(), "{text}");
    }
}

#[test]
fn money_is_exact() {
    for (text, pico_usd) in [
        ("0", 0),
        ("0.000000000001", 1),
        ("0.00123", 1_230_000_000),
        ("12.5", 12_500_000_000_000),
        ("18446744073709551616", 18_446_744_073_709_551_616_000_000_000_000),
    ] {
        assert_eq!(text.parse(), Ok(Money { pico_usd }));
        assert_eq!(Money { pico_usd }.to_string(), text);
    }
    assert_eq!("1.500".parse(), Ok(Money { pico_usd: 1_500_000_000_000 }));
    for text in [
        "",
        ".",
        ".5",
        "-1",
        "+1",
        "1e-3",
        "0.0000000000001",
        "1.2.3",
        "NaN",
        "99999999999999999999999",
    ] {
        assert!(text.parse::<Money>().is_err(), "{text}");
    }
}
