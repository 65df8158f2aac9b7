//! Progress of our requests, and every other notification but a cancel.

use std::sync::Arc;

use crate::connection::Connection;
use crate::envelope::Envelope;
use crate::event::{Batch, Event, Host};
use crate::flight::State;
use crate::id;
use crate::record::{Progress, Time};
use crate::rules::method;
use crate::span::Span;
use crate::text;

impl<H: Host> Connection<H> {
    /// Hands progress to the call whose token it names (PRG-07, PRG-10, PRG-22).
    pub(super) fn take_progress(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        envelope: &Envelope,
        batch: &mut Batch<H>,
    ) {
        if self.shows_everything {
            batch.events.push(Event::Notification { frame: at, envelope: *envelope, owner: None });
        }
        if !self.rules.takes_progress() {
            self.counters.violations += 1;
            return;
        }
        let token = envelope.progress_token.of(frame);
        let custom =
            if self.tokens.is_empty() { None } else { self.tokens.get(id::key(token).to_bytes().as_slice()) };
        let found = custom.copied().or_else(|| id::minted(token)).and_then(|number| {
            let (slot, state) = self.table.find(number)?;
            let entry = self.outbound.get(slot)?;
            (entry.record.wants_progress && entry.custom_token == custom.is_some()).then_some((slot, state))
        });
        let Some((slot, state)) = found else {
            self.counters.progress_unmatched += 1;
            return;
        };
        let Some(entry) = self.outbound.get(slot) else { return };
        self.output.lanes.take_up(entry.sent, now);
        let record = Arc::clone(&entry.record);
        let open = state == State::Sent || state == State::Task && self.rules.token_outlives_task_creation();
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
        let update = Progress {
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
        self.renew(slot, now);
        batch.events.push(Event::Progress {
            owner,
            record,
            update,
            frame: at,
            token: envelope.progress_token,
            foreign_meta: if envelope.subscription_id.is_empty() {
                envelope.foreign_meta
            } else {
                envelope.meta
            },
        });
    }

    pub(super) fn take_notification(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        envelope: &Envelope,
        batch: &mut Batch<H>,
    ) {
        let name = envelope.method_name(frame);
        if *name == *method::TASK_STATUS.as_bytes() || *name == *method::TASKS.as_bytes() {
            self.note_task_state(now, envelope.params.of(frame), batch);
        }
        self.rules.note_opened(&name);
        let mut owner = None;
        if let Some(number) = self.number_of(envelope.subscription_id.of(frame))
            && let Some((slot, State::Sent)) = self.table.find(number)
            && let Some(entry) = self.outbound.get(slot)
            // Nothing else has a subscription, whatever its number is.
            && *entry.record.method == *method::LISTEN
        {
            owner.clone_from(&entry.owner);
            if *name == *method::ACKNOWLEDGED.as_bytes() {
                self.disarm(slot);
            } else {
                self.renew(slot, now);
            }
        }
        batch.events.push(Event::Notification { frame: at, envelope: *envelope, owner });
    }
}
