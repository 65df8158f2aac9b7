//! Admission: whether requests of clients are taken at all, and how many may be in flight to upstreams.

use crate::limits::Exceeded;
use crate::record::Record;
use crate::relay::fault::Fault;
use crate::rules::method;
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

    /// Whether a request counts as in flight: a listen goes on without end, and is waited for by nobody.
    pub(super) fn counts(record: &Record) -> bool {
        &*record.method != method::LISTEN
    }

    /// Requests that are passed on and have not ended, whoever asked.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Lets one request of a client's in.
    pub(super) fn enter(&self, record: &Record) -> Result<(), Fault> {
        let counted = u64::from(Self::counts(record));
        let before = self.in_flight.fetch_add(counted, Ordering::SeqCst);
        // Looked at after the request is counted: whoever closes either sees it in flight or keeps it out.
        let fault = if self.is_closed.load(Ordering::SeqCst) {
            Fault::Draining
        } else if before >= self.most {
            Fault::Overloaded(Exceeded { limit: "max_in_flight", value: self.most as usize })
        } else {
            return Ok(());
        };
        self.leave(counted as usize);
        Err(fault)
    }

    /// Lets in what belongs to something that was let in before: a request of a server's, another round.
    pub(super) fn enter_further(&self, record: &Record) {
        self.in_flight.fetch_add(u64::from(Self::counts(record)), Ordering::SeqCst);
    }

    /// Takes note that some have ended.
    pub(super) fn leave(&self, count: usize) {
        if count > 0 {
            self.in_flight.fetch_sub(count as u64, Ordering::SeqCst);
        }
    }

    /// Whether nobody is let in any more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }
}
