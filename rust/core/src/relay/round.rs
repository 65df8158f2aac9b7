//! One batch on its way, and everything that comes of it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::connection::Connection;
use crate::event::Event;
use crate::record::Time;
use crate::relay::exchange::{Key, Leg, Relaying};
use crate::relay::fault::Fault;
use crate::relay::kept::Kept;
use crate::relay::member::Member;
use crate::relay::{Events, Line, Relay, Routed};
use crate::span::Span;
use crate::sync::Ordering;

pub(super) type Told<L> = Event<Relaying<<L as Line>::Host>>;
pub(super) type Far<L> = Connection<Relaying<<L as Line>::Host>>;

/// One batch on its way, and everything that comes of it.
pub(super) struct Round<'a, L: Line> {
    pub(super) now: Time,
    /// Each round has another number, by which a connection knows that it is listed.
    number: u64,
    /// What the spans of the present batch refer to.
    pub(super) region: &'a [u8],
    pub(super) routed: Routed<L>,
    /// What destinations made of it: their batches are carried over next.
    pub(super) follow: VecDeque<(Key, Events<L>)>,
    /// Far legs of the source's requests.
    pub(super) legs: Vec<(u64, Leg)>,
    /// The source's requests that the relay answers: number, why, and for which upstream.
    pub(super) faults: Vec<(u64, Fault, Option<usize>)>,
    /// Where the names stand, in `region`, that faults are about, in the faults' order.
    pub(super) names: Vec<Span>,
    /// Requests passed on, and answers passed back, that were not added to the relay's counts yet.
    pub(super) forwarded: u64,
    pub(super) answered: u64,
    /// What the host keeps of the one request that it passes on, if it is another round of it.
    pub(super) kept: Option<Arc<Kept>>,
}

impl<'a, L: Line> Round<'a, L> {
    pub(super) fn new(relay: &Relay<L>, region: &'a [u8], now: Time) -> Self {
        Self {
            now,
            number: relay.rounds.fetch_add(1, Ordering::Relaxed) + 1,
            region,
            routed: Routed::default(),
            follow: VecDeque::new(),
            legs: Vec::new(),
            faults: Vec::new(),
            names: Vec::new(),
            forwarded: 0,
            answered: 0,
            kept: None,
        }
    }

    pub(super) fn touch(&mut self, member: &Member<L>) {
        if member.round.swap(self.number, Ordering::Relaxed) != self.number {
            self.routed.touched.push(Arc::clone(&member.line));
        }
    }
}
