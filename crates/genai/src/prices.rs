//! What a call costs, by a table that is compiled in.

use crate::{Cost, Usage};

/// Version of the bundled price table.
pub const PRICE_TABLE: &str = "none";

/// The price of a call, exact. `None` when the model has no price or a count is missing.
pub(crate) fn cost(_provider: &str, _models: [Option<&str>; 2], _usage: &Usage) -> Option<Cost> {
    None
}
