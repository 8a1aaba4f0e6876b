//! Rows: what the dashboard's API answers with, one flat object a row.
//!
//! Keys are the names of [`crate::attribute`]; a value that is not known has no key, so that it
//! is never mistaken for zero. The dashboard writes these, the command line and the controller's
//! own socket read and write them too. `serde` cannot take a constant as a key, so a test holds
//! the two lists together.

mod call;
mod explanation;
mod fleet;
mod overview;
mod run;
mod service;
mod status;
mod value;

pub use call::{Call, Calls};
pub use explanation::{About, Explained, Explanation, Finding, Ruling, Rulings, Step};
pub use fleet::{Configurations, Configured, Happened, History, LayerRow, StepRow, Steps};
pub use overview::{Bucket, ByModel, Distribution, Group, Overview, Series, ServiceModel, Stats};
pub use run::{Run, Trace};
pub use service::{Asked, Evidence, Instance, Service, Services};
pub use status::{Node, Status, Storage};
pub use value::{Money, NotATime, NotMoney, Time};

#[cfg(test)]
mod tests;
