//! Many simulated controllers against one dashboard, to measure it:
//! `cargo run --release -p dashboard --example load -- URL JOIN_TOKEN API_TOKEN COUNT [WISHES]`.
//!
//! Each controller enrols, reports twenty workloads, and then waits in a long poll as a real one
//! does; beside it, each sends a poll that does not wait every 25 seconds, which is what is
//! measured as an idle poll. A wish is measured from the request that makes it to the answer of the
//! poll that waits for it. Run it in a process of its own, so that the memory of the dashboard is
//! the dashboard's. It prints one line of JSON.
#![expect(clippy::print_stdout, reason = "the numbers have to be shown somewhere")]

use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Mutex, Semaphore, mpsc};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Workloads of a node.
const WORKLOADS: usize = 20;
/// Nodes that enrol at a time.
const ENROLLING: usize = 32;
/// Pause between two polls that do not wait, and for how long they are measured.
const HEARTBEAT: Duration = Duration::from_secs(25);
const MEASURED: Duration = Duration::from_secs(60);

/// A connection that is kept open.
struct Client {
    address: String,
    stream: TcpStream,
}

#[derive(Default)]
struct Found {
    idle: Mutex<Vec<Duration>>,
    failed: AtomicUsize,
}

#[expect(clippy::disallowed_methods, reason = "this measures how long something takes")]
fn now() -> Instant {
    Instant::now()
}

impl Client {
    /// Connects from one of several addresses of loopback, each of which has its own ports.
    async fn connect(address: &str, number: usize) -> Outcome<Self> {
        let socket = TcpSocket::new_v4()?;
        let from = u8::try_from(number % 100)?;
        socket.bind((Ipv4Addr::new(127, 0, 1, from + 1), 0).into())?;
        let stream = socket.connect(address.parse()?).await?;
        stream.set_nodelay(true)?;
        Ok(Self { address: address.to_owned(), stream })
    }

