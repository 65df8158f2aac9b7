//! One batch carried over: for each run of events with one destination, that destination is locked once.

use crate::event::{Batch, Event};
use crate::flight::CancelledBy;
use crate::receive::in_run;
use crate::record::Time;
use crate::relay::admission::Admission;
use crate::relay::exchange::Key;
use crate::relay::fault::Fault;
use crate::relay::member::Member;
use crate::relay::round::{Far, Round, Told};
use crate::relay::way::{Way, owner_of};
use crate::relay::{Events, Line, Relay, Routed, add};
use crate::sync::{Ordering, lock};

impl<L: Line> Relay<L> {
    /// Carries over what a batch of `source` means for other connections; what is left in it is the host's.
    ///
    /// `region` is what the batch's spans refer to. No connection may be locked by the caller.
    pub fn route(&self, source: Key, region: &[u8], now: Time, batch: &mut Events<L>) -> Routed<L> {
        // Nobody is sent to a server that is gone, not even by a client that is told so in this very round (U1).
        self.close_ended(source);
        if batch.is_empty() {
            return Routed::default();
        }
        let mut round = Round::new(self, region, now);
        self.carry(&mut round, source, batch);
        self.go_on(round)
    }

    /// Carries over what the destinations made of it, until nothing comes of it any more.
    pub(super) fn go_on(&self, mut round: Round<'_, L>) -> Routed<L> {
        round.region = b"";
        while let Some((key, mut batch)) = round.follow.pop_front() {
            self.carry(&mut round, key, &mut batch);
            if !batch.events.is_empty()
                && let Some(line) = self.line(key)
            {
                round.routed.left.push((line, batch));
            }
        }
        round.routed
    }

    fn carry(&self, round: &mut Round<'_, L>, source: Key, batch: &mut Events<L>) {
        let Some(member) = self.member(source) else { return };
        let mut left: Vec<usize> = Vec::new();
        let mut at = 0;
        while at < batch.events.len() {
            let event = &batch.events[at];
            let way = self.way(&member, event, round.region);
            if !matches!(way, Way::To(_)) {
                self.note_task(&member, None, event);
                Self::note_unmatched_task(&member, round.region, event);
            }
            match (way, event) {
                (Way::To(key), _) => {
                    let start = at;
                    let goes_there = |next: &Told<L>| match self.way(&member, next, round.region) {
                        Way::To(next) => next == key,
                        _ => false,
                    };
                    while batch.events.get(at + 1).is_some_and(goes_there) {
                        at += 1;
                    }
                    self.deliver(round, &member, key, &batch.events[start..=at]);
                }
                (Way::Refuse(fault, position), Event::Request { record, frame, envelope, .. }) => {
                    round.faults.push((record.number, fault, position));
                    if let Some(name) = fault.name(envelope) {
                        round.names.push(in_run(*frame, name));
                    }
                }
                (Way::Spread, _) => {
                    self.spread(round, &member, event);
                    left.push(at);
                }
                (Way::Host, _) => {
                    if let Some(leg) = owner_of(event) {
                        self.note_ended(self.member(leg.line).as_deref(), std::slice::from_ref(event));
                    }
                    if let Event::Request { .. } = event {
                        add(&self.counts.to_host);
                    }
                    left.push(at);
                }
                (_, Event::Request { .. }) => add(&self.counts.cancelled_unsent),
                (_, Event::Notification { .. }) => add(&self.counts.notifications_dropped),
                _ => {}
            }
            at += 1;
        }
        self.settle_up(round, &member);
        if left.is_empty() {
            batch.events.clear();
        } else if left.len() < batch.events.len() {
            let mut left = left.into_iter().peekable();
            let mut index = 0..;
            batch.events.retain(|_| left.next_if_eq(&index.next().unwrap_or(usize::MAX)).is_some());
        }
    }

    /// Carries a run of events over to one connection.
    pub(super) fn deliver(&self, round: &mut Round<'_, L>, source: &Member<L>, key: Key, events: &[Told<L>]) {
        let member = self.member(key);
        self.note_ended(member.as_deref(), events);
        let Some(member) = member else {
            for event in events {
                self.note_task(source, None, event);
                if let Event::Request { record, .. } = event {
                    round.faults.push((record.number, Fault::UpstreamClosed, None));
                }
            }
            return;
        };
        let mut made = Batch::default();
        match events {
            [Event::Request { .. }, ..] => round.legs.reserve(events.len()),
            [Event::Settled { .. }, ..] => made.finished.reserve(events.len()),
            _ => {}
        }
        {
            let mut to = lock(member.line.connection());
            for event in events {
                self.apply(round, source, &member, &mut to, event, &mut made);
            }
            to.settle_books(&mut made);
            to.settle_account();
        }
        let counted =
            [(&self.counts.forwarded, &mut round.forwarded), (&self.counts.answered, &mut round.answered)];
        for (total, count) in counted.into_iter().filter(|(_, count)| **count > 0) {
            total.fetch_add(std::mem::take(count), Ordering::Relaxed);
        }
        round.touch(&member);
        if round.routed.finished.is_empty() {
            std::mem::swap(&mut round.routed.finished, &mut made.finished);
        } else {
            round.routed.finished.append(&mut made.finished);
        }
        if !made.is_empty() {
            round.follow.push_back((key, made));
        }
    }

    /// Counts requests of a client's no longer that have ended.
    fn note_ended(&self, client: Option<&Member<L>>, events: &[Told<L>]) {
        let ended = events.iter().filter(|event| match event {
            Event::Settled { record, .. } => owner_of(event).is_some() && Admission::counts(record),
            _ => false,
        });
        self.admission.leave(ended.count(), client.and_then(|client| client.side.part()));
    }

    fn apply(
        &self,
        round: &mut Round<'_, L>,
        source: &Member<L>,
        dest: &Member<L>,
        to: &mut Far<L>,
        event: &Told<L>,
        made: &mut Events<L>,
    ) {
        let (region, now) = (round.region, round.now);
        match event {
            Event::Request { record, frame, envelope, revision } => {
                self.forward(round, source, dest, to, (record, frame.of(region), envelope, *revision));
            }
            Event::Settled { record, end, answer, .. } => {
                let Some(leg) = owner_of(event) else { return };
                self.note_task(source, Some(dest), event);
                self.settle(round, (source, dest), to, leg, (record, *end, answer.as_ref()), made);
            }
            Event::Progress { update, frame, token, foreign_meta, .. } => {
                let Some(leg) = owner_of(event) else { return };
                let places = (*token, *foreign_meta);
                let passed = to.progress_with(leg.number, frame.of(region), places, update, now);
                add(if passed { &self.counts.progress } else { &self.counts.too_late });
            }
            Event::Cancelled { record, .. } => {
                let Some(leg) = owner_of(event) else { return };
                let by = match record.cancelled_by() {
                    Some(CancelledBy::Peer) | None => CancelledBy::Caller,
                    Some(by) => by,
                };
                if to.cancel(now, leg.number, by, record.reason(), made) {
                    add(&self.counts.cancelled);
                }
            }
            Event::Notification { frame, envelope, .. } => {
                let Some(leg) = owner_of(event) else { return };
                let passed = Self::may_hear(source, dest, frame.of(region), envelope)
                    && to.notify_with(frame.of(region), envelope, Some(leg.number)).is_ok();
                add(if passed { &self.counts.notified } else { &self.counts.notifications_dropped });
            }
            Event::TaskOver { .. } => {
                let Some(leg) = owner_of(event) else { return };
                to.end_task_of_peer(now, leg.number);
            }
            _ => {}
        }
    }
}
