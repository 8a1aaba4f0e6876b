//! The server side: it answers controllers, receives OTLP, and shows it all to people.
//!
//! [`Dashboard::start`] is the way in; everything that can fail fails there. Inside, `app.rs`
//! builds the router, `guard.rs` says who may pass, `api.rs` answers the page and the command
//! line, `poll.rs` answers controllers, `openlit.rs` those of OpenLIT, `otlp.rs` reads telemetry,
//! `forward.rs` passes it on, `prometheus.rs` counts, `page.rs` serves the page, `upkeep.rs` forgets
//! what is old.
//!
//! No SQL here: what is kept and how is `storage`'s.
#![forbid(unsafe_code)]

mod config;
mod dashboard;

mod app;
mod guard;

mod api;
mod openlit;
mod otlp;
mod page;
mod poll;

mod clock;
mod error;
mod forward;
mod hub;
mod prometheus;
mod serve;
mod service_account;
mod socket;
mod upkeep;

#[cfg(test)]
mod tests;

pub use config::{Config, PassOn, Passed, Port};
pub use dashboard::{Dashboard, Error};
pub use storage::{CallsIn, ClickHouse};
