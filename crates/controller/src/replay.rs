//! Plays a recording through the real pipeline, as if it happened now; everything that comes of it
//! is marked as recorded.

mod script;

use crate::asks::Asks;
use crate::ceilings::Ceilings;
use crate::clock::Now;
use crate::config::Config;
use crate::controller::{Threads, start_polls};
use crate::event_loop::{self, Notice, Notices};
use crate::export::{self, Backlog, Queue, Sender};
use crate::given::Given;
use crate::limits::Losses;
use crate::link::Link;
use crate::pipeline::{self, Pipeline};
use crate::poll::Poll;
use crate::programs::Programs;
use crate::reconcile::Ability;
use crate::standing::Standings;
use crate::tuning::Tuning;
use crate::watcher::{EventQueue, Input};
use crate::witness::Witness;
use contract::poll::Instance;
use contract::rules::Rules;
use contract::workload::{self, Key, Platform, Runtime};
use genai::Providers;
use script::{Pace, Script, at, process_id};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::transcript::{Record, Recording};
use workloads::{Program, Sockets};

/// Pause between two rounds.
const PAUSE: Duration = Duration::from_secs(2);

/// Time for the last report and the last spans to leave.
const LAST_WORDS: Duration = Duration::from_millis(600);

/// How to play a recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Playback {
    /// How many times faster than it was recorded, from 0.01 to 1000. Durations stay as recorded.
    pub speed: f64,
    /// Whether to begin again when it ends.
    pub repeat: bool,
}

/// A recording that is being played.
#[derive(Debug)]
pub struct Replay {
    player: JoinHandle<()>,
    threads: Threads,
    notices: Notices,
    standings: Standings,
    stop: Arc<AtomicBool>,
}

impl Replay {
    /// Begins to play a recording into the dashboard of `config`, of which only the address and the
    /// token are used.
    ///
    /// # Errors
    ///
    /// When the dashboard's address cannot be used.
    pub fn start(
        recording: Recording,
        config: &Config,
        playback: Playback,
    ) -> anyhow::Result<Self> {
        let link = Link::new(&config.dashboard, config.token.clone())?;
        let instance = instance(&recording);
        let losses = Arc::new(Losses::default());
        let standings = Standings::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (notices, noticed) = Notices::channel(Arc::clone(&losses));
        let programs = Arc::new(Programs::recorded(programs(&recording, &instance.id)));
        let mut threads = Threads::default();

        let sender = Sender {
            host_name: instance.host_name.clone(),
            host_id: instance.id.clone(),
            given: Given::default(),
            recorded: true,
        };
        let (queue, exporter) = export::channel(
            link.clone(),
            sender,
            Arc::clone(&losses),
            Arc::clone(&stop),
            Backlog::default(),
        );
        threads.spawn("export", move || exporter.run())?;
        let (events, received) = EventQueue::channel(Arc::clone(&losses));
        let pipeline = pipeline(&programs, &notices, &losses, queue);
        threads.spawn("pipeline", move || pipeline.run(&received))?;
        let event_loop = event_loop(&programs, &standings, &losses);
        threads.spawn("reconcile", move || event_loop.run(&noticed))?;
        let poll = Poll {
            link,
            instance,
            doctor: Vec::new(),
            programs: Arc::clone(&programs),
            standings: standings.clone(),
            notices: notices.clone(),
            losses,
            kernel_losses: Default::default(),
            agreed: Arc::default(),
            credential: None,
            steps: None,
            tuning: Tuning::default(),
        };
        start_polls(&poll, &mut threads)?;
        let player = Player { recording, playback, events, standings: standings.clone() };
        let player =
            std::thread::Builder::new().name("player".to_owned()).spawn(move || player.run())?;
        Ok(Self { player, threads, notices, standings, stop })
    }

    /// Whether the recording came to its end.
    pub fn is_finished(&self) -> bool {
        self.player.is_finished()
    }

    /// Waits for the end of the recording, and until all of it was sent.
    pub fn wait(self) {
        while !self.player.is_finished() && self.standings.sleep(Duration::from_millis(100)) {}
        self.standings.sleep(LAST_WORDS);
        self.stop();
    }

