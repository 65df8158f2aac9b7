//! The tables alone: what is in flight on a connection whose messages somebody else reads and writes.
//!
//! No frames and no deadlines, otherwise the same as a connection: `flight` decides every end, each request has
//! a record, what ended goes to the ledger, and everything a peer can grow has a limit. Ids and tokens are raw
//! JSON, so that `7` and `"7"` are two; the token of a request of ours is its id. A slot is whatever the host
//! hangs on a request: it is kept, handed back, and never looked at.

mod ours;
mod shelf;
mod theirs;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::counters::Counters;
use crate::flight::{CancelledBy, Event, Outcome};
use crate::ledger::Ledger;
use crate::limits::{Exceeded, Limits};
use crate::methods::Methods;
use crate::record::{Cleanup, Peer, Progress, Record, Time};
use crate::text::{Text, clip};
use shelf::{Entry, Shelf};

/// How strictly a peer is held to the specification, where hosts differ.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a choice of its own
pub struct Customs {
    /// Whether two requests of the peer's may bear the same id; the newest is the one it then names.
    pub takes_duplicates: bool,
    /// Whether progress that does not grow is dropped (PRG-07).
    pub progress_must_increase: bool,
    /// Whether progress may be NaN or infinite.
    pub takes_any_number: bool,
    /// Whether handlers are told of a cancel and never stopped (CAN-16).
    pub declines_cancels: bool,
}

/// Why a request was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The connection is over.
    Closed,
    /// A request with this id is in flight.
    InFlight,
    /// A limit.
    Exceeded(Exceeded),
}

/// How a handler of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// By a result.
    Result,
    /// By an error.
    Error,
    /// It was stopped.
    Stopped,
}

/// A request that ended, or whose handler did.
pub struct Ended<S> {
    /// What the host hung on it.
    pub slot: Option<S>,
    /// Its evidence.
    pub record: Arc<Record>,
}

/// See the module's text.
pub struct Flights<S> {
    /// What it counts; frames and bytes are somebody else's.
    pub counters: Counters,
    customs: Customs,
    limits: Limits,
    peer: Arc<Peer>,
    ledger: Arc<Ledger>,
    methods: Methods,
    ours: Shelf<S>,
    theirs: Shelf<S>,
    /// Where requests of ours ended without an answer, and their numbers, oldest first.
    remembered: VecDeque<(usize, u64)>,
    /// The number minted last, and how many requests there were of ours and of the peer's.
    given: u64,
    opened: u64,
    arrived: u64,
    over: bool,
}

impl<S> Flights<S> {
    /// No flights yet with `peer`; finished records go to `ledger`.
    pub fn new(peer: Peer, limits: Limits, customs: Customs, ledger: Arc<Ledger>) -> Self {
        Self {
            counters: Counters::default(),
            customs,
            limits,
            peer: Arc::new(peer),
            ledger,
            methods: Methods::default(),
            ours: Shelf::new(),
            theirs: Shelf::new(),
            remembered: VecDeque::new(),
            given: 0,
            opened: 0,
            arrived: 0,
            over: false,
        }
    }

    fn end_record(&self, record: &Arc<Record>, outcome: Outcome, now: Time) {
        record.note_outcome(outcome, now);
        self.ledger.keep(std::iter::once(Arc::clone(record)));
    }

    fn clipped<'a>(&self, text: Option<&'a Text>) -> Option<&'a Text> {
        text.map(|text| clip(text, self.limits.max_text_bytes))
    }

    fn clipped_update(&self, update: Progress) -> Progress {
        let message = update.message.map(|text| match clip(&text, self.limits.max_text_bytes) {
            whole if whole.len() == text.len() => text,
            clipped => clipped.into(),
        });
        Progress { message, ..update }
    }

    fn check_id(&self, id: &[u8]) -> Result<(), Refused> {
        let (limit, value) = ("max_id_bytes", self.limits.max_id_bytes);
        if id.len() > value { Err(Refused::Exceeded(Exceeded { limit, value })) } else { Ok(()) }
    }

    /// Ends everything in flight, each request once; gives ours and theirs, oldest first. Those of the peer's stay
    /// until their handlers end.
    pub fn end(&mut self, now: Time, outcome: Outcome) -> (Vec<Ended<S>>, Vec<Arc<Record>>) {
        if std::mem::replace(&mut self.over, true) {
            return (Vec::new(), Vec::new());
        }
        let (event, by) = match outcome {
            Outcome::PeerClosed => (Event::PeerClosed, CancelledBy::Disconnect),
            _ => (Event::Closed, CancelledBy::Shutdown),
        };
        let ours = std::mem::replace(&mut self.ours, Shelf::new());
        self.remembered = VecDeque::new();
        let mut ended = Vec::new();
        for mut entry in ours.entries.into_iter().flatten() {
            if entry.offer(event) {
                ended.push(Ended { slot: entry.slot, record: entry.record });
            }
        }
        ended.sort_unstable_by_key(|ended| ended.record.number);
        for Ended { record, .. } in &ended {
            self.end_record(record, outcome, now);
        }
        let mut stopped = Vec::new();
        for entry in self.theirs.entries.iter_mut().flatten() {
            if entry.offer(event) {
                entry.record.note_cancel(by, None, now);
                entry.record.note_cleanup(Cleanup::StillRunning, None);
                stopped.push(Arc::clone(&entry.record));
            }
        }
        self.theirs.live = 0;
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
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// The limits it keeps.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Requests of ours, and of the peer's, in flight.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.ours.live, self.theirs.live)
    }

    /// Gives back what hangs on every request, and lets the requests be.
    pub fn give_back(&mut self) -> Vec<S> {
        let both = self.ours.entries.iter_mut().chain(self.theirs.entries.iter_mut());
        both.flatten().filter_map(|entry| entry.slot.take()).collect()
    }

    /// What hangs on requests of ours, by their raw ids, oldest first.
    pub fn outbound(&self) -> impl Iterator<Item = (&[u8], &S)> {
        listed(self.ours.in_order())
    }

    /// What hangs on requests of the peer's whose handlers are at work, likewise.
    pub fn inbound(&self) -> impl Iterator<Item = (&[u8], &S)> {
        listed(self.theirs.in_order())
    }

    /// Entries in every table that a request can leave behind: all zero when nothing is in flight.
    pub fn entries(&self) -> [(&'static str, usize); 2] {
        [("outbound", self.ours.live), ("inbound", self.theirs.ids.len())]
    }

    /// Bytes held by the tables; records and what hangs on them not counted.
    pub fn bytes(&self) -> usize {
        self.ours.bytes() + self.theirs.bytes() + self.remembered.capacity() * size_of::<(usize, u64)>()
    }
}

fn listed<S>(entries: Vec<&Entry<S>>) -> impl Iterator<Item = (&[u8], &S)> {
    entries.into_iter().filter_map(|entry| Some((entry.record.wire_id(), entry.slot.as_ref()?)))
}
