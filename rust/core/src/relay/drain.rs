//! The end by degrees: no new requests, then what is left is cancelled upstream and answered.

use crate::event::Batch;
use crate::flight::CancelledBy;
use crate::record::Time;
use crate::relay::exchange::Key;
use crate::relay::member::Side;
use crate::relay::round::Round;
use crate::relay::{Line, Relay, Routed};
use crate::sync::{Ordering, lock};

impl<L: Line> Relay<L> {
    /// Takes no new requests of clients any more; what is in flight goes on.
    pub fn close_admission(&self) {
        self.admission.close();
    }

    /// Whether new requests of clients are refused.
    pub fn is_closed(&self) -> bool {
        self.admission.is_closed()
    }

    /// Requests that were passed on and have not ended.
    pub fn in_flight(&self) -> u64 {
        self.admission.in_flight()
    }

    /// Closes admission to one connection of an upstream; what is in flight on it goes on.
    ///
    /// Whatever comes later goes to the next epoch or fails: nothing lands in the drained table (U1).
    pub fn retire(&self, key: Key) {
        let Some(member) = self.member(key) else { return };
        if let Side::Upstream { place, is_retired } = &member.side {
            place.close(key);
            // Who found the connection before looks at this under its lock.
            let _held = lock(member.line.connection());
            is_retired.store(true, Ordering::Relaxed);
        }
    }

    /// Cancels what is in flight to one connection of an upstream, and answers who asked for it.
    pub fn cancel_rest(&self, key: Key, now: Time) -> Routed<L> {
        let mut round = Round::new(self, b"", now);
        if let Some(member) = self.member(key) {
            let mut made = Batch::default();
            lock(member.line.connection()).cancel_legs(now, CancelledBy::Shutdown, None, &mut made);
            round.touch(&member);
            round.follow.push_back((key, made));
        }
        self.go_on(round)
    }
}
