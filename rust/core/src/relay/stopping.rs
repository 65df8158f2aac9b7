//! Stopping one request that somebody sees in flight: its legs are cancelled, and who asked is answered.
//!
//! It takes the steps of a detach (`detaching`), for one request: no two connections are locked at once, and whatever ends
//! in between ends once.

use std::sync::Arc;

use crate::connection::event::Batch;
use crate::flight::record::Time;
use crate::flight::state::CancelledBy;
use crate::relay::detaching::was_sent;
use crate::relay::exchange::Owner;
use crate::relay::fault::Fault;
use crate::relay::key::Key;
use crate::relay::pass::RoutingPass;
use crate::relay::{Endpoint, Relay, Routed};
use crate::sync::lock;
use crate::wire::text::Text;

impl<L: Endpoint> Relay<L> {
    /// Stops request `number` of one connection, since an operator says so; None where it is over.
    pub fn stop(&self, key: Key, number: u64, reason: Option<&Text>, now: Time) -> Option<Routed<L>> {
        let participant = self.participant(key)?;
        let mut pass = RoutingPass::new(self, b"", now);
        let mut made = Batch::default();
        let leg = {
            let connection = lock(participant.endpoint.connection());
            connection.unanswered(number)?;
            connection.owner_of(number).and_then(Owner::leg)
        };
        if let Some(leg) = leg {
            self.cancel_leg(&mut pass, leg, CancelledBy::Operator, reason);
        }
        {
            let mut connection = lock(participant.endpoint.connection());
            let answered = connection.stop(now, number, reason, &mut made, |record| {
                (Fault::Cancelled.data(was_sent(record), "", ""), Fault::Cancelled.message())
            });
            pass.routed.finished.extend(answered.and_then(|answered| answered.finished));
            connection.settle_account();
        }
        pass.touch(&participant);
        self.route_events(&mut pass, &participant, &mut made);
        if !made.events.is_empty() {
            pass.routed.unrouted.push((Arc::clone(&participant.endpoint), made));
        }
        Some(self.route_follow_ups(pass))
    }
}
