//! A dashboard with made-up calls and services, to work on the page:
//! `cargo run -p dashboard --example seed -- [PORT] [DATA_DIR]`.
//!
//! It prints a login link, then adds a call now and then until it is interrupted. Everything goes
//! in by the ways that a controller uses: the poll and OTLP.
#![expect(clippy::print_stdout, reason = "the link has to be shown somewhere")]

use contract::attribute;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const SECOND: u64 = 1_000_000_000;

/// Provider, model asked for, model answered, price of a token in 10⁻¹² USD (in, out).
const MODELS: [(&str, &str, &str, u64, u64); 4] = [
    ("openai", "gpt-4o", "gpt-4o-2024-08-06", 2_500_000, 10_000_000),
    ("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18", 150_000, 600_000),
    ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929", 3_000_000, 15_000_000),
    ("ollama", "llama3.2:3b", "llama3.2:3b", 0, 0),
];

#[expect(clippy::type_complexity, reason = "a table, read from left to right")]
/// Name, place, runtime, models used, level and state.
const SERVICES: [(&str, &str, &str, &[usize], &str, &str); 6] = [
    ("support-agent", "systemd:support-agent.service", "cpython", &[0, 2], "network", "capturing"),
    ("summariser", "process:9f3c1a", "cpython", &[1], "network", "capturing"),
    ("checkout", "docker:shop/checkout", "nodejs", &[0, 1], "network", "partly"),
    ("notebook", "process:77ab02", "cpython", &[3], "network", "failed"),
    ("crawler", "kubernetes:data/crawler/main", "cpython", &[2], "off", "discovered"),
    ("legacy-bot", "process:00ff00", "", &[0], "off", "unsupported"),
];

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().map_or(Ok(8765), |port| port.parse())?;
    let dir = arguments.next().map_or_else(
        || std::env::temp_dir().join(format!("sonde-seed-{port}")),
        std::path::PathBuf::from,
    );
    let config = dashboard::Config::new(&dir, ([127, 0, 0, 1], port).into());
    let dashboard = dashboard::Dashboard::start(config)?;
    let link =
        Link { port: dashboard.address().port(), token: dashboard.controller_token().into() };
    let mut levels: BTreeMap<String, Value> = BTreeMap::new();
    link.post("/api/v1/poll", &report(now()?, &levels))?;
    for (_, place, _, _, level, _) in SERVICES.iter().filter(|service| service.4 != "off") {
        want(&dir, place, level)?;
    }
    let mut chance = Chance(now()?);
    let end = now()?;
    for hour in 0..24 {
        let spans = (0..60).map(|_| {
            let start = end - (hour * 3600 + chance.below(3600)) * SECOND;
            span(&mut chance, start)
        });
        link.post("/v1/traces", &traces(spans.collect()))?;
    }
    println!("data in  {}", dir.display());
    println!("log in   {}", dashboard.login_link());
    println!("again    {}", dashboard.login_link());
    loop {
        std::thread::sleep(Duration::from_millis(800 + chance.below(2500)));
        let spans = vec![span(&mut chance, now()? - 2 * SECOND)];
        link.post("/v1/traces", &traces(spans))?;
        // What is wished on the page is in effect with the next report, as with a controller.
        let wish: Value =
            serde_json::from_str(&link.post("/api/v1/poll", &report(now()?, &levels))?)?;
        for desired in wish["desired"].as_array().into_iter().flatten() {
            let key = desired["key"].as_str().unwrap_or_default();
            levels.insert(key.to_owned(), desired["level"].clone());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "an example has no loop above it to ask")]
fn now() -> Outcome<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

/// Numbers that look like chance: xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A service and its span.
fn span(chance: &mut Chance, start: u64) -> (usize, Value) {
    let service = usize::try_from(chance.below(4)).unwrap_or(0);
    let models = SERVICES[service].3;
    let (provider, asked, answered, price_in, price_out) =
        MODELS[models[usize::try_from(chance.below(8)).unwrap_or(0) % models.len()]];
    let (input, output) = (200 + chance.below(9000), 20 + chance.below(900));
    let stream = chance.below(3) > 0;
    let fate = chance.below(100);
    let first = 180 + chance.below(900);
    let nanos = (first + output * (8 + chance.below(14))) * 1_000_000;
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let whole =
        |key: &str, value: u64| json!({ "key": key, "value": { "intValue": value.to_string() } });
    let mut attributes = vec![
        text(attribute::OPERATION_NAME, "chat"),
        text(attribute::PROVIDER_NAME, provider),
        text(attribute::REQUEST_MODEL, asked),
        text(attribute::RECOGNISED_BY, if provider == "ollama" { "shape" } else { "host" }),
        whole(attribute::REQUEST_BODY_SIZE, input * 4),
    ];
    if stream {
        attributes
            .push(json!({ "key": attribute::REQUEST_STREAM, "value": { "boolValue": true } }));
    }
    let mut duration = nanos;
    if fate < 3 {
        duration = 90_000_000;
        attributes.push(whole(attribute::HTTP_STATUS, 429));
        attributes.push(text(attribute::ERROR_TYPE, "rate_limit_exceeded"));
        attributes.push(json!({ "key": attribute::RETRY_AFTER, "value": { "doubleValue": 7.0 } }));
    } else if fate < 5 {
        attributes.push(whole(attribute::HTTP_STATUS, 500));
        attributes.push(text(attribute::ERROR_TYPE, "server_error"));
    } else {
        attributes.extend([
            whole(attribute::HTTP_STATUS, 200),
            text(attribute::RESPONSE_MODEL, answered),
            text(attribute::RESPONSE_ID, &format!("chatcmpl-{:x}", chance.below(u64::MAX))),
            whole(attribute::INPUT_TOKENS, input),
            whole(attribute::OUTPUT_TOKENS, output),
            whole(attribute::CACHE_READ_TOKENS, input / (2 + chance.below(6))),
            whole(attribute::RESPONSE_BODY_SIZE, output * 5),
            json!({ "key": attribute::FINISH_REASONS,
                "value": { "arrayValue": { "values": [{ "stringValue": "stop" }] } } }),
        ]);
        if price_in > 0 {
            let cost =
                contract::row::Money { pico_usd: (input * price_in + output * price_out).into() };
            attributes.push(text(attribute::COST, &cost.to_string()));
        }
        if stream {
            let seconds = json!({ "doubleValue": first as f64 / 1000.0 });
            attributes.push(json!({ "key": attribute::TIME_TO_FIRST_CHUNK, "value": seconds }));
            attributes.push(whole(attribute::CHUNK_COUNT, output));
        }
        if fate < 20 {
            attributes.push(json!({ "key": attribute::TOOL_CALLS,
                "value": { "arrayValue": { "values": [{ "stringValue": "search" }] } } }));
        }
    }
    let span = json!({
        "traceId": format!("{:016x}{:016x}", chance.below(u64::MAX), chance.below(u64::MAX)),
        "spanId": format!("{:016x}", chance.below(u64::MAX)),
        "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + duration).to_string(),
        "attributes": attributes,
    });
    (service, span)
}

