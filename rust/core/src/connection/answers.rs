//! The peer's requests: answers, opting out of cancels, progress.

use std::sync::Arc;

use super::{
    Answer, Answered, Connection, Inbound, Pending, Reported, SHORT_ANSWER_BYTES, SHORT_ANSWER_SLACK,
    SendError,
};
use crate::codes::INTERNAL_ERROR;
use crate::connection::event::Host;
use crate::connection::output::{FrameChain, FrameKind};
use crate::connection::translate::{self, Changes};
use crate::flight::record::{ProgressUpdate, Record, Time};
use crate::flight::state::{CancelledBy, FlightEvent, FlightState, Outcome};
use crate::flight::table::Moved;
use crate::limits::Exceeded;
use crate::rules::{Forbidden, Role, method};
use crate::wire::encode;
use crate::wire::envelope;
use crate::wire::span::Span;
use crate::wire::text::clip;

impl<H: Host> Connection<H> {
    /// Sets the host's value of a request of the peer's, which its events carry; false where it is over.
    pub fn attach(&mut self, number: u64, owner: H::Request) -> bool {
        let Some((slot, state)) = self.arrivals.find(number) else { return false };
        let Some(entry) = self.inbound.get_mut(slot) else { return false };
        entry.owner = Some(owner);
        state.is_live()
    }

    /// The evidence of a request of the peer's that was not answered yet.
    pub fn unanswered(&self, number: u64) -> Option<&Arc<Record>> {
        let (slot, state) = self.arrivals.find(number)?;
        self.inbound.get(slot).filter(|_| state.is_live()).map(|entry| &entry.record)
    }

    /// The peer's requests that were not answered yet, each with its owner.
    pub fn requests(&self) -> impl Iterator<Item = (&Arc<Record>, Option<&H::Request>)> {
        let entries = self.inbound.iter();
        entries
            .filter(|entry| entry.record.outcome().is_none())
            .map(|entry| (&entry.record, entry.owner.as_ref()))
    }

    /// The owner of a request of the peer's that was not answered yet; None where it is over, or nobody's.
    pub fn owner_of(&self, number: u64) -> Option<&H::Request> {
        let (slot, state) = self.arrivals.find(number)?;
        self.inbound.get(slot).filter(|_| state.is_live())?.owner.as_ref()
    }

    /// What is in flight with the peer and is no leg of a relayed request: the evidence, and the bytes of a request that
    /// came in.
    pub fn live(&self) -> impl Iterator<Item = (&Arc<Record>, u32)> {
        let inbound = self.inbound.iter().map(|entry| (&entry.record, entry.bytes));
        let outbound = self.outbound.iter().map(|entry| (&entry.record, 0));
        inbound.chain(outbound).filter(|(record, _)| record.outcome().is_none() && !record.is_leg())
    }

    /// The owners of the peer's requests in flight.
    pub fn inbound_owners(&self) -> Vec<H::Request> {
        self.inbound.iter().filter_map(|entry| entry.owner.clone()).collect()
    }

    /// The handler opts out of being stopped: a cancel reaches it as a flag only (CAN-16).
    pub fn decline(&mut self, number: u64) {
        if let Some(entry) = self.arrivals.find(number).and_then(|(slot, _)| self.inbound.get_mut(slot)) {
            entry.declines = true;
        }
    }

