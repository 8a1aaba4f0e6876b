//! Who waits for what: pages for events, controllers for wishes.

use contract::row::Call;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{broadcast, watch};

/// Events that a slow page may be behind; one that is further behind is told to fetch anew.
const MAX_BEHIND: usize = 1024;

/// Something that a page wants to know at once.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A call was received: itself, and its row as JSON.
    Call(Arc<Call>, Arc<str>),
    /// The list of services changed.
    Services,
    /// The state of the dashboard or of a node changed.
    Status,
}

/// The meeting place.
#[derive(Debug)]
pub(crate) struct Hub {
    events: broadcast::Sender<Event>,
    waiting: Mutex<HashMap<String, watch::Sender<()>>>,
}

/// A poll that waits for the wishes of a node.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    hub: &'a Hub,
    instance: String,
    changed: watch::Receiver<()>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self { events: broadcast::Sender::new(MAX_BEHIND), waiting: Mutex::default() }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(crate) fn has_listeners(&self) -> bool {
        self.events.receiver_count() > 0
    }

    pub(crate) fn publish(&self, event: Event) {
        // Without a listener nobody wants to know.
        let _unheard = self.events.send(event);
    }

    /// Waits for wishes of a node from now on: what is wished after this call is not missed.
    pub(crate) fn wait_for(&self, instance: &str) -> Waiting<'_> {
        let mut waiting = self.lock();
        let sender = waiting.entry(instance.to_owned()).or_insert_with(|| watch::Sender::new(()));
        Waiting { hub: self, instance: instance.to_owned(), changed: sender.subscribe() }
    }

    /// Wakes the polls of these nodes.
    pub(crate) fn wake(&self, instances: &[String]) {
        let waiting = self.lock();
        for sender in instances.iter().filter_map(|instance| waiting.get(instance)) {
            sender.send_replace(());
        }
    }

    /// Wakes all polls: some of them may have news.
    pub(crate) fn wake_all(&self) {
        self.lock().values().for_each(|sender| {
            sender.send_replace(());
        });
    }

    /// True when a poll of the node waits.
    pub(crate) fn is_waiting(&self, instance: &str) -> bool {
        self.lock().contains_key(instance)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// Returns at the next wish for the node.
    pub(crate) async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            // The sender lives as long as anyone waits; were it gone, waiting on would be right.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.hub.lock();
        if waiting.get(&self.instance).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.instance);
        }
    }
}
