//! Ends of exchanges on the requesting side: by the server's answer, or by an error of the relay's own.

use std::sync::Arc;

use crate::connection::event::{AnswerFrame, Batch, End};
use crate::flight::record::Record;
use crate::flight::state::{CancelledBy, Outcome};
use crate::limits::clip;
use crate::relay::admission;
use crate::relay::exchange::{Leg, Owner};
use crate::relay::fault::Fault;
use crate::relay::participant::Participant;
use crate::relay::pass::{DestConnection, RoutingPass};
use crate::relay::upstream::{MAX_UPSTREAM_IN_FLIGHT, Upstream};
use crate::relay::{Endpoint, Relay, RelayBatch, add};
use crate::rules::{Rules, method};
use crate::sync::lock;
use crate::wire::envelope;
use crate::wire::span::Span;
use crate::wire::text::Text;

/// Whether an extension says how the request ended, of which a legacy client knows nothing.
fn is_untellable(of_client: &Rules, method: &str, frame: &[u8], answered: &AnswerFrame) -> bool {
    !answered.result_type.is_empty()
        && !of_client.has_result_type()
        && answered.revision.is_modern()
        && envelope::unescape(answered.result_type.of(frame))
            .is_none_or(|said| of_client.may_end_with(method, &said).is_none())
}

impl<L: Endpoint> Relay<L> {
    /// Ends an exchange on the requesting side, as its other leg ended.
    pub(super) fn settle(
        &self,
        pass: &mut RoutingPass<'_, L>,
        (source, dest): (&Participant<L>, &Participant<L>),
        to: &mut DestConnection<L>,
        leg: Leg,
        (record, end, answer): (&Arc<Record>, End, Option<&AnswerFrame>),
        made: &mut RelayBatch<L>,
    ) {
        let fault = match (end, answer) {
            (End::Result(_) | End::Error(_), Some(answered)) => {
                let frame = answered.frame.of(pass.region);
                let is_rewritten = to.intercepted.contains(&*record.method);
                let about = (&source.kind, &dest.kind);
                let checked = match self.checked_answer(about, is_rewritten, record, frame, answered) {
                    // What an extension means by it, a legacy client cannot be told (RID-18).
                    Ok(_) if is_untellable(&to.rules, &record.method, frame, answered) => {
                        Err(Fault::InvalidAnswer("the result's resultType means nothing to this client"))
                    }
                    checked => checked,
                };
                if checked.is_ok() && (!answered.needs_input || to.rules.revision.is_modern()) {
                    let is_error = matches!(end, End::Error(_));
                    let sealed = checked.unwrap_or_default();
                    let (frame, answered) = sealed
                        .as_deref()
                        .map_or((frame, answered), |(frame, answered)| (&frame[..], answered));
                    let passed = to.forward_answer(pass.now, leg.number, frame, answered, is_error, made);
                    match (passed.written, &passed.finished) {
                        (true, _) => pass.answered += 1,
                        (false, Some(_)) => add(&self.counts.undelivered),
                        (false, None) => add(&self.counts.too_late),
                    }
                    pass.routed.finished.extend(passed.finished);
                    return;
                }
                match (checked, dest.kind.budget_for(&record.method)) {
                    (Err(fault), _) => fault,
                    (Ok(_), Some(budget)) => Fault::Overloaded(budget.exceeded()),
                    (Ok(_), None) => Fault::NotBridged,
                }
            }
            (End::Result(_) | End::Error(_), None) => Fault::InvalidAnswer("the answer is not there"),
            (End::Invalid(fault), _) => Fault::InvalidAnswer(fault),
            (End::Local(Outcome::Cancelled), _) => match record.cancelled_by() {
                // A server cancels nothing but a listen (CAN-30).
                Some(CancelledBy::Peer) => {
                    to.end_listen_of_peer(pass.now, leg.number, record.reason(), made);
                    return;
                }
                Some(CancelledBy::Shutdown) if source.kind.is_detached() => Fault::Detached,
                Some(CancelledBy::Shutdown) => Fault::Closed,
                _ => Fault::Cancelled,
            },
            (End::Local(outcome), _) => Fault::of_end(outcome),
        };
        self.end_with(pass, source, to, leg, (record, fault));
    }

