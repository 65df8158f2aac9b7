//! An upstream slot: holds at most one connection to an upstream, epoch after epoch. Clients refer to the slot,
//! not to the connection.
//!
//! Sharing is which clients refer to which slot: all clients to one, each client to its own, the clients of one
//! principal to one, or each to one of a pool.

use std::sync::Arc;

use crate::relay::key::Key;
use crate::relay::task_owners::{OwnerNumber, TaskOwners};
use crate::relay::upstream::Upstream;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// The current connection to one upstream, for the clients that share it.
pub struct UpstreamSlot {
    /// The upstream of its connections.
    pub upstream: Arc<Upstream>,
    /// The position of that.
    pub position: usize,
    /// Whether it serves one client only, which then gets the server's requests (R2).
    pub is_dedicated: bool,
    /// Whether it serves one principal only, on any number of connections, so that nothing is hidden between its
    /// clients.
    pub is_exclusive: bool,
    current: AtomicU64,
    client: AtomicU64,
    /// The owners of the tasks created here.
    tasks: Mutex<TaskOwners>,
}

impl UpstreamSlot {
    /// A slot for any number of clients, without a connection yet.
    pub fn shared(upstream: Arc<Upstream>) -> Self {
        Self {
            position: upstream.position,
            upstream,
            is_dedicated: false,
            is_exclusive: false,
            current: AtomicU64::new(0),
            client: AtomicU64::new(0),
            tasks: Mutex::new(TaskOwners::default()),
        }
    }

    /// A slot for the clients of one principal.
    pub fn exclusive(upstream: Arc<Upstream>) -> Self {
        Self { is_exclusive: true, ..Self::shared(upstream) }
    }

    /// A slot for one client.
    pub fn dedicated(upstream: Arc<Upstream>) -> Self {
        Self { is_dedicated: true, ..Self::exclusive(upstream) }
    }

    /// The current connection, if requests are admitted to one.
    pub fn current(&self) -> Option<Key> {
        Key::from_word(self.current.load(Ordering::Acquire))
    }

    /// The one client it serves; None for a shared one.
    pub fn client(&self) -> Option<Key> {
        Key::from_word(self.client.load(Ordering::Acquire))
    }

    /// Sets the client of a dedicated slot.
    pub(super) fn set_client(&self, client: Key) {
        self.client.store(client.to_word(), Ordering::Release);
    }

    /// Opens admission to a connection, as the newest one.
    pub(super) fn open(&self, key: Key) {
        // Before it can create any task.
        lock(&self.tasks).begin_epoch(key);
        self.current.store(key.to_word(), Ordering::Release);
    }

    /// Closes admission to one connection, unless a later epoch has replaced it.
    pub(super) fn close(&self, key: Key) {
        let _ = self.current.compare_exchange(key.to_word(), 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

impl UpstreamSlot {
    /// Notes that the connection `made_by` created a task for a principal. Gives the id where the claim is new, to be
    /// released later.
    pub(super) fn claim_task(&self, id: &str, by: OwnerNumber, made_by: Key) -> Option<Arc<str>> {
        lock(&self.tasks).claim(id, by, made_by)
    }

    /// Notes that a task was created for a principal that cannot own it any more.
    pub(super) fn contest_task(&self, id: &str) {
        lock(&self.tasks).contest(id);
    }

    /// Releases a claim, unless the id means another task by now.
    pub(super) fn release_task(&self, id: &str, by: OwnerNumber) {
        lock(&self.tasks).release(id, by);
    }

    /// Whether a principal owns the task.
    pub(super) fn holds_task(&self, id: &str, principal: u64) -> bool {
        lock(&self.tasks).owner(id).is_some_and(|((owner, _), _)| owner == principal)
    }

    /// Whether a principal owns the task by this claim: it may have had one before, to another task of that id.
    pub(super) fn holds_claim(&self, id: &str, by: OwnerNumber) -> bool {
        lock(&self.tasks).owner(id).is_some_and(|(owner, _)| owner == by)
    }

    /// Whether any task is remembered.
    #[cfg(test)]
    pub(super) fn remembers_tasks(&self) -> bool {
        !lock(&self.tasks).is_empty()
    }

    /// The owner that a connection may notify about the task; a former connection may mean another task by the
    /// id.
    pub(super) fn told_of_task(&self, id: &str, by: Key) -> Option<u64> {
        let ((owner, _), made_by) = lock(&self.tasks).owner(id)?;
        (made_by == by || self.current() == Some(by)).then_some(owner)
    }
}

/// The upstream slots of one client, sorted by the positions of their upstreams.
pub(super) struct ClientUpstreams(Box<[Arc<UpstreamSlot>]>);

impl ClientUpstreams {
    pub(super) fn new(mut slots: Vec<Arc<UpstreamSlot>>) -> Self {
        slots.sort_by_key(|slot| slot.position);
        Self(slots.into())
    }

    pub(super) fn get(&self, position: usize) -> Option<&Arc<UpstreamSlot>> {
        let at = self.0.binary_search_by_key(&position, |slot| slot.position).ok()?;
        self.0.get(at)
    }

    pub(super) fn contains(&self, slot: &Arc<UpstreamSlot>) -> bool {
        self.get(slot.position).is_some_and(|own| Arc::ptr_eq(own, slot))
    }

    pub(super) fn has_several(&self) -> bool {
        self.0.len() > 1
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<UpstreamSlot>> {
        self.0.iter()
    }
}
