//! The peer's requests, and their cancels.

use std::sync::Arc;

use crate::codes::{INTERNAL_ERROR, INVALID_REQUEST};
use crate::connection::event::{Batch, End, Event, Host};
use crate::connection::{Connection, Inbound};
use crate::flight::pool;
use crate::flight::record::{Direction, RecordInit, Time};
use crate::flight::state::{CancelledBy, FlightEvent, FlightState, Outcome};
use crate::flight::target::Target;
use crate::limits::{Exceeded, clip};
use crate::rules::{EraClaim, EraError, method};
use crate::wire::encode;
use crate::wire::envelope::{self, Envelope};
use crate::wire::span::Span;
use crate::wire::text::{self, Text};

impl<H: Host> Connection<H> {
    pub(super) fn receive_request(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        envelope: &Envelope,
        batch: &mut Batch<H>,
    ) {
        if !self.rules.accepts_requests() {
            self.counters.violations += 1;
            return;
        }
        let id = envelope.id.of(frame);
        let name = envelope.method_name(frame);
        if self.rules.asks_for_era()
            && let Err(era_error) = self.detect_era(frame, envelope, &name)
        {
            self.reject_era_error(frame, envelope, era_error);
            return;
        }
        if *name == *method::PING.as_bytes() && self.rules.answers_ping() {
            self.counters.pings += 1;
            if self.may_reply() {
                encode::result(self.output.frame(self.receiving_on()), id, b"{}");
            }
            return;
        }
        if !self.allow_duplicate_ids && self.find_by_id(id).next().is_some() {
            // An error under the same id would end the first request at the peer, so the id goes into the error's
            // data.
            self.counters.duplicate_ids += 1;
            let data = [b"{\"reason\":\"duplicate_id\",\"requestId\":", id, b"}"].concat();
            self.reject(b"", INVALID_REQUEST, "the request id is in flight already", &data);
            return;
        }
        let limit = self.limits.max_inbound;
        let minted = if self.arrivals.live() < limit {
            self.arrivals.mint_alone(FlightState::Running).ok()
        } else {
            None
        };
        let Some(minted) = minted else {
            self.counters.overloaded += 1;
            let data = Exceeded { limit: "max_inbound", value: limit }.unsent();
            let message = "too many requests in flight";
            self.reject(id, INTERNAL_ERROR, message, data.as_bytes());
            return;
        };
        let token = envelope.progress_token.of(frame);
        let token = if token.len() <= self.limits.max_id_bytes { token } else { b"" };
        let (method, member) = self.method_names.intern(&name, &self.limits);
        let target = Target::of_frame(member, frame, envelope, Span::default(), self.limits.max_text_bytes);
        let record = pool::acquire_record(&RecordInit {
            number: minted.number,
            direction: Direction::Inbound,
            peer: &self.peer,
            method,
            id,
            token,
            target,
            wants_progress: !token.is_empty(),
            asker: None,
            is_leg: false,
            now,
        });
        if &*record.method == method::ELICIT {
            self.note_elicitation(now);
        }
        let augmented = !envelope.task.is_empty() && self.rules.accepts_task(&record.method);
        let stream = self.join_stream(minted.number);
        let entry = Inbound::new(Arc::clone(&record), stream, frame.len() as u32, augmented);
        self.inbound.insert(minted.slot, entry);
        self.defer(minted.number);
        self.counters.requests_in += 1;
        let revision = self.rules.revision;
        let during = self.received_during();
        self.note_asked(record.number);
        batch.events.push(Event::Request { record, frame: at, envelope: *envelope, revision, during });
    }

    /// Detects the era from a request, and settles it.
    fn detect_era(&mut self, frame: &[u8], envelope: &Envelope, name: &[u8]) -> Result<(), EraError> {
        let version = envelope.protocol_version.of(frame);
        let claim = EraClaim { method: name, version, has_capabilities: envelope.has_capabilities };
        if let Some(revision) = self.rules.detect_era(claim)? {
            self.rules.settle_era(revision);
        }
        // In the order of what was received: a client may send `initialized` in the same write.
        self.rules.initialized &= name != method::INITIALIZE.as_bytes();
        Ok(())
    }

