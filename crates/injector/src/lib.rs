//! Brings the SDK into programs, and takes it out again.
//!
//! [`environment`] says what a program is started with, [`report`] reads what its agent says of
//! itself. What the agent is stands in `agents/python/README.md`.
//!
//! [`plan`] is what a change of a platform's object is: it can be shown, kept, made and undone.
//! `program` says which programs the agent cannot be put into. `systemd` and its neighbours, one a
//! platform, have a pure half that plans and a thin one that speaks to the platform; [`Hands`] joins
//! them.
#![forbid(unsafe_code)]

pub mod bundle;
mod difference;
mod docker;
pub mod environment;
mod hands;
mod kubernetes;
pub mod plan;
mod program;
pub mod report;
mod systemd;

pub use docker::Member;
pub use hands::{Hands, Health, Target, Undone};
pub use kubernetes::Workload;
pub use kubernetes::cluster::Cluster;
pub use kubernetes::lease::{End, How};
pub use kubernetes::turns::{Glance, Turn, Turns};
pub use systemd::{AS_USER, act_as_user};
