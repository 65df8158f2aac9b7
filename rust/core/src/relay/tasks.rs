//! The tasks of a client, as its relay lists and forgets them.

use std::sync::Arc;

use crate::relay::key::Key;
use crate::relay::participant::{Participant, ParticipantKind};
use crate::relay::{Endpoint, Relay};

impl<L: Endpoint> Relay<L> {
    /// Up to `most` of a client's own tasks, from the one counted `from` on: the count of each, the position of the
    /// upstream that made it, and its id.
    pub fn tasks_of(&self, client: Key, from: u64, most: usize) -> Vec<(u64, usize, Arc<str>)> {
        match self.participant(client).as_deref() {
            Some(Participant { kind: ParticipantKind::Client { state, upstreams, .. }, .. }) => {
                state.principal.tasks_from(from, most, upstreams)
            }
            _ => Vec::new(),
        }
    }

    /// Forgets a task of a client's by its count, since its server has no such any more.
    pub fn forget_task(&self, client: Key, number: u64) {
        if let Some(participant) = self.participant(client)
            && let ParticipantKind::Client { state, .. } = &participant.kind
        {
            state.principal.forget_task(number);
        }
    }
}
