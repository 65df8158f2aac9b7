//! Posted messages: the client's side of a transport that carries each message by itself, as HTTP does.
//!
//! Each of our messages is one post. That of a request opens a stream, which has the request's number as its id, and
//! on which its answer comes, with what the server tells and asks meanwhile; a post of anything else has no stream.
//! Stream 0 is the one of messages that belong to no request. What comes on the stream of one request says nothing of
//! another: a server that mixes them up ends none of them (PRG-23).
//!
//! A stream that ends without its answer ends its request (TRM-10), and a request that ends here has its stream closed:
//! from 2026-07-28 on that is its cancel (TRM-02), before it is not, and `notifications/cancelled` is posted (TRH-03).

use std::ops::Range;
use std::sync::Arc;

use crate::connection::Connection;
use crate::connection::event::{Batch, End, Event, Host};
use crate::connection::output::addresses::StreamId;
use crate::connection::streams::AddressedOutput;
use crate::flight::record::Time;
use crate::flight::state::{CancelledBy, FlightEvent, Outcome};
use crate::rules::Revision;
use crate::wire::envelope::{self, Envelope, Kind, ScanLimits};
use crate::wire::span::Span;
use crate::wire::text::{Text, clip};

/// What is to be posted, and which streams are to be closed.
pub struct Posts {
    /// Whole frames, for [`recycle`](crate::connection::output::recycle) when they are posted.
    pub bytes: Vec<u8>,
    /// Each of them.
    pub messages: Vec<Post>,
    /// The streams of requests that ended here; of some of them nothing was posted.
    pub closed: Vec<StreamId>,
}

/// One message to be posted.
pub struct Post {
    /// Where it stands, without the end of its line.
    pub frame: Range<usize>,
    /// The number of a request of ours, whose stream it opens; 0 for any other message.
    pub number: StreamId,
    /// The number of the request that it cancels; 0 for any other message.
    pub cancels: StreamId,
    /// Its spans in the frame.
    pub envelope: Envelope,
    /// The revision that it is of: as its envelope says, or the one in force.
    pub revision: Revision,
}

/// What the envelope of a modern request says.
const MODERN: &str = Revision::V2026_07_28.name();

/// Whatever we write ourselves is scanned, however deep.
const OURS: ScanLimits = ScanLimits { max_depth: usize::MAX, max_id_bytes: usize::MAX };

impl<H: Host> Connection<H> {
    /// Has every message posted from now on. Answers come by [`Connection::receive_on`], messages leave by
    /// [`Connection::drain_posts`].
    pub fn post_messages(&mut self) {
        self.address_messages();
        if let Some(streams) = &mut self.streams {
            streams.posts = true;
        }
    }

