//! The node side: finds the programs that talk to models, reads their calls, sends them on, and does
//! what the dashboard wants.
//!
//! Its threads, and the queues between them, are in the table of ARCHITECTURE.md. The loop of `capture`
//! is in `watcher`, that of `pipeline` in `pipeline`, of `reconcile` in `event_loop`, of `socket` in
//! `local`, of `player` in `replay`, of `steps` in `steps` and `taking`, of `poll` and `report` in
//! `poll`; the others are called as their modules. What a full queue refuses is counted by `limits`.
//!
//! The deciding parts are functions of values: `pipeline::Pipeline`, `asks::Asks`, `relays::Relays`,
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
