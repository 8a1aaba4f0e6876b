//! The node side: finds the programs that talk to models, reads their calls, sends them on, and does
//! what the dashboard wants.
//!
//! # Threads, and the queues between them
//!
//! | thread | does | reads from | bound |
//! |---|---|---|---|
//! | `capture` | steps to the kernel, events out of it (`watcher`) | `Orders` | 1 024 steps |
//! | `pipeline` | events to sightings and model calls (`pipeline`) | `EventQueue` | 16 384 events, 64 MiB |
//! | `reconcile` | keeps the registry, plans, carries out (`event_loop`) | `Notices` | 4 096 |
//! | `export` | calls to OTLP, sent and sent again (`export`) | `Queue` | 4 096 calls, then 256 MiB on disk |
//! | `poll` | lets the node in, holds the long poll open (`poll`) | – | – |
//! | `report` | tells every change, one after the other (`poll`) | `Standings` | the newest only |
//! | `steps` | takes the steps that the dashboard asks for (`steps`, `taking`) | `Steps` | 256 steps |
//! | `discovery` | finds programs by their open connections and by what listens | hints | 1 024 |
//! | `injection` | puts SDKs into programs and takes them out, on platforms' own ways (`injection`) | questions | 16 |
//! | `resolver` | asks the resolver of this node for the known names | – | – |
//! | `player` | plays a recording in place of `capture` (`replay`) | – | – |
//! | `socket` | answers the command line (`local`) | – | one caller at a time |
//!
//! A full queue drops what is newest and counts it (`limits`); nothing waits for the dashboard. The
//! deciding parts are functions of values: `pipeline::Pipeline`, `asks::Asks`, `relays::Relays`,
//! `rules::Rulebook`, `registry::Registry`, `reconcile::plan`, `export::span`, `poll::agreement`,
//! `poll::deltas`, `ceilings::Ceilings`.
//!
//! # What is on disk
//!
//! All in the data directory, each file replaced as a whole, for the owner alone: `controller.json`
//! (workloads and the last wishes), `credential.json`, `configuration.json` (of the dashboard),
//! `steps.json` and `steps.log`, `injections.json` (what was changed for SDKs, with the way back), and `spool/` with calls that wait for their receiver.
//!
//! Nothing here listens on a network, and nothing that was captured is logged. A recording
//! ([`Config::record`]) is the one place that holds what people typed; it is made on request alone.
//!
//! Start with [`Controller`].
#![forbid(unsafe_code)]

mod asks;
mod bystanders;
mod ceilings;
mod clock;
mod config;
mod controller;
mod credential;
mod discovery;
mod event_loop;
mod explain;
mod export;
mod file;
mod given;
mod injection;
mod kernel;
mod limits;
mod link;
mod local;
mod names;
mod pipeline;
mod poll;
mod programs;
mod progress;
mod reconcile;
mod record;
mod registry;
mod relays;
mod replay;
pub mod rules;
mod seen;
mod servers;
#[cfg(test)]
mod stand_in;
mod standing;
mod steps;
mod taking;
mod tiers;
mod tuning;
mod watcher;
mod witness;

pub use config::{Agents, Ceilings, Config, Otlp, Platforms, Token, Trust};
pub use controller::{Controller, facts};
pub use injection::{Restored, changed, restore};
pub use replay::{Playback, Replay};
