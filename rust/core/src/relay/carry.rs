//! One batch carried over: which event goes where, and what it does there.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::connection::Connection;
use crate::envelope::{self, ScanLimits};
use crate::event::{AnswerFrame, Batch, End, Event, Host};
use crate::flight::{CancelledBy, Outcome};
use crate::forward::Forward;
use crate::record::{Record, Time};
use crate::relay::exchange::{Key, Leg, Owner, Relaying};
use crate::relay::fault::Fault;
use crate::relay::member::{Member, Side, resolve};
use crate::relay::rounds::{self, Kept, MOST_KEPT};
use crate::relay::route::{Goal, Matched};
use crate::relay::{Line, Relay, Routed};
use crate::rules::{Revision, method};
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
type Told<L> = Event<Relaying<<L as Line>::Host>>;
type Far<L> = Connection<Relaying<<L as Line>::Host>>;

/// One batch on its way, and everything that comes of it.
pub(super) struct Round<'a, L: Line> {
    now: Time,
    /// Each round has another number, by which a connection knows that it is listed.
    number: u64,
    /// What the spans of the present batch refer to.
    region: &'a [u8],
    routed: Routed<L>,
    /// What destinations made of it: their batches are carried over next.
    follow: VecDeque<(Key, Events<L>)>,
    /// Far legs of the source's requests.
    legs: Vec<(u64, Leg)>,
    /// The source's requests that the relay answers: number, why, and for which upstream.
    faults: Vec<(u64, Fault, Option<usize>)>,
    /// The source's first request says that it is of the modern era.
    is_modern: bool,
    /// What the host keeps of the one request that it passes on, if it is another round of it.
    kept: Option<Arc<Kept>>,
}

impl<'a, L: Line> Round<'a, L> {
    fn new(relay: &Relay<L>, region: &'a [u8], now: Time) -> Self {
        Self {
            now,
            number: relay.rounds.fetch_add(1, Ordering::Relaxed) + 1,
            region,
            routed: Routed::default(),
            follow: VecDeque::new(),
            legs: Vec::new(),
            faults: Vec::new(),
            is_modern: false,
            kept: None,
        }
    }

    fn touch(&mut self, member: &Member<L>) {
        if member.round.swap(self.number, Ordering::Relaxed) != self.number {
            self.routed.touched.push(Arc::clone(&member.line));
        }
    }
}

/// Whether a request's `_meta` says that its client speaks the modern revision.
fn says_modern(meta: &[u8]) -> bool {
    let version = envelope::find_member(meta, "io.modelcontextprotocol/protocolVersion");
    let version = version.and_then(|span| envelope::unescape(span.of(meta)));
    version.and_then(|name| Revision::named(&name)).is_some_and(Revision::is_modern)
}

