//! The running controller: makes the threads and the queues between them, and takes them down.

mod surroundings;

use crate::asks::Asks;
use crate::ceilings::Ceilings;
use crate::config::{Config, Otlp};
use crate::credential::Credential;
use crate::discovery::{Discovery, Hint, Resolver};
use crate::event_loop::{self, Notice, Notices};
use crate::export::{self, Backlog, Sender};
use crate::given::Given;
use crate::injection::{Injections, Previews, Records};
use crate::kernel::{self, Grant};
use crate::limits::Losses;
use crate::link::Link;
use crate::local::{self, Desk, Socket};
use crate::pipeline::{self, Pipeline};
use crate::poll::{Agreed, KernelLosses, Poll};
use crate::programs::Programs;
use crate::reconcile::Ability;
use crate::record::Recorder;
use crate::registry::Store;
use crate::rules::Rulebook;
use crate::seen::Seen;
use crate::standing::Standings;
use crate::steps::Steps;
use crate::taking::Taker;
use crate::tiers;
use crate::tuning::Tuning;
use crate::watcher::{EventQueue, Input, Orders, Watcher};
use crate::witness::Witness;
use anyhow::Context as _;
use contract::doctor::Fact;
use injector::{Hands, Turns};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use workloads::{Host, Sockets};

/// How often processes are listed where the kernel does not tell of new ones.
const SCAN_ALONE: Duration = Duration::from_secs(5);

/// Processes and addresses that wait to be looked at.
const MAX_HINTS: usize = 1_024;

/// A running controller.
///
/// Dropping it without [`stop`](Self::stop) leaves the threads running to the end of the process.
pub struct Controller {
    threads: Threads,
    notices: Notices,
    standings: Standings,
    stop: Arc<AtomicBool>,
    orders: Orders,
    events: EventQueue,
    socket: Option<PathBuf>,
    /// Why nothing can be captured here, and what to do; nothing when capture works.
    missing: Option<String>,
    agreed: Arc<Agreed>,
    steps: Steps,
}

/// Threads by their names.
#[derive(Debug, Default)]
pub(crate) struct Threads(Vec<JoinHandle<()>>);

