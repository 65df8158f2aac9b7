//! Parked exchanges: a legacy server asks while it works, and its client is a modern one, which is not asked by
//! requests (R5).
//!
//! The client's request is answered with what the server needs, and the server's flight goes on without it, in the
//! host's hands, until the client comes back. What it comes back with says in its `requestState` that it is ours.

use std::sync::Arc;

use crate::envelope::{self, Envelope};
use crate::record::Record;
use crate::relay::exchange::{Key, Owner};
use crate::relay::kept;
use crate::relay::member::Side;
use crate::relay::{Line, Relay};
use crate::sync::{Ordering, lock};

/// How every `requestState` begins that the host gives out for a parked exchange.
pub const PARKED: &str = "turnout:";

/// An exchange under way, as the host may take it over.
pub struct AtWork {
    /// The client that asked.
    pub client: Key,
    /// Its request.
    pub record: Arc<Record>,
    /// Our number of the flight towards the server.
    pub number: u64,
}

impl<L: Line> Relay<L> {
    /// Whether a client cannot be asked by requests now: a modern one never is (R5), a legacy one once it has opened
    /// its connection (PNG-14). One that is gone is not there to be asked, which who asks is told.
    pub(super) fn is_asked_otherwise(&self, client: Key) -> bool {
        self.member(client).is_some_and(|member| {
            let rules = lock(member.line.connection()).rules;
            !rules.opened || rules.revision.is_modern()
        })
    }

    /// What a private upstream is at work on and may ask about, the newest first.
    pub fn at_work(&self, upstream: Key) -> Vec<AtWork> {
        let client = self.member(upstream).and_then(|member| match &member.side {
            Side::Upstream { place, .. } => place.client(),
            Side::Client { .. } => None,
        });
        let Some(client) = client else { return Vec::new() };
        let Some(member) = self.member(client) else { return Vec::new() };
        let mut found: Vec<AtWork> = lock(member.line.connection())
            .requests()
            .filter(|(record, _)| kept::may_ask(&record.method))
            .filter_map(|(record, owner)| {
                let leg = owner.and_then(Owner::leg).filter(|leg| leg.line == upstream)?;
                Some(AtWork { client, record: Arc::clone(record), number: leg.number })
            })
            .collect();
        found.sort_by_key(|at_work| std::cmp::Reverse(at_work.record.number));
        found
    }

    /// Takes note that the host took an exchange over: what its client comes back with is the host's, from now on.
    pub fn park(&self, client: Key) {
        let member = self.member(client);
        self.admission.leave(1, member.as_ref().and_then(|member| member.side.part()));
        if let Some(member) = member
            && let Side::Client { parks, .. } = &member.side
        {
            parks.store(true, Ordering::Release);
        }
    }
}

/// Whether a request comes back for a parked exchange.
pub(super) fn comes_back(frame: &[u8], envelope: &Envelope) -> bool {
    let params = envelope.params.of(frame);
    envelope::find_member(params, "requestState")
        .and_then(|state| state.of(params).strip_prefix(b"\""))
        .is_some_and(|state| state.starts_with(PARKED.as_bytes()))
}
