//! Admission: whether requests of clients are taken at all, and how many may be in flight to upstreams.

use crate::relay::fault::Fault;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// See the module's text.
pub(super) struct Admission {
    most: u64,
    in_flight: AtomicU64,
    is_closed: AtomicBool,
}

impl Admission {
    pub(super) fn new(most: u64) -> Self {
        Self { most, in_flight: AtomicU64::new(0), is_closed: AtomicBool::new(false) }
    }

    /// Requests that are passed on and have not ended, whoever asked.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Lets one request of a client's in.
    pub(super) fn enter(&self) -> Result<(), Fault> {
        let before = self.in_flight.fetch_add(1, Ordering::SeqCst);
        // Looked at after the request is counted: whoever closes either sees it in flight or keeps it out.
        let fault = if self.is_closed.load(Ordering::SeqCst) {
            Fault::Draining
        } else if before >= self.most {
            Fault::Overloaded("max_in_flight")
        } else {
            return Ok(());
        };
        self.leave(1);
        Err(fault)
    }

    /// Lets a request of a server's in: it belongs to something that is in flight already.
    pub(super) fn enter_reverse(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes note that some have ended.
    pub(super) fn leave(&self, count: usize) {
        if count > 0 {
            self.in_flight.fetch_sub(count as u64, Ordering::SeqCst);
        }
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }
}