    /// Ends the playing at once, and sends what was played.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.standings.stop();
        if self.player.join().is_err() {
            tracing::error!(
                "the player ended by a panic; this is a bug, please report it with the lines above"
            );
        }
        self.notices.send_surely(Notice::Stop);
        drop(self.notices);
        self.threads.join();
    }
}

/// Feeds the pipeline, in time.
struct Player {
    recording: Recording,
    playback: Playback,
    events: EventQueue,
    standings: Standings,
}

impl Player {
    fn run(self) {
        let mut round = 1;
        while self.play(round) && self.playback.repeat && self.standings.sleep(PAUSE) {
            round += 1;
        }
    }

    /// Plays it once; `false` at a stop.
    #[expect(clippy::disallowed_methods, reason = "the player's loop reads the clock")]
    fn play(&self, round: u64) -> bool {
        let began = Instant::now();
        let length = self.recording.records.iter().map(at).max().unwrap_or(0);
        let pace = Pace::new(self.playback.speed, length, Now::read().monotonic.0);
        let mut script = Script::new(round);
        for record in &self.recording.records {
            let wait = (began + pace.due(at(record))).saturating_duration_since(Instant::now());
            if !self.standings.sleep(wait) {
                return false;
            }
            for event in script.events(record, pace.moment(at(record))) {
                self.events.push_surely(Input::Event(event));
            }
        }
        // What is under way when the recording ends did not fail: nothing is said about it.
        for pid in script.open_processes() {
            self.events.push_surely(Input::Unwatched(pid));
            self.events.push_surely(Input::Watched(pid));
        }
        true
    }
}

/// What reads calls, as a controller has it; nobody hears of names and connections.
fn pipeline(
    programs: &Arc<Programs>,
    notices: &Notices,
    losses: &Arc<Losses>,
    queue: Queue,
) -> pipeline::Loop {
    pipeline::Loop {
        pipeline: Pipeline::new(Arc::clone(losses), Providers::default()),
        asks: Asks::default(),
        witness: Witness::new(
            Arc::clone(programs),
            notices.clone(),
            Arc::clone(losses),
            Arc::default(),
            Sockets::of(Path::new("/nonexistent")),
        ),
        interest: Box::new(|_| {}),
        programs: Arc::clone(programs),
        notices: notices.clone(),
        queue,
        recorder: None,
        ignore: Box::new(|_| {}),
        losses: Arc::clone(losses),
    }
}

/// What keeps workloads, as a controller has it; nothing is attached, and nothing survives.
fn event_loop(
    programs: &Arc<Programs>,
    standings: &Standings,
    losses: &Arc<Losses>,
) -> event_loop::Loop {
    event_loop::Loop {
        programs: Arc::clone(programs),
        ability: Ability { missing: None, ceilings: Ceilings::default(), recorded: true },
        store: None,
        standings: standings.clone(),
        losses: Arc::clone(losses),
        rules: Rules::default(),
        own_wishes: Vec::new(),
        tuning: Tuning::default(),
        given: Given::default(),
        agents: BTreeMap::new(),
        carry_out: Box::new(|_| true),
        make_ready: Box::new(|_| true),
        tell_providers: Box::new(|_| {}),
        may_serve: Box::new(|_| {}),
        scan_every: None,
    }
}

/// Who reports: the same for every playing of the same programs, so that rows do not pile up.
fn instance(recording: &Recording) -> Instance {
    let mut texts = Vec::new();
    for record in &recording.records {
        if let Record::Process { name, arguments, .. } = record {
            texts.extend([name.as_str(), arguments.as_deref().unwrap_or_default()]);
        }
    }
    let id = hashed(&texts);
    let header = |wanted: &str| {
        recording.header.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.clone())
    };
    Instance {
        id: format!("recorded-{id}"),
        host_name: header("host").unwrap_or_else(|| "recording".to_owned()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: header("kernel").unwrap_or_default(),
        started_unix_nanos: Now::read().unix_nanos,
        recorded: true,
        ..Instance::default()
    }
}

