//! Forwards requests: by their routes, or by the host, which may also fail them.

use std::sync::Arc;

use crate::connection::event::Event;
use crate::connection::forward::Forward;
use crate::flight::record::{Record, Time, Trace};
use crate::relay::admission::{Admission, ClientShare};
use crate::relay::exchange::{Leg, Owner};
use crate::relay::fault::Fault;
use crate::relay::key::Key;
use crate::relay::participant::{Participant, ParticipantKind};
use crate::relay::pass::{DestConnection, RoutingPass};
use crate::relay::retained::{self, RetainedRequest};
use crate::relay::route::{Goal, Routes};
use crate::relay::upstream::Upstream;
use crate::relay::{Endpoint, Relay, Routed, add};
use crate::rules::Revision;
use crate::sync::{Ordering, lock};
use crate::wire::envelope::{self, Envelope, ScanLimits};
use crate::wire::span::Span;

impl<L: Endpoint> Relay<L> {
    /// Forwards a request for the host; a request that cannot be forwarded is answered.
    ///
    /// `frame` is the request as one line, under any id; `routes` are those that decided about it, where its client
    /// may have others by now; `retained` is the retained request, if this is another round.
    pub fn pass_on(
        &self,
        source: Key,
        record: &Arc<Record>,
        to: Key,
        frame: &[u8],
        (routes, retained): (Option<Arc<Routes>>, Option<Arc<RetainedRequest>>),
        now: Time,
    ) -> Routed<L> {
        let Some(participant) = self.participant(source) else { return Routed::default() };
        let envelope = match envelope::scan(frame, &ScanLimits::default()) {
            Ok(envelope) => envelope,
            Err(refusal) => {
                let fault = Fault::InvalidRequest(refusal.reason.message());
                return self.fail_request(source, record, fault, None, now);
            }
        };
        let mut pass = RoutingPass::new(self, frame, now);
        pass.routes = retained.as_ref().map(|retained| Arc::clone(&retained.routes)).or(routes);
        pass.retained = retained;
        let revision = lock(participant.endpoint.connection()).rules.revision;
        let frame = Span::new(0, frame.len());
        let event = Event::Request { record: Arc::clone(record), frame, envelope, revision, during: None };
        self.route_run(&mut pass, &participant, to, &[event]);
        self.finish_source(&mut pass, &participant);
        self.route_follow_ups(pass)
    }

    /// Fails a request for the host, with an error of the relay's.
    pub fn fail_request(
        &self,
        source: Key,
        record: &Arc<Record>,
        fault: Fault,
        upstream: Option<Arc<Upstream>>,
        now: Time,
    ) -> Routed<L> {
        let Some(participant) = self.participant(source) else { return Routed::default() };
        let mut pass = RoutingPass::new(self, b"", now);
        pass.faults.push((record.number, fault, upstream));
        self.finish_source(&mut pass, &participant);
        self.route_follow_ups(pass)
    }

    /// The upstream that a client's request is for, by its routes.
    pub fn position_of(&self, source: Key, frame: &[u8]) -> Option<usize> {
        let participant = self.participant(source)?;
        let envelope = envelope::scan(frame, &ScanLimits::default()).ok()?;
        match participant.kind.goal(frame, &envelope) {
            Ok(Goal::Upstream(position)) => Some(position),
            Ok(Goal::Host | Goal::Nowhere) | Err(_) => None,
        }
    }

