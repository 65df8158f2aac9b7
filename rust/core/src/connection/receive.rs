//! Incoming frames: each is scanned once, matched against the flights, and turned into events.
//!
//! This file decides the kind of a message; its modules handle it: `results` (answers to our requests),
//! `requests` (the peer's, and their cancels), `notifications`, and `refused` (frames that are no message).

mod notifications;
mod refused;
mod requests;
mod results;

use std::borrow::Cow;

use crate::codes::INVALID_REQUEST;
use crate::connection::Connection;
use crate::connection::event::{Batch, Host, Intercept};
use crate::flight::record::Time;
use crate::rules::method;
use crate::wire::envelope::{self, Envelope, Kind, Refusal, RefusalReason};
use crate::wire::frames::{FrameBuffer, Item};
use crate::wire::span::Span;

/// The span of `inner`, which stands in a frame, in the run that holds the frame.
pub(crate) fn in_run(frame: Span, inner: Span) -> Span {
    if inner.is_empty() {
        inner
    } else {
        Span { start: frame.start + inner.start, end: frame.start + inner.end }
    }
}

/// A JSON string as it is spelled without needless escapes; anything else as it is.
fn plain(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    envelope::unescape(raw).map_or(Cow::Borrowed(raw), |text| Cow::Owned(format!("\"{text}\"").into_bytes()))
}

/// Whether a frame was refused for a carriage return between two values: see [`flatten`](crate::wire::scan::flatten).
fn is_line_end(frame: &[u8], refusal: &Refusal) -> bool {
    refusal.reason != RefusalReason::ControlCharacter && frame.get(refusal.offset) == Some(&b'\r')
}

impl<H: Host> Connection<H> {
    /// Receives one frame. `at` is its span in the run that the events' spans refer to.
    ///
    /// Returns a message that the host intercepts unprocessed; the host then decides by
    /// [`Connection::resume_intercepted`] or [`Connection::reject`], before it goes on with the next frame. A
    /// batch with such a message is received member by member: see [`Intercept::Batch`].
    ///
    /// A frame with a carriage return between two values is refused: only [`Connection::receive_from`] can mend it.
    pub fn receive(&mut self, now: Time, frame: &[u8], at: Span, batch: &mut Batch<H>) -> Option<Intercept> {
        self.counters.frames_in += 1;
        self.counters.bytes_in += frame.len() as u64 + 1;
        if self.is_over() {
            // A frame after the end has no effect: no answer could be sent.
            return None;
        }
        if !self.intercepted.is_empty()
            && let Some(look) = self.intercept(frame)
        {
            return Some(look);
        }
        self.resume_intercepted(now, frame, at, batch);
        None
    }

    /// Takes one frame whose envelope is known, as [`Connection::receive`] does.
    pub(super) fn receive_known(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        envelope: &Envelope,
        batch: &mut Batch<H>,
    ) -> Option<Intercept> {
        self.counters.frames_in += 1;
        self.counters.bytes_in += frame.len() as u64 + 1;
        if self.is_over() {
            return None;
        }
        if !self.intercepted.is_empty() && self.is_intercepted(frame, envelope) {
            return Some(Intercept::Message(*envelope));
        }
        self.receive_message(now, frame, at, envelope, batch);
        None
    }

    /// Takes every whole frame that stands in a buffer, up to one that is intercepted: that one, and where it stands.
    /// The rest follows with the next call.
    pub fn receive_frames(
        &mut self,
        now: Time,
        frames: &mut FrameBuffer,
        batch: &mut Batch<H>,
    ) -> Option<(Intercept, Span)> {
        let mut intercepted = None;
        while let Some(item) = frames.next_item() {
            match item {
                Item::Frame(at) => {
                    if let Some(look) = self.receive_from(now, frames, at, batch) {
                        intercepted = Some((look, at));
                        break;
                    }
                }
                Item::Oversized { length, head } => self.receive_oversized(now, &head, length, batch),
                Item::Truncated { length } => self.receive_truncated(length, batch),
            }
        }
        self.record_finished(batch);
        self.note_unfinished(now, frames.unfinished(), frames.capacity());
        intercepted
    }

