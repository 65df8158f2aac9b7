//! Answers to our requests: in time, late, unmatched or not allowed.

use std::sync::Arc;

use super::{in_run, plain};
use crate::connection::Connection;
use crate::connection::event::{AnswerFrame, Batch, End, Event, Host};
use crate::flight::record::{Late, Time};
use crate::flight::state::{FlightEvent, FlightState, Outcome};
use crate::rules::method;
use crate::wire::envelope::{self, Envelope, Refusal};
use crate::wire::id;
use crate::wire::span::Span;

/// Whether the result of a method says how its task is. What any other says under the same names is payload: it may be
/// an echo of what somebody else asked for.
fn tells_of_task(name: &str) -> bool {
    matches!(name, method::TASKS_GET | method::TASKS_CANCEL)
}

impl<H: Host> Connection<H> {
    /// The slot and number of the call that an answer names, if the answer came in time.
    ///
    /// Handles every other answer: late, unmatched, not allowed.
    fn claim_answer(
        &mut self,
        now: Time,
        id: Span,
        frame: &[u8],
        at: Span,
        happening: (FlightEvent, Late, Span),
        batch: &mut Batch<H>,
    ) -> Option<(usize, u64)> {
        if !self.rules.accepts_responses() {
            self.counters.violations += 1;
            return None;
        }
        let (event, late, payload) = happening;
        let number = self.number_of(id.of(frame)).filter(|number| self.may_answer(*number));
        let verdict = number.map(|number| (number, self.table.claim(number, event)));
        match verdict {
            Some((number, Ok(moved))) => return Some((moved.slot, number)),
            Some((number, Err(Some(state)))) if !state.is_live() && state != FlightState::Task => {
                let slot = self.table.find(number).map(|found| found.0);
                if let Some(record) = slot.and_then(|slot| self.record_late(now, slot, number, late)) {
                    batch.events.push(Event::LateResponse { record, payload: in_run(at, payload) });
                    return None;
                }
            }
            _ => {}
        }
        self.counters.unmatched_responses += 1;
        batch.events.push(Event::Unmatched { id: in_run(at, id), task: Span::default() });
        None
    }

    /// Emits the event of a settled call and frees its slot.
    pub(super) fn settle(
        &mut self,
        now: Time,
        slot: usize,
        number: u64,
        end: End,
        answer: Option<AnswerFrame>,
        batch: &mut Batch<H>,
    ) {
        let Some(entry) = self.outbound.get_mut(slot) else { return };
        self.output.fair_queue.acknowledge(entry.sent, now);
        let goes_on = matches!(self.table.find(number), Some((_, FlightState::Task)));
        let owner = entry.owner.take();
        if goes_on {
            entry.owner = owner.as_ref().map(H::of_task);
        }
        let released = if goes_on { None } else { self.release(slot, number) };
        let kept = || self.outbound.get(slot).map(|entry| Arc::clone(&entry.record));
        let Some(record) = released.or_else(kept) else { return };
        let outcome = match end {
            End::Result(_) => Outcome::Result,
            End::Error(_) | End::Invalid(_) => Outcome::Error,
            End::Local(outcome) => outcome,
        };
        Self::finish(&record, outcome, now, batch);
        batch.events.push(Event::Settled { owner, record, end, answer });
    }