impl Controller {
    /// Starts the controller; it runs until [`stop`](Self::stop).
    ///
    /// Where this machine grants no eBPF it runs without capture, and says so to the dashboard.
    ///
    /// # Errors
    ///
    /// When the data directory, the socket, the recording or the dashboard's address cannot be used.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        Self::assemble(config, kernel::start)
    }

    /// Makes all parts; `start_kernel` is the one that tests put another in for.
    #[expect(
        clippy::too_many_lines,
        reason = "the one place where all threads and queues are joined"
    )]
    fn assemble(
        config: Config,
        start_kernel: impl FnOnce(&Config, Watcher, &mut Threads) -> anyhow::Result<Grant>,
    ) -> anyhow::Result<Self> {
        let ceilings = Ceilings::new(&config.ceilings)?;
        let node = surroundings::node(&config)?;
        let host = node.host().clone();
        let credential = credential(&config, &host)?;
        let (link, export_link) = links(&config, credential.as_ref())?;
        let socket = config.socket.as_deref().map(Socket::open).transpose()?;
        let losses = Arc::new(Losses::default());
        let standings = Standings::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (notices, noticed) = Notices::channel(Arc::clone(&losses));
        let clients = surroundings::clients(&config, &host.name);
        let engines = clients.sockets.clone();
        let programs = Arc::new(Programs::of_node(node));
        let (seen, given) = (Arc::<Seen>::default(), Given::default());
        let sockets = Sockets::of(&config.root);
        let telling = notices.clone();
        let renamed = move |container: &str| {
            telling.send(Notice::ContainerNamed(container.to_owned()));
        };
        programs
            .connect(&clients, renamed)
            .context("cannot start the thread that asks container engines")?;
        let mut threads = Threads::default();

        let backlog =
            Backlog { directory: Some(config.data_dir.join("spool")), ..Backlog::default() };
        let sender = Sender {
            host_name: host.name.clone(),
            host_id: host.id.clone(),
            given: given.clone(),
            recorded: false,
        };
        let (queue, exporter) = export::channel(
            export_link,
            sender,
            Arc::clone(&losses),
            Arc::clone(&stop),
            backlog.clone(),
        );
        threads.spawn("export", move || exporter.run())?;

        let (events, received) = EventQueue::channel(Arc::clone(&losses));
        let (orders, ordered) = Orders::channel();
        let recorder = config
            .record
            .as_deref()
            .map(|file| Recorder::create(file, Arc::clone(&losses)))
            .transpose()?;
        // Those of the dashboard come as soon as the loop has read what was kept.
        let own = [("this node's", &config.rules)];
        let providers = Rulebook::new(&own, |id| programs.user(id)).providers().clone();
        let pipeline = pipeline::Loop {
            pipeline: Pipeline::new(Arc::clone(&losses), providers.clone()),
            asks: Asks::of(providers.clone()),
            witness: Witness::new(
                Arc::clone(&programs),
                notices.clone(),
                Arc::clone(&losses),
                Arc::clone(&seen),
                sockets.clone(),
            ),
            interest: interested(&orders),
            programs: Arc::clone(&programs),
            notices: notices.clone(),
            queue,
            recorder,
            ignore: ignoring(&orders),
            losses: Arc::clone(&losses),
        };
        threads.spawn("pipeline", move || pipeline.run(&received))?;

        let kernel_losses = KernelLosses::default();
        let watcher = Watcher {
            orders: ordered,
            events: events.clone(),
            notices: notices.clone(),
            losses: kernel_losses.clone(),
            stop: Arc::clone(&stop),
        };
        let Grant { missing, mut facts } = start_kernel(&config, watcher, &mut threads)?;
        facts.extend(tiers::facts(missing.as_deref(), sockets.can_ask_the_kernel()));
        let (hint, hints) = sync_channel(MAX_HINTS);
        let resolver = Resolver {
            events: events.clone(),
            standings: standings.clone(),
            hints: hint.clone(),
            once: missing.is_none(),
        };
        threads.spawn("resolver", move || resolver.run())?;

        let ability =
            Ability { missing: missing.clone(), ceilings: ceilings.clone(), recorded: false };
        let tuning = Tuning::open(&config.data_dir, config.set_log);
        let records = Records::open(&config.data_dir);
        standings.ask_before(records.is_fresh());
        let event_loop = event_loop::Loop {
            programs: Arc::clone(&programs),
            ability,
            store: Some(Store::new(&config.data_dir)),
            standings: standings.clone(),
            losses: Arc::clone(&losses),
            rules: config.rules.clone(),
            own_wishes: config.wishes.clone(),
            tuning: tuning.clone(),
            given,
            agents: records.told(),
            carry_out: {
                let orders = orders.clone();
                Box::new(move |step| orders.carry_out(step))
            },
            make_ready: {
                let orders = orders.clone();
                Box::new(move |is_wanted| orders.make_ready(is_wanted))
            },
            tell_providers: {
                let events = events.clone();
                Box::new(move |providers| events.push_surely(Input::Providers(providers)))
            },
            // One that is not looked at for lack of room is found when it is next started.
            may_serve: Box::new(move |process| {
                hint.try_send(Hint::MayServe(process)).unwrap_or_default();
            }),
            scan_every: missing.is_some().then_some(SCAN_ALONE),
        };
        threads.spawn("reconcile", move || event_loop.run(&noticed))?;

        let discovery = Discovery {
            programs: Arc::clone(&programs),
            notices: notices.clone(),
            events: events.clone(),
            standings: standings.clone(),
            sockets: sockets.clone(),
            root: config.root.clone(),
            hints,
            once: missing.is_none(),
        };
        threads.spawn("discovery", move || discovery.run())?;

        let (previews, questions) = Previews::channel(standings.clone());
        let can_inject = config.agents.is_some() && ceilings.forbids_injection().is_none();
        let no_agents = "This node does not know where agents are to send: name it with --agent-endpoint and --agent-token-file.";
        let hands = Hands::new(&config.root).context("cannot start what speaks to platforms")?;
        let cluster = surroundings::cluster(&config, &host.name);
        let hands = hands
            .with_cluster(cluster.clone())
            .with_engines(engines, config.data_dir.join("compose"));
        let turns = Turns::new(cluster).context("cannot start what speaks to the cluster")?;
        let injections = Injections {
            standings: standings.clone(),
            notices: notices.clone(),
            ceilings: ceilings.clone(),
            tuning: tuning.clone(),
            agents: config.agents.clone().ok_or_else(|| no_agents.to_owned()),
            records,
            hands,
            turns,
            root: config.root.clone(),
            host_name: host.name.clone(),
            questions,
        };
        threads.spawn("injection", move || injections.run())?;

        let agreed = Arc::<Agreed>::default();
        let steps = Steps::open(&config.data_dir, standings.clone());
        let taker = Taker {
            notices: notices.clone(),
            standings: standings.clone(),
            agreed: Arc::clone(&agreed),
            ceilings,
            previews,
            window: Duration::from_secs(
                config.agents.as_ref().map_or(0, |agents| agents.window_seconds.into()),
            ),
        };
        let taking = steps.clone();
        threads.spawn("steps", move || taking.run(|step| taker.take(step)))?;
        let poll = Poll {
            link,
            instance: surroundings::instance(&host, missing.is_none(), can_inject),
            doctor: facts,
            programs: Arc::clone(&programs),
            standings: standings.clone(),
            notices: notices.clone(),
            losses,
            kernel_losses,
            agreed: Arc::clone(&agreed),
            credential,
            steps: Some(steps.clone()),
            tuning,
        };
        if !config.dashboard.is_empty() {
            start_polls(&poll, &mut threads)?;
        }
        if let Some(socket) = socket {
            let stop = Arc::clone(&stop);
            let desk = Desk {
                poll,
                dashboard: config.dashboard,
                backlog,
                programs,
                seen,
                sockets,
                events: events.clone(),
            };
            threads.spawn("socket", move || socket.serve(&desk, &stop))?;
        }
        Ok(Self {
            threads,
            notices,
            standings,
            stop,
            orders,
            events,
            socket: config.socket,
            missing,
            agreed,
            steps,
        })
    }

    /// Whether the dashboard refused our token and none ever accepted us: the token is wrong, and
    /// waiting does not help.
    pub fn is_stranger(&self) -> bool {
        self.agreed.is_stranger()
    }

    /// Takes all probes off, sends what is left for a few seconds at most, and ends the threads.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.standings.stop();
        self.steps.stop();
        self.orders.wake();
        self.events.push_surely(Input::Stop);
        self.notices.send_surely(Notice::Stop);
        if let Some(socket) = &self.socket {
            local::wake(socket);
        }
        drop(self.notices);
        self.threads.join();
    }
}

