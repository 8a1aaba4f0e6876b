//! How fast calls are kept and found: `cargo bench -p storage --bench store -- [CALLS]`.
//!
//! A day of calls of 30 services and 8 models is written in batches as a sender would send them,
//! each answered once it is on disk, in a temporary directory (`TMPDIR` says where). Then the
//! questions of the pages are asked, many times each, for moments that no bucket fits.
#![expect(clippy::print_stdout, reason = "the numbers are its output")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![expect(clippy::unwrap_used, reason = "a bench that fails has nothing to say")]

use contract::row::{Call, Money, Time};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use storage::{CallsQuery, Error, Filter, Span, Store};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;
/// A midnight.
const START: u64 = 20_780 * DAY;
/// Calls of a request: the batch size of OpenTelemetry's SDKs.
const BATCH: u64 = 512;

/// Numbers that look random and are the same every time (Knuth's MMIX).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }
}

fn main() {
    let calls = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let took = write(&store, calls).as_secs_f64();
    println!("{calls} calls in batches of {BATCH}: {:.0} calls/s, on disk", calls as f64 / took);
    drop(store);
    println!("{:.0} bytes a call, sums included", bytes(dir.path()) as f64 / calls as f64);
    let opened = Instant::now();
    let store = Store::open(dir.path()).unwrap();
    println!("opened again in {:.0} ms", opened.elapsed().as_secs_f64() * 1e3);
    println!("{:<36} {:>9} {:>9} {:>9}", "question", "p50 ms", "p95 ms", "max ms");
    overviews(&store);
    lists(&store);
}

fn write(store: &Store, calls: u64) -> Duration {
    let mut chance = Chance(1);
    let kept = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    for first in (0..calls).step_by(BATCH as usize) {
        let batch = first..calls.min(first + BATCH);
        let batch: Vec<Call> = batch.map(|number| call(number, calls, &mut chance)).collect();
        loop {
            let counter = Arc::clone(&kept);
            let done = move |outcome: Result<storage::Kept, Error>| {
                counter.fetch_add(outcome.unwrap().new.len() as u64, Ordering::SeqCst);
            };
            match store.submit(batch.clone(), done) {
                Err(Error::Busy) => std::thread::sleep(Duration::from_millis(5)),
                outcome => break outcome.unwrap(),
            }
        }
    }
    while kept.load(Ordering::SeqCst) < calls {
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed()
}

fn call(number: u64, calls: u64, chance: &mut Chance) -> Call {
    let service = chance.below(30);
    let model = chance.below(8);
    let stream = chance.below(3) > 0;
    let failed = chance.below(50) == 0;
    let duration = (300 + chance.below(700) * (1 + chance.below(20))) as f64 / 1e3;
    let (input, output) = (50 + chance.below(8000), 1 + chance.below(1000));
    Call {
        time: Time(START + number * (DAY / calls) + chance.below(SECOND)),
        trace_id: format!("{:016x}{:016x}", chance.0, number + 1),
        span_id: format!("{:016x}", number + 1),
        service_name: Some(format!("service-{service}")),
        workload_key: Some(format!("node-{}/systemd:service-{service}", service % 5)),
        platform: Some("systemd".into()),
        host_name: Some(format!("node-{}", service % 5)),
        process_pid: Some(1000 + service as u32),
        operation_name: Some("chat".into()),
        provider_name: Some(if model < 5 { "openai" } else { "anthropic" }.into()),
        request_model: Some(format!("model-{model}")),
        response_model: Some(format!("model-{model}-2026-08-06")),
        request_stream: stream.then_some(true),
        time_to_first_chunk: stream.then(|| duration / (2 + chance.below(9)) as f64),
        http_status: Some(if failed { 429 } else { 200 }),
        error_type: failed.then(|| "rate_limit_exceeded".into()),
        duration: Some(duration),
        input_tokens: (!failed).then_some(input),
        output_tokens: (!failed).then_some(output),
        cost: (!failed)
            .then(|| Money { pico_usd: u128::from(input * 2_500_000 + output * 10_000_000) }),
        finish_reasons: if failed { Vec::new() } else { vec!["stop".into()] },
        server_address: Some("api.example.com".into()),
        ..Call::default()
    }
}

fn bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

fn overviews(store: &Store) {
    let mut chance = Chance(2);
    let spans =
        [("30 minutes", HOUR / 2), ("1 hour", HOUR), ("6 hours", 6 * HOUR), ("24 hours", DAY)];
    for (name, length) in spans.into_iter().chain([("30 days", 30 * DAY)]) {
        for service in [None, Some("service-7")] {
            let name = format!("overview, {name}{}", service.map_or("", |_| ", one service"));
            ask(&name, 60, || {
                let to = Time(START + length.min(DAY) + chance.below(DAY - length.min(DAY) + HOUR));
                let from = Time(to.0 - length);
                let filter = service.map(Filter::service).unwrap_or_default();
                store.overview(&Span { from, to, filter, ..Span::default() }).unwrap()
            });
        }
    }
}

fn lists(store: &Store) {
    let mut chance = Chance(3);
    let mut list = |name: &str, query: &CallsQuery| {
        ask(&format!("list of 100, {name}"), 100, || {
            let to = Some(Time(START + HOUR + chance.below(DAY)));
            store.calls(&CallsQuery { limit: 100, to, ..query.clone() }).unwrap()
        });
    };
    let all = CallsQuery::default;
    list("newest before a moment", &all());
    let like = |text: &str| CallsQuery { filter: text.parse().unwrap(), ..all() };
    list("one service", &like("service:service-7"));
    list("one model", &like("model:model-3"));
    list("errors", &like("status:error"));
    let rare = like("service:service-7 model:model-3 status:error");
    list("errors of a service and model", &rare);
    ask("services' rates", 60, || store.services(Time(START + DAY)).unwrap());
}

/// Asks many times, after one that does not count.
fn ask<T>(name: &str, times: usize, mut question: impl FnMut() -> T) {
    black_box(question());
    let mut took: Vec<f64> = (0..times)
        .map(|_| {
            let start = Instant::now();
            black_box(question());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    let (p50, p95, most) = (took[times / 2], took[times * 95 / 100], took[times - 1]);
    println!("{name:<36} {p50:>9.1} {p95:>9.1} {most:>9.1}");
}
