//! Admission control: whether requests of clients are accepted, and how many may be in flight to upstreams.
//!
//! A client may have as many requests in flight as are left of `max_in_flight`, at most half of what the others
//! leave, so that a new client always has a share. Clients of one principal count as one.

use std::sync::Arc;

use crate::flight::record::Record;
use crate::limits::Exceeded;
use crate::relay::fault::Fault;
use crate::relay::principal::Principal;
use crate::rules::method;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// The count of requests in flight, and its limit.
pub(super) struct Admission {
    max: u64,
    in_flight: AtomicU64,
    is_closed: AtomicBool,
}

/// The requests that one client has in flight, counted for its principal, too.
pub(super) struct ClientShare {
    pub(super) principal: Arc<Principal>,
    in_flight: AtomicU64,
}

impl ClientShare {
    pub(super) fn new(principal: Arc<Principal>) -> Self {
        Self { principal, in_flight: AtomicU64::new(0) }
    }

    /// Counts one more; returns how many the principal had.
    fn admit(&self) -> u64 {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.principal.in_flight.fetch_add(1, Ordering::Relaxed)
    }

    /// Subtracts ended requests; those of a client that has left were subtracted before.
    pub(super) fn leave(&self, count: u64) {
        let less = |own: u64| Some(own.saturating_sub(count));
        let before = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.principal.in_flight.fetch_sub(count.min(before.unwrap_or(0)), Ordering::Relaxed);
    }
}

impl Admission {
    pub(super) fn new(most: u64) -> Self {
        Self { max: most, in_flight: AtomicU64::new(0), is_closed: AtomicBool::new(false) }
    }

    /// Whether a request counts as in flight: a listen is open-ended, and a drain does not wait for it.
    pub(super) fn counts(record: &Record) -> bool {
        &*record.method != method::LISTEN
    }

    /// Forwarded requests that have not ended, in both directions.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Admits one request of a client's.
    #[inline]
    pub(super) fn admit(&self, record: &Record, client: Option<&ClientShare>) -> Result<(), Fault> {
        let counted = u64::from(Self::counts(record));
        let before = self.in_flight.fetch_add(counted, Ordering::SeqCst);
        let own = client.filter(|_| counted > 0).map_or(0, ClientShare::admit);
        let left = self.max.saturating_sub(before);
        // Read after the request is counted: a close either sees it in flight or refuses it.
        let fault = if self.is_closed.load(Ordering::SeqCst) {
            Fault::Draining
        } else if left == 0 {
            Fault::Overloaded(Exceeded { limit: "max_in_flight", value: self.max as usize })
        } else if own >= left {
            Fault::Overloaded(Exceeded { limit: SHARE, value: own as usize })
        } else {
            return Ok(());
        };
        self.leave(counted as usize, client);
        Err(fault)
    }

    /// Counts a request that belongs to an admitted one: a request of a server's, another round.
    pub(super) fn admit_unbounded(&self, record: &Record, client: Option<&ClientShare>) {
        if Self::counts(record) {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            client.map(ClientShare::admit);
        }
    }

    /// Subtracts ended requests, of a client or of none.
    pub(super) fn leave(&self, count: usize, client: Option<&ClientShare>) {
        if count > 0 {
            self.in_flight.fetch_sub(count as u64, Ordering::SeqCst);
            if let Some(client) = client {
                client.leave(count as u64);
            }
        }
    }

    /// Whether new requests are refused.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Refuses new requests from now on.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }
}

/// The name of the limit on one client's share of `max_in_flight`.
pub(super) const SHARE: &str = "max_in_flight_share";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::record::{Direction, PeerInfo, RecordInit};
    use crate::flight::target::Target;

    fn record(method: &str) -> Record {
        let (peer, method) = (PeerInfo::new("peer", "memory"), method.into());
        Record::new(&RecordInit {
            number: 1,
            direction: Direction::Inbound,
            peer: &Arc::new(peer),
            method: &method,
            id: b"1",
            token: b"",
            target: Target::NONE,
            wants_progress: false,
            asker: None,
            is_leg: false,
            now: 1,
        })
    }

    fn client(number: u64) -> ClientShare {
        ClientShare::new(Arc::new(Principal::new(number, None)))
    }

    /// Admits requests until one is refused.
    fn fill(admission: &Admission, client: &ClientShare) -> (u64, Fault) {
        let mut taken = 0;
        loop {
            match admission.admit(&record("tools/call"), Some(client)) {
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
        let principal = Arc::new(Principal::new(1, None));
        let [one, two] = [(); 2].map(|()| ClientShare::new(Arc::clone(&principal)));
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
            assert_eq!(admission.admit(&record(method::LISTEN), Some(&client)), Ok(()));
        }
        assert_eq!((admission.in_flight(), fill(&admission, &client).0), (0, 1));
    }
}
