//! The layout against the type information in the compiled objects, and strange records.

use libbpf_rs::HasSize;
use libbpf_rs::btf::{Btf, types};

use super::*;

static TLS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tls.bpf.o"));
static PROCESS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/process.bpf.o"));
static HELLO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello.bpf.o"));

/// Offset of each member of a C struct, and its size, as clang laid it out.
fn layout(object: &[u8], name: &str) -> (Vec<(String, usize)>, usize) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, object).unwrap();
    let btf = Btf::from_path(file.path()).unwrap();
    let of_c = btf.type_by_name::<types::Struct<'_>>(name).unwrap();
    let members = of_c
        .iter()
        .map(|member| {
            let types::MemberAttr::Normal { offset } = member.attr else { panic!("a bit field") };
            let name = member.name.unwrap().to_string_lossy().into_owned();
            (name, usize::try_from(offset).unwrap() / 8)
        })
        .collect();
    (members, of_c.size())
}

fn check(object: &[u8], name: &str, expected: &[(&str, usize)], size: usize) {
    let (members, actual_size) = layout(object, name);
    for (member, offset) in expected {
        let found = members.iter().find(|(name, _)| name == member);
        assert_eq!(found.map(|(_, offset)| *offset), Some(*offset), "{name}.{member}");
    }
    assert_eq!(actual_size, size, "{name}");
}

#[test]
fn the_layout_is_that_of_the_c_header() {
    check(
        TLS,
        "tls_record",
        &[
            ("kind", tls::KIND),
            ("watch", tls::WATCH),
            ("at", tls::AT),
            ("object", tls::OBJECT),
            ("generation", tls::GENERATION),
            ("offset", tls::OFFSET),
            ("len", tls::LEN),
            ("direction", tls::DIRECTION),
        ],
        tls::SIZE,
    );
    check(
        PROCESS,
        "process_record",
        &[
            ("kind", process::KIND),
            ("pid", process::PID),
            ("at", process::AT),
            ("start_time", process::START_TIME),
            ("parent_start_time", process::PARENT_START_TIME),
            ("parent_pid", process::PARENT_PID),
        ],
        40,
    );
    check(
        HELLO,
        "hello_record",
        &[
            ("at", hello::AT),
            ("socket", hello::SOCKET),
            ("start_time", hello::START_TIME),
            ("pid", hello::PID),
            ("offset", hello::OFFSET),
            ("len", hello::LEN),
            ("family", hello::FAMILY),
            ("port", hello::PORT),
            ("address", hello::ADDRESS),
        ],
        hello::SIZE,
    );
}

#[test]
fn a_short_record_is_refused() {
    let mut whole = vec![0; tls::SIZE];
    whole[tls::KIND] = 1;
    whole[tls::LEN] = 4;
    whole.extend(b"data and room");
    let record = Tls::read(&whole).unwrap();
    assert_eq!(
        record.kind,
        TlsKind::Data { direction: Direction::Sent, offset: 0, bytes: b"data".as_slice().into() }
    );
    for len in 0..tls::SIZE + 4 {
        assert_eq!(Tls::read(&whole[..len]), None, "{len}");
    }
    for len in 0..40 {
        assert_eq!(Process::read(&whole[..len]).is_some(), len >= 36, "{len}");
        assert_eq!(HelloPiece::read(&whole[..len]), None, "{len}");
    }
}

#[test]
fn an_unknown_kind_is_refused() {
    let mut record = vec![0; 100];
    assert_eq!(Tls::read(&record), None);
    assert_eq!(Process::read(&record), None);
    record[tls::KIND] = 9;
    assert_eq!(Tls::read(&record), None);
    assert_eq!(Process::read(&record), None);
}
