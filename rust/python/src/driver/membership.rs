//! The relay that a connection belongs to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use turnout_core::relay::{self, Endpoint, Key};

/// A relay and the connection's key there, once it joined one.
pub struct Membership<E: Endpoint> {
    joined: OnceLock<(Arc<relay::Relay<E>>, Key)>,
    /// Whether writes are corked until the end of the iteration, because several connections of the relay write
    /// to it.
    corks: AtomicBool,
}

impl<E: Endpoint> Default for Membership<E> {
    fn default() -> Self {
        Self { joined: OnceLock::new(), corks: AtomicBool::new(true) }
    }
}

impl<E: Endpoint> Membership<E> {
    /// Joins a relay, for the rest of its life.
    pub fn join(&self, relay: &Arc<relay::Relay<E>>, key: Key, corks: bool) {
        self.corks.store(corks, Ordering::Relaxed);
        let _ = self.joined.set((Arc::clone(relay), key));
    }

    pub fn get(&self) -> Option<(&relay::Relay<E>, Key)> {
        self.joined.get().map(|(relay, key)| (&**relay, *key))
    }

    /// The key in that relay.
    pub fn key_in(&self, relay: &Arc<relay::Relay<E>>) -> Option<Key> {
        self.joined.get().filter(|(joined, _)| Arc::ptr_eq(joined, relay)).map(|(_, key)| *key)
    }

    pub fn is_joined(&self) -> bool {
        self.joined.get().is_some()
    }

    pub fn corks(&self) -> bool {
        self.corks.load(Ordering::Relaxed)
    }
}