    /// Answers a request of the peer's; where it is over, nothing is written (CAN-13).
    ///
    /// A result that creates a task (2025-11-25) keeps the request's token alive until a message of ours says
    /// that the task is over, or [`Connection::finish_task`] does (PRG-18).
    pub fn answer(&mut self, now: Time, number: u64, answer: Answer<'_>) -> Answered {
        let answer = match answer {
            Answer::Result(bytes) if self.note_task_created(number, bytes) => Answer::Task(bytes),
            answer => answer,
        };
        let (answer, lacks) = self.with_result_type(number, answer);
        let event = match answer {
            Answer::Result(_) => FlightEvent::Answered,
            Answer::Task(_) => FlightEvent::AnsweredWithTask,
            Answer::Error { .. } | Answer::ErrorObject(_) => FlightEvent::Failed,
        };
        let size = match answer {
            Answer::Result(bytes) | Answer::Task(bytes) | Answer::ErrorObject(bytes) => bytes.len(),
            Answer::Error { message, data, .. } => message.len() + data.len(),
        };
        if let Some(exceeded) = self.answer_exceeds(size) {
            return self.overflow(now, number, exceeded);
        }
        let Ok(moved) = self.arrivals.claim_alone(number, event) else { return Answered::default() };
        let Some(entry) = self.inbound.get(moved.slot) else { return Answered::default() };
        let (record, stream) = (Arc::clone(&entry.record), entry.stream);
        let silent = moved.to == FlightState::Declined;
        if !silent {
            if let Answer::Result(task) = answer
                && matches!(&*record.method, method::TASKS_GET | method::TASKS_CANCEL)
            {
                self.note_task_status_sent(now, task);
            }
            self.flush_pending(moved.slot);
            // Nothing follows a listen that ends with an error (X2); one that has a stream of its own ends with that.
            let ends_listen = event == FlightEvent::Answered
                && self.streams.is_none()
                && self.rules.ends_listen_with_cancelled(&record.method);
            self.counters.cancels_out += u64::from(ends_listen);
            let (progress, id) = (self.progress_before_answer(moved), record.wire_id());
            let recoded = if let Answer::ErrorObject(object) = answer { self.recoded(object) } else { None };
            let write = |out: &mut Vec<u8>| {
                match answer {
                    Answer::Result(bytes) | Answer::Task(bytes) => {
                        encode::result_with(out, id, |out| match &lacks {
                            None => out.extend_from_slice(bytes),
                            Some(lacks) => lacks.write(out, bytes, []),
                        });
                    }
                    Answer::Error { code, message, data } => encode::error(out, id, code, message, data),
                    Answer::ErrorObject(object) => {
                        encode::error_object(out, id, recoded.as_deref().unwrap_or(object));
                    }
                }
                if ends_listen {
                    encode::cancelled_raw(out, id, None);
                }
            };
            let waits = self.output.answer(now, (progress, stream), || self.id_index.hash(id), write);
            self.counters.answers_delayed += u64::from(waits);
            record.note_written(now);
        }
        if let Some(outcome) = moved.to.outcome() {
            record.note_outcome(outcome, now);
            self.ledger.append(std::iter::once(Arc::clone(&record)));
        }
        if moved.to == FlightState::Task {
            self.keep_task_token(moved.slot);
        } else {
            self.remove_inbound(now, moved.slot, number);
        }
        Answered { written: !silent, finished: Some(record) }
    }

    /// The progress that an answer waits for, and whether the peer has to have read it.
    pub(crate) fn progress_before_answer(&self, moved: Moved) -> (FrameChain, bool) {
        // The token of a task outlives the answer: progress finds it still, and may follow it.
        let entry = self.inbound.get(moved.slot).filter(|_| moved.to != FlightState::Task);
        (entry.map_or_else(FrameChain::default, Inbound::frame_chain), self.rules.role == Role::Server)
    }