/// Whether an answer says that the server needs input before it can answer.
fn asks(answer: &AnswerFrame, region: &[u8]) -> bool {
    answer.result_type.of(answer.frame.of(region)) == b"\"input_required\""
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

    /// Passes a request on that the host had a look at; what cannot be passed on is answered.
    ///
    /// `frame` is the request as one line, under any id; `kept` is what it was before its first round, if this is
    /// another one.
    pub fn pass_on(
        &self,
        source: Key,
        record: &Arc<Record>,
        to: Key,
        frame: &[u8],
        kept: Option<Kept>,
        now: Time,
    ) -> Routed<L> {
        let (Some(member), Ok(envelope)) =
            (self.member(source), envelope::scan(frame, &ScanLimits::default()))
        else {
            return Routed::default();
        };
        let mut round = Round::new(self, frame, now);
        round.kept = kept.map(Arc::new);
        let event = Event::Request { record: Arc::clone(record), frame: Span::new(0, frame.len()), envelope };
        self.deliver(&mut round, &member, to, &[event]);
        self.settle_up(&mut round, &member);
        self.go_on(round)
    }

    /// Answers a request that the host gives up on, as the relay answers its own.
    pub fn refuse(
        &self,
        source: Key,
        record: &Arc<Record>,
        fault: Fault,
        position: Option<usize>,
        now: Time,
    ) -> Routed<L> {
        let Some(member) = self.member(source) else { return Routed::default() };
        let mut round = Round::new(self, b"", now);
        round.faults.push((record.number, fault, position));
        self.settle_up(&mut round, &member);
        self.go_on(round)
    }

    /// The upstream that a client's request is for, by its routes.
    pub fn position_of(&self, source: Key, frame: &[u8]) -> Option<usize> {
        let member = self.member(source)?;
        let Side::Client { routes, .. } = &member.side else { return None };
        let envelope = envelope::scan(frame, &ScanLimits::default()).ok()?;
        match routes.find(frame, &envelope).goal {
            Goal::Upstream(position) => Some(position),
            Goal::Host | Goal::Nowhere => None,
        }
    }

    /// Carries over what the destinations made of it, until nothing comes of it any more.
    fn go_on(&self, mut round: Round<'_, L>) -> Routed<L> {
        round.region = b"";
        while let Some((key, mut batch)) = round.follow.pop_front() {
            // Only flights of exchanges can end on a destination: nothing is left for the host.
            self.carry(&mut round, key, &mut batch);
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
            match (way, event) {
                (Way::To(key), _) => {
                    let start = at;
                    while batch
                        .events
                        .get(at + 1)
                        .is_some_and(|next| self.way(&member, next, round.region) == way)
                    {
                        at += 1;
                    }
                    self.deliver(round, &member, key, &batch.events[start..=at]);
                }
                (Way::Refuse(fault, position), Event::Request { record, .. }) => {
                    round.faults.push((record.number, fault, position));
                }
                (Way::Spread, _) => {
                    self.spread(round, &member, event);
                    left.push(at);
                }
                (Way::Host, _) => {
                    if matches!(event, Event::Request { .. }) {
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

    fn way(&self, member: &Member<L>, event: &Told<L>, region: &[u8]) -> Way {
        if let Event::Settled { owner: Some(owner), end: End::Result(_), answer: Some(answer), .. } = event
            && owner.kept().is_some()
            && asks(answer, region)
        {
            return Way::Host;
        }
        if let Some(leg) = owner_of(event) {
            return Way::To(leg.line);
        }
        match (event, &member.side) {
            // Cancelled in the batch that brought it, or by the end of its channel: no trace upstream (S3). The host
            // would not start it either.
            (Event::Request { record, .. }, _) if record.outcome().is_some() => Way::Drop,
            (Event::Request { .. }, Side::Upstream { client: Some(client), .. }) => Way::To(*client),
            (Event::Request { .. }, Side::Upstream { .. }) => Way::Refuse(Fault::NoAttribution, None),
            (Event::Request { frame, envelope, .. }, Side::Client { routes, own, .. }) => {
                match routes.find(frame.of(region), envelope).goal {
                    Goal::Host => Way::Host,
                    _ if self.is_watched(&envelope.method_name(frame.of(region))) => Way::Host,
                    Goal::Nowhere => Way::Refuse(Fault::NoRoute, None),
                    Goal::Upstream(position) => match resolve(&self.upstreams, own, position) {
                        Some(key) => Way::To(key),
                        None if self.upstreams.get(position).is_some_and(|upstream| upstream.waits) => {
                            Way::Host
                        }
                        None => Way::Refuse(Fault::UpstreamClosed, Some(position)),
                    },
                }
            }
            // A listen of the host's own.
            (Event::Notification { owner: Some(_), .. }, _) => Way::Host,
            // Of a listen that is over (race 13).
            (Event::Notification { envelope, .. }, Side::Upstream { .. })
                if !envelope.subscription_id.is_empty() =>
            {
                Way::Drop
            }
            (Event::Notification { frame, envelope, .. }, _) => {
                match &*envelope.method_name(frame.of(region)) {
                    b"notifications/cancelled" | b"notifications/progress" => Way::Host,
                    _ => Way::Spread,
                }
            }
            // The record has it, the counters have it; on the way through it is nobody's event.
            (Event::LateResponse { .. } | Event::LateProgress { .. }, Side::Upstream { .. }) => Way::Drop,
            _ => Way::Host,
        }
    }

    /// Carries a run of events over to one connection.
    fn deliver(&self, round: &mut Round<'_, L>, source: &Member<L>, key: Key, events: &[Told<L>]) {
        let Some(member) = self.member(key) else {
            for event in events {
                if let Event::Request { record, .. } = event {
                    round.faults.push((record.number, Fault::UpstreamClosed, None));
                }
            }
            return;
        };
        let mut made = Batch::default();
        {
            let mut to = lock(member.line.connection());
            for event in events {
                self.apply(round, source, &member, &mut to, event, &mut made);
            }
            to.settle_books(&mut made);
        }
        round.touch(&member);
        round.routed.finished.append(&mut made.finished);
        if !made.is_empty() {
            round.follow.push_back((key, made));
        }
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
            Event::Request { record, frame, envelope } => {
                if record.outcome().is_some() {
                    add(&self.counts.cancelled_unsent);
                    return;
                }
                let frame = frame.of(region);
                if let Side::Client { known, .. } = &source.side
                    && !known.swap(true, Ordering::Relaxed)
                {
                    round.is_modern = says_modern(envelope.meta.of(frame));
                }
                let matched = match &source.side {
                    Side::Client { routes, .. } => Some(routes.find(frame, envelope)),
                    Side::Upstream { .. } => None,
                };
                let upstream = match dest.side {
                    Side::Upstream { position, .. } => {
                        self.upstreams.get(position).map(|found| (position, found))
                    }
                    Side::Client { .. } => None,
                };
                let asked_as = match &source.side {
                    Side::Client { asked_as, .. } if to.rules.revision.is_modern() => asked_as.get(),
                    _ => None,
                };
                let leg = Leg { line: source.key, number: record.number };
                let keeps = asked_as.is_some() && rounds::may_ask(&record.method) && frame.len() <= MOST_KEPT;
                let owner = if keeps {
                    let first = || Arc::new(Kept { frame: frame.into(), round: 0 });
                    Owner::Rounds(leg, round.kept.take().unwrap_or_else(first))
                } else {
                    Owner::Leg(leg)
                };
                let forward = Forward {
                    frame,
                    envelope,
                    method: &record.method,
                    name: matched.as_ref().map_or((Span::default(), b""), Matched::edit),
                    request_meta: asked_as.map(|members| &**members),
                    owner,
                    idle: upstream.map_or(0, |(_, upstream)| upstream.idle),
                    max: upstream.map_or(0, |(_, upstream)| upstream.max),
                };
                match to.forward(now, forward) {
                    Ok(leg) => {
                        add(&self.counts.forwarded);
                        round.legs.push((record.number, Leg { line: dest.key, number: leg.number }));
                        record.note_upstream(leg);
                    }
                    Err(error) => {
                        let position = upstream.map(|(position, _)| position);
                        round.faults.push((record.number, Fault::of_send(error), position));
                    }
                }
            }
            Event::Settled { record, end, answer, .. } => {
                let Some(leg) = owner_of(event) else { return };
                self.settle(round, source, to, leg, (record, *end, answer.as_ref()), made);
            }
            Event::Progress { update, frame, token, .. } => {
                let Some(leg) = owner_of(event) else { return };
                let passed = to.progress_with(leg.number, frame.of(region), *token, update, now);
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
                let subscription = (leg.number, envelope.subscription_id);
                let passed = to.notify_with(frame.of(region), Some(subscription)).is_ok();
                add(if passed { &self.counts.notified } else { &self.counts.notifications_dropped });
            }
            Event::TaskOver { .. } => {
                let Some(leg) = owner_of(event) else { return };
                to.end_task_of_peer(now, leg.number);
            }
            _ => {}
        }
    }

    /// Ends an exchange on the side that asked, as its far leg ended.
    fn settle(
        &self,
        round: &mut Round<'_, L>,
        source: &Member<L>,
        to: &mut Far<L>,
        leg: Leg,
        (record, end, answer): (&Arc<Record>, End, Option<&AnswerFrame>),
        made: &mut Events<L>,
    ) {
        let (region, now) = (round.region, round.now);
        let fault = match (end, answer) {
            (End::Result(_) | End::Error(_), Some(answered)) => {
                let frame = answered.frame.of(region);
                if !asks(answered, region) || to.rules.revision.is_modern() {
                    let is_error = matches!(end, End::Error(_));
                    let passed = to.answer_with(now, leg.number, frame, answered, is_error, made);
                    round.routed.finished.extend(passed.finished);
                    add(if passed.written { &self.counts.answered } else { &self.counts.too_late });
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
        self.fail(round, to, leg.number, fault, record.written().is_some(), position);
    }

    /// Answers a request on the relay's own account.
    fn fail(
        &self,
        round: &mut Round<'_, L>,
        to: &mut Far<L>,
        number: u64,
        fault: Fault,
        sent: bool,
        position: Option<usize>,
    ) {
        let name =
            position.and_then(|position| self.upstreams.get(position)).map_or("", |upstream| &*upstream.name);
        let data = fault.data(sent, name);
        let answered = to.answer(round.now, number, fault.answer(&data));
        round.routed.finished.extend(answered.finished);
        if answered.written {
            add(match fault {
                Fault::Timeout => &self.counts.timed_out,
                Fault::UpstreamClosed | Fault::NotThere => &self.counts.upstream_closed,
                Fault::Overloaded(_) => &self.counts.overloaded,
                Fault::NoAttribution => &self.counts.unattributed,
                _ => &self.counts.refused,
            });
        }
    }

    /// Hangs the legs on the source's requests, and answers those that could not be passed on.
    fn settle_up(&self, round: &mut Round<'_, L>, member: &Member<L>) {
        if round.legs.is_empty() && round.faults.is_empty() {
            return;
        }
        let (legs, faults) = (std::mem::take(&mut round.legs), std::mem::take(&mut round.faults));
        let mut orphans = Vec::new();
        {
            let mut from = lock(member.line.connection());
            if std::mem::take(&mut round.is_modern) {
                from.rules.revision = Revision::V2026_07_28;
            }
            for (number, leg) in legs {
                if !from.attach(number, Owner::Leg(leg)) {
                    orphans.push(leg);
                }
            }
            if !faults.is_empty() {
                round.touch(member);
            }
            for (number, fault, position) in faults {
                self.fail(round, &mut from, number, fault, false, position);
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
                round.touch(&far);
                round.follow.push_back((leg.line, made));
            }
        }
    }

    /// Passes a notification that belongs to no request to whoever it concerns (section 10).
    fn spread(&self, round: &mut Round<'_, L>, source: &Member<L>, event: &Told<L>) {
        let Event::Notification { frame, envelope, .. } = event else { return };
        let frame = frame.of(round.region);
        let name = envelope.method_name(frame);
        let name = &*name;
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
                    Side::Client { own, .. } => resolve(&self.upstreams, own, *position) == Some(source.key),
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
                round.touch(&member);
            }
        }
    }
}
