//! The thread that talks to the kernel: steps in, events out. Nothing here decides.

use crate::asks::Contact;
use crate::event_loop::{Notice, Notices};
use crate::limits::{Loss, Losses};
use crate::names::Source;
use crate::poll::KernelLosses;
use crate::reconcile::{Action, Step};
use capture::{ConnectionId, Event, ProcessId, Watched};
use genai::Providers;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use wire::Moment;

/// Events that wait for the pipeline.
const MAX_EVENTS: usize = 16_384;

/// Bytes of data that wait for the pipeline; a burst of long prompts fits.
const MAX_EVENT_BYTES: usize = 64 << 20;

/// Steps that wait for the kernel.
const MAX_ORDERS: usize = 1_024;

/// Longest wait for the next event; an order ends it, and so does the stop. What only a look at
/// the kernel's counters can tell is told that late, where nothing else happens.
const TURN: Duration = Duration::from_secs(10);

/// How often the kernel's own counters are read while something happens.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// What the kernel is asked for.
#[derive(Debug)]
pub(crate) enum Order {
    Carry(Step),
    /// Whether anybody is to be watched.
    Ready(bool),
    Ignore(ConnectionId),
    Interest(Vec<IpAddr>),
}

/// What the pipeline is fed with.
#[derive(Debug)]
pub(crate) enum Input {
    /// Something that the kernel, or a recording, tells.
    Event(Event),
    /// The process is watched from here on.
    Watched(u32),
    /// The process is no longer watched; what still comes of it is the rest of what was under way.
    Unwatched(u32),
    /// Who serves models, from here on.
    Providers(Providers),
    /// A name and its addresses, as this node's files or resolver have them.
    Learned { name: String, addresses: Vec<IpAddr>, source: Source, at: Moment },
    /// A connection that is open already.
    Open(Contact),
    /// Somebody wants to know the names of addresses, in their order.
    NamesOf(Vec<IpAddr>, SyncSender<Vec<Vec<String>>>),
    /// Nothing more is to be read.
    Stop,
}

/// Ends the wait of [`Kernel::next`].
pub(crate) type Wake = Box<dyn Fn() + Send + Sync>;

/// The kernel's side; a seam, so that the threads around it can be tried without one.
///
/// # Contract
///
/// `watch` is idempotent, and goes on by itself with libraries that the process loads later and with
/// its children. `unwatch` of a process that is not watched, or gone, does nothing. `next` waits no
/// longer than it is told.
pub(crate) trait Kernel {
    /// Watches a process.
    fn watch(&mut self, pid: u32) -> Result<Watched, String>;
    /// Takes all probes off a process.
    fn unwatch(&mut self, pid: u32);
    /// Makes ready to watch, or lets go of what that takes.
    fn make_ready(&mut self, is_wanted: bool);
    /// Asks for nothing more of a connection.
    fn ignore(&mut self, connection: ConnectionId);
    /// Asks to be told of connections to these addresses.
    fn interest(&mut self, addresses: &[IpAddr]);
    /// The next event.
    fn next(&mut self, wait: Duration) -> Option<Event>;
    /// What was lost so far, by reason.
    fn lost(&self) -> BTreeMap<String, u64>;
    /// What ends a wait from another thread.
    fn wake(&self) -> Wake;
}

/// The way for steps to the kernel.
#[derive(Clone)]
pub(crate) struct Orders {
    orders: SyncSender<Order>,
    wake: Arc<OnceLock<Wake>>,
}

/// The other end of [`Orders`].
pub(crate) struct Ordered {
    orders: Receiver<Order>,
    wake: Arc<OnceLock<Wake>>,
}

/// The way for events to the pipeline: bounded in number and in bytes.
#[derive(Debug, Clone)]
pub(crate) struct EventQueue {
    events: SyncSender<Input>,
    waiting_bytes: Arc<AtomicUsize>,
    losses: Arc<Losses>,
}

/// The other end of an [`EventQueue`].
#[derive(Debug)]
pub(crate) struct Events {
    events: Receiver<Input>,
    waiting_bytes: Arc<AtomicUsize>,
}

impl Orders {
    pub(crate) fn channel() -> (Self, Ordered) {
        let (orders, received) = sync_channel(MAX_ORDERS);
        let wake = Arc::new(OnceLock::new());
        (Self { orders, wake: Arc::clone(&wake) }, Ordered { orders: received, wake })
    }

    /// Hands a step over; `false` when too many wait.
    pub(crate) fn carry_out(&self, step: &Step) -> bool {
        let is_taken = self.orders.try_send(Order::Carry(step.clone())).is_ok();
        self.wake();
        is_taken
    }

    /// Says whether anybody is to be watched; `false` when too many orders wait.
    pub(crate) fn make_ready(&self, is_wanted: bool) -> bool {
        let is_taken = self.orders.try_send(Order::Ready(is_wanted)).is_ok();
        self.wake();
        is_taken
    }

    /// Asks for no more of a connection. When too many orders wait nothing is lost but time.
    pub(crate) fn ignore(&self, connection: ConnectionId) {
        drop(self.orders.try_send(Order::Ignore(connection)));
        self.wake();
    }

