//! One batch carried over: which event goes where, and what it does there.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::connection::Connection;
use crate::envelope;
use crate::event::{AnswerFrame, Batch, End, Event, Host};
use crate::flight::{CancelledBy, Outcome};
use crate::forward::Forward;
use crate::record::{Record, Time};
use crate::relay::exchange::{Key, Leg, Owner, Relaying};
use crate::relay::fault::Fault;
use crate::relay::member::{Member, Side, resolve};
use crate::relay::route::{Goal, Matched};
use crate::relay::{Line, Relay, Routed};
use crate::rules::method;
use crate::span::Span;
use crate::sync::{AtomicU64, Ordering, lock};

/// What one event means for the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Nothing: the host acts on it.
    Host,
    /// Nothing to anyone.
    Drop,
    /// Something on that connection.
    To(Key),
    /// A request that the relay answers itself, in the name of an upstream if there is one.
    Refuse(Fault, Option<usize>),
    /// A notification for several connections, or for none; the host's observers see it, too.
    Spread,
}

type Events<L> = Batch<Relaying<<L as Line>::Host>>;
pub(super) type Follow<L> = VecDeque<(Key, Events<L>)>;

/// What is to be done on the source when its batch is through.
#[derive(Default)]
struct Owed {
    /// Far legs of its requests.
    legs: Vec<(u64, Leg)>,
    /// Requests to be answered by the relay: number, why, and for which upstream.
    faults: Vec<(u64, Fault, Option<usize>)>,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

const fn owner_of<H: Host>(event: &Event<Relaying<H>>) -> Option<Leg> {
    match event {
        Event::Settled { owner: Some(owner), .. }
        | Event::Progress { owner: Some(owner), .. }
        | Event::TaskOver { owner: Some(owner), .. }
        | Event::Notification { owner: Some(owner), .. } => owner.leg(),
        Event::Cancelled { owner: Some(owner), .. } => owner.leg(),
        _ => None,
    }
}

impl<L: Line> Relay<L> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn carry(
        &self,
        source: Key,
        region: &[u8],
        now: Time,
        round: u64,
        batch: &mut Events<L>,
        routed: &mut Routed<L>,
        follow: &mut Follow<L>,
    ) {
        let Some(member) = self.member(source) else { return };
        let mut owed = Owed::default();
        let mut left: Vec<usize> = Vec::new();
        let mut at = 0;
        while at < batch.events.len() {
            let way = self.way(&member, &batch.events[at], region);
            let Way::To(key) = way else {
                match (way, &batch.events[at]) {
                    (Way::Refuse(fault, position), Event::Request { record, .. }) => {
                        owed.faults.push((record.number, fault, position));
                    }
                    (Way::Spread, event) => {
                        self.spread(&member, event, region, round, routed);
                        left.push(at);
                    }
                    (Way::Host, _) => left.push(at),
                    (_, Event::Request { .. }) => add(&self.counts.cancelled_unsent),
                    _ => {}
                }
                at += 1;
                continue;
            };
            let start = at;
            at += 1;
            while at < batch.events.len() && self.way(&member, &batch.events[at], region) == way {
                at += 1;
            }
            self.deliver(&member, key, &batch.events[start..at], region, now, round, &mut owed, routed, follow);
        }
        self.settle_up(&member, now, round, owed, routed, follow);
        if left.is_empty() {
            batch.events.clear();
        } else if left.len() < batch.events.len() {
            let mut left = left.into_iter().peekable();
            let mut index = 0..;
            batch.events.retain(|_| left.next_if_eq(&index.next().unwrap_or(usize::MAX)).is_some());
        }
    }

    /// Passes a request on that the host had a look at, with these params; what cannot be passed on is answered.
    ///
    /// `frame` is the request as one line, under any id.
    pub fn pass_on(&self, source: Key, record: &Arc<Record>, to: Key, frame: &[u8], now: Time) -> Routed<L> {
        let mut routed = Routed::default();
        let Some(member) = self.member(source) else { return routed };
        let Ok(envelope) = envelope::scan(frame, &envelope::ScanLimits::default()) else { return routed };
        let round = self.rounds.fetch_add(1, Ordering::Relaxed) + 1;
        let (mut owed, mut follow) = (Owed::default(), VecDeque::new());
        let event = Event::Request { record: Arc::clone(record), frame: Span::new(0, frame.len()), envelope };
        self.deliver(&member, to, &[event], frame, now, round, &mut owed, &mut routed, &mut follow);
        self.settle_up(&member, now, round, owed, &mut routed, &mut follow);
        while let Some((key, mut next)) = follow.pop_front() {
            self.carry(key, b"", now, round, &mut next, &mut routed, &mut follow);
        }
        routed
    }

