//! What comes in: each frame is scanned once, matched against the flights, and turned into events.

use std::borrow::Cow;
use std::sync::Arc;

use crate::connection::{Connection, INTERNAL_ERROR, INVALID_REQUEST, Inbound, PARSE_ERROR, put};
use crate::encode;
use crate::envelope::{self, Envelope, Kind, Partial, Refusal, RefusalReason};
use crate::event::{AnswerFrame, Batch, End, Event, Host, Look};
use crate::flight::{CancelledBy, Event as Happening, Outcome, State};
use crate::id;
use crate::limits::clip;
use crate::record::{Late, Progress, Record, Time};
use crate::rules::{Role, method};
use crate::span::Span;

/// The span of `inner`, which stands in a frame, in the run that holds the frame.
fn in_run(frame: Span, inner: Span) -> Span {
    if inner.is_empty() {
        inner
    } else {
        Span { start: frame.start + inner.start, end: frame.start + inner.end }
    }
}

fn answered(at: Span, envelope: &Envelope) -> AnswerFrame {
    AnswerFrame {
        frame: at,
        id: envelope.id,
        subscription_id: envelope.subscription_id,
        result_type: envelope.result_type,
        as_task: false,
    }
}

/// A JSON string as it is spelled without needless escapes; anything else as it is.
fn plain(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    envelope::unescape(raw).map_or(Cow::Borrowed(raw), |text| Cow::Owned(format!("\"{text}\"").into_bytes()))
}

/// The id of the request in `slot`; empty where there is none.
fn wire_id<R>(inbound: &[Option<Inbound<R>>], slot: usize) -> &[u8] {
    inbound[slot].as_ref().map_or(b"", |entry| entry.record.wire_id())
}

impl<H: Host> Connection<H> {
    /// Takes one frame. `at` is where it stands in the run that the events' spans refer to.
    ///
    /// Leaves a message that the host wants to look at (`held`) untouched and says what it is; the host then says
    /// what to do by [`Connection::receive_looked_at`] or [`Connection::reject`], before it goes on with the next
    /// frame. A batch with such a message is taken member by member: see [`Look::Batch`].
    pub fn receive(&mut self, now: Time, frame: &[u8], at: Span, batch: &mut Batch<H>) -> Option<Look> {
        self.counters.frames_in += 1;
        self.counters.bytes_in += frame.len() as u64 + 1;
        if self.is_over() {
            // What comes after the end starts nothing: there is nobody left to answer to.
            return None;
        }
        if !self.held.is_empty()
            && let Some(look) = self.looks_at(frame)
        {
            return Some(look);
        }
        self.receive_looked_at(now, frame, at, batch);
        None
    }

    fn looks_at(&self, frame: &[u8]) -> Option<Look> {
        match envelope::scan(frame, &self.scan_limits) {
            Ok(envelope) => self.is_held(frame, &envelope).then_some(Look::Message(envelope)),
            Err(refusal) if refusal.reason == RefusalReason::Batch && self.rules.takes_batches() => {
                let members = envelope::batch(frame, &self.scan_limits).ok()?;
                let held = |member: &Span| self.looks_at_member(member.of(frame)).is_some();
                members.iter().any(held).then_some(Look::Batch(members))
            }
            Err(_) => None,
        }
    }

    /// The envelope of a member of a batch that the host wants to look at.
    pub fn looks_at_member(&self, member: &[u8]) -> Option<Envelope> {
        let envelope = envelope::scan(member, &self.scan_limits).ok()?;
        self.is_held(member, &envelope).then_some(envelope)
    }

    fn is_held(&self, frame: &[u8], envelope: &Envelope) -> bool {
        std::str::from_utf8(&envelope.method_name(frame)).is_ok_and(|method| self.held.contains(method))
    }

