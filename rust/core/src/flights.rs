//! The tables alone: what is in flight on a connection whose messages somebody else reads and writes.
//!
//! No frames and no deadlines, otherwise the same as a connection: `flight` decides every end, each request has
//! a record, what ended goes to the ledger, and everything a peer can grow has a limit. Ids and tokens are raw
//! JSON, so that `7` and `"7"` are two; the token of a request of ours is its id. A slot is whatever the host
//! hangs on a request: it is kept, handed back, and never looked at.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::counters::Counters;
use crate::flight::{CancelledBy, Event, Outcome, State};
use crate::ids::Ids;
use crate::ledger::Ledger;
use crate::limits::{Exceeded, Limits, clip};
use crate::methods::Methods;
use crate::record::{Cleanup, Late, Peer, Progress, Record, Time};
use crate::table::MAX_NUMBER;

/// How many ended requests of ours are remembered, so that a late answer is recognised.
const REMEMBERED: usize = 256;

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

struct Entry<S> {
    record: Arc<Record>,
    state: State,
    slot: Option<S>,
}

impl<S> Entry<S> {
    /// Offers an event: the state before, where it led to another one.
    fn offer(&mut self, event: Event) -> Option<State> {
        let before = self.state;
        self.state = before.after(event)?;
        Some(before)
    }
}

/// The requests of one direction.
struct Shelf<S> {
    entries: Vec<Option<Entry<S>>>,
    free: Vec<u32>,
    ids: Ids,
    live: usize,
}

/// The id of the request at `place`.
fn id_at<S>(entries: &[Option<Entry<S>>], place: usize) -> &[u8] {
    entries[place].as_ref().map_or(b"", |entry| entry.record.wire_id())
}

