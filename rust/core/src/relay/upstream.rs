//! One upstream as declared, for every connection to it.

use std::sync::Arc;

use crate::flight::record::Time;
use crate::limits::Exceeded;
use crate::sync::{AtomicU64, Ordering};

/// Position, name, timeouts, waiting and bound of one upstream.
#[derive(Debug)]
pub struct Upstream {
    /// What routes refer to it by; no other upstream of the relay ever has it.
    pub position: usize,
    /// Its name in errors and records.
    pub name: Box<str>,
    /// Nanoseconds without answer or progress; 0 for never.
    pub idle: Time,
    /// Nanoseconds in all; 0 for never.
    pub max: Time,
    /// Whether requests go to the host while there is no connection, so that it can make one; otherwise they are
    /// refused.
    pub waits_for_connection: bool,
    /// What bounds the requests in flight to it, over all its connections; None for nothing.
    pub load: Option<Arc<Load>>,
}

/// The requests of clients that are in flight to one upstream, and how many there may be.
#[derive(Debug)]
pub struct Load {
    most: u64,
    in_flight: AtomicU64,
}

/// The name of the limit.
pub(super) const MAX_UPSTREAM_IN_FLIGHT: &str = "max_upstream_in_flight";

impl Load {
    /// Of an upstream that may have `most` in flight.
    pub fn new(most: u64) -> Self {
        Self { most, in_flight: AtomicU64::new(0) }
    }

    /// Counts one more, unless there are as many as there may be.
    pub(super) fn admit(&self) -> Result<(), Exceeded> {
        let more = |count: u64| (count < self.most).then_some(count + 1);
        let admitted = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        let exceeded = Exceeded { limit: MAX_UPSTREAM_IN_FLIGHT, value: self.most as usize };
        admitted.map(drop).map_err(|_| exceeded)
    }

    /// Counts one more that belongs to one that was admitted.
    pub(super) fn admit_unbounded(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Subtracts requests that ended.
    pub(super) fn leave(&self, count: usize) {
        self.in_flight.fetch_sub(count as u64, Ordering::Relaxed);
    }
}