    /// Drains what is to be posted now.
    pub fn drain_posts(&mut self, now: Time) -> Posts {
        let AddressedOutput { bytes, ended: closed, .. } = self.drain_addressed(now);
        let mut messages = Vec::new();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &bytes) {
            let frame = start..end;
            start = end + 1;
            let Ok(envelope) = envelope::scan(&bytes[frame.clone()], &OURS) else { continue };
            let of = |span: Span| span.of(&bytes[frame.clone()]);
            let number = match envelope.kind {
                Kind::Request => self.number_of(of(envelope.id)).unwrap_or_default(),
                _ => 0,
            };
            let cancels = match envelope.kind {
                Kind::Notification if !envelope.request_id.is_empty() => {
                    self.number_of(of(envelope.request_id)).unwrap_or_default()
                }
                _ => 0,
            };
            let says_modern =
                memchr::memmem::find(of(envelope.protocol_version), MODERN.as_bytes()).is_some();
            let revision = if says_modern { Revision::V2026_07_28 } else { self.rules.revision };
            if number != 0
                && let Some(streams) = &mut self.streams
            {
                // By the newest one: a probe for the modern era says it also to a server that is legacy then.
                streams.says_modern = says_modern;
            }
            messages.push(Post { frame, number, cancels, envelope, revision });
        }
        Posts { bytes, messages, closed }
    }

    /// Whether a request of ours is waited for.
    pub fn awaits(&self, number: StreamId) -> bool {
        self.table.find(number).is_some_and(|(_, state)| state.is_live())
    }

    /// Notes that the stream of our request `number` is lost, and its answer with it, and `why`; false where it was over.
    pub fn lose_call(&mut self, now: Time, number: StreamId, why: &Text, batch: &mut Batch<H>) -> bool {
        let Ok(moved) = self.table.claim(number, FlightEvent::PeerClosed) else { return false };
        let Some(entry) = self.outbound.get_mut(moved.slot) else { return false };
        let (record, owner) = (Arc::clone(&entry.record), entry.owner.take());
        self.output.fair_queue.acknowledge(entry.sent, now);
        record.note_cancel(CancelledBy::Disconnect, Some(clip(why, self.limits.max_text_bytes)), now);
        self.release(moved.slot, number);
        Self::finish(&record, Outcome::PeerClosed, now, batch);
        let end = End::Local(Outcome::PeerClosed);
        batch.events.push(Event::Settled { owner, record, end, answer: None });
        true
    }

    /// Notes that the server knows our session no more: what it asked there is over, and answered nowhere.
    pub fn lose_session(&mut self, now: Time, batch: &mut Batch<H>) {
        let asked: Vec<u64> = self.requests().map(|(record, _)| record.number).collect();
        for number in asked {
            self.cancel_by_disconnect(now, number, batch);
        }
    }

    /// Whether an answer to our request `number` may come where it came: on its own stream, where it has one.
    #[inline]
    pub(super) fn may_answer(&self, number: u64) -> bool {
        self.streams.as_ref().is_none_or(|streams| !streams.posts || streams.receiving == number)
    }

    /// Whether progress of our request `number` may come where it came: on its own stream, or on that of no request.
    #[inline]
    pub(super) fn may_tell_of(&self, number: u64) -> bool {
        self.streams.as_ref().is_none_or(|streams| {
            !streams.posts || matches!(streams.receiving, 0) || streams.receiving == number
        })
    }

    /// Notes that a request of the peer's came on the stream of one of ours, if it did.
    #[inline]
    pub(super) fn note_asked(&mut self, number: u64) {
        if let Some(streams) = &mut self.streams
            && streams.posts
            && streams.receiving != 0
        {
            streams.asked.insert(number, streams.receiving);
        }
    }

    /// The request of ours during which the peer's request `number` came; None where that is unknown, or it is over.
    pub fn asked_during(&self, number: u64) -> Option<u64> {
        self.streams.as_ref()?.asked.get(&number).copied()
    }

    /// Whether each message is posted.
    #[inline]
    pub(crate) fn is_posting(&self) -> bool {
        self.streams.as_ref().is_some_and(|streams| streams.posts)
    }

    /// Notes what the sender of a modern request may be asked for, as it says there, when that went on as our request
    /// `number`: the server, which may ask on its stream, is a legacy one and does not see it.
    pub(crate) fn note_offer(&mut self, number: u64, frame: &[u8], envelope: &Envelope) {
        const OFFER: &str = "io.modelcontextprotocol/clientCapabilities";
        let is_told = self.rules.revision.is_modern() || !envelope.has_capabilities;
        let Some(streams) = self.streams.as_mut().filter(|_| !is_told) else { return };
        let params = envelope.params.of(frame);
        let meta = envelope::find_member(params, "_meta").map_or(&b""[..], |at| at.of(params));
        let Some(offer) = envelope::find_member(meta, OFFER).map(|at| at.of(meta)) else { return };
        if offer.len() <= self.limits.max_text_bytes {
            streams.offers.insert(number, offer.into());
        }
    }

    /// What the sender of our request `number` may be asked for, as JSON; empty for nothing.
    pub fn offer_of(&self, number: u64) -> &[u8] {
        let offer = self.streams.as_ref().and_then(|streams| streams.offers.get(&number));
        offer.map_or(&b""[..], |offer| offer)
    }

    /// The host's value of the request of ours on whose stream a message comes.
    #[inline]
    pub(super) fn received_during(&self) -> Option<H::Call> {
        let number = self.streams.as_ref().filter(|streams| streams.posts)?.receiving;
        let (slot, _) = self.table.find(number).filter(|(_, state)| state.is_live())?;
        self.outbound.get(slot)?.owner.clone()
    }
}