    /// Takes one frame that the host has looked at.
    pub fn receive_looked_at(&mut self, now: Time, frame: &[u8], at: Span, batch: &mut Batch<H>) {
        if self.is_over() {
            return;
        }
        match envelope::scan(frame, &self.scan_limits) {
            Ok(envelope) => self.take(now, frame, at, &envelope, batch),
            Err(refusal) if refusal.reason == RefusalReason::Batch && self.rules.takes_batches() => {
                match envelope::batch(frame, &self.scan_limits) {
                    Ok(members) => {
                        for member in members {
                            self.receive_member(now, member.of(frame), in_run(at, member), batch);
                        }
                    }
                    Err(refusal) => self.refuse(now, frame, at, &refusal, batch),
                }
            }
            Err(refusal) => self.refuse(now, frame, at, &refusal, batch),
        }
    }

    /// Takes one message of a batch (BAT-02, BAT-03).
    pub fn receive_member(&mut self, now: Time, frame: &[u8], at: Span, batch: &mut Batch<H>) {
        match envelope::scan(frame, &self.scan_limits) {
            Ok(envelope) if *envelope.method_name(frame) == *method::INITIALIZE.as_bytes() => {
                self.counters.violations += 1;
                if envelope.kind == Kind::Request {
                    self.reject(
                        envelope.id.of(frame),
                        INVALID_REQUEST,
                        "initialize is not part of a batch",
                        b"",
                    );
                }
            }
            Ok(envelope) => self.take(now, frame, at, &envelope, batch),
            Err(refusal) => self.refuse(now, frame, at, &refusal, batch),
        }
    }

    fn take(&mut self, now: Time, frame: &[u8], at: Span, envelope: &Envelope, batch: &mut Batch<H>) {
        match envelope.kind {
            Kind::Result => self.take_result(now, frame, at, envelope, batch),
            Kind::Error => self.take_error(now, frame, at, envelope, batch),
            Kind::Request => self.take_request(now, frame, at, envelope, batch),
            Kind::Notification => match &*envelope.method_name(frame) {
                b"notifications/progress" => self.take_progress(now, frame, at, envelope, batch),
                b"notifications/cancelled" => self.take_cancel(now, frame, at, envelope, batch),
                _ => self.take_notification(now, frame, at, envelope, batch),
            },
        }
    }

    // ---- answers to our requests ----

    /// The slot and number of the call that an answer names, if the answer came in time.
    ///
    /// Everything else that an answer can be is dealt with here: late, unasked, not allowed.
    fn claim_answer(
        &mut self,
        now: Time,
        id: Span,
        frame: &[u8],
        at: Span,
        happening: (Happening, Late, Span),
        batch: &mut Batch<H>,
    ) -> Option<(usize, u64)> {
        if !self.rules.takes_responses() {
            self.counters.violations += 1;
            return None;
        }
        let (event, late, payload) = happening;
        let number = self.number_of(id.of(frame));
        let verdict = number.map(|number| (number, self.table.claim(number, event)));
        match verdict {
            Some((number, Ok(moved))) => return Some((moved.slot, number)),
            Some((number, Err(Some(state)))) if !state.is_live() && state != State::Task => {
                let slot = self.table.find(number).map(|found| found.0);
                if let Some(record) = slot.and_then(|slot| self.bury(now, slot, number, late)) {
                    batch.events.push(Event::LateResponse { record, payload: in_run(at, payload) });
                    return None;
                }
            }
            _ => {}
        }
        self.counters.unmatched_responses += 1;
        batch.events.push(Event::Unmatched { id: in_run(at, id) });
        None
    }

    /// Hands a settled call to the host and frees its slot.
    fn settle(
        &mut self,
        now: Time,
        slot: usize,
        number: u64,
        end: End,
        answer: Option<AnswerFrame>,
        batch: &mut Batch<H>,
    ) {
        let Some(entry) = self.outbound[slot].as_mut() else { return };
        let record = Arc::clone(&entry.record);
        let goes_on = matches!(self.table.find(number), Some((_, State::Task)));
        let owner = if goes_on { entry.owner.clone() } else { entry.owner.take() };
        let outcome = match end {
            End::Result(_) => Outcome::Result,
            End::Error(_) | End::Invalid(_) => Outcome::Error,
            End::Local(outcome) => outcome,
        };
        Self::finish(&record, outcome, now, batch);
        if !goes_on {
            self.release(slot, number);
        }
        batch.events.push(Event::Settled { owner, record, end, answer });
    }

