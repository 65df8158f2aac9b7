//! Flights: what a request is from its registration to its end, and where that is kept.
//!
//! `state` decides every transition, `table` holds the states, `record` the evidence; the rest finds, times and reuses.

pub(crate) mod id_index;
pub(crate) mod interner;
pub mod ledger;
pub(crate) mod pool;
pub mod progress_queue;
pub mod record;
pub(crate) mod sparse_map;
pub mod state;
pub mod table;
pub mod target;
pub mod timer_wheel;
