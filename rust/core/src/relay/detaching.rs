//! Detaching: a client is relayed no more while its connection goes on.
//!
//! No two connections are locked at once. First the client is given routes that lead to the host only, so that every
//! later pass takes what it sends there. What is left is ended in steps: its connection is locked to learn what it waits
//! for, each upstream to cancel that, and its connection again to answer, which now can say what was sent. A pass of
//! another thread that found the client before has no effect: a request that it forwards is answered by then, so that its
//! leg is cancelled; a server's request is refused; and what the client itself answered before still goes to who asked.

use std::sync::Arc;

use crate::connection::event::{Batch, Event};
use crate::flight::record::{Record, Time};
use crate::flight::state::CancelledBy;
use crate::relay::exchange::{Leg, Owner};
use crate::relay::fault::Fault;
use crate::relay::key::Key;
use crate::relay::participant::ParticipantKind;
use crate::relay::pass::RoutingPass;
use crate::relay::route::Routes;
use crate::relay::{Endpoint, Relay, Routed};
use crate::rules::method;
use crate::sync::{Ordering, lock};

/// Why the legs of a detached client are cancelled.
const REASON: &[u8] = b"the client was detached";

/// Whether an upstream may have seen a request, as its legs say: one that has not ended may be written yet.
pub(super) fn was_sent(record: &Record) -> bool {
    record.legs().any(|leg| leg.written().is_some() || leg.outcome().is_none())
}

impl<L: Endpoint> Relay<L> {
    /// Relays a client no more: ends its exchanges at both sides, each once. Its connection goes on, as the host's.
    pub fn detach(&self, client: Key, now: Time) -> Routed<L> {
        self.reassign(client, Arc::new(Routes::to_host()), Vec::new());
        let mut pass = RoutingPass::new(self, b"", now);
        let Some(participant) = self.participant(client) else { return pass.routed };
        let ParticipantKind::Client { state, .. } = &participant.kind else { return pass.routed };
        let mut made = Batch::default();
        let legs: Vec<Leg> = {
            let mut connection = lock(participant.endpoint.connection());
            // A pass that found the client before reads this under its lock.
            state.is_detached.store(true, Ordering::Relaxed);
            connection.cancel_legs(now, CancelledBy::Shutdown, Some(REASON), &mut made);
            connection.requests().filter_map(|(_, owner)| owner.and_then(Owner::leg)).collect()
        };
        for leg in legs {
            self.cancel_leg(&mut pass, leg, CancelledBy::Shutdown, Some(REASON));
        }
        {
            let mut connection = lock(participant.endpoint.connection());
            let message = Fault::Detached.message();
            let answered = connection.answer_all(now, REASON, &mut made, |record| {
                (Fault::Detached.data(was_sent(record), "", ""), message)
            });
            self.counts.detached.fetch_add(answered.len() as u64, Ordering::Relaxed);
            pass.routed.finished.extend(answered);
            connection.record_finished(&mut made);
            connection.settle_account();
        }
        pass.touch(&participant);
        self.route_events(&mut pass, &participant, &mut made);
        pass.routed.finished.append(&mut made.finished);
        if !made.events.is_empty() {
            pass.routed.unrouted.push((Arc::clone(&participant.endpoint), made));
        }
        self.route_follow_ups(pass)
    }

    /// Ends the listens of a client that were passed on, as a server that closes does: its routes lead elsewhere now.
    pub fn end_listens(&self, client: Key, now: Time) -> Routed<L> {
        let mut pass = RoutingPass::new(self, b"", now);
        let Some(participant) = self.participant(client) else { return pass.routed };
        let mut made = Batch::default();
        {
            let mut connection = lock(participant.endpoint.connection());
            let listens = connection.requests().filter_map(|(record, owner)| {
                let owner =
                    owner.filter(|owner| owner.leg().is_some() && &*record.method == method::LISTEN)?;
                Some((Arc::clone(record), owner.clone()))
            });
            for (record, owner) in listens.collect::<Vec<_>>() {
                pass.routed.finished.extend(connection.close_listen_of_peer(now, record.number).finished);
                made.events.push(Event::Cancelled { owner: Some(owner), record, declined: false });
            }
            connection.settle_account();
        }
        pass.touch(&participant);
        pass.follow_ups.push_back((client, made));
        self.route_follow_ups(pass)
    }
}
