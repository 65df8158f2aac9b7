//! The way out: bytes for the transport, and the end of everything in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{Answer, Answered, Connection, Pending};
use crate::delayed::Delay;
use crate::encode;
use crate::entries::Entries;
use crate::event::{Batch, End, Event, Host};
use crate::flight::{CancelledBy, Event as Happening, Outcome, State};
use crate::ids::Ids;
use crate::lanes::Lanes;
use crate::output::Kind;
use crate::record::{Direction, Late, Record, Time};
use crate::wheel::Wheel;

impl<H: Host> Connection<H> {
    /// Bytes waiting to be written.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Bytes of them that wait for nothing but a take.
    pub fn output_ready(&self) -> usize {
        self.output.ready()
    }

    /// Hands over what can be written now, for [`recycle`](crate::output::recycle) when it is written. Call again on
    /// the next turn while [`Connection::output_ready`] is not 0.
    pub fn take_output(&mut self, now: Time) -> Vec<u8> {
        let taken = self.output.take(now);
        if !self.congested && !self.pending.is_empty() {
            self.set_congested(false);
        }
        let (waited, first) = taken.waited;
        for (at, number) in taken.requests.into_iter().enumerate() {
            if let Ok(moved) = self.table.claim(number, Happening::Written)
                && let Some(entry) = self.outbound.get_mut(moved.slot)
            {
                entry.record.note_written(now);
                if at >= waited {
                    entry.sent = first + (at - waited) as u64;
                }
            }
        }
        self.counters.bytes_out += taken.bytes.len() as u64;
        taken.bytes
    }

    /// Says what answers wait for where our role is the server's: see [`crate::delayed`].
    pub fn delay_answers(&mut self, now: Time, delay: Delay) {
        self.output.set_delay(delay, now);
    }

    /// Whether an answer waits, and the transport is to be asked for [`Connection::note_unread`].
    pub fn asks_for_unread(&self, now: Time) -> bool {
        self.output.asks_for_unread(now)
    }

    /// Takes the transport's word on how many bytes of those handed over the peer has not read; None where it cannot
    /// tell.
    pub fn note_unread(&mut self, now: Time, unread: Option<u64>) {
        self.output.note_unread(unread, now);
    }

    /// Lets every answer leave that waits for its progress to be read.
    pub fn release_answers(&mut self) {
        self.output.release_all();
    }

    /// The transport is full, or takes more again: progress is coalesced meanwhile (P4).
    pub fn set_congested(&mut self, congested: bool) {
        self.congested = congested;
        if congested {
            return;
        }
        for number in std::mem::take(&mut self.pending) {
            let Some((slot, State::Running | State::Task)) = self.arrivals.find(number) else { continue };
            self.flush_pending(slot);
        }
    }

    /// Writes the progress that waits for the request in `slot`.
    pub(crate) fn flush_pending(&mut self, slot: usize) {
        let Some(entry) = self.inbound.get_mut(slot) else { return };
        let Some(pending) = entry.take_pending() else { return };
        self.holdings.progress -= pending.bytes();
        let (with_message, token) = (self.rules.progress_has_message(), entry.record.wire_token());
        self.output.about(
            &mut entry.said.get_or_insert_default().about,
            Kind::Progress,
            |out| match pending {
                Pending::Frame(frame) => out.extend_from_slice(&frame),
                Pending::Update(update) => encode::progress(out, token, &update, with_message),
            },
        );
        self.counters.progress_out += 1;
    }

