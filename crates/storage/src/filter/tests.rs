//! What can be written, what it means, and what is said of the rest.

use super::Filter;
use contract::row::{Call, Money};
use proptest::prelude::{any, prop_assert, proptest};

fn call() -> Call {
    Call {
        trace_id: "ab".repeat(16),
        span_id: "cd".repeat(8),
        service_name: Some("checkout".into()),
        workload_key: Some("h/systemd:checkout".into()),
        provider_name: Some("openai".into()),
        operation_name: Some("chat".into()),
        request_model: Some("gpt-4o-mini".into()),
        response_model: Some("gpt-4o-mini-2024-07-18".into()),
        request_stream: Some(true),
        duration: Some(6.5),
        time_to_first_chunk: Some(0.25),
        cost: Some(Money { pico_usd: 100_000_000_000 }),
        input_tokens: Some(8000),
        output_tokens: Some(200),
        http_status: Some(429),
        error_type: Some("rate_limit_exceeded".into()),
        finish_reasons: vec!["stop".into(), "length".into()],
        tool_calls: vec!["web search".into()],
        conversation_id: Some("c,1".into()),
        more: [("user.id", "42"), ("deployment.environment.name", "Production")]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect(),
        ..Call::default()
    }
}

fn matches(text: &str) -> bool {
    text.parse::<Filter>().unwrap().matches(&call())
}

#[test]
fn words_say_what_a_call_is_like() {
    for text in [
        "",
        "  ",
        "service:checkout",
        "service:CheckOut",
        "service:h/systemd:checkout",
        "service:other,checkout",
        "model:gpt-4o*",
        "model:*mini",
        "model:g*4*-2024*18",
        "model:gpt-4o-mini-2024-07-18",
        "status:error",
        "status:ok,error",
        "-status:ok",
        "!status:ok,cancelled",
        "class:rate_limit",
        "error:rate_*",
        "duration:>5s",
        "duration:>=6500ms",
        "duration:6.5",
        "duration:<1h",
        "duration:6s..7s",
        "ttft:>200ms",
        "ttft:<=0.25",
        "cost:>0.09",
        "cost:$0.1",
        "cost:<=0.1",
        "input:8k",
        "tokens:8200",
        "output:<1k",
        "http:429",
        "http:400..499",
        "tool:\"web search\"",
        "tool:web*",
        "finish:length",
        "user:42",
        "env:production",
        "deployment.environment.name:prod*",
        "stream:true",
        "conversation:\"c,1\"",
        "trace:abab*",
        "-model:claude*",
        "-host:x",
        "-retry_after:>0",
        "check",
        "\"WEB sea\"",
        "-nothing",
        "service:checkout model:gpt-4o* status:error duration:>5s ttft:>0.2s finish:length user:42 \"rate_limit\"",
    ] {
        assert!(matches(text), "{text}");
    }
}

#[test]
fn words_say_what_a_call_is_not_like() {
    for text in [
        "service:check",
        "model:gpt-4o",
        "model:*-mini-mini*",
        "model:gpt-4o-mini*gpt-4o-mini",
        "-status:error",
        "duration:>6.5",
        "duration:<6500ms",
        "duration:<0",
        "cost:>0.10",
        "cost:<0.1",
        "retry_after:>=0",
        "-retry_after:>0 retry_after:<1h",
        "stream:false",
        "conversation:c,1",
        "tool:web",
        "service:\"check*\"",
        "nothing",
        "-check",
        "service:checkout status:ok",
    ] {
        assert!(!matches(text), "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_place() {
    for (text, position, word) in [
        ("model:x colour:red", 8, "no field `colour`"),
        ("ä duration:fast", 2, "takes a time"),
        ("cost:>lots", 0, "amount in USD"),
        ("cost:>0.0000000000001", 0, "amount in USD"),
        ("input:>x", 0, "takes a number"),
        ("input:1.5", 0, "takes a number"),
        ("input:-1", 0, "takes a number"),
        ("status:bad", 0, "`ok`, `error`, `cancelled`"),
        ("stream:maybe", 0, "`true` or `false`"),
        ("service:", 0, "no value"),
        ("service:a,,b", 0, "commas"),
        ("a service:\"x", 10, "never closed"),
        ("\"\"", 0, "nothing between"),
        ("\"a\\n\"", 0, "after `\\`"),
        ("a - b", 2, "directly before"),
        ("-", 0, "directly before"),
    ] {
        let error = text.parse::<Filter>().unwrap_err();
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.message.contains(word), "{text}: {error}");
    }
    assert!("x".repeat(5000).parse::<Filter>().is_err());
    assert!("x ".repeat(65).parse::<Filter>().is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        if let Ok(filter) = text.parse::<Filter>() {
            filter.matches(&call());
        }
    }

    #[test]
    fn a_quoted_text_is_that_text(text in "[ -~]{1,40}") {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let filter: Filter = format!("service:\"{quoted}\"").parse().unwrap();
        let call = Call { service_name: Some(text), ..Call::default() };
        prop_assert!(filter.matches(&call));
        let longer = Some("x".repeat(50));
        let other = Call { service_name: longer, ..call };
        prop_assert!(!filter.matches(&other));
    }

    #[test]
    fn an_exact_text_never_takes_a_star_for_anything(text in "[a-z*]{1,12}") {
        let call = Call { service_name: Some(text.clone()), ..Call::default() };
        prop_assert!(Filter::service(&text).matches(&call));
        let other = Call { service_name: Some(format!("{text}x")), ..Call::default() };
        prop_assert!(!Filter::service(&text).matches(&other));
    }
}

#[test]
fn every_word_of_the_documentation_can_be_read_and_every_field_is_in_it() {
    let page = include_str!("../../../../docs/filter.md");
    let rows = page.lines().filter(|line| line.starts_with("| "));
    // The words of the first table stand in its first column, those of the second in its last.
    let words = rows.filter_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let word = if cells.len() == 2 { cells.first() } else { cells.last() };
        word?.strip_prefix('`')?.strip_suffix('`')
    });
    let words: Vec<&str> = words.collect();
    assert!(words.len() > 20, "{words:?}");
    for word in words {
        assert!(word.parse::<Filter>().is_ok(), "{word}: {:?}", word.parse::<Filter>());
    }
    for field in super::parse::FIELDS.split(',') {
        let field = field.trim();
        let is_told = page.lines().any(|line| {
            line.starts_with("| ") && line.split(['|', ',']).any(|cell| cell.trim() == field)
        });
        assert!(is_told, "{field} is not in docs/filter.md");
    }
}
