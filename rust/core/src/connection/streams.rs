//! Addressed messages: the streams of a connection whose transport has many, such as HTTP.
//!
//! Every request of the peer's comes on a stream, and everything about it leaves on that stream: its progress, what
//! is sent during it, and its answer. A stream ends when its last request does, with an answer or without one. What
//! belongs to no request in flight is for stream 0, which the host always has.
//!
//! A byte transport is stream 0 and nothing else: it has no [`Streams`].

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::connection::Connection;
use crate::connection::event::{Batch, Event, Host, Intercept};
use crate::connection::output::addresses::{Addressed, StreamId};
use crate::flight::record::Time;
use crate::flight::state::{CancelledBy, FlightEvent, FlightState, Outcome};
use crate::wire::envelope::{Envelope, ScanLimits};
use crate::wire::span::Span;

/// The open streams.
#[derive(Default)]
pub(crate) struct Streams {
    open: HashMap<StreamId, Stream, RandomState>,
    /// The streams of our requests that belong to one of the peer's.
    calls: HashMap<u64, StreamId, RandomState>,
    /// During which request of ours each of the peer's came, where messages are posted.
    pub(super) asked: HashMap<u64, u64, RandomState>,
    /// What those may be asked for whose modern requests went on as ours to a legacy server, as each says.
    pub(super) offers: HashMap<u64, Box<[u8]>, RandomState>,
    /// The stream of the message that is received.
    pub(super) receiving: StreamId,
    ended: Vec<StreamId>,
    /// Whether each message of ours is posted: see [`posts`](crate::connection::posts).
    pub(super) posts: bool,
    /// Whether the newest request that was posted says itself that it is modern, whoever wrote it.
    pub(super) says_modern: bool,
}

/// One stream.
#[derive(Default)]
struct Stream {
    /// The numbers of its requests in flight; most streams have one.
    first: u64,
    others: Vec<u64>,
    /// Whether no more requests can come on it.
    is_received: bool,
    is_congested: bool,
}

impl Stream {
    fn push(&mut self, number: u64) {
        if self.first == 0 {
            self.first = number;
        } else {
            self.others.push(number);
        }
    }

    fn remove(&mut self, number: u64) {
        if self.first == number {
            self.first = self.others.pop().unwrap_or_default();
        } else {
            self.others.retain(|other| *other != number);
        }
    }

    fn requests(&self) -> impl Iterator<Item = u64> + '_ {
        (self.first > 0).then_some(self.first).into_iter().chain(self.others.iter().copied())
    }

    const fn is_over(&self) -> bool {
        self.is_received && self.first == 0
    }
}

impl Streams {
    #[cold]
    fn join(&mut self, number: u64) -> StreamId {
        let stream = self.receiving;
        let Some(open) = self.open.get_mut(&stream) else { return 0 };
        open.push(number);
        stream
    }

    #[cold]
    fn leave(&mut self, stream: StreamId, number: u64) {
        let Some(open) = self.open.get_mut(&stream) else { return };
        open.remove(number);
        if open.is_over() {
            self.open.remove(&stream);
            self.ended.push(stream);
        }
    }

    /// The stream on which a cancel of our request `number` is told, the one that it was sent on while that is open;
    /// None where the end of its own tells it. That is the host's to close, before its answer.
    #[cold]
    fn abandon(&mut self, number: u64, cancels_by_stream: bool) -> Option<StreamId> {
        self.offers.remove(&number);
        let stream = self.calls.remove(&number).filter(|stream| self.open.contains_key(stream));
        if self.posts {
            self.ended.push(number);
        }
        let closes = self.posts && (cancels_by_stream || self.says_modern);
        (!closes).then(|| stream.unwrap_or_default())
    }
}

/// What is to be written to several streams.
#[derive(Default)]
pub struct AddressedOutput {
    /// Whole frames, for [`recycle`](crate::connection::output::recycle) when they are written.
    pub bytes: Vec<u8>,
    /// Which of them are for which stream, in order.
    pub frames: Vec<Addressed>,
    /// The streams that end behind them, some of them without an answer.
    pub ended: Vec<StreamId>,
}

