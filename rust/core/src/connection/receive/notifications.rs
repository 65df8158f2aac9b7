//! Progress of our requests, and all other notifications except cancels.

use std::sync::Arc;

use crate::connection::Connection;
use crate::connection::event::{Batch, Event, Host};
use crate::flight::record::{ProgressUpdate, Time};
use crate::flight::state::FlightState;
use crate::rules::method;
use crate::wire::envelope::Envelope;
use crate::wire::id;
use crate::wire::span::Span;
use crate::wire::text;

impl<H: Host> Connection<H> {
    /// Hands progress to the call whose token it names (PRG-07, PRG-10, PRG-22).
    pub(super) fn receive_progress(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        envelope: &Envelope,
        batch: &mut Batch<H>,
    ) {
        if self.expose_protocol_notifications {
            batch.events.push(Event::Notification { frame: at, envelope: *envelope, owner: None });
        }
        if !self.rules.accepts_progress() {
            self.counters.violations += 1;
            return;
        }
        let token = envelope.progress_token.of(frame);
        let custom = if self.custom_tokens.is_empty() {
            None
        } else {
            self.custom_tokens.get(id::key(token).to_bytes().as_slice())
        };
        let named = custom.copied().or_else(|| id::minted(token));
        let found = named.filter(|number| self.may_tell_of(*number)).and_then(|number| {
            let (slot, state) = self.table.find(number)?;
            let entry = self.outbound.get(slot)?;
            (entry.record.wants_progress && entry.custom_token == custom.is_some()).then_some((slot, state))
        });
        let Some((slot, state)) = found else {
            self.counters.progress_unmatched += 1;
            return;
        };
        let Some(entry) = self.outbound.get(slot) else { return };
        self.output.fair_queue.acknowledge(entry.sent, now);
        let record = Arc::clone(&entry.record);
        let open = state == FlightState::Sent
            || state == FlightState::Task && self.rules.token_outlives_task_creation();
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
        let message = text::of(envelope.message.of(frame));
        let update = ProgressUpdate {
            progress,
            total: id::number(envelope.total.of(frame)),
            message: message.map(|text| text::clip(&text, self.limits.max_text_bytes).into()),
        };
        let owner = entry.owner.clone();
        if !record.note_progress(&update, now) && self.rules.choices.progress_must_increase {
            self.counters.progress_dropped += 1;
            return;
        }
        self.counters.progress_in += 1;
        self.renew_idle(slot, now);
        batch.events.push(Event::Progress {
            owner,
            record,
            update,
            frame: at,
            token: envelope.progress_token,
            foreign_meta: if envelope.has_era_keys { envelope.meta } else { envelope.foreign_meta },
        });
    }

    pub(super) fn receive_notification(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        envelope: &Envelope,
        batch: &mut Batch<H>,
    ) {
        let name = envelope.method_name(frame);
        if *name == *method::TASK_STATUS.as_bytes() || *name == *method::TASKS.as_bytes() {
            self.note_task_state(now, now, envelope.params.of(frame), batch);
        }
        self.rules.note_initialized(&name);
        let mut owner = None;
        if let Some(number) = self.number_of(envelope.subscription_id.of(frame))
            && let Some((slot, FlightState::Sent)) = self.table.find(number)
            && let Some(entry) = self.outbound.get(slot)
            // Only a listen has a subscription.
            && *entry.record.method == *method::LISTEN
        {
            owner.clone_from(&entry.owner);
            if *name == *method::ACKNOWLEDGED.as_bytes() {
                self.clear_deadlines(slot);
            } else {
                self.renew_idle(slot, now);
            }
        }
        if owner.is_none() && *name == *method::MESSAGE.as_bytes() {
            owner = self.received_during();
        }
        batch.events.push(Event::Notification { frame: at, envelope: *envelope, owner });
    }
}