    /// The answer, and the members that the revision requires and it lacks: the result's type and its cache hints
    /// (RID-16). A type that this request cannot have becomes an error (MRT-02, TSX-07).
    fn with_result_type<'a>(&self, number: u64, answer: Answer<'a>) -> (Answer<'a>, Option<Changes>) {
        if !self.rules.has_result_type() {
            return (answer, None);
        }
        let refused = |message| (Answer::Error { code: INTERNAL_ERROR, message, data: b"" }, None);
        let bytes = match answer {
            Answer::Result(bytes) => bytes,
            Answer::Error { code, message, data } => {
                let code = self.rules.error_code(code);
                return (Answer::Error { code, message, data }, None);
            }
            answer @ (Answer::Task(_) | Answer::ErrorObject(_)) => return (answer, None),
        };
        let bytes = match bytes {
            [b'{', ..] => bytes,
            b"null" => b"{}",
            _ => return refused("a result is an object, which says its resultType"),
        };
        let entry = self.arrivals.find(number).and_then(|(slot, _)| self.inbound.get(slot));
        let method = entry.map_or("", |entry| &*entry.record.method);
        let mut lacks = Changes::default();
        let said = lacks.complete(bytes, Span::new(0, bytes.len()), method);
        let ends = said.map(|said| {
            let said = envelope::unescape(said.of(bytes));
            // One that nobody here knows may be an extension's.
            said.is_some_and(|said| self.rules.may_end_with(method, &said) != Some(false))
        });
        if ends == Some(false) {
            return refused("the result has a resultType that this request cannot have");
        }
        (Answer::Result(bytes), Some(lacks).filter(|lacks| !lacks.is_empty()))
    }

    /// The error object with the code that the revision has for what it says; None where that is its own.
    fn recoded(&self, object: &[u8]) -> Option<Vec<u8>> {
        let span = envelope::find_member(object, "code")?;
        let code: i64 = std::str::from_utf8(span.of(object)).ok()?.parse().ok()?;
        let ours =
            Some(self.rules.error_code(code)).filter(|ours| self.rules.has_result_type() && *ours != code)?;
        let (before, behind) = (&object[..span.start as usize], &object[span.end as usize..]);
        Some([before, itoa::Buffer::new().format(ours).as_bytes(), behind].concat())
    }

    /// Which limit an answer of so many bytes would exceed; one that is short may go a little beyond.
    pub(crate) fn answer_exceeds(&self, size: usize) -> Option<Exceeded> {
        if size <= SHORT_ANSWER_BYTES
            && self.output.len() + size <= self.limits.max_output_bytes + SHORT_ANSWER_SLACK
        {
            return None;
        }
        self.exceeded_by(size)
    }

    /// Records the task that a result announces (TSK-59); true where the request's token outlives the result.
    fn note_task_created(&self, number: u64, result: &[u8]) -> bool {
        let Some((slot, _)) = self.arrivals.find(number) else { return false };
        let Some(entry) = self.inbound.get(slot) else { return false };
        if !entry.augmented || !self.rules.has_task_augmentation() {
            return false;
        }
        let Some(task) = envelope::find_member(result, "task") else { return false };
        if let Some(id) = envelope::find_member(task.of(result), "taskId") {
            self.note_task(&entry.record, id.of(task.of(result)));
        }
        let open = self.inbound.len().saturating_sub(self.arrivals.live());
        entry.record.wants_progress
            && self.rules.token_outlives_task_creation()
            && open < self.limits.max_inbound
    }

    /// Retires the token of a request of the peer's that was answered with a task (PRG-21).
    pub fn finish_task(&mut self, now: Time, number: u64) -> bool {
        match self.arrivals.find(number) {
            Some((slot, FlightState::Task)) => {
                self.remove_inbound(now, slot, number);
                true
            }
            _ => false,
        }
    }

    /// A task object that leaves with a terminal status retires the token of the request that made it (PRG-21).
    pub(super) fn note_task_status_sent(&mut self, now: Time, object: &[u8]) {
        if self.tasks_created.is_empty() {
            return;
        }
        let text = |key| {
            envelope::find_member(object, key).and_then(|span: Span| envelope::unescape(span.of(object)))
        };
        let Some("completed" | "failed" | "cancelled") = text("status").as_deref() else { return };
        let made = text("taskId").and_then(|id| self.tasks_created.get(id.as_bytes()));
        if let Some(number) = made.copied() {
            self.end_task_of_peer(now, number);
        }
    }

    /// Sends a notification on the listen `number` of the peer's, marked with its id (SUB-06); about another request
    /// it goes on the stream of that.
    ///
    /// False where the listen is over (SUB-10). The acknowledgment comes first (SUB-02, SUB-03).
    pub fn notify_subscriber(
        &mut self,
        now: Time,
        number: u64,
        method: &str,
        params: &[u8],
    ) -> Result<bool, SendError> {
        let entry =
            self.arrivals.find(number).and_then(|(slot, state)| Some((self.inbound.get(slot)?, state)));
        if let Some((entry, state)) = entry
            && !self.rules.is_open_ended(&entry.record.method)
        {
            let goes = state.is_live();
            return if goes { self.notify(now, number, method, params).map(|()| true) } else { Ok(false) };
        }
        self.rules.may_notify_subscriber(method).map_err(SendError::Forbidden)?;
        let Some((slot, FlightState::Running)) = self.arrivals.find(number) else { return Ok(false) };
        let Some(entry) = self.inbound.get_mut(slot) else { return Ok(false) };
        entry.acknowledged |= method == method::ACKNOWLEDGED;
        if !entry.acknowledged {
            return Err(SendError::Forbidden(Forbidden::NotAcknowledged));
        }
        if let Some(exceeded) = self.exceeded_by(params.len()) {
            return Err(SendError::Exceeded(exceeded));
        }
        let Some(entry) = self.inbound.get_mut(slot) else { return Ok(false) };
        let params = translate::without_subscription(params);
        let meta = envelope::find_member(&params, "_meta").unwrap_or_default();
        let member = [b"\"io.modelcontextprotocol/subscriptionId\":", entry.record.wire_id()].concat();
        self.output.write_chained(
            (&mut entry.outbound_state.get_or_insert_default().frames, entry.stream),
            FrameKind::Notification,
            |out| {
                encode::notification_with_meta(out, method, &params, meta, &member);
            },
        );
        Ok(true)
    }

    /// Fails the one request whose result does not fit into the output (G7).
    pub(crate) fn overflow(&mut self, now: Time, number: u64, exceeded: Exceeded) -> Answered {
        let Ok(moved) = self.arrivals.claim_alone(number, FlightEvent::Cancel) else {
            return Answered::default();
        };
        let Some(entry) = self.inbound.get(moved.slot) else { return Answered::default() };
        let record = Arc::clone(&entry.record);
        record.note_cancel(CancelledBy::Overflow, Some(exceeded.limit.as_bytes()), now);
        if self.output.len() <= self.limits.max_output_bytes + SHORT_ANSWER_SLACK {
            let Exceeded { limit, value } = exceeded;
            let data = format!("{{\"reason\":\"overloaded\",\"limit\":\"{limit}\",\"value\":{value}}}");
            let message = "the result does not fit into the output";
            let (progress, stream, id) = (self.progress_before_answer(moved), entry.stream, record.wire_id());
            let write = |out: &mut Vec<u8>| encode::error(out, id, INTERNAL_ERROR, message, data.as_bytes());
            let waits = self.output.answer(now, (progress, stream), || self.id_index.hash(id), write);
            self.counters.answers_delayed += u64::from(waits);
        } else {
            self.counters.replies_dropped += 1;
        }
        record.note_outcome(Outcome::Cancelled, now);
        self.ledger.append(std::iter::once(Arc::clone(&record)));
        self.remove_inbound(now, moved.slot, number);
        Answered { written: false, finished: Some(record) }
    }

    /// Keeps the token of a request of the peer's that was answered with a task, until the task is over.
    pub(crate) fn keep_task_token(&mut self, slot: usize) {
        self.leave_stream(slot);
        self.forget_id(slot);
        if let Some(record) = self.inbound.get(slot).map(|entry| &entry.record)
            && let Some(task) = record.task()
        {
            self.tasks_created.insert(task.as_bytes().into(), record.number);
        }
    }

    /// Frees the slot of a request of the peer's; returns its record.
    pub(crate) fn remove_inbound(&mut self, now: Time, slot: usize, number: u64) -> Option<Arc<Record>> {
        self.leave_stream(slot);
        self.forget_id(slot);
        if let Some(index) = self.inbound.index(slot) {
            self.progress_timers.remove(index);
        }
        let _ = self.arrivals.claim_alone(number, FlightEvent::Forget);
        let entry = self.inbound.remove(slot)?;
        self.holdings.progress -= entry.pending_bytes();
        if !self.tasks_created.is_empty()
            && let Some(task) = entry.record.task()
            && self.tasks_created.get(task.as_bytes()) == Some(&number)
        {
            self.tasks_created.remove(task.as_bytes());
        }
        if &*entry.record.method == method::ELICIT {
            self.elicitations = self.elicitations.saturating_sub(1);
            if self.elicitations == 0 {
                self.paused_total += now.saturating_sub(self.paused_since);
            }
        }
        Some(entry.record)
    }

    pub(crate) fn note_elicitation(&mut self, now: Time) {
        if self.elicitations == 0 {
            self.paused_since = now;
        }
        self.elicitations += 1;
    }

    /// Reports progress on a request of the peer's (PRG-05 to PRG-17).
    pub fn progress(
        &mut self,
        now: Time,
        number: u64,
        update: &ProgressUpdate,
    ) -> Result<Reported, Forbidden> {
        self.rules.may_progress()?;
        let Some((slot, state)) = self.arrivals.find(number) else { return Ok(Reported::Over) };
        if !matches!(state, FlightState::Running | FlightState::Task) {
            return Ok(Reported::Over);
        }
        let length = update.message.as_deref().map_or(0, |text| text.len().min(self.limits.max_text_bytes));
        let keeps = self.keeps_progress(length);
        let congested = self.is_congested_at(slot);
        let Some(entry) = self.inbound.get_mut(slot) else { return Ok(Reported::Over) };
        if !entry.record.wants_progress {
            return Ok(Reported::NotWanted);
        }
        let finite = update.progress.is_finite() && update.total.is_none_or(f64::is_finite);
        if !finite {
            entry.record.note_dropped_progress();
            return Ok(Reported::NotIncreasing);
        }
        let clipped = update.message.as_deref().map(|text| clip(text, self.limits.max_text_bytes).into());
        let update = ProgressUpdate { message: clipped, ..update.clone() };
        if !entry.record.note_progress(&update, now) {
            return Ok(Reported::NotIncreasing);
        }
        if congested || !keeps || self.output.len() >= self.limits.max_output_bytes {
            if keeps {
                let pending = Pending::Update(update);
                self.holdings.progress += pending.bytes();
                let before = entry.outbound_state.get_or_insert_default().pending.replace(pending);
                let Some(before) = before else {
                    self.queue_progress(number);
                    return Ok(Reported::Sent);
                };
                self.holdings.progress -= before.bytes();
            }
            self.counters.progress_coalesced += 1;
            return Ok(Reported::Coalesced);
        }
        let with_message = self.rules.progress_has_message();
        let token = entry.record.wire_token();
        self.output.write_chained(
            (&mut entry.outbound_state.get_or_insert_default().frames, entry.stream),
            FrameKind::Progress,
            |out| {
                encode::progress(out, token, &update, with_message);
            },
        );
        self.counters.progress_out += 1;
        Ok(Reported::Sent)
    }

    /// Whether the output has room for a reply without a request of its own. Bounds the output of a peer that
    /// asks and never reads.
    pub(crate) fn may_reply(&mut self) -> bool {
        let room = self.output.len() < self.limits.max_output_bytes && !self.is_full();
        self.counters.replies_dropped += u64::from(!room);
        room
    }

    /// Answers a request that was not registered, under its raw id.
    pub fn reject(&mut self, id: &[u8], code: i64, message: &str, data: &[u8]) {
        if !self.may_reply() {
            return;
        }
        encode::error(self.output.frame(self.receiving_on()), id, code, message, data);
    }

    /// As [`Connection::reject`], with the whole error object as one line of JSON.
    pub fn reject_with(&mut self, id: &[u8], object: &[u8]) {
        if self.may_reply() {
            encode::error_object(self.output.frame(self.receiving_on()), id, object);
        }
    }
}
