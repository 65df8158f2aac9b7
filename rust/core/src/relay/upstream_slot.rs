//! An upstream slot: holds at most one connection to an upstream, epoch after epoch. Clients refer to the slot,
//! not to the connection.
//!
//! Sharing is which clients refer to which slot: all clients to one, each client to its own, the clients of one
//! principal to one, or each to one of a pool.

use crate::relay::exchange::Key;
use crate::relay::task_owners::TaskOwners;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The current connection to one upstream, for the clients that share it.
pub struct UpstreamSlot {
    /// The upstream of its connections: a position in the relay's list.
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
    pub fn shared(position: usize) -> Self {
        Self {
            position,
            is_dedicated: false,
            is_exclusive: false,
            current: AtomicU64::new(0),
            client: AtomicU64::new(0),
            tasks: Mutex::new(TaskOwners::default()),
        }
    }

    /// A slot for the clients of one principal.
    pub fn exclusive(position: usize) -> Self {
        Self { is_exclusive: true, ..Self::shared(position) }
    }

    /// A slot for one client.
    pub fn dedicated(position: usize) -> Self {
        Self { is_dedicated: true, ..Self::exclusive(position) }
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