    /// Ends an exchange whose far leg ended without an answer that could be passed on.
    #[inline(never)]
    fn end_with(
        &self,
        pass: &mut RoutingPass<'_, L>,
        source: &Participant<L>,
        to: &mut DestConnection<L>,
        leg: Leg,
        (record, fault): (&Record, Fault),
    ) {
        if fault == Fault::Closed && &*record.method == method::LISTEN {
            pass.routed.finished.extend(to.close_listen_of_peer(pass.now, leg.number).finished);
            return;
        }
        let sent = record.written().is_some();
        self.answer_fault(pass, to, leg.number, (fault, ""), sent, source.kind.upstream());
    }

    /// Answers a request with an error of the relay's own; `about` is the peer's text that the error quotes.
    fn answer_fault(
        &self,
        pass: &mut RoutingPass<'_, L>,
        to: &mut DestConnection<L>,
        number: u64,
        (fault, about): (Fault, &str),
        sent: bool,
        upstream: Option<&Arc<Upstream>>,
    ) {
        let name = upstream.map_or("", |upstream| &*upstream.name);
        let about = clip(about, to.limits.max_text_bytes);
        let (message, data) = (fault.message_about(about), fault.data(sent, name, about));
        let answered = to.answer(pass.now, number, fault.answer(&message, &data));
        pass.routed.finished.extend(answered.finished);
        if answered.written {
            add(match fault {
                Fault::Timeout => &self.counts.timed_out,
                Fault::UpstreamClosed | Fault::Unreachable => &self.counts.upstream_closed,
                Fault::Draining | Fault::Closed => &self.counts.drained,
                Fault::Detached => &self.counts.detached,
                Fault::Overloaded(exceeded) => match exceeded.limit {
                    "max_in_flight" => &self.counts.overloaded_in_flight,
                    admission::SHARE => &self.counts.overloaded_share,
                    MAX_UPSTREAM_IN_FLIGHT => &self.counts.overloaded_upstream,
                    "max_queued_requests" | "max_queued_bytes" => &self.counts.overloaded_queue,
                    _ => &self.counts.overloaded,
                },
                Fault::RateLimited { .. } => &self.counts.rate_limited,
                Fault::NoAttribution => &self.counts.unattributed,
                Fault::UnknownTask | Fault::UnknownState => &self.counts.unowned,
                _ => &self.counts.refused,
            });
        }
    }

    /// Attaches the legs to the source's requests, and answers those that could not be forwarded.
    pub(super) fn finish_source(&self, pass: &mut RoutingPass<'_, L>, participant: &Participant<L>) {
        if pass.legs.is_empty() && pass.faults.is_empty() {
            return;
        }
        let (legs, faults) = (std::mem::take(&mut pass.legs), std::mem::take(&mut pass.faults));
        let mut orphans = Vec::new();
        {
            let mut from = lock(participant.endpoint.connection());
            for (number, leg) in legs {
                if !from.attach(number, Owner::Leg(leg)) {
                    orphans.push(leg);
                }
            }
            if !faults.is_empty() {
                pass.touch(participant);
            }
            let mut names = std::mem::take(&mut pass.names).into_iter();
            for (number, fault, upstream) in faults {
                let name =
                    if fault.concerns_name() { names.next().unwrap_or_default() } else { Span::default() };
                let about = envelope::unescape(name.of(pass.region)).unwrap_or_default();
                self.answer_fault(pass, &mut from, number, (fault, &about), false, upstream.as_ref());
            }
        }
        for leg in orphans {
            // The request ended between the phases, before a cancel could find the leg. If it was answered, the
            // leg is over, too, and this has no effect.
            self.cancel_leg(pass, leg, CancelledBy::Caller, None);
        }
    }

    /// Cancels a leg whose exchange is over on the requesting side; nothing happens where it is over, too.
    pub(super) fn cancel_leg(
        &self,
        pass: &mut RoutingPass<'_, L>,
        leg: Leg,
        by: CancelledBy,
        reason: Option<&Text>,
    ) {
        let Some(far) = self.participant(leg.connection) else { return };
        let mut made = Batch::default();
        let won = {
            let mut far = lock(far.endpoint.connection());
            let won = far.cancel(pass.now, leg.number, by, reason, &mut made);
            far.record_finished(&mut made);
            won
        };
        if won {
            add(&self.counts.cancelled);
            pass.touch(&far);
            pass.follow_ups.push_back((leg.connection, made));
        }
    }
}
