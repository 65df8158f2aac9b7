//! Refused frames: a broken answer ends its call, a broken request is answered, the rest is counted.

use super::in_run;
use crate::connection::Connection;
use crate::connection::event::{Batch, End, Event, Host};
use crate::flight::record::Time;
use crate::flight::state::FlightEvent;
use crate::rules::Role;
use crate::wire::envelope::{self, Kind, Partial, Refusal, RefusalReason};
use crate::wire::span::Span;

/// Most bytes quoted of a line that is no message.
const NOISE: usize = 120;

/// Whether a line begins neither an object nor a batch of objects, so that it holds no payload.
fn is_noise(line: &[u8]) -> bool {
    let mut solid = line.iter().filter(|byte| !byte.is_ascii_whitespace());
    match solid.next() {
        Some(b'{') => false,
        Some(b'[') => !matches!(solid.next(), Some(b'{' | b'[')),
        _ => true,
    }
}

impl<H: Host> Connection<H> {
    /// Handles a refused frame: fails the call that it answers, or answers the request that it may be.
    pub(super) fn refuse(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        refusal: &Refusal,
        batch: &mut Batch<H>,
    ) {
        self.counters.frames_refused += 1;
        let Partial { id, has_outcome, has_method, .. } = refusal.partial;
        if has_outcome && !has_method {
            // A broken answer ends its own call, typed, and no other (RID-08 to RID-11).
            if let Some(number) = self.number_of(id.of(frame))
                && let Ok(moved) = self.table.claim(number, FlightEvent::Failed)
            {
                self.settle(now, moved.slot, number, End::Invalid(refusal.reason.message()), None, batch);
            }
        } else if self.owes_an_answer(refusal) {
            self.reject(id.of(frame), refusal.code(), refusal.reason.message(), &refusal.data());
        }
        let length = at.len();
        // The head of a line that is too long is a copy outside of the run.
        let is_quoted = is_noise(frame) && refusal.reason != RefusalReason::Oversized;
        let noise =
            if is_quoted { in_run(at, Span::new(0, NOISE.min(frame.len()))) } else { Span::default() };
        batch.events.push(Event::Refused { reason: refusal.reason, offset: refusal.offset, length, noise });
    }

    /// Whether a refused frame may have been a request, whose sender waits for an answer.
    ///
    /// A notification gets no answer (RID-13), nor does a line that a server printed by accident (TRS-02).
    fn owes_an_answer(&self, refusal: &Refusal) -> bool {
        let Partial { id, has_method, starts_as_message, .. } = refusal.partial;
        let noise = refusal.reason.is_syntax() && id.is_empty() && self.rules.role == Role::Client;
        starts_as_message
            && (!has_method || !id.is_empty() || refusal.reason == RefusalReason::NullId)
            && !noise
            && self.rules.accepts_requests()
    }

    /// Handles a line beyond `max_frame_bytes`, of which only the first bytes were kept.
    pub fn receive_oversized(&mut self, now: Time, head: &[u8], length: usize, batch: &mut Batch<H>) {
        self.counters.frames_oversized += 1;
        let partial = match envelope::scan(head, &self.scan_limits) {
            Err(refusal) => refusal.partial,
            Ok(whole) => Partial {
                id: whole.id,
                has_method: matches!(whole.kind, Kind::Request | Kind::Notification),
                has_outcome: matches!(whole.kind, Kind::Result | Kind::Error),
                starts_as_message: true,
            },
        };
        let refusal = Refusal { reason: RefusalReason::Oversized, offset: length, partial };
        self.refuse(now, head, Span::new(0, length), &refusal, batch);
    }

    /// Handles a last line that the end of the channel cut off.
    pub fn receive_truncated(&mut self, length: usize, batch: &mut Batch<H>) {
        self.counters.frames_refused += 1;
        let (reason, noise) = (RefusalReason::Truncated, Span::default());
        batch.events.push(Event::Refused { reason, offset: length, length, noise });
    }
}
