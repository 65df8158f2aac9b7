//! Requests in flight by the ids that their senders chose, and which of those ended last.
//!
//! The requests themselves stand in slots that somebody else keeps; here is only what finds them. Ids are raw
//! JSON, and compare as in [`crate::id`].

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::id;

/// How many ended requests are remembered by the hash of their id.
const RECENT: usize = 32;

/// See the module's text.
pub(crate) struct Ids {
    slots: HashTable<u32>,
    /// Hashes of ids whose requests ended last, so that a cancel that comes too late is told from a made-up one.
    recent: [u64; RECENT],
    recent_at: usize,
    hasher: RandomState,
}

impl Ids {
    pub(crate) fn new() -> Self {
        Self { slots: HashTable::new(), recent: [0; RECENT], recent_at: 0, hasher: RandomState::default() }
    }

    /// What the other methods want to know an id by.
    pub(crate) fn hash(&self, id: &[u8]) -> u64 {
        id::hash(id, &self.hasher)
    }

    /// Where requests with this id stand; `id_of` gives the id of the request in a slot.
    pub(crate) fn find<'a>(
        &'a self,
        hash: u64,
        id: &'a [u8],
        id_of: impl Fn(usize) -> &'a [u8] + 'a,
    ) -> impl Iterator<Item = usize> + 'a {
        self.slots.iter_hash(hash).map(|slot| *slot as usize).filter(move |slot| id::same(id_of(*slot), id))
    }

    /// Adds the request in `slot`.
    pub(crate) fn add<'a>(&mut self, hash: u64, slot: usize, id_of: impl Fn(usize) -> &'a [u8]) {
        let hasher = &self.hasher;
        self.slots.insert_unique(hash, slot as u32, |slot| id::hash(id_of(*slot as usize), hasher));
    }

    /// Notes for a while that a request with this id ended; gives its hash.
    pub(crate) fn note_end(&mut self, id: &[u8]) -> u64 {
        let hash = self.hash(id);
        self.recent[self.recent_at % RECENT] = hash;
        self.recent_at += 1;
        hash
    }

    /// Forgets the request in `slot`, whose id has this hash.
    pub(crate) fn remove(&mut self, hash: u64, slot: usize) {
        if let Ok(found) = self.slots.find_entry(hash, |at| *at as usize == slot) {
            found.remove();
        }
    }

    /// Whether a request with this id ended lately.
    pub(crate) fn ended_lately(&self, hash: u64) -> bool {
        self.recent.contains(&hash)
    }

    /// Requests found here.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }
}