    /// Forwards one request to a connection that is locked; `trace` is the span of its leg, where it is traced.
    #[expect(clippy::inline_always, reason = "measured: as a call it costs a hundred instructions a request")]
    #[inline(always)]
    pub(super) fn forward(
        &self,
        pass: &mut RoutingPass<'_, L>,
        (source, dest): (&Participant<L>, &Participant<L>),
        to: &mut DestConnection<L>,
        (record, frame, envelope, revision): (&Arc<Record>, &[u8], &Envelope, Revision),
        during: Option<Leg>,
        trace: Option<&Trace>,
    ) {
        if record.outcome().is_some() {
            return add(&self.counts.cancelled_unsent);
        }
        let is_round = pass.retained.is_some();
        let opened = match self.checked((&source.kind, &dest.kind), record, (frame, envelope), is_round) {
            Ok(opened) => opened,
            Err(fault) => return pass.faults.push((record.number, fault, dest.kind.upstream().cloned())),
        };
        let (frame, envelope) = opened.as_deref().map_or((frame, envelope), |(frame, at)| (&frame[..], at));
        let nth = pass.retained.as_ref().map(|retained| retained.begin_round() + 1);
        let asker = source.kind.share();
        if let Err(fault) = self.admit(record, asker, &dest.kind, nth.is_some()) {
            return pass.faults.push((record.number, fault, dest.kind.upstream().cloned()));
        }
        let routes = match &source.kind {
            ParticipantKind::Client { routes, .. } => Some(pass.routes.as_ref().unwrap_or(routes)),
            ParticipantKind::Upstream { .. } => None,
        };
        let prefix = routes.map_or_else(Span::default, |routes| routes.stripped(frame, envelope));
        let upstream = dest.kind.upstream();
        let modern_meta = match &source.kind {
            ParticipantKind::Client { state, .. } if to.rules.revision.is_modern() => state.modern_meta.get(),
            _ => None,
        };
        let leg = Leg { connection: source.key, number: record.number };
        let budget = modern_meta.and_then(|_| source.kind.budget_for(&record.method));
        let known = if budget.is_some() { pass.retained.take() } else { None };
        let retained =
            budget.zip(routes).and_then(|(budget, routes)| known.or_else(|| budget.retain(frame, routes)));
        let owner = retained.map_or(Owner::Leg(leg), |retained| Owner::MultiRound(leg, retained));
        let forward = Forward {
            frame,
            envelope,
            method: &record.method,
            prefix,
            asker: &record.peer,
            revision,
            request_meta: modern_meta.map(|members| &**members),
            owner,
            sender: asker.map_or_else(|| source.key.to_word(), |share| share.principal.number + 1),
            payer: source.account.as_ref(),
            idle: upstream.map_or(0, |upstream| upstream.idle),
            max: upstream.map_or(0, |upstream| upstream.max),
            during: during.filter(|leg| leg.connection == dest.key).map_or(0, |leg| leg.number),
        };
        match to.forward_request(pass.now, forward) {
            Ok(leg) => {
                pass.forwarded += 1;
                if to.is_posting() && envelope.has_capabilities && retained::may_need_input(&record.method) {
                    to.note_offer(leg.number, frame, envelope);
                }
                pass.legs.push((record.number, Leg { connection: dest.key, number: leg.number }));
                if let Some(trace) = trace {
                    leg.note_trace(*trace);
                }
                if let Some(nth) = nth {
                    add(&self.counts.input_rounds);
                    leg.note_round(nth);
                }
                let about = (&source.kind, &dest.kind);
                if let Some(task) = Self::asked_about(about, record, (frame, envelope)) {
                    leg.note_task(&task);
                }
                record.join(leg);
            }
            Err(error) => {
                let counted = usize::from(Admission::counts(record));
                self.admission.leave(counted, asker);
                dest.kind.note_left(counted);
                pass.faults.push((record.number, Fault::of_send(error), upstream.cloned()));
            }
        }
    }

    /// Admits one request to a connection that is locked; a further round (`goes_on`) is not bounded.
    fn admit(
        &self,
        record: &Record,
        asker: Option<&ClientShare>,
        dest: &ParticipantKind,
        goes_on: bool,
    ) -> Result<(), Fault> {
        match dest {
            ParticipantKind::Client { .. } if dest.is_detached() => return Err(Fault::Detached),
            ParticipantKind::Client { .. } => self.admission.admit_unbounded(record, None),
            ParticipantKind::Upstream { is_retired, .. } if is_retired.load(Ordering::Relaxed) => {
                return Err(Fault::UpstreamClosed);
            }
            ParticipantKind::Upstream { .. } if goes_on => {
                self.admission.admit_unbounded(record, asker);
                if let Some(load) = dest.load().filter(|_| Admission::counts(record)) {
                    load.admit_unbounded();
                }
            }
            ParticipantKind::Upstream { .. } => {
                self.admission.admit(record, asker)?;
                if let Some(load) = dest.load().filter(|_| Admission::counts(record))
                    && let Err(exceeded) = load.admit()
                {
                    self.admission.leave(1, asker);
                    return Err(Fault::Overloaded(exceeded));
                }
            }
        }
        Ok(())
    }
}
