//! How exchanges end on the side that asked: by the server's answer, or by a word of the relay's own.

use std::sync::Arc;

use crate::envelope;
use crate::event::{AnswerFrame, Batch, End};
use crate::flight::{CancelledBy, Outcome};
use crate::limits::clip;
use crate::record::Record;
use crate::relay::admission;
use crate::relay::exchange::{Leg, Owner};
use crate::relay::fault::Fault;
use crate::relay::member::Member;
use crate::relay::round::{Far, Round};
use crate::relay::{Events, Line, Relay, add};
use crate::rules::method;
use crate::span::Span;
use crate::sync::lock;

impl<L: Line> Relay<L> {
    /// Ends an exchange on the side that asked, as its far leg ended.
    pub(super) fn settle(
        &self,
        round: &mut Round<'_, L>,
        (source, dest): (&Member<L>, &Member<L>),
        to: &mut Far<L>,
        leg: Leg,
        (record, end, answer): (&Arc<Record>, End, Option<&AnswerFrame>),
        made: &mut Events<L>,
    ) {
        let fault = match (end, answer) {
            (End::Result(_) | End::Error(_), Some(answered)) => {
                let frame = answered.frame.of(round.region);
                let checked = self.checked_answer((&source.side, &dest.side), record, frame, answered);
                if checked.is_ok() && (!answered.asks || to.rules.revision.is_modern()) {
                    let is_error = matches!(end, End::Error(_));
                    let sealed = checked.unwrap_or_default();
                    let (frame, answered) = sealed
                        .as_deref()
                        .map_or((frame, answered), |(frame, answered)| (&frame[..], answered));
                    let passed = to.answer_with(round.now, leg.number, frame, answered, is_error, made);
                    match (passed.written, &passed.finished) {
                        (true, _) => round.answered += 1,
                        (false, Some(_)) => add(&self.counts.undelivered),
                        (false, None) => add(&self.counts.too_late),
                    }
                    round.routed.finished.extend(passed.finished);
                    return;
                }
                match (checked, dest.side.room_for(&record.method)) {
                    (Err(fault), _) => fault,
                    (Ok(_), Some(room)) => Fault::Overloaded(room.exceeded()),
                    (Ok(_), None) => Fault::NotBridged,
                }
            }
            (End::Result(_) | End::Error(_), None) => Fault::InvalidAnswer("the answer is not there"),
            (End::Invalid(fault), _) => Fault::InvalidAnswer(fault),
            (End::Local(Outcome::Cancelled), _) => match record.cancelled_by() {
                // A server cancels nothing but a listen (CAN-30).
                Some(CancelledBy::Peer) => {
                    to.end_listen_of_peer(round.now, leg.number, record.reason(), made);
                    return;
                }
                Some(CancelledBy::Shutdown) => Fault::Closed,
                _ => Fault::Cancelled,
            },
            (End::Local(outcome), _) => Fault::of_end(outcome),
        };
        self.end_with(round, source, to, leg, (record, fault));
    }

    /// Ends an exchange whose far leg ended without an answer that could be passed on.
    #[inline(never)]
    fn end_with(
        &self,
        round: &mut Round<'_, L>,
        source: &Member<L>,
        to: &mut Far<L>,
        leg: Leg,
        (record, fault): (&Record, Fault),
    ) {
        if fault == Fault::Closed && &*record.method == method::LISTEN {
            round.routed.finished.extend(to.close_listen_of_peer(round.now, leg.number).finished);
            return;
        }
        let sent = record.written().is_some();
        self.fail(round, to, leg.number, (fault, ""), sent, source.side.position());
    }

    /// Answers a request on the relay's own account, about a text of its peer's if that is the fault.
    fn fail(
        &self,
        round: &mut Round<'_, L>,
        to: &mut Far<L>,
        number: u64,
        (fault, about): (Fault, &str),
        sent: bool,
        position: Option<usize>,
    ) {
        let name =
            position.and_then(|position| self.upstreams.get(position)).map_or("", |upstream| &*upstream.name);
        let about = clip(about, to.limits.max_text_bytes);
        let (message, data) = (fault.message_about(about), fault.data(sent, name, about));
        let answered = to.answer(round.now, number, fault.answer(&message, &data));
        round.routed.finished.extend(answered.finished);
        if answered.written {
            add(match fault {
                Fault::Timeout => &self.counts.timed_out,
                Fault::UpstreamClosed | Fault::NotThere => &self.counts.upstream_closed,
                Fault::Draining | Fault::Closed => &self.counts.drained,
                Fault::Overloaded(exceeded) => match exceeded.limit {
                    "max_in_flight" => &self.counts.overloaded_in_flight,
                    admission::SHARE => &self.counts.overloaded_share,
                    "max_queued_requests" | "max_queued_bytes" => &self.counts.overloaded_queue,
                    _ => &self.counts.overloaded,
                },
                Fault::NoAttribution => &self.counts.unattributed,
                Fault::UnknownTask | Fault::UnknownState => &self.counts.unowned,
                _ => &self.counts.refused,
            });
        }
    }

    /// Hangs the legs on the source's requests, and answers those that could not be passed on.
    pub(super) fn settle_up(&self, round: &mut Round<'_, L>, member: &Member<L>) {
        if round.legs.is_empty() && round.faults.is_empty() {
            return;
        }
        let (legs, faults) = (std::mem::take(&mut round.legs), std::mem::take(&mut round.faults));
        let mut orphans = Vec::new();
        {
            let mut from = lock(member.line.connection());
            for (number, leg) in legs {
                if !from.attach(number, Owner::Leg(leg)) {
                    orphans.push(leg);
                }
            }
            if !faults.is_empty() {
                round.touch(member);
            }
            let mut names = std::mem::take(&mut round.names).into_iter();
            for (number, fault, position) in faults {
                let name =
                    if fault.is_about_a_name() { names.next().unwrap_or_default() } else { Span::default() };
                let about = envelope::unescape(name.of(round.region)).unwrap_or_default();
                self.fail(round, &mut from, number, (fault, &about), false, position);
            }
        }
        for leg in orphans {
            // Its request ended between the phases, when no cancel could find the leg yet. If it was answered, the
            // leg is over, too, and this does nothing.
            let Some(far) = self.member(leg.line) else { continue };
            let mut made = Batch::default();
            let won = lock(far.line.connection()).cancel(
                round.now,
                leg.number,
                CancelledBy::Caller,
                None,
                &mut made,
            );
            if won {
                add(&self.counts.cancelled);
                round.follow.push_back((leg.line, made));
            }
        }
    }
}
