//! The peer's requests: begun, cancelled, reported on, and the ends of their handlers.

use std::sync::Arc;

use super::shelf::Entry;
use super::{Ended, Flights, Handled, Refused};
use crate::flight::{CancelledBy, Event, State};
use crate::limits::Exceeded;
use crate::record::{Beginning, Cleanup, Direction, Progress, Record, Time};
use crate::spare;
use crate::text::Text;

impl<S> Flights<S> {
    /// Registers a request of the peer's; `token` is empty where it wants no progress.
    pub fn begin(
        &mut self,
        now: Time,
        id: &[u8],
        method: &str,
        token: &[u8],
        slot: S,
    ) -> Result<(), Refused> {
        if self.over {
            return Err(Refused::Closed);
        }
        self.check_id(id)?;
        if self.theirs.places(id).any(|place| self.theirs.is_live(place)) {
            self.counters.duplicate_ids += 1;
            if !self.customs.takes_duplicates {
                return Err(Refused::InFlight);
            }
        }
        // A handler that goes on after its cancel counts: a peer must not pile up such.
        let (limit, value) = ("max_inbound", self.limits.max_inbound);
        if self.theirs.ids.len() >= value {
            self.counters.overloaded += 1;
            return Err(Refused::Exceeded(Exceeded { limit, value }));
        }
        let token = if token.len() <= self.limits.max_id_bytes { token } else { b"" };
        self.arrived += 1;
        let record = spare::record(&Beginning {
            number: self.arrived,
            direction: Direction::Inbound,
            peer: &self.peer,
            method: self.methods.named(method, &self.limits),
            id,
            token,
            wants_progress: !token.is_empty(),
            is_leg: false,
            now,
        });
        self.theirs.add(Entry { record, state: State::Running, slot: Some(slot) });
        self.counters.requests_in += 1;
        Ok(())
    }

    /// What hangs on the request of the peer's that `id` names.
    pub fn handling(&self, id: &[u8]) -> Option<&S> {
        self.theirs.at(self.theirs.newest(id)?)?.slot.as_ref()
    }

    /// Takes a cancel of the peer's: the request whose handler is to stop or to be told (CAN-11 to CAN-16).
    ///
    /// It is not answered any more, and stays until its handler ends.
    pub fn cancel(&mut self, now: Time, id: &[u8], reason: Option<&Text>) -> Option<(&S, Arc<Record>)> {
        let event = if self.customs.declines_cancels { Event::CancelDeclined } else { Event::Cancel };
        let reason = self.clipped(reason);
        let place = self.theirs.newest(id);
        let Some(entry) = place.and_then(|place| self.theirs.at_mut(place)) else {
            let too_late = self.theirs.ids.ended_lately(self.theirs.ids.hash(id));
            *(if too_late {
                &mut self.counters.cancels_too_late
            } else {
                &mut self.counters.cancels_ignored
            }) += 1;
            return None;
        };
        if !entry.offer(event) {
            self.counters.cancels_too_late += 1;
            return None;
        }
        let (record, outcome) = (Arc::clone(&entry.record), entry.state.outcome());
        self.counters.cancels_in += 1;
        record.note_cancel(CancelledBy::Peer, reason, now);
        record.note_cleanup(Cleanup::StillRunning, None);
        if let Some(outcome) = outcome {
            self.theirs.live -= 1;
            self.end_record(&record, outcome, now);
        }
        let slot = self.theirs.at(place?)?.slot.as_ref()?;
        Some((slot, record))
    }

    /// Notes progress of ours on the request of the peer's that `is` recognises by its slot; false where it must
    /// not be sent (PRG-07, PRG-11, PRG-17).
    pub fn report(&mut self, now: Time, id: &[u8], is: impl Fn(&S) -> bool, update: Progress) -> bool {
        let update = self.clipped_update(update);
        let entry = self.place_of(id, is).and_then(|place| self.theirs.at(place));
        let Some(entry) = entry.filter(|entry| entry.state == State::Running) else { return false };
        if self.customs.progress_must_increase {
            if !update.progress.is_finite() {
                entry.record.note_dropped_progress();
                return false;
            }
            if !entry.record.note_progress(&update, now) {
                return false;
            }
        } else {
            entry.record.note_any_progress(&update, now);
        }
        self.counters.progress_out += 1;
        true
    }

    fn place_of(&self, id: &[u8], is: impl Fn(&S) -> bool) -> Option<usize> {
        self.theirs
            .places(id)
            .find(|place| self.theirs.at(*place).and_then(|entry| entry.slot.as_ref()).is_some_and(&is))
    }

    /// Takes the end of the handler of a request of the peer's, recognised by its slot; None where there is none.
    ///
    /// The record it gives ended now where `finished` is true; else it had ended by a cancel, or with the connection.
    pub fn finish(
        &mut self,
        now: Time,
        id: &[u8],
        is: impl Fn(&S) -> bool,
        how: Handled,
    ) -> Option<(Ended<S>, bool)> {
        let place = self.place_of(id, is)?;
        let mut entry = self.theirs.remove(place)?;
        let event = match how {
            Handled::Result => Event::Answered,
            // Nobody cancelled it: we are closing.
            Handled::Stopped if entry.state == State::Running => {
                entry.record.note_cancel(CancelledBy::Shutdown, None, now);
                Event::Closed
            }
            Handled::Error | Handled::Stopped => Event::Failed,
        };
        let finished = entry.offer(event);
        if entry.record.cancelled_by().is_some() {
            let cleanup = match how {
                Handled::Result => Cleanup::FinishedAnyway,
                Handled::Error => Cleanup::Raised,
                Handled::Stopped => Cleanup::Stopped,
            };
            entry.record.note_cleanup(cleanup, Some(now));
        } else {
            entry.record.note_written(now);
        }
        if let Some(outcome) = entry.state.outcome().filter(|_| finished) {
            self.theirs.live -= 1;
            self.end_record(&entry.record, outcome, now);
        }
        Some((Ended { slot: entry.slot, record: entry.record }, finished))
    }
}
