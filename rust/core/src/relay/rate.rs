//! Requests a second of each principal: what is beyond is refused, whatever it asks for and whoever would answer it.

use crate::connection::event::Event;
use crate::flight::record::Time;
use crate::relay::fault::Fault;
use crate::relay::participant::{Participant, ParticipantKind};
use crate::relay::pass::RoutingPass;
use crate::relay::{Endpoint, Relay, RelayBatch};
use crate::sync::{Ordering, lock};

const SECOND: Time = 1_000_000_000;

impl<L: Endpoint> Relay<L> {
    /// Lets each principal make `rate` requests a second from now on; 0 for any number.
    pub fn set_request_rate(&self, rate: u64) {
        self.request_rate.store(rate, Ordering::Relaxed);
        self.note_watchful();
    }

    /// Refuses the requests of a batch that are too many for their principal, and takes them out.
    pub(super) fn refuse_beyond_rate(
        &self,
        pass: &mut RoutingPass<'_, L>,
        participant: &Participant<L>,
        batch: &mut RelayBatch<L>,
    ) {
        let rate = self.request_rate.load(Ordering::Relaxed);
        let ParticipantKind::Client { state, .. } = &participant.kind else { return };
        if rate == 0 {
            return;
        }
        let mut limiter = lock(&state.principal.rate);
        batch.events.retain(|event| {
            // One that was cancelled in the read that brought it is one all the same.
            let Event::Request { record, .. } = event else { return true };
            let Err(next) = limiter.check(pass.now, rate as usize) else { return true };
            let seconds = next.saturating_sub(pass.now).div_ceil(SECOND).max(1);
            pass.faults.push((record.number, Fault::RateLimited { rate, seconds }, None));
            false
        });
    }
}