    /// Asks to be told of connections to these addresses. When too many orders wait, those
    /// connections are known by what they say alone.
    pub(crate) fn interest(&self, addresses: Vec<IpAddr>) {
        drop(self.orders.try_send(Order::Interest(addresses)));
        self.wake();
    }

    /// Lets the kernel's side look at its orders now.
    pub(crate) fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }
}

impl EventQueue {
    pub(crate) fn channel(losses: Arc<Losses>) -> (Self, Events) {
        let (entry, events) = sync_channel(MAX_EVENTS);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        (
            Self { events: entry, waiting_bytes: Arc::clone(&waiting_bytes), losses },
            Events { events, waiting_bytes },
        )
    }

    /// Hands an event over; a full queue drops it, which for data leaves a gap.
    pub(crate) fn push(&self, input: Input) {
        let size = size(&input);
        if self.waiting_bytes.load(Ordering::Relaxed).saturating_add(size) > MAX_EVENT_BYTES {
            self.losses.add(Loss::EventQueueFull, 1);
            return;
        }
        self.waiting_bytes.fetch_add(size, Ordering::Relaxed);
        if self.events.try_send(input).is_err() {
            self.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
            self.losses.add(Loss::EventQueueFull, 1);
        }
    }

    /// Hands an event over, and waits for room: for recordings, which can wait.
    pub(crate) fn push_surely(&self, input: Input) {
        self.waiting_bytes.fetch_add(size(&input), Ordering::Relaxed);
        drop(self.events.send(input));
    }
}

impl Events {
    /// The next event; `None` when there is none for a while, an error when there will be none.
    pub(crate) fn next(&self, wait: Duration) -> Result<Option<Input>, Ended> {
        match self.events.recv_timeout(wait) {
            Ok(input) => {
                self.waiting_bytes.fetch_sub(size(&input), Ordering::Relaxed);
                Ok(Some(input))
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(Ended),
        }
    }
}

/// All senders are gone.
#[derive(Debug)]
pub(crate) struct Ended;

fn size(input: &Input) -> usize {
    match input {
        Input::Event(Event::Data(data)) => data.bytes.len(),
        _ => 0,
    }
}

/// The loop; to be run on a thread of its own.
pub(crate) struct Watcher {
    pub(crate) orders: Ordered,
    pub(crate) events: EventQueue,
    pub(crate) notices: Notices,
    pub(crate) losses: KernelLosses,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Watcher {
    /// Runs until the stop; the probes go with `kernel`.
    #[expect(clippy::disallowed_methods, reason = "the capture loop reads the clock")]
    pub(crate) fn run(self, kernel: &mut dyn Kernel) {
        drop(self.orders.wake.set(kernel.wake()));
        let mut count_due = Instant::now();
        let mut is_counted = false;
        while !self.stop.load(Ordering::Relaxed) {
            if !self.take_orders(kernel) {
                return;
            }
            let until_count = count_due.saturating_duration_since(Instant::now());
            let mut wait = if is_counted { TURN } else { until_count };
            // A burst is taken as a whole, but steps get their turn.
            for _ in 0..1_024 {
                let Some(event) = kernel.next(wait) else { break };
                self.pass_on(event);
                is_counted = false;
                wait = Duration::ZERO;
            }
            if Instant::now() >= count_due {
                self.losses.set(kernel.lost());
                count_due = Instant::now() + COUNT_EVERY;
                is_counted = true;
            }
        }
    }

    fn take_orders(&self, kernel: &mut dyn Kernel) -> bool {
        loop {
            match self.orders.orders.try_recv() {
                Ok(Order::Carry(step)) => self.carry_out(kernel, &step),
                Ok(Order::Ready(is_wanted)) => kernel.make_ready(is_wanted),
                Ok(Order::Ignore(connection)) => kernel.ignore(connection),
                Ok(Order::Interest(addresses)) => kernel.interest(&addresses),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn carry_out(&self, kernel: &mut dyn Kernel, step: &Step) {
        match step.action {
            Action::Watch => {
                self.events.push(Input::Watched(step.pid));
                let process = ProcessId::from_ticks(step.pid, step.start_ticks);
                let result = kernel.watch(step.pid).and_then(|watched| {
                    let is_same = watched.process == process;
                    if is_same {
                        Ok(watched)
                    } else {
                        Err("its id went to another process meanwhile".to_owned())
                    }
                });
                self.notices.send(Notice::Watched {
                    pid: step.pid,
                    start_ticks: step.start_ticks,
                    result,
                });
            }
            Action::Unwatch => {
                self.events.push(Input::Unwatched(step.pid));
                kernel.unwatch(step.pid);
            }
        }
    }

    fn pass_on(&self, event: Event) {
        match event {
            Event::Attached { process, library } => {
                let library = library.path.display().to_string();
                self.notices.send(Notice::Attached { pid: process.pid, library });
            }
            Event::Refused { process, path, reason } => {
                let reason = format!("{reason} ({})", path.display());
                self.notices.send(Notice::Refused { pid: process.pid, reason });
            }
            event => self.events.push(Input::Event(event)),
        }
    }
}