    /// Answers a request that the host gives up on, as the relay answers its own.
    pub fn refuse(&self, source: Key, record: &Arc<Record>, fault: Fault, position: Option<usize>, now: Time) -> Routed<L> {
        let mut routed = Routed::default();
        let Some(member) = self.member(source) else { return routed };
        let round = self.rounds.fetch_add(1, Ordering::Relaxed) + 1;
        let owed = Owed { legs: Vec::new(), faults: vec![(record.number, fault, position)] };
        self.settle_up(&member, now, round, owed, &mut routed, &mut VecDeque::new());
        routed
    }

    /// The upstream that a client's request is for, by its routes.
    pub fn position_of(&self, source: Key, frame: &[u8]) -> Option<usize> {
        let member = self.member(source)?;
        let Side::Client { routes, .. } = &member.side else { return None };
        let envelope = envelope::scan(frame, &envelope::ScanLimits::default()).ok()?;
        match routes.find(frame, &envelope).goal {
            Goal::Upstream(position) => Some(position),
            Goal::Host | Goal::Nowhere => None,
        }
    }

    fn way(&self, member: &Member<L>, event: &Event<Relaying<L::Host>>, region: &[u8]) -> Way {
        if let Some(leg) = owner_of(event) {
            return Way::To(leg.line);
        }
        match (event, &member.side) {
            // Cancelled in the batch that brought it, or by the end of its channel: no trace upstream (S3). The host
            // would not start it either.
            (Event::Request { record, .. }, _) if record.outcome().is_some() => Way::Drop,
            (Event::Request { .. }, Side::Upstream { client: Some(client), .. }) => Way::To(*client),
            (Event::Request { .. }, Side::Upstream { .. }) => Way::Refuse(Fault::NoAttribution, None),
            (Event::Request { frame, envelope, .. }, Side::Client { routes, own }) => {
                match routes.find(frame.of(region), envelope).goal {
                    Goal::Host => Way::Host,
                    Goal::Nowhere => Way::Refuse(Fault::NoRoute, None),
                    Goal::Upstream(position) => match resolve(&self.upstreams, own, position) {
                        Some(key) => Way::To(key),
                        None if self.upstreams.get(position).is_some_and(|upstream| upstream.waits) => Way::Host,
                        None => Way::Refuse(Fault::UpstreamClosed, Some(position)),
                    },
                }
            }
            // A listen of the host's own.
            (Event::Notification { owner: Some(_), .. }, _) => Way::Host,
            // Of a listen that is over (race 13).
            (Event::Notification { envelope, .. }, Side::Upstream { .. }) if !envelope.subscription_id.is_empty() => {
                Way::Drop
            }
            (Event::Notification { frame, envelope, .. }, _) => match envelope.method.of(frame.of(region)) {
                b"notifications/cancelled" | b"notifications/progress" => Way::Host,
                _ => Way::Spread,
            },
            // The record has it, the counters have it; on the way through it is nobody's event.
            (Event::LateResponse { .. } | Event::LateProgress { .. }, Side::Upstream { .. }) => Way::Drop,
            _ => Way::Host,
        }
    }

    /// Carries a run of events over to one connection.
    #[allow(clippy::too_many_arguments)]
    fn deliver(
        &self,
        source: &Member<L>,
        key: Key,
        events: &[Event<Relaying<L::Host>>],
        region: &[u8],
        now: Time,
        round: u64,
        owed: &mut Owed,
        routed: &mut Routed<L>,
        follow: &mut Follow<L>,
    ) {
        let Some(member) = self.member(key) else {
            for event in events {
                if let Event::Request { record, .. } = event {
                    owed.faults.push((record.number, Fault::UpstreamClosed, None));
                }
            }
            return;
        };
        let mut made = Batch::default();
        {
            let mut to = lock(member.line.connection());
            for event in events {
                self.apply(source, &member, &mut to, event, region, now, owed, &mut made);
            }
            to.settle_books(&mut made);
        }
        self.touch(&member, round, routed);
        routed.finished.append(&mut made.finished);
        if !made.is_empty() {
            follow.push_back((key, made));
        }
    }

