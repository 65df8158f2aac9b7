//! A routing pass: one batch, and the events that follow from it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::connection::Connection;
use crate::connection::event::Event;
use crate::flight::record::Time;
use crate::relay::exchange::{Leg, Relaying};
use crate::relay::fault::Fault;
use crate::relay::key::Key;
use crate::relay::participant::Participant;
use crate::relay::retained::RetainedRequest;
use crate::relay::route::Routes;
use crate::relay::upstream::Upstream;
use crate::relay::{Endpoint, Relay, RelayBatch, Routed};
use crate::sync::Ordering;
use crate::wire::span::Span;

pub(super) type RelayEvent<L> = Event<Relaying<<L as Endpoint>::Host>>;
pub(super) type DestConnection<L> = Connection<Relaying<<L as Endpoint>::Host>>;

/// A routing pass: one batch, and the events that follow from it.
pub(super) struct RoutingPass<'a, L: Endpoint> {
    pub(super) now: Time,
    /// The number of this pass; a participant remembers the last one that listed it.
    number: u64,
    /// The bytes that the spans of the current batch refer to.
    pub(super) region: &'a [u8],
    pub(super) routed: Routed<L>,
    /// Batches that destinations emitted, to be routed next.
    pub(super) follow_ups: VecDeque<(Key, RelayBatch<L>)>,
    /// Legs of the source's requests on other connections.
    pub(super) legs: Vec<(u64, Leg)>,
    /// The source's requests that the relay answers: number, why, and for which upstream.
    pub(super) faults: Vec<(u64, Fault, Option<Arc<Upstream>>)>,
    /// Spans in `region` of the names that faults quote, in the order of the faults.
    pub(super) names: Vec<Span>,
    /// Requests and answers forwarded that are not in the relay's counts yet.
    pub(super) forwarded: u64,
    pub(super) answered: u64,
    /// The retained request, where the host forwards another round of it.
    pub(super) retained: Option<Arc<RetainedRequest>>,
    /// The routes that decided about the request, where the host forwards it; its client may have others by now.
    pub(super) routes: Option<Arc<Routes>>,
}

impl<'a, L: Endpoint> RoutingPass<'a, L> {
    pub(super) fn new(relay: &Relay<L>, region: &'a [u8], now: Time) -> Self {
        Self {
            now,
            number: relay.passes.fetch_add(1, Ordering::Relaxed) + 1,
            region,
            routed: Routed::default(),
            follow_ups: VecDeque::new(),
            legs: Vec::new(),
            faults: Vec::new(),
            names: Vec::new(),
            forwarded: 0,
            answered: 0,
            retained: None,
            routes: None,
        }
    }

    pub(super) fn touch(&mut self, participant: &Participant<L>) {
        if participant.last_pass.swap(self.number, Ordering::Relaxed) != self.number {
            self.routed.touched.push(Arc::clone(&participant.endpoint));
        }
    }
}
