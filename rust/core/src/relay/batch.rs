//! Routes one batch: each run of events with one destination locks that destination once.

use crate::connection::event::{Batch, Event};
use crate::connection::receive::in_run;
use crate::flight::record::Time;
use crate::flight::state::CancelledBy;
use crate::relay::admission::Admission;
use crate::relay::disposition::{Disposition, leg_of};
use crate::relay::exchange::Owner;
use crate::relay::fault::Fault;
use crate::relay::key::Key;
use crate::relay::participant::Participant;
use crate::relay::pass::{DestConnection, RelayEvent, RoutingPass};
use crate::relay::{Endpoint, Relay, RelayBatch, Routed, add};
use crate::sync::{Ordering, lock};

impl<L: Endpoint> Relay<L> {
    /// Applies the events of a batch of `source` to other connections; the events left in the batch are the
    /// host's.
    ///
    /// `region` is what the batch's spans refer to. No connection may be locked by the caller.
    pub fn route(&self, source: Key, region: &[u8], now: Time, batch: &mut RelayBatch<L>) -> Routed<L> {
        // No request goes to a server that is gone, including requests that arrive in this very pass (U1).
        self.close_ended(source);
        if batch.is_empty() {
            return Routed::default();
        }
        let mut pass = RoutingPass::new(self, region, now);
        self.route_batch(&mut pass, source, batch);
        self.route_follow_ups(pass)
    }

    /// Routes the events that destinations emitted in turn, until none are left.
    pub(super) fn route_follow_ups(&self, mut pass: RoutingPass<'_, L>) -> Routed<L> {
        pass.region = b"";
        while let Some((key, mut batch)) = pass.follow_ups.pop_front() {
            self.route_batch(&mut pass, key, &mut batch);
            if !batch.events.is_empty()
                && let Some(endpoint) = self.endpoint(key)
            {
                pass.routed.unrouted.push((endpoint, batch));
            }
        }
        pass.routed
    }

    fn route_batch(&self, pass: &mut RoutingPass<'_, L>, source: Key, batch: &mut RelayBatch<L>) {
        if let Some(participant) = self.participant(source) {
            self.route_events(pass, &participant, batch);
        }
    }

    /// Routes the events of one participant, whether the relay still knows it or not.
    pub(super) fn route_events(
        &self,
        pass: &mut RoutingPass<'_, L>,
        participant: &Participant<L>,
        batch: &mut RelayBatch<L>,
    ) {
        let mut unrouted: Vec<usize> = Vec::new();
        if self.is_watchful() {
            self.look_at(pass, participant, batch);
        }
        let mut at = 0;
        while at < batch.events.len() {
            let event = &batch.events[at];
            let disposition = self.disposition(participant, event, pass.region);
            if !matches!(disposition, Disposition::To(_)) {
                self.note_task(participant, None, event);
                Self::note_unmatched_task(participant, pass.region, event);
            }
            match (disposition, event) {
                (Disposition::To(key), _) => {
                    let start = at;
                    let goes_there =
                        |next: &RelayEvent<L>| match self.disposition(participant, next, pass.region) {
                            Disposition::To(next) => next == key,
                            _ => false,
                        };
                    while batch.events.get(at + 1).is_some_and(goes_there) {
                        at += 1;
                    }
                    self.route_run(pass, participant, key, &batch.events[start..=at]);
                }
                (Disposition::Fail(fault, position), Event::Request { record, frame, envelope, .. }) => {
                    let upstream = position.and_then(|position| participant.kind.upstream_at(position));
                    pass.faults.push((record.number, fault, upstream.cloned()));
                    if let Some(name) = fault.name(envelope) {
                        pass.names.push(in_run(*frame, name));
                    }
                }
                (Disposition::Broadcast, _) => {
                    self.broadcast(pass, participant, event);
                    unrouted.push(at);
                }
                (Disposition::Host, _) => {
                    if let Some(leg) = leg_of(event) {
                        self.note_ended(
                            participant,
                            self.participant(leg.connection).as_deref(),
                            std::slice::from_ref(event),
                        );
                    }
                    if let Event::Request { .. } = event {
                        add(&self.counts.to_host);
                    }
                    unrouted.push(at);
                }
                (_, Event::Request { .. }) => add(&self.counts.cancelled_unsent),
                (_, Event::Notification { .. }) => add(&self.counts.notifications_dropped),
                _ => {}
            }
            at += 1;
        }
        self.finish_source(pass, participant);
        if unrouted.is_empty() {
            batch.events.clear();
        } else if unrouted.len() < batch.events.len() {
            let mut unrouted = unrouted.into_iter().peekable();
            let mut index = 0..;
            batch.events.retain(|_| unrouted.next_if_eq(&index.next().unwrap_or(usize::MAX)).is_some());
        }
    }

