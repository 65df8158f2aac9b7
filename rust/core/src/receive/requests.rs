//! Requests of the peer's, and their cancels.

use std::sync::Arc;

use crate::connection::{Connection, INTERNAL_ERROR, INVALID_REQUEST, Inbound};
use crate::encode;
use crate::envelope::{self, Envelope};
use crate::event::{Batch, End, Event, Host};
use crate::flight::{CancelledBy, Event as Happening, Outcome, State};
use crate::limits::{Exceeded, clip};
use crate::record::{Beginning, Direction, Time};
use crate::rules::{Misfit, Said, method};
use crate::span::Span;
use crate::spare;
use crate::text::{self, Text};

impl<H: Host> Connection<H> {
    pub(super) fn take_request(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        envelope: &Envelope,
        batch: &mut Batch<H>,
    ) {
        if !self.rules.takes_requests() {
            self.counters.violations += 1;
            return;
        }
        let id = envelope.id.of(frame);
        let name = envelope.method_name(frame);
        if self.rules.asks_for_era()
            && let Err(misfit) = self.take_era(frame, envelope, &name)
        {
            self.refuse_misfit(frame, envelope, misfit);
            return;
        }
        if *name == *method::PING.as_bytes() && self.rules.answers_ping() {
            self.counters.pings += 1;
            if self.may_reply() {
                encode::result(self.output.frame(), id, b"{}");
            }
            return;
        }
        if !self.takes_duplicates && self.find_by_id(id).next().is_some() {
            // An error under the same id would end the first request at the peer, so it names it in its data.
            self.counters.duplicate_ids += 1;
            let data = [b"{\"reason\":\"duplicate_id\",\"requestId\":", id, b"}"].concat();
            self.reject(b"", INVALID_REQUEST, "the request id is in flight already", &data);
            return;
        }
        let limit = self.limits.max_inbound;
        let minted =
            if self.arrivals.live() < limit { self.arrivals.mint_alone(State::Running).ok() } else { None };
        let Some(minted) = minted else {
            self.counters.overloaded += 1;
            let data = Exceeded { limit: "max_inbound", value: limit }.unsent();
            let message = "too many requests in flight";
            self.reject(id, INTERNAL_ERROR, message, data.as_bytes());
            return;
        };
        let token = envelope.progress_token.of(frame);
        let token = if token.len() <= self.limits.max_id_bytes { token } else { b"" };
        let record = spare::record(&Beginning {
            number: minted.number,
            direction: Direction::Inbound,
            peer: &self.peer,
            method: self.methods.named(std::str::from_utf8(&name).unwrap_or_default(), &self.limits),
            id,
            token,
            wants_progress: !token.is_empty(),
            is_leg: false,
            now,
        });
        if &*record.method == method::ELICIT {
            self.note_asking(now);
        }
        let augmented = !envelope.task.is_empty() && self.rules.takes_task(&record.method);
        let entry = Inbound::new(Arc::clone(&record), augmented);
        self.inbound.put(minted.slot, entry);
        self.wait_to_be_entered(minted.number);
        self.counters.requests_in += 1;
        let revision = self.rules.revision;
        batch.events.push(Event::Request { record, frame: at, envelope: *envelope, revision });
    }

    /// Takes note of what a request says of its era.
    fn take_era(&mut self, frame: &[u8], envelope: &Envelope, name: &[u8]) -> Result<(), Misfit> {
        let version = envelope.protocol_version.of(frame);
        let said = Said { method: name, version, has_capabilities: envelope.has_capabilities };
        if let Some(revision) = self.rules.judge(said)? {
            self.rules.settle(revision);
        }
        // In the order of what was received: a client may send `initialized` in the same write.
        self.rules.opened &= name != method::INITIALIZE.as_bytes();
        Ok(())
    }

    /// Answers a request whose envelope is not what it has to be.
    fn refuse_misfit(&mut self, frame: &[u8], envelope: &Envelope, misfit: Misfit) {
        self.counters.violations += 1;
        let params = envelope.params.of(frame);
        let requested = match misfit {
            Misfit::Handshake => {
                envelope::find_member(params, "protocolVersion").map_or(&b""[..], |at| at.of(params))
            }
            _ => envelope.protocol_version.of(frame),
        };
        let requested = envelope::unescape(requested).unwrap_or_default();
        let data = match misfit {
            Misfit::Unsupported | Misfit::Handshake => {
                encode::versions(self.rules.supported(), clip(&requested, self.limits.max_id_bytes))
            }
            _ => Vec::new(),
        };
        self.reject(envelope.id.of(frame), misfit.code(), misfit.message(), &data);
    }

    /// Cancels what a `notifications/cancelled` names (CAN-11 to CAN-30). Nothing in it can harm the connection.
    pub(super) fn take_cancel(
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
            let hash = self.ids.hash(id);
            let too_late = !id.is_empty() && self.ids.ended_lately(hash);
            *(if too_late {
                // Who gave up its request has no use for its progress: the answer waits no longer.
                self.output.release_one(hash);
                &mut self.counters.cancels_too_late
            } else {
                &mut self.counters.cancels_ignored
            }) += 1;
        }
        if self.shows_everything {
            batch.events.push(Event::Notification { frame: at, envelope: *envelope, owner: None });
        }
    }

    fn cancel_inbound(&mut self, now: Time, id: &[u8], reason: Option<&Text>, batch: &mut Batch<H>) -> bool {
        let mut named = self.find_by_id(id);
        // Two requests under one id: nobody knows which one is meant, and the wrong one must not end.
        let (Some(slot), None) = (named.next(), named.next()) else { return false };
        drop(named);
        let Some(entry) = self.inbound.get(slot) else { return false };
        let record = Arc::clone(&entry.record);
        if !self.rules.peer_may_cancel(&record.method, entry.augmented) {
            return false;
        }
        let (owner, declined, about) = (entry.owner.clone(), entry.declines, entry.about());
        let event = if declined { Happening::CancelDeclined } else { Happening::Cancel };
        if self.arrivals.claim_alone(record.number, event).is_err() {
            return false;
        }
        record.note_cancel(CancelledBy::Peer, reason, now);
        self.counters.cancels_in += 1;
        if !declined {
            // TRS-06: nothing of it leaves any more, also of what was queued before.
            self.output.retract_about(about);
            Self::finish(&record, Outcome::Cancelled, now, batch);
            self.remove_inbound(now, slot, record.number);
        }
        batch.events.push(Event::Cancelled { owner, record, declined });
        true
    }

    /// K1: a server ends our listen by a cancel; a result and a plain close are taken, too.
    fn end_listen(&mut self, now: Time, id: &[u8], reason: Option<&Text>, batch: &mut Batch<H>) -> bool {
        let Some(number) = self.number_of(id) else { return false };
        let Some((slot, state)) = self.table.find(number) else { return false };
        let Some(entry) = self.outbound.get(slot) else { return false };
        if !state.is_live() || !self.rules.peer_may_end(&entry.record.method) {
            return false;
        }
        let record = Arc::clone(&entry.record);
        if self.table.claim(number, Happening::Cancel).is_err() {
            return false;
        }
        record.note_cancel(CancelledBy::Peer, reason, now);
        self.counters.cancels_in += 1;
        self.settle(now, slot, number, End::Local(Outcome::Cancelled), None, batch);
        true
    }
}
