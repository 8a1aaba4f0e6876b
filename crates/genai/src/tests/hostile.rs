//! Whatever comes: no panic, bounded memory, no difference by how it was cut.

use proptest::prelude::*;
use wire::transcript::{Record, parse};
use wire::{Chunk, Direction, Moment};

use super::{answer, fixtures, request};
use crate::{Connection, Hints, ModelCall};

fn hints() -> Hints {
    Hints {
        server_name: Some("api.openai.com".to_owned()),
        server_port: Some(443),
        ..Hints::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn damaged_recordings_give_the_same_calls_however_they_are_split(
        file in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        lost in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(1..90usize, 1..20),
    ) {
        let paths = fixtures();
        let text = std::fs::read_to_string(file.get(&paths)).unwrap();
        // How much comes out of a broken coded body before that shows is the decoder's affair.
        prop_assume!(!text.contains("Content-Encoding"));
        let mut records = parse(&text).unwrap().records;
        let lost = lost.index(records.len());
        for (place, byte) in damage {
            let place = place.index(records.len());
            if let Record::Chunk { bytes, .. } = &mut records[place] {
                let middle = bytes.len() / 2;
                bytes[middle] = byte;
            }
        }
        let (mut whole, mut split) = (Connection::new(hints()), Connection::new(hints()));
        let (mut first, mut second): (Vec<ModelCall>, Vec<ModelCall>) = (Vec::new(), Vec::new());
        for (index, record) in records.iter().enumerate() {
            let Record::Chunk { at, direction, bytes, .. } = record else { continue };
            if index == lost {
                let gap = Chunk::Gap(bytes.len() as u64);
                first.extend(whole.feed(*at, *direction, gap));
                second.extend(split.feed(*at, *direction, gap));
                continue;
            }
            first.extend(whole.feed(*at, *direction, Chunk::Bytes(bytes)));
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (front, back) = rest.split_at(rest.len().min(*cut));
                second.extend(split.feed(*at, *direction, Chunk::Bytes(front)));
                rest = back;
                if rest.is_empty() {
                    break;
                }
            }
        }
        first.extend(whole.close(Moment(u64::MAX)));
        second.extend(split.close(Moment(u64::MAX)));
        prop_assert_eq!(first, second);
    }

    #[test]
    fn any_json_is_scanned_as_a_real_parser_reads_it(model in any::<String>(), before in json(3), after in json(3)) {
        let question = serde_json::json!({"a": before, "messages": [], "model": model, "z": after});
        let written = serde_json::to_vec(&question).unwrap();
        let call = super::call("/v1/chat/completions", "api.openai.com", &written, &answer(200, "", b"{}"));
        let clean: String = model.chars().filter(|each| !each.is_control()).collect();
        prop_assume!(model.len() < 200);
        prop_assert_eq!(call.request_model.unwrap_or_default(), clean.trim());
    }

    #[test]
    fn garbage_is_no_call(chunks in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..200), 0..40u64), 0..20)) {
        let mut connection = Connection::new(hints());
        for (sent, bytes, gap) in chunks {
            let direction = if sent { Direction::Sent } else { Direction::Received };
            prop_assert_eq!(connection.feed(Moment(1), direction, Chunk::Bytes(&bytes)), []);
            prop_assert_eq!(connection.feed(Moment(1), direction, Chunk::Gap(gap)), []);
        }
        prop_assert_eq!(connection.close(Moment(2)), []);
    }

    #[test]
    fn garbage_bodies_are_read_or_left(question in prop::collection::vec(any::<u8>(), 0..300), reply in "[\\[\\]{}\":,a-z0-9\\\\ \n-]{0,300}", stream in any::<bool>()) {
        let mut connection = Connection::new(hints());
        connection.feed(Moment(1), Direction::Sent, Chunk::Bytes(&request("/v1/chat/completions", "api.openai.com", &question)));
        let headers = if stream { "Content-Type: text/event-stream\r\n" } else { "" };
        let calls = connection.feed(Moment(2), Direction::Received, Chunk::Bytes(&answer(200, headers, reply.as_bytes())));
        prop_assert_eq!(calls.len(), 1);
    }
}

fn json(depth: u32) -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<Option<bool>>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(depth, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(serde_json::Value::from_iter),
        ]
    })
}