fn hashed(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn programs(recording: &Recording, scope: &str) -> Vec<Program> {
    let program = |record: &Record| {
        let Record::Process { number, name, runtime, arguments } = record else { return None };
        // The same program twice is one row; two programs of one name are two.
        let place = format!("{name}-{}", hashed(&[arguments.as_deref().unwrap_or_default()]));
        let arguments: Vec<String> =
            arguments.iter().flat_map(|line| line.split_whitespace()).map(str::to_owned).collect();
        let runtime = runtime.as_ref().map(|runtime| match runtime.split_once('/') {
            Some((name, version)) => {
                Runtime { name: name.to_owned(), version: Some(version.to_owned()) }
            }
            None => Runtime { name: runtime.clone(), version: None },
        });
        Some(Program {
            key: Key(format!("{scope}/process:{place}")),
            name: name.clone(),
            platform: Platform::Process,
            attributes: BTreeMap::new(),
            provisional: false,
            start_ticks: 0,
            instance: workload::Instance {
                pid: process_id(*number).pid,
                started_unix_nanos: Now::read().unix_nanos,
                executable: arguments.first().cloned().unwrap_or_default(),
                arguments,
                runtime,
                ..workload::Instance::default()
            },
        })
    };
    recording.records.iter().filter_map(program).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::{Response, StandIn};
    use contract::capture::State;
    use contract::poll::{PROTOCOL, Report, Wish};
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message as _;

    const RECORDING: &str = "\
# host: recorded-node
@ process 1 name=chat.py runtime=cpython/3.11 args=\"python3 chat.py\"
@ connection 2 process=1 sni=api.openai.com port=443
>>> 2 +0.000000000
  |POST /v1/chat/completions HTTP/1.1\\r\\nHost: api.openai.com\\r\\nContent-Type: application/json\\r\\nContent-Length: 32\\r\\n\\r\\n
  |{\"model\":\"gpt-4o\",\"messages\":[]}
<<< 2 +0.200000000
  |HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: 58\\r\\n\\r\\n
  |{\"object\":\"chat.completion\",\"model\":\"gpt-4o\",\"choices\":[]}
@ close 2 +0.300000000
";

    #[test]
    fn a_recording_is_played_in_its_own_time_and_marked() {
        let dashboard = StandIn::start(|request| match request.path.as_str() {
            "/api/v1/poll" => {
                let wish = Wish { protocol: PROTOCOL, ..Wish::default() };
                std::thread::sleep(Duration::from_millis(20));
                Response::of(200, serde_json::to_vec(&wish).unwrap())
            }
            _ => Response::of(200, ""),
        });
        let recording = wire::transcript::parse(RECORDING).unwrap();
        let config = Config::new("/nonexistent", dashboard.url.clone());
        let replay =
            Replay::start(recording, &config, Playback { speed: 1.0, repeat: false }).unwrap();
        replay.wait();
        let requests: Vec<_> = dashboard.requests.try_iter().collect();
        let trace = requests.iter().find(|request| request.path == "/v1/traces").unwrap();
        let sent = ExportTraceServiceRequest::decode(trace.body.as_slice()).unwrap();
        let resource = sent.resource_spans[0].resource.as_ref().unwrap();
        assert!(resource.attributes.iter().any(|attribute| attribute.key == "sonde.recorded"));
        let span = &sent.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 200_000_000);
        let reports = requests.iter().filter(|request| request.path == "/api/v1/poll");
        let mut reports =
            reports.map(|request| serde_json::from_slice::<Report>(&request.body).unwrap());
        let report = reports
            .rfind(|report| report.workloads.as_ref().is_some_and(|w| !w.is_empty()))
            .unwrap();
        assert!(report.instance.recorded && report.instance.id.starts_with("recorded-"));
        let observed = &report.workloads.unwrap()[0];
        assert_eq!((observed.name.as_str(), observed.state), ("chat.py", State::Recorded));
    }
}