    fn touch(&self, member: &Member<L>, round: u64, routed: &mut Routed<L>) {
        if member.round.swap(round, Ordering::Relaxed) != round {
            routed.touched.push(Arc::clone(&member.line));
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn apply(
        &self,
        source: &Member<L>,
        dest: &Member<L>,
        to: &mut Connection<Relaying<L::Host>>,
        event: &Event<Relaying<L::Host>>,
        region: &[u8],
        now: Time,
        owed: &mut Owed,
        made: &mut Events<L>,
    ) {
        match event {
            Event::Request { record, frame, envelope } => {
                if record.outcome().is_some() {
                    add(&self.counts.cancelled_unsent);
                    return;
                }
                let frame = frame.of(region);
                let matched = match &source.side {
                    Side::Client { routes, .. } => Some(routes.find(frame, envelope)),
                    Side::Upstream { .. } => None,
                };
                let upstream = match dest.side {
                    Side::Upstream { position, .. } => self.upstreams.get(position).map(|found| (position, found)),
                    Side::Client { .. } => None,
                };
                let forward = Forward {
                    frame,
                    envelope,
                    method: &record.method,
                    name: matched.as_ref().map_or((Span::default(), b""), Matched::edit),
                    owner: Owner::Leg(Leg { line: source.key, number: record.number }),
                    idle: upstream.map_or(0, |(_, upstream)| upstream.idle),
                    max: upstream.map_or(0, |(_, upstream)| upstream.max),
                };
                match to.forward(now, forward) {
                    Ok(leg) => {
                        add(&self.counts.forwarded);
                        owed.legs.push((record.number, Leg { line: dest.key, number: leg.number }));
                        record.note_upstream(leg);
                    }
                    Err(error) => {
                        let position = upstream.map(|(position, _)| position);
                        owed.faults.push((record.number, Fault::of_send(error), position));
                    }
                }
            }
            Event::Settled { owner: Some(Owner::Leg(leg)), record, end, answer } => {
                self.settle(source, to, *leg, record, *end, answer.as_ref(), region, now, made);
            }
            Event::Progress { owner: Some(Owner::Leg(leg)), update, frame, token, .. } => {
                let passed = to.progress_with(leg.number, frame.of(region), *token, update, now);
                add(if passed { &self.counts.progress } else { &self.counts.too_late });
            }
            Event::Cancelled { owner: Some(Owner::Leg(leg)), record, .. } => {
                let by = match record.cancelled_by() {
                    Some(CancelledBy::Peer) | None => CancelledBy::Caller,
                    Some(by) => by,
                };
                if to.cancel(now, leg.number, by, record.reason(), made) {
                    add(&self.counts.cancelled);
                }
            }
            Event::Notification { owner: Some(Owner::Leg(leg)), frame, envelope } => {
                let subscription = (leg.number, envelope.subscription_id);
                let passed = to.notify_with(frame.of(region), Some(subscription)).is_ok();
                add(if passed { &self.counts.notified } else { &self.counts.notifications_dropped });
            }
            Event::TaskOver { owner: Some(Owner::Leg(leg)), .. } => to.end_task_of_peer(now, leg.number),
            _ => {}
        }
    }

    /// Ends an exchange on the side that asked, as its far leg ended.
    #[allow(clippy::too_many_arguments)]
    fn settle(
        &self,
        source: &Member<L>,
        to: &mut Connection<Relaying<L::Host>>,
        leg: Leg,
        record: &Arc<Record>,
        end: End,
        answer: Option<&AnswerFrame>,
        region: &[u8],
        now: Time,
        made: &mut Events<L>,
    ) {
        let fault = match (end, answer) {
            (End::Result(_) | End::Error(_), Some(answered)) => {
                let frame = answered.frame.of(region);
                let asks = answered.result_type.of(frame) == b"\"input_required\"";
                if !asks || to.rules.revision.is_modern() {
                    let is_error = matches!(end, End::Error(_));
                    let passed = to.answer_with(now, leg.number, frame, answered, is_error, made);
                    add(if passed { &self.counts.answered } else { &self.counts.too_late });
                    return;
                }
                Fault::NotBridged
            }
            (End::Result(_) | End::Error(_), None) => Fault::InvalidAnswer("the answer is not there"),
            (End::Invalid(fault), _) => Fault::InvalidAnswer(fault),
            (End::Local(Outcome::Cancelled), _) => {
                let ended_by_server = record.cancelled_by() == Some(CancelledBy::Peer);
                if ended_by_server && &*record.method == method::LISTEN {
                    to.end_listen_of_peer(now, leg.number, record.reason(), made);
                    return;
                }
                Fault::Cancelled
            }
            (End::Local(outcome), _) => Fault::of_end(outcome),
        };
        let position = match source.side {
            Side::Upstream { position, .. } => Some(position),
            Side::Client { .. } => None,
        };
        self.fail(to, leg.number, fault, record.written().is_some(), position, now, made);
    }

    /// Answers a request on the relay's own account.
    #[allow(clippy::too_many_arguments)]
    fn fail(
        &self,
        to: &mut Connection<Relaying<L::Host>>,
        number: u64,
        fault: Fault,
        sent: bool,
        position: Option<usize>,
        now: Time,
        made: &mut Events<L>,
    ) {
        let name = position.and_then(|position| self.upstreams.get(position)).map_or("", |upstream| &*upstream.name);
        let data = fault.data(sent, name);
        if to.answer(now, number, fault.answer(&data), made) {
            add(match fault {
                Fault::Timeout => &self.counts.timed_out,
                Fault::UpstreamClosed => &self.counts.upstream_closed,
                Fault::Overloaded(_) => &self.counts.overloaded,
                Fault::NoAttribution => &self.counts.unattributed,
                _ => &self.counts.refused,
            });
        }
    }

    /// Hangs the legs on the source's requests, and answers those that could not be passed on.
    fn settle_up(
        &self,
        member: &Member<L>,
        now: Time,
        round: u64,
        owed: Owed,
        routed: &mut Routed<L>,
        follow: &mut Follow<L>,
    ) {
        if owed.legs.is_empty() && owed.faults.is_empty() {
            return;
        }
        let mut made = Batch::default();
        let mut orphans = Vec::new();
        {
            let mut from = lock(member.line.connection());
            for (number, leg) in owed.legs {
                if !from.attach(number, Owner::Leg(leg)) {
                    orphans.push(leg);
                }
            }
            if !owed.faults.is_empty() {
                for (number, fault, position) in owed.faults {
                    self.fail(&mut from, number, fault, false, position, now, &mut made);
                }
                from.settle_books(&mut made);
                self.touch(member, round, routed);
            }
        }
        routed.finished.append(&mut made.finished);
        for leg in orphans {
            // Its request ended between the phases, when no cancel could find the leg yet. If it was answered, the
            // leg is over, too, and this does nothing.
            let Some(far) = self.member(leg.line) else { continue };
            let mut made = Batch::default();
            if lock(far.line.connection()).cancel(now, leg.number, CancelledBy::Caller, None, &mut made) {
                add(&self.counts.cancelled);
                self.touch(&far, round, routed);
                follow.push_back((leg.line, made));
            }
        }
    }

    /// Passes a notification that belongs to no request to whoever it concerns (section 10).
    fn spread(
        &self,
        source: &Member<L>,
        event: &Event<Relaying<L::Host>>,
        region: &[u8],
        round: u64,
        routed: &mut Routed<L>,
    ) {
        let Event::Notification { frame, envelope, .. } = event else { return };
        let frame = frame.of(region);
        let name = envelope.method.of(frame);
        let keys: Vec<Key> = match &source.side {
            // The handshake is ours, on either side.
            Side::Client { .. } if name == b"notifications/initialized" => Vec::new(),
            Side::Client { own, .. } => {
                own.iter().filter_map(|word| Key::from_word(word.load(Ordering::Acquire))).collect()
            }
            Side::Upstream { client: Some(client), .. } => vec![*client],
            Side::Upstream { position, client: None } if name.ends_with(b"/list_changed") => {
                let members = lock(&self.members);
                let shares = |member: &&Arc<Member<L>>| match &member.side {
                    Side::Client { own, .. } => {
                        resolve(&self.upstreams, own, *position) == Some(source.key)
                    }
                    Side::Upstream { .. } => false,
                };
                members.iter().filter(shares).map(|member| member.key).collect()
            }
            // No attribution: nobody can say whose it is.
            Side::Upstream { client: None, .. } => Vec::new(),
        };
        if keys.is_empty() {
            add(&self.counts.notifications_dropped);
        }
        for key in keys {
            let Some(member) = self.member(key) else { continue };
            let passed = lock(member.line.connection()).notify_with(frame, None).is_ok();
            add(if passed { &self.counts.notified } else { &self.counts.notifications_dropped });
            if passed {
                self.touch(&member, round, routed);
            }
        }
    }
}
