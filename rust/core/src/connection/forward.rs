//! Frames forwarded between connections: spliced, not rewritten.
//!
//! A relay forwards whole frames, unlike `send`, `answer` and `progress`: only ids and tokens are replaced, by
//! our number or by the peer's own (section 14 of the relay's rules). Each table decides its own flights, as for
//! local requests.
//!
//! Ids of one peer mean nothing to another, and a value that some parser takes for one of our ids (`7.0` where
//! numbers are doubles) would name another client's request. So no value under the key of an id or a token is
//! forwarded as it came, in either direction:
//!
//! | place | what goes on |
//! |---|---|
//! | `id` of a request | our number |
//! | `id` of an answer | the id that the peer asked under, byte for byte; an answer to nothing of ours goes nowhere |
//! | `params._meta.progressToken` of a request | our number for a token; anything else is left out (PRG-02) |
//! | `_meta.progressToken` of a notification or a result | left out: it means nothing there |
//! | `params.progressToken` of `notifications/progress` | the peer's own token; progress of nothing of ours goes nowhere |
//! | `params.requestId` of `notifications/cancelled` | the other side's id; a cancel of nothing in flight goes nowhere |
//! | `_meta` `subscriptionId` of a notification | the id of the peer's listen; one of no open listen takes it nowhere |
//! | `_meta` `subscriptionId` of a result | the id that the peer asked under |
//! | `_meta` `subscriptionId` of a request, or of progress | left out: it means nothing there |
//! | the keys of an era in a `_meta` | left out where the other side is not of it |
//!
//! What is left out of a `_meta` stands in one table, [`Carrier`](crate::rules::Carrier).
//!
//! Ids of tasks and of elicitations belong to the server on either side and pass unchanged; `relay::ownership`
//! knows the owners of tasks. Under any other method `progressToken` and `requestId` in `params` itself are
//! payload: no parser matches them with a request.
//!
//! Keys are matched by their exact spelling: a frame with one of these twice, or spelled otherwise, was refused
//! before (`envelope::read_keys`).

use std::sync::Arc;

use crate::connection::event::{AnswerFrame, Batch, Host};
use crate::connection::output::FrameKind;
use crate::connection::translate::Changes;
use crate::connection::{About, Answered, Connection, MetaMember, Pending, Registration, SendError};
use crate::flight::record::{PeerInfo, ProgressUpdate, Record, Time};
use crate::flight::state::{CancelledBy, FlightEvent, FlightState};
use crate::memory::Account;
use crate::rules::{Bridge, Revision};
use crate::wire::encode;
use crate::wire::envelope::Envelope;
use crate::wire::span::Span;
use crate::wire::splice::Edit;
use crate::wire::text::{Text, clip};

/// A request of another peer's to be forwarded to this one.
pub struct Forward<'a, C> {
    /// The frame as it came in.
    pub frame: &'a [u8],
    /// Its spans.
    pub envelope: &'a Envelope,
    /// The method's name, decoded.
    pub method: &'a str,
    /// The routing prefix that is removed from `params.name` or `params.uri`; an empty span for none.
    pub prefix: Span,
    /// The peer whose request it is.
    pub asker: &'a Arc<PeerInfo>,
    /// The revision that it is of.
    pub revision: Revision,
    /// Members for its `_meta`, before those that every request to this peer has; None for those alone.
    pub request_meta: Option<&'a [MetaMember]>,
    /// The host's value for it.
    pub owner: C,
    /// The sender's key in the fair queue.
    pub sender: u64,
    /// Who is charged for it while it waits.
    pub payer: Option<&'a Arc<Account>>,
    /// Nanoseconds without answer or progress; 0 for never.
    pub idle: Time,
    /// Nanoseconds in all; 0 for never.
    pub max: Time,
    /// The number of the peer's request on whose stream it goes; 0 for none.
    pub during: u64,
}

