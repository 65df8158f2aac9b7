//! The peer's requests: registered, cancelled, their progress, and the ends of their handlers.

use std::sync::Arc;

use super::store::Entry;
use super::{Ended, Flights, HandlerEnd, OpenError};
use crate::flight::pool;
use crate::flight::record::{Cleanup, Direction, ProgressUpdate, Record, RecordInit, Time};
use crate::flight::state::{CancelledBy, FlightEvent, FlightState};
use crate::flight::target::Target;
use crate::limits::Exceeded;
use crate::wire::text::Text;

impl<A> Flights<A> {
    /// Registers a request of the peer's; `token` is empty where it wants no progress, `target` where it is about no
    /// tool, prompt or resource.
    pub fn begin(
        &mut self,
        now: Time,
        id: &[u8],
        method: &str,
        token: &[u8],
        target: &Text,
        attachment: A,
    ) -> Result<(), OpenError> {
        if self.over {
            return Err(OpenError::Closed);
        }
        self.check_id(id)?;
        if self.inbound.find(id).any(|index| self.inbound.is_live(index)) {
            self.counters.duplicate_ids += 1;
            if !self.strictness.allow_duplicate_ids {
                return Err(OpenError::InFlight);
            }
        }
        // A handler that goes on after its cancel counts, because a peer could pile them up.
        let (limit, value) = ("max_inbound", self.limits.max_inbound);
        if self.inbound.ids.len() >= value {
            self.counters.overloaded += 1;
            return Err(OpenError::Exceeded(Exceeded { limit, value }));
        }
        let token = if token.len() <= self.limits.max_id_bytes { token } else { b"" };
        self.inbound_count += 1;
        let record = pool::acquire_record(&RecordInit {
            number: self.inbound_count,
            direction: Direction::Inbound,
            peer: &self.peer,
            method: self.method_names.intern(method.as_bytes(), &self.limits).0,
            id,
            token,
            target: Target::new(target, self.limits.max_text_bytes),
            wants_progress: !token.is_empty(),
            asker: None,
            is_leg: false,
            now,
        });
        self.inbound.insert(Entry { record, state: FlightState::Running, attachment: Some(attachment) });
        self.counters.requests_in += 1;
        Ok(())
    }

    /// The attachment of the peer's request that `id` names.
    pub fn attachment_of(&self, id: &[u8]) -> Option<&A> {
        self.inbound.at(self.inbound.newest(id)?)?.attachment.as_ref()
    }

    /// Handles a cancel of the peer's: returns the request whose handler stops or is notified (CAN-11 to CAN-16).
    ///
    /// It is not answered any more, and stays until its handler ends.
    pub fn cancel(&mut self, now: Time, id: &[u8], reason: Option<&Text>) -> Option<(&A, Arc<Record>)> {
        let event =
            if self.strictness.decline_cancels { FlightEvent::CancelDeclined } else { FlightEvent::Cancel };
        let reason = self.clipped(reason);
        let index = self.inbound.newest(id);
        let Some(entry) = index.and_then(|index| self.inbound.at_mut(index)) else {
            let too_late = self.inbound.ids.ended_recently(self.inbound.ids.hash(id));
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
            self.inbound.live -= 1;
            self.end_record(&record, outcome, now);
        }
        let attachment = self.inbound.at(index?)?.attachment.as_ref()?;
        Some((attachment, record))
    }

    /// Notes progress of ours on the peer's request whose attachment `is` accepts; false where it must not be
    /// sent (PRG-07, PRG-11, PRG-17).
    pub fn report(&mut self, now: Time, id: &[u8], is: impl Fn(&A) -> bool, update: ProgressUpdate) -> bool {
        let update = self.clipped_update(update);
        let entry = self.index_of(id, is).and_then(|index| self.inbound.at(index));
        let Some(entry) = entry.filter(|entry| entry.state == FlightState::Running) else { return false };
        if self.strictness.progress_must_increase {
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

    fn index_of(&self, id: &[u8], is: impl Fn(&A) -> bool) -> Option<usize> {
        self.inbound.find(id).find(|index| {
            self.inbound.at(*index).and_then(|entry| entry.attachment.as_ref()).is_some_and(&is)
        })
    }

    /// Handles the end of the handler of the peer's request whose attachment `is` accepts; None where there is
    /// none.
    ///
    /// The record it gives ended now where `finished` is true; else it had ended by a cancel, or with the connection.
    pub fn finish(
        &mut self,
        now: Time,
        id: &[u8],
        is: impl Fn(&A) -> bool,
        how: HandlerEnd,
    ) -> Option<(Ended<A>, bool)> {
        let index = self.index_of(id, is)?;
        let mut entry = self.inbound.remove(index)?;
        let event = match how {
            HandlerEnd::Result => FlightEvent::Answered,
            // Nobody cancelled it: we are closing.
            HandlerEnd::Stopped if entry.state == FlightState::Running => {
                entry.record.note_cancel(CancelledBy::Shutdown, None, now);
                FlightEvent::Closed
            }
            HandlerEnd::Error | HandlerEnd::Stopped => FlightEvent::Failed,
        };
        let finished = entry.offer(event);
        if entry.record.cancelled_by().is_some() {
            let cleanup = match how {
                HandlerEnd::Result => Cleanup::FinishedAnyway,
                HandlerEnd::Error => Cleanup::Raised,
                HandlerEnd::Stopped => Cleanup::Stopped,
            };
            entry.record.note_cleanup(cleanup, Some(now));
        } else {
            entry.record.note_written(now);
        }
        if let Some(outcome) = entry.state.outcome().filter(|_| finished) {
            self.inbound.live -= 1;
            self.end_record(&entry.record, outcome, now);
        }
        Some((Ended { attachment: entry.attachment, record: entry.record }, finished))
    }
}