impl<H: Host> Connection<H> {
    /// Has messages addressed from now on: they come by [`Connection::receive_on`] and leave by
    /// [`Connection::drain_addressed`].
    pub fn address_messages(&mut self) {
        self.output.address();
        self.streams.get_or_insert_default();
    }

    /// Opens a stream, which the host names by a number that it uses once; 0 is always open.
    pub fn open_stream(&mut self, stream: StreamId) {
        if let Some(streams) = &mut self.streams
            && !self.over
        {
            streams.open.insert(stream, Stream::default());
        }
    }

    /// Receives one message that came on `stream`, as [`Connection::receive`] does.
    pub fn receive_on(
        &mut self,
        now: Time,
        stream: StreamId,
        frame: &[u8],
        at: Span,
        batch: &mut Batch<H>,
    ) -> Option<Intercept> {
        if let Some(streams) = &mut self.streams {
            streams.receiving = stream;
        }
        self.receive(now, frame, at, batch)
    }

    /// Likewise, of a message that was scanned before, within `limits`: it is scanned anew only where ours are others.
    pub fn receive_scanned(
        &mut self,
        now: Time,
        stream: StreamId,
        (frame, envelope): (&[u8], &Envelope),
        limits: &ScanLimits,
        batch: &mut Batch<H>,
    ) -> Option<Intercept> {
        let at = Span::new(0, frame.len());
        if *limits != self.scan_limits {
            return self.receive_on(now, stream, frame, at, batch);
        }
        if let Some(streams) = &mut self.streams {
            streams.receiving = stream;
        }
        self.receive_known(now, frame, at, envelope, batch)
    }

    /// Notes that no more messages come on `stream`: it ends with its last request. Returns how many it has.
    pub fn end_stream_input(&mut self, stream: StreamId) -> usize {
        let Some(streams) = &mut self.streams else { return 0 };
        let Some(open) = streams.open.get_mut(&stream) else { return 0 };
        open.is_received = true;
        let requests = open.requests().count();
        if requests == 0 {
            streams.open.remove(&stream);
            streams.ended.push(stream);
        }
        requests
    }

    /// Notes that the peer closed `stream`. With `cancels` that cancels its requests, as from 2026-07-28 on; without,
    /// they go on, and what is written about them stays addressed to the stream, which the peer may resume.
    pub fn lose_stream(&mut self, now: Time, stream: StreamId, cancels: bool, batch: &mut Batch<H>) {
        if !cancels {
            return;
        }
        let Some(open) = self.streams.as_mut().and_then(|streams| streams.open.remove(&stream)) else {
            return;
        };
        for number in open.requests() {
            self.cancel_by_disconnect(now, number, batch);
        }
    }

    pub(super) fn cancel_by_disconnect(&mut self, now: Time, number: u64, batch: &mut Batch<H>) {
        let Some((slot, state)) = self.arrivals.find(number) else { return };
        let Some(entry) = self.inbound.get(slot) else { return };
        let (record, owner, chain) = (entry.record.clone(), entry.owner.clone(), entry.frame_chain());
        // A handler that opted out of cancels works on; nobody is left to read its answer.
        if state == FlightState::Declined
            || self.arrivals.claim_alone(number, FlightEvent::PeerClosed).is_err()
        {
            return;
        }
        record.note_cancel(CancelledBy::Disconnect, None, now);
        self.counters.cancels_in += 1;
        self.output.retract_chain(chain);
        Self::finish(&record, Outcome::PeerClosed, now, batch);
        self.remove_inbound(now, slot, number);
        batch.events.push(Event::Cancelled { owner, record, declined: false });
    }

    /// Notes whether `stream` takes no more: its progress is coalesced meanwhile.
    pub fn set_stream_congested(&mut self, stream: StreamId, congested: bool) {
        let Some(open) = self.streams.as_mut().and_then(|streams| streams.open.get_mut(&stream)) else {
            return;
        };
        if open.is_congested == congested {
            return;
        }
        open.is_congested = congested;
        if !congested {
            let requests: Vec<u64> = open.requests().collect();
            for number in requests {
                if let Some((slot, FlightState::Running | FlightState::Task)) = self.arrivals.find(number) {
                    self.flush_pending(slot);
                }
            }
        }
    }