    /// One request, and its answer: the status and the body.
    async fn send(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Outcome<Value> {
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.stream.write_all((head + &body).as_bytes()).await?;
        let (mut answer, mut part) = (Vec::new(), [0; 2048]);
        loop {
            let read = self.stream.read(&mut part).await?;
            if read == 0 {
                return Err("the connection ended".into());
            }
            answer.extend_from_slice(part.get(..read).unwrap_or_default());
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let (head, rest) = answer.split_at(end + 4);
            let head = String::from_utf8_lossy(head).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if rest.len() >= length.unwrap_or("0").trim().parse()? {
                if !head.starts_with("http/1.1 200") {
                    return Err(head.lines().next().unwrap_or_default().to_owned().into());
                }
                return Ok(serde_json::from_slice(rest)?);
            }
        }
    }
}

fn instance(number: usize) -> Value {
    json!({ "id": format!("load-{number}"), "host_name": format!("node-{number}"),
        "version": "0.1.0", "kernel": "6.1", "started_unix_nanos": 1 })
}

fn report(number: usize, generation: u64, wait: u32) -> Value {
    json!({ "protocol": 2, "instance": instance(number), "generation": generation,
        "has_wishes": true, "wait_seconds": wait, "lost": {} })
}

fn first_report(number: usize) -> Value {
    let workloads: Vec<Value> = (0..WORKLOADS)
        .map(|one| {
            json!({ "key": format!("load-{number}/systemd:agent-{one}.service"),
                "name": format!("agent-{one}"), "platform": "systemd", "instances": [],
                "evidence": [], "level": "off", "state": "discovered", "reason": "seen",
                "first_seen_unix_nanos": 1, "last_seen_unix_nanos": 1 })
        })
        .collect();
    let mut report = report(number, 0, 0);
    report["workloads"] = workloads.into();
    report["sequence"] = 1.into();
    report
}

/// A controller, for as long as the process lives.
async fn controller(
    place: (String, usize, String),
    found: Arc<Found>,
    enrolling: Arc<Semaphore>,
    (ready, woken): (mpsc::UnboundedSender<usize>, mpsc::UnboundedSender<(usize, Instant)>),
) -> Outcome<()> {
    let (address, number, join) = place;
    let secret = format!("sonde_node_{number:064x}");
    let turn = enrolling.acquire().await?;
    let mut client = Client::connect(&address, number).await?;
    let enrolment = json!({ "protocol": 2, "instance": instance(number), "credential": secret });
    client.send("POST", "/api/v1/enrol", &join, &enrolment).await?;
    client.send("POST", "/api/v1/poll", &secret, &first_report(number)).await?;
    drop(turn);
    let (beat, beating) = (Arc::clone(&found), secret.clone());
    let place = address.clone();
    tokio::spawn(async move {
        // Spread over the interval, as a fleet is.
        let share = u32::try_from(number % 1000).unwrap_or(0);
        tokio::time::sleep(HEARTBEAT * share / 1000).await;
        loop {
            // A real one does not keep a connection for so long that nothing is said.
            let begun = now();
            let Ok(mut client) = Client::connect(&place, number).await else {
                beat.failed.fetch_add(1, Ordering::Relaxed);
                return;
            };
            let answer = client.send("POST", "/api/v1/poll", &beating, &report(number, 0, 0)).await;
            match answer {
                Ok(_) => beat.idle.lock().await.push(begun.elapsed()),
                Err(_) => {
                    beat.failed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
            drop(client);
            tokio::time::sleep(HEARTBEAT).await;
        }
    });
    ready.send(number)?;
    let mut generation = 0;
    loop {
        let report = report(number, generation, 25);
        let wish = client.send("POST", "/api/v1/poll", &secret, &report).await?;
        let told = wish["generation"].as_u64().unwrap_or(0);
        if told != generation {
            generation = told;
            // Whoever waits for it may have given up.
            let _given_up = woken.send((number, now()));
        }
    }
}

fn percentile(times: &mut [Duration], of: usize) -> f64 {
    times.sort_unstable();
    let place = (times.len().saturating_sub(1)) * of / 100;
    times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, join, api, count, ..] = arguments.as_slice() else {
        return Err("usage: load URL JOIN_TOKEN API_TOKEN COUNT [WISHES]".into());
    };
    let wishes: usize = arguments.get(4).map_or(Ok(50), |wishes| wishes.parse())?;
    let (address, count) = (url.trim_start_matches("http://"), count.parse::<usize>()?);
    let found = Arc::new(Found::default());
    let enrolling = Arc::new(Semaphore::new(ENROLLING));
    let (ready, mut enrolled) = mpsc::unbounded_channel();
    let (woken, mut wakes) = mpsc::unbounded_channel();
    let begun = now();
    for number in 0..count {
        let place = (address.to_owned(), number, join.clone());
        let life = controller(
            place,
            Arc::clone(&found),
            Arc::clone(&enrolling),
            (ready.clone(), woken.clone()),
        );
        let failed = Arc::clone(&found);
        tokio::spawn(async move {
            if life.await.is_err() {
                failed.failed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for _ in 0..count {
        enrolled.recv().await.ok_or("nobody enrolled")?;
    }
    let joined = begun.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    found.idle.lock().await.clear();
    tokio::time::sleep(MEASURED).await;
    let mut idle = std::mem::take(&mut *found.idle.lock().await);
    let mut client = Client::connect(address, 0).await?;
    let mut waited = Vec::new();
    for wish in 0..wishes {
        let node = wish * 7919 % count;
        let level = if wish / count % 2 == 0 { "network" } else { "off" };
        waited.push(woken_by(&mut client, api, (node, level), &mut wakes).await?);
    }
    let line = json!({
        "controllers": count,
        "joined_s": joined.as_secs_f64(),
        "idle_polls": idle.len(),
        "idle_p50_ms": percentile(&mut idle, 50),
        "idle_p99_ms": percentile(&mut idle, 99),
        "wish_p50_ms": percentile(&mut waited, 50),
        "wish_longest_ms": percentile(&mut waited, 100),
        "failed": found.failed.load(Ordering::Relaxed),
    });
    println!("{line}");
    Ok(())
}

/// How long a node waits for a wish.
async fn woken_by(
    client: &mut Client,
    api: &str,
    (node, level): (usize, &str),
    wakes: &mut mpsc::UnboundedReceiver<(usize, Instant)>,
) -> Outcome<Duration> {
    let path = format!("/api/v1/services/load-{node}%2Fsystemd%3Aagent-3.service/capture");
    let begun = now();
    client.send("PUT", &path, api, &json!({ "level": level })).await?;
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), wakes.recv()).await?;
        let (who, when) = next.ok_or("nobody was woken")?;
        if who == node {
            return Ok(when.duration_since(begun));
        }
    }
}
