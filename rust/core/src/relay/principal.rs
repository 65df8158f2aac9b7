//! Principals: on whose behalf a client asks. What shared servers create for a principal is its own.
//!
//! The host names principals; one may have any number of connections, and outlives them. A connection without a
//! name is a principal of its own, and its tasks are lost with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::connection::rate_limit::RateLimiter;
use crate::relay::key::Key;
use crate::relay::upstream_slot::{ClientUpstreams, UpstreamSlot};
use crate::relay::{Endpoint, Relay};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::wire::text::Text;

/// One principal, and its tasks.
pub struct Principal {
    /// Unique among the principals of a relay.
    pub(super) number: u64,
    /// What records call it; None for a client that is a principal by itself.
    pub(super) name: Option<Box<Text>>,
    /// How many of its requests are in flight.
    pub(super) in_flight: AtomicU64,
    /// How often it asks.
    pub(super) rate: Mutex<RateLimiter>,
    tasks: Mutex<OwnedTasks>,
}

/// A principal's tasks by its own count, the oldest first.
#[derive(Default)]
struct OwnedTasks {
    counted: u64,
    held: BTreeMap<u64, OwnedTask>,
}

struct OwnedTask {
    id: Arc<str>,
    made_at: Arc<UpstreamSlot>,
}

/// What came of a task that was noted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted {
    /// Whether its principal can name it.
    pub(super) is_owner: bool,
    /// Whether another task of the principal was forgotten for it.
    pub(super) has_forgotten: bool,
}

impl Principal {
    pub(super) fn new(number: u64, name: Option<&Text>) -> Self {
        Self {
            number,
            name: name.map(Box::from),
            in_flight: AtomicU64::new(0),
            rate: Mutex::new(RateLimiter::default()),
            tasks: Mutex::new(OwnedTasks::default()),
        }
    }

    /// How many tasks are remembered for it.
    pub fn tasks(&self) -> usize {
        lock(&self.tasks).held.len()
    }

    /// Notes a task that the connection `made_by` of a slot created for it; the oldest of `most` is forgotten for it.
    pub(super) fn note_task(&self, slot: &Arc<UpstreamSlot>, made_by: Key, id: &str, most: usize) -> Noted {
        let mut tasks = lock(&self.tasks);
        let number = tasks.counted;
        let claimed = slot.claim_task(id, (self.number, number), made_by);
        let is_owner = slot.holds_task(id, self.number);
        let Some(id) = claimed else { return Noted { is_owner, has_forgotten: false } };
        tasks.counted += 1;
        tasks.held.insert(number, OwnedTask { id, made_at: Arc::clone(slot) });
        let has_forgotten = tasks.held.len() > most;
        if has_forgotten && let Some((number, oldest)) = tasks.held.pop_first() {
            oldest.made_at.release_task(&oldest.id, (self.number, number));
        }
        Noted { is_owner, has_forgotten }
    }

    /// Up to `most` of its tasks at those upstreams, from the one counted `from` on: count, position and id.
    pub(super) fn tasks_from(
        &self,
        from: u64,
        most: usize,
        upstreams: &ClientUpstreams,
    ) -> Vec<(u64, usize, Arc<str>)> {
        let tasks = lock(&self.tasks);
        let is_listed = |number: u64, task: &OwnedTask| {
            upstreams.contains(&task.made_at) && task.made_at.holds_claim(&task.id, (self.number, number))
        };
        let listed = tasks.held.range(from..).filter(|(number, task)| is_listed(**number, task));
        listed
            .take(most)
            .map(|(number, task)| (*number, task.made_at.position, Arc::clone(&task.id)))
            .collect()
    }

    /// Forgets a task by its count: its server does not know it any more.
    pub(super) fn forget_task(&self, number: u64) {
        if let Some(task) = lock(&self.tasks).held.remove(&number) {
            task.made_at.release_task(&task.id, (self.number, number));
        }
    }
}

impl<L: Endpoint> Relay<L> {
    /// A principal, for the clients that ask on its behalf; `name` is what records call it, None for nothing.
    pub fn principal(&self, name: Option<&Text>) -> Arc<Principal> {
        Arc::new(Principal::new(self.principals.fetch_add(1, Ordering::Relaxed), name))
    }

    /// Counts the tasks of a principal that its host remembers no more.
    pub fn forget_principal(&self, principal: &Principal) {
        self.counts.tasks_forgotten.fetch_add(principal.tasks() as u64, Ordering::Relaxed);
    }
}

impl Drop for Principal {
    fn drop(&mut self) {
        for (number, task) in std::mem::take(&mut lock(&self.tasks).held) {
            task.made_at.release_task(&task.id, (self.number, number));
        }
    }
}
