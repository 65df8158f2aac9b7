//! Our requests: sent, cancelled, and kept while their tasks run.

use std::sync::Arc;

use super::{About, Connection, Outbound, Registration, Send, SendError, TASK_CANCEL_TIMEOUT};
use crate::codes::INVALID_PARAMS;
use crate::connection::event::{Batch, End, Event, Host};
use crate::flight::pool;
use crate::flight::record::{Direction, Record, RecordInit, Time};
use crate::flight::state::{CancelledBy, FlightEvent, FlightState, Outcome};
use crate::flight::table::{Full, Moved};
use crate::flight::target::Target;
use crate::limits::Exceeded;
use crate::rules::{CancelMethod, method};
use crate::wire::encode;
use crate::wire::envelope;
use crate::wire::id;
use crate::wire::text::{Text, clip};

impl<H: Host> Connection<H> {
    /// Registers a request, then writes it into the output (F2: an answer can never arrive unknown).
    pub fn send(&mut self, now: Time, send: Send<'_, H::Call>) -> Result<Arc<Record>, SendError> {
        let Send { request, owner, idle, max, augmented, custom_token, target, during } = send;
        let stream = self.stream_of(during);
        let wants_progress = request.progress_token || !custom_token.is_empty();
        let (method, size) = (request.method, request.params.len());
        let about = About::Text(target);
        let registration =
            Registration { method, size, owner, idle, max, augmented, wants_progress, about, asker: None };
        let (record, _) = self.admit(now, registration, custom_token)?;
        self.note_call(record.number, stream);
        self.output.request(record.number, stream, |out| encode::request(out, record.number, &request));
        Ok(record)
    }

    /// As [`Connection::send`], under an id of the caller's, which is the progress token, too: raw JSON, a string
    /// or an integer that no request in flight bears.
    pub fn send_as(
        &mut self,
        now: Time,
        id: &[u8],
        send: Send<'_, H::Call>,
    ) -> Result<Arc<Record>, SendError> {
        let Send { request, owner, idle, max, augmented, custom_token, target, during } = send;
        let stream = self.stream_of(during);
        let key = id::key(id).to_bytes();
        let live = |number: u64| self.table.find(number).is_some_and(|(_, state)| state.is_live());
        if self.number_of(id).is_some_and(live) {
            return Err(SendError::IdInUse);
        }
        let custom_token = if request.progress_token { id } else { custom_token };
        let wants_progress = !custom_token.is_empty();
        let (method, size) = (request.method, request.params.len());
        let about = About::Text(target);
        let registration =
            Registration { method, size, owner, idle, max, augmented, wants_progress, about, asker: None };
        let (admitted, slot) = self.admit(now, registration, custom_token)?;
        let number = admitted.number;
        let Some(entry) = self.outbound.get_mut(slot) else { return Err(SendError::Closed) };
        let record = pool::acquire_record(&RecordInit {
            number,
            direction: Direction::Outbound,
            peer: &self.peer,
            method: &entry.record.method,
            id,
            token: b"",
            target: Target::new(target, self.limits.max_text_bytes),
            wants_progress,
            asker: None,
            is_leg: false,
            now,
        });
        entry.record = Arc::clone(&record);
        self.custom_ids.insert(key.into_boxed_slice(), number);
        self.note_call(number, stream);
        self.output.request(number, stream, |out| encode::request_as(out, id, &request));
        Ok(record)
    }

    /// Writes no cancel notification for our request `number`.
    pub fn suppress_cancel(&mut self, number: u64) {
        if let Some((slot, _)) = self.table.find(number)
            && let Some(entry) = self.outbound.get_mut(slot)
        {
            entry.suppress_cancel = true;
        }
    }

    /// The number of our request that a raw id names.
    pub(crate) fn number_of(&self, id: &[u8]) -> Option<u64> {
        if self.custom_ids.is_empty() {
            return id::minted(id);
        }
        let named = self.custom_ids.get(id::key(id).to_bytes().as_slice()).copied();
        named.or_else(|| id::minted(id).filter(|number| self.is_its_own_id(*number)))
    }

    /// The owner of a request of ours that is waited for.
    pub fn call_owner(&self, number: u64) -> Option<&H::Call> {
        let (slot, state) = self.table.find(number)?;
        self.outbound.get(slot).filter(|_| state.is_live())?.owner.as_ref()
    }

