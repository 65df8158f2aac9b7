//! Output for the transport, congestion, and the end of everything in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{Answer, Answered, Connection, Pending};
use crate::codes::INTERNAL_ERROR;
use crate::connection::event::{Batch, End, Event, Host};
use crate::connection::output::FrameKind;
use crate::connection::output::delayed::Delay;
use crate::connection::output::fair_queue::FairQueue;
use crate::flight::id_index::IdIndex;
use crate::flight::record::{Direction, Late, Record, Time};
use crate::flight::sparse_map::SparseMap;
use crate::flight::state::{CancelledBy, FlightEvent, FlightState, Outcome};
use crate::flight::timer_wheel::TimerWheel;
use crate::wire::encode;
use crate::wire::text::{Text, clip};

impl<H: Host> Connection<H> {
    /// Bytes waiting to be written.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Bytes of them that the next drain can take.
    pub fn output_ready(&self) -> usize {
        self.output.ready()
    }

    /// Drains what can be written now, for [`recycle`](crate::connection::output::recycle) when it is written.
    /// Call again in the next iteration of the loop while [`Connection::output_ready`] is not 0.
    pub fn drain_output(&mut self, now: Time) -> Vec<u8> {
        let drained = self.output.drain(now);
        if !self.congested && !self.pending_progress.is_empty() {
            self.set_congested(false);
        }
        let (waited, first) = drained.waited;
        for (at, number) in drained.requests.into_iter().enumerate() {
            if let Ok(moved) = self.table.claim(number, FlightEvent::Written)
                && let Some(entry) = self.outbound.get_mut(moved.slot)
            {
                entry.record.note_written(now);
                if at >= waited {
                    entry.sent = first + (at - waited) as u64;
                }
            }
        }
        self.counters.bytes_out += drained.bytes.len() as u64;
        drained.bytes
    }

    /// Sets what answers wait for where our role is the server's: see [`crate::connection::output::delayed`].
    pub fn delay_answers(&mut self, now: Time, delay: Delay) {
        self.output.set_delay(delay, now);
    }

    /// Whether an answer waits, and the transport is to be asked for [`Connection::note_unread`].
    pub fn needs_unread(&self, now: Time) -> bool {
        self.output.needs_unread(now)
    }

    /// Notes how many of the bytes handed over the peer has not read, as the transport says; None where it cannot
    /// tell.
    pub fn note_unread(&mut self, now: Time, unread: Option<u64>) {
        self.output.note_unread(unread, now);
    }

    /// Releases every answer that waits for its progress to be read.
    pub fn release_answers(&mut self) {
        self.output.release_all();
    }

    /// The transport is full, or takes more again: progress is coalesced meanwhile (P4).
    pub fn set_congested(&mut self, congested: bool) {
        self.congested = congested;
        if congested {
            return;
        }
        for number in std::mem::take(&mut self.pending_progress) {
            let Some((slot, FlightState::Running | FlightState::Task)) = self.arrivals.find(number) else {
                continue;
            };
            self.flush_pending(slot);
        }
    }

    /// Writes the progress that waits for the request in `slot`.
    pub(crate) fn flush_pending(&mut self, slot: usize) {
        let Some(entry) = self.inbound.get_mut(slot) else { return };
        let Some(pending) = entry.remove_pending() else { return };
        self.holdings.progress -= pending.bytes();
        let (with_message, token) = (self.rules.progress_has_message(), entry.record.wire_token());
        self.output.write_chained(
            (&mut entry.outbound_state.get_or_insert_default().frames, entry.stream),
            FrameKind::Progress,
            |out| match pending {
                Pending::Frame(frame) => out.extend_from_slice(&frame),
                Pending::Update(update) => encode::progress(out, token, &update, with_message),
            },
        );
        self.counters.progress_out += 1;
    }

    /// Queues the progress of request `number` until the transport takes more.
    pub(crate) fn queue_progress(&mut self, number: u64) {
        // A peer that asks and cancels without end, and never reads, must not make the list grow with it.
        if self.pending_progress.len() > 2 * self.arrivals.live() + 64 {
            let arrivals = &self.arrivals;
            self.pending_progress.retain(|number| arrivals.find(*number).is_some());
        }
        self.pending_progress.push(number);
    }

    /// True while progress is coalesced.
    pub fn is_congested(&self) -> bool {
        self.congested
    }