    fn take_result(&mut self, now: Time, frame: &[u8], at: Span, envelope: &Envelope, batch: &mut Batch<H>) {
        let task = self.task_in(frame, envelope);
        // What a task was made of stays, to be cancelled by the task's id; so does its token, if the rules say so.
        let wanted = task.is_some() && {
            let entry = self.number_of(envelope.id.of(frame)).and_then(|number| self.table.find(number));
            let augmented = entry
                .is_some_and(|(slot, _)| self.outbound[slot].as_ref().is_some_and(|entry| entry.augmented));
            augmented || self.rules.has_result_type()
        };
        let fits = task.is_some_and(|task| task.len() <= self.limits.max_id_bytes)
            && self.tasks.len() < self.limits.max_tasks;
        let stays = wanted && fits;
        self.counters.tasks_not_kept += u64::from(wanted && !fits);
        let event = if stays { Happening::AnsweredWithTask } else { Happening::Answered };
        let late = (event, Late::Result, envelope.result);
        let buried = self.counters.late_responses;
        let Some((slot, number)) = self.claim_answer(now, envelope.id, frame, at, late, batch) else {
            if let Some(task) = task
                && self.counters.late_responses > buried
            {
                if let Some(Event::LateResponse { record, .. }) = batch.events.last() {
                    self.note_task(record, task.of(frame));
                }
                if self.rules.choices.cancel_late_tasks && self.send_task_cancel(now, task.of(frame)) {
                    self.counters.late_tasks_cancelled += 1;
                }
            }
            return;
        };
        if let Some(task) = task
            && let Some(entry) = self.outbound[slot].as_ref()
        {
            self.note_task(&entry.record, task.of(frame));
        }
        if stays && let Some(task) = task {
            let about = if self.rules.has_result_type() { envelope.result } else { envelope.task };
            let ttl = self.time_to_live(about.of(frame)).unwrap_or(Time::MAX);
            self.keep_for_task(now, slot, number, task.of(frame).into(), ttl);
        } else {
            self.note_task_state(now, envelope.result.of(frame), batch);
        }
        let end = if self.rules.has_result_type() && !self.knows_result_type(slot, frame, envelope) {
            End::Invalid("the result's resultType is not one this request can have")
        } else {
            End::Result(in_run(at, envelope.result))
        };
        let as_task = stays && self.rules.token_outlives_task_creation();
        let answer = AnswerFrame { as_task, ..answered(at, envelope) };
        self.settle(now, slot, number, end, Some(answer), batch);
    }

    fn take_error(&mut self, now: Time, frame: &[u8], at: Span, envelope: &Envelope, batch: &mut Batch<H>) {
        let late = (Happening::Failed, Late::Error, envelope.error);
        if let Some((slot, number)) = self.claim_answer(now, envelope.id, frame, at, late, batch) {
            if !self.task_cancels.is_empty() {
                self.note_cancel_refused(number, envelope.error.of(frame), batch);
            }
            let end = match envelope::error_fault(envelope.error.of(frame)) {
                Some(fault) => End::Invalid(fault),
                None => End::Error(in_run(at, envelope.error)),
            };
            self.settle(now, slot, number, end, Some(answered(at, envelope)), batch);
        }
    }

    /// The id of the task that a result announces, in either shape.
    fn task_in(&self, frame: &[u8], envelope: &Envelope) -> Option<Span> {
        // Each era has its own shape, and the other one means nothing in it (TSX-58, TSX-60).
        let id = if self.rules.has_task_augmentation() {
            in_run(envelope.task, envelope::find_member(envelope.task.of(frame), "taskId")?)
        } else if self.rules.has_result_type() && *plain(envelope.result_type.of(frame)) == *b"\"task\"" {
            envelope.task_id
        } else {
            return None;
        };
        Some(id).filter(|id| id.of(frame).starts_with(b"\""))
    }

