//! The layout against the type information in the compiled objects, and strange records.

use libbpf_rs::HasSize;
use libbpf_rs::btf::{Btf, types};

use super::*;

static TLS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tls.bpf.o"));
static PROCESS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/process.bpf.o"));
static OPENING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/opening.bpf.o"));
static ANSWER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/answer.bpf.o"));

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

/// Every member is expected, in the order of the C struct, but what only fills it up.
fn check(object: &[u8], name: &str, expected: &[(&str, usize)], size: usize) {
    let (mut members, actual_size) = layout(object, name);
    members.retain(|(member, _)| member != "unused");
    let members: Vec<_> = members.iter().map(|(name, at)| (name.as_str(), *at)).collect();
    assert_eq!(members, expected, "{name}");
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
        &[("at", process::AT), ("caller", process::CALLER), ("kind", process::KIND)],
        process::SIZE,
    );
    check(
        PROCESS,
        "program",
        &[
            ("arguments_len", program::ARGUMENTS_LEN),
            ("cgroup_len", program::CGROUP_LEN),
            ("file", program::FILE),
            ("cgroup", program::CGROUP),
            ("arguments", program::ARGUMENTS),
        ],
        program::SIZE,
    );
}

#[test]
fn the_layout_of_what_is_seen_of_every_process_is_that_of_the_c_header() {
    check(
        OPENING,
        "caller",
        &[
            ("start_time", caller::START_TIME),
            ("parent_start_time", caller::PARENT_START_TIME),
            ("pid", caller::PID),
            ("parent_pid", caller::PARENT_PID),
            ("user", caller::USER),
            ("name", caller::NAME),
        ],
        caller::SIZE,
    );
    check(
        OPENING,
        "opening_record",
        &[
            ("at", opening::AT),
            ("socket", opening::SOCKET),
            ("caller", opening::CALLER),
            ("kind", opening::KIND),
            ("offset", opening::OFFSET),
            ("len", opening::LEN),
            ("family", opening::FAMILY),
            ("port", opening::PORT),
            ("address", opening::ADDRESS),
        ],
        opening::SIZE,
    );
    check(
        ANSWER,
        "answer_record",
        &[("at", answer::AT), ("caller", answer::CALLER), ("len", answer::LEN)],
        answer::SIZE,
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
}

#[test]
fn a_short_record_of_a_process_is_refused() {
    let mut record = vec![0; process::SIZE];
    record[process::KIND] = 1;
    record[process::CALLER + caller::PID] = 7;
    for len in 0..record.len() {
        // The last four bytes mean nothing.
        assert_eq!(Process::read(&record[..len]).is_some(), len >= process::SIZE - 4, "{len}");
    }
    assert_eq!(Process::read(&record).unwrap().process.pid, 7);
    record[process::KIND] = 2;
    record.resize(process::SIZE + program::ARGUMENTS, 0);
    record[process::SIZE + program::ARGUMENTS_LEN] = 4;
    record.extend(b"a\0b\0");
    let names = process::SIZE + program::CGROUP;
    record[names..names + 12].copy_from_slice(b"a.service\0s\0");
    record[process::SIZE + program::CGROUP_LEN] = 12;
    for len in 0..record.len() {
        assert_eq!(Process::read(&record[..len]), None, "{len}");
    }
    let program = Process::read(&record).unwrap().program.unwrap();
    assert_eq!((program.arguments.as_bytes(), &*program.cgroup), (&b"a\0b\0"[..], "/s/a.service"));
}

#[test]
fn short_and_strange_openings_and_answers_are_refused() {
    let mut record = vec![0; opening::SIZE];
    record[opening::KIND] = 1;
    record[opening::FAMILY] = 6;
    record[opening::LEN] = 3;
    record[opening::ADDRESS + 10..opening::ADDRESS + 16].copy_from_slice(&[255, 255, 192, 0, 2, 1]);
    record.extend(b"abc");
    for len in 0..record.len() {
        assert_eq!(Opening::read(&record[..len]), None, "{len}");
    }
    let read = Opening::read(&record).unwrap();
    assert_eq!(read.peer.to_string(), "192.0.2.1:0", "IPv4 in IPv6 is IPv4");
    assert_eq!(read.caller.process, None);
    for (at, byte) in [(opening::KIND, 4), (opening::FAMILY, 5), (opening::LEN, 4)] {
        let mut bad = record.clone();
        bad[at] = byte;
        assert_eq!(Opening::read(&bad), None, "{at}");
    }
    let mut record = vec![0; answer::SIZE];
    record[answer::LEN] = 3;
    record.extend(b"abc");
    for len in 0..record.len() {
        assert_eq!(Answer::read(&record[..len]), None, "{len}");
    }
    assert_eq!(Answer::read(&record).unwrap().message.as_bytes(), b"abc");
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
