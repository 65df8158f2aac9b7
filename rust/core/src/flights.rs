//! Flights without bytes: what is in flight on a connection whose messages the host reads and writes.
//!
//! No frames and no deadlines, otherwise the same as a connection: `flight` decides every end, each request has a
//! record, finished records go to the ledger, and limits bound what a peer can grow. Ids and tokens are raw JSON,
//! so `7` and `"7"` differ; the token of a request of ours is its id. An attachment is a value of the host's for
//! a request: stored, returned, never read.

mod inbound;
mod outbound;
mod store;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::counters::Counters;
use crate::flight::interner::Interner;
use crate::flight::ledger::Ledger;
use crate::flight::record::{Cleanup, PeerInfo, ProgressUpdate, Record, Time};
use crate::flight::state::{CancelledBy, FlightEvent, Outcome};
use crate::limits::{Exceeded, Limits};
use crate::wire::text::{Text, clip};
use store::{Entry, Store};

/// How strictly a peer is held to the specification, where hosts differ.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a choice of its own
pub struct Strictness {
    /// Whether two requests of the peer's may bear the same id; the newest is the one it then names.
    pub allow_duplicate_ids: bool,
    /// Whether progress that does not grow is dropped (PRG-07).
    pub progress_must_increase: bool,
    /// Whether progress may be NaN or infinite.
    pub allow_non_finite_progress: bool,
    /// Whether handlers are told of a cancel and never stopped (CAN-16).
    pub decline_cancels: bool,
}

/// Why a request was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The connection is over.
    Closed,
    /// A request with this id is in flight.
    InFlight,
    /// A limit.
    Exceeded(Exceeded),
}

/// How a handler of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandlerEnd {
    /// By a result.
    Result,
    /// By an error.
    Error,
    /// It was stopped.
    Stopped,
}

/// A request that ended, or whose handler did.
pub struct Ended<A> {
    /// The host's value for it.
    pub attachment: Option<A>,
    /// Its evidence.
    pub record: Arc<Record>,
}

/// Requests in flight, in both directions.
pub struct Flights<A> {
    /// Counters; those of frames and bytes stay 0.
    pub counters: Counters,
    strictness: Strictness,
    limits: Limits,
    peer: Arc<PeerInfo>,
    ledger: Arc<Ledger>,
    method_names: Interner,
    outbound: Store<A>,
    inbound: Store<A>,
    /// Indices and numbers of our requests that ended without an answer, oldest first.
    remembered: VecDeque<(usize, u64)>,
    /// The number minted last; requests of ours, and of the peer's, so far.
    last_minted: u64,
    outbound_count: u64,
    inbound_count: u64,
    over: bool,
}

impl<A> Flights<A> {
    /// No flights yet with `peer`; finished records go to `ledger`.
    pub fn new(peer: PeerInfo, limits: Limits, strictness: Strictness, ledger: Arc<Ledger>) -> Self {
        Self {
            counters: Counters::default(),
            strictness,
            limits,
            peer: Arc::new(peer),
            ledger,
            method_names: Interner::default(),
            outbound: Store::new(),
            inbound: Store::new(),
            remembered: VecDeque::new(),
            last_minted: 0,
            outbound_count: 0,
            inbound_count: 0,
            over: false,
        }
    }

    fn end_record(&self, record: &Arc<Record>, outcome: Outcome, now: Time) {
        record.note_outcome(outcome, now);
        self.ledger.append(std::iter::once(Arc::clone(record)));
    }

    fn clipped<'a>(&self, text: Option<&'a Text>) -> Option<&'a Text> {
        text.map(|text| clip(text, self.limits.max_text_bytes))
    }

    fn clipped_update(&self, update: ProgressUpdate) -> ProgressUpdate {
        let message = update.message.map(|text| match clip(&text, self.limits.max_text_bytes) {
            whole if whole.len() == text.len() => text,
            clipped => clipped.into(),
        });
        ProgressUpdate { message, ..update }
    }

    fn check_id(&self, id: &[u8]) -> Result<(), OpenError> {
        let (limit, value) = ("max_id_bytes", self.limits.max_id_bytes);
        if id.len() > value { Err(OpenError::Exceeded(Exceeded { limit, value })) } else { Ok(()) }
    }

    /// Ends everything in flight, each request once; returns ours and the peer's, oldest first. The peer's stay
    /// until their handlers end.
    pub fn end(&mut self, now: Time, outcome: Outcome) -> (Vec<Ended<A>>, Vec<Arc<Record>>) {
        if std::mem::replace(&mut self.over, true) {
            return (Vec::new(), Vec::new());
        }
        let (event, by) = match outcome {
            Outcome::PeerClosed => (FlightEvent::PeerClosed, CancelledBy::Disconnect),
            _ => (FlightEvent::Closed, CancelledBy::Shutdown),
        };
        let ours = std::mem::replace(&mut self.outbound, Store::new());
        self.remembered = VecDeque::new();
        let mut ended = Vec::new();
        for mut entry in ours.entries.into_iter().flatten() {
            if entry.offer(event) {
                ended.push(Ended { attachment: entry.attachment, record: entry.record });
            }
        }
        ended.sort_unstable_by_key(|ended| ended.record.number);
        for Ended { record, .. } in &ended {
            self.end_record(record, outcome, now);
        }
        let mut stopped = Vec::new();
        for entry in self.inbound.entries.iter_mut().flatten() {
            if entry.offer(event) {
                entry.record.note_cancel(by, None, now);
                entry.record.note_cleanup(Cleanup::StillRunning, None);
                stopped.push(Arc::clone(&entry.record));
            }
        }
        self.inbound.live = 0;
        stopped.sort_unstable_by_key(|record| record.number);
        for record in &stopped {
            self.end_record(record, outcome, now);
        }
        (ended, stopped)
    }

    /// True once it was ended.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The other end.
    pub fn peer(&self) -> &Arc<PeerInfo> {
        &self.peer
    }

    /// The limits it keeps.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Requests of ours, and of the peer's, in flight.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.outbound.live, self.inbound.live)
    }

    /// Removes and returns every attachment; the requests stay.
    pub fn detach_all(&mut self) -> Vec<A> {
        let both = self.outbound.entries.iter_mut().chain(self.inbound.entries.iter_mut());
        both.flatten().filter_map(|entry| entry.attachment.take()).collect()
    }

    /// The attachments of our requests by raw id, oldest first.
    pub fn outbound(&self) -> impl Iterator<Item = (&[u8], &A)> {
        attachments_by_id(self.outbound.in_order())
    }

    /// The attachments of the peer's requests whose handlers are running, by raw id, oldest first.
    pub fn inbound(&self) -> impl Iterator<Item = (&[u8], &A)> {
        attachments_by_id(self.inbound.in_order())
    }

    /// Entries in every table that a request can leave behind: all zero when nothing is in flight.
    pub fn entries(&self) -> [(&'static str, usize); 2] {
        [("outbound", self.outbound.live), ("inbound", self.inbound.ids.len())]
    }

    /// Bytes held by the tables, without records and attachments.
    pub fn bytes(&self) -> usize {
        self.outbound.bytes() + self.inbound.bytes() + self.remembered.capacity() * size_of::<(usize, u64)>()
    }
}

fn attachments_by_id<A>(entries: Vec<&Entry<A>>) -> impl Iterator<Item = (&[u8], &A)> {
    entries.into_iter().filter_map(|entry| Some((entry.record.wire_id(), entry.attachment.as_ref()?)))
}
