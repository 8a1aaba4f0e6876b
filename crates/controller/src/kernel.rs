//! The kernel's side of the watcher: `capture`, behind the seam.

use crate::config::Config;
use crate::controller::Threads;
use crate::watcher::{Kernel, Wake, Watcher};
use capture::{Capture, ConnectionId, Event, Watched};
use contract::doctor::{Fact, Standing};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// What a machine loses that grants no eBPF.
const LOST_WITHOUT: &str =
    "calls cannot be read and programs are found by their open connections alone";

/// What this machine grants.
#[derive(Debug, Default)]
pub(crate) struct Grant {
    /// Why nothing can be captured, and what to do; `None` when capture runs.
    pub(crate) missing: Option<String>,
    /// The facts behind it, for `sonde doctor`.
    pub(crate) facts: Vec<Fact>,
}

/// Starts the capture thread, where this machine grants capture.
pub(crate) fn start(
    config: &Config,
    watcher: Watcher,
    threads: &mut Threads,
) -> anyhow::Result<Grant> {
    if !config.ebpf {
        let missing =
            "Capture is switched off by this node's configuration; remove `ebpf = false` there."
                .to_owned();
        return Ok(Grant { missing: Some(missing), facts: facts(config, Vec::new(), None) });
    }
    let settings = capture::Config { ring_bytes: config.ring_bytes, ..capture::Config::default() };
    // The thread that loads the programs is the one that uses them.
    let (tell, told) = sync_channel(1);
    threads.spawn("capture", move || match Capture::start(&settings) {
        Ok(capture) => {
            drop(tell.send(Ok(capture.facts().to_vec())));
            watcher.run(&mut Probes { capture });
        }
        Err(error) => drop(tell.send(Err(in_words(&error)))),
    })?;
    let result = told
        .recv()
        .unwrap_or_else(|_| Err("cannot capture: its thread ended at the start".to_owned()));
    Ok(match result {
        Ok(more) => Grant { missing: None, facts: facts(config, more, None) },
        Err(error) => {
            tracing::warn!(reason = %error, "cannot capture on this machine; running without");
            Grant {
                facts: facts(config, Vec::new(), Some(&error)),
                missing: Some(sentence(&error)),
            }
        }
    })
}

/// An error as a sentence for the page.
fn sentence(error: &str) -> String {
    let mut characters = error.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str().trim_end_matches('.'))
}

/// What this node allows.
///
/// `more` are the facts that a running capture found by trying; they stand above what was probed.
pub(crate) fn facts(
    config: &Config,
    more: Vec<capture::kernel::Fact>,
    missing: Option<&str>,
) -> Vec<Fact> {
    let mut facts: Vec<Fact> = more.into_iter().map(fact).collect();
    for probed in capture::kernel::probe().into_iter().map(fact) {
        if facts.iter().all(|known| known.name != probed.name) {
            facts.push(probed);
        }
    }
    if !config.ebpf {
        facts.push(Fact {
            name: "ebpf".to_owned(),
            standing: Standing::Missing,
            found: "switched off by the configuration".to_owned(),
            remedy: format!(
                "Without it {LOST_WITHOUT}; remove `ebpf = false` from the configuration."
            ),
        });
    } else if let Some(missing) = missing
        && facts.iter().all(|fact| fact.standing != Standing::Missing)
    {
        facts.push(Fact {
            name: "capture".to_owned(),
            standing: Standing::Missing,
            found: missing.to_owned(),
            remedy: format!("Without it {LOST_WITHOUT}."),
        });
    }
    facts
}

fn fact(fact: capture::kernel::Fact) -> Fact {
    let standing = match fact.standing {
        capture::kernel::Standing::Good => Standing::Good,
        capture::kernel::Standing::Limited => Standing::Limited,
        capture::kernel::Standing::Missing => Standing::Missing,
    };
    Fact { name: fact.name.to_owned(), standing, found: fact.found, remedy: fact.remedy }
}

fn in_words(error: &capture::Error) -> String {
    let error: &dyn std::error::Error = error;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The probes of this machine.
struct Probes {
    capture: Capture,
}

impl Kernel for Probes {
    fn watch(&mut self, pid: u32) -> Result<Watched, String> {
        self.capture.watch(pid).map_err(|error| in_words(&error))
    }

    fn unwatch(&mut self, pid: u32) {
        self.capture.unwatch(pid);
    }

    fn make_ready(&mut self, is_wanted: bool) {
        self.capture.make_ready(is_wanted);
    }

    fn ignore(&mut self, connection: ConnectionId) {
        self.capture.ignore(connection);
    }

    fn interest(&mut self, addresses: &[IpAddr]) {
        self.capture.interest(addresses);
    }

    fn next(&mut self, wait: Duration) -> Option<Event> {
        self.capture.next(wait)
    }

    fn lost(&self) -> BTreeMap<String, u64> {
        let lost = self.capture.lost().by_reason().into_iter().filter(|(_, number)| *number > 0);
        lost.map(|(reason, number)| (format!("capture_{reason}"), number)).collect()
    }

    fn wake(&self) -> Wake {
        let waker = self.capture.waker();
        Box::new(move || waker.wake())
    }
}