    pub(super) fn receive_result(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        envelope: &Envelope,
        batch: &mut Batch<H>,
    ) {
        if let Some(refusal) = self.clash_in_result(frame, envelope) {
            return self.refuse(now, frame, at, &refusal, batch);
        }
        let task = self.task_in(frame, envelope);
        // The call of a task stays, to be cancelled by the task's id; so does its token, if the rules say so.
        let wanted = task.is_some() && {
            let entry = self.number_of(envelope.id.of(frame)).and_then(|number| self.table.find(number));
            let augmented =
                entry.is_some_and(|(slot, _)| self.outbound.get(slot).is_some_and(|entry| entry.augmented));
            augmented || self.rules.has_result_type()
        };
        let fits = task.is_some_and(|task| task.len() <= self.limits.max_id_bytes)
            && self.tasks.len() < self.limits.max_tasks;
        let stays = wanted && fits;
        self.counters.tasks_not_kept += u64::from(wanted && !fits);
        let event = if stays { FlightEvent::AnsweredWithTask } else { FlightEvent::Answered };
        let late = (event, Late::Result, envelope.result);
        let buried = self.counters.late_responses;
        let Some((slot, number)) = self.claim_answer(now, envelope.id, frame, at, late, batch) else {
            if let Some(task) = task
                && let Some(Event::Unmatched { task: told, .. }) = batch.events.last_mut()
            {
                // Answered twice, or forgotten: the owner of the task is unknown.
                *told = in_run(at, task);
            } else if let Some(task) = task
                && self.counters.late_responses > buried
            {
                if let Some(Event::LateResponse { record, .. }) = batch.events.last() {
                    self.note_task(record, task.of(frame));
                }
                // Where a call has a task of that id, nobody can say which of them would be cancelled (TSK-10).
                let is_repeated = self.tasks.contains_key(task.of(frame));
                if self.rules.choices.cancel_late_tasks
                    && !is_repeated
                    && self.send_task_cancel(now, task.of(frame))
                {
                    self.counters.late_tasks_cancelled += 1;
                }
            }
            return;
        };
        // A result that only looks like a task creates none: its request did not ask for one.
        if let Some(task) = task.filter(|_| wanted)
            && let Some(entry) = self.outbound.get(slot)
        {
            self.note_task(&entry.record, task.of(frame));
        }
        if stays && let Some(task) = task {
            let about = if self.rules.has_result_type() { envelope.result } else { envelope.task };
            let ttl = self.time_to_live(about.of(frame)).unwrap_or(Time::MAX);
            // A reused id means the newer task from now on; the older one cannot be cancelled by it.
            if let Some(older) = self.tasks.get(task.of(frame)).copied() {
                self.end_task(older, batch);
            }
            self.keep_until_ttl(now, slot, number, task.of(frame).into(), ttl);
        } else if !self.tasks.is_empty()
            && let Some(entry) = self.outbound.get(slot).filter(|entry| tells_of_task(&entry.record.method))
        {
            let asked = entry.record.created;
            self.note_task_state(now, asked, envelope.result.of(frame), batch);
        }
        let end = if self.rules.has_result_type() && !self.knows_result_type(slot, frame, envelope) {
            End::Invalid("the result's resultType is not one this request can have")
        } else {
            End::Result(in_run(at, envelope.result))
        };
        let asks =
            self.rules.has_result_type() && *plain(envelope.result_type.of(frame)) == *b"\"input_required\"";
        let as_task = stays && self.rules.token_outlives_task_creation();
        let answer =
            AnswerFrame { needs_input: asks, as_task, ..AnswerFrame::of(at, envelope, self.rules.revision) };
        self.settle(now, slot, number, end, Some(answer), batch);
    }

    pub(super) fn receive_error(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        envelope: &Envelope,
        batch: &mut Batch<H>,
    ) {
        if let Some(refusal) = envelope::error_clash(frame, envelope) {
            return self.refuse(now, frame, at, &refusal, batch);
        }
        let late = (FlightEvent::Failed, Late::Error, envelope.error);
        if let Some((slot, number)) = self.claim_answer(now, envelope.id, frame, at, late, batch) {
            if !self.pending_task_cancels.is_empty() {
                self.note_cancel_refused(number, envelope.error.of(frame), batch);
            }
            let end = match envelope::error_fault(envelope.error.of(frame)) {
                Some(fault) => End::Invalid(fault),
                None => End::Error(in_run(at, envelope.error)),
            };
            self.settle(
                now,
                slot,
                number,
                end,
                Some(AnswerFrame::of(at, envelope, self.rules.revision)),
                batch,
            );
        }
    }

    /// The refusal of a result that two parsers would read differently; which members matter depends on the
    /// request.
    fn clash_in_result(&self, frame: &[u8], envelope: &Envelope) -> Option<Refusal> {
        if !envelope.has_clashes() {
            return None;
        }
        let (slot, _) = self.table.find(self.number_of(envelope.id.of(frame))?)?;
        envelope::result_clash(frame, envelope, &self.outbound.get(slot)?.record.method)
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

    /// RID-17, RID-18, MRT-02, TSX-04: which results this request can have. Of what is asked for somebody else, results
    /// of an extension go on: who asked knows which of them was negotiated.
    fn knows_result_type(&self, slot: usize, frame: &[u8], envelope: &Envelope) -> bool {
        let result_type = envelope.result_type.of(frame);
        let Some(entry) = self.outbound.get(slot).filter(|_| !result_type.is_empty()) else { return true };
        envelope::unescape(result_type).is_some_and(|result_type| {
            self.rules.may_end_with(&entry.record.method, &result_type).unwrap_or(entry.record.is_leg())
        })
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
    ///
    /// `asked`: when it was asked for; now where the peer said it unasked.
    pub(super) fn note_task_state(&mut self, now: Time, asked: Time, object: &[u8], batch: &mut Batch<H>) {
        if self.tasks.is_empty() {
            return;
        }
        let text = |key| envelope::find_member(object, key).map(|span: Span| span.of(object));
        let Some(number) = text("taskId").and_then(|id| self.task_since(asked, id)) else { return };
        let status = text("status").map(plain);
        if let Some(b"\"completed\"" | b"\"failed\"" | b"\"cancelled\"") = status.as_deref() {
            self.end_task(number, batch);
        } else if let Some(ttl) = self.time_to_live(object) {
            self.set_task_ttl(now, number, ttl);
        }
    }
}