    /// Applies a run of events to one connection.
    pub(super) fn route_run(
        &self,
        pass: &mut RoutingPass<'_, L>,
        source: &Participant<L>,
        key: Key,
        events: &[RelayEvent<L>],
    ) {
        let participant = self.participant(key);
        self.note_ended(source, participant.as_deref(), events);
        let Some(participant) = participant else {
            for event in events {
                self.note_task(source, None, event);
                if let Event::Request { record, .. } = event {
                    pass.faults.push((record.number, Fault::UpstreamClosed, None));
                }
            }
            return;
        };
        let mut made = Batch::default();
        match events {
            [Event::Request { .. }, ..] => pass.legs.reserve(events.len()),
            [Event::Settled { .. }, ..] => made.finished.reserve(events.len()),
            _ => {}
        }
        {
            let mut to = lock(participant.endpoint.connection());
            for event in events {
                self.apply(pass, source, &participant, &mut to, event, &mut made);
            }
            to.record_finished(&mut made);
            to.settle_account();
        }
        let counted =
            [(&self.counts.forwarded, &mut pass.forwarded), (&self.counts.answered, &mut pass.answered)];
        for (total, count) in counted.into_iter().filter(|(_, count)| **count > 0) {
            total.fetch_add(std::mem::take(count), Ordering::Relaxed);
        }
        pass.touch(&participant);
        if pass.routed.finished.is_empty() {
            std::mem::swap(&mut pass.routed.finished, &mut made.finished);
        } else {
            pass.routed.finished.append(&mut made.finished);
        }
        if !made.is_empty() {
            pass.follow_ups.push_back((key, made));
        }
    }

    /// Counts requests of a client's no longer that have ended at a server.
    #[inline]
    fn note_ended(&self, server: &Participant<L>, client: Option<&Participant<L>>, events: &[RelayEvent<L>]) {
        let ended = events.iter().filter(|event| match event {
            Event::Settled { record, .. } => leg_of(event).is_some() && Admission::counts(record),
            _ => false,
        });
        let ended = ended.count();
        self.admission.leave(ended, client.and_then(|client| client.kind.share()));
        server.kind.note_left(ended);
    }

    fn apply(
        &self,
        pass: &mut RoutingPass<'_, L>,
        source: &Participant<L>,
        dest: &Participant<L>,
        to: &mut DestConnection<L>,
        event: &RelayEvent<L>,
        made: &mut RelayBatch<L>,
    ) {
        let (region, now) = (pass.region, pass.now);
        match event {
            Event::Request { record, frame, envelope, revision, during } => {
                let during = during.as_ref().and_then(Owner::leg);
                let traced =
                    if self.is_watchful() { self.traced(record, frame.of(region), envelope) } else { None };
                let (frame, envelope, trace) = match traced.as_deref() {
                    Some((frame, envelope, trace)) => (&frame[..], envelope, Some(trace)),
                    None => (frame.of(region), envelope, None),
                };
                let request = (record, frame, envelope, *revision);
                self.forward(pass, (source, dest), to, request, during, trace);
            }
            Event::Settled { record, end, answer, .. } => {
                let Some(leg) = leg_of(event) else { return };
                self.note_task(source, Some(dest), event);
                self.settle(pass, (source, dest), to, leg, (record, *end, answer.as_ref()), made);
            }
            Event::Progress { update, frame, token, foreign_meta, .. } => {
                let Some(leg) = leg_of(event) else { return };
                let spans = (*token, *foreign_meta);
                let passed = to.forward_progress(leg.number, frame.of(region), spans, update, now);
                add(if passed { &self.counts.progress } else { &self.counts.too_late });
            }
            Event::Cancelled { record, .. } => {
                let Some(leg) = leg_of(event) else { return };
                let by = match record.cancelled_by() {
                    Some(CancelledBy::Peer) | None => CancelledBy::Caller,
                    Some(by) => by,
                };
                if to.cancel(now, leg.number, by, record.reason(), made) {
                    add(&self.counts.cancelled);
                }
            }
            Event::Notification { frame, envelope, .. } => {
                let Some(leg) = leg_of(event) else { return };
                let passed = Self::may_hear(source, dest, frame.of(region), envelope)
                    && to.forward_notification(frame.of(region), envelope, Some(leg.number)).is_ok();
                add(if passed { &self.counts.notified } else { &self.counts.notifications_dropped });
            }
            Event::TaskOver { .. } => {
                let Some(leg) = leg_of(event) else { return };
                to.end_task_of_peer(now, leg.number);
            }
            _ => {}
        }
    }
}
