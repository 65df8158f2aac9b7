//! Broadcasts notifications that belong to no request to the connections concerned (section 10).

use std::sync::Arc;

use crate::connection::event::Event;
use crate::relay::key::Key;
use crate::relay::participant::{Participant, ParticipantKind};
use crate::relay::pass::{RelayEvent, RoutingPass};
use crate::relay::task_owners::id_of;
use crate::relay::upstream_slot::UpstreamSlot;
use crate::relay::{Endpoint, Relay, add};
use crate::rules::method;
use crate::sync::lock;

impl<L: Endpoint> Relay<L> {
    /// Forwards a notification without a request to the connections concerned (section 10).
    pub(super) fn broadcast(
        &self,
        pass: &mut RoutingPass<'_, L>,
        source: &Participant<L>,
        event: &RelayEvent<L>,
    ) {
        let Event::Notification { frame, envelope, .. } = event else { return };
        let frame = frame.of(pass.region);
        let name = envelope.method_name(frame);
        let name = &*name;
        let keys: Vec<Key> = match &source.kind {
            // The relay does its own handshakes, on either side.
            ParticipantKind::Client { .. } if name == b"notifications/initialized" => Vec::new(),
            ParticipantKind::Client { upstreams, .. } => {
                upstreams.iter().filter(|slot| slot.is_dedicated).filter_map(|slot| slot.current()).collect()
            }
            ParticipantKind::Upstream { slot, .. } if name == method::TASK_STATUS.as_bytes() => {
                let task = id_of(envelope.task_id.of(frame));
                let may_hear =
                    |client: &ParticipantKind| client.may_hear_of_task(task.as_deref(), slot, source.key);
                let owner = task.as_deref().and_then(|task| slot.told_of_task(task, source.key));
                match slot.client().and_then(|client| self.participant(client)) {
                    Some(client) => may_hear(&client.kind).then_some(client.key).into_iter().collect(),
                    // Whatever a server tells of tasks that are nobody's, nobody is looked for.
                    None if owner.is_none() && !slot.is_exclusive => Vec::new(),
                    None => self.clients_at(slot, may_hear),
                }
            }
            ParticipantKind::Upstream { slot, .. } if slot.is_dedicated => {
                slot.client().into_iter().collect()
            }
            ParticipantKind::Upstream { slot, .. } if name.ends_with(b"/list_changed") => {
                self.clients_at(slot, |_| true)
            }
            // No attribution: the recipient is unknown.
            ParticipantKind::Upstream { .. } => Vec::new(),
        };
        if keys.is_empty() {
            add(&self.counts.notifications_dropped);
        }
        for key in keys {
            let Some(participant) = self.participant(key) else { continue };
            let passed = {
                let mut to = lock(participant.endpoint.connection());
                // A modern client is notified of changes on its listens only, which the host serves (SUB-01).
                let listens = to.rules.revision.is_modern()
                    && matches!(participant.kind, ParticipantKind::Client { .. });
                let passed = !listens
                    && to.rules.has_notification(name)
                    && to.forward_notification(frame, envelope, None).is_ok();
                to.settle_account();
                passed
            };
            add(if passed { &self.counts.notified } else { &self.counts.notifications_dropped });
            if passed {
                pass.touch(&participant);
            }
        }
    }

    /// The clients that share an upstream slot, of those that `is_meant` accepts.
    fn clients_at(&self, slot: &Arc<UpstreamSlot>, is_meant: impl Fn(&ParticipantKind) -> bool) -> Vec<Key> {
        let shares = |participant: &&Arc<Participant<L>>| match &participant.kind {
            ParticipantKind::Client { upstreams, .. } => upstreams.contains(slot),
            ParticipantKind::Upstream { .. } => false,
        };
        let clients: Vec<_> = lock(&self.participants).iter().filter(shares).cloned().collect();
        clients.iter().filter(|client| is_meant(&client.kind)).map(|client| client.key).collect()
    }
}
