//! How fast calls are kept and found:
//! `cargo bench -p storage --bench store -- [CALLS] [URL] [/DIRECTORY] [only=PART]`. With the URL of a
//! ClickHouse server they are kept there, in a database that is new. With a directory they stay
//! there, or in a database of the server, and are asked again the next time. With a part of a name,
//! such questions alone are asked.
//!
//! Calls of 30 services, 8 models and 6 agents, a third of them for one of a thousand users, are
//! written in batches as a sender would send them, each answered once it is on disk, in a temporary
//! directory (`TMPDIR` says where): first a million at the pace at which they are kept, as on a busy
//! machine, and then a day of calls, one after the other, as from a spool that was held up. Then the
//! questions of the pages are asked, many times each, for moments that no bucket fits; cold means
//! that neither the store nor the system's cache has anything of it. *Core* is the median of the
//! processor time of the thread that asks, which what else the machine does hardly changes.
#![expect(clippy::print_stdout, reason = "the numbers are its output")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![expect(clippy::unwrap_used, reason = "a bench that fails has nothing to say")]

use contract::row::{Call, Money, Time};
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use storage::{
    By, CallsIn, CallsQuery, ClickHouse, Error, Filter, Place, SeriesQuery, Span, Store, Weight,
};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;
/// A midnight.
const START: u64 = 20_780 * DAY;
/// Calls of a request: the batch size of OpenTelemetry's SDKs.
const BATCH: u64 = 512;
/// Calls a second of their own time, where they are kept as they come.
const PACE: u64 = 150_000;
/// Requests that are made before the first of them is sent, and then answered before more are made.
const TOGETHER: u64 = 40;

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
    let kept = std::env::args().skip(1).find(|word| word.starts_with('/'));
    let dir = kept.as_ref().map_or(dir.path(), Path::new);
    let is_full = std::fs::read_dir(dir).is_ok_and(|mut files| files.next().is_some());
    let mut place = Place::embedded(dir);
    if let Some(url) = std::env::args().find(|word| word.starts_with("http://")) {
        // A new one, or the one that belongs to the directory.
        let number = std::process::id().to_string();
        let database = format!("sonde_bench_{}", if kept.is_some() { "kept" } else { &number });
        let to = ClickHouse { database, watch_disks: false, ..ClickHouse::new(&url) };
        place.calls = CallsIn::ClickHouse(to);
    }
    if !is_full && matches!(place.calls, CallsIn::DataDir) {
        keep_as_they_come(calls.min(1_000_000));
    }
    if !is_full {
        fill(&place, calls);
    }
    let opened = Instant::now();
    let store = Store::open_with(&place).unwrap();
    println!("opened again in {:.0} ms", opened.elapsed().as_secs_f64() * 1e3);
    drop(store);
    let columns = ["question", "cold ms", "p50 ms", "p95 ms", "max ms", "core ms"];
    let [question, cold, p50, p95, most, core] = columns;
    println!("{question:<44} {cold:>8} {p50:>8} {p95:>8} {most:>8} {core:>8}");
    let only = std::env::args().find_map(|word| word.strip_prefix("only=").map(str::to_owned));
    let only = only.unwrap_or_default();
    let mut asking = Asking { place: &place, traces: Vec::new(), only };
    asking.traces();
    asking.overviews();
    asking.lists();
    asking.costs();
}

/// Keeps calls whose times are as close as those of calls that are made while they are kept. Nothing
/// else is done meanwhile: what is measured is the store, on one core.
fn keep_as_they_come(calls: u64) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut chance = Chance(1);
    let mut took = Duration::ZERO;
    for first in (0..calls).step_by((TOGETHER * BATCH) as usize) {
        let numbers = first..calls.min(first + TOGETHER * BATCH);
        let made: Vec<Call> =
            numbers.map(|number| call(number, SECOND / PACE, &mut chance)).collect();
        let batches: Vec<_> = made.chunks(BATCH as usize).map(<[Call]>::to_vec).collect();
        let start = Instant::now();
        let kept = kept_of(&store, batches);
        // What follows an answer is done before the next one.
        kept_of(&store, vec![Vec::new()]);
        took += start.elapsed();
        assert_eq!(kept, made.len());
    }
    let [by_clock, of_core] = [took.as_secs_f64(), writer_seconds()].map(|s| calls as f64 / s);
    println!(
        "{calls} calls as they come, {PACE} a second, in batches of {BATCH}, each answered when it is on disk"
    );
    println!(
        "kept: {by_clock:.0} calls/s by the clock, {of_core:.0} of a core, by the writer's own time"
    );
}