impl Threads {
    /// Runs `work` on a thread of this name.
    pub(crate) fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        self.0.push(thread.with_context(|| format!("cannot start the thread `{name}`"))?);
        Ok(())
    }

    /// Waits until all have ended, except those that may wait for an answer from elsewhere and have
    /// nothing to lose.
    pub(crate) fn join(self) {
        for thread in self.0 {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if !matches!(
                name.as_str(),
                "poll" | "report" | "steps" | "injection" | "discovery" | "resolver"
            ) && thread.join().is_err()
            {
                tracing::error!(
                    thread = name,
                    "a thread ended by a panic; this is a bug, please report it with the lines above"
                );
            }
        }
    }
}

/// Starts the two threads of the poll.
pub(crate) fn start_polls(poll: &Poll, threads: &mut Threads) -> anyhow::Result<()> {
    let (fetch, tell) = (poll.clone(), poll.clone());
    threads.spawn("poll", move || fetch.fetch())?;
    threads.spawn("report", move || tell.tell())
}

/// Who this node is to its dashboard; nobody in particular where its socket is used, or none.
fn credential(config: &Config, host: &Host) -> anyhow::Result<Option<Arc<Mutex<Credential>>>> {
    if config.dashboard.is_empty() || config.dashboard.starts_with("unix:") {
        return Ok(None);
    }
    let credential = Credential::open(&config.data_dir, &host.scope(), config.token.clone())?
        .joining_with(config.token_file.clone());
    Ok(Some(Arc::new(Mutex::new(credential))))
}

/// The way to the dashboard, and the way that calls go. Without a dashboard the first is the second,
/// and nobody polls on it.
fn links(
    config: &Config,
    credential: Option<&Arc<Mutex<Credential>>>,
) -> anyhow::Result<(Link, Link)> {
    let export = config.otlp.as_ref().map(|Otlp { endpoint, headers, trust }| {
        anyhow::Ok(Link::with(endpoint, None, trust)?.carrying(headers)?.with_gzip())
    });
    match (config.dashboard.is_empty(), export.transpose()?) {
        (true, None) => anyhow::bail!(
            "cannot run without a dashboard and without a receiver of calls; name one with --dashboard URL or --otlp-endpoint URL"
        ),
        (true, Some(export)) => Ok((export.clone(), export)),
        (false, export) => {
            let shown =
                credential.and_then(|it| it.lock().unwrap_or_else(PoisonError::into_inner).shown());
            let link = Link::with(&config.dashboard, shown, &config.trust)?;
            let export = export.unwrap_or_else(|| link.clone());
            Ok((link, export))
        }
    }
}

fn interested(orders: &Orders) -> Box<dyn Fn(Vec<IpAddr>) + Send> {
    let orders = orders.clone();
    Box::new(move |addresses| orders.interest(addresses))
}

fn ignoring(orders: &Orders) -> Box<dyn Fn(capture::ConnectionId) + Send> {
    let orders = orders.clone();
    Box::new(move |connection| orders.ignore(connection))
}

/// Facts about this node, for those who ask without a running controller.
pub fn facts(config: &Config) -> Vec<Fact> {
    let mut facts = kernel::facts(config, Vec::new(), None);
    let missing = (!config.ebpf).then_some("eBPF is switched off by the configuration");
    facts.extend(tiers::facts(missing, Sockets::of(&config.root).can_ask_the_kernel()));
    facts
}

impl fmt::Debug for Controller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Controller").field("missing", &self.missing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