impl<S> Shelf<S> {
    fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), ids: Ids::new(), live: 0 }
    }

    fn places<'a>(&'a self, id: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        self.ids.find(self.ids.hash(id), id, |place| id_at(&self.entries, place))
    }

    fn at(&self, place: usize) -> Option<&Entry<S>> {
        self.entries.get(place)?.as_ref()
    }

    fn at_mut(&mut self, place: usize) -> Option<&mut Entry<S>> {
        self.entries.get_mut(place)?.as_mut()
    }

    /// The request that `id` names: the newest one.
    fn newest(&self, id: &[u8]) -> Option<usize> {
        self.places(id).max_by_key(|place| self.at(*place).map(|entry| entry.record.number))
    }

    fn add(&mut self, entry: Entry<S>) -> usize {
        let hash = self.ids.hash(entry.record.wire_id());
        self.live += 1;
        let place = if let Some(place) = self.free.pop() {
            self.entries[place as usize] = Some(entry);
            place as usize
        } else {
            self.entries.push(Some(entry));
            self.entries.len() - 1
        };
        let entries = &self.entries;
        self.ids.add(hash, place, |place| id_at(entries, place));
        place
    }

    fn remove(&mut self, place: usize) -> Option<Entry<S>> {
        let entry = self.entries.get_mut(place)?.take()?;
        self.ids.remove(entry.record.wire_id(), place);
        self.free.push(place as u32);
        Some(entry)
    }

    fn in_order(&self) -> Vec<&Entry<S>> {
        let mut entries: Vec<_> = self.entries.iter().flatten().collect();
        entries.sort_unstable_by_key(|entry| entry.record.number);
        entries
    }

    fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Option<Entry<S>>>()
            + self.free.capacity() * size_of::<u32>()
            + self.ids.bytes()
    }
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
        self.ledger.keep([Arc::clone(record)]);
    }

    fn clipped<'a>(&self, text: Option<&'a str>) -> Option<&'a str> {
        text.map(|text| clip(text, self.limits.max_text_bytes))
    }

    fn check_id(&self, id: &[u8]) -> Result<(), Refused> {
        let (limit, value) = ("max_id_bytes", self.limits.max_id_bytes);
        if id.len() > value { Err(Refused::Exceeded(Exceeded { limit, value })) } else { Ok(()) }
    }

    // ---- our requests ----

    /// Registers a request of ours, before it is written: under `id`, or under the next number that no request
    /// in flight bears. Gives the number, which is the id where `id` is None.
    pub fn open(
        &mut self,
        now: Time,
        method: &str,
        id: Option<&[u8]>,
        wants_progress: bool,
        slot: S,
    ) -> Result<u64, Refused> {
        if self.over {
            return Err(Refused::Closed);
        }
        let (limit, value) = ("max_outbound", self.limits.max_outbound);
        if self.ours.live >= value {
            return Err(Refused::Exceeded(Exceeded { limit, value }));
        }
        let mut digits = itoa::Buffer::new();
        let id = if let Some(id) = id {
            self.check_id(id)?;
            if !self.make_way(id) {
                return Err(Refused::InFlight);
            }
            id
        } else {
            loop {
                if self.given == MAX_NUMBER {
                    let (limit, value) = ("request ids", MAX_NUMBER as usize);
                    return Err(Refused::Exceeded(Exceeded { limit, value }));
                }
                self.given += 1;
                if self.make_way(digits.format(self.given).as_bytes()) {
                    break;
                }
            }
            digits.format(self.given).as_bytes()
        };
        self.opened += 1;
        let (peer, method) = (Arc::clone(&self.peer), self.methods.named(method, &self.limits));
        let record = Record::named(self.opened, peer, method, id, wants_progress, now);
        self.ours.add(Entry { record: Arc::new(record), state: State::Queued, slot: Some(slot) });
        self.counters.requests_out += 1;
        Ok(self.given)
    }

    /// Forgets an ended request under `id`; false where one is in flight.
    fn make_way(&mut self, id: &[u8]) -> bool {
        let Some(place) = self.ours.newest(id) else { return true };
        if self.ours.at(place).is_some_and(|entry| entry.state.is_live()) {
            return false;
        }
        self.ours.remove(place);
        true
    }

    /// Notes that a request of ours was handed to the transport.
    pub fn written(&mut self, now: Time, id: &[u8]) {
        let Some(place) = self.ours.newest(id) else { return };
        let Some(entry) = self.ours.at_mut(place) else { return };
        if entry.offer(Event::Written).is_some() {
            entry.record.note_written(now);
        }
    }

    /// Takes the peer's answer: the request that it ends, or None where it is late, or nobody asked.
    pub fn claim(&mut self, now: Time, id: &[u8], is_error: bool) -> Option<Ended<S>> {
        let Some(place) = self.ours.newest(id) else {
            self.counters.unmatched_responses += 1;
            return None;
        };
        let mut entry = self.ours.remove(place)?;
        if !entry.state.is_live() {
            self.counters.late_responses += 1;
            entry.record.note_late(if is_error { Late::Error } else { Late::Result }, now);
            return None;
        }
        // Whatever the transport told us: what was answered was written.
        if entry.offer(Event::Written).is_some() {
            entry.record.note_written(now);
        }
        entry.offer(if is_error { Event::Failed } else { Event::Answered });
        self.ours.live -= 1;
        self.end_record(&entry.record, entry.state.outcome()?, now);
        Some(Ended { slot: entry.slot, record: entry.record })
    }

    /// Takes progress: the slot of the request it belongs to, or None where nothing may come of it.
    pub fn advance(&mut self, now: Time, token: &[u8], update: Progress) -> Option<&S> {
        let place = self.ours.newest(token);
        let entry = place.and_then(|place| self.ours.at(place)).filter(|entry| entry.record.wants_progress);
        let Some(entry) = entry else {
            self.counters.progress_unmatched += 1;
            return None;
        };
        if !entry.state.is_live() {
            self.counters.late_progress += 1;
            entry.record.note_late_progress();
            return None;
        }
        let message = update.message.map(|text| match clip(&text, self.limits.max_text_bytes) {
            whole if whole.len() == text.len() => text,
            clipped => clipped.into(),
        });
        let update = Progress { message, ..update };
        if !self.customs.takes_any_number && !update.progress.is_finite() {
            entry.record.note_dropped_progress();
        } else if !self.customs.progress_must_increase {
            entry.record.note_any_progress(&update, now);
            self.counters.progress_in += 1;
            return entry.slot.as_ref();
        } else if entry.record.note_progress(&update, now) {
            self.counters.progress_in += 1;
            return entry.slot.as_ref();
        }
        self.counters.progress_dropped += 1;
        None
    }

    /// Ends a request of ours from this side: `Cancelled` by the caller, `MaxTimeout`, or `PeerClosed`. None where
    /// it was over.
    pub fn abandon(
        &mut self,
        now: Time,
        id: &[u8],
        outcome: Outcome,
        reason: Option<&str>,
    ) -> Option<Ended<S>> {
        let (event, by) = match outcome {
            Outcome::MaxTimeout => (Event::MaxExpired, Some(CancelledBy::Timeout)),
            Outcome::PeerClosed => (Event::PeerClosed, None),
            _ => (Event::Cancel, Some(CancelledBy::Caller)),
        };
        let reason = self.clipped(reason);
        let place = self.ours.newest(id)?;
        let entry = self.ours.at_mut(place)?;
        entry.offer(event)?;
        let (record, slot) = (Arc::clone(&entry.record), entry.slot.take());
        self.ours.live -= 1;
        if let Some(by) = by {
            record.note_cancel(by, reason, now);
        }
        self.end_record(&record, outcome, now);
        self.remember(place, record.number);
        Some(Ended { slot, record })
    }

    /// Keeps an ended request for a late answer, in place of the one that has waited for its own the longest.
    fn remember(&mut self, place: usize, number: u64) {
        if self.remembered.len() == REMEMBERED
            && let Some((place, number)) = self.remembered.pop_front()
            && self
                .ours
                .at(place)
                .is_some_and(|entry| entry.record.number == number && !entry.state.is_live())
        {
            self.ours.remove(place);
        }
        self.remembered.push_back((place, number));
    }

    /// Notes that the peer was told of the end of a request of ours.
    pub fn told(&mut self, id: &[u8]) {
        if let Some(entry) = self.ours.newest(id).and_then(|place| self.ours.at(place)) {
            entry.record.note_cancel_written();
        }
        self.counters.cancels_out += 1;
    }

    // ---- the peer's requests ----

    /// Registers a request of the peer's; `token` is empty where it wants no progress.
    pub fn begin(
        &mut self,
        now: Time,
        id: &[u8],
        method: &str,
        token: &[u8],
        slot: S,
    ) -> Result<(), Refused> {
        if self.over {
            return Err(Refused::Closed);
        }
        self.check_id(id)?;
        if self.theirs.newest(id).is_some() {
            self.counters.duplicate_ids += 1;
            if !self.customs.takes_duplicates {
                return Err(Refused::InFlight);
            }
        }
        // A handler that goes on after its cancel counts: a peer must not pile up such.
        let (limit, value) = ("max_inbound", self.limits.max_inbound);
        if self.theirs.ids.len() >= value {
            self.counters.overloaded += 1;
            return Err(Refused::Exceeded(Exceeded { limit, value }));
        }
        let token = if token.len() <= self.limits.max_id_bytes { token } else { b"" };
        self.arrived += 1;
        let (peer, method) = (Arc::clone(&self.peer), self.methods.named(method, &self.limits));
        let record = Record::inbound(self.arrived, peer, method, id, token, now);
        self.theirs.add(Entry { record: Arc::new(record), state: State::Running, slot: Some(slot) });
        self.counters.requests_in += 1;
        Ok(())
    }

    /// What hangs on the request of the peer's that `id` names.
    pub fn handling(&self, id: &[u8]) -> Option<&S> {
        self.theirs.at(self.theirs.newest(id)?)?.slot.as_ref()
    }

    /// Takes a cancel of the peer's: the request whose handler is to stop or to be told (CAN-11 to CAN-16).
    ///
    /// It is not answered any more, and stays until its handler ends.
    pub fn cancel(&mut self, now: Time, id: &[u8], reason: Option<&str>) -> Option<(&S, Arc<Record>)> {
        let event = if self.customs.declines_cancels { Event::CancelDeclined } else { Event::Cancel };
        let reason = self.clipped(reason);
        let place = self.theirs.newest(id);
        let Some(entry) = place.and_then(|place| self.theirs.at_mut(place)) else {
            let too_late = self.theirs.ids.ended_lately(self.theirs.ids.hash(id));
            *(if too_late {
                &mut self.counters.cancels_too_late
            } else {
                &mut self.counters.cancels_ignored
            }) += 1;
            return None;
        };
        if entry.offer(event).is_none() {
            self.counters.cancels_too_late += 1;
            return None;
        }
        let (record, outcome) = (Arc::clone(&entry.record), entry.state.outcome());
        self.counters.cancels_in += 1;
        record.note_cancel(CancelledBy::Peer, reason, now);
        record.note_cleanup(Cleanup::StillRunning, None);
        if let Some(outcome) = outcome {
            self.theirs.live -= 1;
            self.end_record(&record, outcome, now);
        }
        let slot = self.theirs.at(place?)?.slot.as_ref()?;
        Some((slot, record))
    }

    /// Notes progress of ours on the request of the peer's that `is` recognises by its slot; false where it must
    /// not be sent (PRG-07, PRG-11, PRG-17).
    pub fn report(&mut self, now: Time, id: &[u8], is: impl Fn(&S) -> bool, update: &Progress) -> bool {
        let entry = self.place_of(id, is).and_then(|place| self.theirs.at(place));
        let Some(entry) = entry.filter(|entry| entry.state == State::Running) else { return false };
        if self.customs.progress_must_increase {
            if !update.progress.is_finite() {
                entry.record.note_dropped_progress();
                return false;
            }
            if !entry.record.note_progress(update, now) {
                return false;
            }
        } else {
            entry.record.note_any_progress(update, now);
        }
        self.counters.progress_out += 1;
        true
    }

    fn place_of(&self, id: &[u8], is: impl Fn(&S) -> bool) -> Option<usize> {
        self.theirs
            .places(id)
            .find(|place| self.theirs.at(*place).and_then(|entry| entry.slot.as_ref()).is_some_and(&is))
    }

    /// Takes the end of the handler of a request of the peer's, recognised by its slot; None where there is none.
    ///
    /// The record it gives ended now where `finished` is true; else it had ended by a cancel, or with the connection.
    pub fn finish(
        &mut self,
        now: Time,
        id: &[u8],
        is: impl Fn(&S) -> bool,
        how: Handled,
    ) -> Option<(Ended<S>, bool)> {
        let place = self.place_of(id, is)?;
        let mut entry = self.theirs.remove(place)?;
        let event = match how {
            Handled::Result => Event::Answered,
            // Nobody cancelled it: we are closing.
            Handled::Stopped if entry.state == State::Running => {
                entry.record.note_cancel(CancelledBy::Shutdown, None, now);
                Event::Closed
            }
            Handled::Error | Handled::Stopped => Event::Failed,
        };
        let finished = entry.offer(event).is_some();
        if entry.record.cancelled_by().is_some() {
            let cleanup = match how {
                Handled::Result => Cleanup::FinishedAnyway,
                Handled::Error => Cleanup::Raised,
                Handled::Stopped => Cleanup::Stopped,
            };
            entry.record.note_cleanup(cleanup, Some(now));
        } else {
            entry.record.note_written(now);
        }
        if let Some(outcome) = entry.state.outcome().filter(|_| finished) {
            self.theirs.live -= 1;
            self.end_record(&entry.record, outcome, now);
        }
        Some((Ended { slot: entry.slot, record: entry.record }, finished))
    }

    // ---- both ----

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
            if entry.offer(event).is_some() {
                ended.push(Ended { slot: entry.slot, record: entry.record });
            }
        }
        ended.sort_unstable_by_key(|ended| ended.record.number);
        for Ended { record, .. } in &ended {
            self.end_record(record, outcome, now);
        }
        let mut stopped = Vec::new();
        for entry in self.theirs.entries.iter_mut().flatten() {
            if entry.offer(event).is_some() {
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