    /// RID-17, RID-18, MRT-02, TSX-04: which results this request can have.
    fn knows_result_type(&self, slot: usize, frame: &[u8], envelope: &Envelope) -> bool {
        let method = self.outbound[slot].as_ref().map_or("", |entry| &*entry.record.method);
        let result_type = envelope.result_type.of(frame);
        result_type.is_empty()
            || envelope::unescape(result_type)
                .is_some_and(|result_type| self.rules.may_end_with(method, &result_type) == Some(true))
    }

    /// How long a task object says that it lives, in nanoseconds, `Time::MAX` for without end; None where it does
    /// not say.
    fn time_to_live(&self, object: &[u8]) -> Option<Time> {
        let name = if self.rules.has_result_type() { "ttlMs" } else { "ttl" };
        let ttl = envelope::find_member(object, name)?;
        let milliseconds = id::number(ttl.of(object));
        Some(milliseconds.map_or(Time::MAX, |milliseconds| (milliseconds.max(0.0) * 1e6) as Time))
    }

    /// A task object with a terminal status ends its hold on a token (PRG-19, TSK-41); any other may change how
    /// long it lives (TSK-44, TSX-36).
    fn note_task_state(&mut self, now: Time, object: &[u8], batch: &mut Batch<H>) {
        if self.tasks.is_empty() {
            return;
        }
        let text = |key| envelope::find_member(object, key).map(|span: Span| span.of(object));
        let Some(number) = text("taskId").and_then(|id| self.tasks.get(id)).copied() else { return };
        let status = text("status").map(plain);
        if let Some(b"\"completed\"" | b"\"failed\"" | b"\"cancelled\"") = status.as_deref() {
            self.end_task(number, batch);
        } else if let Some(ttl) = self.time_to_live(object) {
            self.live_for(now, number, ttl);
        }
    }

    // ---- requests ----

    fn take_request(&mut self, now: Time, frame: &[u8], at: Span, envelope: &Envelope, batch: &mut Batch<H>) {
        if !self.rules.takes_requests() {
            self.counters.violations += 1;
            return;
        }
        let id = envelope.id.of(frame);
        let name = envelope.method_name(frame);
        if *name == *method::PING.as_bytes() && self.rules.answers_ping() {
            self.counters.pings += 1;
            if self.may_reply() {
                encode::result(self.output.frame(), id, b"{}");
            }
            return;
        }
        let hash = self.ids.hash(id);
        if !self.takes_duplicates && self.find_by_id(hash, id).next().is_some() {
            // An error under the same id would end the first request at the peer, so it names it in its data.
            self.counters.duplicate_ids += 1;
            let data = [b"{\"reason\":\"duplicate_id\",\"requestId\":", id, b"}"].concat();
            self.reject(b"", INVALID_REQUEST, "the request id is in flight already", &data);
            return;
        }
        let limit = self.limits.max_inbound;
        let minted =
            if self.arrivals.live() < limit { self.arrivals.mint(State::Running).ok() } else { None };
        let Some(minted) = minted else {
            self.counters.overloaded += 1;
            let data = format!(
                "{{\"reason\":\"overloaded\",\"limit\":\"max_inbound\",\"value\":{limit},\"sent\":false}}"
            );
            let message = "too many requests in flight";
            self.reject(id, INTERNAL_ERROR, message, data.as_bytes());
            return;
        };
        let method = self.method(std::str::from_utf8(&name).unwrap_or_default());
        let token = envelope.progress_token.of(frame);
        let token = if token.len() <= self.limits.max_id_bytes { token } else { b"" };
        let record = Record::inbound(minted.number, Arc::clone(&self.peer), method, id, token, now);
        let record = Arc::new(record);
        if &*record.method == method::ELICIT {
            self.note_asking(now);
        }
        let augmented = !envelope.task.is_empty() && self.rules.takes_task(&record.method);
        let entry = Inbound::new(Arc::clone(&record), augmented);
        put(&mut self.inbound, minted.slot, entry);
        let inbound = &self.inbound;
        self.ids.add(hash, minted.slot, |slot| wire_id(inbound, slot));
        self.counters.requests_in += 1;
        batch.events.push(Event::Request { record, frame: at, envelope: *envelope });
    }

    // ---- notifications ----