    /// Drains what can be written now, by stream.
    pub fn drain_addressed(&mut self, now: Time) -> AddressedOutput {
        let bytes = self.drain_output(now);
        let frames = self.output.take_addressed();
        let ended =
            self.streams.as_mut().map(|streams| std::mem::take(&mut streams.ended)).unwrap_or_default();
        AddressedOutput { bytes, frames, ended }
    }

    /// Whether [`Connection::drain_addressed`] has frames or ends of streams.
    pub fn has_addressed(&self) -> bool {
        self.output.ready() > 0 || self.streams.as_ref().is_some_and(|streams| !streams.ended.is_empty())
    }

    /// Whether messages are addressed.
    #[inline]
    pub(super) const fn is_addressed(&self) -> bool {
        self.streams.is_some()
    }

    /// The stream of the message that is received.
    #[inline]
    pub(super) fn receiving_on(&self) -> StreamId {
        self.streams.as_ref().map_or(0, |streams| streams.receiving)
    }

    /// Whether progress of the request in `slot` waits: its stream or the whole transport is full.
    #[inline]
    pub(super) fn is_congested_at(&self, slot: usize) -> bool {
        self.congested || self.streams.is_some() && self.is_stream_congested(slot)
    }

    #[cold]
    fn is_stream_congested(&self, slot: usize) -> bool {
        let stream = self.inbound.get(slot).map_or(0, |entry| entry.stream);
        let open = self.streams.as_ref().and_then(|streams| streams.open.get(&stream));
        open.is_some_and(|open| open.is_congested)
    }

    /// Gives request `number` the stream on which it came; 0 where that is gone.
    #[inline]
    pub(super) fn join_stream(&mut self, number: u64) -> StreamId {
        let Some(streams) = &mut self.streams else { return 0 };
        streams.join(number)
    }

    /// Takes the request in `slot` from its stream, which ends with its last one.
    #[inline]
    pub(super) fn leave_stream(&mut self, slot: usize) {
        if let Some(streams) = &mut self.streams
            && let Some(entry) = self.inbound.get_mut(slot)
        {
            let number = entry.record.number;
            if streams.posts {
                streams.asked.remove(&number);
            }
            streams.leave(std::mem::take(&mut entry.stream), number);
        }
    }

    /// The stream of the peer's request `number`; 0 where it is over, or none.
    #[inline]
    pub(super) fn stream_of(&self, number: u64) -> StreamId {
        if number == 0 || self.streams.is_none() {
            return 0;
        }
        let entry = self.arrivals.find(number).and_then(|(slot, _)| self.inbound.get(slot));
        entry.map_or(0, |entry| entry.stream)
    }

    /// Notes the stream on which our request `number` is sent.
    #[inline]
    pub(super) fn note_call(&mut self, number: u64, stream: StreamId) {
        if stream != 0
            && let Some(streams) = &mut self.streams
        {
            streams.calls.insert(number, stream);
        }
    }

    /// Forgets the stream of our request `number`, whose answer nobody waits for: the stream for the notification of its
    /// cancel; None where the end of its own says that.
    #[inline]
    pub(super) fn abandon_call(&mut self, number: u64) -> Option<StreamId> {
        let Some(streams) = &mut self.streams else { return Some(0) };
        streams.abandon(number, self.rules.cancels_by_stream())
    }

    /// Forgets the stream of our request `number`.
    #[inline]
    pub(super) fn forget_call(&mut self, number: u64) {
        if let Some(streams) = &mut self.streams {
            streams.calls.remove(&number);
            streams.offers.remove(&number);
        }
    }

    /// Ends every stream, that of what belongs to no request included.
    pub(super) fn end_streams(&mut self) {
        if let Some(streams) = &mut self.streams {
            streams.calls.clear();
            streams.ended.extend(streams.open.drain().map(|(stream, _)| stream).chain([0]));
        }
    }

    /// Open streams that are not 0, and our requests that belong to one of the peer's.
    pub fn open_streams(&self) -> (usize, usize) {
        self.streams.as_ref().map_or((0, 0), |streams| (streams.open.len(), streams.calls.len()))
    }
}
