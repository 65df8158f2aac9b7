//! An upstream slot: holds at most one connection to an upstream, epoch after epoch. Clients refer to the slot,
//! not to the connection.
//!
//! Sharing is which clients refer to which slot: all clients to one, each client to its own, the clients of one
//! principal to one, or each to one of a pool.

use std::sync::Arc;

use crate::relay::key::Key;
use crate::relay::task_owners::{OwnerNumber, TaskOwner, TaskOwners};
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
    pub(super) tasks: Mutex<TaskOwners>,
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

    pub(super) fn open(&self, key: Key) {
        self.current.store(key.to_word(), Ordering::Release);
    }

    /// Closes admission to one connection, unless a later epoch has replaced it.
    pub(super) fn close(&self, key: Key) {
        let _ = self.current.compare_exchange(key.to_word(), 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

impl UpstreamSlot {
    /// Makes a principal the owner of a task that the connection `made_by` created; None where it owns it
    /// already, or cannot. A former owner of a task of that id loses it.
    pub(super) fn claim_task(&self, id: &str, by: OwnerNumber, made_by: Key) -> Option<Arc<str>> {
        let stands = self.current();
        let mut tasks = lock(&self.tasks);
        if let Some(holder) = tasks.get_mut(id) {
            let is_newer = made_by != holder.made_by && stands == Some(made_by);
            let is_its_own = holder.by.0 == by.0;
            if !is_newer {
                holder.is_contested |= !is_its_own;
                return None;
            }
            if is_its_own {
                (holder.made_by, holder.is_contested) = (made_by, false);
                return None;
            }
        } else if stands.is_some_and(|key| key != made_by) {
            return None;
        }
        let id: Arc<str> = id.into();
        tasks.insert(Arc::clone(&id), TaskOwner { by, made_by, is_contested: false });
        Some(id)
    }

    /// Marks a task as contested: it was created for a principal that cannot own it any more.
    pub(super) fn contest_task(&self, id: &str) {
        if let Some(holder) = lock(&self.tasks).get_mut(id) {
            holder.is_contested = true;
        }
    }

    /// Forgets a task, unless another principal owns it by now.
    pub(super) fn release_task(&self, id: &str, by: OwnerNumber) {
        let mut tasks = lock(&self.tasks);
        if tasks.get(id).is_some_and(|holder| holder.by == by) {
            tasks.remove(id);
        }
    }

    /// Whether a principal owns the task.
    pub(super) fn holds_task(&self, id: &str, principal: u64) -> bool {
        let tasks = lock(&self.tasks);
        tasks.get(id).is_some_and(|holder| !holder.is_contested && holder.by.0 == principal)
    }

    /// The owner that a connection may notify about the task; a former connection may mean another task by the
    /// id.
    pub(super) fn told_of_task(&self, id: &str, by: Key) -> Option<u64> {
        let tasks = lock(&self.tasks);
        let holder = tasks.get(id).filter(|holder| !holder.is_contested)?;
        (holder.made_by == by || self.current() == Some(by)).then_some(holder.by.0)
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
