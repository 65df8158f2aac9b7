//! Requests passed on: by their routes, or by the host, which may also give up on them.

use std::sync::Arc;

use crate::envelope::{self, Envelope, ScanLimits};
use crate::event::Event;
use crate::forward::Forward;
use crate::record::{Record, Time};
use crate::relay::admission::{Admission, Part};
use crate::relay::exchange::{Key, Leg, Owner};
use crate::relay::fault::Fault;
use crate::relay::kept::Kept;
use crate::relay::member::{Member, Side};
use crate::relay::round::{Far, Round};
use crate::relay::route::Goal;
use crate::relay::{Line, Relay, Routed, add};
use crate::rules::Revision;
use crate::span::Span;
use crate::sync::{Ordering, lock};

impl<L: Line> Relay<L> {
    /// Passes a request on that the host had a look at; what cannot be passed on is answered.
    ///
    /// `frame` is the request as one line, under any id; `kept` is what was kept of it, if this is another round.
    pub fn pass_on(
        &self,
        source: Key,
        record: &Arc<Record>,
        to: Key,
        frame: &[u8],
        kept: Option<Arc<Kept>>,
        now: Time,
    ) -> Routed<L> {
        let Some(member) = self.member(source) else { return Routed::default() };
        let envelope = match envelope::scan(frame, &ScanLimits::default()) {
            Ok(envelope) => envelope,
            Err(refusal) => {
                let fault = Fault::InvalidRequest(refusal.reason.message());
                return self.refuse(source, record, fault, None, now);
            }
        };
        let mut round = Round::new(self, frame, now);
        round.kept = kept;
        let revision = lock(member.line.connection()).rules.revision;
        let frame = Span::new(0, frame.len());
        let event = Event::Request { record: Arc::clone(record), frame, envelope, revision };
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
        let envelope = envelope::scan(frame, &ScanLimits::default()).ok()?;
        match member.side.goal(frame, &envelope) {
            Ok(Goal::Upstream(position)) => Some(position),
            Ok(Goal::Host | Goal::Nowhere) | Err(_) => None,
        }
    }

    /// Passes one request on to a connection that is locked.
    pub(super) fn forward(
        &self,
        round: &mut Round<'_, L>,
        source: &Member<L>,
        dest: &Member<L>,
        to: &mut Far<L>,
        (record, frame, envelope, revision): (&Arc<Record>, &[u8], &Envelope, Revision),
    ) {
        if record.outcome().is_some() {
            return add(&self.counts.cancelled_unsent);
        }
        let is_round = round.kept.is_some();
        let opened = match self.checked((&source.side, &dest.side), record, (frame, envelope), is_round) {
            Ok(opened) => opened,
            Err(fault) => return round.faults.push((record.number, fault, dest.side.position())),
        };
        let (frame, envelope) = opened.as_deref().map_or((frame, envelope), |(frame, at)| (&frame[..], at));
        let nth = round.kept.as_ref().map(|kept| kept.go_on() + 1);
        let asker = source.side.part();
        if let Err(fault) = self.admit(record, asker, &dest.side, nth.is_some()) {
            return round.faults.push((record.number, fault, dest.side.position()));
        }
        let prefix = match &source.side {
            Side::Client { routes, .. } => routes.stripped(frame, envelope),
            Side::Upstream { .. } => Span::default(),
        };
        let position = dest.side.position();
        let upstream = position.and_then(|position| self.upstreams.get(position));
        let asked_as = match &source.side {
            Side::Client { asked_as, .. } if to.rules.revision.is_modern() => asked_as.get(),
            _ => None,
        };
        let leg = Leg { line: source.key, number: record.number };
        let room = asked_as.and_then(|_| source.side.room_for(&record.method));
        let kept = room.and_then(|room| round.kept.take().or_else(|| room.keep(frame)));
        let owner = kept.map_or(Owner::Leg(leg), |kept| Owner::Rounds(leg, kept));
        let forward = Forward {
            frame,
            envelope,
            method: &record.method,
            name: (prefix, b""),
            revision,
            request_meta: asked_as.map(|members| &**members),
            owner,
            lane: asker.map_or_else(|| source.key.to_word(), |part| part.principal.number + 1),
            payer: source.account.as_ref(),
            idle: upstream.map_or(0, |upstream| upstream.idle),
            max: upstream.map_or(0, |upstream| upstream.max),
        };
        match to.forward(round.now, forward) {
            Ok(leg) => {
                round.forwarded += 1;
                round.legs.push((record.number, Leg { line: dest.key, number: leg.number }));
                if let Some(nth) = nth {
                    leg.note_round(nth);
                }
                let about = (&source.side, &dest.side);
                if let Some(task) = Self::asked_about(about, record, (frame, envelope)) {
                    leg.note_task(&task);
                }
                record.join(leg);
            }
            Err(error) => {
                self.admission.leave(usize::from(Admission::counts(record)), asker);
                round.faults.push((record.number, Fault::of_send(error), position));
            }
        }
    }

    /// Counts one more request in flight to a connection that is locked, if it may be: one that `goes_on` may.
    fn admit(&self, record: &Record, asker: Option<&Part>, dest: &Side, goes_on: bool) -> Result<(), Fault> {
        match dest {
            Side::Client { .. } => self.admission.enter_further(record, None),
            Side::Upstream { is_retired, .. } if is_retired.load(Ordering::Relaxed) => {
                return Err(Fault::UpstreamClosed);
            }
            Side::Upstream { .. } if goes_on => self.admission.enter_further(record, asker),
            Side::Upstream { .. } => self.admission.enter(record, asker)?,
        }
        Ok(())
    }
}
