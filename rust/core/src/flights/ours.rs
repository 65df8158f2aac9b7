//! Our requests: registered, answered, given up.

use std::sync::Arc;

use super::shelf::Entry;
use super::{Ended, Flights, Refused};
use crate::flight::{CancelledBy, Event, Outcome, State};
use crate::limits::Exceeded;
use crate::record::{Beginning, Direction, Late, Progress, Time};
use crate::spare;
use crate::table::MAX_NUMBER;
use crate::text::Text;

impl<S> Flights<S> {
    /// Registers a request of ours, before it is written: under `id`, or under the next number that no request
    /// in flight bears. Gives the number, which is the id where `id` is None.
    pub fn open(
        &mut self,
        now: Time,
        method: &str,
        id: Option<&[u8]>,
        wants_progress: bool,
        slot: S,
    ) -> Result<u64, Refused> {
        if self.over {
            return Err(Refused::Closed);
        }
        let (limit, value) = ("max_outbound", self.limits.max_outbound);
        if self.ours.live >= value {
            return Err(Refused::Exceeded(Exceeded { limit, value }));
        }
        let mut digits = itoa::Buffer::new();
        let id = if let Some(id) = id {
            self.check_id(id)?;
            if !self.make_way(id) {
                return Err(Refused::InFlight);
            }
            id
        } else {
            loop {
                if self.given == MAX_NUMBER {
                    let (limit, value) = ("request ids", MAX_NUMBER as usize);
                    return Err(Refused::Exceeded(Exceeded { limit, value }));
                }
                self.given += 1;
                if self.make_way(digits.format(self.given).as_bytes()) {
                    break;
                }
            }
            digits.format(self.given).as_bytes()
        };
        self.opened += 1;
        let record = spare::record(&Beginning {
            number: self.opened,
            direction: Direction::Outbound,
            peer: &self.peer,
            method: self.methods.named(method, &self.limits),
            id,
            token: b"",
            wants_progress,
            is_leg: false,
            now,
        });
        self.ours.add(Entry { record, state: State::Queued, slot: Some(slot) });
        self.counters.requests_out += 1;
        Ok(self.given)
    }

    /// Forgets an ended request under `id`; false where one is in flight.
    fn make_way(&mut self, id: &[u8]) -> bool {
        let Some(place) = self.ours.newest(id) else { return true };
        if self.ours.is_live(place) {
            return false;
        }
        self.ours.remove(place);
        true
    }

    /// Notes that a request of ours was handed to the transport.
    pub fn written(&mut self, now: Time, id: &[u8]) {
        let Some(place) = self.ours.newest(id) else { return };
        let Some(entry) = self.ours.at_mut(place) else { return };
        if entry.offer(Event::Written) {
            entry.record.note_written(now);
        }
    }

    /// Takes the peer's answer: the request that it ends, or None where it is late, or nobody asked.
    pub fn claim(&mut self, now: Time, id: &[u8], is_error: bool) -> Option<Ended<S>> {
        let Some(place) = self.ours.newest(id) else {
            self.counters.unmatched_responses += 1;
            return None;
        };
        let mut entry = self.ours.remove(place)?;
        if !entry.state.is_live() {
            self.counters.late_responses += 1;
            entry.record.note_late(if is_error { Late::Error } else { Late::Result }, now);
            return None;
        }
        // Whatever the transport told us: what was answered was written.
        if entry.offer(Event::Written) {
            entry.record.note_written(now);
        }
        entry.offer(if is_error { Event::Failed } else { Event::Answered });
        self.ours.live -= 1;
        self.end_record(&entry.record, entry.state.outcome()?, now);
        Some(Ended { slot: entry.slot, record: entry.record })
    }

    /// Takes progress: the slot of the request it belongs to, or None where nothing may come of it.
    pub fn advance(&mut self, now: Time, token: &[u8], update: Progress) -> Option<&S> {
        let update = self.clipped_update(update);
        let place = self.ours.newest(token);
        let entry = place.and_then(|place| self.ours.at(place)).filter(|entry| entry.record.wants_progress);
        let Some(entry) = entry else {
            self.counters.progress_unmatched += 1;
            return None;
        };
        if !entry.state.is_live() {
            self.counters.late_progress += 1;
            entry.record.note_late_progress();
            return None;
        }
        if !self.customs.takes_any_number && !update.progress.is_finite() {
            entry.record.note_dropped_progress();
        } else if !self.customs.progress_must_increase {
            entry.record.note_any_progress(&update, now);
            self.counters.progress_in += 1;
            return entry.slot.as_ref();
        } else if entry.record.note_progress(&update, now) {
            self.counters.progress_in += 1;
            return entry.slot.as_ref();
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
    ) -> Option<Ended<S>> {
        let (event, by) = match outcome {
            Outcome::MaxTimeout => (Event::MaxExpired, Some(CancelledBy::Timeout)),
            Outcome::PeerClosed => (Event::PeerClosed, None),
            _ => (Event::Cancel, Some(CancelledBy::Caller)),
        };
        let reason = self.clipped(reason);
        let place = self.ours.newest(id)?;
        let entry = self.ours.at_mut(place)?;
        if !entry.offer(event) {
            return None;
        }
        let (record, slot) = (Arc::clone(&entry.record), entry.slot.take());
        self.ours.live -= 1;
        if let Some(by) = by {
            record.note_cancel(by, reason, now);
        }
        self.end_record(&record, outcome, now);
        self.remember(place, record.number);
        Some(Ended { slot, record })
    }

    /// Keeps an ended request for a late answer, in place of the one that has waited for its own the longest.
    fn remember(&mut self, place: usize, number: u64) {
        if self.remembered.len() == self.limits.max_remembered
            && let Some((place, number)) = self.remembered.pop_front()
            && !self.ours.is_live(place)
            && self.ours.at(place).is_some_and(|entry| entry.record.number == number)
        {
            self.ours.remove(place);
        }
        self.remembered.push_back((place, number));
    }

    /// Notes that the peer was told of the end of a request of ours.
    pub fn told(&mut self, id: &[u8]) {
        if let Some(entry) = self.ours.newest(id).and_then(|place| self.ours.at(place)) {
            entry.record.note_cancel_written();
        }
        self.counters.cancels_out += 1;
    }
}
