//! Draining: refuse new requests, then cancel the rest upstream and answer it.

use crate::connection::event::Batch;
use crate::flight::record::Time;
use crate::flight::state::CancelledBy;
use crate::relay::key::Key;
use crate::relay::participant::ParticipantKind;
use crate::relay::pass::RoutingPass;
use crate::relay::{Endpoint, Relay, Routed};
use crate::sync::{Ordering, lock};

impl<L: Endpoint> Relay<L> {
    /// Refuses new requests of clients from now on; requests in flight go on.
    pub fn close_admission(&self) {
        self.admission.close();
    }

    /// Whether new requests of clients are refused.
    pub fn is_closed(&self) -> bool {
        self.admission.is_closed()
    }

    /// Forwarded requests that have not ended.
    pub fn in_flight(&self) -> u64 {
        self.admission.in_flight()
    }

    /// Closes admission to one connection of an upstream; its requests in flight go on.
    ///
    /// Later requests go to the next epoch or fail: none is registered on the drained connection (U1).
    pub fn retire(&self, key: Key) {
        let Some(participant) = self.participant(key) else { return };
        if let ParticipantKind::Upstream { slot, is_retired } = &participant.kind {
            slot.close(key);
            // A pass that found the connection before reads this under its lock.
            let _held = lock(participant.endpoint.connection());
            is_retired.store(true, Ordering::Relaxed);
        }
    }

    /// Cancels the requests in flight on one connection of an upstream, and answers their clients.
    pub fn cancel_rest(&self, key: Key, now: Time) -> Routed<L> {
        let mut pass = RoutingPass::new(self, b"", now);
        if let Some(participant) = self.participant(key) {
            let mut made = Batch::default();
            lock(participant.endpoint.connection()).cancel_legs(now, CancelledBy::Shutdown, None, &mut made);
            pass.touch(&participant);
            pass.follow_ups.push_back((key, made));
        }
        self.route_follow_ups(pass)
    }
}