    /// Takes one frame that stands in a buffer, as [`Connection::receive`] does. One that is not flat is made so: what is
    /// passed on, or kept, is one line to every reader.
    pub fn receive_from(
        &mut self,
        now: Time,
        frames: &mut FrameBuffer,
        at: Span,
        batch: &mut Batch<H>,
    ) -> Option<Intercept> {
        let frame = at.of(frames.region());
        self.counters.frames_in += 1;
        self.counters.bytes_in += frame.len() as u64 + 1;
        if self.is_over() {
            return None;
        }
        if !self.intercepted.is_empty()
            && let Some(look) = self.intercept(frame)
        {
            return Some(look);
        }
        match envelope::scan(frame, &self.scan_limits) {
            Ok(envelope) => self.receive_message(now, frame, at, &envelope, batch),
            Err(refusal) => {
                if is_line_end(frame, &refusal) && frames.flatten(at) {
                    let look = self.intercept(at.of(frames.region()));
                    if look.is_some() {
                        return look;
                    }
                }
                self.resume_intercepted(now, at.of(frames.region()), at, batch);
            }
        }
        None
    }

    fn intercept(&self, frame: &[u8]) -> Option<Intercept> {
        match envelope::scan(frame, &self.scan_limits) {
            Ok(envelope) => self.is_intercepted(frame, &envelope).then_some(Intercept::Message(envelope)),
            Err(refusal) if refusal.reason == RefusalReason::Batch && self.rules.accepts_batches() => {
                let members = envelope::batch(frame, &self.scan_limits).ok()?;
                let held = |member: &Span| self.intercept_member(member.of(frame)).is_some();
                members.iter().any(held).then_some(Intercept::Batch(members))
            }
            Err(_) => None,
        }
    }

    /// The envelope of a member of a batch, where the host intercepts it.
    pub fn intercept_member(&self, member: &[u8]) -> Option<Envelope> {
        let envelope = envelope::scan(member, &self.scan_limits).ok()?;
        self.is_intercepted(member, &envelope).then_some(envelope)
    }

    fn is_intercepted(&self, frame: &[u8], envelope: &Envelope) -> bool {
        std::str::from_utf8(&envelope.method_name(frame))
            .is_ok_and(|method| self.intercepted.contains(method))
    }

    /// Receives one frame that the host intercepted.
    pub fn resume_intercepted(&mut self, now: Time, frame: &[u8], at: Span, batch: &mut Batch<H>) {
        if self.is_over() {
            return;
        }
        let mut envelope = Envelope::EMPTY;
        match envelope::scan_into(frame, &self.scan_limits, &mut envelope) {
            Ok(()) => self.receive_message(now, frame, at, &envelope, batch),
            Err(refusal) if refusal.reason == RefusalReason::Batch && self.rules.accepts_batches() => {
                match envelope::batch(frame, &self.scan_limits) {
                    Ok(members) => {
                        for member in members {
                            self.receive_member(now, member.of(frame), in_run(at, member), batch);
                        }
                    }
                    Err(refusal) => self.refuse(now, frame, at, &refusal, batch),
                }
            }
            Err(refusal) => self.refuse(now, frame, at, &refusal, batch),
        }
    }

    /// Receives one message of a batch (BAT-02, BAT-03).
    pub fn receive_member(&mut self, now: Time, frame: &[u8], at: Span, batch: &mut Batch<H>) {
        match envelope::scan(frame, &self.scan_limits) {
            Ok(envelope) if *envelope.method_name(frame) == *method::INITIALIZE.as_bytes() => {
                self.counters.violations += 1;
                if envelope.kind == Kind::Request {
                    self.reject(
                        envelope.id.of(frame),
                        INVALID_REQUEST,
                        "initialize is not part of a batch",
                        b"",
                    );
                }
            }
            Ok(envelope) => self.receive_message(now, frame, at, &envelope, batch),
            Err(refusal) => self.refuse(now, frame, at, &refusal, batch),
        }
    }

    fn receive_message(
        &mut self,
        now: Time,
        frame: &[u8],
        at: Span,
        envelope: &Envelope,
        batch: &mut Batch<H>,
    ) {
        match envelope.kind {
            Kind::Result => self.receive_result(now, frame, at, envelope, batch),
            Kind::Error => self.receive_error(now, frame, at, envelope, batch),
            Kind::Request => self.receive_request(now, frame, at, envelope, batch),
            Kind::Notification => match &*envelope.method_name(frame) {
                b"notifications/progress" => self.receive_progress(now, frame, at, envelope, batch),
                b"notifications/cancelled" => self.receive_cancel(now, frame, at, envelope, batch),
                _ => self.receive_notification(now, frame, at, envelope, batch),
            },
        }
    }
}