    /// Ends the peer's listens as a server should: by a result, and what K1 puts behind it (SUB-11, CAN-28).
    fn end_listens(&mut self, now: Time, batch: &mut Batch<H>) {
        let open = self.inbound.iter().filter(|entry| self.rules.is_open_ended(&entry.record.method));
        let listens: Vec<_> = open.map(|entry| (Arc::clone(&entry.record), entry.owner.clone())).collect();
        for (record, owner) in listens {
            if self.close_listen(now, &record).written {
                batch.events.push(Event::Cancelled { owner, record, declined: false });
            }
        }
    }

    /// Answers every request of the peer's that was not answered with the error that `error` gives (data, message), its
    /// listens by a result; cancels whatever works on them. Gives the records that ended.
    pub fn answer_all(
        &mut self,
        now: Time,
        reason: &Text,
        batch: &mut Batch<H>,
        error: impl Fn(&Record) -> (Vec<u8>, &'static str),
    ) -> Vec<Arc<Record>> {
        let mut ended = Vec::new();
        let open = self.inbound.iter();
        let open: Vec<_> =
            open.map(|entry| (Arc::clone(&entry.record), entry.owner.clone(), entry.declines)).collect();
        for (record, owner, declined) in open {
            match self.arrivals.find(record.number) {
                Some((_, state)) if state.is_live() => {}
                // Nobody tells of the end of its task any more.
                _ => {
                    self.end_task_of_peer(now, record.number);
                    continue;
                }
            }
            ended.extend(self.stop_one(now, &record, (CancelledBy::Shutdown, Some(reason)), &error).finished);
            batch.events.push(Event::Cancelled { owner, record, declined });
        }
        ended
    }

    /// As [`Connection::answer_all`], of one request that an operator stops; None where it is over, or its peer
    /// cancelled it before.
    pub fn stop(
        &mut self,
        now: Time,
        number: u64,
        reason: Option<&Text>,
        batch: &mut Batch<H>,
        error: impl Fn(&Record) -> (Vec<u8>, &'static str),
    ) -> Option<Answered> {
        let (slot, FlightState::Running) = self.arrivals.find(number)? else { return None };
        let entry = self.inbound.get(slot)?;
        let (record, owner, declined) = (Arc::clone(&entry.record), entry.owner.clone(), entry.declines);
        let reason = reason.map(|reason| clip(reason, self.limits.max_text_bytes));
        let answered = self.stop_one(now, &record, (CancelledBy::Operator, reason), &error);
        batch.events.push(Event::Cancelled { owner, record, declined });
        Some(answered)
    }

    fn stop_one(
        &mut self,
        now: Time,
        record: &Record,
        (by, reason): (CancelledBy, Option<&Text>),
        error: &impl Fn(&Record) -> (Vec<u8>, &'static str),
    ) -> Answered {
        record.note_cancel(by, reason, now);
        if self.rules.is_open_ended(&record.method) {
            return self.close_listen(now, record);
        }
        let (data, message) = error(record);
        self.answer(now, record.number, Answer::Error { code: INTERNAL_ERROR, message, data: &data })
    }

    /// Ends one listen of the peer's by a result.
    pub(crate) fn close_listen(&mut self, now: Time, record: &Record) -> Answered {
        let id = record.wire_id();
        let result = [b"{\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":", id, b"}}"].concat();
        record.note_cancel(CancelledBy::Shutdown, None, now);
        self.answer(now, record.number, Answer::Result(&result))
    }

    /// Ends everything in flight, each flight once (U2): the channel ended, the process exited, or we close.
    pub fn end(&mut self, now: Time, outcome: Outcome, exit_code: Option<i32>, batch: &mut Batch<H>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        if outcome == Outcome::Closed {
            self.end_listens(now, batch);
        }
        let (event, by) = match outcome {
            Outcome::PeerClosed => (FlightEvent::PeerClosed, CancelledBy::Disconnect),
            Outcome::PeerExited => (FlightEvent::PeerExited, CancelledBy::Disconnect),
            Outcome::PeerSilent => (FlightEvent::PeerSilent, CancelledBy::Disconnect),
            Outcome::Evicted => (FlightEvent::Evicted, CancelledBy::Overflow),
            _ => (FlightEvent::Closed, CancelledBy::Shutdown),
        };
        self.end_outbound(now, (event, outcome, exit_code), batch);
        self.end_inbound(now, (event, outcome, exit_code), by, batch);
        self.end_streams();
        self.output.release_all();
        // A call that the host still holds keeps the connection alive, but not its tables.
        self.outbound = SparseMap::default();
        self.inbound = SparseMap::default();
        self.id_index = IdIndex::new();
        self.deferred = VecDeque::new();
        self.custom_ids = HashMap::default();
        self.custom_tokens = HashMap::default();
        self.tasks = HashMap::default();
        self.pending_task_cancels = HashMap::default();
        self.tasks_created = HashMap::default();
        self.timers = TimerWheel::new();
        self.progress_timers = TimerWheel::new();
        self.pending_progress = Vec::new();
        self.settle_account();
    }

    /// Notes the end of input: our requests end, and no new ones are accepted; the peer's may still be answered.
    pub fn end_input(&mut self, now: Time, batch: &mut Batch<H>) {
        if self.over || std::mem::replace(&mut self.input_ended, true) {
            return;
        }
        self.end_outbound(now, (FlightEvent::PeerClosed, Outcome::PeerClosed, None), batch);
        // Answers that the peer may still read are not delayed.
        self.output.set_delay(Delay::None, now);
        self.output.release_all();
        self.unanswerable = usize::MAX;
    }

    /// Whether every request of the peer's is answered, and the answers are written. Listens, which are answered
    /// only at their end, do not count, nor requests answered with a task.
    pub fn is_answered(&mut self) -> bool {
        // No more requests arrive, so the count alone suffices until it may be that of the listens.
        if self.arrivals.live() > self.unanswerable {
            return false;
        }
        let asked = self.inbound.iter().map(|entry| &entry.record);
        let is_owed = |record: &&Arc<Record>| {
            matches!(self.arrivals.find(record.number), Some((_, FlightState::Running)))
                && !self.rules.is_open_ended(&record.method)
        };
        let owed = asked.filter(is_owed).count();
        self.unanswerable = self.arrivals.live() - owed.min(self.arrivals.live());
        owed == 0 && self.output.is_empty()
    }

    /// Ends our requests.
    fn end_outbound(
        &mut self,
        now: Time,
        (event, outcome, exit_code): (FlightEvent, Outcome, Option<i32>),
        batch: &mut Batch<H>,
    ) {
        for slot in 0..self.outbound.slots() {
            let Some(entry) = self.outbound.get_mut(slot) else { continue };
            let record = Arc::clone(&entry.record);
            let owner = entry.owner.take();
            if let Ok(moved) = self.table.claim(record.number, event) {
                if moved.from == FlightState::Queued {
                    self.output.retract(record.number);
                }
                if let Some(code) = exit_code {
                    record.note_exit_code(code);
                }
                let outcome = moved.to.outcome().unwrap_or(outcome);
                Self::finish(&record, outcome, now, batch);
                self.release(slot, record.number);
                batch.events.push(Event::Settled { owner, record, end: End::Local(outcome), answer: None });
            } else {
                if owner.is_some() && matches!(self.table.find(record.number), Some((_, FlightState::Task))) {
                    batch.events.push(Event::TaskOver { owner });
                }
                self.release(slot, record.number);
            }
        }
        self.output.fair_queue = FairQueue::new(&self.limits);
    }

    /// Ends the peer's requests.
    fn end_inbound(
        &mut self,
        now: Time,
        (event, outcome, exit_code): (FlightEvent, Outcome, Option<i32>),
        by: CancelledBy,
        batch: &mut Batch<H>,
    ) {
        let reason = (outcome == Outcome::Evicted).then_some(&b"max_total_bytes is reached"[..]);
        for slot in 0..self.inbound.slots() {
            let Some(entry) = self.inbound.get_mut(slot) else { continue };
            let record = Arc::clone(&entry.record);
            let owner = entry.owner.take();
            if let Ok(moved) = self.arrivals.claim_alone(record.number, event) {
                let outcome = moved.to.outcome().unwrap_or(outcome);
                let record = Arc::clone(&record);
                if let Some(code) = exit_code {
                    record.note_exit_code(code);
                }
                if by == CancelledBy::Disconnect && !self.rules.disconnect_cancels() {
                    Self::finish(&record, outcome, now, batch);
                    batch.events.push(Event::Orphaned { owner, record });
                } else {
                    record.note_cancel(by, reason, now);
                    Self::finish(&record, outcome, now, batch);
                    batch.events.push(Event::Cancelled { owner, record, declined: false });
                }
            }
            self.remove_inbound(now, slot, record.number);
        }
    }

    /// Notes an answer that came after the end of its call, and frees the slot (F6).
    pub(crate) fn record_late(
        &mut self,
        now: Time,
        slot: usize,
        number: u64,
        late: Late,
    ) -> Option<Arc<Record>> {
        let entry = self.outbound.get(slot)?;
        self.output.fair_queue.acknowledge(entry.sent, now);
        let record = Arc::clone(&entry.record);
        debug_assert_eq!(record.direction, Direction::Outbound);
        record.note_late(late, now);
        self.counters.late_responses += 1;
        self.release(slot, number);
        Some(record)
    }
}
