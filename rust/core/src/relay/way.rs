//! Which way an event goes: to another connection, to the host, or nowhere.

use crate::event::{End, Event, Host};
use crate::relay::exchange::{Key, Leg, Relaying};
use crate::relay::fault::Fault;
use crate::relay::member::{Member, Side};
use crate::relay::parked;
use crate::relay::round::Told;
use crate::relay::route::Goal;
use crate::relay::{Line, Relay};
use crate::sync::Ordering;

/// What one event means for the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing: the host acts on it.
    Host,
    /// Nothing to anyone.
    Drop,
    /// Something on that connection.
    To(Key),
    /// A request that the relay answers itself, in the name of an upstream if there is one.
    Refuse(Fault, Option<usize>),
    /// A notification for several connections, or for none; the host's observers see it, too.
    Spread,
}

/// The other half of the exchange that an event is about.
pub(super) const fn owner_of<H: Host>(event: &Event<Relaying<H>>) -> Option<Leg> {
    match event {
        Event::Settled { owner: Some(owner), .. }
        | Event::Progress { owner: Some(owner), .. }
        | Event::TaskOver { owner: Some(owner), .. }
        | Event::Notification { owner: Some(owner), .. } => owner.leg(),
        Event::Cancelled { owner: Some(owner), .. } => owner.leg(),
        _ => None,
    }
}

impl<L: Line> Relay<L> {
    pub(super) fn way(&self, member: &Member<L>, event: &Told<L>, region: &[u8]) -> Way {
        if let Event::Settled { owner: Some(owner), end: End::Result(_), answer: Some(answer), .. } = event
            && owner.kept().is_some()
            && answer.asks
        {
            return Way::Host;
        }
        if let Some(leg) = owner_of(event) {
            return Way::To(leg.line);
        }
        match (event, &member.side) {
            // Cancelled in the batch that brought it, or by the end of its channel: no trace upstream (S3). The host
            // would not start it either.
            (Event::Request { record, .. }, _) if record.outcome().is_some() => Way::Drop,
            (Event::Request { .. }, Side::Upstream { place, .. }) => match place.client() {
                Some(client) if self.is_asked_otherwise(client) => Way::Host,
                Some(client) => Way::To(client),
                None => Way::Refuse(Fault::NoAttribution, None),
            },
            (Event::Request { frame, envelope, .. }, Side::Client { places, parks, .. }) => {
                match member.side.goal(frame.of(region), envelope) {
                    Ok(Goal::Host) => Way::Host,
                    _ if parks.load(Ordering::Acquire) && parked::comes_back(frame.of(region), envelope) => {
                        Way::Host
                    }
                    _ if self.is_watched(frame.of(region), envelope) => Way::Host,
                    Err(fault) => Way::Refuse(fault, None),
                    Ok(Goal::Nowhere) => Way::Refuse(Fault::nowhere(frame.of(region), envelope), None),
                    Ok(Goal::Upstream(position)) => match places.at(position).and_then(|place| place.key()) {
                        Some(key) => Way::To(key),
                        None if self.upstreams.get(position).is_some_and(|upstream| upstream.waits) => {
                            Way::Host
                        }
                        None => Way::Refuse(Fault::UpstreamClosed, Some(position)),
                    },
                }
            }
            // A listen of the host's own.
            (Event::Notification { owner: Some(_), .. }, _) => Way::Host,
            // Of a listen that is over (race 13), or of none: clients have nothing to say on one.
            (Event::Notification { envelope, .. }, _) if !envelope.subscription_id.is_empty() => Way::Drop,
            (Event::Notification { frame, envelope, .. }, _) => {
                match &*envelope.method_name(frame.of(region)) {
                    b"notifications/cancelled" | b"notifications/progress" => Way::Host,
                    _ => Way::Spread,
                }
            }
            _ => Way::Host,
        }
    }
}
