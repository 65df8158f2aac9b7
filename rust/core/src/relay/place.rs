//! Where a connection to an upstream stands, epoch after epoch: clients hold the place, not the connection.
//!
//! How an upstream is shared is nothing but who holds which place: all clients one, each client its own, those of
//! one principal theirs, or each of them one out of a pool.

use crate::relay::exchange::Key;
use crate::relay::tasks::TasksHeld;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// See the module's text.
pub struct Place {
    /// Which upstream its connections lead to, in the relay's list.
    pub position: usize,
    /// Whether it serves one client only, so that what the server asks has an address (R2).
    pub is_private: bool,
    /// Whether it serves one principal only, on however many connections: nothing of it is to be kept from another.
    pub is_exclusive: bool,
    here: AtomicU64,
    client: AtomicU64,
    /// Who holds which of the tasks that were made here.
    pub(super) tasks: Mutex<TasksHeld>,
}

impl Place {
    /// A place for any number of clients; nothing stands there yet.
    pub fn shared(position: usize) -> Self {
        Self {
            position,
            is_private: false,
            is_exclusive: false,
            here: AtomicU64::new(0),
            client: AtomicU64::new(0),
            tasks: Mutex::new(TasksHeld::default()),
        }
    }

    /// A place for the clients of one principal.
    pub fn exclusive(position: usize) -> Self {
        Self { is_exclusive: true, ..Self::shared(position) }
    }

    /// A place for the one client that will hold it.
    pub fn private(position: usize) -> Self {
        Self { is_private: true, ..Self::exclusive(position) }
    }

    /// The connection that stands there, if requests are admitted to one.
    pub fn key(&self) -> Option<Key> {
        Key::from_word(self.here.load(Ordering::Acquire))
    }

    /// The one client it serves; None for a shared one.
    pub fn client(&self) -> Option<Key> {
        Key::from_word(self.client.load(Ordering::Acquire))
    }

    /// Says whom a private place serves.
    pub(super) fn give_to(&self, client: Key) {
        self.client.store(client.to_word(), Ordering::Release);
    }

    pub(super) fn open(&self, key: Key) {
        self.here.store(key.to_word(), Ordering::Release);
    }

    /// Closes admission to one connection, unless another epoch stands there already.
    pub(super) fn close(&self, key: Key) {
        let _ = self.here.compare_exchange(key.to_word(), 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}