    /// Answers a request whose envelope is invalid.
    fn reject_era_error(&mut self, frame: &[u8], envelope: &Envelope, era_error: EraError) {
        self.counters.violations += 1;
        let params = envelope.params.of(frame);
        let requested = match era_error {
            EraError::Handshake => {
                envelope::find_member(params, "protocolVersion").map_or(&b""[..], |at| at.of(params))
            }
            _ => envelope.protocol_version.of(frame),
        };
        let requested = envelope::unescape(requested).unwrap_or_default();
        let data = match era_error {
            EraError::Unsupported | EraError::Handshake => {
                encode::versions(self.rules.supported(), clip(&requested, self.limits.max_id_bytes))
            }
            _ => Vec::new(),
        };
        self.reject(envelope.id.of(frame), era_error.code(), era_error.message(), &data);
    }

    /// Cancels the request that a `notifications/cancelled` names (CAN-11 to CAN-30); an invalid one has no
    /// effect.
    pub(super) fn receive_cancel(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        envelope: &Envelope,
        batch: &mut Batch<H>,
    ) {
        let id = envelope.request_id.of(frame);
        let reason = text::of(envelope.reason.of(frame));
        let reason = reason.as_deref().map(|text| text::clip(text, self.limits.max_text_bytes));
        if id.is_empty()
            || !(self.cancel_inbound(now, id, reason, batch) || self.end_listen(now, id, reason, batch))
        {
            let hash = self.id_index.hash(id);
            let too_late = !id.is_empty() && self.id_index.ended_recently(hash);
            *(if too_late {
                // The peer gave up the request and ignores its progress: the answer need not wait for it.
                self.output.release_one(hash);
                &mut self.counters.cancels_too_late
            } else {
                &mut self.counters.cancels_ignored
            }) += 1;
        }
        if self.expose_protocol_notifications {
            batch.events.push(Event::Notification { frame: at, envelope: *envelope, owner: None });
        }
    }

    fn cancel_inbound(&mut self, now: Time, id: &[u8], reason: Option<&Text>, batch: &mut Batch<H>) -> bool {
        if self.is_addressed() && self.rules.cancels_by_stream() {
            return false;
        }
        let mut named = self.find_by_id(id);
        // Two requests under one id: which one is meant is unknown, and the wrong one must not end.
        let (Some(slot), None) = (named.next(), named.next()) else { return false };
        drop(named);
        let Some(entry) = self.inbound.get(slot) else { return false };
        let record = Arc::clone(&entry.record);
        if !self.rules.peer_may_cancel(&record.method, entry.augmented) {
            return false;
        }
        let (owner, declined, chain) = (entry.owner.clone(), entry.declines, entry.frame_chain());
        let event = if declined { FlightEvent::CancelDeclined } else { FlightEvent::Cancel };
        if self.arrivals.claim_alone(record.number, event).is_err() {
            return false;
        }
        record.note_cancel(CancelledBy::Peer, reason, now);
        self.counters.cancels_in += 1;
        if !declined {
            // TRS-06: nothing more about it is written, including queued frames.
            self.output.retract_chain(chain);
            Self::finish(&record, Outcome::Cancelled, now, batch);
            self.remove_inbound(now, slot, record.number);
        }
        batch.events.push(Event::Cancelled { owner, record, declined });
        true
    }

    /// K1: a server ends our listen by a cancel; a result and a plain close are accepted, too.
    fn end_listen(&mut self, now: Time, id: &[u8], reason: Option<&Text>, batch: &mut Batch<H>) -> bool {
        let Some(number) = self.number_of(id) else { return false };
        let Some((slot, state)) = self.table.find(number) else { return false };
        let Some(entry) = self.outbound.get(slot) else { return false };
        if !state.is_live() || !self.rules.peer_may_end(&entry.record.method) {
            return false;
        }
        let record = Arc::clone(&entry.record);
        if self.table.claim(number, FlightEvent::Cancel).is_err() {
            return false;
        }
        record.note_cancel(CancelledBy::Peer, reason, now);
        self.counters.cancels_in += 1;
        self.settle(now, slot, number, End::Local(Outcome::Cancelled), None, batch);
        true
    }
}
