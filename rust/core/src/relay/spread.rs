//! Notifications that belong to no request: to whoever they concern (section 10).

use std::sync::Arc;

use crate::event::Event;
use crate::relay::exchange::Key;
use crate::relay::member::{Member, Side};
use crate::relay::place::Place;
use crate::relay::round::{Round, Told};
use crate::relay::tasks::id_of;
use crate::relay::{Line, Relay, add};
use crate::rules::method;
use crate::sync::lock;

impl<L: Line> Relay<L> {
    /// Passes a notification that belongs to no request to whoever it concerns (section 10).
    pub(super) fn spread(&self, round: &mut Round<'_, L>, source: &Member<L>, event: &Told<L>) {
        let Event::Notification { frame, envelope, .. } = event else { return };
        let frame = frame.of(round.region);
        let name = envelope.method_name(frame);
        let name = &*name;
        let keys: Vec<Key> = match &source.side {
            // The handshake is ours, on either side.
            Side::Client { .. } if name == b"notifications/initialized" => Vec::new(),
            Side::Client { places, .. } => {
                places.iter().filter(|place| place.is_private).filter_map(|place| place.key()).collect()
            }
            Side::Upstream { place, .. } if place.is_private => place.client().into_iter().collect(),
            Side::Upstream { place, .. } if name.ends_with(b"/list_changed") => {
                self.clients_at(place, |_| true)
            }
            Side::Upstream { place, .. } if name == method::TASK_STATUS.as_bytes() => {
                let task = id_of(envelope.task_id.of(frame));
                let holder = task.and_then(|task| place.told_of_task(&task, source.key));
                self.clients_at(place, |principal| place.is_exclusive || Some(principal) == holder)
            }
            // No attribution: nobody can say whose it is.
            Side::Upstream { .. } => Vec::new(),
        };
        if keys.is_empty() {
            add(&self.counts.notifications_dropped);
        }
        for key in keys {
            let Some(member) = self.member(key) else { continue };
            let passed = {
                let mut to = lock(member.line.connection());
                // A modern client hears of changes by its listens only, and those are the host's to serve (SUB-01).
                let listens = to.rules.revision.is_modern() && matches!(member.side, Side::Client { .. });
                let passed = !listens
                    && to.rules.has_notification(name)
                    && to.notify_with(frame, envelope, None).is_ok();
                to.settle_account();
                passed
            };
            add(if passed { &self.counts.notified } else { &self.counts.notifications_dropped });
            if passed {
                round.touch(&member);
            }
        }
    }

    /// The clients that share a place, of the principals that `is_meant`.
    fn clients_at(&self, place: &Arc<Place>, is_meant: impl Fn(u64) -> bool) -> Vec<Key> {
        let shares = |member: &&Arc<Member<L>>| match &member.side {
            Side::Client { places, principal, .. } => is_meant(principal.number) && places.holds(place),
            Side::Upstream { .. } => false,
        };
        lock(&self.members).iter().filter(shares).map(|member| member.key).collect()
    }
}
