//! What comes in: each frame is scanned once, matched against the flights, and turned into events.
//!
//! Which kind of message it is, is decided here; what it means is beside it: `results` (answers to our requests),
//! `requests` (the peer's, and their cancels), `notifications`, and `refused` for what is no message.

mod notifications;
mod refused;
mod requests;
mod results;

use std::borrow::Cow;

use crate::connection::{Connection, INVALID_REQUEST};
use crate::envelope::{self, Envelope, Kind, Refusal, RefusalReason};
use crate::event::{Batch, Host, Look};
use crate::frames::FrameBuffer;
use crate::record::Time;
use crate::rules::method;
use crate::span::Span;

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

/// Whether a frame was refused for a carriage return between two values: see [`flatten`](crate::scan::flatten).
fn is_line_end(frame: &[u8], refusal: &Refusal) -> bool {
    refusal.reason != RefusalReason::ControlCharacter && frame.get(refusal.offset) == Some(&b'\r')
}

impl<H: Host> Connection<H> {
    /// Takes one frame. `at` is where it stands in the run that the events' spans refer to.
    ///
    /// Leaves a message that the host wants to look at (`held`) untouched and says what it is; the host then says
    /// what to do by [`Connection::receive_looked_at`] or [`Connection::reject`], before it goes on with the next
    /// frame. A batch with such a message is taken member by member: see [`Look::Batch`].
    ///
    /// A frame with a carriage return between two values is refused: only [`Connection::receive_from`] can mend it.
    pub fn receive(&mut self, now: Time, frame: &[u8], at: Span, batch: &mut Batch<H>) -> Option<Look> {
        self.counters.frames_in += 1;
        self.counters.bytes_in += frame.len() as u64 + 1;
        if self.is_over() {
            // What comes after the end starts nothing: there is nobody left to answer to.
            return None;
        }
        if !self.held.is_empty()
            && let Some(look) = self.looks_at(frame)
        {
            return Some(look);
        }
        self.receive_looked_at(now, frame, at, batch);
        None
    }

    /// Takes one frame that stands in a buffer, as [`Connection::receive`] does. One that is not flat is made so: what is
    /// passed on, or kept, is one line to every reader.
    pub fn receive_from(
        &mut self,
        now: Time,
        frames: &mut FrameBuffer,
        at: Span,
        batch: &mut Batch<H>,
    ) -> Option<Look> {
        let frame = at.of(frames.region());
        self.counters.frames_in += 1;
        self.counters.bytes_in += frame.len() as u64 + 1;
        if self.is_over() {
            return None;
        }
        if !self.held.is_empty()
            && let Some(look) = self.looks_at(frame)
        {
            return Some(look);
        }
        match envelope::scan(frame, &self.scan_limits) {
            Ok(envelope) => self.take(now, frame, at, &envelope, batch),
            Err(refusal) => {
                if is_line_end(frame, &refusal) && frames.flatten(at) {
                    let look = self.looks_at(at.of(frames.region()));
                    if look.is_some() {
                        return look;
                    }
                }
                self.receive_looked_at(now, at.of(frames.region()), at, batch);
            }
        }
        None
    }

    fn looks_at(&self, frame: &[u8]) -> Option<Look> {
        match envelope::scan(frame, &self.scan_limits) {
            Ok(envelope) => self.is_held(frame, &envelope).then_some(Look::Message(envelope)),
            Err(refusal) if refusal.reason == RefusalReason::Batch && self.rules.takes_batches() => {
                let members = envelope::batch(frame, &self.scan_limits).ok()?;
                let held = |member: &Span| self.looks_at_member(member.of(frame)).is_some();
                members.iter().any(held).then_some(Look::Batch(members))
            }
            Err(_) => None,
        }
    }

    /// The envelope of a member of a batch that the host wants to look at.
    pub fn looks_at_member(&self, member: &[u8]) -> Option<Envelope> {
        let envelope = envelope::scan(member, &self.scan_limits).ok()?;
        self.is_held(member, &envelope).then_some(envelope)
    }

    fn is_held(&self, frame: &[u8], envelope: &Envelope) -> bool {
        std::str::from_utf8(&envelope.method_name(frame)).is_ok_and(|method| self.held.contains(method))
    }

    /// Takes one frame that the host has looked at.
    pub fn receive_looked_at(&mut self, now: Time, frame: &[u8], at: Span, batch: &mut Batch<H>) {
        if self.is_over() {
            return;
        }
        let mut envelope = Envelope::EMPTY;
        match envelope::scan_into(frame, &self.scan_limits, &mut envelope) {
            Ok(()) => self.take(now, frame, at, &envelope, batch),
            Err(refusal) if refusal.reason == RefusalReason::Batch && self.rules.takes_batches() => {
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

    /// Takes one message of a batch (BAT-02, BAT-03).
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
            Ok(envelope) => self.take(now, frame, at, &envelope, batch),
            Err(refusal) => self.refuse(now, frame, at, &refusal, batch),
        }
    }

    fn take(&mut self, now: Time, frame: &[u8], at: Span, envelope: &Envelope, batch: &mut Batch<H>) {
        match envelope.kind {
            Kind::Result => self.take_result(now, frame, at, envelope, batch),
            Kind::Error => self.take_error(now, frame, at, envelope, batch),
            Kind::Request => self.take_request(now, frame, at, envelope, batch),
            Kind::Notification => match &*envelope.method_name(frame) {
                b"notifications/progress" => self.take_progress(now, frame, at, envelope, batch),
                b"notifications/cancelled" => self.take_cancel(now, frame, at, envelope, batch),
                _ => self.take_notification(now, frame, at, envelope, batch),
            },
        }
    }
}
