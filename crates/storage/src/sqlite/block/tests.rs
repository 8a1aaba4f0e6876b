//! A call becomes a row of a block, and a row a call.

use super::{Block, Column, Name, Number, Rows, START};
use contract::row::{Call, Money, Time};
use std::collections::BTreeMap;

fn calls() -> Vec<Call> {
    let plain = |number: u64| Call {
        time: Time(1_700_000_000_000_000_000 + number),
        trace_id: format!("{number:032x}"),
        span_id: format!("{:016x}", number + 1),
        ..Call::default()
    };
    let full = |number: u64| Call {
        parent_span_id: Some(if number.is_multiple_of(2) { "ab".repeat(8) } else { "odd".into() }),
        service_name: Some(format!("s{}", number % 3)),
        workload_key: Some("h/x".into()),
        platform: Some("systemd".into()),
        host_name: Some("h".into()),
        process_pid: Some(number as u32),
        operation_name: Some("embeddings".into()),
        provider_name: Some("openai".into()),
        request_model: Some("a".into()),
        response_model: Some("b".into()),
        request_stream: Some(number.is_multiple_of(2)),
        request_max_tokens: Some(0),
        request_temperature: Some(0.1),
        request_top_p: Some(0.95),
        request_choice_count: Some(2),
        response_id: Some(format!("id-{number}")),
        finish_reasons: vec!["stop".into(), "length".into()],
        time_to_first_chunk: Some(0.25),
        time_to_first_token: Some(0.5),
        input_tokens: Some(number),
        output_tokens: Some(0),
        cache_read_tokens: Some(1),
        cache_write_tokens: Some(2),
        reasoning_tokens: Some(3),
        conversation_id: Some("c\u{1f}d".into()),
        tool_calls: vec!["one".into(), "two, three".into()],
        server_address: Some("x".into()),
        server_port: Some(443),
        http_status: Some(500),
        error_type: Some("429".into()),
        duration: Some(1.5),
        cost: Some(Money { pico_usd: 7 }),
        price_table: Some("p".into()),
        retry_after: Some(2.0),
        resend_count: Some(1),
        chunk_count: Some(9),
        recognised_by: Some("host".into()),
        incomplete: Some("gap".into()),
        request_body_size: Some(10),
        response_body_size: Some(20),
        recorded: Some(true),
        more: BTreeMap::from([("k".to_owned(), "v".into()), ("n".to_owned(), 4.into())]),
        ..plain(number)
    };
    (1..40).map(|number| if number % 5 == 0 { plain(number) } else { full(number) }).collect()
}

fn block(calls: &[Call]) -> (Block, Vec<String>) {
    let mut texts: Vec<String> = Vec::new();
    let id = |call: &Call| {
        let trace = crate::units::trace_id(&call.trace_id).unwrap();
        (trace, crate::units::span_id(&call.span_id).unwrap())
    };
    let calls: Vec<_> = calls.iter().map(|call| (id(call), call)).collect();
    let block = Block::of(&calls, |text| {
        let at = texts.iter().position(|known| known == text).unwrap_or_else(|| {
            texts.push(text.to_owned());
            texts.len() - 1
        });
        Ok::<_, ()>(at as u64)
    });
    (block.unwrap(), texts)
}

#[test]
fn every_call_survives_its_columns() {
    let calls = calls();
    let (block, texts) = block(&calls);
    let read = Block::from_bytes(&block.to_bytes(), Rows::all(block.len()), None).unwrap();
    for (row, call) in calls.into_iter().enumerate() {
        let found = read.call(row, |name| texts.get(name as usize).cloned());
        assert_eq!(found, Call { id: crate::units::id_of(&call), ..call });
    }
    assert_eq!(read.extent(), block.extent());
}

#[test]
fn rows_that_are_not_wanted_are_not_read() {
    let calls = calls();
    let (block, texts) = block(&calls);
    let only = [1, calls.len() - 1];
    let rows = Rows { of: block.len(), only: Some(&only) };
    let read = Block::from_bytes(&block.to_bytes(), rows, None).unwrap();
    assert_eq!(read.len(), 2);
    for (at, row) in only.into_iter().enumerate() {
        let name = |name: u64| texts.get(name as usize).cloned();
        assert_eq!(read.call(at, name), block.call(row, name));
    }
}

#[test]
fn columns_that_are_not_wanted_are_not_read() {
    let (block, _) = block(&calls());
    let wanted: &[Column] = &[START, Number::Input.column()];
    let read = Block::from_bytes(&block.to_bytes(), Rows::all(block.len()), Some(wanted)).unwrap();
    assert_eq!(read.start, block.start);
    assert_eq!(read.known(Number::Input, 0), Some(1));
    assert_eq!(read.known(Number::Output, 0), None);
    assert_eq!(read.name(Name::Service, 0), u64::MAX);
}

#[test]
fn bytes_that_were_cut_are_nothing() {
    let (block, _) = block(&calls());
    let bytes = block.to_bytes();
    for len in 0..bytes.len() {
        // A cut between two columns cannot be told: the file's own checks are for that.
        let _any = Block::from_bytes(&bytes[..len], Rows::all(block.len()), None);
    }
    assert_eq!(Block::from_bytes(&bytes[..bytes.len() - 1], Rows::all(block.len()), None), None);
    assert_eq!(Block::from_bytes(&bytes, Rows::all(block.len() + 1), None), None);
}