fn traces(spans: Vec<(usize, Value)>) -> Value {
    let one = |(service, span): (usize, Value)| {
        let (name, place, ..) = SERVICES[service];
        let pid = 4000 + service;
        json!({
            "resource": { "attributes": [
                { "key": attribute::SERVICE_NAME, "value": { "stringValue": name } },
                { "key": attribute::WORKLOAD_KEY, "value": { "stringValue": format!("host-seed/{place}") } },
                { "key": attribute::HOST_NAME, "value": { "stringValue": "seed" } },
                { "key": attribute::PROCESS_PID, "value": { "intValue": pid.to_string() } },
            ]},
            "scopeSpans": [{ "spans": [span] }],
        })
    };
    json!({ "resourceSpans": spans.into_iter().map(one).collect::<Vec<_>>() })
}

fn report(now: u64, levels: &BTreeMap<String, Value>) -> Value {
    let workloads = SERVICES.iter().enumerate().map(|(index, service)| {
        let (name, place, runtime, models, level, state) = service;
        let key = format!("host-seed/{place}");
        let level = levels.get(&key).map_or_else(|| json!(level), Value::clone);
        let state = match (*state, level == "off") {
            ("capturing" | "partly" | "failed", true) => "discovered",
            ("discovered", false) => "capturing",
            (state, _) => state,
        };
        let level = if matches!(state, "failed" | "unsupported") { json!("off") } else { level };
        let reason = match state {
            "capturing" => "every instance is captured",
            "partly" => "1 of 2 instances has a TLS library without symbols; install its debug package",
            "failed" => "the probe was refused (EPERM); `sonde doctor` says what to grant, next try in 30 s",
            "unsupported" => "no known TLS library is mapped; statically linked programs come later",
            _ => "seen talking to a model; switch it to network to see its calls",
        };
        let evidence = models.iter().map(|model| json!({
            "provider": MODELS[*model].0, "by": "sni",
            "seen": format!("api.{}.com", MODELS[*model].0), "last_seen_unix_nanos": now,
        }));
        let instance = json!({
            "pid": 4000 + index, "started_unix_nanos": now - 7200 * SECOND,
            "executable": "/usr/bin/python3", "arguments": ["python3", format!("{name}.py"), "--api-key", "***"],
            "user": "app", "tls": "libssl 3.0.17",
            "runtime": (!runtime.is_empty()).then(|| json!({ "name": runtime, "version": "3.11" })),
        });
        json!({
            "key": key, "name": name,
            "platform": place.split(':').next(), "instances": [instance],
            "evidence": evidence.collect::<Vec<_>>(), "level": level, "state": state, "reason": reason,
            "first_seen_unix_nanos": now - 7200 * SECOND, "last_seen_unix_nanos": now,
        })
    });
    json!({
        "protocol": 1, "generation": 0,
        "instance": { "id": "host-seed", "host_name": "seed", "version": "0.1.0", "kernel": "6.1.0",
            "started_unix_nanos": now - 7200 * SECOND },
        "workloads": workloads.collect::<Vec<_>>(),
        "doctor": [
            { "name": "btf", "standing": "good", "found": "/sys/kernel/btf/vmlinux" },
            { "name": "uprobe_multi", "standing": "limited", "found": "kernel 6.1 has none",
              "remedy": "attaching takes longer; a kernel from 6.6 on has it" },
        ],
        "lost": { "ring_full": 12 },
    })
}

/// The smallest HTTP client that will do.
struct Link {
    port: u16,
    token: String,
}

impl Link {
    fn post(&self, path: &str, body: &Value) -> Outcome<String> {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.token,
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        body_of(stream)
    }
}

/// Wants a level, as the command line does.
fn want(dir: &Path, place: &str, level: &str) -> Outcome<String> {
    let key = format!("host-seed/{place}").replace('/', "%2F");
    let body = json!({ "level": level }).to_string();
    let mut stream = UnixStream::connect(dir.join("sonde.sock"))?;
    let request = format!(
        "PUT /api/v1/services/{key}/capture HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    body_of(stream)
}

fn body_of(mut stream: impl Read) -> Outcome<String> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(format!("refused: {answer}").into()),
    }
}