    /// Remembers that progress of request `number` waits for the transport.
    pub(crate) fn wait_with_progress(&mut self, number: u64) {
        // A peer that asks and cancels without end, and never reads, must not make the list grow with it.
        if self.pending.len() > 2 * self.arrivals.live() + 64 {
            let arrivals = &self.arrivals;
            self.pending.retain(|number| arrivals.find(*number).is_some());
        }
        self.pending.push(number);
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

    /// Ends one listen of the peer's likewise.
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
            Outcome::PeerClosed => (Happening::PeerClosed, CancelledBy::Disconnect),
            Outcome::PeerExited => (Happening::PeerExited, CancelledBy::Disconnect),
            Outcome::PeerSilent => (Happening::PeerSilent, CancelledBy::Disconnect),
            Outcome::Evicted => (Happening::Evicted, CancelledBy::Overflow),
            _ => (Happening::Closed, CancelledBy::Shutdown),
        };
        self.end_ours(now, (event, outcome, exit_code), batch);
        self.end_theirs(now, (event, outcome, exit_code), by, batch);
        self.output.release_all();
        // Calls that somebody still holds keep the connection; they keep no tables with it.
        self.outbound = Entries::default();
        self.inbound = Entries::default();
        self.ids = Ids::new();
        self.young = VecDeque::new();
        self.named = HashMap::default();
        self.tokens = HashMap::default();
        self.tasks = HashMap::default();
        self.task_cancels = HashMap::default();
        self.made = HashMap::default();
        self.wheel = Wheel::new();
        self.paces = Wheel::new();
        self.pending = Vec::new();
        self.settle_account();
    }

    /// Takes note that the peer writes no more: our requests end, and none can be made; its own may still be answered.
    pub fn end_input(&mut self, now: Time, batch: &mut Batch<H>) {
        if self.over || std::mem::replace(&mut self.deaf, true) {
            return;
        }
        self.end_ours(now, (Happening::PeerClosed, Outcome::PeerClosed, None), batch);
        // What it may yet read waits for nothing.
        self.output.set_delay(Delay::None, now);
        self.output.release_all();
        self.unanswerable = usize::MAX;
    }

    /// Whether nothing that the peer asked waits for an answer, and all answers are written. Listens do not count, which
    /// are answered at their end only, nor what was answered with a task.
    pub fn is_answered(&mut self) -> bool {
        // Nothing comes any more, so that only their number has to be looked at until it may have become that of listens.
        if self.arrivals.live() > self.unanswerable {
            return false;
        }
        let asked = self.inbound.iter().map(|entry| &entry.record);
        let is_owed = |record: &&Arc<Record>| {
            matches!(self.arrivals.find(record.number), Some((_, State::Running)))
                && !self.rules.is_open_ended(&record.method)
        };
        let owed = asked.filter(is_owed).count();
        self.unanswerable = self.arrivals.live() - owed.min(self.arrivals.live());
        owed == 0 && self.output.is_empty()
    }

    /// Ends our requests.
    fn end_ours(
        &mut self,
        now: Time,
        (event, outcome, exit_code): (Happening, Outcome, Option<i32>),
        batch: &mut Batch<H>,
    ) {
        for slot in 0..self.outbound.slots() {
            let Some(entry) = self.outbound.get_mut(slot) else { continue };
            let record = Arc::clone(&entry.record);
            let owner = entry.owner.take();
            if let Ok(moved) = self.table.claim(record.number, event) {
                if moved.from == State::Queued {
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
                if owner.is_some() && matches!(self.table.find(record.number), Some((_, State::Task))) {
                    batch.events.push(Event::TaskOver { owner });
                }
                self.release(slot, record.number);
            }
        }
        self.output.lanes = Lanes::new(&self.limits);
    }

    /// Ends the peer's requests.
    fn end_theirs(
        &mut self,
        now: Time,
        (event, outcome, exit_code): (Happening, Outcome, Option<i32>),
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

    /// Notes an answer that came after the end of its call, and frees the slot (S6).
    pub(crate) fn bury(&mut self, now: Time, slot: usize, number: u64, late: Late) -> Option<Arc<Record>> {
        let entry = self.outbound.get(slot)?;
        self.output.lanes.take_up(entry.sent, now);
        let record = Arc::clone(&entry.record);
        debug_assert_eq!(record.direction, Direction::Outbound);
        record.note_late(late, now);
        self.counters.late_responses += 1;
        self.release(slot, number);
        Some(record)
    }
}