/// Sends all of them, and waits for the answers: how many calls were kept.
fn kept_of(store: &Store, batches: Vec<Vec<Call>>) -> usize {
    let (done, heard) = channel();
    for batch in batches {
        let done = done.clone();
        store.submit(batch, move |outcome| done.send(outcome).unwrap()).unwrap();
    }
    drop(done);
    heard.iter().map(|outcome| outcome.unwrap().new.len()).sum()
}

fn fill(place: &Place, calls: u64) {
    let store = Store::open_with(place).unwrap();
    let took = write(&store, calls).as_secs_f64();
    let core = writer_seconds();
    println!(
        "{calls} calls of a whole day, in batches of {BATCH}, each answered when it is on disk"
    );
    println!("kept: {:.0} calls/s, this bench's own work on the same cores", calls as f64 / took);
    println!("kept: {:.0} calls/s of a core, by the writer's own time", calls as f64 / core);
    let size = if matches!(place.calls, CallsIn::DataDir) {
        drop(store);
        bytes(&place.data_dir)
    } else {
        store.bytes()
    };
    println!("on disk: {:.0} bytes a call, sums included", size as f64 / calls as f64);
}

/// Seconds that the thread of the writer ran, on any core.
fn writer_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stat = tasks.filter_map(|task| {
        let path = task.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        (name.trim() == "store-writer").then(|| std::fs::read_to_string(path.join("stat")).unwrap())
    });
    let stat = stat.last().unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Ticks of user and system, fields 14 and 15 of proc(5); a hundred a second on Linux.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn write(store: &Store, calls: u64) -> Duration {
    let mut chance = Chance(1);
    // As the dashboard does: what was kept goes back to whoever sent it, and is let go there.
    let (done, heard) = channel();
    let kept_in = |outcome: Result<storage::Kept, Error>| outcome.unwrap().new.len() as u64;
    let mut kept = 0;
    let start = Instant::now();
    for first in (0..calls).step_by(BATCH as usize) {
        let batch = first..calls.min(first + BATCH);
        let batch: Vec<Call> = batch.map(|number| call(number, DAY / calls, &mut chance)).collect();
        loop {
            let done = done.clone();
            match store.submit(batch.clone(), move |outcome| done.send(outcome).unwrap()) {
                Err(Error::Busy) => kept += heard.recv().map(kept_in).unwrap(),
                outcome => break outcome.unwrap(),
            }
        }
        kept += heard.try_iter().map(kept_in).sum::<u64>();
    }
    while kept < calls {
        kept += heard.recv().map(kept_in).unwrap();
    }
    start.elapsed()
}

/// A call, so many nanoseconds after the one before.
fn call(number: u64, apart: u64, chance: &mut Chance) -> Call {
    let service = chance.below(30);
    let model = chance.below(8);
    let stream = chance.below(3) > 0;
    let failed = chance.below(50) == 0;
    let duration = (300 + chance.below(700) * (1 + chance.below(20))) as f64 / 1e3;
    let user = (chance.below(3) == 0).then(|| chance.below(1000));
    let (input, output) = (50 + chance.below(8000), 1 + chance.below(1000));
    Call {
        time: Time(START + number * apart + chance.below(SECOND)),
        trace_id: format!("{:016x}{:016x}", mixed(2 * number), mixed(2 * number + 1)),
        span_id: format!("{:016x}", mixed(number ^ (1 << 60))),
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
        server_port: Some(443),
        response_id: (!failed).then(|| format!("chatcmpl-{:016x}", mixed(number ^ (1 << 61)))),
        price_table: Some("2026-11-20".into()),
        recognised_by: Some("host".into()),
        request_body_size: Some(input * 4),
        response_body_size: (!failed).then_some(output * 90),
        more: [
            ("service.namespace", Some("shop".to_owned())),
            ("deployment.environment.name", Some("production".to_owned())),
            ("gen_ai.agent.name", Some(format!("agent-{}", service % 6))),
            ("user.id", user.map(|user| format!("user-{user}"))),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.into())))
        .collect(),
        ..Call::default()
    }
}

/// Ids as random as real ones (the finaliser of `SplitMix64`).
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

fn bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

struct Asking<'a> {
    place: &'a Place,
    traces: Vec<String>,
    /// Part of the names of what is asked.
    only: String,
}

