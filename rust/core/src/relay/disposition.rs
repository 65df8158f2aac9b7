//! The disposition of an event: to another connection, to the host, or dropped.

use crate::connection::event::{End, Event, Host};
use crate::relay::exchange::{Leg, Owner, Relaying};
use crate::relay::fault::Fault;
use crate::relay::key::Key;
use crate::relay::participant::{Participant, ParticipantKind};
use crate::relay::pass::RelayEvent;
use crate::relay::route::Goal;
use crate::relay::suspended;
use crate::relay::{Endpoint, Relay};
use crate::sync::Ordering;

/// What the relay does with one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// The host acts on it.
    Host,
    /// It is dropped.
    Drop,
    /// It is applied to that connection.
    To(Key),
    /// The relay answers the request with an error, about an upstream if there is one.
    Fail(Fault, Option<usize>),
    /// A notification for any number of connections; the host's observers get it, too.
    Broadcast,
}

/// The other half of the exchange that an event is about.
pub(super) const fn leg_of<H: Host>(event: &Event<Relaying<H>>) -> Option<Leg> {
    match event {
        Event::Settled { owner: Some(owner), .. }
        | Event::Progress { owner: Some(owner), .. }
        | Event::TaskOver { owner: Some(owner), .. }
        | Event::Notification { owner: Some(owner), .. } => owner.leg(),
        Event::Cancelled { owner: Some(owner), .. } => owner.leg(),
        _ => None,
    }
}

impl<L: Endpoint> Relay<L> {
    pub(super) fn disposition(
        &self,
        participant: &Participant<L>,
        event: &RelayEvent<L>,
        region: &[u8],
    ) -> Disposition {
        if let Event::Settled { owner: Some(owner), end: End::Result(_), answer: Some(answer), .. } = event
            && owner.retained().is_some()
            && answer.needs_input
        {
            return Disposition::Host;
        }
        if let Some(leg) = leg_of(event) {
            return Disposition::To(leg.connection);
        }
        match (event, &participant.kind) {
            // Cancelled in the batch that brought it, or by the end of its channel: no trace upstream (F3). The host
            // would not start it either.
            (Event::Request { record, .. }, _) if record.outcome().is_some() => Disposition::Drop,
            // Over HTTP even a shared server says of whose request it is that it asks.
            (Event::Request { during, .. }, ParticipantKind::Upstream { slot, .. }) => {
                match during.as_ref().and_then(Owner::leg).map(|leg| leg.connection).or_else(|| slot.client())
                {
                    Some(client) if self.needs_suspension(client) => Disposition::Host,
                    Some(client) => Disposition::To(client),
                    // During a call of the host's, who knows whose it is.
                    None if during.is_some() => Disposition::Host,
                    None => Disposition::Fail(Fault::NoAttribution, None),
                }
            }
            (Event::Request { frame, envelope, .. }, ParticipantKind::Client { upstreams, state, .. }) => {
                match participant.kind.goal(frame.of(region), envelope) {
                    Ok(Goal::Host) => Disposition::Host,
                    _ if state.has_suspended.load(Ordering::Acquire)
                        && suspended::resumes_suspended(frame.of(region), envelope) =>
                    {
                        Disposition::Host
                    }
                    _ if self.is_watched(frame.of(region), envelope) => Disposition::Host,
                    Err(fault) => Disposition::Fail(fault, None),
                    Ok(Goal::Nowhere) => Disposition::Fail(Fault::nowhere(frame.of(region), envelope), None),
                    Ok(Goal::Upstream(position)) => {
                        let slot = upstreams.get(position);
                        match slot.and_then(|slot| slot.current()) {
                            Some(key) => Disposition::To(key),
                            None if slot.is_some_and(|slot| slot.upstream.waits_for_connection) => {
                                Disposition::Host
                            }
                            None => Disposition::Fail(Fault::UpstreamClosed, Some(position)),
                        }
                    }
                }
            }
            // A listen of the host's own.
            (Event::Notification { owner: Some(_), .. }, _) => Disposition::Host,
            // On a listen that is over (race 13), or from a client, which sends none.
            (Event::Notification { envelope, .. }, _) if !envelope.subscription_id.is_empty() => {
                Disposition::Drop
            }
            (Event::Notification { frame, envelope, .. }, _) => {
                match &*envelope.method_name(frame.of(region)) {
                    b"notifications/cancelled" | b"notifications/progress" => Disposition::Host,
                    _ => Disposition::Broadcast,
                }
            }
            _ => Disposition::Host,
        }
    }
}
