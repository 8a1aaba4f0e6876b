//! All that crosses between a node and the dashboard: the poll messages, desired and observed
//! state, and the names of attributes.
//!
//! Only values live here, and the rules that both ends must agree on (versions, leases, layers, the
//! table of `reconcile`) as pure functions of them. The controller observes and acts, the dashboard
//! keeps and shows. Every message ignores fields it does not know, so that the two
//! ends may be of different versions.
//!
//! Start with [`poll::Report`] and [`poll::Wish`], the two halves of one poll.
#![forbid(unsafe_code)]

pub mod attribute;
pub mod before;
pub mod capture;
pub mod doctor;
pub mod poll;
pub mod reconcile;
pub mod row;
pub mod rules;
pub mod settings;
pub mod step;
pub mod workload;