    /// Cancels what a `notifications/cancelled` names (CAN-11 to CAN-30). Nothing in it can harm the connection.
    fn take_cancel(&mut self, now: Time, frame: &[u8], at: Span, envelope: &Envelope, batch: &mut Batch<H>) {
        let id = envelope.request_id.of(frame);
        let reason = envelope::unescape(envelope.reason.of(frame));
        let reason = reason.as_deref().map(|text| clip(text, self.limits.max_text_bytes));
        if id.is_empty()
            || !(self.cancel_inbound(now, id, reason, batch) || self.end_listen(now, id, reason, batch))
        {
            let too_late = !id.is_empty() && self.ids.ended_lately(self.ids.hash(id));
            *(if too_late {
                &mut self.counters.cancels_too_late
            } else {
                &mut self.counters.cancels_ignored
            }) += 1;
        }
        if self.shows_everything {
            batch.events.push(Event::Notification { frame: at, envelope: *envelope, owner: None });
        }
    }

    fn cancel_inbound(&mut self, now: Time, id: &[u8], reason: Option<&str>, batch: &mut Batch<H>) -> bool {
        let hash = self.ids.hash(id);
        let mut named = self.find_by_id(hash, id);
        // Two requests under one id: nobody knows which one is meant, and the wrong one must not end.
        let (Some(slot), None) = (named.next(), named.next()) else { return false };
        drop(named);
        let Some(entry) = self.inbound[slot].as_ref() else { return false };
        let record = Arc::clone(&entry.record);
        if !self.rules.peer_may_cancel(&record.method, entry.augmented) {
            return false;
        }
        let (owner, declined, about) = (entry.owner.clone(), entry.declines, entry.about);
        let event = if declined { Happening::CancelDeclined } else { Happening::Cancel };
        if self.arrivals.claim(record.number, event).is_err() {
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
    fn end_listen(&mut self, now: Time, id: &[u8], reason: Option<&str>, batch: &mut Batch<H>) -> bool {
        let Some(number) = self.number_of(id) else { return false };
        let Some((slot, state)) = self.table.find(number) else { return false };
        let Some(entry) = self.outbound[slot].as_ref() else { return false };
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

    /// Hands progress to the call whose token it names (PRG-07, PRG-10, PRG-22).
    fn take_progress(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        envelope: &Envelope,
        batch: &mut Batch<H>,
    ) {
        if self.shows_everything {
            batch.events.push(Event::Notification { frame: at, envelope: *envelope, owner: None });
        }
        if !self.rules.takes_progress() {
            self.counters.violations += 1;
            return;
        }
        let token = envelope.progress_token.of(frame);
        let custom =
            if self.tokens.is_empty() { None } else { self.tokens.get(id::key(token).to_bytes().as_slice()) };
        let found = custom.copied().or_else(|| id::minted(token)).and_then(|number| {
            let (slot, state) = self.table.find(number)?;
            let entry = self.outbound[slot].as_ref()?;
            (entry.record.wants_progress && entry.custom_token == custom.is_some()).then_some((slot, state))
        });
        let Some((slot, state)) = found else {
            self.counters.progress_unmatched += 1;
            return;
        };
        let Some(entry) = self.outbound[slot].as_ref() else { return };
        let record = Arc::clone(&entry.record);
        let open = state == State::Sent || state == State::Task && self.rules.token_outlives_task_creation();
        if !open {
            self.counters.late_progress += 1;
            record.note_late_progress();
            batch.events.push(Event::LateProgress { record });
            return;
        }
        let Some(progress) = id::number(envelope.progress.of(frame)) else {
            self.counters.progress_dropped += 1;
            record.note_dropped_progress();
            return;
        };
        let message = envelope::unescape(envelope.message.of(frame));
        let update = Progress {
            progress,
            total: id::number(envelope.total.of(frame)),
            message: message.map(|text| clip(&text, self.limits.max_text_bytes).into()),
        };
        let owner = entry.owner.clone();
        if !record.note_progress(&update, now) && self.rules.choices.progress_must_increase {
            self.counters.progress_dropped += 1;
            return;
        }
        self.counters.progress_in += 1;
        self.renew(slot, now);
        batch.events.push(Event::Progress {
            owner,
            record,
            update,
            frame: at,
            token: envelope.progress_token,
        });
    }

    fn take_notification(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        envelope: &Envelope,
        batch: &mut Batch<H>,
    ) {
        let name = envelope.method_name(frame);
        if *name == *method::TASK_STATUS.as_bytes() || *name == *method::TASKS.as_bytes() {
            self.note_task_state(now, envelope.params.of(frame), batch);
        }
        self.rules.opened |= *name == *method::INITIALIZED.as_bytes();
        let mut owner = None;
        if let Some(number) = self.number_of(envelope.subscription_id.of(frame))
            && let Some((slot, State::Sent)) = self.table.find(number)
        {
            owner = self.outbound[slot].as_ref().and_then(|entry| entry.owner.clone());
            if *name == *method::ACKNOWLEDGED.as_bytes() {
                self.disarm(slot);
            } else {
                self.renew(slot, now);
            }
        }
        batch.events.push(Event::Notification { frame: at, envelope: *envelope, owner });
    }

    // ---- frames that are none ----

    /// Deals with a frame that was refused: fails the one call it answers, tells the peer if it asked.
    fn refuse(&mut self, now: Time, frame: &[u8], at: Span, refusal: &Refusal, batch: &mut Batch<H>) {
        self.counters.frames_refused += 1;
        let Partial { id, has_outcome, has_method, .. } = refusal.partial;
        if has_outcome && !has_method {
            // A broken answer ends its own call, typed, and no other (RID-08 to RID-11).
            if let Some(number) = self.number_of(id.of(frame))
                && let Ok(moved) = self.table.claim(number, Happening::Failed)
            {
                self.settle(now, moved.slot, number, End::Invalid(refusal.reason.message()), None, batch);
            }
        } else if self.owes_an_answer(refusal) {
            let code = if refusal.reason.is_syntax() { PARSE_ERROR } else { INVALID_REQUEST };
            let data = format!("{{\"reason\":\"{}\",\"offset\":{}}}", refusal.reason.name(), refusal.offset);
            self.reject(id.of(frame), code, refusal.reason.message(), data.as_bytes());
        }
        let length = at.len();
        batch.events.push(Event::Refused { reason: refusal.reason, offset: refusal.offset, length });
    }

    /// Whether what was refused may have been a request, so that whoever sent it waits.
    ///
    /// A notification gets no answer (RID-13), nor does a line that a server printed by accident (TRS-02).
    fn owes_an_answer(&self, refusal: &Refusal) -> bool {
        let Partial { id, has_method, starts_as_message, .. } = refusal.partial;
        let noise = refusal.reason.is_syntax() && id.is_empty() && self.rules.role == Role::Client;
        starts_as_message
            && (!has_method || !id.is_empty() || refusal.reason == RefusalReason::NullId)
            && !noise
            && self.rules.takes_requests()
    }

    /// Takes note of a line beyond `max_frame_bytes`, of which only the first bytes were kept.
    pub fn receive_oversized(&mut self, now: Time, head: &[u8], length: usize, batch: &mut Batch<H>) {
        self.counters.frames_oversized += 1;
        let partial = match envelope::scan(head, &self.scan_limits) {
            Err(refusal) => refusal.partial,
            Ok(whole) => Partial {
                id: whole.id,
                has_method: matches!(whole.kind, Kind::Request | Kind::Notification),
                has_outcome: matches!(whole.kind, Kind::Result | Kind::Error),
                starts_as_message: true,
            },
        };
        let refusal = Refusal { reason: RefusalReason::Oversized, offset: length, partial };
        self.refuse(now, head, Span::new(0, length), &refusal, batch);
    }

    /// Takes note of a last line that the end of the channel cut off.
    pub fn receive_truncated(&mut self, length: usize, batch: &mut Batch<H>) {
        self.counters.frames_refused += 1;
        batch.events.push(Event::Refused { reason: RefusalReason::Truncated, offset: length, length });
    }

    fn find_by_id<'a>(&'a self, hash: u64, id: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        self.ids.find(hash, id, |slot| wire_id(&self.inbound, slot))
    }
}