impl<H: Host> Connection<H> {
    /// Registers a request and forwards its frame, with our number as id and token.
    pub fn forward_request(
        &mut self,
        now: Time,
        forward: Forward<'_, H::Call>,
    ) -> Result<Arc<Record>, SendError> {
        let Forward {
            frame,
            envelope,
            method,
            prefix,
            asker,
            revision,
            request_meta,
            owner,
            sender,
            payer,
            idle,
            max,
            during,
        } = forward;
        let stream = self.stream_of(during);
        // What has a stream of its own waits behind nobody's else.
        let waits = stream == 0 && (self.output.fair_queue.must_wait(sender, now) || self.congested);
        if waits && !self.is_over() {
            let room = self.limits.max_output_bytes.saturating_sub(self.output.len());
            self.output
                .fair_queue
                .admit(sender, frame.len(), room, &self.limits)
                .map_err(SendError::Exceeded)?;
        }
        let wants_progress = !envelope.progress_token.is_empty();
        let registration = Registration {
            method,
            size: frame.len(),
            owner: Some(owner),
            idle,
            max,
            augmented: !envelope.task.is_empty(),
            wants_progress,
            about: About::Frame(frame, envelope, prefix),
            asker: Some(asker),
        };
        let (record, slot) = self.admit(now, registration, b"")?;
        let mut digits = itoa::Buffer::new();
        let number = digits.format(record.number).as_bytes();
        let edits = [(prefix, &b""[..]), (envelope.id, number), (envelope.progress_token, number)];
        let ours = [request_meta.unwrap_or_default(), &self.request_meta];
        let ours = Some(ours).filter(|_| !self.rules.keeps_envelope_of(revision));
        let changes = Changes::of_request(frame, envelope, ours);
        let write = |out: &mut Vec<u8>| Changes::write_line(changes.as_ref(), out, frame, edits);
        if waits {
            let mut out = Vec::new();
            write(&mut out);
            self.output.fair_queue.push(sender, record.number, out, payer);
        } else {
            self.note_call(record.number, stream);
            self.output.request(record.number, stream, write);
            let sent = self.output.fair_queue.send(sender, now);
            if let Some(entry) = self.outbound.get_mut(slot) {
                entry.sent = sent;
            }
        }
        Ok(record)
    }

    /// Forwards an answer to a request of the peer's; where that is over, nothing is written.
    pub fn forward_answer(
        &mut self,
        now: Time,
        number: u64,
        frame: &[u8],
        answered: &AnswerFrame,
        is_error: bool,
        batch: &mut Batch<H>,
    ) -> Answered {
        if let Some(exceeded) = self.answer_exceeds(frame.len()) {
            return self.overflow(now, number, exceeded);
        }
        // Bounded like requests in flight: a peer that creates more tasks gets no progress of the rest.
        let open = self.inbound.len().saturating_sub(self.arrivals.live());
        let goes_on = answered.as_task
            && open < self.limits.max_inbound
            && self.arrivals.find(number).is_some_and(|(slot, _)| {
                self.inbound.get(slot).is_some_and(|entry| entry.augmented && entry.record.wants_progress)
            });
        let event = match (is_error, goes_on) {
            (true, _) => FlightEvent::Failed,
            (false, true) => FlightEvent::AnsweredWithTask,
            (false, false) => FlightEvent::Answered,
        };
        let bridge = Bridge::between(answered.revision, self.rules.revision);
        let Ok(moved) = self.arrivals.claim_alone(number, event) else { return Answered::default() };
        let silent = moved.to == FlightState::Declined;
        self.flush_pending(moved.slot);
        let progress = self.progress_before_answer(moved);
        let Some(entry) = self.inbound.get(moved.slot) else { return Answered::default() };
        if !silent {
            let id = entry.record.wire_id();
            // What names a subscription does not reach the other era.
            let subscription = Some(answered.subscription_id).filter(|_| bridge == Bridge::Same);
            let edits = [(subscription.unwrap_or_default(), id), (answered.id, id)];
            let (request, is_typed) = ((&*entry.record.method, bridge), self.rules.has_result_type());
            let changes = Changes::of_answer(frame, answered, is_error, request, is_typed);
            let write = |out: &mut Vec<u8>| Changes::write_line(changes.as_ref(), out, frame, edits);
            let waits = self.output.answer(now, (progress, entry.stream), || self.id_index.hash(id), write);
            self.counters.answers_delayed += u64::from(waits);
            entry.record.note_written(now);
        }
        let record = if moved.to == FlightState::Task {
            let record = Arc::clone(&entry.record);
            self.keep_task_token(moved.slot);
            Some(record)
        } else {
            self.remove_inbound(now, moved.slot, number)
        };
        if let (Some(record), Some(outcome)) = (record, moved.to.outcome()) {
            // Moved, not cloned: an inbound request is no leg, and its entry is gone.
            record.note_outcome(outcome, now);
            batch.finished.push(record);
        }
        Answered { written: !silent, finished: None }
    }

