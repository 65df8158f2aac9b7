//! Suspended exchanges: a legacy server asks for input during a call, and its client is a modern one, which takes
//! no requests (R5).
//!
//! The client's request is answered with `input_required`; the server's flight stays open, owned by the host,
//! until the client resumes it. The `requestState` of the resuming request starts with our prefix.

use std::sync::Arc;

use crate::flight::record::Record;
use crate::relay::exchange::Owner;
use crate::relay::key::Key;
use crate::relay::participant::ParticipantKind;
use crate::relay::retained;
use crate::relay::{Endpoint, Relay};
use crate::sync::{Ordering, lock};
use crate::wire::envelope::{self, Envelope};

/// The prefix of every `requestState` of a suspended exchange.
pub const SUSPENDED_PREFIX: &str = "turnout:";

/// An exchange in flight that the host may take over.
pub struct Suspendable {
    /// The client that asked.
    pub client: Key,
    /// Its request.
    pub record: Arc<Record>,
    /// Our number of the flight towards the server.
    pub number: u64,
    /// What the client may be asked for, as its request says in JSON; empty where it does not.
    pub offer: Vec<u8>,
}

impl<L: Endpoint> Relay<L> {
    /// Whether a client takes no requests now: a modern one never does (R5), a legacy one only after its
    /// handshake (PNG-14). Returns false for a client that has left; the caller answers the server.
    pub(super) fn needs_suspension(&self, client: Key) -> bool {
        self.participant(client).is_some_and(|participant| {
            let rules = lock(participant.endpoint.connection()).rules;
            !rules.initialized || rules.revision.is_modern()
        })
    }

    /// The exchanges of a dedicated upstream that may need input, the newest first.
    pub fn suspendable(&self, upstream: Key) -> Vec<Suspendable> {
        let client = self.participant(upstream).and_then(|participant| match &participant.kind {
            ParticipantKind::Upstream { slot, .. } => slot.client(),
            ParticipantKind::Client { .. } => None,
        });
        let Some(client) = client else { return Vec::new() };
        let Some(participant) = self.participant(client) else { return Vec::new() };
        let mut found: Vec<Suspendable> = lock(participant.endpoint.connection())
            .requests()
            .filter(|(record, _)| retained::may_need_input(&record.method))
            .filter_map(|(record, owner)| {
                let leg = owner.and_then(Owner::leg).filter(|leg| leg.connection == upstream)?;
                Some(Suspendable {
                    client,
                    record: Arc::clone(record),
                    number: leg.number,
                    offer: Vec::new(),
                })
            })
            .collect();
        found.sort_by_key(|suspendable| std::cmp::Reverse(suspendable.record.number));
        found
    }

    /// The exchange of a modern client on whose stream an upstream asked by its request `asked`, where that exchange may
    /// need input (R1): also where several clients share the upstream.
    pub fn suspendable_during(&self, upstream: Key, asked: u64) -> Option<Suspendable> {
        let server = self.participant(upstream)?;
        let (number, leg, offer) = {
            let connection = lock(server.endpoint.connection());
            let number = connection.asked_during(asked)?;
            (number, connection.call_owner(number)?.leg()?, connection.offer_of(number).to_vec())
        };
        let client = self.participant(leg.connection)?;
        let connection = lock(client.endpoint.connection());
        let record = connection.unanswered(leg.number).filter(|_| connection.rules.revision.is_modern())?;
        let record = Arc::clone(record);
        retained::may_need_input(&record.method).then_some(Suspendable {
            client: leg.connection,
            record,
            number,
            offer,
        })
    }

    /// Notes that the host took an exchange over: requests that resume it go to the host from now on.
    pub fn suspend(&self, client: Key, upstream: Key) {
        if let Some(upstream) = self.participant(upstream) {
            upstream.kind.note_left(1);
        }
        let participant = self.participant(client);
        self.admission.leave(1, participant.as_ref().and_then(|participant| participant.kind.share()));
        if let Some(participant) = participant
            && let ParticipantKind::Client { state, .. } = &participant.kind
        {
            state.has_suspended.store(true, Ordering::Release);
        }
    }
}

/// Whether a request resumes a suspended exchange.
pub(super) fn resumes_suspended(frame: &[u8], envelope: &Envelope) -> bool {
    let params = envelope.params.of(frame);
    envelope::find_member(params, "requestState")
        .and_then(|state| state.of(params).strip_prefix(b"\""))
        .is_some_and(|state| state.starts_with(SUSPENDED_PREFIX.as_bytes()))
}
