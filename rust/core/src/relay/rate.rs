//! Requests a second of each principal: what is beyond is refused, whatever it asks for and whoever would answer it.

use std::collections::BTreeMap;

use crate::connection::event::Event;
use crate::flight::record::Time;
use crate::relay::fault::Fault;
use crate::relay::participant::{Participant, ParticipantKind};
use crate::relay::pass::RelayEvent;
use crate::relay::{Endpoint, Relay};
use crate::sync::{Ordering, lock};

const SECOND: Time = 1_000_000_000;

impl<L: Endpoint> Relay<L> {
    /// Lets each principal make `rate` requests a second from now on; 0 for any number.
    pub fn set_request_rate(&self, rate: u64) {
        self.request_rate.store(rate, Ordering::Relaxed);
    }

    /// The requests among some events that are too many for their principal, by their places.
    pub(super) fn too_many(
        &self,
        participant: &Participant<L>,
        events: &[RelayEvent<L>],
        now: Time,
    ) -> BTreeMap<usize, Fault> {
        match (&participant.kind, self.request_rate.load(Ordering::Relaxed)) {
            (ParticipantKind::Client { .. }, rate) if rate > 0 => {
                Self::beyond(participant, events, now, rate)
            }
            _ => BTreeMap::new(),
        }
    }

    #[cold]
    fn beyond(
        participant: &Participant<L>,
        events: &[RelayEvent<L>],
        now: Time,
        rate: u64,
    ) -> BTreeMap<usize, Fault> {
        let ParticipantKind::Client { state, .. } = &participant.kind else { return BTreeMap::new() };
        let mut limiter = lock(&state.principal.rate);
        let mut beyond = BTreeMap::new();
        for (at, event) in events.iter().enumerate() {
            // One that was cancelled in the read that brought it is one all the same.
            if let Event::Request { .. } = event
                && let Err(next) = limiter.check(now, rate as usize)
            {
                let seconds = next.saturating_sub(now).div_ceil(SECOND).max(1);
                beyond.insert(at, Fault::RateLimited { rate, seconds });
            }
        }
        beyond
    }
}
