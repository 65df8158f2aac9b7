//! Our requests: registered, answered, abandoned.

use std::sync::Arc;

use super::store::Entry;
use super::{Ended, Flights, OpenError};
use crate::flight::pool;
use crate::flight::record::{Direction, Late, ProgressUpdate, RecordInit, Time};
use crate::flight::state::{CancelledBy, FlightEvent, FlightState, Outcome};
use crate::flight::table::MAX_NUMBER;
use crate::flight::target::Target;
use crate::limits::Exceeded;
use crate::wire::text::Text;

impl<A> Flights<A> {
    /// Registers a request of ours, before it is written: under `id`, or under the next number that no request
    /// in flight bears. Gives the number, which is the id where `id` is None.
    ///
    /// `target` is the tool, prompt or resource that it is about; empty for none.
    pub fn open(
        &mut self,
        now: Time,
        method: &str,
        id: Option<&[u8]>,
        wants_progress: bool,
        target: &Text,
        attachment: A,
    ) -> Result<u64, OpenError> {
        if self.over {
            return Err(OpenError::Closed);
        }
        let (limit, value) = ("max_outbound", self.limits.max_outbound);
        if self.outbound.live >= value {
            return Err(OpenError::Exceeded(Exceeded { limit, value }));
        }
        let mut digits = itoa::Buffer::new();
        let id = if let Some(id) = id {
            self.check_id(id)?;
            if !self.forget_ended(id) {
                return Err(OpenError::InFlight);
            }
            id
        } else {
            loop {
                if self.last_minted == MAX_NUMBER {
                    let (limit, value) = ("request ids", MAX_NUMBER as usize);
                    return Err(OpenError::Exceeded(Exceeded { limit, value }));
                }
                self.last_minted += 1;
                if self.forget_ended(digits.format(self.last_minted).as_bytes()) {
                    break;
                }
            }
            digits.format(self.last_minted).as_bytes()
        };
        self.outbound_count += 1;
        let record = pool::acquire_record(&RecordInit {
            number: self.outbound_count,
            direction: Direction::Outbound,
            peer: &self.peer,
            method: self.method_names.intern(method.as_bytes(), &self.limits).0,
            id,
            token: b"",
            target: Target::new(target, self.limits.max_text_bytes),
            wants_progress,
            asker: None,
            is_leg: false,
            now,
        });
        self.outbound.insert(Entry { record, state: FlightState::Queued, attachment: Some(attachment) });
        self.counters.requests_out += 1;
        Ok(self.last_minted)
    }

    /// Forgets an ended request under `id`; false where one is in flight.
    fn forget_ended(&mut self, id: &[u8]) -> bool {
        let Some(index) = self.outbound.newest(id) else { return true };
        if self.outbound.is_live(index) {
            return false;
        }
        self.outbound.remove(index);
        true
    }

    /// Notes that a request of ours was handed to the transport.
    pub fn written(&mut self, now: Time, id: &[u8]) {
        let Some(index) = self.outbound.newest(id) else { return };
        let Some(entry) = self.outbound.at_mut(index) else { return };
        if entry.offer(FlightEvent::Written) {
            entry.record.note_written(now);
        }
    }

    /// Handles the peer's answer: returns the request that it ends, or None where it is late or unmatched.
    pub fn claim(&mut self, now: Time, id: &[u8], is_error: bool) -> Option<Ended<A>> {
        let Some(index) = self.outbound.newest(id) else {
            self.counters.unmatched_responses += 1;
            return None;
        };
        let mut entry = self.outbound.remove(index)?;
        if !entry.state.is_live() {
            self.counters.late_responses += 1;
            entry.record.note_late(if is_error { Late::Error } else { Late::Result }, now);
            return None;
        }
        // An answered request was written, whether or not the transport said so.
        if entry.offer(FlightEvent::Written) {
            entry.record.note_written(now);
        }
        entry.offer(if is_error { FlightEvent::Failed } else { FlightEvent::Answered });
        self.outbound.live -= 1;
        self.end_record(&entry.record, entry.state.outcome()?, now);
        Some(Ended { attachment: entry.attachment, record: entry.record })
    }

    /// Handles progress: returns the attachment of its request, or None where the update is dropped.
    pub fn advance(&mut self, now: Time, token: &[u8], update: ProgressUpdate) -> Option<&A> {
        let update = self.clipped_update(update);
        let index = self.outbound.newest(token);
        let entry =
            index.and_then(|index| self.outbound.at(index)).filter(|entry| entry.record.wants_progress);
        let Some(entry) = entry else {
            self.counters.progress_unmatched += 1;
            return None;
        };
        if !entry.state.is_live() {
            self.counters.late_progress += 1;
            entry.record.note_late_progress();
            return None;
        }
        if !self.strictness.allow_non_finite_progress && !update.progress.is_finite() {
            entry.record.note_dropped_progress();
        } else if !self.strictness.progress_must_increase {
            entry.record.note_any_progress(&update, now);
            self.counters.progress_in += 1;
            return entry.attachment.as_ref();
        } else if entry.record.note_progress(&update, now) {
            self.counters.progress_in += 1;
            return entry.attachment.as_ref();
        }
        self.counters.progress_dropped += 1;
        None
    }

    /// Ends a request of ours from this side: `Cancelled` by the caller, `MaxTimeout`, or `PeerClosed`. None where
    /// it was over.
    pub fn abandon(
        &mut self,
        now: Time,
        id: &[u8],
        outcome: Outcome,
        reason: Option<&Text>,
    ) -> Option<Ended<A>> {
        let (event, by) = match outcome {
            Outcome::MaxTimeout => (FlightEvent::MaxExpired, Some(CancelledBy::Timeout)),
            Outcome::PeerClosed => (FlightEvent::PeerClosed, None),
            _ => (FlightEvent::Cancel, Some(CancelledBy::Caller)),
        };
        let reason = self.clipped(reason);
        let index = self.outbound.newest(id)?;
        let entry = self.outbound.at_mut(index)?;
        if !entry.offer(event) {
            return None;
        }
        let (record, attachment) = (Arc::clone(&entry.record), entry.attachment.take());
        self.outbound.live -= 1;
        if let Some(by) = by {
            record.note_cancel(by, reason, now);
        }
        self.end_record(&record, outcome, now);
        self.remember(index, record.number);
        Some(Ended { attachment, record })
    }

    /// Keeps an ended request for a late answer; forgets the oldest of `max_remembered`.
    fn remember(&mut self, index: usize, number: u64) {
        if self.remembered.len() == self.limits.max_remembered
            && let Some((index, number)) = self.remembered.pop_front()
            && !self.outbound.is_live(index)
            && self.outbound.at(index).is_some_and(|entry| entry.record.number == number)
        {
            self.outbound.remove(index);
        }
        self.remembered.push_back((index, number));
    }

    /// Notes that the cancel of a request of ours was written.
    pub fn note_cancel_written(&mut self, id: &[u8]) {
        if let Some(entry) = self.outbound.newest(id).and_then(|index| self.outbound.at(index)) {
            entry.record.note_cancel_written();
        }
        self.counters.cancels_out += 1;
    }
}