impl Asking<'_> {
    /// The store, of which the system has nothing in its cache.
    fn cold(&self) -> Store {
        let store = Store::open_with(self.place).unwrap();
        for file in std::fs::read_dir(&self.place.data_dir).unwrap() {
            let path = file.unwrap().path();
            // What `dd` offers beyond copying: to make the system forget a file.
            let input = format!("if={}", path.display());
            let forget = ["iflag=nocache", "count=0", "status=none"];
            Command::new("dd").arg(input).args(forget).status().unwrap();
        }
        store
    }

    /// Asks once cold, then many times.
    fn ask<T>(&self, name: &str, times: usize, mut question: impl FnMut(&Store) -> T) {
        if !name.contains(&self.only) {
            return;
        }
        let store = self.cold();
        let mut ask = || {
            let (start, core) = (Instant::now(), thread_time());
            black_box(question(&store));
            (start.elapsed().as_secs_f64() * 1e3, (thread_time() - core).as_secs_f64() * 1e3)
        };
        let (cold, _) = ask();
        let (mut took, mut core): (Vec<f64>, Vec<f64>) = (0..times).map(|_| ask()).unzip();
        took.sort_by(f64::total_cmp);
        core.sort_by(f64::total_cmp);
        let (p50, p95, most) = (took[times / 2], took[times * 95 / 100], took[times - 1]);
        let core = core[times / 2];
        println!("{name:<44} {cold:>8.1} {p50:>8.1} {p95:>8.1} {most:>8.1} {core:>8.1}");
    }

    fn traces(&mut self) {
        let store = Store::open_with(self.place).unwrap();
        let to = Some(Time(START + DAY / 3));
        let page = store.calls(&CallsQuery { limit: 60, to, ..CallsQuery::default() }).unwrap();
        drop(store);
        self.traces = page.calls.into_iter().map(|call| call.trace_id).collect();
        let mut traces = self.traces.iter().cycle();
        self.ask("trace", 50, |store| store.trace(traces.next().unwrap()).unwrap());
    }

    fn overviews(&self) {
        let mut chance = Chance(2);
        let spans =
            [("30 minutes", HOUR / 2), ("1 hour", HOUR), ("6 hours", 6 * HOUR), ("24 hours", DAY)];
        for (name, length) in spans.into_iter().chain([("30 days", 30 * DAY)]) {
            for service in [None, Some("service-7")] {
                let name = format!("overview, {name}{}", service.map_or("", |_| ", one service"));
                self.ask(&name, 40, |store| {
                    let most = DAY - length.min(DAY) + HOUR;
                    let to = Time(START + length.min(DAY) + chance.below(most));
                    let from = Time(to.0 - length);
                    let filter = service.map(Filter::service).unwrap_or_default();
                    store.overview(&Span { from, to, filter, ..Span::default() }).unwrap()
                });
            }
        }
    }

    fn lists(&self) {
        let mut chance = Chance(3);
        for (name, filter) in [
            ("newest before a moment", ""),
            ("one service", "service:service-7"),
            ("one model", "model:model-3"),
            ("errors", "status:error"),
            ("errors of a service and model", "service:service-7 model:model-3 status:error"),
            ("slow and dear", "duration:>13s cost:>0.025"),
            ("free text", "\"model-5-2026\""),
        ] {
            let filter: Filter = filter.parse().unwrap();
            self.ask(&format!("list of 100, {name}"), 60, |store| {
                let to = Some(Time(START + HOUR + chance.below(DAY)));
                let query =
                    CallsQuery { limit: 100, to, filter: filter.clone(), ..CallsQuery::default() };
                store.calls(&query).unwrap()
            });
        }
        self.ask("services' rates", 40, |store| store.services(Time(START + DAY)).unwrap());
    }

    fn costs(&self) {
        let mut chance = Chance(4);
        let all = [By::Model, By::Service, By::Host, By::Environment, By::User, By::Agent];
        let all = all.map(|by| (by, ""));
        for (by, filter) in all.into_iter().chain([(By::Environment, "duration:>5s")]) {
            let filter: Filter = filter.parse().unwrap();
            let name = format!(
                "cost by {} of 24 hours{}",
                by.word(),
                if filter == Filter::default() { "" } else { ", of some calls" }
            );
            self.ask(&name, 20, |store| {
                let to = Time(START + DAY + chance.below(HOUR));
                let from = Time(to.0 - DAY);
                let span = Span { from, to, filter: filter.clone(), ..Span::default() };
                let weight = Weight::Cost;
                let by = Some(by);
                let query = SeriesQuery { span, by, weight, percentiles: false, durations: false };
                store.series(&query).unwrap()
            });
        }
    }
}