    /// Forwards progress under the peer's own token, at the span `token`; false where the request is over or the
    /// peer wants none. The span `foreign_meta` is a `_meta` with ids that mean nothing to the peer.
    pub fn forward_progress(
        &mut self,
        number: u64,
        frame: &[u8],
        (token, foreign_meta): (Span, Span),
        update: &ProgressUpdate,
        now: Time,
    ) -> bool {
        let Some((slot, FlightState::Running | FlightState::Task)) = self.arrivals.find(number) else {
            return false;
        };
        let keeps = self.keeps_progress(frame.len());
        let congested = self.is_congested_at(slot);
        let Some(entry) = self.inbound.get_mut(slot) else { return false };
        if !entry.record.wants_progress || self.rules.may_progress().is_err() {
            return false;
        }
        if !entry.record.note_progress(update, now) && self.rules.choices.progress_must_increase {
            self.counters.progress_dropped += 1;
            return false;
        }
        let quiet = !self.rules.progress_has_message() && update.message.is_some();
        let changes = Changes::of_progress(frame, foreign_meta, quiet, self.rules.revision.is_modern());
        let write = |out: &mut Vec<u8>, token: Edit<'_>| {
            Changes::write_line(changes.as_ref(), out, frame, [token]);
        };
        let full = self.output.len() + frame.len() > self.limits.max_output_bytes || !keeps;
        let outbound = entry.outbound_state.get_or_insert_default();
        let too_soon = outbound.rate_limiter.check(now, self.limits.max_progress_rate).err();
        let stream = entry.stream;
        if congested || full || too_soon.is_some() {
            if !keeps {
                self.counters.progress_coalesced += 1;
                return true;
            }
            let mut pending = Vec::new();
            write(&mut pending, (token, entry.record.wire_token()));
            self.holdings.progress += pending.len();
            if let Some(before) = outbound.pending.replace(Pending::Frame(pending.into_boxed_slice())) {
                self.holdings.progress -= before.bytes();
                self.counters.progress_coalesced += 1;
            } else if let Some(next) = too_soon
                && let Some(index) = self.inbound.index(slot)
            {
                self.progress_timers.set(index, next, now);
            } else {
                self.queue_progress(number);
            }
            return true;
        }
        // Pending progress is older than this update.
        if let Some(before) = outbound.pending.take() {
            self.holdings.progress -= before.bytes();
            self.counters.progress_coalesced += 1;
        }
        let edit = (token, entry.record.wire_token());
        self.output
            .write_chained((&mut outbound.frames, stream), FrameKind::Progress, |out| write(out, edit));
        self.counters.progress_out += 1;
        true
    }

    /// Forwards a notification unchanged, except for its subscription id where `listen` is the number of the
    /// peer's listen.
    pub fn forward_notification(
        &mut self,
        frame: &[u8],
        envelope: &Envelope,
        listen: Option<u64>,
    ) -> Result<(), SendError> {
        if self.is_over() {
            return Err(SendError::Closed);
        }
        if let Some(exceeded) = self.exceeded_by(frame.len()) {
            return Err(SendError::Exceeded(exceeded));
        }
        let keeps_envelope = self.rules.revision.is_modern();
        let changes = Changes::of_notification(frame, envelope, keeps_envelope);
        let write = |out: &mut Vec<u8>, edit: Edit<'_>| {
            Changes::write_line(changes.as_ref(), out, frame, [edit]);
        };
        let Some(number) = listen else {
            write(self.output.frame(0), (Span::default(), b""));
            return Ok(());
        };
        // Nothing after the end of its listen (race 13).
        let Some((slot, FlightState::Running)) = self.arrivals.find(number) else {
            return Err(SendError::Closed);
        };
        let Some(entry) = self.inbound.get_mut(slot) else { return Err(SendError::Closed) };
        // What names a subscription does not reach the other era.
        let subscription = Some(envelope.subscription_id).filter(|_| keeps_envelope);
        let edit = (subscription.unwrap_or_default(), entry.record.wire_id());
        let chain = &mut entry.outbound_state.get_or_insert_default().frames;
        self.output.write_chained((chain, entry.stream), FrameKind::Notification, |out| write(out, edit));
        Ok(())
    }

    /// Ends a listen of the peer's by a cancel, or with its stream, as its server ended it (K1); false where it is over.
    pub fn end_listen_of_peer(
        &mut self,
        now: Time,
        number: u64,
        reason: Option<&Text>,
        batch: &mut Batch<H>,
    ) -> bool {
        let Ok(moved) = self.arrivals.claim_alone(number, FlightEvent::Cancel) else { return false };
        let Some(entry) = self.inbound.get(moved.slot) else { return false };
        let record = Arc::clone(&entry.record);
        record.note_cancel(CancelledBy::Peer, reason, now);
        // One that has a stream of its own ends with that (SUB-16).
        if self.streams.is_none() {
            let reason = reason.map(|reason| clip(reason, self.limits.max_text_bytes));
            encode::cancelled_raw(self.output.frame(entry.stream), record.wire_id(), reason);
            record.note_cancel_written();
            self.counters.cancels_out += 1;
        }
        Self::finish(
            &record,
            moved.to.outcome().unwrap_or(crate::flight::state::Outcome::Cancelled),
            now,
            batch,
        );
        self.remove_inbound(now, moved.slot, number);
        true
    }

    /// Ends a listen of the peer's as a server does that closes (SUB-11).
    pub fn close_listen_of_peer(&mut self, now: Time, number: u64) -> Answered {
        let entry = self.arrivals.find(number).and_then(|(slot, _)| self.inbound.get(slot));
        let Some(record) = entry.map(|entry| Arc::clone(&entry.record)) else { return Answered::default() };
        self.close_listen(now, &record)
    }

    /// Cancels every request in flight that was forwarded to this peer.
    pub fn cancel_legs(&mut self, now: Time, by: CancelledBy, reason: Option<&Text>, batch: &mut Batch<H>) {
        let legs = self.outbound.iter().filter(|entry| entry.record.is_leg());
        let legs: Vec<u64> = legs.map(|entry| entry.record.number).collect();
        for number in legs {
            if self.table.find(number).is_some_and(|(_, state)| state.is_live()) {
                self.cancel(now, number, by, reason, batch);
            }
        }
    }

    /// Frees the token of a request that was answered with a task which is over now (P6).
    pub fn end_task_of_peer(&mut self, now: Time, number: u64) {
        if let Some((slot, FlightState::Task)) = self.arrivals.find(number) {
            self.flush_pending(slot);
            self.remove_inbound(now, slot, number);
        }
    }
}
