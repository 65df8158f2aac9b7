//! Admission: whether requests of clients are taken at all, and how many may be in flight to upstreams.
//!
//! Nobody takes more than half of what the others leave, so that whoever comes finds room: of `max_in_flight`, a client
//! may have as many in flight as are left. Clients of one principal are one in this.

use std::sync::Arc;

use crate::limits::Exceeded;
use crate::record::Record;
use crate::relay::fault::Fault;
use crate::relay::principal::Principal;
use crate::rules::method;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// See the module's text.
pub(super) struct Admission {
    most: u64,
    in_flight: AtomicU64,
    is_closed: AtomicBool,
}

/// What one client has in flight on behalf of its principal.
pub(super) struct Part {
    pub(super) principal: Arc<Principal>,
    in_flight: AtomicU64,
}

impl Part {
    pub(super) fn new(principal: Arc<Principal>) -> Self {
        Self { principal, in_flight: AtomicU64::new(0) }
    }

    /// Counts one more; gives how many the principal had.
    fn enter(&self) -> u64 {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.principal.in_flight.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes note that some have ended; what a client left behind that is gone does not count any more.
    pub(super) fn leave(&self, count: u64) {
        let less = |own: u64| Some(own.saturating_sub(count));
        let before = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.principal.in_flight.fetch_sub(count.min(before.unwrap_or(0)), Ordering::Relaxed);
    }
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
    pub(super) fn enter(&self, record: &Record, client: Option<&Part>) -> Result<(), Fault> {
        let counted = u64::from(Self::counts(record));
        let before = self.in_flight.fetch_add(counted, Ordering::SeqCst);
        let own = client.filter(|_| counted > 0).map_or(0, Part::enter);
        let left = self.most.saturating_sub(before);
        // Looked at after the request is counted: whoever closes either sees it in flight or keeps it out.
        let fault = if self.is_closed.load(Ordering::SeqCst) {
            Fault::Draining
        } else if left == 0 {
            Fault::Overloaded(Exceeded { limit: "max_in_flight", value: self.most as usize })
        } else if own >= left {
            Fault::Overloaded(Exceeded { limit: SHARE, value: own as usize })
        } else {
            return Ok(());
        };
        self.leave(counted as usize, client);
        Err(fault)
    }

    /// Lets in what belongs to something that was let in before: a request of a server's, another round.
    pub(super) fn enter_further(&self, record: &Record, client: Option<&Part>) {
        if Self::counts(record) {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            client.map(Part::enter);
        }
    }

    /// Takes note that some have ended, of one client's or of nobody's.
    pub(super) fn leave(&self, count: usize, client: Option<&Part>) {
        if count > 0 {
            self.in_flight.fetch_sub(count as u64, Ordering::SeqCst);
            if let Some(client) = client {
                client.leave(count as u64);
            }
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

/// What the limit is called that one client's share of `max_in_flight` is.
pub(super) const SHARE: &str = "max_in_flight_share";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Beginning, Direction, Peer};

    fn record(method: &str) -> Record {
        let (peer, method) = (Peer { name: "peer".into(), transport: "memory".into() }, method.into());
        Record::new(&Beginning {
            number: 1,
            direction: Direction::Inbound,
            peer: &Arc::new(peer),
            method: &method,
            id: b"1",
            token: b"",
            wants_progress: false,
            is_leg: false,
            now: 1,
        })
    }

    fn client(number: u64) -> Part {
        Part::new(Arc::new(Principal::new(number)))
    }

    /// Takes as many as there are to be had.
    fn fill(admission: &Admission, client: &Part) -> (u64, Fault) {
        let mut taken = 0;
        loop {
            match admission.enter(&record("tools/call"), Some(client)) {
                Ok(()) => taken += 1,
                Err(fault) => return (taken, fault),
            }
        }
    }

    #[test]
    fn s7_nobody_takes_more_than_half_of_what_the_others_leave() {
        let admission = Admission::new(64);
        let clients: Vec<_> = (0..4).map(client).collect();
        let share = |value| Fault::Overloaded(Exceeded { limit: SHARE, value });
        assert_eq!(fill(&admission, &clients[0]), (32, share(32)));
        assert_eq!(fill(&admission, &clients[1]), (16, share(16)));
        assert_eq!(fill(&admission, &clients[2]), (8, share(8)));
        assert_eq!(fill(&admission, &clients[3]), (4, share(4)));
        // What ends is shared among those that are there.
        admission.leave(20, Some(&clients[0]));
        assert_eq!(fill(&admission, &clients[3]).0, 10);
        assert_eq!(fill(&admission, &clients[0]), (1, share(13)));
        assert_eq!(fill(&admission, &clients[2]).0, 3);
    }

    #[test]
    fn s7_the_last_one_is_anybodys_who_has_none() {
        let admission = Admission::new(1);
        let [one, two] = [1, 2].map(client);
        assert_eq!(fill(&admission, &one).0, 1);
        let full = Fault::Overloaded(Exceeded { limit: "max_in_flight", value: 1 });
        assert_eq!(fill(&admission, &two), (0, full));
        admission.leave(1, Some(&one));
        assert_eq!(fill(&admission, &two).0, 1);
    }

    #[test]
    fn s7_clients_of_one_principal_have_one_share_and_leave_it_when_they_go() {
        let admission = Admission::new(64);
        let principal = Arc::new(Principal::new(1));
        let [one, two] = [(); 2].map(|()| Part::new(Arc::clone(&principal)));
        assert_eq!(fill(&admission, &one).0, 32);
        assert_eq!(fill(&admission, &two).0, 0);
        // It is gone, and what it left behind ends later.
        one.leave(u64::MAX);
        assert_eq!(principal.in_flight.load(Ordering::Relaxed), 0);
        admission.leave(32, Some(&one));
        assert_eq!((principal.in_flight.load(Ordering::Relaxed), admission.in_flight()), (0, 0));
        assert_eq!(fill(&admission, &two).0, 32);
    }

    #[test]
    fn what_goes_on_without_end_counts_for_nobody() {
        let admission = Admission::new(2);
        let client = client(1);
        for _ in 0..10 {
            assert_eq!(admission.enter(&record(method::LISTEN), Some(&client)), Ok(()));
        }
        assert_eq!((admission.in_flight(), fill(&admission, &client).0), (0, 1));
    }
}