    /// Changes the owner of a request that was written; None where it is over, or was not written yet.
    pub fn set_owner(&mut self, number: u64, owner: H::Call) -> Option<Arc<Record>> {
        let (slot, state) = self.table.find(number)?;
        let entry = self.outbound.get_mut(slot).filter(|_| state.is_live())?;
        entry.record.written()?;
        entry.owner = Some(owner);
        Some(Arc::clone(&entry.record))
    }

    /// Registers a request of ours, and gives its slot; the caller writes it before anything else.
    pub(crate) fn admit(
        &mut self,
        now: Time,
        registration: Registration<'_, H::Call>,
        custom_token: &[u8],
    ) -> Result<(Arc<Record>, usize), SendError> {
        if self.over || self.input_ended {
            return Err(SendError::Closed);
        }
        self.rules.may_request(registration.method).map_err(SendError::Forbidden)?;
        let augmented = registration.augmented
            && match self.rules.may_augment(registration.method) {
                Ok(augments) => augments,
                // A forwarded request stays as it is: the peer ignores the member (TSK-04).
                Err(_) if registration.asker.is_some() => false,
                Err(forbidden) => return Err(SendError::Forbidden(forbidden)),
            };
        let full = |limit, value| SendError::Exceeded(Exceeded { limit, value });
        if self.table.live() >= self.limits.max_outbound {
            return Err(full("max_outbound", self.limits.max_outbound));
        }
        if let Some(exceeded) = self.exceeded_by(registration.size) {
            return Err(SendError::Exceeded(exceeded));
        }
        let token = (!custom_token.is_empty()).then(|| id::key(custom_token).to_bytes());
        if let Some(token) = &token {
            // An id is in use until its answer came: what is late for a cancelled call must not reach this one.
            let answered = |state| matches!(state, FlightState::Result | FlightState::Error);
            let in_use = |number| self.table.find(number).is_some_and(|(_, state)| !answered(state));
            if self.custom_tokens.contains_key(token.as_slice())
                || id::minted(custom_token).is_some_and(in_use)
            {
                return Err(SendError::TokenInUse);
            }
        }
        let minted = loop {
            let minted = self.table.mint(FlightState::Queued).map_err(|full_| match full_ {
                Full::Flights => full("max_outbound", self.table.live()),
                Full::Numbers => SendError::NumbersExhausted,
            })?;
            if !(self.custom_tokens.is_empty() && self.custom_ids.is_empty()) && self.is_custom(minted.number)
            {
                // A caller's own id or token looks like this number: leave it out, so that none means two.
                let _ = self.table.claim(minted.number, FlightEvent::Cancel);
                let _ = self.table.claim(minted.number, FlightEvent::Forget);
                continue;
            }
            break minted;
        };
        let (method, member) = self.method_names.intern(registration.method.as_bytes(), &self.limits);
        let target = match registration.about {
            About::Text(text) => Target::new(text, self.limits.max_text_bytes),
            About::Frame(frame, envelope, prefix) => {
                Target::of_frame(member, frame, envelope, prefix, self.limits.max_text_bytes)
            }
        };
        let record = pool::acquire_record(&RecordInit {
            number: minted.number,
            direction: Direction::Outbound,
            peer: &self.peer,
            method,
            id: b"",
            token: custom_token,
            target,
            wants_progress: registration.wants_progress,
            asker: registration.asker,
            is_leg: registration.asker.is_some(),
            now,
        });
        let idle_now = self.idle_clock(now);
        let entry = Outbound {
            record: Arc::clone(&record),
            owner: registration.owner,
            idle: registration.idle,
            idle_at: if registration.idle == 0 {
                Time::MAX
            } else {
                idle_now.saturating_add(registration.idle)
            },
            max_at: if registration.max == 0 { Time::MAX } else { now.saturating_add(registration.max) },
            paused_at: 0,
            augmented,
            sent: 0,
            suppress_cancel: false,
            custom_token: token.is_some(),
            task: None,
            task_cancelled: false,
        };
        if self.outbound.insert(minted.slot, entry).is_some_and(|old| old.has_custom_ids()) {
            self.forget_tokens_of(None);
        }
        self.set_timer(minted.slot, now);
        if let Some(token) = token {
            self.custom_tokens.insert(token.into_boxed_slice(), minted.number);
        }
        self.counters.requests_out += 1;
        Ok((record, minted.slot))
    }

    /// Writes a notification; `params` is one line of JSON, or empty. It goes on the stream of the peer's request
    /// `during`; 0 for none.
    pub fn notify(&mut self, now: Time, during: u64, method: &str, params: &[u8]) -> Result<(), SendError> {
        if self.over {
            return Err(SendError::Closed);
        }
        self.rules.may_notify(method).map_err(SendError::Forbidden)?;
        if let Some(exceeded) = self.exceeded_by(params.len()) {
            return Err(SendError::Exceeded(exceeded));
        }
        if method == method::TASK_STATUS {
            self.note_task_status_sent(now, params);
        }
        encode::notification(self.output.frame(self.stream_of(during)), method, params);
        Ok(())
    }

    /// Cancels our request `number`; false where it was over already.
    pub fn cancel(
        &mut self,
        now: Time,
        number: u64,
        by: CancelledBy,
        reason: Option<&Text>,
        batch: &mut Batch<H>,
    ) -> bool {
        match self.table.claim(number, FlightEvent::Cancel) {
            Ok(moved) => {
                self.abandon(now, number, moved, by, reason, batch);
                true
            }
            Err(Some(FlightState::Task)) => self.cancel_task(now, number, by, reason),
            Err(_) => false,
        }
    }

    /// Ends a call whose cancel or deadline won: notifies the peer as the rules say.
    pub(super) fn abandon(
        &mut self,
        now: Time,
        number: u64,
        moved: Moved,
        by: CancelledBy,
        reason: Option<&Text>,
        batch: &mut Batch<H>,
    ) {
        let reason = reason.map(|reason| clip(reason, self.limits.max_text_bytes));
        self.clear_timer(moved.slot);
        self.forget_task_cancel(number);
        let Some(entry) = self.outbound.get_mut(moved.slot) else { return };
        let (record, augmented, quiet) = (Arc::clone(&entry.record), entry.augmented, entry.suppress_cancel);
        record.note_cancel(by, reason, now);
        let owner = entry.owner.take();
        let sent = entry.sent;
        let stream = self.abandon_call(number);
        if moved.from == FlightState::Queued && self.output.retract(number) {
            self.output.fair_queue.retract_sent(sent);
            self.release(moved.slot, number);
        } else {
            self.output.fair_queue.abandon(sent, now);
            if let Some(stream) = stream
                && !quiet
                && self.rules.cancel_method(&record.method, augmented) == CancelMethod::Notify
            {
                let out = self.output.cancel(stream);
                match record.wire_id() {
                    b"" => encode::cancelled(out, number, reason),
                    id => encode::cancelled_raw(out, id, reason),
                }
                record.note_cancel_written();
                self.counters.cancels_out += 1;
            }
        }
        let outcome = moved.to.outcome().unwrap_or(Outcome::Cancelled);
        Self::finish(&record, outcome, now, batch);
        batch.events.push(Event::Settled { owner, record, end: End::Local(outcome), answer: None });
    }

    /// Frees the slot of an ended call; returns its record, unless it was freed before.
    pub(crate) fn release(&mut self, slot: usize, number: u64) -> Option<Arc<Record>> {
        self.table.claim(number, FlightEvent::Forget).ok()?;
        self.clear_timer(slot);
        self.forget_task_cancel(number);
        self.forget_call(number);
        let entry = self.outbound.remove(slot)?;
        if entry.has_custom_ids() {
            self.forget_tokens_of(Some(number));
        }
        if let Some(task) = entry.task {
            self.tasks.remove(&task);
        }
        Some(entry.record)
    }

    fn forget_task_cancel(&mut self, number: u64) {
        if !self.pending_task_cancels.is_empty() {
            self.pending_task_cancels.remove(&number);
        }
    }

    /// Whether request `number` bears its number on the wire, and no id of the caller's.
    fn is_its_own_id(&self, number: u64) -> bool {
        let entry = self.table.find(number).and_then(|(slot, _)| self.outbound.get(slot));
        entry.is_none_or(|entry| entry.record.wire_id().is_empty())
    }

    /// Whether a caller's own id or token looks like `number`.
    fn is_custom(&self, number: u64) -> bool {
        let key = id::key_of_number(number);
        self.custom_tokens.contains_key(key.as_slice()) || self.custom_ids.contains_key(key.as_slice())
    }

    /// Drops the ids and tokens of the caller's that stand for `number`, and those of calls that are gone.
    pub(super) fn forget_tokens_of(&mut self, number: Option<u64>) {
        let table = &self.table;
        self.custom_tokens.retain(|_, at| Some(*at) != number && table.find(*at).is_some());
        self.custom_ids.retain(|_, at| Some(*at) != number && table.find(*at).is_some());
    }

    /// Asks the peer to stop the task that a call was answered with (TSK-07, TSX-11).
    pub(super) fn cancel_task(
        &mut self,
        now: Time,
        number: u64,
        by: CancelledBy,
        reason: Option<&Text>,
    ) -> bool {
        let Some((slot, _)) = self.table.find(number) else { return false };
        let Some(entry) = self.outbound.get_mut(slot) else { return false };
        let Some(task) = entry.task.clone().filter(|_| !entry.task_cancelled) else { return false };
        if !self.rules.peer_cancels_tasks() {
            return false;
        }
        entry.task_cancelled = true;
        let record = Arc::clone(&entry.record);
        record.note_cancel(by, reason.map(|reason| clip(reason, self.limits.max_text_bytes)), now);
        if self.send_task_cancel(now, &task) {
            record.note_cancel_written();
        }
        true
    }

    /// Sends `tasks/cancel` for a task id as it stood on the wire.
    pub(crate) fn send_task_cancel(&mut self, now: Time, task: &[u8]) -> bool {
        if !self.rules.peer_cancels_tasks() {
            return false;
        }
        let params = [b"{\"taskId\":", task, b"}"].concat();
        let extra_meta = self.extra_meta(b"");
        let request = encode::Request {
            method: method::TASKS_CANCEL,
            params: &params,
            extra_meta: &extra_meta,
            ..encode::Request::default()
        };
        let send = Send {
            request,
            owner: None,
            idle: TASK_CANCEL_TIMEOUT,
            max: TASK_CANCEL_TIMEOUT,
            augmented: false,
            custom_token: b"",
            target: b"",
            during: 0,
        };
        let Ok(record) = self.send(now, send) else { return false };
        self.pending_task_cancels.insert(record.number, task.into());
        true
    }

    /// A `tasks/cancel` of ours was refused, since the task is over or unknown: nothing of it is kept (TSK-24, TSX-14).
    pub(crate) fn note_cancel_refused(&mut self, number: u64, error: &[u8], batch: &mut Batch<H>) {
        let Some(task) = self.pending_task_cancels.get(&number) else { return };
        let code = envelope::find_member(error, "code").and_then(|code| id::number(code.of(error)));
        let Some((slot, _)) = self.table.find(number) else { return };
        let asked = self.outbound.get(slot).map_or(0, |entry| entry.record.created);
        if code == Some(INVALID_PARAMS as f64)
            && let Some(call) = self.task_since(asked, task)
        {
            self.end_task(call, batch);
        }
    }

    /// The call that was answered with a task of this id, unless only after `asked`: what was asked before meant
    /// another task, whose id the peer gave out again (TSK-10).
    pub(super) fn task_since(&self, asked: Time, task: &[u8]) -> Option<u64> {
        let number = *self.tasks.get(task)?;
        let (slot, _) = self.table.find(number)?;
        let answered = self.outbound.get(slot)?.record.ended();
        answered.is_none_or(|answered| answered <= asked).then_some(number)
    }

    /// Ends a task's hold on the token of the call it answered (PRG-19); false where there is none.
    pub fn forget(&mut self, number: u64) -> bool {
        match self.table.find(number) {
            Some((slot, FlightState::Task)) => {
                self.release(slot, number);
                true
            }
            _ => false,
        }
    }

    /// As [`Connection::forget`], with an event: the task is over, or not waited for.
    pub(crate) fn end_task(&mut self, number: u64, batch: &mut Batch<H>) {
        let Some((slot, FlightState::Task)) = self.table.find(number) else { return };
        if let Some(owner) = self.outbound.get_mut(slot).and_then(|entry| entry.owner.take()) {
            batch.events.push(Event::TaskOver { owner: Some(owner) });
        }
        self.release(slot, number);
    }
}
